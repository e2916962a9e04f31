"""Cutting sources that make their samples: equal ranges, or an iterable's parts one after another."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from driveshard.core.clock import Clock
from driveshard.core.errors import DriveshardError, Interrupted, SourceMissing
from driveshard.core.model import FileList, Part, SampleRange, Selection
from driveshard.sources.base import MemberWriter, Packed
from driveshard.upload.ledger.ledger import Ledger
from driveshard.upload.plan.base import Cut
from driveshard.upload.plan.registry import planner_for
from driveshard.upload.plan.samples import RangePlanner, StreamPlanner, planned_until, unplanned
from tests.fakes import Heard


@dataclass(frozen=True)
class Made:
    """``length`` samples of ``size`` bytes each."""

    length: int
    size: int = 100
    kind = "made"

    def __len__(self) -> int:
        return self.length

    def describe(self) -> str:
        return "made"

    def settings(self) -> Mapping[str, Any]:
        return {}

    def pack(self, selection: Selection, writer: MemberWriter, part_size: int) -> Packed:
        assert isinstance(selection, SampleRange)
        assert selection.stop is not None
        for number in range(selection.start, selection.stop):
            writer.add(b"%05d.x" % number, bytes(self.size))
        count = selection.stop - selection.start
        return Packed(selection, count, count)


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    with Ledger(tmp_path / "ledger.sqlite") as ledger:
        yield ledger


def plan(ledger: Ledger, source: Made, cut: Cut, most: int | None = None) -> list[int]:
    planner = planner_for(source, ledger, cut, Clock(), Heard())
    assert isinstance(planner, RangePlanner)
    return list(islice(planner.numbers(), most))


def ranges(ledger: Ledger) -> list[tuple[int, int | None]]:
    found = [ledger.selection(part.number) for part in ledger.parts()]
    return [(one.start, one.stop) for one in found if isinstance(one, SampleRange)]


# -- indexable sources ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("length", "cut", "expected"),
    [
        (10, Cut("d", 10**6, 4), [(0, 4), (4, 8), (8, 10)]),
        (10, Cut("d", 10**6), [(0, 10)]),
        (1, Cut("d", 1), [(0, 1)]),
        (3, Cut("d", 1), [(0, 1), (1, 2), (2, 3)]),
        (65_535, Cut("d", 10**9), [(0, 32_768), (32_768, 65_535)]),  # no more members than any zip tool reads
        (65_535, Cut("d", 10**9, 65_535), [(0, 65_535)]),
        (10, Cut("d", 4 * 190), [(0, 4), (4, 8), (8, 10)]),  # a sample takes 190 bytes in a zip
        (9, Cut("d", 4 * 190), [(0, 3), (3, 6), (6, 9)]),  # equal parts, and no short one at the end
    ],
)
def test_samples_are_cut_into_equal_parts(
    ledger: Ledger, length: int, cut: Cut, expected: list[tuple[int, int]]
) -> None:
    assert plan(ledger, Made(length), cut) == list(range(len(expected)))
    assert ranges(ledger) == expected


def test_there_is_room_for_parts_above_the_mean(ledger: Ledger) -> None:
    plan(ledger, Made(100), Cut("d", 5000))
    for part in ledger.parts():
        start, stop = ranges(ledger)[part.number]
        assert stop is not None
        assert (stop - start) * 190 + 22 <= part.estimate <= (stop - start) * 190 * 1.2 + 5000


@settings(max_examples=60)
@given(length=st.integers(1, 60), grown=st.integers(0, 30), most=st.integers(1, 9), stop=st.integers(0, 8))
def test_every_sample_is_planned_once_whatever_interrupts(
    tmp_path_factory: pytest.TempPathFactory, length: int, grown: int, most: int, stop: int
) -> None:
    with Ledger(tmp_path_factory.mktemp("l") / "l.sqlite") as ledger:
        cut = Cut("d", 10**6, most)
        plan(ledger, Made(length), cut, stop)
        plan(ledger, Made(length), cut)
        cut_once = ranges(ledger)
        assert cut_once == [(at, min(at + most, length)) for at in range(0, length, most)]
        plan(ledger, Made(length + grown), cut)
        assert ranges(ledger)[: len(cut_once)] == cut_once
        held = [number for start, end in ranges(ledger) for number in range(start, end or 0)]
        assert held == list(range(length + grown))
        assert plan(ledger, Made(length + grown), cut) == []


def test_how_it_is_cut_is_decided_once(ledger: Ledger) -> None:
    plan(ledger, Made(10, size=100), Cut("d", 4 * 190), 1)
    plan(ledger, Made(10, size=10_000), Cut("d", 4 * 190))
    assert ranges(ledger) == [(0, 4), (4, 8), (8, 10)]


def test_an_empty_source_is_missing(ledger: Ledger) -> None:
    with pytest.raises(SourceMissing):
        plan(ledger, Made(0), Cut("d", 100))


def test_a_ledger_of_another_kind_of_source_is_refused(ledger: Ledger) -> None:
    ledger.plan(Cut("d", 100).spec(0, FileList.of([(b"a", 1, 1)]), 1), 1)
    with pytest.raises(DriveshardError):
        plan(ledger, Made(5), Cut("d", 100))


def test_gaps_are_planned_again(ledger: Ledger) -> None:
    cut = Cut("d", 10**6, 4)
    plan(ledger, Made(20), cut)
    ledger.drop(1)
    ledger.drop(4)
    assert unplanned(ledger, 20) == [(4, 8), (16, 20)]
    plan(ledger, Made(22), cut)
    assert unplanned(ledger, 22) == []
    assert sorted(ranges(ledger)) == [(0, 4), (4, 8), (8, 12), (12, 16), (16, 20), (20, 22)]


SPAN = st.tuples(st.integers(0, 30), st.integers(0, 8)).map(lambda one: (one[0], one[0] + one[1]))
SPANS = st.lists(SPAN, max_size=6)


@given(spans=SPANS, length=st.integers(0, 40))
def test_what_is_unplanned_is_what_no_part_holds(
    tmp_path_factory: pytest.TempPathFactory, spans: list[tuple[int, int]], length: int
) -> None:
    with Ledger(tmp_path_factory.mktemp("l") / "l.sqlite") as ledger:
        for number, (start, stop) in enumerate(spans):
            ledger.plan(Cut("d", 1).spec(number, SampleRange(start, stop), 1), 1)
        missing = [number for start, stop in unplanned(ledger, length) for number in range(start, stop)]
        assert missing == [
            number for number in range(length) if not any(start <= number < stop for start, stop in spans)
        ]
        assert planned_until(ledger) == max((stop for _, stop in spans), default=0)


# -- iterables -----------------------------------------------------------------------------------------------------


def outcome(ledger: Ledger, number: int, stop: int, *, exhausted: bool = False) -> Part:
    """What the packer reports: the part took samples up to ``stop``."""
    spec = ledger.spec(number)
    assert isinstance(spec.selection, SampleRange)
    done = SampleRange(spec.selection.start, stop)
    count = stop - spec.selection.start
    return Part(number, spec.file_name, 100, "m", f"s{number}", count, count, "a", "b", done, (), exhausted)


def run_stream(ledger: Ledger, ends: list[int], most: int | None = None) -> list[int]:
    """Plan and pack parts that end at ``ends``; the last is where the iterable ends."""
    planner = StreamPlanner(ledger, Cut("d", 1000), Clock())
    numbers = []
    for number in islice(planner.numbers(), most):
        numbers.append(number)
        selection = ledger.selection(number)
        assert isinstance(selection, SampleRange)
        stop = selection.stop or next(end for end in ends if end > selection.start)
        part = outcome(ledger, number, stop, exhausted=stop == ends[-1])
        ledger.packed(part)
        planner.packed(part)
    return numbers


def test_each_part_begins_where_the_one_before_ended(ledger: Ledger) -> None:
    assert run_stream(ledger, [7, 12, 20]) == [0, 1, 2]
    assert ranges(ledger) == [(0, 7), (7, 12), (12, 20)]
    assert ledger.get("exhausted") is True
    assert run_stream(ledger, [7, 12, 20]) == []


def test_a_part_that_was_planned_but_not_packed_comes_first(ledger: Ledger) -> None:
    run_stream(ledger, [7, 99], most=1)
    planner = StreamPlanner(ledger, Cut("d", 1000), Clock())
    assert next(planner.numbers()) == 1  # planned, and then the run was killed

    again = StreamPlanner(ledger, Cut("d", 1000), Clock())
    part = outcome(ledger, 1, 12)
    ledger.packed(part)  # which the pipeline may do before the planner looks
    again.packed(part)
    numbers = again.numbers()
    assert next(numbers) == 2
    assert ledger.selection(2) == SampleRange(12, None)


def test_when_the_iterable_ended_in_an_old_part_nothing_follows(ledger: Ledger) -> None:
    next(StreamPlanner(ledger, Cut("d", 1000), Clock()).numbers())
    again = StreamPlanner(ledger, Cut("d", 1000), Clock())
    again.packed(outcome(ledger, 0, 5, exhausted=True))
    assert list(again.numbers()) == []


def test_a_gap_of_a_lost_ledger_is_filled_before_the_open_end(ledger: Ledger) -> None:
    for number, (start, stop) in enumerate([(0, 5), (10, 15)]):
        part = Part(number, f"d-{number:05d}.zip", 1, "m", "s", 5, 5, "", "", SampleRange(start, stop))
        ledger.adopt(part, f"id{number}", number)
    assert run_stream(ledger, [10, 15, 18]) == [2, 3]
    assert sorted(ranges(ledger)) == [(0, 5), (5, 10), (10, 15), (15, 18)]


def test_a_stop_ends_the_waiting_for_a_part(ledger: Ledger) -> None:
    clock = Clock()
    planner = StreamPlanner(ledger, Cut("d", 1000), clock)
    numbers = planner.numbers()
    next(numbers)
    threading.Timer(0.1, clock.stop.set).start()
    with pytest.raises(Interrupted):
        next(numbers)
