"""How fast bytes leave, and how long the rest takes: calm numbers from bytes that are told of in lumps.

A chunk is told of when it has arrived, perhaps half a minute after it was begun. Counted in that moment, the rate of an
even line would go up and down like a saw; so its bytes are spread over the time it took.
"""

from __future__ import annotations

import math

WINDOW = 30.0  # seconds over which the rate is taken
_STEP = 0.5  # seconds; bytes are kept in sums of so long
_STEADY = 1.0  # seconds before a rate is worth showing
_OVERDUE = 1.5  # times its usual time for which a chunk under way is believed to move
_SHORTEST, _LONGEST = 1.0, 20.0  # seconds in which the time left follows what is measured


class RateMeter:
    """Bytes a second over the last half minute. ``key`` is whatever sends one lump after the other."""

    def __init__(self) -> None:
        self._sums: dict[int, float] = {}
        self._last: dict[int, float] = {}  # when each sender's last lump ended
        self._usual: dict[int, tuple[float, float]] = {}  # (bytes, seconds) of that lump
        self._newest = (0.0, 0.0)
        self._since: float | None = None

    @property
    def size(self) -> int:
        """Sums that are kept."""
        return len(self._sums)

    def begin(self, key: int, now: float) -> None:
        """The sender starts."""
        self._since = now if self._since is None else self._since
        self._last[key] = now
        self._usual.setdefault(key, self._newest)

    def end(self, key: int) -> None:
        """It has ended."""
        self._last.pop(key, None)
        self._usual.pop(key, None)

    def note(self, key: int, count: int, now: float) -> None:
        """``count`` more bytes arrived, sent since the sender's last lump."""
        if self._since is None or key not in self._last:
            self.begin(key, now)
        before, self._last[key] = self._last[key], now
        if not count:
            return
        self._usual[key] = self._newest = (count, now - before)
        begin = max(before, now - WINDOW)
        share = count if now <= before else count * (now - begin) / (now - before)
        first, last = int(begin / _STEP), int(now / _STEP)
        for step in range(first, last + 1):
            self._sums[step] = self._sums.get(step, 0.0) + share / (last + 1 - first)
        self._forget(now)

    def rate(self, now: float) -> float | None:
        """None before that can be said, and when nothing left for half a minute."""
        if self._since is None or now - self._since < _STEADY:
            return None
        self._forget(now)
        moved = sum(self._sums.values()) + sum(self._under_way(key, now) for key in self._last)
        return moved / min(WINDOW, now - self._since) if self._sums else None

    def _under_way(self, key: int, now: float) -> float:
        """What a sender has on the line, if it is as fast as it was."""
        count, seconds = self._usual[key]
        waited = now - self._last[key]
        return count * min(waited, _OVERDUE * seconds) / seconds if seconds > 0 and waited < WINDOW else 0.0

    def _forget(self, now: float) -> None:
        oldest = int((now - WINDOW) / _STEP)
        for step in [step for step in self._sums if step < oldest]:
            del self._sums[step]


class TimeLeft:
    """Follows what is measured slowly, so that it can be read: quickly at first, while little is known."""

    def __init__(self) -> None:
        self._end: float | None = None
        self._first = self._when = 0.0

    def told(self, seconds: float | None, now: float) -> float | None:
        """What to show when ``seconds`` are measured now; None, which begins anew, when that cannot be said."""
        if seconds is None:
            self._end = None
            return None
        if self._end is None:
            self._end, self._first = now + seconds, now
        else:
            pace = min(max((now - self._first) / 3, _SHORTEST), _LONGEST, max(seconds / 4, _SHORTEST))
            self._end += (now + seconds - self._end) * (1 - math.exp(-(now - self._when) / pace))
        self._when = now
        return max(0.0, self._end - now)
