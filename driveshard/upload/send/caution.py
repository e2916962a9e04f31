"""How much is at stake at once: what is on its way when a process is killed or a line breaks has to be sent again.

Two rules, shared by all uploads of a run. A small dataset goes out nearly one chunk at a time, so that no accident
costs more than a small share of it. And at first, and again after every failure, questions go ahead of the bytes: when
Drive is about to fail, it fails those, which cost nothing.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from driveshard.core.clock import Clock

_SHARE = 16  # at most a sixteenth of the dataset is on its way at once, but always one chunk
_LONGEST_WAIT = 1.0  # seconds; a chunk that takes longer crawls or hangs, and is not waited for
_QUESTIONS = 3  # answered in a row before the first chunk goes; one fewer before each that follows, then one
TRUSTED_AFTER = 12  # chunks in a row that went well, no more questions are asked
_LOOK_EVERY = 0.1  # seconds


class Caution:
    """``total`` is the dataset's size in bytes as far as it is known."""

    def __init__(self, clock: Clock) -> None:
        self.total = 0
        self._clock = clock
        self._change = threading.Condition()
        self._on_their_way: dict[object, tuple[float, int]] = {}  # since when, bytes
        self._gone_well = 0

    @property
    def questions(self) -> int:
        """How often to ask what is held before a chunk is sent."""
        return max(1, _QUESTIONS - self._gone_well) if self._gone_well < TRUSTED_AFTER else 0

    def went_well(self) -> None:
        self._gone_well += 1

    def failed(self) -> None:
        self._gone_well = 0

    @contextmanager
    def one_chunk(self, length: int) -> Iterator[None]:
        """Wait for the turn to have ``length`` more bytes on their way. Raises Interrupted on a stop."""
        chunk = object()
        with self._change:
            while self._too_much(length):
                self._clock.check()
                self._change.wait(_LOOK_EVERY)
            self._on_their_way[chunk] = self._clock.monotonic(), length
        try:
            yield
        finally:
            with self._change:
                del self._on_their_way[chunk]
                self._change.notify()

    def _too_much(self, length: int) -> bool:
        since = self._clock.monotonic() - _LONGEST_WAIT
        waited_for = [size for began, size in self._on_their_way.values() if began > since]
        return bool(waited_for) and (sum(waited_for) + length) * _SHARE > self.total
