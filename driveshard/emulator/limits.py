"""The emulated network and quota: bandwidth, latency and writes a second."""

from __future__ import annotations

import threading
import time
from collections import deque


class Throttle:
    """Lets bytes through at a fixed rate for everybody who shares it. A rate of None does not throttle."""

    def __init__(self, rate: float | None, stopping: threading.Event) -> None:
        self.rate = rate
        self._stopping = stopping
        self._lock = threading.Lock()
        self._free_at = 0.0

    @property
    def block(self) -> int | None:
        """The read size that keeps the flow smooth: about 1/50 s worth, in bytes."""
        return None if self.rate is None else max(4096, min(1 << 20, int(self.rate / 50)))

    def take(self, count: int) -> None:
        """Sleep until `count` more bytes fit the rate, or the emulator stops."""
        if self.rate is None:
            return
        with self._lock:
            now = time.monotonic()
            self._free_at = max(self._free_at, now) + count / self.rate
            wait = self._free_at - now
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
