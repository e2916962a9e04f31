"""The index of a dataset: where every sample's bytes are in its parts, so that a reader need not open a zip.

One file, a zip of numpy arrays (``.npz``): ``numpy.load`` opens it without driveshard, and because its arrays are
stored uncompressed and begin at multiples of 64 bytes, they are mapped here rather than read. A sample is all members
that share a key (the path up to the first dot of the base name that is neither its first nor its last character); of
members of one path in several parts the newest part's counts. Samples are in the order in which their keys first
appear, part by part. A member's path is its key, and behind a dot its field, if it has one. Directories are no members.

Arrays, with S samples and M members in P parts:

    parts    uint8    JSON: [{"name", "size", "sha256"}, ...], P of them
    fields   uint8    JSON: [field name, ...]; "" for a member without a dot
    keys     uint8    all keys behind each other, as bytes
    key_ends uint64   (S,) where each key ends in them
    hashes   uint64   (S,) hashes of the keys, sorted
    rows     uint32   (S,) the sample of each hash
    firsts   uint32/64 (S + 1,) the first member of each sample
    part     uint16/32 (M,) the part of each member
    field    uint16/32 (M,)
    begin    uint64   (M,) where its bytes begin in the part
    stored   uint32/64 (M,) bytes there
    size     uint32/64 (M,) bytes once unpacked
    crc      uint32   (M,) CRC-32 of them
    method   uint8    (M,) 0 stored, 8 deflated

Where files were deleted from the dataset there is also ``hidden`` (uint8), a checksum of their paths as hex: their
members are left out.
"""

from __future__ import annotations

import json
import mmap
import re
import struct
import zipfile
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from driveshard.archive.hashes import hash_of

_ALIGNED = 64
_PADDING = 0xD935  # the extra field that other aligned zips use for their padding
COLUMNS = ("part", "field", "begin", "stored", "size", "crc", "method")
HIDDEN = "hidden"
_ARRAYS = ("parts", "fields", "keys", "key_ends", "hashes", "rows", "firsts", *COLUMNS)


class BrokenIndex(ValueError):
    """The file is not an index, or not one of these parts."""


@dataclass(frozen=True, slots=True)
class IndexedPart:
    """A part as the index knows it: size in bytes; sha256 in lower-case hex, empty when nobody computed it."""

    name: str
    size: int
    sha256: str = ""


@dataclass(frozen=True, slots=True)
class Location:
    """Where one member's bytes are: ``part`` is its number among the index's parts; sizes in bytes."""

    part: int
    begin: int
    stored: int
    size: int
    crc: int
    method: int


class Index:
    """An index in memory or mapped; see the module for its arrays. Immutable, and safe to share between threads.

    What a reader asks for a million times comes as memoryviews, whose elements cost a fifth of numpy's: ``firsts``,
    ``key_ends`` and ``columns`` (part, field, begin, stored, size, crc, method). Their values are not checked, for that
    would mean to read all of them: whoever uses one meets IndexError, or finds damaged bytes.
    """

    def __init__(self, arrays: Mapping[str, NDArray[Any]]) -> None:
        self.arrays = {name: _checked(name, arrays) for name in _ARRAYS}
        if HIDDEN in arrays:
            self.arrays[HIDDEN] = _checked(HIDDEN, arrays)
        self.hidden = self.arrays[HIDDEN].tobytes().decode("ascii", "replace") if HIDDEN in arrays else ""
        self.parts = [_part(row) for row in json.loads(self.arrays["parts"].tobytes())]
        self.fields: list[str] = json.loads(self.arrays["fields"].tobytes())
        if not isinstance(self.fields, list) or not all(isinstance(field, str) for field in self.fields):
            raise BrokenIndex("its fields are not what they should be")
        self.key_bytes = _view(self.arrays["keys"])
        self.key_ends = _view(self.arrays["key_ends"])
        self.firsts = _view(self.arrays["firsts"])
        self.columns = tuple(_view(self.arrays[name]) for name in COLUMNS)
        self._check()

    def _check(self) -> None:
        samples, members = len(self.key_ends), len(self.columns[0])
        same = {len(column) for column in self.columns} == {members}
        samples_too = len(self.arrays["hashes"]) == len(self.arrays["rows"]) == samples == len(self.firsts) - 1
        if not same or not samples_too or self.firsts[samples] != members:
            raise BrokenIndex("its columns are not of one length")
        if samples and self.key_ends[samples - 1] != len(self.key_bytes):
            raise BrokenIndex("its keys are cut short")

    def __len__(self) -> int:
        return len(self.key_ends)

    @property
    def members(self) -> int:
        """How many there are."""
        return len(self.columns[0])

    def key(self, sample: int) -> str:
        """The key of a sample, 0 to len - 1; bytes that are not UTF-8 come as surrogates."""
        ends = self.key_ends
        return str(self.key_bytes[ends[sample - 1] if sample else 0 : ends[sample]], "utf-8", "surrogateescape")

    def keys(self) -> Iterator[str]:
        """All keys in order."""
        return map(self.key, range(len(self)))

    def find(self, key: str) -> int | None:
        """The sample of that key, None when there is none."""
        value = np.uint64(hash_of(key.encode("utf-8", "surrogateescape")))
        hashes = self.arrays["hashes"]
        at = int(np.searchsorted(hashes, value))
        while at < len(hashes) and hashes[at] == value:
            sample = int(self.arrays["rows"][at])
            if self.key(sample) == key:
                return sample
            at += 1
        return None

    def find_member(self, path: str) -> int | None:
        """The member of that path, as a row of the columns; None when there is none."""
        cut = key_length(path)
        sample = self.find(path[:cut])
        if sample is not None:
            for member in self.members_of(sample):
                if self.field_of(member) == path[cut + 1 :]:
                    return member
        return None

    def members_of(self, sample: int) -> range:
        """The members of a sample, as rows of the columns."""
        return range(self.firsts[sample], self.firsts[sample + 1])

    def field_of(self, member: int) -> str:
        """The field that a member is."""
        return self.fields[self.columns[1][member]]

    def location(self, member: int) -> Location:
        """Where a member's bytes are."""
        part, _, begin, stored, size, crc, method = (column[member] for column in self.columns)
        return Location(part, begin, stored, size, crc, method)


