"""Rates that are kept: bytes a second, writes a second, downloads a day."""

from __future__ import annotations

import threading
import time
from collections import deque

CREDIT_SECONDS = 0.05  # what sleeping too long may be made up for, so that a busy line reaches its rate


class Throttle:
    """Lets bytes through at a rate for everybody who shares it. A rate of None does not throttle; it may change."""

    def __init__(self, rate: float | None, stopping: threading.Event) -> None:
        self.rate = rate
        self._stopping = stopping
        self._lock = threading.Lock()
        self._free_at = 0.0

    @property
    def block(self) -> int | None:
        """The read size that keeps the flow smooth: about 1/50 s worth, in bytes."""
        rate = self.rate
        return None if rate is None else max(4096, min(1 << 20, int(rate / 50)))

    def take(self, count: int) -> None:
        """Sleep until `count` more bytes fit the rate, or the emulator stops."""
        rate = self.rate
        if rate is None:
            return
        with self._lock:
            now = time.monotonic()
            self._free_at = max(self._free_at, now - CREDIT_SECONDS) + count / rate
            wait = self._free_at - now
        if wait > 0:
            self._stopping.wait(wait)


class WriteLimit:
    """At most `rate` writes in a sliding window: one second, or as long as a single write takes for slower rates."""

    def __init__(self, rate: float | None) -> None:
        self.rate = rate
        self._lock = threading.Lock()
        self._moments: deque[float] = deque()
        self._window = max(1.0, 1.0 / rate) if rate else 0.0
        self._most = max(1, int(rate * self._window)) if rate else 0

    def admit(self, now: float) -> bool:
        """Count a write at monotonic time `now` and say whether it may pass; refused ones do not use up the window."""
        if self.rate is None:
            return True
        with self._lock:
            while self._moments and self._moments[0] <= now - self._window:
                self._moments.popleft()
            if len(self._moments) >= self._most:
                return False
            self._moments.append(now)
            return True


class DownloadQuota:
    """At most `most` downloads of a file within a day; then none at all, not even the rest of one, for a day."""

    DAY = 24 * 3600.0

    def __init__(self, most: int | None) -> None:
        self.most = most
        self._lock = threading.Lock()
        self._counts: dict[str, int] = {}
        self._until: dict[str, float] = {}

    def admit(self, file_id: str, now: float, *, begins: bool) -> bool:
        """Count a download that begins at time `now` (seconds) and say whether it, or the rest of one, may pass."""
        if self.most is None:
            return True
        with self._lock:
            if self._until.get(file_id, now) <= now:
                # Either the day is over or it begins.
                if self._until.pop(file_id, None) is not None:
                    self._counts.pop(file_id, None)
                if not begins:
                    return True
                if self._counts.get(file_id, 0) < self.most:
                    self._counts[file_id] = self._counts.get(file_id, 0) + 1
                    return True
                self._until[file_id] = now + self.DAY
            return False
