"""The index of a dataset: where every sample's bytes are in its parts, so that a reader need not open a zip.

One file, a zip of numpy arrays (``.npz``): ``numpy.load`` opens it without driveshard, and because its arrays are
stored uncompressed and begin at multiples of 64 bytes, they are mapped here rather than read. A sample is all members
that share a key (the path up to the first dot of the base name); of members of one path in several parts the newest
part's counts. Samples are in the order in which their keys first appear, part by part.

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
"""

from __future__ import annotations

import json
import mmap
import os
import struct
import zipfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from driveshard.archive.directory import Directory, gathered

NAME = "index.npz"

_ALIGNED = 64
_PADDING = 0xD935  # the extra field that other aligned zips use for their padding
_MULTIPLIER = 0x9E3779B97F4A7C15  # odd, its bits well mixed
_BLOCK = 1 << 20  # bytes of names hashed together
_COLUMNS = ("part", "field", "begin", "stored", "size", "crc", "method")
_ARRAYS = ("parts", "fields", "keys", "key_ends", "hashes", "rows", "firsts", *_COLUMNS)


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
    """An index in memory or mapped; see the module for its arrays. Immutable, and safe to share between threads."""

    def __init__(self, arrays: Mapping[str, NDArray[Any]]) -> None:
        missing = [name for name in _ARRAYS if name not in arrays]
        if missing:
            raise BrokenIndex(f"it has no {missing[0]}")
        self.arrays = arrays
        self.parts = [IndexedPart(**row) for row in json.loads(arrays["parts"].tobytes())]
        self.fields: list[str] = json.loads(arrays["fields"].tobytes())
        self._keys, self._key_ends, self._firsts = arrays["keys"], arrays["key_ends"], arrays["firsts"]
        self._columns = [arrays[name] for name in _COLUMNS]
        self._check()

    def _check(self) -> None:
        """Lengths only: whoever reads a member meets wrong places as damage."""
        samples, members = len(self._key_ends), len(self._columns[0])
        same = {len(column) for column in self._columns} == {members}
        samples_too = len(self.arrays["hashes"]) == len(self.arrays["rows"]) == samples == len(self._firsts) - 1
        if not same or not samples_too or (samples and int(self._firsts[-1]) != members):
            raise BrokenIndex("its columns are not of one length")

    def __len__(self) -> int:
        return len(self._key_ends)

    @property
    def members(self) -> int:
        """How many there are."""
        return len(self._columns[0])

    def key(self, sample: int) -> str:
        """The key of a sample, 0 to len - 1; bytes that are not UTF-8 come as surrogates."""
        begin = int(self._key_ends[sample - 1]) if sample else 0
        return os.fsdecode(self._keys[begin : int(self._key_ends[sample])].tobytes())

    def keys(self) -> Iterator[str]:
        """All keys in order."""
        begin = 0
        for end in self._key_ends:
            yield os.fsdecode(self._keys[begin : int(end)].tobytes())
            begin = int(end)

    def find(self, key: str) -> int | None:
        """The sample of that key, None when there is none."""
        raw = os.fsencode(key)
        value = np.uint64(hash_of(raw))
        hashes = self.arrays["hashes"]
        at = int(np.searchsorted(hashes, value))
        while at < len(hashes) and hashes[at] == value:
            sample = int(self.arrays["rows"][at])
            if self.key(sample) == key:
                return sample
            at += 1
        return None

    def members_of(self, sample: int) -> range:
        """The members of a sample, as rows of the columns."""
        return range(int(self._firsts[sample]), int(self._firsts[sample + 1]))

    def field_of(self, member: int) -> str:
        """The field that a member is."""
        return self.fields[int(self._columns[1][member])]

    def location(self, member: int) -> Location:
        """Where a member's bytes are."""
        part, _, begin, stored, size, crc, method = (int(column[member]) for column in self._columns)
        return Location(part, begin, stored, size, crc, method)


