"""Planning a folder: one walk, compared with what the ledger knows, cut into parts by exact size.

Both sides of the comparison are in path order, so it is a merge in constant memory.
"""

from __future__ import annotations

import heapq
from array import array
from collections.abc import Iterable, Iterator
from itertools import chain, groupby
from operator import itemgetter

from driveshard.clock import Clock
from driveshard.events import Emit, Notice, Planned, Scanned, SourceFailed
from driveshard.ledger import Ledger
from driveshard.model import Failure, FileList, Part
from driveshard.planner import Cut
from driveshard.sources.folder import FolderSource, Row
from driveshard.zipwriter import EMPTY_ZIP, MOST_MEMBERS, ZIP64_END, member_cost, members_cost

_4GIB = 2**32
_ZIP64_A_MEMBER = 12  # bytes more for a member that begins beyond 4 GiB

Fresh = tuple[list[Row], list[bytes]]
"""Rows in path order, and the paths of those that replace a file that an older part holds."""


class FilePlanner:
    """Plans a folder's new and changed files. ``failures`` are directories that could not be listed."""

    sequential = False

    def __init__(self, source: FolderSource, ledger: Ledger, cut: Cut, clock: Clock, emit: Emit) -> None:
        self._source = source
        self._ledger = ledger
        self._cut = cut
        self._clock = clock
        self._emit = emit
        self.failures: list[Failure] = []
        self.links = 0
        self._files = self._bytes = 0

    def packed(self, part: Part) -> None:
        """Parts of a folder do not depend on each other."""

    def halt(self) -> None:
        """Nothing is waited for."""

    def numbers(self) -> Iterator[int]:
        """Scan, compare with the ledger, cut; yield each new part's number once it is in the ledger."""
        generation = int(self._ledger.get("generation", 0)) + 1
        self._ledger.note(generation=generation)
        number = self._ledger.next_number()
        blocks = self._counted(self._source.scan(self._on_failure, self._on_skipped))
        for files, estimate, superseded in Cutter(self._cut).cut(self._fresh(blocks)):
            spec = self._cut.spec(number, files, estimate)
            self._ledger.plan(spec, generation, superseded)
            self._emit(Planned(number, estimate))
            yield number
            number += 1
        self._emit(Scanned(self._files, self._bytes, complete=True))
        if self.links:
            self._emit(Notice(f"left out: {self.links:,} symbolic links, pipes or other things that are no files"))

    def _on_failure(self, failure: Failure) -> None:
        self.failures.append(failure)
        self._emit(SourceFailed(failure.path, failure.why))

    def _on_skipped(self, failure: Failure) -> None:
        self.links += 1

    def _counted(self, blocks: Iterable[list[Row]]) -> Iterator[list[Row]]:
        for block in blocks:
            self._clock.check()
            self._files += len(block)
            self._bytes += sum(map(itemgetter(1), block))
            self._emit(Scanned(self._files, self._bytes, complete=False))
            yield block

    def _fresh(self, blocks: Iterable[list[Row]]) -> Iterator[Fresh]:
        """Rows that no part holds, or holds with another size or mtime."""
        known = known_rows(self._ledger)
        current = next(known, None)
        for block in blocks:
            if current is None:
                yield block, []
                continue
            rows: list[Row] = []
            replacing: list[bytes] = []
            for row in block:
                if row == current:
                    current = next(known, None)
                    continue
                path = row[0]
                while current is not None and current[0] < path:
                    current = next(known, None)  # deleted since; its member stays where it is
                if row == current:
                    current = next(known, None)
                    continue
                rows.append(row)
                if current is not None and current[0] == path:
                    replacing.append(path)
            yield rows, replacing


def known_rows(ledger: Ledger) -> Iterator[Row]:
    """Every file the ledger's parts hold, in path order, each once: as its newest part has it."""
    runs = [_run_rows(ledger, numbers) for numbers in ledger.generations()]
    if len(runs) < 2:
        return chain.from_iterable(runs)
    merged = heapq.merge(*runs, key=itemgetter(0))  # equal paths come in the order of their runs
    return (list(rows)[-1] for _, rows in groupby(merged, key=itemgetter(0)))


def _run_rows(ledger: Ledger, numbers: list[int]) -> Iterator[Row]:
    for number in numbers:
        selection = ledger.kept_selection(number)
        if isinstance(selection, FileList):
            yield from selection


