"""A deterministic zip writer for members that are many and small: bytes in, bytes out.

Members are stored, not compressed. Every byte passes once: member CRC, then md5 and sha256 of the whole zip, then the
disk. Nothing depends on the clock, the platform or a file's owner, so the same members give the same zip bytes.

A name that is valid UTF-8 beyond ASCII carries the UTF-8 flag; a name that is not UTF-8 goes in as the raw bytes it is,
which Info-ZIP on Unix restores as they were. There is no extra field but zip64's, and that only where a number does not
fit the plain one.
"""

from __future__ import annotations

import errno
import os
import stat
import sys
import zlib
from array import array
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import cycle
from pathlib import Path
from struct import Struct
from types import TracebackType
from typing import Self

from driveshard.archive.checksums import Block, Checksums, crc32
from driveshard.archive.zip_size import EMPTY_ZIP, LOCATOR_64, LOCATOR_MAGIC, MAX_16, MAX_32, ZIP64_END, misleads
from driveshard.core.errors import PartTooLarge, SourceChanged, TempFull, UsageError
from driveshard.core.files import create_private

_BLOCK = 1 << 20  # large enough that hashing leaves the GIL for long, small enough to stay in the CPU's cache

_LOCAL = Struct("<14sLLLHH")
_CENTRAL = Struct("<16sLLLHH10sL")
_CENTRAL_TAIL = Struct("<3HL").pack(0, 0, 0, (stat.S_IFREG | 0o644) << 16)
_END = Struct("<4s4HLLH")
_END_64 = Struct("<4sQHHLLQQQQ")

_VERSION, _VERSION_64 = 20, 45
_UNIX = 3 << 8
_UTF8 = 1 << 11
_1980 = (1 << 5) | 1  # the first of January as DOS writes it


def _local_head(flags: int, version: int) -> bytes:
    return Struct("<4s5H").pack(b"PK\3\4", version, flags, 0, 0, _1980)


def _central_head(flags: int, version: int) -> bytes:
    return Struct("<4s6H").pack(b"PK\1\2", _UNIX | version, version, flags, 0, 0, _1980)


# What no member changes, packed once.
_LOCAL_ASCII, _LOCAL_UTF8 = _local_head(0, _VERSION), _local_head(_UTF8, _VERSION)
_CENTRAL_ASCII, _CENTRAL_UTF8 = _central_head(0, _VERSION), _central_head(_UTF8, _VERSION)


@dataclass(frozen=True, slots=True)
class ZipSummary:
    """A closed zip: its size in bytes, md5 and sha256 in lower-case hex."""

    size: int
    md5: str
    sha256: str


