"""Time as an argument: wall clock, monotonic clock and a sleep that one stop event ends at once."""

from __future__ import annotations

import threading
import time

from driveshard.core.errors import Interrupted


class Clock:
    """The real clock. ``stop`` set means: no more waiting, leave at the next safe point."""

    def __init__(self, stop: threading.Event | None = None) -> None:
        self.stop = stop or threading.Event()

    def now(self) -> float:
        """Seconds since the epoch."""
        return time.time()

    def monotonic(self) -> float:
        """Seconds on a clock that never goes back."""
        return time.monotonic()

    def sleep(self, seconds: float) -> None:
        """Wait ``seconds``; raises Interrupted as soon as ``stop`` is set, also when it already was."""
        if self.stop.wait(max(0.0, seconds)):
            raise Interrupted("stopped while waiting")

    def check(self) -> None:
        """Raise Interrupted if a stop was asked for."""
        if self.stop.is_set():
            raise Interrupted("stopped")
