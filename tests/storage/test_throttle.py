"""What leaves stays below every limit: writes a second for all runs of an account, bytes a second, a run, a day."""

from __future__ import annotations

import multiprocessing
import os
import sqlite3
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from driveshard.core.clock import Clock
from driveshard.core.errors import ComeBackLater, DailyCap, Interrupted, TempFull
from driveshard.core.events import Waiting
from driveshard.storage.account_usage import AccountTally
from driveshard.storage.rate_limits import DAY, DRIVE_BYTES_A_DAY, Timetable, parse_bwlimit
from driveshard.storage.throttle import Throttle
from tests.fakes import FakeClock, Heard

NOW = 1_800_000_000.0

HOUR = 3600.0
MIDNIGHT = 1_800_000_000.0 - 1_800_000_000.0 % 86_400


@pytest.fixture
def tally(tmp_path: Path) -> Iterator[AccountTally]:
    tally = AccountTally(tmp_path / "account.sqlite", "drive")
    yield tally
    tally.close()


def request(throttle: Throttle, wanted: int) -> int:
    """Send one request of ``wanted`` bytes, or as many as may go; returns how many went."""
    with throttle.request(wanted, 1) as allowed:
        allowed.send(allowed.length)
    return allowed.sent


def throttle_of(tally: AccountTally | None, clock: Clock, heard: Heard | None = None, **limits: object) -> Throttle:
    return Throttle(clock, Heard() if heard is None else heard, tally, **{"writes_per_second": 0.0, **limits})


# -- writes --------------------------------------------------------------------------------------------------------


def test_writes_get_places_three_at_a_time(tally: AccountTally) -> None:
    assert [tally.reserve_write(2.5, 1000.0) for _ in range(7)] == pytest.approx([0, 0.1, 0.2, 1.2, 1.3, 1.4, 2.4])
    assert tally.reserve_write(2.5, 1001.0) == pytest.approx(1.5)
    assert tally.reserve_write(2.5, 2000.0) == 0


def test_no_rate_means_no_wait(tally: AccountTally) -> None:
    assert [tally.reserve_write(0, 1000.0) for _ in range(3)] == [0, 0, 0]


def test_accounts_do_not_wait_for_each_other(tmp_path: Path, tally: AccountTally) -> None:
    tally.reserve_write(1, 1000.0)
    other = AccountTally(tmp_path / "account.sqlite", "another")
    assert other.reserve_write(1, 1000.0) == 0
    other.close()


def test_a_clock_that_was_set_back_does_not_stop_the_account(tally: AccountTally) -> None:
    tally.reserve_write(1, 1_000_000.0)
    assert tally.reserve_write(1, 1000.0) == 0
    assert tally.reserve_write(1, 1000.0) == 1


@pytest.mark.parametrize("back", [120.0, 3000.0])
def test_a_clock_that_was_set_back_a_little_does_not_either(tally: AccountTally, back: float) -> None:
    tally.reserve_write(2.5, 1_000_000.0)
    assert tally.reserve_write(2.5, 1_000_000.0 - back) == 0


def test_a_full_disk_is_said_clearly(tmp_path: Path) -> None:
    tally = AccountTally(tmp_path / "account.sqlite", "drive")
    pages = tally._db.execute("PRAGMA page_count").fetchone()[0]
    tally._db.execute(f"PRAGMA max_page_count = {pages}")
    with pytest.raises(TempFull, match="full"):
        for hour in range(10_000):
            tally.add_sent(1, hour * HOUR)
    assert tally.reserve_write(1, 1000.0) == 0  # no transaction was left open
    tally.close()


def _write_steadily(path: Path, rate: float, count: int, ready: object, moments: object) -> None:
    tally = AccountTally(path, "drive")
    throttle = Throttle(Clock(), lambda event: None, tally, writes_per_second=rate)
    ready.wait(30)  # type: ignore[attr-defined]
    for _ in range(count):
        throttle.write()
        moments.put(time.time())  # type: ignore[attr-defined]
    tally.close()


def test_two_processes_share_the_pace(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    moments, ready = context.Queue(), context.Barrier(2)
    rate, count = 20.0, 15
    runs = [
        context.Process(target=_write_steadily, args=(tmp_path / "account.sqlite", rate, count, ready, moments))
        for _ in range(2)
    ]
    for run in runs:
        run.start()
    times = sorted(moments.get(timeout=30) for _ in range(2 * count))
    for run in runs:
        run.join(30)

    assert times[-1] - times[0] >= (2 * count - 3) / rate - 0.1
    for first in range(len(times)):
        # A place taken in time may be used late by a busy machine, hence the two more.
        assert sum(times[first] <= moment < times[first] + 0.5 for moment in times) <= rate * 0.5 + 2


def test_many_runs_may_start_at_once(tmp_path: Path) -> None:
    failures: list[BaseException] = []

    def start() -> None:
        try:
            for _ in range(10):
                AccountTally(tmp_path / "account.sqlite", "drive").close()
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=start) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []


