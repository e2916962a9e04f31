"""Turns the pacing calculators into waits: writes a second, bytes a second, bytes a run, bytes a day."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from driveshard.core.clock import Clock
from driveshard.core.errors import ComeBackLater, DailyCap
from driveshard.core.events import Emit, Waiting
from driveshard.core.formatting import human_seconds, human_size
from driveshard.storage.account_usage import AccountTally
from driveshard.storage.rate_limits import DRIVE_BYTES_A_DAY, Bandwidth, Timetable, TokenBucket

_WORTH_TELLING = 3.0  # seconds; shorter waits are the normal pace


class Budget:
    """One run's share of the account. ``tally`` is None for a destination without limits (a plain folder)."""

    def __init__(
        self,
        clock: Clock,
        emit: Emit,
        tally: AccountTally | None,
        *,
        writes_per_second: float,
        bwlimit: Timetable | Bandwidth | None = None,
        max_transfer: int | None = None,
        max_duration: float | None = None,
        bytes_a_day: int = DRIVE_BYTES_A_DAY,
        heed: Callable[[], bool] = lambda: False,
    ) -> None:
        self._clock = clock
        self._emit = emit
        self._tally = tally
        self._per_second = writes_per_second
        self._bandwidth = bwlimit if isinstance(bwlimit, Bandwidth) else Bandwidth(bwlimit)
        self._max_duration = max_duration
        self._until = None if max_duration is None else clock.monotonic() + max_duration
        self._max_transfer = max_transfer
        self._bytes_a_day = bytes_a_day
        self._heed = heed  # waits out a "slow down" that Drive said meanwhile; True if there was one
        self._bucket = TokenBucket(0.0, 0.0)
        self._lock = threading.Lock()
        self.sent = 0
        self.seconds_paced = self.seconds_limited = 0.0  # waited for a turn to write; because of --bwlimit

    def write(self) -> None:
        """Wait for this run's place in the account's queue of writes. Raises Interrupted."""
        while True:
            if self._tally is not None:
                seconds = self._tally.reserve_write(self._per_second, self._clock.now())
                self._wait(seconds, "Drive takes few writes a second")
                with self._lock:
                    self.seconds_paced += seconds
            if not self._heed():
                return  # else the place is past, and all who waited would write at once

    def send(self, count: int) -> None:
        """Wait until ``count`` more bytes may leave. Raises ComeBackLater when this run's bytes or time, or the day's
        bytes, are used up, Interrupted on a stop."""
        now = self._clock.now()
        with self._lock:
            # The first chunk goes whatever its size, or each run would end as the one before it did.
            if self._max_transfer is not None and self.sent and self.sent + count > self._max_transfer:
                raise ComeBackLater(
                    f"this run has sent the {human_size(self._max_transfer)} that --max-transfer allows",
                    advice="Run the same command again to go on.",
                    resume_after=now,
                )
            self._check_time(now)
            self._check_day(count, now)
            self.sent += count
            seconds = self._take(count)
        if self._tally is not None:
            self._tally.add_sent(count, now)
        self._wait(seconds, "--bwlimit")
        with self._lock:
            self.seconds_limited += seconds

    def _check_time(self, now: float) -> None:
        if self._until is not None and self._max_duration is not None and self._clock.monotonic() > self._until:
            raise ComeBackLater(
                f"this run has taken the {human_seconds(self._max_duration)} that --max-duration allows",
                advice="Run the same command again to go on.",
                resume_after=now,
            )

    def _check_day(self, count: int, now: float) -> None:
        if self._tally is None:
            return
        sent, again = self._tally.sent_since(now)
        if sent + count > self._bytes_a_day:
            raise DailyCap(
                f"{human_size(sent)} were sent in 24 hours, and Drive takes {human_size(self._bytes_a_day)} a day",
                resume_after=again,
            )

    def _take(self, count: int) -> float:
        bwlimit = self._bandwidth.timetable
        if bwlimit is None:
            return 0.0
        local = time.localtime(self._clock.now())
        rate = bwlimit.rate_at(local.tm_hour * 3600 + local.tm_min * 60 + local.tm_sec)
        if rate is None:
            return 0.0
        self._bucket.rate = self._bucket.capacity = rate
        return self._bucket.take(count, self._clock.monotonic())

    def chunk_limit(self, unit: int) -> int | None:
        """The largest chunk that keeps a limited rate smooth (about two seconds' worth), or None."""
        bwlimit = self._bandwidth.timetable
        if bwlimit is None:
            return None
        slowest = min((rate for _, rate in bwlimit.entries if rate), default=None)
        return None if slowest is None else max(unit, int(slowest * 2) // unit * unit)

    def _wait(self, seconds: float, why: str) -> None:
        if seconds > _WORTH_TELLING:
            self._emit(Waiting(why, seconds))
        if seconds > 0:
            self._clock.sleep(seconds)
