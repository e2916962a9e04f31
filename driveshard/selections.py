"""What a part holds, as bytes for the ledger: the same on every machine."""

from __future__ import annotations

import json
import sys
from array import array

from driveshard.model import FileList, SampleRange, Selection

_FILES, _RANGE = b"F", b"R"


def encode_selection(selection: Selection) -> bytes:
    """``F`` + count + sizes + mtimes + NUL-joined paths, or ``R`` + JSON [start, stop]."""
    if isinstance(selection, SampleRange):
        return _RANGE + json.dumps([selection.start, selection.stop]).encode()
    count = len(selection).to_bytes(8, "little")
    return b"".join((_FILES, count, _little(selection.sizes), _little(selection.mtimes), selection.paths))


def decode_selection(data: bytes) -> Selection:
    """What ``encode_selection`` was given."""
    if data[:1] == _RANGE:
        return SampleRange(*json.loads(data[1:]))
    count = int.from_bytes(data[1:9], "little")
    sizes, mtimes = array("q"), array("q")
    sizes.frombytes(data[9 : 9 + 8 * count])
    mtimes.frombytes(data[9 + 8 * count : 9 + 16 * count])
    return FileList(data[9 + 16 * count :], _native(sizes), _native(mtimes))


def _little(column: array[int]) -> bytes:
    return _native(array("q", column)).tobytes()


def _native(column: array[int]) -> array[int]:
    """Little-endian on disk; swapped in place on a big-endian machine."""
    if sys.byteorder == "big":
        column.byteswap()
    return column