@pytest.mark.parametrize("damage", [b"no database at all" * 100, b"SQLite format 3\0" + b"\xff" * 4000])
def test_a_damaged_tally_is_begun_anew(tmp_path: Path, damage: bytes) -> None:
    path = tmp_path / "account.sqlite"
    path.write_bytes(damage)
    tally = AccountTally(path, "drive")
    tally.add_sent(5, 1000.0)
    assert tally.sent_since(1000.0)[0] == 5
    tally.close()


def test_a_long_wait_for_a_place_is_told_and_ends_at_a_stop(tally: AccountTally) -> None:
    clock, heard = FakeClock(), Heard()
    throttle = throttle_of(tally, clock, heard, writes_per_second=0.1)
    throttle.write()
    throttle.write()

    assert clock.slept == [pytest.approx(10.0)]
    assert [event.seconds for event in heard if isinstance(event, Waiting)] == [pytest.approx(10.0)]
    assert throttle.seconds_paced == pytest.approx(10.0)

    clock.stop.set()
    with pytest.raises(Interrupted):
        throttle.write()


# -- bytes ---------------------------------------------------------------------------------------------------------


def test_a_run_sends_no_more_than_it_may() -> None:
    clock = FakeClock()
    throttle = throttle_of(None, clock, max_transfer=1000)
    request(throttle, 600)
    request(throttle, 400)
    with pytest.raises(ComeBackLater) as caught:
        request(throttle, 1)
    assert not isinstance(caught.value, DailyCap)
    assert caught.value.resume_after == clock.now()
    assert throttle.sent == 1000


def test_every_run_sends_one_request_at_least() -> None:
    throttle = throttle_of(None, FakeClock(), max_transfer=1000)
    with throttle.request(10**6, 262_144) as allowed:
        allowed.send(allowed.length)
    with pytest.raises(ComeBackLater):
        request(throttle, 1)


@pytest.mark.parametrize(("most", "expected"), [(1000, 1000), (999, 900), (250, 200), (100, 100), (20, 100)])
def test_a_request_is_cut_to_what_a_run_has_left(most: int, expected: int) -> None:
    with throttle_of(None, FakeClock(), max_transfer=most).request(1000, 100) as allowed:
        assert allowed.length == expected


def test_what_other_requests_have_reserved_is_not_given_twice() -> None:
    throttle = throttle_of(None, FakeClock(), max_transfer=1000)
    with throttle.request(800, 100) as first, throttle.request(800, 100) as second:
        assert (first.length, second.length) == (800, 200)
        first.send(300)
        with pytest.raises(ComeBackLater), throttle.request(100, 100):
            pass
    assert request(throttle, 800) == 700


def test_a_day_is_given_back_what_a_broken_request_did_not_send(tally: AccountTally) -> None:
    clock = FakeClock(MIDNIGHT)
    throttle = throttle_of(tally, clock, bytes_a_day=1000)
    with pytest.raises(OSError), throttle.request(2000, 100) as allowed:
        assert allowed.length == 1000
        assert tally.sent_since(clock.now())[0] == 1000, "a process that is killed now would have sent it"
        allowed.send(300)
        raise OSError
    assert tally.sent_since(clock.now())[0] == 300
    assert request(throttle, 1000) == 700


def test_a_days_bytes_count_for_all_runs(tmp_path: Path, tally: AccountTally) -> None:
    clock = FakeClock(MIDNIGHT + 0.5 * HOUR)
    first = throttle_of(tally, clock, bytes_a_day=1000)
    request(first, 700)
    other_tally = AccountTally(tmp_path / "account.sqlite", "drive")
    clock.time += 2 * HOUR
    second = throttle_of(other_tally, clock, bytes_a_day=1000)
    request(second, 300)
    with pytest.raises(DailyCap) as caught:
        request(second, 1)
    other_tally.close()

    assert caught.value.resume_after == MIDNIGHT + HOUR + 24 * HOUR
    clock.time = caught.value.resume_after + 1
    request(first, 700)
    with pytest.raises(DailyCap):
        request(first, 1)


def test_no_24_hours_hold_more_than_the_days_bytes(tally: AccountTally) -> None:
    clock = FakeClock(MIDNIGHT)
    throttle = throttle_of(tally, clock, bytes_a_day=100)
    sent: list[float] = []
    for _ in range(4000):
        clock.time += 97.0
        try:
            request(throttle, 1)
            sent.append(clock.time)
        except DailyCap:
            continue
    assert len(sent) > 300
    for moment in sent:
        assert sum(moment - 24 * HOUR < other <= moment for other in sent) <= 100


