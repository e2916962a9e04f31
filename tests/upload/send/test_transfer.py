"""One part through one session: request sizes, and always on from what the place holds."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from driveshard.core.errors import (
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
from driveshard.storage.base import Destination, Held, Piece, Progress, Stored
from driveshard.storage.rate_limits import parse_bwlimit
from driveshard.storage.retry import Patience, Retry
from driveshard.storage.throttle import Throttle
from driveshard.upload.ledger.ledger import Ledger
from driveshard.upload.ledger.rows import LedgerPart
from driveshard.upload.send.load import FileLoad
from driveshard.upload.send.request_size import RequestSizer
from driveshard.upload.send.transfer import Transfer
from driveshard.upload.surroundings import Surroundings
from tests.fakes import FakeClock, Heard

UNIT = 256 * 1024
MIB = 2**20


# -- request sizes -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("rate", "sizes"),
    [
        (MIB, [8 * MIB, 20 * MIB, 20 * MIB]),
        (100 * 1024, [8 * MIB, 2000 * 1024 // UNIT * UNIT] * 1 + [2000 * 1024 // UNIT * UNIT]),
        (100 * MIB, [8 * MIB, 256 * MIB, 2000 * MIB, 2000 * MIB]),  # 32 times as many at most
        (1, [8 * MIB, UNIT, UNIT]),
    ],
)
def test_a_request_takes_twenty_seconds_of_the_line(rate: float, sizes: list[int]) -> None:
    sizer = RequestSizer(UNIT)
    for size in sizes:
        assert sizer.size == size
        sizer.took(size, size / rate)


@pytest.mark.parametrize(("rate", "expected"), [(None, 8 * MIB), (10e6, 8 * MIB), (100_000, 7 * UNIT), (5, UNIT)])
def test_a_limit_that_is_known_counts_from_the_first_request_on(rate: float | None, expected: int) -> None:
    assert RequestSizer(UNIT, rate).size == expected


def test_each_failure_halves_what_is_risked_until_things_go_well() -> None:
    sizer = RequestSizer(UNIT)
    sizer.took(20 * MIB, 20.0)
    seconds = []
    for _ in range(8):
        sizer.failed()
        seconds.append(sizer.size / MIB)
    assert seconds == [10, 5, 2.5, 1.25, 0.5, 0.25, 0.25, 0.25]
    well = []
    for _ in range(11):
        sizer.took(sizer.size, sizer.size / MIB)
        well.append(sizer.size / MIB)
    assert well == sorted(well) and well[0] < 1 and well[-1] == 20


def test_a_short_last_request_says_little_of_the_line() -> None:
    sizer = RequestSizer(UNIT)
    sizer.took(20 * MIB, 20.0)
    sizer.took(100, 0.3)
    assert sizer.size == 20 * MIB


@given(st.lists(st.none() | st.tuples(st.integers(1, 2**34), st.floats(0, 1000)), max_size=30))
def test_sizes_are_whole_units(steps: list[tuple[int, float] | None]) -> None:
    sizer = RequestSizer(UNIT)
    for step in steps:
        sizer.failed() if step is None else sizer.took(*step)
        assert sizer.size >= UNIT and sizer.size % UNIT == 0


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

    def send(self, session: UploadSession, offset: int, piece: Piece, size: int) -> Progress:
        data = b"".join(map(bytes, piece.blocks))
        assert len(data) == piece.length
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
        self.offsets: list[int] = []
        self.throttle = Throttle(self.clock, self.heard, None, writes_per_second=0, **limits)
        self.sizer = RequestSizer(UNIT, UNIT / 20)  # begins with one unit
        self.fresh = held is None

    def retry(self) -> Retry:
        return Retry(self.clock, Patience(first_contact=12), self.heard, random.Random(1))

    def run(self, retry: Retry | None = None) -> RemoteFile:
        around = Surroundings(
            cast(Destination, self.place),
            cast(Ledger, self),
            retry or self.retry(),
            self.throttle,
            self.clock,
            self.heard,
        )
        part = cast(LedgerPart, SimpleNamespace(number=1, file_name="a.zip", size=len(self.content)))
        with closing(FileLoad(self.path)) as load:
            session = UploadSession("id", "uri", 0.0)
            return Transfer(around, part, session, load, self.sizer, fresh=self.fresh).run()

    def confirmed(self, number: int, offset: int) -> None:
        """As the ledger's."""
        self.offsets.append(offset)


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
    assert sum(length for _, length in one.place.sends) == size == one.throttle.sent