def key_length(path: str) -> int:
    """How many of a path's characters are its sample's key: all up to the first dot of the base name that is neither
    its first nor its last character."""
    cut = path.find(".", path.rfind("/") + 2)
    return len(path) if cut < 0 or cut == len(path) - 1 else cut


def _checked(name: str, arrays: Mapping[str, NDArray[Any]]) -> NDArray[Any]:
    """The array of that name in this machine's byte order. Raises BrokenIndex when it is not there or not numbers."""
    array = arrays.get(name)
    if array is None:
        raise BrokenIndex(f"it has no {name}")
    kinds = {"parts": "B", "fields": "B", "keys": "B", HIDDEN: "B", "hashes": "L Q", "crc": "I"}.get(name, "B H I L Q")
    array = np.asarray(array, array.dtype.newbyteorder("="))
    if array.ndim != 1 or array.dtype.char not in kinds.split():
        raise BrokenIndex(f"{name} is not what it should be")
    return array


def _view(array: Any) -> memoryview:
    return memoryview(array)


def _part(row: Any) -> IndexedPart:
    part = IndexedPart(**row)
    texts = isinstance(part.name, str) and isinstance(part.sha256, str)
    if not texts or not isinstance(part.size, int) or part.size < 0 or re.search(r"[/\\\0]", part.name):
        raise BrokenIndex("a part is not described as it should be")
    return part


# -- the file --------------------------------------------------------------------------------------------------------


def save_index(index: Index, stream: BinaryIO) -> None:
    """Write it: the same index gives the same bytes."""
    save_arrays(dict(index.arrays), stream)


def save_arrays(arrays: dict[str, NDArray[Any]], stream: BinaryIO) -> None:
    """Write an index that nobody needs any more: each of its arrays is let go once it is written."""
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_STORED) as archive:
        for name in list(arrays):
            _save_array(archive, stream, f"{name}.npy", np.ascontiguousarray(arrays.pop(name)))


def _save_array(archive: zipfile.ZipFile, stream: BinaryIO, name: str, array: NDArray[Any]) -> None:
    info = zipfile.ZipInfo(name, (1980, 1, 1, 0, 0, 0))
    info.external_attr = 0o644 << 16
    info.file_size = array.nbytes + 128
    large = array.nbytes >= 1 << 30
    head = stream.tell() + 30 + len(name) + (20 if large else 0)
    info.extra = struct.pack("<HH", _PADDING, pad := -(head + 4) % _ALIGNED) + bytes(pad)
    with archive.open(info, "w", force_zip64=large) as member:
        # numpy pads its own header so that the values begin at a multiple of 64 bytes, too
        npy: Any = np.lib.format
        npy.write_array(member, array, version=(1, 0), allow_pickle=False)


def open_index(path: Path) -> Index:
    """Map an index. Raises BrokenIndex, and OSError when it cannot be opened."""
    with path.open("rb") as file:
        try:
            mapped = _map(file.fileno())
        except ValueError as error:
            raise BrokenIndex("it is empty") from error
        try:
            with zipfile.ZipFile(file) as archive:
                return Index({one.filename.removesuffix(".npy"): _mapped(mapped, one) for one in _stored(archive)})
        except Exception as error:  # numpy's parser alone knows a dozen kinds of them
            raise BrokenIndex(str(error)) from error


def _map(descriptor: int) -> mmap.mmap:
    """Read at once where the system can: pages that a process maps are shared with all that it forks."""
    populate = getattr(mmap, "MAP_POPULATE", 0)
    if not populate:
        return mmap.mmap(descriptor, 0, access=mmap.ACCESS_READ)
    return mmap.mmap(descriptor, 0, flags=mmap.MAP_SHARED | populate, prot=mmap.PROT_READ)


def _stored(archive: zipfile.ZipFile) -> Iterable[zipfile.ZipInfo]:
    for one in archive.infolist():
        if one.compress_type != zipfile.ZIP_STORED:
            raise BrokenIndex("its arrays are compressed")
        yield one


def _mapped(mapped: mmap.mmap, info: zipfile.ZipInfo) -> NDArray[Any]:
    npy: Any = np.lib.format  # which has no types
    name, extra = struct.unpack_from("<HH", mapped, info.header_offset + 26)
    begin = info.header_offset + 30 + name + extra
    mapped.seek(begin)
    if npy.read_magic(mapped) != (1, 0):
        raise BrokenIndex("its arrays are of another version of numpy's format")
    shape, _, kind = npy.read_array_header_1_0(mapped)
    count, at = shape[0] if len(shape) == 1 else -1, mapped.tell()
    if kind.hasobject or count < 0 or at + count * kind.itemsize > begin + info.file_size:
        raise BrokenIndex(f"{info.filename} is not what it should be")
    return np.frombuffer(mapped, kind, count, at)
