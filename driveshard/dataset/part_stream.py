"""One part's bytes in the order in which they lie: by long reads, the next ones ahead, none of it kept on a disk."""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Callable
from concurrent.futures import Executor, Future
from typing import Self

from driveshard.core.errors import Mismatch

Read = Callable[[int, int], bytes]
"""(begin, length) -> exactly so many bytes; raises Mismatch when they are not there."""

_WINDOW = 8 * 1024 * 1024  # bytes of one read
_AHEAD = 2  # reads under way while what came before is worked on


class PartStream:
    """The ``size`` bytes behind ``read``, held from the last ``let_go`` on.

    With a ``pool`` some reads are always under way there; without one it reads when it is asked. A context manager.
    """

    def __init__(self, name: str, read: Read, size: int, pool: Executor | None = None) -> None:
        self._name = name
        self._read = read
        self._size = size
        self._pool = pool
        self._coming: deque[Future[bytes]] = deque()
        self._asked = 0  # bytes that were asked for from the beginning on
        self._begin = 0  # where what is held begins
        self._held = b""
        self._sha256 = hashlib.sha256() if pool is not None else None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for one in self._coming:
            one.cancel()

    def let_go(self, before: int) -> None:
        """Nothing that lies before this place will be asked for."""
        kept = max(0, before - self._begin)
        if kept >= len(self._held):
            self._begin, self._held = self._begin + len(self._held), b""
        elif kept >= _WINDOW:
            self._begin, self._held = self._begin + kept, self._held[kept:]

    def take(self, begin: int, length: int) -> bytes:
        """These bytes. Raises Mismatch."""
        end = begin + length
        if not 0 <= begin <= end <= self._size:
            raise Mismatch(f"{self._name} has no bytes {begin:,} to {end:,}", advice="Open the dataset anew.")
        if begin < self._begin:
            return self._read(begin, length)
        while self._begin + len(self._held) < end:
            self._held += self._next()
        return self._held[begin - self._begin : end - self._begin]

    def prove(self, sha256: str) -> None:
        """Read what is left, if a pool reads it. Raises Mismatch when all of it together has another sha256 than this
        one; empty when nobody told it."""
        if self._sha256 is None:
            return
        while self._begin + len(self._held) < self._size:
            self.let_go(self._size)
            self._held = self._next()
        if sha256 and self._sha256.hexdigest() != sha256.lower():
            raise Mismatch(
                f"{self._name} came with another sha256 than the manifest tells",
                advice="Run the same command again; if it says so again, the part is damaged where it lies.",
            )

    def _next(self) -> bytes:
        if self._pool is None:
            return self._read(*self._window())
        while len(self._coming) <= _AHEAD and self._asked < self._size:
            self._coming.append(self._pool.submit(self._read, *self._window()))
        data = self._coming.popleft().result()
        assert self._sha256 is not None
        self._sha256.update(data)
        return data

    def _window(self) -> tuple[int, int]:
        begin = self._asked
        self._asked = min(begin + _WINDOW, self._size)
        return begin, self._asked - begin
