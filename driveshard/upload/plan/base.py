"""Cuts a source into parts, durably: what a part is to hold is in the ledger before it is packed.

Cutting is greedy and in order, so a plan that was interrupted goes on where it stopped and cuts as if it had not been.
What was planned once is never cut again: files that are new, or changed, since then go to new parts.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

from driveshard.config.settings import PushOptions
from driveshard.core.formatting import human_seconds, human_size
from driveshard.core.model import Part, PartSpec, Selection
from driveshard.upload.naming import part_file_name

_WRITES_PER_SECOND = 3
_LONG = 300.0  # seconds
_SMALL = 4 * 2**20  # bytes; of a larger part the bytes take longer than the write
MOST = 1 << 53  # bytes; where nobody knows how much room there is


@dataclass(frozen=True, slots=True)
class Cut:
    """How to cut: the dataset's name, a part's size in bytes and, if given, its number of samples. ``most`` are the
    bytes that one part may have at all, the room in the temp folder."""

    name: str
    part_size: int
    part_samples: int | None = None
    most: int = MOST

    def spec(self, number: int, selection: Selection, estimate: int) -> PartSpec:
        return PartSpec(number, part_file_name(self.name, number), selection, estimate, self.part_size)


@dataclass(frozen=True, slots=True)
class Differences:
    """What becomes of a folder's files that are another than the dataset has: changed ones are ``ignored`` rather than
    packed again; deleted ones are ``dropped`` rather than kept, more than half of all only if somebody is ``sure``."""

    ignored: bool = False
    dropped: bool = False
    sure: bool = False

    @classmethod
    def of(cls, options: PushOptions) -> Differences:
        return cls(options.changed == "ignore", options.deleted == "drop", options.yes)


def many_small(parts: int, size: int) -> str | None:
    """The sentence about parts so many and so small that Drive's pace is all that counts; ``size`` is all bytes."""
    seconds = parts / _WRITES_PER_SECOND
    if seconds < _LONG or size / parts > _SMALL:
        return None
    return (
        f"WARNING: that makes {parts:,} parts of about {human_size(size / parts)}, and Drive takes"
        f" {_WRITES_PER_SECOND} writes a second: {human_seconds(seconds)} at least. A larger --part-size makes fewer"
    )


class Planner(Protocol):
    """Plans what the ledger does not hold yet."""

    sequential: bool
    """True when parts must be packed in order, in this process, one at a time."""

    def numbers(self) -> Iterator[int]:
        """Plan on; yield each new part's number once it is in the ledger."""

    def packed(self, part: Part) -> None:
        """Told of every part that was packed; may be called from any thread."""

    def halt(self) -> None:
        """The run ends: ``numbers`` must not wait for a part that nobody packs any more."""
