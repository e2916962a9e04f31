"""A zip's central directory in columns, whoever made the zip: read at once instead of entry by entry.

Source of the layout: PKWARE's APPNOTE 6.3.10, sections 4.3.7 (local header), 4.3.12 (directory entry), 4.3.14 to 4.3.16
(the records at the end) and 4.5.3 (zip64's extra field).
"""

from __future__ import annotations

import mmap
import os
import struct
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from driveshard.archive.zip_reader import TAIL

Read = Callable[[int, int], bytes]
"""(start, length) -> bytes, fewer at the end of the file."""

STORED, DEFLATED = 0, 8

_ENTRY = np.dtype(
    [
        ("signature", "<u4"),
        ("made_by", "<u2"),
        ("needed", "<u2"),
        ("flags", "<u2"),
        ("method", "<u2"),
        ("time", "<u4"),
        ("crc", "<u4"),
        ("stored", "<u4"),
        ("size", "<u4"),
        ("name", "<u2"),
        ("extra", "<u2"),
        ("comment", "<u2"),
        ("disk", "<u2"),
        ("internal", "<u2"),
        ("external", "<u4"),
        ("header", "<u4"),
    ]
)
_SIGNATURE = b"PK\1\2"
_LENGTHS = struct.Struct("<28x3H")
_END = struct.Struct("<4s4HLLH")
_LOCATOR_64 = struct.Struct("<4sLQL")
_END_64 = struct.Struct("<4sQHHLLQQQQ")
_BLOCK = 1 << 16  # entries looked at together
_LOCAL_HEADER = 30
_RUNS = 1 << 13  # runs gathered together: few enough that their numbers stay in the CPU's cache
_MAX_32 = 0xFFFFFFFF
_ENCRYPTED, _DESCRIBED_BEHIND = 1, 8


class BrokenDirectory(ValueError):
    """The file is no zip, or its directory is damaged or of a kind that is not read here."""


@dataclass(frozen=True, slots=True)
class Directory:
    """The entries of one zip in directory order; all columns have one row an entry.

    ``names`` is all names behind each other (uint8), ``ends`` where each one ends in it; ``headers`` where the local
    headers begin in the file, ``begins`` the bytes themselves, or -1 where only the local header can tell; ``stored``
    and ``sizes`` are bytes before and after unpacking.
    """

    names: NDArray[np.uint8]
    ends: NDArray[np.int64]
    headers: NDArray[np.int64]
    begins: NDArray[np.int64]
    stored: NDArray[np.int64]
    sizes: NDArray[np.int64]
    crcs: NDArray[np.uint32]
    methods: NDArray[np.uint16]

    def __len__(self) -> int:
        return len(self.ends)


@dataclass(frozen=True, slots=True)
class Place:
    """Where a directory is: ``start`` and ``length`` in bytes, its ``entries``; ``shift`` is what was put before the
    zip (as in a self-extracting one), to be added to every offset in it."""

    start: int
    length: int
    entries: int
    shift: int = 0


def read_directory(read: Read, size: int) -> Directory:
    """The directory of the zip of ``size`` bytes behind ``read``. Raises BrokenDirectory."""
    return _read(read, size)[0]


def map_directory(path: Path) -> Directory:
    """The directory of a zip on this machine, every place known. Raises BrokenDirectory, OSError."""
    with path.open("rb") as file:
        size = os.fstat(file.fileno()).st_size
        directory, place = _read(lambda start, length: _read_at(file, start, length), size)
        if not (directory.begins < 0).any():
            return directory
        mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        return located(directory, np.frombuffer(mapped, np.uint8), place.start)


def _read_at(file: BinaryIO, start: int, length: int) -> bytes:
    file.seek(start)
    return file.read(length)


def _read(read: Read, size: int) -> tuple[Directory, Place]:
    tail_start = max(0, size - TAIL)
    tail = read(tail_start, size - tail_start)
    place = find_directory(tail, size)
    inside = place.start - tail_start
    data = tail[inside : inside + place.length] if inside >= 0 else read(place.start, place.length)
    if len(data) != place.length:
        raise BrokenDirectory("the directory is cut short")
    return parse_directory(data, place), place


