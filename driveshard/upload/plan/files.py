"""Planning a folder: one walk, compared with what the ledger knows, cut into parts by exact size.

Both sides of the comparison are in path order, so it is a merge in constant memory.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Iterator
from itertools import chain, islice
from operator import itemgetter

from driveshard.archive.zip_size import EMPTY_ZIP, MOST_MEMBERS, ZIP64_END, member_cost, members_cost
from driveshard.core.clock import Clock
from driveshard.core.errors import SourceMissing, TempFull
from driveshard.core.events import Emit, Notice, Planned, Scanned, SourceFailed
from driveshard.core.formatting import human_size, plural, printable
from driveshard.core.model import Failure, FileList, Part, PartState
from driveshard.sources.folder import FolderSource, Row, in_words
from driveshard.sources.mounts import NOT_FILES, OTHER
from driveshard.upload.ledger.ledger import Ledger
from driveshard.upload.plan.base import Cut, Differences, many_small
from driveshard.upload.plan.deleted import Deleted
from driveshard.upload.plan.known import Known, known_rows

_4GIB = 2**32
_ZIP64_A_MEMBER = 12  # bytes more for a member that begins beyond 4 GiB

_RESTAMPED_AT_ONCE = 20_000
_PIECE = 256  # rows

Fresh = tuple[list[Row], list[bytes]]
"""Rows in path order, and the paths of those that replace a file that an older part holds."""


class FilePlanner:
    """Plans a folder's new and changed files. ``failures`` are what could not be listed or can never be packed;
    ``gone`` is how many of the dataset's files the source has no more, ``kept`` how many it still has.

    A file is taken for whole when size, mtime and change stamp are as they were, or when size and mtime are and its
    content still has the CRC-32 that was packed; with ``checksum`` the content is read in every case.
    """

    sequential = False

    def __init__(
        self,
        source: FolderSource,
        ledger: Ledger,
        cut: Cut,
        clock: Clock,
        emit: Emit,
        *,
        checksum: bool = False,
        differences: Differences | None = None,
    ) -> None:
        self._source = source
        self._ledger = ledger
        self._cut = cut
        self._clock = clock
        self._emit = emit
        self._checksum = checksum
        self._contents = source.contents(clock.check)
        self.failures: list[Failure] = []
        self.links = self.gone = self.kept = 0
        self.changed = self.ignored = self.dropped = 0
        self._ignores = differences is not None and differences.ignored
        self._deleted = Deleted(ledger, differences or Differences())
        self._listed = True  # all folders could be looked into
        self.elsewhere: list[str] = []
        self._files = self._bytes = 0
        self._read_again = 0
        self._refused = ""  # why the last one can never be packed
        self._restamped: dict[int, dict[bytes, int]] = {}  # part -> path -> its change stamp now

    def packed(self, part: Part) -> None:
        """Parts of a folder do not depend on each other."""

    def halt(self) -> None:
        """Nothing is waited for."""

    def numbers(self) -> Iterator[int]:
        """Scan, compare with the ledger, cut; yield each new part's number once it is in the ledger.

        Raises SourceMissing when the source is empty and the dataset is not.
        """
        generation = int(self._ledger.get("generation", 0)) + 1
        self._ledger.note(generation=generation)
        first = number = self._ledger.next_number()
        size = 0
        blocks = self._counted(self._source.scan(self._on_unlisted, self._on_skipped, self._on_idle))
        for files, estimate, superseded in Cutter(self._cut).cut(map(self._fitting, self._fresh(blocks))):
            if estimate > self._cut.most:
                for path in files.split_paths():
                    self._on_failure(Failure(printable(path), self._no_room("its sample", estimate)))
                continue
            spec = self._cut.spec(number, files, estimate)
            self._ledger.plan(spec, generation, superseded)
            self._emit(Planned(number, estimate, len(files)))
            yield number
            number += 1
            size += estimate
        if number > first and (warning := many_small(number - first, size)):
            self._emit(Notice(warning))
        self._emit(Scanned(self._files, self._bytes, complete=True))
        self._note_deleted()
        if self._ledger.get("gone", 0) != self.gone:
            self._ledger.note(gone=self.gone)
        if number == 0 and self._refused:
            raise TempFull(
                f"no file fits: {self._refused}",
                advice="Give a larger --temp-limit, or a smaller --part-size for a new dataset.",
            )
        self._tell()

    def _note_deleted(self) -> None:
        self.gone = self._deleted.count
        if self._files:  # else the source itself is gone, which is told
            self.gone, self.dropped = self._deleted.note(self.kept, listed=self._listed, emit=self._emit)

    def _tell(self) -> None:
        """What the user should know of the source as a whole."""
        if self.links:
            self._emit(Notice(f"left out: {self.links:,} symbolic links, pipes or other things that are no files"))
        if self.elsewhere:
            shown = ", ".join(self.elsewhere[:3]) + (", ..." if len(self.elsewhere) > 3 else "")
            self._emit(Notice(f"left out: other file systems ({shown}); --other-file-systems packs them, too"))
        if self._read_again and not self._checksum:
            self._emit(Notice(f"read again: {plural(self._read_again, 'file')} whose size and date say too little"))
        if self.gone and not self._files:
            raise SourceMissing(
                f"{self._source.describe()} has no files, and the dataset holds {self.gone:,}: all of them are gone",
                advice="Is the disk it is on connected? What is uploaded stays where it is.",
            )
        if self.gone > self.kept:
            self._emit(
                Notice(
                    f"gone: {self.gone:,} of the {self.gone + self.kept:,} files that the dataset holds are no longer"
                    f" in {self._source.describe()}; they stay in the dataset. Is it the right folder, and whole?"
                )
            )

    def _on_failure(self, failure: Failure) -> None:
        self.failures.append(failure)
        self._emit(SourceFailed(failure.path, failure.why))

    def _on_unlisted(self, failure: Failure) -> None:
        self._listed = False
        self._on_failure(failure)

    def _on_skipped(self, failure: Failure) -> None:
        if failure.why == OTHER:
            self.elsewhere.append(failure.path)
        elif failure.why != NOT_FILES:
            self.links += 1

    def _on_idle(self, word: str, pattern: str) -> None:
        if word == "exclude":
            self._emit(Notice(f"WARNING: --exclude {pattern!r} matched nothing, so nothing was left out because of it"))
        else:
            self._emit(Notice(f"--include {pattern!r} matched nothing"))

    def _counted(self, blocks: Iterable[list[Row]]) -> Iterator[list[Row]]:
        for block in blocks:
            self._clock.check()
            self._files += len(block)
            self._bytes += sum(map(itemgetter(1), block))
            self._emit(Scanned(self._files, self._bytes, complete=False))
            yield block

    # -- what is new, or another ---------------------------------------------------------------------------------

    def _fresh(self, blocks: Iterable[list[Row]]) -> Iterator[Fresh]:
        """Rows that no part holds, or holds with another content."""
        known = known_rows(self._ledger)
        ahead: list[Known] = []
        try:
            for block in chain.from_iterable(map(_pieces, blocks)):
                ahead += islice(known, max(len(block) - len(ahead), 0))
                if not ahead:
                    yield block, []
                elif not self._checksum and block == [one[0] for one in ahead[: len(block)]]:
                    # Nearly all pieces of a run with nothing to do, at half the cost of going file by file.
                    self.kept += len(block)
                    del ahead[: len(block)]
                else:
                    rest = iter(ahead)
                    rows, replacing, current = self._compared(block, chain(rest, known))
                    ahead = [*current, *rest]
                    yield rows, replacing
            for row, _, _ in chain(ahead, known):
                self._deleted.add(row[0])
        finally:
            self._contents.close()
        self._restamp()

    def _compared(self, block: list[Row], known: Iterator[Known]) -> tuple[list[Row], list[bytes], list[Known]]:
        """(fresh rows, paths of those that replace older ones, the known file that comes next, if there is one)."""
        rows: list[Row] = []
        replacing: list[bytes] = []
        current = next(known, None)
        for row in block:
            path = row[0]
            while current is not None and current[0][0] < path:
                self._deleted.add(current[0][0])  # its member stays where it is
                current = next(known, None)
            if current is None or current[0][0] != path:
                rows.append(row)
                continue
            self.kept += 1
            if (row != current[0] or self._checksum) and not self._whole(row, current):
                if self._ignores and path not in self._deleted.before:
                    self.ignored += 1
                else:
                    rows.append(row)
                    replacing.append(path)
                    self.changed += 1
            current = next(known, None)
        return rows, replacing, [] if current is None else [current]

    def _whole(self, row: Row, known: Known) -> bool:
        """Whether the file is what a part holds although not all says so. One that cannot be read is told and left as
        it is; one that is only planned will be read anyway."""
        held, crc, number = known
        if row[1:3] != held[1:3]:
            return False
        if crc is None:
            return True
        self._read_again += 1
        try:
            whole = self._contents.crc(row[0]) == crc
        except OSError as error:
            self._on_failure(Failure(printable(row[0]), in_words(error)))
            return True
        if whole and row[3] != held[3]:
            self._restamped.setdefault(number, {})[row[0]] = row[3]
            if self._read_again % _RESTAMPED_AT_ONCE == 0:
                self._restamp()
        return whole

    def _restamp(self) -> None:
        """Note the new stamps, so that the next run need not read these files again."""
        for number, changes in self._restamped.items():
            self._ledger.restamp(number, changes)
        self._restamped = {}

    # -- what fits -----------------------------------------------------------------------------------------------

    def _fitting(self, fresh: Fresh) -> Fresh:
        """Without the files that can never fit the temp folder: they are told, and everything else goes."""
        rows, replacing = fresh
        most = self._cut.most - EMPTY_ZIP
        if not rows or max(map(itemgetter(1), rows)) + 0xFFFF * 2 + 256 < most:
            return fresh
        too_large = {row[0]: member_cost(len(row[0]), row[1]) for row in rows}
        too_large = {path: cost for path, cost in too_large.items() if cost > most}
        for path, cost in too_large.items():
            self._on_failure(Failure(printable(path), self._no_room("it", cost)))
        return [row for row in rows if row[0] not in too_large], [path for path in replacing if path not in too_large]

    def _no_room(self, what: str, size: int) -> str:
        room = human_size(self._cut.most)
        self._refused = f"{what} needs {human_size(size)} in the temp folder, which can hold {room} at most"
        return self._refused


def _pieces(block: list[Row]) -> Iterator[list[Row]]:
    """So few rows that what is made for comparing them is gone before the garbage collector looks at it."""
    return (block[start : start + _PIECE] for start in range(0, len(block), _PIECE))


def forget_outgrown(ledger: Ledger, cut: Cut) -> None:
    """Take back parts of files that were planned, never packed, and can never fit: they are cut anew from what the
    source has now."""
    for part in ledger.parts(unfinished=True):
        if part.state is PartState.PLANNED and part.estimate > cut.most and part.file_id is None:
            ledger.drop(part.number)


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
        self._changes = array("q")
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
        paths, sizes, mtimes, changes = zip(*rows, strict=True)
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
        self._changes.extend(changes)
        self._cost += cost
        return True

    def _cut_one_by_one(self, rows: list[Row]) -> Iterator[tuple[FileList, int, tuple[int, int]]]:
        for path, size, mtime, change in rows:
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
            self._changes.append(change)
            self._cost += cost
            self._key_cost += cost

    def _take(self, count: int, left_cost: int) -> tuple[FileList, int, tuple[int, int]]:
        """Give out the first ``count`` rows; what is left is one unfinished sample of ``left_cost`` bytes."""
        paths, self._paths = self._paths[:count], self._paths[count:]
        files = FileList(b"\0".join(paths), self._sizes[:count], self._mtimes[:count], self._changes[:count])
        self._sizes, self._mtimes, self._changes = self._sizes[count:], self._mtimes[count:], self._changes[count:]
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
