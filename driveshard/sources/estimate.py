"""How many bytes a made sample takes in a zip, from a few of them: what the planner cuts parts by."""

from __future__ import annotations

import math
import os
from array import array
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from driveshard.core.errors import SourceMissing
from driveshard.core.model import SampleRange, Selection
from driveshard.sources.base import MemberWriter, Packed

_LOCAL_HEADER = 30
_CENTRAL_HEADER = 46
_GOLDEN = (math.sqrt(5) - 1) / 2


class SizedSource(Protocol):
    """A source that makes its samples and knows how many there are."""

    def __len__(self) -> int: ...

    def describe(self) -> str: ...

    def pack(self, selection: Selection, writer: MemberWriter, part_size: int) -> Packed: ...


Measure = Callable[[Callable[[SizedSource], tuple[int, int]]], tuple[int, int]]
"""Calls a function that makes samples of a source, with that source, where parts are built."""


def member_bytes(path: bytes, size: int) -> int:
    """What one stored member of ``size`` bytes adds to a zip: both headers, the name twice, the data."""
    return _LOCAL_HEADER + _CENTRAL_HEADER + 2 * len(path) + size


def estimate_sample_bytes(source: SizedSource, n: int = 16) -> int:
    """Mean bytes a sample takes in a zip part, as ``estimate_sample`` finds."""
    return estimate_sample(source, n)[0]


def estimate_sample(source: SizedSource, n: int = 16) -> tuple[int, int]:
    """(mean bytes a sample takes in a zip part, members that the largest has), each at least 1, over ``n`` samples
    spread over the whole source.

    The same source gives the same figure. Raises SourceMissing when none of them can be made.
    """
    meter = Meter()
    good, members = 0, 1
    why = "it is empty"
    for index in _spread(len(source), n):
        packed = source.pack(SampleRange(index, index + 1), meter, 0)
        good += packed.samples
        members = max(members, packed.files)
        if packed.failed:
            why = f"{packed.failed[-1].path}: {packed.failed[-1].why}"
    if not good:
        raise SourceMissing(f"No sample of {source.describe()} can be made: {why}")
    return max(1, math.ceil(meter.size / good)), members


def _spread(length: int, n: int) -> list[int]:
    """Up to ``n`` indices all over the range: steps of the golden ratio, since even steps would fall in with the
    source's own order and meet one foreground, or one placement, again and again."""
    if length <= n:
        return list(range(length))
    return sorted({int(length * (((step + 1) * _GOLDEN) % 1.0)) for step in range(n)})


class Meter:
    """A MemberWriter that only counts."""

    def __init__(self) -> None:
        self.size = 0
        self.crcs: array[int] = array("I")  # nobody asks for them

    def add(self, path: bytes, data: bytes | bytearray | memoryview) -> None:
        self.size += member_bytes(path, len(data))

    def add_file(self, path: bytes, file: Path | int) -> int:
        size = os.stat(file).st_size
        self.size += member_bytes(path, size)
        return size
