"""What every step of one run needs around it, as one value: where to, what is noted, how patiently, how fast."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, TypeVar

from driveshard.core.clock import Clock
from driveshard.core.events import Emit
from driveshard.storage.base import Destination
from driveshard.storage.retry import Retry
from driveshard.storage.throttle import Throttle
from driveshard.upload.lease import Lease
from driveshard.upload.ledger.ledger import Ledger
from driveshard.upload.side_by_side import Later

T = TypeVar("T")
_IDS_AT_ONCE = 10  # a folder, a few parts, and what is published: one request for most pushes


class ReservedIds:
    """Ids asked for in one request and handed out one by one, to any thread. Those left over are never used."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.waiting: list[str] = []


@dataclass(frozen=True, slots=True)
class Surroundings:
    """One run's destination and ledger, with the ways to ask the one and the clock and events of the other."""

    destination: Destination
    ledger: Ledger
    retry: Retry
    throttle: Throttle
    clock: Clock
    emit: Emit
    ids: ReservedIds = field(default_factory=ReservedIds)
    beside: list[Later[Any]] = field(default_factory=list)
    lease: Lease | None = None

    def ask(self, step: Callable[[], T], *, doing: str, number: int | None = None) -> T:
        """``step()``, again while its failures may pass. ``doing`` names it for the user, ``number`` its part."""
        return self.retry.call(step, doing=doing, number=number)

    def write(self, step: Callable[[], T], *, doing: str, number: int | None = None) -> T:
        """As ``ask``, for what Drive counts as a write: each try waits for its turn."""

        def paced() -> T:
            self.throttle.write()
            return step()

        return self.retry.call(paced, doing=doing, number=number)

    def later(self, work: Callable[[], T]) -> Later[T]:
        """Begin ``work`` now, beside everything else; ``settle`` waits for all that was begun so."""
        begun = Later(self.clock, work)
        self.beside.append(begun)
        return begun

    def hold(self) -> None:
        """Have the dataset to ourselves before anything is sent. Raises Busy when another machine has it."""
        if self.lease is not None:
            self.lease.hold()

    def let_go(self) -> None:
        """Begin to let other machines in again."""
        if self.lease is not None:
            self.lease.release(0.0)

    def settle(self) -> bool:
        """Wait for what goes on beside, before ledger and destination are closed; False when a stop left some of it
        under way."""
        return not sum(not one.wait() for one in self.beside)

    def prepare_ids(self) -> None:
        """Have some ids before they are needed."""
        with self.ids.lock:
            self._fill_ids("reserving file ids")

    def _fill_ids(self, doing: str) -> None:
        if not self.ids.waiting:
            self.ids.waiting += self.ask(lambda: self.destination.reserve_ids(_IDS_AT_ONCE), doing=doing)

    def reserve_id(self, doing: str = "reserving file ids") -> str:
        """An id that nobody has yet."""
        with self.ids.lock:
            self._fill_ids(doing)
            return self.ids.waiting.pop(0)
