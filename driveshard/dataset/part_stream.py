"""One part's bytes in the order in which they lie: by long reads, the next ones ahead, none of it kept on a disk."""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Self

from driveshard.core.errors import Mismatch

Read = Callable[[int, int], bytes]
"""(begin, length) -> exactly so many bytes; raises Mismatch when they are not there."""

_WINDOW = 4 * 1024 * 1024  # bytes of one read


class PartStream:
    """The ``size`` bytes behind ``read``, of which those up to the last ones asked for are let go.

    ``ahead`` reads are under way while what came before is worked on, in threads of its own; 0 reads when it is asked.
    A context manager.
    """

    def __init__(self, name: str, read: Read, size: int, ahead: int = 0) -> None:
        self._name = name
        self._read = read
        self._size = size
        self._ahead = ahead
        self._pool = ThreadPoolExecutor(ahead, "ahead") if ahead else None
        self._coming: deque[Future[bytes]] = deque()
        self._asked = 0  # bytes that were asked for from the beginning on
        self._begin = 0  # where what is held begins
        self._held = b""
        self._sha256 = hashlib.sha256() if ahead else None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._pool is not None:
            self._pool.shutdown(wait=False, cancel_futures=True)

    def take(self, begin: int, length: int) -> bytes:
        """These bytes; the next ones should begin no earlier. Raises Mismatch."""
        end = begin + length
        if not 0 <= begin <= end <= self._size:
            raise Mismatch(f"{self._name} has no bytes {begin:,} to {end:,}", advice="Open the dataset anew.")
        if begin < self._begin:
            return self._read(begin, length)
        while self._begin + len(self._held) < end:
            self._go_on(begin)
        return self._held[begin - self._begin : end - self._begin]

    def prove(self, sha256: str) -> None:
        """Read it to its end. Raises Mismatch when all of it together has another sha256; empty when nobody told it."""
        if self._sha256 is None:
            return
        while self._begin + len(self._held) < self._size:
            self._go_on(self._size)
        if sha256 and self._sha256.hexdigest() != sha256.lower():
            raise Mismatch(
                f"{self._name} came with another sha256 than the manifest tells",
                advice="Run the same command again; if it says so again, the part is damaged where it lies.",
            )

    def _go_on(self, needed: int) -> None:
        """The next window; of what is held only that from ``needed`` on is kept."""
        data = self._next()
        if self._sha256 is not None:
            self._sha256.update(data)
        end = self._begin + len(self._held)
        kept = self._held[max(0, needed - self._begin) :]
        self._held = kept + data if kept else data
        self._begin = end - len(kept)

    def _next(self) -> bytes:
        if self._pool is None:
            return self._read(*self._window())
        while len(self._coming) <= self._ahead and self._asked < self._size:
            self._coming.append(self._pool.submit(self._read, *self._window()))
        return self._coming.popleft().result()

    def _window(self) -> tuple[int, int]:
        begin = self._asked
        self._asked = min(begin + _WINDOW, self._size)
        return begin, self._asked - begin
