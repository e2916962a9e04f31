"""The temp folder of a run whose parts are built and sent by workers elsewhere, each of which has one of its own."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from driveshard.core.errors import TempLost
from driveshard.storage.base import Progress
from driveshard.upload.far import bench
from driveshard.upload.far.bench import Shipment
from driveshard.upload.far.yard import Yard
from driveshard.upload.send.load import Load, Stretch
from driveshard.upload.spool import Spool
from driveshard.upload.surroundings import Surroundings


class FarSpool(Spool):
    """As ``Spool``, for parts in ``yard``; those that an earlier run left in ``directory`` are sent from here. How many
    wait is for each worker to say, so ``limit`` bounds one part alone."""

    near = False

    def __init__(self, yard: Yard, directory: Path, limit: int, *arguments: Any, **options: Any) -> None:
        super().__init__(directory, limit, *arguments, **options)
        self._yard = yard

    @property
    def most(self) -> int:
        return self.limit

    @property
    def share(self) -> int:
        return self.limit // self._parts if self._parts else 0

    def reserve(self, number: int, size: int, on_wait: Callable[[], None] | None = None) -> int:
        self._check_limit(number, size)
        self._clock.check()
        return size

    def commit(self, number: int, file_name: str, size: int, place: str | None = None) -> Path:
        assert place is not None
        self._yard.keep(number, place)
        return self.path(file_name)

    def cancel(self, number: int) -> None:
        self._yard.drop(number)
        super().cancel(number)

    def release(self, number: int, file_name: str) -> None:
        self._yard.drop(number)
        super().release(number, file_name)

    def holds(self, number: int, file_name: str) -> bool:
        return number in self._yard or super().holds(number, file_name)

    def open(self, number: int, file_name: str) -> Load:
        if number in self._yard:
            return FarLoad(self._yard, number)
        try:
            return super().open(number, file_name)
        except TempLost as error:
            raise TempLost(error.message, usual=True) from error

    def is_intact(self, number: int, file_name: str, md5: str | None) -> bool:
        if number not in self._yard:
            return super().is_intact(number, file_name, md5)
        try:
            return self._yard.do(number, bench.md5) == md5
        except TempLost:
            return False


class FarLoad:
    """A part on a worker."""

    def __init__(self, yard: Yard, number: int) -> None:
        self._yard = yard
        self._number = number

    def close(self) -> None:
        """Nothing is open here."""

    def fitting(self, wanted: int, unit: int, rate: float | None) -> int:
        """A second's worth where a limit stands, which counts for all workers together: each request has its turn."""
        return wanted if rate is None else max(min(wanted, unit), min(wanted, int(rate) // unit * unit))

    def send(self, around: Surroundings, stretch: Stretch, sent: Callable[[int], None]) -> Progress:
        length, told = stretch.allowed.length, 0
        # All of it counts as sent, since of a request that breaks nobody here knows how much has left.
        stretch.allowed.send(length)

        def tell(count: int) -> None:
            nonlocal told
            count = min(count, length - told)  # news of the request before may come late
            told += count
            sent(count)

        rate = around.throttle.rate
        shipment = Shipment(self._yard.lend(), stretch.session, stretch.start, length, stretch.size, rate)
        progress = self._yard.send(self._number, shipment, tell)
        sent(length - told)
        return progress

    def read(self, start: int, length: int) -> bytes:
        return self._yard.do(self._number, bench.read, start, length)