# -- building --------------------------------------------------------------------------------------------------------


def build_index(parts: Sequence[tuple[IndexedPart, Directory]]) -> Index:
    """The index of these parts, oldest first. A member of a later part replaces one of the same path."""
    fields = _Fields()
    columns: dict[str, list[NDArray[Any]]] = {name: [] for name in _COLUMNS}
    keys: list[NDArray[np.uint8]] = []
    lengths: list[NDArray[np.int64]] = []
    for number, (_, directory) in enumerate(parts):
        begins = np.concatenate(([0], directory.ends[:-1])) if len(directory) else directory.ends
        cuts = _cuts(directory.names, begins, directory.ends)
        keys.append(gathered(directory.names, begins, cuts - begins))
        lengths.append(cuts - begins)
        columns["part"].append(np.full(len(directory), number, np.int64))
        columns["field"].append(fields.numbers(directory.names, cuts, directory.ends))
        for name, column in (
            ("begin", directory.begins),
            ("stored", directory.stored),
            ("size", directory.sizes),
            ("crc", directory.crcs),
            ("method", directory.methods),
        ):
            columns[name].append(column)
    whole = {name: _joined(found) for name, found in columns.items()}
    return _grouped(_joined(keys, np.uint8), _joined(lengths), whole, [part for part, _ in parts], fields.names)


def _joined(pieces: list[NDArray[Any]], kind: Any = np.int64) -> NDArray[Any]:
    return np.concatenate(pieces) if pieces else np.empty(0, kind)


def _cuts(names: NDArray[np.uint8], begins: NDArray[np.int64], ends: NDArray[np.int64]) -> NDArray[np.int64]:
    """Where each name's key ends: before the first dot of its base name that is not the base name's first character."""
    slashes, dots = np.flatnonzero(names == ord("/")), np.flatnonzero(names == ord("."))
    last = np.searchsorted(slashes, ends) - 1
    base = np.maximum(begins, np.where(last >= 0, slashes[np.maximum(last, 0)], -1) + 1) if len(slashes) else begins
    following = np.searchsorted(dots, base + 1)
    if not len(dots):
        return ends.copy()
    first = np.where(following < len(dots), dots[np.minimum(following, len(dots) - 1)], ends)
    return np.minimum(first, ends)


class _Fields:
    """Numbers for field names, in the order in which they were met."""

    def __init__(self) -> None:
        self.names: list[str] = []
        self._numbers: dict[bytes, int] = {}

    def numbers(self, names: NDArray[np.uint8], cuts: NDArray[np.int64], ends: NDArray[np.int64]) -> NDArray[np.int64]:
        """The number of what stands behind each cut."""
        begins = np.minimum(cuts + 1, ends)
        hashes = hashes_of(gathered(names, begins, ends - begins), ends - begins)
        _, where, inverse = np.unique(hashes, return_index=True, return_inverse=True)
        numbers = np.empty(len(where), np.int64)
        for at in np.argsort(where):  # each distinct one, in the order of its first member
            row = where[at]
            numbers[at] = self._number(names[begins[row] : ends[row]].tobytes())
        found: NDArray[np.int64] = numbers[inverse]
        return found

    def _number(self, name: bytes) -> int:
        if name not in self._numbers:
            self._numbers[name] = len(self.names)
            self.names.append(os.fsdecode(name))
        return self._numbers[name]


