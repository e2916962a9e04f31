"""Sends one part through one upload session: chunk by chunk, always from what the destination says it holds.

Retry and resume are one loop. After any failure of a chunk the next step asks first; bytes accepted end the step, so
that only failures in a row count.
"""

from __future__ import annotations

from collections.abc import Callable
from io import FileIO

from driveshard.core.clock import Clock
from driveshard.core.errors import SessionGone, TempLost, Throttled, Unavailable, Unreachable
from driveshard.core.events import BytesSent, Emit
from driveshard.core.model import RemoteFile, UploadSession
from driveshard.storage.base import Destination, Held, Progress, Stored
from driveshard.storage.retry import Retry
from driveshard.storage.throttle import Budget
from driveshard.upload.send.caution import Caution
from driveshard.upload.send.chunk_size import LARGEST_CHUNK, ChunkSizer
from driveshard.upload.send.slow_sessions import Fleet


class Crawling(Exception):
    """This session is so much slower than its siblings that a new one would finish first."""


class Transfer:
    """One part's bytes on their way into ``session``. ``source`` is the spool file, open; ``size`` in bytes."""

    def __init__(
        self,
        destination: Destination,
        session: UploadSession,
        source: FileIO,
        *,
        number: int,
        name: str,
        size: int,
        chunks: ChunkSizer,
        budget: Budget,
        fleet: Fleet,
        caution: Caution,
        retry: Retry,
        clock: Clock,
        emit: Emit,
        confirmed: Callable[[int], None],
        may_replace: bool,
        fresh: bool,
    ) -> None:
        self._destination = destination
        self._session = session
        self._source = source
        self._buffer = memoryview(b"")
        self._number = number
        self._name = name
        self._size = size
        self._chunks = chunks
        self._budget = budget
        self._fleet = fleet
        self._caution = caution
        self._retry = retry
        self._clock = clock
        self._emit = emit
        self._confirmed = confirmed
        self._may_replace = may_replace
        self._offset: int | None = 0 if fresh else None
        self._best = 0 if fresh else -1
        self._sent = 0
        self._watched_seconds = 0.0  # of sending alone: waiting for Drive to come back says nothing of the line
        self._watched_sent = 0

    def run(self) -> RemoteFile:
        """Send until the destination says that the file is stored; returns its description.

        Raises SessionGone, Crawling, TempLost, and whatever ``retry`` gives up with.
        """
        while True:
            progress = self._retry.call(self._step_in_turn, doing=f"sending {self._name}", number=self._number)
            if isinstance(progress, Stored):
                self._emit(BytesSent(self._number, self._size, 0))
                return progress.file
            self._clock.check()
            self._check_worth()

    def _step_in_turn(self) -> Progress:
        with self._caution.one_chunk(min(self._chunks.size, self._size)):
            try:
                progress = self._step()
            except Unreachable:
                self._caution.failed()
                raise
        return progress

    def _step(self) -> Progress:
        """One chunk accepted, the end, or bytes found there that a lost reply did not tell of. Any failure leaves the
        offset unknown, so that the next try asks first."""
        known, self._offset = self._offset, None
        offset = known or 0
        for asked in range(max(self._caution.questions, known is None)):
            try:
                progress = self._destination.query(self._session, self._size)
            except Unavailable as error:
                error.answered_before = asked > 0
                raise
            if isinstance(progress, Stored):
                return progress
            offset = progress.offset
            self._emit(BytesSent(self._number, offset, 0))
            if offset > self._best:
                return self._advanced(progress)
            self._retry.heed()  # what another thread was told meanwhile
        try:
            progress = self._send(offset)
        except (Unavailable, Throttled):
            self._chunks.failed()
            raise
        if isinstance(progress, Held):
            if progress.offset <= offset:
                self._confirmed(progress.offset)
                raise Unavailable("Drive kept nothing of what was sent")
            self._advanced(progress)
        return progress

    def _advanced(self, held: Held) -> Held:
        self._confirmed(held.offset)
        self._best = max(self._best, held.offset)
        self._offset = held.offset if held.offset < self._size else None
        return held

    def _send(self, offset: int) -> Progress:
        unit = self._destination.chunk_unit
        # Everything held and yet not finished: send the last piece again, which is skipped and ends the upload.
        start = offset if offset < self._size else (self._size - 1) // unit * unit
        length = min(self._chunks.size, self._size - start)
        data = self._read(start, length)
        self._budget.send(length)
        self._retry.heed()  # that may have been a long wait
        began = self._clock.monotonic()
        progress = self._destination.send(self._session, start, data, self._size)
        seconds = self._clock.monotonic() - began
        self._note(progress, start, length, seconds)
        return progress

    def _read(self, start: int, length: int) -> memoryview:
        """The chunk, in a buffer that the next one overwrites. (Mapping the file would save this copy, and end the
        process with SIGBUS should the file be cut short or its disk fail meanwhile.)"""
        if len(self._buffer) < length:
            self._buffer = memoryview(bytearray(length))
        chunk, done = self._buffer[:length], 0
        self._source.seek(start)
        while done < length:
            count = self._source.readinto(chunk[done:])
            if not count:
                raise TempLost(f"{self._name} is shorter in the temp folder than it was when it was packed")
            done += count
        return chunk

    def _note(self, progress: Progress, start: int, length: int, seconds: float) -> None:
        self._caution.went_well()
        self._sent += length
        self._watched_sent += length
        self._watched_seconds += seconds
        self._chunks.took(length, seconds)
        self._fleet.report(self._number, length, seconds)
        held = progress.offset if isinstance(progress, Held) else self._size
        self._emit(BytesSent(self._number, held, length))

    def _check_worth(self) -> None:
        if self._sent > 4 * self._size + 64 * LARGEST_CHUNK:
            raise SessionGone("the upload session goes back again and again")
        watched = self._watched_seconds
        if self._may_replace and self._offset is not None:
            rate = self._watched_sent / max(watched, 1e-6)
            if self._fleet.crawls(self._number, rate, watched, self._size - self._offset, self._size):
                raise Crawling
        if watched > 60:  # judge a session by its last minute, not by a bad start long ago
            self._watched_seconds, self._watched_sent = 0.0, 0
