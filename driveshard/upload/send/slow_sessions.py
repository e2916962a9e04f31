"""Which session crawls."""

from __future__ import annotations

import statistics
import threading
from collections import deque

_SIBLINGS = 3  # chunks of other parts, from which on their rates tell what is usual


class Fleet:
    """The rates of sibling sessions, to know which one crawls. Rates are bytes a second.

    ``remembered`` is the usual rate of a run that ended shortly before: what it left unfinished may be just the session
    that crawls, which has no siblings any more. The line may be slower by now, too, so a session that holds most of its
    part is not given up for it, and ``forget`` it once a session was.
    """

    _ENOUGH_SECONDS = 5.0
    _FAR_BELOW = 8.0

    def __init__(self, remembered: float | None = None) -> None:
        self._lock = threading.Lock()
        self._rates: deque[tuple[int, float]] = deque(maxlen=24)
        self._remembered = remembered

    def report(self, number: int, length: int, seconds: float) -> None:
        with self._lock:
            self._rates.append((number, length / max(seconds, 1e-6)))

    def usual(self, beside: int | None = None) -> float | None:
        """The median of the last chunks' rates, those of part ``beside`` left out; None when too few are known."""
        with self._lock:
            rates = [one for number, one in self._rates if number != beside]
        return statistics.median(rates) if len(rates) >= _SIBLINGS else self._remembered

    def forget(self) -> None:
        """From now on only this run's own rates count."""
        with self._lock:
            self._remembered = None

    def crawls(self, number: int, rate: float, watched: float, remaining: int, size: int) -> bool:
        """Whether part ``number``, which made ``rate`` over ``watched`` seconds, should begin a new session: it is far
        below its siblings, and sending everything again at their rate ends well before the rest at its own."""
        usual = self.usual(number)
        if usual is None or watched < self._ENOUGH_SECONDS:
            return False
        if usual == self._remembered and remaining < size / 8:
            return False
        return rate * self._FAR_BELOW < usual and 2 * size / usual + self._ENOUGH_SECONDS < remaining / max(rate, 1.0)
