"""How fast we may go, as pure calculators: state and a time in, seconds to wait out. Nothing here sleeps.

Figures for Google Drive: at most about 3 writes a second sustained for an account (Workspace Admin Help 10445916),
750 GB of uploads in 24 hours (Workspace limits), 325,000 quota units a minute (usage limits of projects made since
May 2026: a read costs 5 units, a list 100, an edit 50, a download 200).
"""

from __future__ import annotations

import bisect
import math
import re
import threading
from collections.abc import Sequence
from dataclasses import dataclass, field

from driveshard.core.errors import UsageError
from driveshard.core.units import parse_rate

DAY = 86_400.0
DRIVE_BYTES_A_DAY = 750 * 10**9
DRIVE_UNITS_A_MINUTE = 325_000
# Drive stops sustained writing at about 3/s; three in any 1.2 s never put 4 into one second.
DEFAULT_WRITES_PER_SECOND = 2.5
_IN_A_ROW = 3
_APART = 0.25  # of the usual distance: time for a "slow down" to be heard before the next one goes

UNITS = {"read": 5, "list": 100, "write": 50, "download": 200}


def next_write(places: Sequence[float], per_second: float, now: float) -> tuple[float, list[float]]:
    """The next free place in a queue of writes whose last ``places`` are given; returns it and the places to remember.

    Times are seconds on any one clock. Up to three writes (fewer at rates below 2 a second) may go in a row, but no
    more than these in the time in which they are due: the few that end a run hardly wait, and many keep the rate.
    """
    row = max(1, min(_IN_A_ROW, math.ceil(per_second)))
    # A place further ahead than a hundred writes is a clock that was set back, not a queue.
    places = [] if places and places[-1] > now + max(60.0, 100 / per_second) else places[-row:]
    place = max(now, places[-1] + _APART / per_second) if places else now
    if len(places) == row:
        place = max(place, places[0] + row / per_second)
    return place, [*places, place][-row:]


@dataclass
class TokenBucket:
    """``rate`` tokens a second, at most ``capacity`` saved up. May run into debt, which later callers wait off."""

    rate: float
    capacity: float
    tokens: float = field(default=-1.0)
    updated: float | None = None

    def __post_init__(self) -> None:
        if self.tokens < 0:
            self.tokens = self.capacity

    def take(self, amount: float, now: float) -> float:
        """Take ``amount`` tokens at ``now`` (monotonic seconds); return the seconds to wait before acting."""
        if self.rate <= 0:
            return 0.0
        if self.updated is not None:
            self.tokens = min(self.capacity, self.tokens + (now - self.updated) * self.rate)
        self.updated = now
        self.tokens -= amount
        return max(0.0, -self.tokens / self.rate)


@dataclass(frozen=True)
class Timetable:
    """A byte rate by time of day. ``entries`` are (seconds since local midnight, bytes a second or None for no
    limit), sorted; before the first entry the last one of the day before holds."""

    entries: tuple[tuple[int, float | None], ...]

    def rate_at(self, second_of_day: float) -> float | None:
        """Bytes a second at that time of day, None for no limit."""
        index = bisect.bisect_right(self.entries, second_of_day, key=lambda entry: entry[0]) - 1
        return self.entries[index][1]


@dataclass
class Bandwidth:
    """The timetable that counts now, None for no limit; it may be changed while a run goes on."""

    timetable: Timetable | None = None


class Pacer:
    """A bucket shared by threads. ``wait_for`` returns seconds; the caller sleeps, so that waiting can be shown
    and interrupted."""

    def __init__(self, bucket: TokenBucket) -> None:
        self._bucket = bucket
        self._lock = threading.Lock()

    def wait_for(self, amount: float, now: float) -> float:
        with self._lock:
            return self._bucket.take(amount, now)


def parse_bwlimit(text: str) -> Timetable | None:
    """A rate (``2M``, ``20 Mbit/s``, ``off``) or a timetable (``08:00,512K 18:00,10M 23:00,off``); None means no limit.

    Raises UsageError.
    """
    words = re.sub(r"(?<=\d)\s+(?=[A-Za-z])", "", text).split()  # 20 Mbit/s is one word
    if len(words) == 1 and "," not in words[0]:
        rate = _parse_rate(words[0])
        return None if rate is None else Timetable(((0, rate),))
    entries = []
    for word in words:
        match = re.fullmatch(r"([01]?\d|2[0-3]):([0-5]\d),(.+)", word)
        if not match:
            raise UsageError(
                f"{word!r} is not a timetable entry", advice="Write it like '08:00,512K 18:00,10M 23:00,off'."
            )
        entries.append((int(match[1]) * 3600 + int(match[2]) * 60, _parse_rate(match[3])))
    if not entries:
        raise UsageError("the bandwidth limit is empty", advice="Write it like 2M, off, or '08:00,512K 18:00,off'.")
    return Timetable(tuple(sorted(entries, key=lambda entry: entry[0])))


def _parse_rate(text: str) -> float | None:
    if text.lower() in ("off", "none", "0"):
        return None
    rate = parse_rate(text)
    if rate < 1:
        raise UsageError(f"{text!r} is less than a byte a second", advice="Write it like 512K or 2M; off is no limit.")
    return float(rate)
