"""Turns the pacing calculators into waits: writes a second, bytes a second, bytes a run, bytes a day."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from driveshard.core.clock import Clock
from driveshard.core.errors import ComeBackLater, DailyCap
from driveshard.core.events import Emit, Waiting
from driveshard.core.formatting import human_seconds, human_size
from driveshard.storage.account_usage import AccountTally
from driveshard.storage.rate_limits import DRIVE_BYTES_A_DAY, Bandwidth, Timetable, TokenBucket

_WORTH_TELLING = 3.0  # seconds; shorter waits are the normal pace


class Allowance:
    """The ``length`` bytes that one request may carry; ``sent`` of them have left."""

    def __init__(self, throttle: Throttle, length: int) -> None:
        self._throttle = throttle
        self.length = length
        self.sent = 0

    def send(self, count: int) -> None:
        """Wait until ``count`` more of them may leave. Raises Interrupted on a stop."""
        self._throttle.pace(count)
        self._throttle.count(count)
        self.sent += count


class Throttle:
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
        self._reserved = 0
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

    @contextmanager
    def request(self, wanted: int, unit: int) -> Iterator[Allowance]:
        """Reserve the bytes of one request: ``wanted``, or as many whole ``unit`` as this run or the day has left. What
        was not sent of them is given back at its end. Raises ComeBackLater when all is used up."""
        length = self._reserve(wanted, unit)
        allowed = Allowance(self, length)
        try:
            yield allowed
        finally:
            with self._lock:
                self._reserved -= length - allowed.sent
            if self._tally is not None:  # also when it is nothing: until now bytes were on their way
                self._tally.add_sent(allowed.sent - length, self._clock.now())

    def _reserve(self, wanted: int, unit: int) -> int:
        now, least = self._clock.now(), min(wanted, unit)
        with self._lock:
            self._check_time(now)
            length = _fitting(wanted, self._left_of_run(least, now), unit)
            if self._tally is not None:
                length = _fitting(length, self._left_of_day(least, now), unit)
                self._tally.add_sent(length, now)
            self._reserved += length
        return length

    def _check_time(self, now: float) -> None:
        if self._until is not None and self._max_duration is not None and self._clock.monotonic() > self._until:
            raise ComeBackLater(
                f"this run has taken the {human_seconds(self._max_duration)} that --max-duration allows",
                advice="Run the same command again to go on.",
                resume_after=now,
            )

    def _left_of_run(self, least: int, now: float) -> int:
        if self._max_transfer is None:
            return sys.maxsize
        left = self._max_transfer - self.sent - self._reserved
        # The first request goes whatever its size, or each run would end as the one before it did.
        if left < least and (self.sent or self._reserved):
            raise ComeBackLater(
                f"this run has sent the {human_size(self._max_transfer)} that --max-transfer allows",
                advice="Run the same command again to go on.",
                resume_after=now,
            )
        return max(left, least)

    def _left_of_day(self, least: int, now: float) -> int:
        assert self._tally is not None
        sent, again = self._tally.sent_since(now)
        if sent + least > self._bytes_a_day:
            raise DailyCap(
                f"{human_size(sent)} were sent in 24 hours, and Drive takes {human_size(self._bytes_a_day)} a day",
                resume_after=again,
            )
        return self._bytes_a_day - sent

    def count(self, count: int) -> None:
        """Note that so many bytes of what was reserved have left."""
        with self._lock:
            self.sent += count
            self._reserved -= count

    def pace(self, count: int) -> None:
        """Wait until ``count`` more bytes of a request may leave. Raises Interrupted on a stop."""
        self._clock.check()
        with self._lock:
            seconds = self._take(count)
        self._wait(seconds, "--bwlimit")
        with self._lock:
            self.seconds_limited += seconds

    def _take(self, count: int) -> float:
        rate = self.rate
        if rate is None:
            return 0.0
        self._bucket.rate = self._bucket.capacity = rate
        return self._bucket.take(count, self._clock.monotonic())

    @property
    def rate(self) -> float | None:
        """The bytes a second that --bwlimit allows now."""
        bwlimit = self._bandwidth.timetable
        if bwlimit is None:
            return None
        local = time.localtime(self._clock.now())
        return bwlimit.rate_at(local.tm_hour * 3600 + local.tm_min * 60 + local.tm_sec)

    def _wait(self, seconds: float, why: str) -> None:
        if seconds > _WORTH_TELLING:
            self._emit(Waiting(why, seconds))
        if seconds > 0:
            self._clock.sleep(seconds)


def _fitting(wanted: int, left: int, unit: int) -> int:
    return wanted if wanted <= left else left // unit * unit
