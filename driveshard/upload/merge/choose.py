"""Which small parts become which large ones."""

from __future__ import annotations

from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np

from driveshard.archive.directory import STORED, BrokenDirectory
from driveshard.archive.zip_size import EMPTY_ZIP, MOST_MEMBERS, ZIP64_END, member_cost
from driveshard.core.model import FileList, SampleRange, Selection
from driveshard.sources.folder import Row
from driveshard.upload.ledger.ledger import Ledger
from driveshard.upload.ledger.rows import LedgerPart
from driveshard.upload.merge.newest import Directories, Newest, names_of

_4GIB = 2**32
_ZIP64_A_MEMBER = 32  # bytes more at most, in a zip of 4 GiB and more


@dataclass
class Group:
    """``sources`` are parts' numbers whose seen members, ``members`` of them, make one part of ``size`` bytes."""

    sources: list[int] = field(default_factory=list)
    members: int = 0
    size: int = EMPTY_ZIP
    fetched: int = 0  # bytes of the sources as they are

    @property
    def estimate(self) -> int:
        """No less than the zip's size."""
        return self.size + (0 if self.size < _4GIB else ZIP64_END + _ZIP64_A_MEMBER * self.members)


@dataclass(frozen=True, slots=True)
class Choice:
    """What can be merged; the parts ``unseen`` have nothing that readers see."""

    groups: tuple[Group, ...] = ()
    unseen: tuple[int, ...] = ()

    @property
    def sources(self) -> list[int]:
        """All parts that go."""
        return [*(number for group in self.groups for number in group.sources), *self.unseen]


def choose(ledger: Ledger, directories: Directories, part_size: int, below: int) -> Choice:
    """The parts smaller than ``below`` bytes, put together into parts of at most ``part_size``, in their order. Made
    samples are merged only with those that come next in their source, whose samples are counted."""
    parts = ledger.parts()
    small = [part for part in parts if (part.size or 0) < below and _can_be_merged(part, directories)]
    if not small:
        return Choice()
    newest = newest_among(ledger, directories, [part.number for part in small])
    ranges = {part.number: ledger.selection(part.number) for part in small}
    made = isinstance(ranges[small[0].number], SampleRange)
    seen = {part.number: _seen(part.number, directories, newest) for part in small}
    if made:
        small.sort(key=lambda part: _start(ranges[part.number]))
        unseen: tuple[int, ...] = ()
    else:
        unseen = tuple(part.number for part in small if not seen[part.number][0])
    found: list[Group] = []
    for run in _runs(small, ranges):
        found += _grouped([part for part in run if part.number not in unseen], seen, part_size)
    return Choice(tuple(group for group in found if len(group.sources) > 1 and group.members), unseen)


def newest_among(
    ledger: Ledger, directories: Directories, candidates: Sequence[int], until: int | None = None
) -> Newest:
    """Of all parts below the number ``until``, what readers see of the candidates."""
    numbers = [part.number for part in ledger.parts() if until is None or part.number < until]
    return Newest(directories, numbers, candidates, ledger.dropped_files())


def selection_of(ledger: Ledger, group: Group, directories: Directories, newest: Newest) -> Selection:
    """What the merged part holds."""
    held = [(number, ledger.selection(number)) for number in group.sources]
    ranges = [one for _, one in held if isinstance(one, SampleRange)]
    if ranges:
        return SampleRange(ranges[0].start, ranges[-1].stop)
    rows: dict[bytes, tuple[Row, int]] = {}
    for number, files in held:
        assert isinstance(files, FileList)
        directory = directories(number)
        crcs = dict(zip(names_of(directory), directory.crcs.tolist(), strict=True))
        rows |= {row[0]: (row, crcs[row[0]]) for row in files.rows() if newest.seen(number, row[0])}
    ordered = [rows[path] for path in sorted(rows)]
    return FileList.of([row for row, _ in ordered], array("I", [crc for _, crc in ordered]))


def _can_be_merged(part: LedgerPart, directories: Directories) -> bool:
    """Whether each member's bytes lie in it as they are, at a place that its directory tells."""
    try:
        directory = directories(part.number)
    except BrokenDirectory:
        return False
    return bool((directory.begins >= 0).all() and (directory.methods == STORED).all())


def _seen(number: int, directories: Directories, newest: Newest) -> tuple[int, int]:
    """(members that readers see, bytes that they take in a zip)."""
    directory = directories(number)
    seen = np.array([newest.seen(number, path) for path in names_of(directory)], np.bool_)
    sizes, lengths = directory.sizes[seen], np.diff(directory.ends, prepend=0)[seen]
    return int(seen.sum()), int(sizes.sum() + 2 * lengths.sum()) + member_cost(0, 0) * int(seen.sum())


def _start(selection: Selection) -> int:
    return selection.start if isinstance(selection, SampleRange) else 0


def _runs(parts: Sequence[LedgerPart], ranges: dict[int, Selection]) -> Iterator[list[LedgerPart]]:
    """Parts that may be merged with each other."""
    run: list[LedgerPart] = []
    for part in parts:
        selection = ranges[part.number]
        before = ranges[run[-1].number] if run else None
        if isinstance(selection, SampleRange) and isinstance(before, SampleRange) and before.stop != selection.start:
            yield run
            run = []
        run.append(part)
    if run:
        yield run


def _grouped(parts: Sequence[LedgerPart], seen: dict[int, tuple[int, int]], part_size: int) -> Iterator[Group]:
    group = Group()
    for part in parts:
        members, cost = seen[part.number]
        over = group.size + cost > part_size or group.fetched + (part.size or 0) > 2 * part_size
        if group.sources and (over or group.members + members > MOST_MEMBERS):
            yield group
            group = Group()
        group.sources.append(part.number)
        group.members += members
        group.size += cost
        group.fetched += part.size or 0
    if group.sources:
        yield group
