"""Planning a source that is cut already: a part for each part of the dataset that it is made from, of the same number.

Which parts those are is noted in the ledger, so that one that grew adds its new parts, and another one of that name is
told.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from operator import methodcaller
from typing import Protocol, TypeVar, runtime_checkable

from driveshard.core.errors import SourceMissing, UsageError
from driveshard.core.events import Emit, Notice, Planned, Scanned
from driveshard.core.formatting import plural
from driveshard.core.model import Failure, Part, PartState, SampleRange, Selection
from driveshard.sources.base import MemberWriter, Packed
from driveshard.upload.ledger.ledger import Ledger
from driveshard.upload.plan.base import Cut

_SPREAD = 1.5  # samples differ, and a part that outgrows its room has to be made again
_SLACK = 4096
_NOTED = "source_parts"
_CODE = "code"
_EDITED = (
    "the file with the function was edited since some parts were made. They stay as they are, and only what is missing"
    " is made with the new one; derive under another --name to have all of it made anew"
)
_DIGITS = 16  # of a digest, in the ledger

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class GivenPart:
    """A part of the dataset behind a source: its ``number``, a ``digest`` of its content in hex, and how many samples
    are to be made from it."""

    number: int
    digest: str
    samples: int


@runtime_checkable
class CutSource(Protocol):
    """A source that says where its parts begin. Part ``n`` is the selection ``SampleRange(n, n + 1)``."""

    def describe(self) -> str: ...

    def given_parts(self) -> Sequence[GivenPart]:
        """All of them, by number."""

    def sample_bytes(self) -> int:
        """Bytes that a sample takes in a part, from a few. Raises SourceMissing when none of them can be made."""

    def pack(self, selection: Selection, writer: MemberWriter, part_size: int) -> Packed: ...


Measure = Callable[[Callable[[CutSource], T]], T]
"""Calls a function with the source, where parts are built."""


class PartPlanner:
    """Plans the parts that the ledger does not hold."""

    sequential = False

    def __init__(
        self, source: CutSource, ledger: Ledger, cut: Cut, emit: Emit, measure: Measure[int] | None = None
    ) -> None:
        self._source = source
        self._ledger = ledger
        self._cut = cut
        self._emit = emit
        self._measure = measure or (lambda how: how(source))
        self.failures: list[Failure] = []
        self.samples = 0
        """Samples of the parts planned so far."""

    def packed(self, part: Part) -> None:
        """Parts do not depend on each other."""

    def halt(self) -> None:
        """Nothing is waited for."""

    def numbers(self) -> Iterator[int]:
        """Plan the parts that are new; yield each one's number once it is in the ledger."""
        parts = self._source.given_parts()
        if not any(part.samples for part in parts):
            raise SourceMissing(f"{self._source.describe()} has no samples")
        there = {part.number for part in self._ledger.parts()}
        missing = [part for part in parts if part.samples and part.number not in there]
        self._tell_edited(bool(missing))
        if missing:
            size = self._sample_bytes()
            generation = int(self._ledger.get("generation", 0)) + 1
            noted = self._ledger.get(_NOTED, {}) | {str(part.number): part.digest[:_DIGITS] for part in parts}
            self._ledger.note(generation=generation, **{_NOTED: noted})
            for part in missing:
                likely = part.samples * size + _SLACK
                estimate = max(likely, min(int(likely * _SPREAD), self._cut.most))
                chosen = SampleRange(part.number, part.number + 1)
                self._ledger.plan(self._cut.spec(part.number, chosen, estimate), generation)
                self._emit(Planned(part.number, likely))
                self.samples += part.samples
                yield part.number
        self._emit(Scanned(sum(part.samples for part in parts), 0, complete=True))
        if gone := gone_parts(self._ledger, parts):
            self._emit(Notice(f"{plural(len(gone), 'part')} of the source are gone; what was made of them stays"))

    def _tell_edited(self, missing: bool) -> None:
        """Parts that are made keep what an earlier form of the code made of them; which ones it had is noted."""
        code = getattr(self._source, "fingerprint", lambda: None)()
        if code is None:
            return
        states = [part.state for part in self._ledger.parts()]
        known = self._ledger.get(_CODE, []) if set(states) - {PartState.PLANNED} else []
        if set(known) - {code}:
            self._emit(Notice(f"WARNING: {self._source.describe()}: {_EDITED}"))
        if (missing or PartState.PLANNED in states) and code not in known:
            self._ledger.note(**{_CODE: [*known, code]})

    def _sample_bytes(self) -> int:
        """Looked for once, and noted: it costs a call of the user's function."""
        noted = self._ledger.get("sample_bytes")
        if noted is None:
            noted = self._measure(methodcaller("sample_bytes"))  # for which a worker need not load this module
            self._ledger.note(sample_bytes=noted)
        return int(noted)


def forget_gone(ledger: Ledger, source: CutSource) -> None:
    """Take back parts that were planned, never packed, and whose part of the source is gone."""
    here = {part.number for part in source.given_parts()}
    for part in ledger.parts(unfinished=True):
        if part.state is PartState.PLANNED and part.file_id is None and part.number not in here:
            ledger.drop(part.number)


def check_parts(ledger: Ledger, name: str, source: CutSource) -> None:
    """Raises UsageError when a part that was made from one of the source's would be another one now."""
    noted: Mapping[str, str] = ledger.get(_NOTED, {})
    changed = [
        part.number
        for part in source.given_parts()
        if noted.get(str(part.number), part.digest[:_DIGITS]) != part.digest[:_DIGITS]
    ]
    if changed:
        more = f" and {len(changed) - 1} more" if len(changed) > 1 else ""
        raise UsageError(
            f"{name} was made as {source.describe()} when part {changed[0]}{more} of that had another content",
            advice="Give this one another --name, so that all of it is made anew.",
        )


def gone_parts(ledger: Ledger, parts: Sequence[GivenPart]) -> list[int]:
    """Numbers of parts that the dataset was made from, and that its source has no more."""
    here = {part.number for part in parts}
    return sorted(number for number in map(int, ledger.get(_NOTED, {})) if number not in here)