def test_the_time_to_come_back_is_when_bytes_may_go_again(tally: AccountTally) -> None:
    clock = FakeClock(MIDNIGHT + 59 * 60)
    throttle = throttle_of(tally, clock, bytes_a_day=10)
    request(throttle, 10)
    with pytest.raises(DailyCap) as caught:
        request(throttle, 1)
    clock.time = caught.value.resume_after or 0
    request(throttle, 1)


def test_a_plain_folder_has_no_daily_limit() -> None:
    throttle = throttle_of(None, FakeClock(), bytes_a_day=10)
    request(throttle, 10**12)
    assert throttle.sent == 10**12


def test_bytes_leave_at_the_rate() -> None:
    clock = FakeClock()
    throttle = throttle_of(None, clock, bwlimit=parse_bwlimit("1000b"))
    began = clock.now()
    for _ in range(20):
        throttle.pace(500)
    assert clock.now() - began == pytest.approx(10.0)


def test_the_rate_follows_the_time_of_day(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(time, "localtime", time.gmtime)
    clock = FakeClock(MIDNIGHT + 8 * HOUR - 60)
    throttle = throttle_of(None, clock, bwlimit=Timetable(((8 * 3600, 100.0), (20 * 3600, None))))
    throttle.pace(10**9)
    assert clock.slept == []
    clock.time += 120
    throttle.pace(500)
    assert clock.slept == [pytest.approx(5.0)]


@pytest.mark.parametrize(("limit", "expected"), [(None, None), ("off", None), ("1M", 2**20), ("0:00,300K", 300 * 1024)])
def test_the_rate_of_now_is_known(limit: str | None, expected: int | None) -> None:
    assert throttle_of(None, FakeClock(), bwlimit=parse_bwlimit(limit) if limit else None).rate == expected


def test_threads_together_keep_the_rate_of_a_run(tally: AccountTally) -> None:
    throttle = throttle_of(tally, Clock(), bwlimit=parse_bwlimit("40000b"))
    began = time.monotonic()
    threads = [threading.Thread(target=lambda: [throttle.pace(1000) for _ in range(5)]) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert time.monotonic() - began >= 20_000 / 40_000 - 0.05


def test_the_tally_is_an_ordinary_database(tmp_path: Path, tally: AccountTally) -> None:
    tally.add_sent(7, 10 * HOUR)
    tally.add_sent(8, 10 * HOUR + 5)
    with sqlite3.connect(tmp_path / "account.sqlite") as db:
        assert db.execute("SELECT account, hour, bytes FROM sent").fetchall() == [("drive", 10, 15)]
    db.close()


def test_a_place_that_a_slow_down_was_slept_through_is_taken_anew(tally: AccountTally) -> None:
    clock = FakeClock(MIDNIGHT)
    quiet = [True]

    def heed() -> bool:
        if not quiet:
            return False
        quiet.clear()
        clock.sleep(60)
        return True

    throttle = Throttle(clock, Heard(), tally, writes_per_second=1, heed=heed)
    throttle.write()
    assert tally.reserve_write(1, clock.now()) == 1  # somebody else's place comes a second after ours
    assert clock.now() == MIDNIGHT + 60


@pytest.mark.parametrize("ahead", [3600.0, 5 * 3600.0, DAY, 10 * 365 * DAY])
def test_bytes_noted_while_the_clock_was_ahead_do_not_count(tally: AccountTally, ahead: float) -> None:
    tally.add_sent(DRIVE_BYTES_A_DAY, NOW + ahead)
    request(throttle_of(tally, FakeClock(now=NOW)), 1)
    # nor do they when that hour comes
    assert tally.sent_since(NOW + ahead)[0] <= 1


def test_a_clock_that_is_set_right_by_a_little_forgets_nothing(tally: AccountTally) -> None:
    hour = NOW // 3600 * 3600
    tally.add_sent(100, hour + 1)
    assert tally.sent_since(hour - 60)[0] == 100


@pytest.mark.skipif(os.name == "nt", reason="modes of POSIX")
@pytest.mark.parametrize("mode", [None, 0o644])
def test_the_tally_is_its_owners(tmp_path: Path, mode: int | None) -> None:
    path = tmp_path / "account.sqlite"
    if mode is not None:
        path.touch(mode)
    before = os.umask(0)
    try:
        AccountTally(path, "a").close()
    finally:
        os.umask(before)
    assert path.stat().st_mode & 0o777 == 0o600
