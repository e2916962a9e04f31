"""Work that does not depend on other work, begun at once and waited for where its result is needed."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Generic, TypeVar

from driveshard.core.clock import Clock

T = TypeVar("T")
_LOOK_EVERY = 0.2  # seconds; how soon a stop ends the waiting
_GRACE = 2.0  # seconds that a stop leaves to a request under way


class Later(Generic[T]):
    """``work`` in a thread of its own, from now on."""

    def __init__(self, clock: Clock, work: Callable[[], T]) -> None:
        self._clock = clock
        self._work = work
        self._results: list[T] = []
        self._error: BaseException | None = None
        self._done = threading.Event()
        threading.Thread(target=self._run, name="beside", daemon=True).start()

    def _run(self) -> None:
        try:
            self._results.append(self._work())
        except BaseException as error:  # raised again where the result is asked for
            self._error = error
        finally:
            self._done.set()

    def wait(self) -> bool:
        """Until it is done, whatever came of it. After a stop it has two more seconds; False when it is not done."""
        while not self._done.wait(_LOOK_EVERY):
            if self._clock.stop.is_set():
                return self._done.wait(_GRACE)
        return True

    def result(self) -> T:
        """What the work returned; raises what it raised, and Interrupted on a stop. May be asked for again."""
        while not self._done.wait(_LOOK_EVERY):
            self._clock.check()
        if self._error is not None:
            raise self._error
        return self._results[0]