class Cutter:
    """Cuts rows in path order into parts of at most ``part_size`` bytes as a zip, and of ``part_samples`` samples
    or, where that was not asked for, as many members as any zip tool reads.

    A sample is never split: one larger than a part becomes a part of its own. ``few`` rows are not worth looking at
    together.
    """

    def __init__(self, cut: Cut, few: int = 32) -> None:
        self._limit = cut.part_size - EMPTY_ZIP
        self._most_samples = cut.part_samples or 0
        self._few = few
        self._paths: list[bytes] = []
        self._sizes = array("q")
        self._mtimes = array("q")
        self._cost = 0
        self._samples = 0  # counted only where their number is limited
        self._replacing: list[bytes] = []
        self._key: bytes | None = None  # the last sample's; where it begins and what it costs so far
        self._key_start = self._key_cost = 0

    def cut(self, blocks: Iterable[Fresh]) -> Iterator[tuple[FileList, int, tuple[int, int]]]:
        """Yield (files, exact zip size in bytes, (superseded files, samples)) for each part."""
        for rows, replacing in blocks:
            self._replacing += replacing
            yield from self._cut(rows)
        if self._paths:
            yield self._take(len(self._paths), 0)

    def _cut(self, rows: list[Row]) -> Iterator[tuple[FileList, int, tuple[int, int]]]:
        """Rows that fit all together are taken at once, at a third of the cost; the border is found by halving."""
        if self._most_samples or len(rows) <= self._few:
            yield from self._cut_one_by_one(rows)
        elif not self._take_in(rows):
            middle = len(rows) // 2
            yield from self._cut(rows[:middle])
            yield from self._cut(rows[middle:])

    def _take_in(self, rows: list[Row]) -> bool:
        """Take all of ``rows`` into the part at hand; False, and none is taken, when they do not fit."""
        paths, sizes, mtimes = zip(*rows, strict=True)
        cost = members_cost(paths, sizes)
        if self._cost + cost > self._limit or len(self._paths) + len(paths) > MOST_MEMBERS:
            return False
        key = _key(paths[-1])
        start = len(paths) - 1
        while start and _key(paths[start - 1]) == key:
            start -= 1
        if start or key != self._key:
            self._key, self._key_start, self._key_cost = key, len(self._paths) + start, 0
        self._key_cost += members_cost(paths[start:], sizes[start:])
        self._paths += paths
        self._sizes.extend(sizes)
        self._mtimes.extend(mtimes)
        self._cost += cost
        return True

    def _cut_one_by_one(self, rows: list[Row]) -> Iterator[tuple[FileList, int, tuple[int, int]]]:
        for path, size, mtime in rows:
            cost = member_cost(len(path), size)
            key = _key(path)
            if key != self._key:
                self._key, self._key_start, self._key_cost = key, len(self._paths), 0
                self._samples += 1
            over = self._cost + cost > self._limit or (
                self._samples > self._most_samples if self._most_samples else len(self._paths) >= MOST_MEMBERS
            )
            if over and self._key_start:
                yield self._take(self._key_start, self._key_cost)
            self._paths.append(path)
            self._sizes.append(size)
            self._mtimes.append(mtime)
            self._cost += cost
            self._key_cost += cost

    def _take(self, count: int, left_cost: int) -> tuple[FileList, int, tuple[int, int]]:
        """Give out the first ``count`` rows; what is left is one unfinished sample of ``left_cost`` bytes."""
        paths, self._paths = self._paths[:count], self._paths[count:]
        files = FileList(b"\0".join(paths), self._sizes[:count], self._mtimes[:count])
        self._sizes, self._mtimes = self._sizes[count:], self._mtimes[count:]
        replaced = [path for path in self._replacing if path <= paths[-1]]
        self._replacing = self._replacing[len(replaced) :]
        size = self._cost - left_cost + EMPTY_ZIP + (ZIP64_END if count >= 0xFFFF else 0)
        if size >= _4GIB:
            size += ZIP64_END + _ZIP64_A_MEMBER * count
        self._cost = left_cost
        self._samples = 1  # the sample at hand, which goes to the next part
        self._key_start = 0
        return files, size, (len(replaced), len({_key(path) for path in replaced}))


def _key(path: bytes) -> bytes:
    """``model.sample_key`` in bytes."""
    dot = path.find(b".", path.rfind(b"/") + 2)
    return path if dot < 0 else path[:dot]
