"""Planning sources that make their samples: index ranges of equal length, or an iterable's parts one after another."""

from __future__ import annotations

import queue
from collections.abc import Iterator

from driveshard.archive.zip_size import MOST_MEMBERS
from driveshard.core.clock import Clock
from driveshard.core.errors import DriveshardError, SourceMissing, UsageError
from driveshard.core.events import Emit, Notice, Planned, Scanned, SourceFailed
from driveshard.core.model import Failure, Part, SampleRange
from driveshard.sources.estimate import Measure, SizedSource, estimate_sample
from driveshard.upload.ledger.ledger import Ledger
from driveshard.upload.plan.base import Cut, many_small

_SPREAD = 1.15  # parts of equal counts differ in size; room is set aside for one this much above the mean
_POLL = 0.5
_MOST_PARTS = 500_000  # items that Drive takes in one folder
_LARGEST_PART = 5_000_000_000_000  # bytes that Drive takes in one file


class RangePlanner:
    """An indexable source: samples ``0 .. len-1`` in equal runs; a source that grew goes on in new parts."""

    sequential = False

    def __init__(
        self,
        source: SizedSource,
        ledger: Ledger,
        cut: Cut,
        emit: Emit,
        measure: Measure | None = None,
    ) -> None:
        self._source = source
        self._measure = measure or (lambda how: how(source))
        self._ledger = ledger
        self._cut = cut
        self._emit = emit
        self.failures: list[Failure] = []

    def packed(self, part: Part) -> None:
        """Ranges do not depend on each other."""

    def halt(self) -> None:
        """Nothing is waited for."""

    def numbers(self) -> Iterator[int]:
        """Plan the samples that no part holds; yield each new part's number once it is in the ledger."""
        length = len(self._source)
        if not length:
            raise SourceMissing(f"{self._source.describe()} has no samples")
        missing = unplanned(self._ledger, length)
        remarks = self._survey()
        if missing:
            sample_bytes, a_part = self._part_samples(length)
            _check_extent(self._source, sum(stop - start for start, stop in missing), a_part, sample_bytes)
            samples = sum(stop - start for start, stop in missing)
            if warning := many_small(-(-samples // a_part), samples * sample_bytes):
                self._emit(Notice(warning))
            generation = int(self._ledger.get("generation", 0)) + 1
            self._ledger.note(generation=generation)
            for number, (start, stop) in enumerate(_pieces(missing, a_part), self._ledger.next_number()):
                estimate = int((stop - start) * sample_bytes * _SPREAD) + 4096
                self._ledger.plan(self._cut.spec(number, SampleRange(start, stop), estimate), generation)
                self._emit(Planned(number, int(estimate / _SPREAD)))
                yield number
        self._emit(Scanned(length, 0, complete=True))
        for text in remarks if missing else ():  # looked for while the parts are being packed
            self._emit(Notice(text))

    def _survey(self) -> Iterator[str]:
        """Note what the source knows to be bad before anything is packed; gives what else it has to say."""
        survey = getattr(self._source, "survey", None)
        if survey is None:
            return iter(())
        self.failures, remarks = survey()
        for failure in self.failures:
            self._emit(SourceFailed(failure.path, failure.why))
        return iter(remarks)

    def _part_samples(self, length: int) -> tuple[int, int]:
        """(bytes a sample, samples a part), decided once for the dataset and noted, so that every run cuts alike."""
        asked = [self._cut.part_size, self._cut.part_samples]
        noted = self._ledger.get("part_samples")
        if noted and noted["asked"] == asked:
            return int(noted["sample_bytes"]), int(noted["a_part"])
        sample_bytes, members = self._measure(estimate_sample)
        fit = max(1, min(self._cut.part_size // sample_bytes, MOST_MEMBERS // members))
        a_part = self._cut.part_samples or fit
        if not self._cut.part_samples:
            parts = -(-length // a_part)
            a_part = -(-length // parts)  # equal parts: no short one at the end
        self._ledger.note(part_samples={"asked": asked, "sample_bytes": sample_bytes, "a_part": a_part})
        return sample_bytes, a_part


class StreamPlanner:
    """A plain iterable: each part begins where the one before turned out to end."""

    sequential = True

    def __init__(self, ledger: Ledger, cut: Cut, clock: Clock) -> None:
        self._ledger = ledger
        self._cut = cut
        self._clock = clock
        self._outcomes: queue.Queue[Part | None] = queue.Queue()

    def packed(self, part: Part) -> None:
        self._outcomes.put(part)

    def halt(self) -> None:
        self._outcomes.put(None)

    def numbers(self) -> Iterator[int]:
        """Plan one open-ended part after the other, each when the one before it was packed."""
        if self._ledger.get("exhausted"):
            return
        last = max((part.number for part in self._ledger.parts(unfinished=True)), default=-1)
        if last >= 0 and _is_open(self._ledger, last) and self._await(last):
            return  # the part an earlier run was at is packed first
        for number in self._selections():
            yield number
            if self._await(number):
                return

    def _selections(self) -> Iterator[int]:
        """Plan what a lost ledger left out between the parts that were found, then the open end, part by part."""
        until = planned_until(self._ledger)
        usual = max(1, until // max(1, self._ledger.totals().parts))
        for start, stop in _pieces(unplanned(self._ledger, until), usual):
            yield self._plan(SampleRange(start, stop))
        while True:
            yield self._plan(SampleRange(planned_until(self._ledger), None))

    def _plan(self, chosen: SampleRange) -> int:
        number = self._ledger.next_number()
        self._ledger.plan(self._cut.spec(number, chosen, self._cut.part_size), number)
        return number

    def _await(self, number: int) -> bool:
        """Wait until the part is packed; True when the iterable ended in it, which is noted, or the run does."""
        while True:
            self._clock.check()
            try:
                part = self._outcomes.get(timeout=_POLL)
            except queue.Empty:
                continue
            if part is None:
                return True
            if part.number == number:
                if part.exhausted:
                    self._ledger.note(exhausted=True)
                return part.exhausted


def _check_extent(source: SizedSource, samples: int, a_part: int, sample_bytes: int) -> None:
    """A length that was made up, such as sys.maxsize, would be planned for years. Raises UsageError."""
    parts = -(-samples // a_part)
    if parts > _MOST_PARTS or min(samples, a_part) * sample_bytes > _LARGEST_PART:
        raise UsageError(
            f"{source.describe()} says that it has {samples:,} new samples: {parts:,} parts of {a_part:,} samples each,"
            f" and Drive takes {_MOST_PARTS:,} files in a folder, of 5 TB at most",
            advice="Check its __len__, or give another --part-size or --part-samples.",
        )


def planned_until(ledger: Ledger) -> int:
    """The first sample index after all that parts hold."""
    return max((stop for _, stop in _planned(ledger)), default=0)


def unplanned(ledger: Ledger, length: int) -> list[tuple[int, int]]:
    """The runs (start, stop) of samples below ``length`` that no part holds: the end, as a rule, and gaps when the
    ledger was lost while some parts were still on their way."""
    missing = []
    reached = 0
    for start, stop in [*sorted(_planned(ledger)), (length, length)]:
        if reached < min(start, length):
            missing.append((reached, min(start, length)))
        reached = max(reached, stop)
    return missing


def _planned(ledger: Ledger) -> Iterator[tuple[int, int]]:
    for part in ledger.parts():
        selection = ledger.kept_selection(part.number)
        if selection is None:
            continue
        if not isinstance(selection, SampleRange):
            raise DriveshardError(f"part {part.number} of the ledger is not of this kind of source")
        yield selection.start, selection.start if selection.stop is None else selection.stop


def _pieces(runs: list[tuple[int, int]], length: int) -> Iterator[tuple[int, int]]:
    """Runs cut into pieces of at most ``length`` samples."""
    for start, stop in runs:
        for at in range(start, stop, length):
            yield at, min(at + length, stop)


def _is_open(ledger: Ledger, number: int) -> bool:
    selection = ledger.selection(number)
    return isinstance(selection, SampleRange) and selection.stop is None
