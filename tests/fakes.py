"""Time that passes only when somebody waits."""

from __future__ import annotations

import threading
from collections.abc import Callable

from driveshard.core.clock import Clock
from driveshard.core.events import Event


class FakeClock(Clock):
    """``slept`` lists every wait; a wait moves the time on at once. Raises Interrupted as the real one does."""

    def __init__(self, now: float = 1_800_000_000.0) -> None:
        super().__init__(threading.Event())
        self.time = now
        self.slept: list[float] = []
        self.before_sleep: Callable[[], None] = lambda: None

    def now(self) -> float:
        return self.time

    def monotonic(self) -> float:
        return self.time

    def sleep(self, seconds: float) -> None:
        self.before_sleep()
        self.check()
        self.slept.append(seconds)
        self.time += seconds


class Heard(list[Event]):
    """An Emit that keeps what it hears."""

    def __call__(self, event: Event) -> None:
        self.append(event)

    def of(self, kind: type) -> list[Event]:
        return [event for event in self if isinstance(event, kind)]
