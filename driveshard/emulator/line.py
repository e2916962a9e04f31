"""The emulated line: bandwidth in each direction, a round trip, and outages."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from driveshard.emulator.limits import Throttle


class Line:
    """What lies between the clients and the server; everything may change while requests are under way.

    bandwidth: bytes a second in each direction, shared by all connections; None for no limit. latency_ms: the round
    trip of a request.
    """

    def __init__(self, bandwidth: float | None, latency_ms: float, stopping: threading.Event) -> None:
        self._stopping = stopping
        self._dead_until = 0.0
        self.up = Throttle(bandwidth, stopping)
        self.down = Throttle(bandwidth, stopping)
        self.latency = latency_ms / 1000
        self.break_connections: Callable[[], None] = lambda: None

    @property
    def dead(self) -> bool:
        """True while an outage lasts."""
        return time.monotonic() < self._dead_until

    def travel(self) -> None:
        """Sleep for half of a round trip."""
        if self.latency:
            self._stopping.wait(self.latency / 2)

    def set_bandwidth(self, rate: float | None) -> None:
        """From now on so many bytes a second in each direction, also for requests under way; None for no limit."""
        if rate is not None and not rate > 0:
            raise ValueError(f"not a rate in bytes a second: {rate}")
        self.up.rate = self.down.rate = rate

    def scale(self, factor: float) -> None:
        """Multiply the bandwidth; a line without limit stays so."""
        if not factor > 0:
            raise ValueError(f"not a factor: {factor}")
        if self.up.rate is not None:
            self.set_bandwidth(self.up.rate * factor)

    def fail(self, seconds: float) -> None:
        """An outage: every connection is reset now, and so is each one opened in the next so many seconds."""
        self._dead_until = time.monotonic() + seconds
        self.break_connections()
