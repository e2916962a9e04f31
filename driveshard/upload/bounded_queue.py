"""A bounded queue between two rooms of the pipeline: whoever is too fast waits because the next room is full.

Unlike ``queue.Queue`` (before Python 3.13) it can be closed, which wakes everybody who waits at it.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from typing import Generic, TypeVar

T = TypeVar("T")


class Closed(Exception):
    """The channel is closed: nothing more can be put, and nothing is left to get."""


class Channel(Generic[T]):
    """Holds at most ``capacity`` items. ``waited_to_put`` and ``waited_to_get`` are the seconds spent waiting."""

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self._items: deque[T] = deque()
        self._changed = threading.Condition()
        self._closed = False
        self.waited_to_put = 0.0
        self.waited_to_get = 0.0

    def put(self, item: T) -> None:
        """Wait for room, then add. Raises Closed."""
        with self._changed:
            began = time.monotonic()
            self._changed.wait_for(lambda: self._closed or len(self._items) < self._capacity)
            self.waited_to_put += time.monotonic() - began
            if self._closed:
                raise Closed
            self._items.append(item)
            self._changed.notify_all()

    def put_first(self, item: T) -> None:
        """Add at the head, full or not: for work that comes back, which was counted when it first came."""
        with self._changed:
            if self._closed:
                raise Closed
            self._items.appendleft(item)
            self._changed.notify_all()

    def get(self) -> T:
        """Wait for an item. Raises Closed once the channel is closed and empty."""
        with self._changed:
            began = time.monotonic()
            self._changed.wait_for(lambda: self._closed or self._items)
            self.waited_to_get += time.monotonic() - began
            if not self._items:
                raise Closed
            item = self._items.popleft()
            self._changed.notify_all()
            return item

    def close(self, *, discard: bool = False) -> None:
        """No more items. With ``discard`` those still waiting are dropped."""
        with self._changed:
            self._closed = True
            if discard:
                self._items.clear()
            self._changed.notify_all()