def _grouped(
    keys: NDArray[np.uint8],
    lengths: NDArray[np.int64],
    columns: Mapping[str, NDArray[Any]],
    parts: Sequence[IndexedPart],
    fields: Sequence[str],
) -> Index:
    """Members that share a key become a sample; of those with one path the last stays."""
    hashes = hashes_of(keys, lengths)
    ends = np.cumsum(lengths)
    distinct, first, inverse = np.unique(hashes, return_index=True, return_inverse=True)
    place = np.empty(len(first), np.int64)
    place[np.argsort(first)] = np.arange(len(first))  # samples in the order of their first member
    sample = place[inverse] if len(first) else np.empty(0, np.int64)
    order = np.arange(len(hashes))
    if len(hashes) and ((np.diff(sample) < 0).any() or _repeats(sample, columns["field"])):
        order = _newest(sample, columns["field"])
    firsts = np.searchsorted(sample[order], np.arange(len(distinct) + 1))
    rows = np.sort(first)
    begins = ends - lengths
    arrays: dict[str, NDArray[Any]] = {
        "parts": _json([asdict(part) for part in parts]),
        "fields": _json(list(fields)),
        "keys": gathered(keys, begins[rows], lengths[rows]),
        "key_ends": np.cumsum(lengths[rows]).astype(np.uint64),
        "hashes": distinct,
        "rows": place.astype(np.uint32),
        "firsts": _narrow(firsts, np.uint32),
        "part": _narrow(columns["part"][order], np.uint16),
        "field": _narrow(columns["field"][order], np.uint16),
        "begin": columns["begin"][order].astype(np.uint64),
        "stored": _narrow(columns["stored"][order], np.uint32),
        "size": _narrow(columns["size"][order], np.uint32),
        "crc": columns["crc"][order].astype(np.uint32),
        "method": columns["method"][order].astype(np.uint8),
    }
    return Index(arrays)


def _repeats(sample: NDArray[np.int64], field: NDArray[np.int64]) -> bool:
    """Whether a sample, its members being neighbours, has a field twice."""
    same = sample[1:] == sample[:-1]
    if (same & (field[1:] == field[:-1])).any():
        return True
    pairs = sample * (int(field.max()) + 1) + field
    return len(np.unique(pairs)) != len(pairs)


def _newest(sample: NDArray[np.int64], field: NDArray[np.int64]) -> NDArray[np.int64]:
    """Rows by sample, in their order; of rows with the same sample and field only the last one."""
    pairs = sample * (int(field.max()) + 1) + field
    backwards = pairs[::-1]
    _, last = np.unique(backwards, return_index=True)
    kept = np.sort(len(pairs) - 1 - last)
    found: NDArray[np.int64] = kept[np.argsort(sample[kept], kind="stable")]
    return found


def _narrow(column: NDArray[Any], kind: Any) -> NDArray[Any]:
    """In ``kind`` where all values fit, else in twice its bytes."""
    most = int(column.max()) if len(column) else 0
    return column.astype(kind if most <= np.iinfo(kind).max else {np.uint16: np.uint32, np.uint32: np.uint64}[kind])


def _json(value: Any) -> NDArray[np.uint8]:
    return np.frombuffer(json.dumps(value, separators=(",", ":")).encode("ascii"), np.uint8)


# -- hashes ----------------------------------------------------------------------------------------------------------


def hashes_of(data: NDArray[np.uint8], lengths: NDArray[np.int64]) -> NDArray[np.uint64]:
    """A 64-bit hash of each run of ``data``: the sum of its bytes times powers of an odd number, mixed."""
    found = np.zeros(len(lengths), np.uint64)
    ends = np.cumsum(lengths)
    at = 0
    while at < len(lengths):
        begin = int(ends[at - 1]) if at else 0
        upto = max(at + 1, int(np.searchsorted(ends, begin + _BLOCK)))
        found[at:upto] = _hashes(data[begin : int(ends[upto - 1])], lengths[at:upto])
        at = upto
    return _mixed(found, lengths)


def _hashes(data: NDArray[np.uint8], lengths: NDArray[np.int64]) -> NDArray[np.uint64]:
    begins = np.cumsum(lengths) - lengths
    place = np.arange(len(data)) - np.repeat(begins, lengths)
    terms = (data.astype(np.uint64) + np.uint64(1)) * _powers(int(lengths.max(initial=0)))[place]
    sums = np.concatenate(([np.uint64(0)], np.cumsum(terms)))  # wraps, and so do the differences
    found: NDArray[np.uint64] = sums[begins + lengths] - sums[begins]
    return found


