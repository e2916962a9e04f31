"""How many bytes the next request carries."""

from __future__ import annotations

import threading

FIRST_REQUEST = 8 * 1024 * 1024
SECONDS = 20.0  # of the line that a request takes, and at most so many are lost with it
_FEWEST = 0.5  # seconds, however often requests fail
_GROWTH = 1.5  # of the seconds, after a failure, with each request that goes well
_BOLDEST = 32  # times the last one
_NEARLY = 1.5  # times the size; a rest of little would have a round trip of its own


class RequestSizer:
    """Requests sized by time, as the last ones of all uploads of a run took it: large enough that round trips do not
    matter, small enough that one which is lost costs seconds. Sizes are bytes and multiples of ``unit``.

    A failure halves the seconds, since a line that breaks often should lose little each time. ``rate`` is a limit in
    bytes a second that is known before anything was sent, None without one.
    """

    def __init__(self, unit: int, rate: float | None = None) -> None:
        self._unit = unit
        self._lock = threading.Lock()
        self._seconds = SECONDS
        self._size = float(FIRST_REQUEST if rate is None else min(FIRST_REQUEST, rate * SECONDS))

    @property
    def size(self) -> int:
        return max(1, int(self._size / self._unit)) * self._unit

    def of(self, rest: int) -> int:
        """How many of the ``rest`` of a part the next request carries: all of them, should it be nearly so."""
        return rest if rest <= self.size * _NEARLY else self.size

    def took(self, length: int, seconds: float) -> None:
        """Note that a request of ``length`` bytes took ``seconds`` and was kept."""
        with self._lock:
            self._seconds = min(SECONDS, self._seconds * _GROWTH)
            due = length / max(seconds, 1e-6) * self._seconds
            # A short last request tells little of the line: most of its time is the round trip.
            if length * 2 >= self._size or due > self._size:
                self._size = min(due, _BOLDEST * max(length, self._unit))

    def failed(self) -> None:
        """A request was lost: risk less next time."""
        with self._lock:
            self._seconds = max(_FEWEST, self._seconds / 2)
            self._size = max(float(self._unit), self._size / 2)