def find_directory(tail: bytes, size: int) -> Place:
    """Where the directory is, from the last bytes of a zip of ``size`` bytes. Raises BrokenDirectory."""
    at = tail.rfind(b"PK\5\6")
    while at >= 0 and (at + _END.size > len(tail) or at + _END.size + _END.unpack_from(tail, at)[7] > len(tail)):
        at = tail.rfind(b"PK\5\6", 0, at)
    if at < 0:
        raise BrokenDirectory("it is not a zip, or its end is missing")
    _, disk, first_disk, _, entries, length, offset, _ = _END.unpack_from(tail, at)
    if disk or first_disk:
        raise BrokenDirectory("it is one piece of a zip in several pieces")
    end = size - len(tail) + at  # where the directory ends
    if _MAX_32 in (length, offset) or entries == 0xFFFF:
        found = _find_64(tail, at, size)
        if found is not None:
            entries, length, offset, end = found
    shift = end - length - offset
    if shift < 0 or entries * _ENTRY.itemsize > length:
        raise BrokenDirectory("its end says what cannot be")
    return Place(end - length, length, entries, shift)


def _find_64(tail: bytes, at: int, size: int) -> tuple[int, int, int, int] | None:
    """(entries, length, offset, end) from zip64's records, None without them."""
    begin = at - _LOCATOR_64.size
    if begin < _END_64.size or tail[begin : begin + 4] != b"PK\6\7":
        return None
    begin = tail.rfind(b"PK\6\6", 0, begin - _END_64.size + 4)  # the whole record lies before the locator
    if begin < 0:
        raise BrokenDirectory("its zip64 record is missing")
    fields = _END_64.unpack_from(tail, begin)
    return fields[7], fields[8], fields[9], size - len(tail) + begin


def parse_directory(data: bytes, place: Place) -> Directory:
    """The columns of a directory's bytes. Raises BrokenDirectory."""
    raw = np.frombuffer(data, np.uint8)
    starts = _starts(data, raw, place.entries)
    blocks = [_columns(raw, starts[i : i + _BLOCK]) for i in range(0, len(starts), _BLOCK)]
    names = np.concatenate([block[0] for block in blocks]) if blocks else np.empty(0, np.uint8)
    rows = np.concatenate([block[1] for block in blocks]) if blocks else np.empty(0, _ENTRY)
    if (rows["flags"] & _ENCRYPTED).any():
        raise BrokenDirectory("it is encrypted")
    if not np.isin(rows["method"], (STORED, DEFLATED)).all():
        raise BrokenDirectory("it is compressed in a way that is not read here")
    stored, sizes = rows["stored"].astype(np.int64), rows["size"].astype(np.int64)
    headers = rows["header"].astype(np.int64)
    for row in np.flatnonzero((stored == _MAX_32) | (sizes == _MAX_32) | (headers == _MAX_32)):
        begin = int(starts[row]) + _ENTRY.itemsize + int(rows["name"][row])
        extra = data[begin : begin + int(rows["extra"][row])]
        sizes[row], stored[row], headers[row] = _zip64(extra, int(sizes[row]), int(stored[row]), int(headers[row]))
    headers += place.shift
    lengths = rows["name"].astype(np.int64)
    begins = _begins(headers, lengths, stored, rows["flags"], place.start)
    return Directory(
        names, np.cumsum(lengths), headers, begins, stored, sizes, rows["crc"].copy(), rows["method"].copy()
    )


def _starts(data: bytes, raw: NDArray[np.uint8], entries: int) -> NDArray[np.int64]:
    """Where each entry begins. The signature is looked for everywhere at once; should it stand in a name as well, or
    an entry be damaged, the entries are followed one by one."""
    if not entries:
        return np.empty(0, np.int64)
    found = np.flatnonzero(raw[:-3] == _SIGNATURE[0])
    for step, byte in enumerate(_SIGNATURE[1:], 1):
        found = found[raw[found + step] == byte]
    if len(found) == entries and found[-1] + _ENTRY.itemsize <= len(raw):
        fields = raw[found[:, None] + np.arange(28, 34)].astype(np.int64)
        lengths = (fields[:, 0::2] + (fields[:, 1::2] << 8)).sum(axis=1) + _ENTRY.itemsize
        if found[0] == 0 and found[-1] + lengths[-1] <= len(raw) and (found[:-1] + lengths[:-1] == found[1:]).all():
            return found.astype(np.int64)
    return _followed(data, entries)


def _followed(data: bytes, entries: int) -> NDArray[np.int64]:
    starts = np.empty(entries, np.int64)
    at = 0
    for row in range(entries):
        if data[at : at + 4] != _SIGNATURE or at + _ENTRY.itemsize > len(data):
            raise BrokenDirectory(f"entry {row:,} of its directory is damaged")
        starts[row] = at
        at += _ENTRY.itemsize + sum(_LENGTHS.unpack_from(data, at))
    if at > len(data):
        raise BrokenDirectory("its directory is cut short")
    return starts


