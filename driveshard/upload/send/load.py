"""A finished part's bytes, wherever they lie until the destination has proved to hold them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from io import FileIO
from pathlib import Path
from typing import Protocol

from driveshard.core.errors import TempLost
from driveshard.core.model import UploadSession
from driveshard.storage.base import Piece, Progress
from driveshard.storage.throttle import Allowance
from driveshard.upload.surroundings import Surroundings

BLOCK = 256 * 1024  # bytes in memory at a time
_BLOCKS_A_SECOND = 4  # where a limit makes them slow


@dataclass(frozen=True, slots=True)
class Stretch:
    """What one request carries: the ``allowed`` bytes from ``start`` of a part of ``size``, into ``session``."""

    session: UploadSession
    start: int
    allowed: Allowance
    size: int


class Load(Protocol):
    """One part, opened. All methods raise TempLost when it is not there (any more) as it was packed."""

    def close(self) -> None:
        """It is not needed any more."""

    def fitting(self, wanted: int, unit: int, rate: float | None) -> int:
        """How many of the ``wanted`` bytes one request from here carries, where ``rate`` is a limit in bytes/s."""

    def send(self, around: Surroundings, stretch: Stretch, sent: Callable[[int], None]) -> Progress:
        """Send these bytes, each when it may leave, as ``Destination.send`` does; ``sent`` hears how many have left
        since it was called last."""

    def read(self, start: int, length: int) -> bytes:
        """Bytes ``start``..., fewer than ``length`` at its end."""


class FileLoad:
    """A part in the temp folder of this machine."""

    def __init__(self, path: Path) -> None:
        self._name = path.name
        try:
            self._source = path.open("rb", buffering=0)
        except FileNotFoundError as error:
            raise TempLost(f"{path.name} is no longer in the temp folder") from error

    def close(self) -> None:
        self._source.close()

    def fitting(self, wanted: int, unit: int, rate: float | None) -> int:
        return wanted

    def send(self, around: Surroundings, stretch: Stretch, sent: Callable[[int], None]) -> Progress:
        def may_leave(count: int) -> None:
            stretch.allowed.send(count)
            sent(count)

        length, most = stretch.allowed.length, block_size(around.throttle.rate)
        blocks = blocks_of(self._source, self._name, stretch.start, length, most, may_leave)
        return around.destination.send(stretch.session, stretch.start, Piece(length, blocks), stretch.size)

    def read(self, start: int, length: int) -> bytes:
        self._source.seek(start)
        return self._source.read(length) or b""


def block_size(rate: float | None) -> int:
    """Bytes that leave at once, where ``rate`` limits them."""
    return BLOCK if rate is None else max(1, min(BLOCK, int(rate / _BLOCKS_A_SECOND)))


def blocks_of(
    source: FileIO, name: str, start: int, length: int, most: int, may_leave: Callable[[int], None]
) -> Iterator[memoryview]:
    """``length`` bytes of a file from ``start`` on, in a buffer of ``most`` that the next block overwrites, each when
    ``may_leave`` lets it. (Mapping the file would save this copy, and end the process with SIGBUS should the file be
    cut short meanwhile.) Raises TempLost when it is shorter."""
    buffer = memoryview(bytearray(min(most, length)))
    source.seek(start)
    while length:
        count = source.readinto(buffer[:length])
        if not count:
            raise TempLost(f"{name} is shorter in the temp folder than it was when it was packed")
        length -= count
        may_leave(count)
        yield buffer[:count]