class ZipWriter:
    """Writes one zip at ``path``. Use as a context manager: left without ``close()``, the file is removed.

    ``max_bytes`` is never exceeded on the disk: the call that would raises PartTooLarge and changes nothing.
    ``check`` is called before every member and every block of a file, and may raise to stop the work.
    With a ``spare_core`` the md5 is computed beside the rest, by a thread that ends with the zip.
    Trouble with the disk raises TempFull. ``limit`` and ``member_limit`` say where zip64 begins; only tests lower them.

    ``members`` is the count so far; ``first`` and ``last`` are the first and last member's paths, None while empty.
    """

    def __init__(
        self,
        path: Path,
        *,
        max_bytes: int | None = None,
        check: Callable[[], None] | None = None,
        spare_core: bool = True,
        limit: int = MAX_32,
        member_limit: int = MAX_16,
    ) -> None:
        self.path = path
        self.members = 0
        self.first: bytes | None = None
        self.last: bytes | None = None
        self._max_bytes = sys.maxsize if max_bytes is None else max_bytes
        self._check = check
        self._limit = limit
        self._member_limit = member_limit
        self._checksums = Checksums(threaded=spare_core)
        self.crcs = array("I")  # of every member
        # Files are read into these in turns: a block is still hashed while the next one is read.
        self._blocks = [memoryview(bytearray(_BLOCK)) for _ in range(3)]
        self._buffer = bytearray()  # neither hashed nor written yet
        self._central = bytearray()  # the directory so far, as it goes to the disk
        self._offset = 0  # where the next member begins
        # Below this, whatever the records at the end will be, nothing can be too large, for zip64's limits included.
        self._ample = min(self._max_bytes - EMPTY_ZIP - ZIP64_END - 46, limit)
        self._room_for(EMPTY_ZIP)
        try:
            self._file = os.fdopen(create_private(path), "wb", buffering=0)
        except OSError as error:
            raise _disk_trouble(error, path) from error

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        self.abort()

    @property
    def size(self) -> int:
        """Bytes the finished zip would have if it were closed now, central directory included."""
        return self._size_of(self._offset, len(self._central), self.members, self._central)

    @property
    def directory(self) -> bytes:
        """The zip's central directory so far, also after ``close()``."""
        return bytes(self._central)

    @property
    def computing_beside(self) -> float:
        """Seconds that the writer's own thread has spent on a core."""
        return self._checksums.seconds

    def add(self, path: bytes, data: bytes | bytearray | memoryview) -> None:
        """Append one stored member held in memory. Raises PartTooLarge, TempFull."""
        if self._check is not None:
            self._check()
        if type(data) is memoryview:
            data = data.cast("B")
        size, length, offset, buffer, central = len(data), len(path), self._offset, self._buffer, self._central
        crc = crc32(data)
        end = offset + 30 + length + size
        # Nearly every member takes this way, at half the cost of _begin: an ASCII name, and room to spare.
        if end + len(central) + length < self._ample and path.isascii() and length <= MAX_16:
            buffer += _LOCAL.pack(_LOCAL_ASCII, crc, size, size, length, 0) + path
            central += _CENTRAL.pack(_CENTRAL_ASCII, crc, size, size, length, 0, _CENTRAL_TAIL, offset) + path
            self._offset = end
            self.members += 1
            self.crcs.append(crc)
            self.last = path
            if self.first is None:
                self.first = path
        else:
            self._begin(path, size, crc)
        if size >= _BLOCK:
            self._flush()
            self._emit(data, given=type(data) is bytes)
        else:
            buffer += data
            if len(buffer) >= _BLOCK:
                self._flush()

    def add_file(self, path: bytes, file: Path | int) -> int:
        """Append one stored member of any size from a file, in constant memory, and return its size in bytes.

        ``file`` is a path or an open descriptor, which stays open. It is read twice, because its CRC stands before its
        bytes. Raises OSError when it cannot be read and SourceChanged when the two readings differ; in both cases the
        zip is as it was before the call. Also raises PartTooLarge and TempFull.
        """
        size, crc = self._read_through(file, self._blocks[:1], lambda block: None)
        self._flush()
        undo = self._restore_point()
        self._begin(path, size, crc)
        self._flush()
        try:
            again = self._read_through(file, self._blocks[1:], lambda block: self._emit(block, given=True), size)
            if again != (size, crc):
                raise SourceChanged(f"{file} changed while it was read.")
        except (OSError, SourceChanged):
            undo()
            raise
        return size

    def close(self) -> ZipSummary:
        """Write the directory, force everything to the disk (fsync) and close. Raises TempFull."""
        size = self.size
        self._buffer += self._central
        self._buffer += self._end_records()
        self._flush()
        try:
            os.fsync(self._file.fileno())
            self._file.close()
        except OSError as error:
            raise _disk_trouble(error, self.path) from error
        summary = ZipSummary(size, *self._checksums.digests())
        self._checksums.end()
        return summary

    def packed_end(self) -> bytes:
        """The directory and the records behind it, compressed: what a reader of the closed zip looks for first."""
        packer = zlib.compressobj(1)
        return packer.compress(self._central) + packer.compress(self._end_records()) + packer.flush()

    def abort(self) -> None:
        """Close and remove the file. Does nothing after ``close()``."""
        self._checksums.end()
        if not self._file.closed:
            self._file.close()
            self.path.unlink(missing_ok=True)

    def _begin(self, path: bytes, size: int, crc: int) -> None:
        """Put a member's header into the buffer and its entry into the directory, or raise and change neither."""
        offset, length = self._offset, len(path)
        end = offset + 30 + length + size
        if end >= self._limit or length > MAX_16:
            local, entry = self._headers_64(path, size, crc)
            end = offset + len(local) + size
        elif path.isascii() or not _is_utf8(path):
            local = _LOCAL.pack(_LOCAL_ASCII, crc, size, size, length, 0) + path
            entry = _CENTRAL.pack(_CENTRAL_ASCII, crc, size, size, length, 0, _CENTRAL_TAIL, offset) + path
        else:
            local = _LOCAL.pack(_LOCAL_UTF8, crc, size, size, length, 0) + path
            entry = _CENTRAL.pack(_CENTRAL_UTF8, crc, size, size, length, 0, _CENTRAL_TAIL, offset) + path
        self._room_for(self._size_of(end, len(self._central) + len(entry), self.members + 1, entry))
        self._buffer += local
        self._central += entry
        self._offset = end
        self.members += 1
        self.crcs.append(crc)
        self.last = path
        if self.first is None:
            self.first = path

    def _headers_64(self, path: bytes, size: int, crc: int) -> tuple[bytes, bytes]:
        """A member's header and directory entry when a number may not fit 32 bits."""
        if len(path) > MAX_16:
            raise UsageError(f"A member's name of {len(path):,} bytes does not fit a zip.", advice="Use shorter keys.")
        flags = 0 if path.isascii() or not _is_utf8(path) else _UTF8
        offset, large, far = self._offset, size >= self._limit, self._offset >= self._limit
        sizes = Struct("<QQ").pack(size, size) if large else b""
        beyond = sizes + (Struct("<Q").pack(offset) if far else b"")
        short = MAX_32 if large else size
        extra, central_extra = _zip64_extra(sizes), _zip64_extra(beyond)
        local = _local_head(flags, _VERSION_64 if sizes else _VERSION)
        central = _central_head(flags, _VERSION_64 if beyond else _VERSION)
        place = MAX_32 if far else offset
        return (
            _LOCAL.pack(local, crc, short, short, len(path), len(extra)) + path + extra,
            _CENTRAL.pack(central, crc, short, short, len(path), len(central_extra), _CENTRAL_TAIL, place)
            + path
            + central_extra,
        )

    def _needs_64(self, offset: int, central: int, members: int, last: bytes | bytearray) -> bool:
        """``last`` is the end of the directory, at least its last entry."""
        beyond = members >= self._member_limit or offset >= self._limit or central >= self._limit
        return beyond or misleads(last)

    def _size_of(self, offset: int, central: int, members: int, last: bytes | bytearray) -> int:
        return offset + central + EMPTY_ZIP + (ZIP64_END if self._needs_64(offset, central, members, last) else 0)

    def _end_records(self) -> bytes:
        offset, central, members = self._offset, len(self._central), self.members
        if not self._needs_64(offset, central, members, self._central):
            return _END.pack(b"PK\5\6", 0, 0, members, members, central, offset, 0)
        made_by = _UNIX | _VERSION_64
        return (
            _END_64.pack(b"PK\6\6", 44, made_by, _VERSION_64, 0, 0, members, members, central, offset)
            + LOCATOR_64.pack(LOCATOR_MAGIC, 0, offset + central, 1)
            + _END.pack(b"PK\5\6", 0, 0, MAX_16, MAX_16, MAX_32, MAX_32, 0)
        )

    def _room_for(self, size: int) -> None:
        if size > self._max_bytes:
            raise PartTooLarge(
                f"{self.path.name} would grow to {size:,} bytes, and {self._max_bytes:,} were set aside for it.",
                needed=size,
                limit=self._max_bytes,
            )

    def _flush(self) -> None:
        if self._buffer:
            self._emit(self._buffer, given=True)
            self._buffer = bytearray()

    def _emit(self, block: Block, given: bool = False) -> None:
        """Hash and write. One write() call takes up to 2 GiB, and may take less than it was given."""
        self._checksums.update(block, given)
        with memoryview(block) as rest:
            try:
                done = self._file.write(rest)
                while done < len(rest):
                    done += self._file.write(rest[done:])
            except OSError as error:
                raise _disk_trouble(error, self.path) from error

    def _read_through(
        self, file: Path | int, into: list[memoryview], use: Callable[[memoryview], None], expected: int | None = None
    ) -> tuple[int, int]:
        """Read a file block by block; returns (size, CRC). Stops once it has more than ``expected`` bytes."""
        size = crc = 0
        for block in _blocks(file, into):
            if self._check is not None:
                self._check()
            size += len(block)
            if expected is not None and size > expected:
                break
            crc = crc32(block, crc)
            use(block)
        return size, crc

    def _restore_point(self) -> Callable[[], None]:
        """Remember the zip as it is (the buffer must be empty); the returned function brings it back."""
        checksums = self._checksums.state()
        offset, central = self._offset, len(self._central)
        members, first, last = self.members, self.first, self.last

        def undo() -> None:
            """Bring file, counts and checksums back."""
            self._checksums.restore(checksums)
            self._offset, self.members, self.first, self.last = offset, members, first, last
            del self._central[central:]
            del self.crcs[members:]
            self._buffer.clear()
            try:
                self._file.seek(offset)
                self._file.truncate()
            except OSError as error:
                raise _disk_trouble(error, self.path) from error

        return undo


