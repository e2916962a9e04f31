"""Sends one part through one upload session, always from what the destination says it holds.

Retry and resume are one loop. After any failure of a request the next step asks first; bytes accepted end the step, so
that only failures in a row count.
"""

from __future__ import annotations

from driveshard.core.errors import SessionGone, Throttled, Unavailable
from driveshard.core.events import BytesSent
from driveshard.core.model import RemoteFile, UploadSession
from driveshard.storage.base import Held, Progress, Stored
from driveshard.upload.ledger.rows import LedgerPart
from driveshard.upload.send.load import Load, Stretch
from driveshard.upload.send.request_size import FIRST_REQUEST, RequestSizer
from driveshard.upload.surroundings import Surroundings

_TELL_EVERY = 0.1  # seconds


class Transfer:
    """One part's bytes on their way into ``session``. ``load`` is where they come from; ``fresh`` says that the
    session has just been begun, so that it need not be asked what it holds."""

    def __init__(
        self,
        around: Surroundings,
        part: LedgerPart,
        session: UploadSession,
        load: Load,
        sizer: RequestSizer,
        *,
        fresh: bool,
    ) -> None:
        assert part.size is not None
        self._around = around
        self._part = part
        self._size = part.size
        self._session = session
        self._load = load
        self._sizer = sizer
        self._offset: int | None = 0 if fresh else None
        self._best = 0 if fresh else -1
        self._at, self._told = 0, 0.0  # the place that the request has come to; when it was last told
        self._taken = self._untold = 0  # bytes: of all requests that were answered well, sent since the last event

    def run(self) -> RemoteFile:
        """Send until the destination says that the file is stored; returns its description.

        Raises SessionGone, TempLost, and whatever the retry layer gives up with.
        """
        while True:
            progress = self._around.ask(self._step, doing=f"sending {self._part.file_name}", number=self._part.number)
            if isinstance(progress, Stored):
                self._tell(self._size)
                return progress.file
            self._around.clock.check()
            if self._taken > 4 * self._size + 64 * FIRST_REQUEST:
                raise SessionGone("the upload session goes back again and again")

    def _step(self) -> Progress:
        """One request accepted, the end, or bytes found there that a lost reply did not tell of. Any failure leaves the
        offset unknown, so that the next try asks first."""
        offset, self._offset = self._offset, None
        if offset is None:
            progress = self._around.destination.query(self._session, self._size)
            if isinstance(progress, Stored):
                return progress
            offset = progress.offset
            self._tell(offset)
            if offset > self._best:
                return self._advanced(progress)
            self._around.retry.heed()  # what another thread was told meanwhile
        try:
            progress = self._send(offset)
        except (Unavailable, Throttled):
            self._sizer.failed()
            raise
        if isinstance(progress, Held):
            if progress.offset <= offset:
                self._around.ledger.confirmed(self._part.number, progress.offset)
                raise Unavailable("Drive kept nothing of what was sent")
            self._tell(progress.offset)
            self._advanced(progress)
        return progress

    def _advanced(self, held: Held) -> Held:
        self._around.ledger.confirmed(self._part.number, held.offset)
        self._best = max(self._best, held.offset)
        self._offset = held.offset if held.offset < self._size else None
        return held

    def _send(self, offset: int) -> Progress:
        unit, rate = self._around.destination.chunk_unit, self._around.throttle.rate
        # Everything held and yet not finished: send the last piece again, which is skipped and ends the upload.
        start = offset if offset < self._size else (self._size - 1) // unit * unit
        wanted = self._load.fitting(self._sizer.of(self._size - start), unit, rate)
        with self._around.throttle.request(wanted, unit) as allowed:
            began = self._told = self._around.clock.monotonic()
            self._at = start
            progress = self._load.send(self._around, Stretch(self._session, start, allowed, self._size), self._sent)
            self._taken += allowed.length
            held = progress.offset if isinstance(progress, Held) else self._size
            if held >= start + allowed.length:
                self._sizer.took(allowed.length, self._around.clock.monotonic() - began)
        return progress

    def _sent(self, count: int) -> None:
        """So many bytes of the request have left."""
        self._at += count
        self._untold += count
        if self._around.clock.monotonic() - self._told >= _TELL_EVERY:
            self._told = self._around.clock.monotonic()
            self._tell(self._at)

    def _tell(self, offset: int) -> None:
        sent, self._untold = self._untold, 0
        self._around.emit(BytesSent(self._part.number, offset, sent))
