"""What a part holds, as bytes for the ledger: the same on every machine."""

from __future__ import annotations

import json
import sys
from array import array

from driveshard.core.model import FileList, SampleRange, Selection

_FILES, _OLD_FILES, _RANGE = b"L", b"F", b"R"


def encode_selection(selection: Selection) -> bytes:
    """``L`` + counts of files and of CRCs + sizes + mtimes + changes + CRCs + NUL-joined paths, or ``R`` + JSON [start,
    stop]. That is 24 bytes a file besides its path, 28 once it is packed."""
    if isinstance(selection, SampleRange):
        return _RANGE + json.dumps([selection.start, selection.stop]).encode()
    columns = (selection.sizes, selection.mtimes, selection.changes, selection.crcs)
    counts = array("q", [len(selection), len(selection.crcs)])
    return b"".join((_FILES, _little(counts), *map(_little, columns), selection.paths))


def decode_selection(data: bytes) -> Selection:
    """What ``encode_selection`` was given, in today's form or the first, ``F``, without changes and CRCs."""
    if data[:1] == _RANGE:
        return SampleRange(*json.loads(data[1:]))
    reader = _Columns(data)
    if data[:1] == _OLD_FILES:
        (count,) = reader.take("q", 1)
        sizes, mtimes = reader.take("q", count), reader.take("q", count)
        return FileList(reader.rest(), sizes, mtimes)
    count, packed = reader.take("q", 2)
    sizes, mtimes, changes = (reader.take("q", count) for _ in range(3))
    crcs = reader.take("I", packed)
    return FileList(reader.rest(), sizes, mtimes, changes, crcs)


class _Columns:
    """Reads columns one after the other, behind the letter."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 1

    def take(self, kind: str, count: int) -> array[int]:
        column: array[int] = array(kind)
        end = self._at + count * column.itemsize
        column.frombytes(self._data[self._at : end])
        self._at = end
        return _native(column)

    def rest(self) -> bytes:
        return self._data[self._at :]


def _little(column: array[int]) -> bytes:
    return _native(array(column.typecode, column)).tobytes()


def _native(column: array[int]) -> array[int]:
    """Little-endian on disk; swapped in place on a big-endian machine."""
    if sys.byteorder == "big":
        column.byteswap()
    return column