def _columns(raw: NDArray[np.uint8], starts: NDArray[np.int64]) -> tuple[NDArray[np.uint8], NDArray[Any]]:
    """(names, rows) of some entries."""
    rows = raw[starts[:, None] + np.arange(_ENTRY.itemsize)].view(_ENTRY)[:, 0]
    return gathered(raw, starts + _ENTRY.itemsize, rows["name"].astype(np.int64)), rows


def gathered(raw: NDArray[np.uint8], begins: NDArray[np.int64], lengths: NDArray[np.int64]) -> NDArray[np.uint8]:
    """The runs of ``raw`` that begin at ``begins``, behind each other."""
    ends = np.cumsum(lengths)
    found = np.empty(int(ends[-1]) if len(ends) else 0, np.uint8)
    for at in range(0, len(ends), _RUNS):
        some = slice(at, at + _RUNS)
        first, last = int(ends[at - 1]) if at else 0, int(ends[some][-1])
        shifts = np.repeat(begins[some] - (ends[some] - lengths[some]) + first, lengths[some])
        shifts += np.arange(last - first)
        np.take(raw, shifts, out=found[first:last], mode="clip")  # any other mode copies once more
    return found


def _zip64(extra: bytes, size: int, stored: int, header: int) -> tuple[int, int, int]:
    """What zip64's extra field says in place of the numbers that do not fit."""
    at = 0
    while at + 4 <= len(extra):
        kind, length = struct.unpack_from("<HH", extra, at)
        if kind == 1:
            given = extra[at + 4 : at + 4 + length]
            values = list(struct.unpack_from(f"<{len(given) // 8}Q", given))
            try:
                size = values.pop(0) if size == _MAX_32 else size
                stored = values.pop(0) if stored == _MAX_32 else stored
                header = values.pop(0) if header == _MAX_32 else header
            except IndexError:
                raise BrokenDirectory("a zip64 field of its directory is cut short") from None
            break
        at += 4 + length
    if max(size, stored, header) >= 1 << 62:
        raise BrokenDirectory("its directory says what cannot be")
    return size, stored, header


def _begins(
    headers: NDArray[np.int64],
    lengths: NDArray[np.int64],
    stored: NDArray[np.int64],
    flags: NDArray[np.uint16],
    directory: int,
) -> NDArray[np.int64]:
    """Where each member's bytes begin. A local header may hold more than the directory tells; that it does not is
    certain where header, name and bytes fill the room up to the next header."""
    if not len(headers):
        return headers.copy()
    order = np.argsort(headers, kind="stable")
    following = np.empty_like(headers)
    following[order[:-1]] = headers[order[1:]]
    following[order[-1]] = directory
    begins = headers + _LOCAL_HEADER + lengths
    if (headers < 0).any() or (begins + stored > following).any():
        raise BrokenDirectory("its members lie over each other or beyond its end")
    told = (begins + stored == following) & ((flags & _DESCRIBED_BEHIND) == 0)
    return np.where(told, begins, -1)


def located(directory: Directory, raw: NDArray[np.uint8], limit: int) -> Directory:
    """The directory with the places filled in that only the local headers can tell. ``raw`` is the whole file, mapped;
    no member reaches beyond ``limit``, where the directory begins. Raises BrokenDirectory."""
    unknown = np.flatnonzero(directory.begins < 0)
    if not len(unknown):
        return directory
    begins = directory.begins.copy()
    for at in range(0, len(unknown), _BLOCK):
        rows = unknown[at : at + _BLOCK]
        begins[rows] = _behind_headers(raw, directory.headers[rows])
    if (begins[unknown] + directory.stored[unknown] > limit).any():
        raise BrokenDirectory("its members lie beyond its end")
    return replace(directory, begins=begins)


def _behind_headers(raw: NDArray[np.uint8], headers: NDArray[np.int64]) -> NDArray[np.int64]:
    """Where the bytes behind the local headers at ``headers`` begin."""
    if (headers + _LOCAL_HEADER > len(raw)).any():
        raise BrokenDirectory("its members lie beyond its end")
    fields = raw[headers[:, None] + np.array([0, 1, 2, 3, 26, 27, 28, 29])].astype(np.int64)
    wrong = (fields[:, :4] != list(b"PK\3\4")).any(axis=1)
    if wrong.any():
        raise BrokenDirectory(f"there is no member at byte {headers[np.argmax(wrong)]:,}")
    found: NDArray[np.int64] = (
        headers + _LOCAL_HEADER + fields[:, 4] + fields[:, 6] + ((fields[:, 5] + fields[:, 7]) << 8)
    )
    return found