def _powers(count: int) -> NDArray[np.uint64]:
    powers = np.full(max(1, count), _MULTIPLIER, np.uint64)
    found: NDArray[np.uint64] = np.cumprod(powers)
    return found


def _mixed(sums: NDArray[np.uint64], lengths: NDArray[np.int64]) -> NDArray[np.uint64]:
    value = sums ^ lengths.astype(np.uint64)
    value ^= value >> np.uint64(32)
    value *= np.uint64(_MULTIPLIER)
    found: NDArray[np.uint64] = value ^ (value >> np.uint64(29))
    return found


def hash_of(key: bytes) -> int:
    """The hash of one key, as ``hashes_of`` computes it."""
    mask = (1 << 64) - 1
    total, power = 0, 1
    for byte in key:
        power = power * _MULTIPLIER & mask
        total += (byte + 1) * power
    value = (total & mask) ^ len(key)
    value ^= value >> 32
    value = value * _MULTIPLIER & mask
    return value ^ (value >> 29)


# -- the file --------------------------------------------------------------------------------------------------------


def save_index(index: Index, stream: BinaryIO) -> None:
    """Write it: the same index gives the same bytes."""
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_STORED) as archive:
        for name in _ARRAYS:
            _save_array(archive, stream, f"{name}.npy", np.ascontiguousarray(index.arrays[name]))


def _save_array(archive: zipfile.ZipFile, stream: BinaryIO, name: str, array: NDArray[Any]) -> None:
    info = zipfile.ZipInfo(name, (1980, 1, 1, 0, 0, 0))
    info.external_attr = 0o644 << 16
    info.file_size = array.nbytes + 128
    large = array.nbytes >= 1 << 31
    head = stream.tell() + 30 + len(name) + (20 if large else 0)
    info.extra = struct.pack("<HH", _PADDING, pad := -(head + 4) % _ALIGNED) + bytes(pad)
    with archive.open(info, "w", force_zip64=large) as member:
        # numpy pads its own header so that the values begin at a multiple of 64 bytes, too
        np.lib.format.write_array(member, array, version=(1, 0), allow_pickle=False)


def open_index(path: Path) -> Index:
    """Map an index. Raises BrokenIndex, and OSError when it cannot be opened."""
    with path.open("rb") as file:
        try:
            mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        except ValueError as error:
            raise BrokenIndex("it is empty") from error
        try:
            with zipfile.ZipFile(file) as archive:
                return Index({one.filename.removesuffix(".npy"): _mapped(mapped, one) for one in _stored(archive)})
        except (zipfile.BadZipFile, struct.error, ValueError, TypeError, KeyError, EOFError, RecursionError) as error:
            raise BrokenIndex(str(error)) from error


def _stored(archive: zipfile.ZipFile) -> Iterable[zipfile.ZipInfo]:
    for one in archive.infolist():
        if one.compress_type != zipfile.ZIP_STORED:
            raise BrokenIndex("its arrays are compressed")
        yield one


def _mapped(mapped: mmap.mmap, info: zipfile.ZipInfo) -> NDArray[Any]:
    name, extra = struct.unpack_from("<HH", mapped, info.header_offset + 26)
    begin = info.header_offset + 30 + name + extra
    mapped.seek(begin)
    if np.lib.format.read_magic(mapped) != (1, 0):
        raise BrokenIndex("its arrays are of another version of numpy's format")
    shape, _, kind = np.lib.format.read_array_header_1_0(mapped)
    if kind.hasobject or len(shape) != 1 or mapped.tell() + shape[0] * kind.itemsize > begin + info.file_size:
        raise BrokenIndex(f"{info.filename} is not what it should be")
    return np.frombuffer(mapped, kind, shape[0], mapped.tell())
