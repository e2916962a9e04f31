"""The coordinator's end: which part lies on which worker, and how to have something done with it there."""

from __future__ import annotations

import secrets
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar, cast

from driveshard.core.clock import Clock
from driveshard.core.errors import DriveshardError, Interrupted, TempLost
from driveshard.storage.base import Progress, Sender
from driveshard.upload.far import bench
from driveshard.upload.far.bench import Errand, Shipment
from driveshard.upload.far.sealing import seal

T = TypeVar("T")

_GO_ON_EVERY = bench.HEARD_WITHIN / 6  # seconds
_TICK = 0.2  # seconds


class Reach(Protocol):
    """A cluster, as it is reached. All raise TempLost, or what is like it, when a worker or all of them are gone."""

    def begin(self, worker: str, work: Callable[..., Any], *arguments: Any) -> Callable[[float], Any]:
        """Have ``work(workplace, *arguments)`` done there. Returns what waits so many seconds for its outcome, and
        raises TimeoutError while there is none."""

    def everywhere(self, work: Callable[..., Any], *arguments: Any) -> None:
        """Have it done by all workers there are, without waiting long for any."""


@dataclass(frozen=True)
class Lying:
    """A part lies on ``worker`` under ``name``; what is sealed with ``key`` can be read there. (A worker that was
    started again may have the address that it had before.)"""

    worker: str
    name: str
    key: bytes

    @classmethod
    def of(cls, place: str) -> Lying:
        worker, name, key = place.split(" ")
        return cls(worker, name, bytes.fromhex(key))

    def __str__(self) -> str:
        return f"{self.worker} {self.name} {self.key.hex()}"


class Yard:
    """The parts of one run on the workers of a cluster. ``lend`` gives what one request is sent with. Thread-safe.

    ``reach`` is None until the workers are there."""

    def __init__(self, lend: Callable[[], Sender], clock: Clock) -> None:
        self.lend = lend
        self.errand = Errand(secrets.token_hex(8))
        self._clock = clock
        self._reach: Reach | None = None
        self._lying: dict[int, Lying] = {}
        self._heard: dict[str, int] = {}  # bytes of a part that have left in the request under way, by its name
        self._over = threading.Event()

    # -- the workers come and go ---------------------------------------------------------------------------------

    def open(self, reach: Reach) -> None:
        """The workers are there. Until ``close`` they are told that the run goes on."""
        self._reach = reach
        self._over = threading.Event()
        threading.Thread(target=self._go_on, args=(reach, self._over), name="go-on", daemon=True).start()

    def close(self) -> None:
        """What is still on the workers goes, and they with it."""
        reach, self._reach = self._reach, None
        self._over.set()
        self._lying.clear()
        if reach is not None:
            reach.everywhere(bench.leave, self.errand)

    def _go_on(self, reach: Reach, over: threading.Event) -> None:
        while not over.wait(_GO_ON_EVERY):
            known = frozenset(one.name for one in list(self._lying.values()))
            reach.everywhere(bench.go_on, self.errand, known)

    def set(self) -> None:
        """Nothing is to be done before a part is built: what builds it says whose it is."""

    def mend(self, error: BaseException) -> BaseException:
        """A worker's error as it is known here: it had heard nothing of the run for too long, which goes on."""
        if isinstance(error, Interrupted) and self._reach is not None:
            return TempLost("a worker had not heard of this run for too long")
        return error

    # -- the parts -----------------------------------------------------------------------------------------------

    def __contains__(self, number: int) -> bool:
        return number in self._lying

    def keep(self, number: int, place: str) -> None:
        """A part was built, and lies there."""
        self._lying[number] = Lying.of(place)

    def drop(self, number: int) -> None:
        """A part is of no more use."""
        lying = self._lying.pop(number, None)
        if lying is not None:
            with suppress(DriveshardError):  # then it is gone anyway
                self._at(lying, bench.drop)

    def send(self, number: int, shipment: Shipment, sent: Callable[[int], None]) -> Progress:
        """One request, made where the part lies. Raises as ``do``."""
        return self.do(number, bench.send, seal(shipment, self._where(number).key), sent=sent)

    def do(self, number: int, work: Callable[..., T], *arguments: Any, sent: Callable[[int], None] | None = None) -> T:
        """``work(workplace, errand, name, *arguments)`` where the part lies; ``sent`` hears of bytes that leave.

        Raises TempLost when it is not there any more, Interrupted on a stop, and what ``work`` raises."""
        lying = self._where(number)
        try:
            return cast(T, self._at(lying, work, *arguments, sent=sent))
        except TempLost as error:
            self._clock.check()
            self._lying.pop(number, None)
            raise TempLost(f"part {number} is lost: {error}") from error

    def _where(self, number: int) -> Lying:
        lying = self._lying.get(number)
        if lying is None:
            self._clock.check()
            raise TempLost(f"part {number} is on no worker any more", usual=True)
        return lying

    def _at(
        self, lying: Lying, work: Callable[..., Any], *arguments: Any, sent: Callable[[int], None] | None = None
    ) -> Any:
        reach = self._reach
        if reach is None:
            raise TempLost("the cluster is gone")
        outcome = reach.begin(lying.worker, work, self.errand, lying.name, *arguments)
        while True:
            try:
                return outcome(_TICK)
            except TimeoutError:
                self._clock.check()
            finally:
                told = self._heard.pop(lying.name, 0)
                if sent is not None and told:
                    sent(told)

    def heard(self, name: str, count: int) -> None:
        """A worker tells that so many more bytes of a part have left."""
        self._heard[name] = self._heard.get(name, 0) + count