def _is_utf8(path: bytes) -> bool:
    try:
        path.decode()
    except UnicodeDecodeError:
        return False
    return True


def _zip64_extra(fields: bytes) -> bytes:
    return Struct("<HH").pack(1, len(fields)) + fields if fields else b""


def _blocks(file: Path | int, into: list[memoryview]) -> Iterator[memoryview]:
    """The file's bytes, in the blocks ``into`` by turns. A pipe put in its place does not make us hang."""
    flags = os.O_RDONLY | getattr(os, "O_BINARY", 0) | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_NOINHERIT", 0)
    given = isinstance(file, int)
    with open(file, "rb", buffering=0, closefd=not given, opener=lambda name, _: os.open(name, flags)) as source:
        if not stat.S_ISREG(os.fstat(source.fileno()).st_mode):
            raise OSError(errno.EINVAL, "not a regular file", str(file))
        if given:
            source.seek(0)
        for block in cycle(into):
            count = source.readinto(block)
            if not count:
                return
            yield block[:count]


def _disk_trouble(error: OSError, path: Path) -> TempFull:
    folder = path.parent
    if error.errno in (errno.ENOSPC, getattr(errno, "EDQUOT", errno.ENOSPC)):
        return TempFull(f"There is no room left in {folder}, where parts are built.")
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return TempFull(f"{folder}, where parts are built, is not writable.")
    vanished = error.errno == errno.ENOENT
    return TempFull(f"A part cannot be written to {folder}: {error.strerror or error}.", vanished=vanished)
