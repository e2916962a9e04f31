"""Builds parts into the spool, with more room or another worker where that is what it takes."""

from __future__ import annotations

from concurrent.futures import Future

from driveshard.core.clock import Clock
from driveshard.core.errors import LoanOver, PartTooLarge, TempFull, TempLost
from driveshard.core.events import Emit, PackStarted, Waiting
from driveshard.core.model import FileList, Part, PartSpec
from driveshard.sources.base import Source
from driveshard.sources.folder import FolderSource
from driveshard.upload.pack.engine import Engine, WorkerLost
from driveshard.upload.spool import Spool

_MOST_TRIES = 5
_SLACK = 64 * 1024  # bytes that files may grow between planning and packing before a part needs more room


class Builder:
    """Takes a spec to a finished part in the spool. Thread-safe."""

    def __init__(self, source: Source, engine: Engine, spool: Spool, clock: Clock, emit: Emit) -> None:
        self._source = source
        self._engine = engine
        self._spool = spool
        self._clock = clock
        self._emit = emit

    def build(self, spec: PartSpec, *, alone: bool = False) -> Part:
        """Build the part into the spool under its final name, with more room or another worker if it takes that."""
        room = first = max(self._bounded(spec, spec.estimate + _SLACK), self._spool.share)
        tries = 0
        while tries < _MOST_TRIES:
            self._spool.reserve(spec.number, room, on_wait=self._tell_full)
            self._emit(PackStarted(spec.number))
            try:
                part = self._submit(spec, room, alone).result()
                if part.files:
                    self._spool.commit(spec.number, spec.file_name, part.size, part.place)
                return part
            except WorkerLost:  # the engine says when that is enough
                self._clock.check()
                self._spool.cancel(spec.number)
                continue
            except PartTooLarge as error:
                self._spool.cancel(spec.number)
                if room >= self._spool.limit:
                    return self._grown(spec, error)
                # Nearly always enough. The whole limit would have to wait until no other part is held.
                room = min(2 * room, self._spool.limit) if room == first else self._spool.limit
            except TempLost:
                self._clock.check()
                self._spool.cancel(spec.number)
            except TempFull as error:
                self._spool.cancel(spec.number)
                if not error.vanished:
                    raise
            except LoanOver:  # the source is sent with another token
                self._spool.cancel(spec.number)
                if tries:
                    raise
            except BaseException:
                self._spool.cancel(spec.number)
                raise
            tries += 1
        raise TempFull(f"{spec.file_name} could not be built in {self._spool.directory} in {_MOST_TRIES} tries")

    def _submit(self, spec: PartSpec, room: int, alone: bool) -> Future[Part]:
        return self._engine.submit(spec, self._source, self._spool.building(spec.number), room, alone=alone)

    def _grown(self, spec: PartSpec, error: PartTooLarge) -> Part:
        """An empty part, so that its files are planned anew, when some of them outgrew the temp folder since they were
        planned; these are its failures. Raises ``error`` when it is none of that."""
        grown = self._source.grown(spec.selection) if isinstance(self._source, FolderSource) else ()
        if not grown:
            raise error
        return Part(spec.number, spec.file_name, 0, "", "", 0, 0, "", "", FileList(), grown)

    def _bounded(self, spec: PartSpec, room: int) -> int:
        """The slack must not make a part that just fits look too large."""
        return min(room, self._spool.limit) if spec.estimate <= self._spool.limit else room

    def _tell_full(self) -> None:
        self._emit(Waiting("packing is ahead of the line", 0.0, calm=True))