@pytest.mark.parametrize("held", [0, UNIT, 5 * UNIT, 3 * MIB])
def test_a_session_of_an_earlier_run_is_asked_first(bench: MakeBench, held: int) -> None:
    one = bench(3 * MIB, held=held)
    one.run()
    assert one.place.data == one.content
    assert one.place.queries >= 1
    assert one.throttle.sent == max(3 * MIB - held, UNIT)
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
    one.place.rate = MIB / 5  # requests of up to 4 MiB
    one.place.troubles = [None] * at + [trouble]
    one.run()

    assert one.place.data == one.content
    offset, length = one.place.sends[at]
    lost = {lose_reply: 0, forget_all: offset + length}.get(cast(Trouble, trouble), length)
    assert 0 <= one.throttle.sent - 32 * MIB <= lost
    assert one.place.queries <= 3


def test_a_lost_last_reply_costs_nothing(bench: MakeBench) -> None:
    one = bench(3 * UNIT)
    one.place.troubles = [None, None, lose_reply]
    one.run()
    assert one.throttle.sent == 3 * UNIT
    assert one.place.queries <= 3


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
    assert one.throttle.sent == 8 * MIB


@pytest.mark.parametrize("trouble", [Unavailable("reset"), Throttled("slow down"), lose_reply])
def test_after_a_loss_less_is_risked(bench: MakeBench, trouble: Exception | Trouble) -> None:
    """The requests had grown; the one after a loss is half as large, and no larger one follows at once."""
    one = bench(64 * MIB)
    one.place.rate = MIB / 2
    one.place.troubles = [None, None, trouble]
    one.run()
    assert one.place.data == one.content
    lengths = [length for _, length in one.place.sends]
    assert lengths[:4] == [UNIT, 8 * MIB, 10 * MIB, 5 * MIB]


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
    one.place.rate = MIB / 5
    one.place.troubles = [None, None, None, forget_all] * 5000
    with pytest.raises((SessionGone, Unavailable)):
        one.run()
    assert one.throttle.sent <= 4 * 64 * MIB + 65 * 8 * MIB


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


def test_a_stop_ends_it_within_a_request(bench: MakeBench) -> None:
    one = bench(8 * MIB)
    one.place.rate = MIB
    read = one.place.send

    def send(session: UploadSession, offset: int, piece: Piece, size: int) -> Progress:
        blocks = iter(piece.blocks)
        next(blocks)
        one.clock.stop.set()
        next(blocks)
        return read(session, offset, piece, size)

    one.sizer = RequestSizer(UNIT)
    one.place.send = send  # type: ignore[method-assign]
    with pytest.raises(Interrupted):
        one.run()
    assert one.throttle.sent == UNIT


def test_offsets_are_told_as_they_are_confirmed(bench: MakeBench) -> None:
    one = bench(4 * UNIT)
    one.place.rate = UNIT / 20
    one.place.troubles = [None, Unavailable("x")]
    one.run()
    assert one.offsets == [UNIT, 2 * UNIT, 3 * UNIT]
    sent = [event for event in one.heard if isinstance(event, BytesSent)]
    assert sum(event.sent for event in sent) == one.throttle.sent == 5 * UNIT
    assert sent[-1].offset == 4 * UNIT


def test_progress_is_told_within_a_request(bench: MakeBench) -> None:
    one = bench(8 * MIB, bwlimit=parse_bwlimit("1M"))
    one.sizer = RequestSizer(UNIT)
    one.run()
    assert len(one.place.sends) == 1
    offsets = [event.offset for event in one.heard if isinstance(event, BytesSent)]
    assert offsets == sorted(offsets) and len(offsets) > 20


def test_a_limited_rate_is_kept(bench: MakeBench) -> None:
    one = bench(8 * MIB, bwlimit=parse_bwlimit("100K"))
    one.run()
    assert sum(one.clock.slept) == pytest.approx(80, rel=0.1)
    assert max(one.clock.slept) < 1, "it goes smoothly"


def test_a_runs_last_bytes_are_not_begun(bench: MakeBench) -> None:
    one = bench(8 * MIB, max_transfer=3 * MIB)
    with pytest.raises(ComeBackLater):
        one.run()
    assert one.throttle.sent <= 3 * MIB
    assert len(one.place.data) == one.throttle.sent
