"""Reads members of a zip that lies on a destination, by ranges: nothing is downloaded whole."""

from __future__ import annotations

import contextlib
import importlib
import io
import struct
import zipfile
import zlib
from collections.abc import Callable, Iterator
from typing import Any

from driveshard.core.formatting import shown

Read = Callable[[int, int], bytes]
"""(start, length) -> bytes, fewer at the end of the file."""


def _of_decoders() -> Iterator[type[Exception]]:
    """What the decoders raise that this Python has: one wrong bit makes a stored member one of any method."""
    for module, name in (("zlib", "error"), ("lzma", "LZMAError"), ("compression.zstd", "ZstdError")):
        with contextlib.suppress(ImportError):
            yield getattr(importlib.import_module(module), name)


DAMAGED: tuple[type[Exception], ...] = (
    zipfile.BadZipFile,
    RuntimeError,
    EOFError,
    ValueError,
    OSError,
    LookupError,
    OverflowError,
    struct.error,
    *_of_decoders(),
)
"""What zipfile raises over damaged bytes: one wrong bit may also ask for a password or for a method it does not know
(RuntimeError), make it look before the start (ValueError) or take stored bytes for compressed ones (OSError: bz2)."""


def damage_in_words(error: Exception) -> str:
    """One of DAMAGED for a sentence; a disk that cannot be read names itself."""
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return shown(str(error)) or type(error).__name__


TAIL = 64 * 1024 + 22 + 76
"""Bytes from the end of a zip in which its end records begin, whatever its comment."""

_BLOCK = 256 * 1024
_LOCAL = struct.Struct("<4sHHHHHLLLHH")
_UTF8_FLAG = 0x800
_SIGNATURE = b"PK\3\4"


class RangedFile(io.RawIOBase):
    """A seekable file of ``size`` bytes over ranged reads. Its last bytes, in which zipfile looks for one record after
    the other and where a short directory lies whole, are read at once."""

    def __init__(self, read: Read, size: int) -> None:
        self._read = read
        self._size = size
        self._position = 0
        self._tail_start = max(0, size - TAIL)
        self._tail: bytes | None = None

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._size}[whence]
        self._position = max(0, base + offset)
        return self._position

    def tell(self) -> int:
        return self._position

    def readinto(self, buffer: Any) -> int:
        """As ``io.RawIOBase``: one range read."""
        wanted = min(len(buffer), self._size - self._position)
        if wanted <= 0:
            return 0
        data = self._piece(self._position, wanted)
        buffer[: len(data)] = data
        self._position += len(data)
        return len(data)

    def _piece(self, start: int, length: int) -> bytes:
        if start < self._tail_start:
            return self._read(start, length)
        if self._tail is None:
            self._tail = self._read(self._tail_start, self._size - self._tail_start)
        begin = start - self._tail_start
        return self._tail[begin : begin + length]


def open_zip(read: Read, size: int) -> zipfile.ZipFile:
    """The zip of ``size`` bytes behind ``read``, its directory read. Raises one of DAMAGED."""
    return zipfile.ZipFile(io.BufferedReader(RangedFile(read, size), _BLOCK))


def member_path(info: zipfile.ZipInfo) -> bytes:
    """The member's path as the bytes it was packed from: a name that was not UTF-8 is stored as it was."""
    if info.flag_bits & _UTF8_FLAG:
        return info.orig_filename.encode("utf-8")
    return info.orig_filename.encode("cp437")


def directory_of(read: Read, size: int) -> list[tuple[bytes, int, int]]:
    """(path, size, CRC) of every member of the zip of ``size`` bytes behind ``read``. Raises one of DAMAGED."""
    with open_zip(read, size) as archive:
        return [(member_path(info), info.file_size, info.CRC) for info in archive.infolist()]


def leading_members(data: bytes, position: int = 0) -> Iterator[tuple[bytes, bytes]]:
    """(path, content) of the stored members that lie whole in ``data``, from ``position`` on: bytes of a part that
    driveshard packed."""
    while position + _LOCAL.size <= len(data):
        signature, _, flags, method, _, _, crc, stored, size, name_length, extra_length = _LOCAL.unpack_from(
            data, position
        )
        begin = position + _LOCAL.size + name_length + extra_length
        if signature != _SIGNATURE or method or flags & 8 or stored != size or begin + size > len(data):
            return
        content = data[begin : begin + size]
        if zlib.crc32(content) == crc:
            yield data[position + _LOCAL.size : position + _LOCAL.size + name_length], content
        position = begin + size


def whole_members(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """As ``leading_members``, of bytes from anywhere in a part: members follow the first header that is really one."""
    at = data.find(_SIGNATURE)
    while at >= 0:
        found = False
        for member in leading_members(data, at):
            found = True
            yield member
        at = -1 if found else data.find(_SIGNATURE, at + 1)
