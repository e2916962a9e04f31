"""Takes the merged parts of a compaction to *released*: fetched, built and sent, one being built while one is sent."""

from __future__ import annotations

from driveshard.core.errors import Interrupted, NotFound
from driveshard.core.events import Doing, Notice, PackStarted, PartPacked, Planned, Scanned, Started, Waiting
from driveshard.core.model import PartState
from driveshard.upload.ledger.rows import LedgerPart
from driveshard.upload.merge.choose import newest_among
from driveshard.upload.merge.newest import Directories
from driveshard.upload.merge.source import FetchedParts, fetch
from driveshard.upload.merge.work import Work
from driveshard.upload.pack.build import build_part
from driveshard.upload.send.uploader import Address, Uploader, matches
from driveshard.upload.side_by_side import Later
from driveshard.upload.spool import Spool
from driveshard.upload.surroundings import Surroundings

_SLACK = 64 * 1024  # bytes


class Workshop:
    """``around`` is the dataset's; ``fetched`` counts bytes that came from the destination."""

    def __init__(self, around: Surroundings, work: Work, directories: Directories, spool: Spool) -> None:
        self._dataset = around.ledger
        self._around = Surroundings(
            around.destination,
            work.ledger,
            around.retry,
            around.throttle,
            around.clock,
            around.emit,
            around.ids,
            lease=around.lease,
        )
        self._emit = around.emit
        self._work = work
        self._ledger = work.ledger
        self._spool = spool
        self._uploader = Uploader(self._around, lambda: Address(work.job, work.folder_id), spool)
        self._newest = newest_among(self._dataset, directories, work.sources, work.first)
        self._sending: Later[None] | None = None
        self.fetched = 0

    def bring_all(self, name: str) -> None:
        """Every merged part is on the destination, proved. Raises what a push raises, and Mismatch when a small part is
        not what it was."""
        self._check_released()
        self._take_over_spool()
        self._tell_start(name)
        try:
            for part in self._ledger.parts(unfinished=True):
                self._bring(part)
            self._await()
        except BaseException:
            self._around.settle()
            raise

    def _bring(self, part: LedgerPart) -> None:
        if not self._is_at_hand(part) and not self._uploader.settle(part):
            self._build(part)
        self._await()
        self._sending = self._around.later(lambda: self._send(part.number))

    def _is_at_hand(self, part: LedgerPart) -> bool:
        """Whether it was built and lies in the temp folder, whole."""
        if part.state is PartState.PLANNED:
            return False
        return self._spool.is_intact(part.number, part.file_name, part.md5)

    def _send(self, number: int) -> None:
        try:
            self._uploader.upload(number)
        except BaseException:
            self._spool.halt()  # nobody gives room back any more
            raise

    def _await(self) -> None:
        sending, self._sending = self._sending, None
        if sending is not None:
            sending.result()

    # -- building ------------------------------------------------------------------------------------------------

    def _build(self, part: LedgerPart) -> None:
        spec = self._ledger.spec(part.number)
        sources = [self._dataset.part(number) for number in self._work.sources_of(part.number)]
        largest = max(source.size or 0 for source in sources)
        room = sum(source.size or 0 for source in sources) + largest + spec.estimate + _SLACK
        self._reserve(part.number, room)
        files = {source.number: self._spool.directory / f".building-from-{source.number:05d}" for source in sources}
        try:
            for source in sources:
                self._emit(Doing(f"fetching {source.file_name}"))
                fetch(self._around, source, files[source.number], self._count)
            self._emit(PackStarted(part.number))
            target, most = self._spool.building(part.number), spec.estimate + _SLACK
            built = build_part(spec, FetchedParts(files, self._newest), target, most, self._around.clock.check)
        finally:
            for file in files.values():
                file.unlink(missing_ok=True)
        self._spool.commit(part.number, built.file_name, built.size)
        self._ledger.packed(built)
        self._emit(PartPacked(part.number, built.file_name, built.size, built.samples, built.files))

    def _reserve(self, number: int, room: int) -> None:
        def tell() -> None:
            self._emit(Waiting("merging is ahead of the line", 0.0, calm=True))

        try:
            self._spool.reserve(number, room, tell)
        except Interrupted:
            self._await()  # it failed, which is why there will be no room
            raise

    def _count(self, count: int) -> None:
        self.fetched += count

    # -- what an earlier run left --------------------------------------------------------------------------------

    def _check_released(self) -> None:
        """What an earlier run brought up must still be there: nothing else proves it when the small parts go."""
        for part in self._ledger.parts():
            if part.state is PartState.RELEASED and not self._is_there(part):
                self._emit(Notice(f"{part.file_name} is not on the destination any more; it is built again"))
                self._ledger.wrong_bytes(part.number)

    def _is_there(self, part: LedgerPart) -> bool:
        file_id = part.file_id or ""
        try:
            return matches(
                self._around.ask(lambda: self._around.destination.get(file_id), doing=f"looking for {part.file_name}"),
                part,
            )
        except NotFound:
            return False

    def _take_over_spool(self) -> None:
        waiting = [part for part in self._ledger.parts(unfinished=True) if part.state is not PartState.PLANNED]
        self._spool.sweep(part.file_name for part in waiting)
        for part in waiting:
            self._spool.adopt(part.number, part.file_name)

    def _tell_start(self, name: str) -> None:
        done = [part for part in self._ledger.parts() if part.state is PartState.RELEASED]
        size = sum(part.size or 0 for part in done)
        place = self._around.destination.describe()
        self._emit(Started(name, "its small parts", place, len(done), size, temp=str(self._spool.directory)))
        left = self._ledger.parts(unfinished=True)
        for part in left:
            self._emit(Planned(part.number, part.size or part.estimate))
        self._emit(Scanned(0, sum(part.estimate for part in left), complete=True))
