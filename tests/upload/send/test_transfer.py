"""One part through one session: chunk sizes, crawling sessions, and always on from what the place holds."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from driveshard.core.errors import (
    Blocked,
    ComeBackLater,
    DailyCap,
    IdInUse,
    Interrupted,
    SessionGone,
    TempLost,
    Throttled,
    Unavailable,
)
from driveshard.core.events import BytesSent
from driveshard.core.model import RemoteFile, UploadSession
from driveshard.storage.base import Destination, Held, Progress, Stored
from driveshard.storage.rate_limits import parse_bwlimit
from driveshard.storage.retry import Patience, Retry
from driveshard.storage.throttle import Budget
from driveshard.upload.send.caution import TRUSTED_AFTER, Caution
from driveshard.upload.send.chunk_size import FIRST_CHUNK, LARGEST_CHUNK, ChunkSizer
from driveshard.upload.send.slow_sessions import Fleet
from driveshard.upload.send.transfer import Crawling, Transfer
from tests.fakes import FakeClock, Heard

UNIT = 256 * 1024
MIB = 2**20


# -- chunk sizes ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("unit", "size", "largest", "most"),
    [
        (UNIT, 2**30, None, LARGEST_CHUNK),
        (UNIT, 8 * MIB, None, MIB),
        (UNIT, 4 * MIB, None, 2 * UNIT),  # an eighth of the upload
        (UNIT, 100, None, UNIT),
        (UNIT, 2**30, 2 * UNIT + 5, 2 * UNIT),
        (UNIT, 2**30, 1, UNIT),
        (3 * MIB, 2**30, None, 15 * MIB),
    ],
)
def test_chunks_begin_small_and_grow_on_a_quick_line(unit: int, size: int, largest: int | None, most: int) -> None:
    sizer = ChunkSizer(unit, size, largest)
    assert sizer.size == min(max(unit, FIRST_CHUNK), most)
    for _ in range(12):
        before = sizer.size
        sizer.took(sizer.size, 0.1)
        assert sizer.size == min(2 * before, most)
    assert sizer.size == most


def test_a_slow_line_gets_smaller_chunks_down_to_the_unit() -> None:
    sizer = ChunkSizer(UNIT, 2**40)
    sizer.size = 5 * UNIT
    sizes = []
    for _ in range(4):
        sizer.took(sizer.size, 20.0)
        sizes.append(sizer.size)
    assert sizes == [2 * UNIT, UNIT, UNIT, UNIT]


@pytest.mark.parametrize(("length", "seconds"), [(FIRST_CHUNK, 3.0), (FIRST_CHUNK - 1, 0.01), (5, 100.0)])
def test_what_says_little_changes_little(length: int, seconds: float) -> None:
    sizer = ChunkSizer(UNIT, 2**40)
    sizer.took(length, seconds)
    assert sizer.size == FIRST_CHUNK


@given(
    size=st.integers(1, 2**36),
    largest=st.none() | st.integers(1, 2**26),
    steps=st.lists(st.floats(0, 100) | st.none(), max_size=30),
)
def test_chunks_stay_multiples_within_their_limits(size: int, largest: int | None, steps: list[float | None]) -> None:
    sizer = ChunkSizer(UNIT, size, largest)
    for step in steps:
        sizer.failed() if step is None else sizer.took(sizer.size, step)
        assert sizer.size % UNIT == 0
        assert UNIT <= sizer.size <= max(UNIT, min(size // 8, LARGEST_CHUNK, largest or LARGEST_CHUNK))


# -- crawling sessions ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("rates", "rate", "watched", "remaining", "size", "expected"),
    [
        ([10e6] * 5, 0.1e6, 10, 100e6, 100e6, True),
        ([10e6] * 2, 0.1e6, 10, 100e6, 100e6, False),  # too few siblings to compare with
        ([10e6] * 5, 0.1e6, 4, 100e6, 100e6, False),  # not watched for long enough
        ([10e6] * 5, 2e6, 10, 100e6, 100e6, False),  # slow, not crawling
        ([10e6] * 5, 0.1e6, 10, 1e6, 100e6, False),  # nearly done: sending all again would take longer
        ([10e6] * 5, 0.0, 10, 100e6, 100e6, True),
        ([0.1e6] * 5, 0.1e6, 10, 100e6, 100e6, False),  # everybody crawls
    ],
)
def test_a_session_is_replaced_when_that_pays(
    rates: list[float], rate: float, watched: float, remaining: float, size: float, expected: bool
) -> None:
    fleet = Fleet()
    for number, one in enumerate(rates):
        fleet.report(number, int(one), 1.0)
    for _ in range(9):
        fleet.report(99, int(rate), 1.0)  # its own rate is not its siblings'
    assert fleet.crawls(99, rate, watched, int(remaining), int(size)) is expected


# -- transfers -----------------------------------------------------------------------------------------------------

Trouble = Callable[["Place", int, bytes], Progress | None]


class Place:
    """Holds one upload in memory. ``troubles`` are taken one a send: an error to raise before anything is held, or a
    function (place, offset, data) that may hold something and returns the progress, raises, or returns None for the
    usual way. ``rate`` in bytes a second moves the clock on."""

    chunk_unit = UNIT

    def __init__(self, clock: FakeClock, size: int) -> None:
        self.clock = clock
        self.size = size
        self.data = b""
        self.rate = 1e9
        self.troubles: list[Exception | Trouble | None] = []
        self.refusals: list[Exception | None] = []  # of questions; None answers one
        self.sends: list[tuple[int, int]] = []
        self.queries = 0
        self.done = False

    def query(self, session: UploadSession, size: int) -> Progress:
        self.queries += 1
        if refusal := self.refusals.pop(0) if self.refusals else None:
            raise refusal
        return self.progress()

    def send(self, session: UploadSession, offset: int, data: bytes | memoryview, size: int) -> Progress:
        assert len(data) % UNIT == 0 or offset + len(data) == size
        self.sends.append((offset, len(data)))
        self.clock.time += len(data) / self.rate
        trouble = self.troubles.pop(0) if self.troubles else None
        if isinstance(trouble, Exception):
            raise trouble
        if trouble is not None and (answer := trouble(self, offset, bytes(data))) is not None:
            return answer
        self.hold(offset, bytes(data))
        self.done = len(self.data) == self.size
        return self.progress()

    def hold(self, offset: int, data: bytes) -> None:
        assert offset <= len(self.data)
        self.data += data[len(self.data) - offset :]

    def progress(self) -> Progress:
        return Stored(RemoteFile("id", "a.zip", self.size)) if self.done else Held(len(self.data))


def lose_reply(place: Place, offset: int, data: bytes) -> None:
    """All is held, and nobody hears of it."""
    place.hold(offset, data)
    place.done = len(place.data) == place.size
    raise Unavailable("reset")


def keep_half(place: Place, offset: int, data: bytes) -> Progress:
    place.hold(offset, data[: len(data) // 2 // UNIT * UNIT])
    return place.progress()


def forget_all(place: Place, offset: int, data: bytes) -> Progress:
    place.data = b""
    return place.progress()


def not_finished(place: Place, offset: int, data: bytes) -> Progress:
    place.hold(offset, data)
    return Held(len(place.data))


class Bench:
    """What a transfer needs around it."""

    def __init__(self, tmp_path: Path, size: int, *, held: int | None = None, **limits: Any) -> None:
        self.clock = FakeClock()
        self.heard = Heard()
        self.content = random.Random(size).randbytes(size)
        self.path = tmp_path / "a.zip"
        self.path.write_bytes(self.content)
        self.place = Place(self.clock, size)
        self.place.data = self.content[: held or 0]
        self.fleet = Fleet()
        self.caution = Caution(self.clock)
        for _ in range(TRUSTED_AFTER):
            self.caution.went_well()
        self.confirmed: list[int] = []
        self.budget = Budget(self.clock, self.heard, None, writes_per_second=0, **limits)
        self.fresh = held is None
        self.may_replace = True

    def retry(self) -> Retry:
        return Retry(self.clock, Patience(first_contact=12), self.heard, random.Random(1))

    def run(self, retry: Retry | None = None) -> RemoteFile:
        with self.path.open("rb", buffering=0) as source:
            return Transfer(
                cast(Destination, self.place),
                UploadSession("id", "uri", 0.0),
                source,
                number=1,
                name="a.zip",
                size=len(self.content),
                chunks=ChunkSizer(UNIT, len(self.content), self.budget.chunk_limit(UNIT)),
                budget=self.budget,
                fleet=self.fleet,
                caution=self.caution,
                retry=retry or self.retry(),
                clock=self.clock,
                emit=self.heard,
                confirmed=self.confirmed.append,
                may_replace=self.may_replace,
                fresh=self.fresh,
            ).run()


def test_a_remembered_rate_costs_little_when_the_line_is_slower_now() -> None:
    fleet = Fleet(remembered=100e6)
    assert fleet.crawls(0, 1e6, 6, 400_000_000, 512_000_000)
    assert not fleet.crawls(0, 1e6, 6, 51_000_000, 512_000_000)  # nine tenths are there
    fleet.forget()
    assert not fleet.crawls(0, 1e6, 6, 400_000_000, 512_000_000)


MakeBench = Callable[..., Bench]


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[MakeBench]:
    yield lambda size, **options: Bench(tmp_path, size, **options)


@pytest.mark.parametrize("size", [1, 22, UNIT - 1, UNIT, UNIT + 1, 3 * UNIT, 20 * MIB + 7])
def test_the_whole_file_arrives_without_a_question(bench: MakeBench, size: int) -> None:
    one = bench(size)
    assert one.run().id == "id"
    assert one.place.data == one.content
    assert one.place.queries == 0
    assert sum(length for _, length in one.place.sends) == size == one.budget.sent


@pytest.mark.parametrize("held", [0, UNIT, 5 * UNIT, 3 * MIB])
def test_a_session_of_an_earlier_run_is_asked_first(bench: MakeBench, held: int) -> None:
    one = bench(3 * MIB, held=held)
    one.run()
    assert one.place.data == one.content
    assert one.place.queries >= 1
    assert one.budget.sent == max(3 * MIB - held, UNIT)
    assert one.place.sends[0][0] == min(held, 3 * MIB - UNIT)


def test_an_upload_that_had_finished_sends_nothing(bench: MakeBench) -> None:
    one = bench(MIB, held=MIB)
    one.place.done = True
    one.run()
    assert one.place.sends == []


@pytest.mark.parametrize("trouble", [Unavailable("503"), Throttled("slow down"), lose_reply, keep_half, forget_all])
@pytest.mark.parametrize("at", [0, 2, 7])
def test_after_trouble_it_goes_on_from_what_is_held(bench: MakeBench, at: int, trouble: Exception | Trouble) -> None:
    one = bench(32 * MIB)
    one.place.troubles = [None] * at + [trouble]
    one.run()

    assert one.place.data == one.content
    offset, length = one.place.sends[at]
    lost = {lose_reply: 0, forget_all: offset + length}.get(cast(Trouble, trouble), length)
    assert 0 <= one.budget.sent - 32 * MIB <= lost
    assert one.place.queries <= TRUSTED_AFTER + 3  # until sending can be trusted again


def test_a_lost_last_reply_costs_nothing(bench: MakeBench) -> None:
    one = bench(3 * UNIT)
    one.place.troubles = [None, None, lose_reply]
    one.run()
    assert one.budget.sent == 3 * UNIT
    assert one.place.queries <= 3


def test_questions_go_ahead_of_the_first_chunks(bench: MakeBench) -> None:
    one = bench(60 * MIB)
    one.caution.failed()
    one.run()
    assert one.place.queries == TRUSTED_AFTER + 3
    assert one.budget.sent == 60 * MIB


def test_a_refused_question_costs_no_bytes(bench: MakeBench) -> None:
    one = bench(10 * UNIT)
    one.caution.failed()
    one.place.refusals = [Unavailable("503")] * 3
    one.run()
    assert one.place.data == one.content
    assert one.budget.sent == 10 * UNIT


def test_answered_questions_reset_the_attempts(bench: MakeBench) -> None:
    one = bench(10 * UNIT)
    one.caution.failed()
    one.place.refusals = [None, Unavailable("503")] * 20
    one.run()
    assert one.place.data == one.content


def test_a_block_heard_of_while_waiting_for_bandwidth_stops_the_chunk(bench: MakeBench) -> None:
    one = bench(4 * MIB, bwlimit=parse_bwlimit("1M"))
    retry = one.retry()

    def blocked() -> None:
        raise Blocked("a robot")

    def wait(seconds: float) -> None:
        one.clock.time += seconds
        with suppress(Blocked):
            retry.call(blocked, doing="x")  # as another thread hears it meanwhile

    one.clock.sleep = wait  # type: ignore[method-assign]
    with pytest.raises(Blocked):
        one.run(retry)
    assert one.place.sends == []


def test_bytes_accepted_reset_the_attempts(bench: MakeBench) -> None:
    one = bench(8 * MIB)
    for _ in range(7):
        one.place.troubles += [Unavailable("503")] * 11 + [None]
    one.run()
    assert one.place.data == one.content


def test_replies_that_are_always_lost_still_make_progress(bench: MakeBench) -> None:
    one = bench(8 * MIB)
    one.place.troubles = [lose_reply] * 40
    one.run()
    assert one.budget.sent == 8 * MIB


@pytest.mark.parametrize("trouble", [Unavailable("reset"), Throttled("slow down"), lose_reply])
def test_after_a_loss_less_is_risked(bench: MakeBench, trouble: Exception | Trouble) -> None:
    """The chunks had grown; the one after a loss is half as large, and no larger one follows at once."""
    one = bench(64 * MIB)
    grown = 5
    one.place.troubles = [*[None] * grown, trouble]
    one.run()
    assert one.place.data == one.content
    lengths = [length for _, length in one.place.sends]
    assert lengths[grown] == lengths[0] * 2**grown == 8 * MIB
    assert lengths[grown + 1] == lengths[grown] // 2


def test_a_place_that_never_keeps_anything_is_given_up(bench: MakeBench) -> None:
    one = bench(2 * MIB)
    one.place.troubles = [forget_all] * 100
    with pytest.raises(Unavailable):
        one.run()
    assert len(one.place.sends) <= 13


def test_an_upload_that_is_whole_but_never_finishes_is_given_up(bench: MakeBench) -> None:
    one = bench(2 * MIB)
    one.place.troubles = [not_finished] * 1000
    with pytest.raises(Unavailable):
        one.run()
    assert len(one.place.sends) < 40
    assert one.clock.slept


def test_an_upload_that_finishes_late_is_waited_for(bench: MakeBench) -> None:
    one = bench(2 * UNIT)
    one.place.troubles = [None, not_finished, not_finished, not_finished]
    one.run()
    assert one.place.data == one.content


def test_a_session_that_goes_back_again_and_again_is_given_up(bench: MakeBench) -> None:
    one = bench(64 * MIB)
    one.place.troubles = [None, None, None, forget_all] * 5000
    with pytest.raises((SessionGone, Unavailable)):
        one.run()
    assert one.budget.sent <= 6 * 64 * MIB + 64 * LARGEST_CHUNK


@pytest.mark.parametrize("error", [SessionGone("404"), IdInUse("409"), DailyCap("today"), KeyError("x")])
def test_what_is_not_to_be_retried_passes_through(bench: MakeBench, error: Exception) -> None:
    one = bench(MIB)
    one.place.troubles = [None, error]
    with pytest.raises(type(error)):
        one.run()
    assert len(one.place.sends) == 2


@pytest.mark.parametrize("length", [0, 5, UNIT, MIB - 1])
def test_a_temp_file_that_became_shorter_is_lost(bench: MakeBench, length: int) -> None:
    one = bench(MIB)
    one.path.write_bytes(one.content[:length])
    with pytest.raises(TempLost):
        one.run()


def test_a_stop_ends_it_between_two_chunks(bench: MakeBench) -> None:
    one = bench(8 * MIB)

    def stop(place: Place, offset: int, data: bytes) -> None:
        one.clock.stop.set()

    one.place.troubles = [None, stop]
    with pytest.raises(Interrupted):
        one.run()
    assert len(one.place.sends) == 2
    assert one.confirmed[-1] == len(one.place.data)


def test_offsets_are_told_as_they_are_confirmed(bench: MakeBench) -> None:
    one = bench(4 * UNIT)
    one.place.troubles = [None, Unavailable("x")]
    one.run()
    assert one.confirmed == [UNIT, 2 * UNIT, 3 * UNIT]
    sent = [event for event in one.heard if isinstance(event, BytesSent)]
    assert sum(event.sent for event in sent) == 4 * UNIT
    assert sent[-1].offset == 4 * UNIT


def test_a_crawling_session_is_left(bench: MakeBench) -> None:
    one = bench(64 * MIB)
    one.place.rate = 64 * 1024
    for number in range(5, 10):
        one.fleet.report(number, 100 * MIB, 1.0)
    with pytest.raises(Crawling):
        one.run()
    assert len(one.place.data) < 8 * MIB


def test_a_crawling_session_is_kept_when_others_crawled_before(bench: MakeBench) -> None:
    one = bench(2 * MIB)
    one.place.rate = 64 * 1024
    one.may_replace = False
    for number in range(5, 10):
        one.fleet.report(number, 100 * MIB, 1.0)
    one.run()
    assert one.place.data == one.content


def test_a_limited_rate_is_no_crawling_session(bench: MakeBench) -> None:
    one = bench(8 * MIB, bwlimit=parse_bwlimit("100K"))
    for number in range(5, 10):
        one.fleet.report(number, 100 * MIB, 1.0)
    one.run()
    assert sum(one.clock.slept) == pytest.approx(80, rel=0.1)


def test_a_runs_last_bytes_are_not_begun(bench: MakeBench) -> None:
    one = bench(8 * MIB, max_transfer=3 * MIB)
    with pytest.raises(ComeBackLater):
        one.run()
    assert one.budget.sent <= 3 * MIB
    assert len(one.place.data) == one.budget.sent
