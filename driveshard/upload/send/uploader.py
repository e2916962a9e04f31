"""One part through its life on the destination: reserve an id, begin, send, verify, release.

Whatever state a crash left, ``upload`` goes on from it; whatever the destination answers, it is asked again before
it is believed. A part's temp file is deleted in one place only, after the destination's checksum equalled ours.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing, suppress
from dataclasses import dataclass

from driveshard.core.errors import (
    IdInUse,
    IdRefused,
    Mismatch,
    NotFound,
    SessionGone,
    TempLost,
    Unavailable,
    Unreachable,
)
from driveshard.core.events import Notice, PartReleased, UploadStarted
from driveshard.core.model import PartState, RemoteFile, SampleRange, UploadSession
from driveshard.storage.base import Stored
from driveshard.upload.ledger.ledger import Ledger
from driveshard.upload.ledger.rows import LedgerPart
from driveshard.upload.send.load import Load
from driveshard.upload.send.request_size import RequestSizer
from driveshard.upload.send.transfer import Transfer
from driveshard.upload.spool import Spool
from driveshard.upload.surroundings import Surroundings

SESSION_LIFE = 7 * 86_400.0  # seconds; Drive forgets a session a week after it was begun
_MOST_RESTARTS = 5
_MOST_REPAIRS = 3
HEAD = 512 * 1024  # bytes
HEADS = 6


@dataclass(frozen=True, slots=True)
class Address:
    """Where parts go and what they carry: the job's id, the folder's id on the destination."""

    job: str
    folder_id: str


class Uploader:
    """Shared by all upload threads of a run; every part is in one thread's hands at a time. ``address`` may wait until
    the folder is there."""

    def __init__(self, around: Surroundings, address: Callable[[], Address], spool: Spool) -> None:
        self._around = around
        self._destination = around.destination
        self._ledger = around.ledger
        self._emit = around.emit
        self._address = address
        self.spool = spool
        self._heads: dict[int, bytes] = {}  # of the first parts that are released, by number
        self.begun: Callable[[], None] = lambda: None  # called when a session has begun
        self._sizer = RequestSizer(around.destination.chunk_unit, around.throttle.rate)

    def upload(self, number: int) -> None:
        """Take a packed part to *released*, from whatever state it is in.

        Raises TempLost when its bytes are needed and gone, Mismatch when the destination keeps storing other bytes,
        and the kinds that end a run.
        """
        reported: RemoteFile | None = None
        while True:
            part = self._ledger.part(number)
            if part.state in (PartState.PACKED, PartState.BEGUN):
                reported = self._transfer(part)
            elif part.state is PartState.STORED:
                self._verify(part, reported)
            elif part.state is PartState.VERIFIED:
                self._release(part)
            else:
                return

    def settle(self, part: LedgerPart) -> bool:
        """Finish a part without its bytes if the destination already has them; True if it did."""
        if part.state is PartState.BEGUN and part.session is not None:
            self._settle_begun(part)
        state = self._ledger.part(part.number).state
        if state in (PartState.STORED, PartState.VERIFIED):
            try:
                self.upload(part.number)
            except TempLost:
                return False
            return True
        return state is PartState.RELEASED

    def _settle_begun(self, part: LedgerPart) -> None:
        assert part.session is not None and part.size is not None
        session, size = part.session, part.size
        try:
            progress = self._around.ask(
                lambda: self._destination.query(session, size), doing=f"asking for {part.file_name}", number=part.number
            )
        except (SessionGone, IdInUse):
            self._give_up_session(part)
            return
        if isinstance(progress, Stored):
            self._ledger.stored(part.number)

    # -- packed, begun -> stored ---------------------------------------------------------------------------------

    def _transfer(self, part: LedgerPart) -> RemoteFile | None:
        """Send the part until it is stored; returns the destination's description if the upload's reply had it."""
        assert part.size is not None
        self._address()
        self._around.hold()
        session = part.session
        if session is not None and self._around.clock.now() - session.created > SESSION_LIFE:
            self._give_up_session(part)
            session = None
        restarts = 0
        with closing(self.spool.open(part.number, part.file_name)) as load:
            while self._ledger.part(part.number).state is not PartState.STORED:
                fresh = session is None
                session = session or self._begin(part)
                if session is None:
                    return None  # the id's file turned out to be this part
                try:
                    return self._send(part, session, load, fresh=fresh)
                except SessionGone as gone:
                    restarts += 1
                    if restarts > _MOST_RESTARTS:
                        raise Unreachable(f"Drive gave up the upload of {part.file_name} {restarts} times") from gone
                    self._give_up_session(part)
                    session = None
        return None

    def _give_up_session(self, part: LedgerPart) -> None:
        """Note that the session is no more, unless it finished before it went."""
        if self._stored_under_id(part):
            self._ledger.stored(part.number)
        else:
            self._ledger.session_gone(part.number)

    def _send(self, part: LedgerPart, session: UploadSession, load: Load, *, fresh: bool) -> RemoteFile | None:
        assert part.size is not None
        self._emit(UploadStarted(part.number, part.file_name, part.size, 0 if fresh else session.offset))
        remote: RemoteFile | None = None
        try:
            remote = Transfer(self._around, part, session, load, self._sizer, fresh=fresh).run()
        except IdInUse:
            if not self._stored_under_id(part):
                self._ledger.reserve(part.number, None)
                raise SessionGone("the reserved id belongs to another file") from None
        self._ledger.stored(part.number)
        return remote

    def _begin(self, part: LedgerPart) -> UploadSession | None:
        """A new session under the part's id, noted before a byte leaves; None when the id's file is the part. Raises
        IdRefused when Drive does not take another id, either."""
        assert part.size is not None
        address = self._address()
        refused = False
        for _ in range(_MOST_RESTARTS):
            file_id = self._ledger.part(part.number).file_id
            if file_id is None:
                file_id = self._around.reserve_id()
                self._ledger.reserve(part.number, file_id)
            try:
                session = self._around.write(
                    lambda file_id=file_id: self._begin_once(address, part, file_id),  # type: ignore[misc]
                    doing=f"beginning {part.file_name}",
                    number=part.number,
                )
            except IdInUse:
                if self._stored_under_id(part):
                    self._ledger.stored(part.number)
                    return None
                # Not what was sent under this id, so the id is of no use; what lies there is looked at by sweep.
                self._ledger.reserve(part.number, None)
                continue
            except IdRefused:
                self._ledger.reserve(part.number, None)
                if refused:
                    raise
                refused = True
                continue
            self._ledger.begun(part.number, session)
            self.begun()
            return session
        raise Unreachable(f"Drive refuses every id for {part.file_name}")

    def _begin_once(self, address: Address, part: LedgerPart, file_id: str) -> UploadSession:
        assert part.size is not None
        properties = part_properties(address.job, part, self._ledger)
        return self._destination.begin(file_id, address.folder_id, part.file_name, part.size, properties)

    def _stored_under_id(self, part: LedgerPart) -> bool:
        """Whether the file with the part's id exists and has the part's bytes. A file of ours with other bytes is
        removed, and its id with it: it can only be a spoilt upload of this very part."""
        current = self._ledger.part(part.number)
        if current.file_id is None:
            return False
        file_id = current.file_id
        try:
            remote = self._around.ask(lambda: self._with_checksum(file_id, part), doing=f"looking for {part.file_name}")
        except NotFound:
            return False
        if matches(remote, current):
            return True
        if remote.properties.get("job") == self._address().job and remote.properties.get("part") == str(part.number):
            self._remove(file_id)
            self._ledger.reserve(part.number, None)
        return False

    # -- stored -> verified -> released --------------------------------------------------------------------------

    def _verify(self, part: LedgerPart, reported: RemoteFile | None) -> None:
        """Compare checksums: those that came with the upload's reply, else those the file itself is asked for."""
        assert part.file_id is not None
        file_id = part.file_id
        if reported is not None and reported.id == file_id and matches(reported, part):
            self._ledger.verified(part.number)
            return
        try:
            remote = self._around.ask(lambda: self._with_checksum(file_id, part), doing=f"verifying {part.file_name}")
        except NotFound:
            self._repair(part, "is not on Drive although its upload ended")
            return
        if matches(remote, part):
            self._ledger.verified(part.number)
            return
        self._remove(file_id)
        self._repair(part, "has other bytes on Drive than were sent")

    def _repair(self, part: LedgerPart, what: str) -> None:
        repairs = self._ledger.wrong_bytes(part.number)
        if repairs > _MOST_REPAIRS:
            raise Mismatch(
                f"{part.file_name} {what}, {repairs} times in a row",
                advice="Check this machine's memory, disk and network; then run the same command again.",
            )
        self._emit(Notice(f"{part.file_name} {what}; it is uploaded again"))
        if not self.spool.is_intact(part.number, part.file_name, part.md5):
            raise TempLost(f"{part.file_name} is not intact in the temp folder")

    def _with_checksum(self, file_id: str, part: LedgerPart) -> RemoteFile:
        """The file, its checksum computed; a file of another size needs none to be another file."""
        remote = self._destination.get(file_id)
        if remote.md5 is None and remote.size == part.size:
            raise Unavailable("Drive has not computed the checksum yet")
        return remote

    def _remove(self, file_id: str) -> None:
        self._around.write(lambda: self._destination.remove(file_id), doing="removing a spoilt upload")

    def at_hand(self, number: int, file_name: str, start: int, length: int) -> bytes:
        """A range of a part, as far as it is still known here."""
        kept = self._heads.get(number, b"")[start : start + length]
        if len(kept) < length:
            with suppress(OSError, TempLost), closing(self.spool.open(number, file_name)) as load:
                return load.read(start, length)
        return kept

    def _keep_head(self, part: LedgerPart) -> None:
        """What is published shows some samples of a few parts; as long as it is here, it need not be asked for."""
        if len(self._heads) < HEADS:
            with suppress(OSError, TempLost), closing(self.spool.open(part.number, part.file_name)) as load:
                self._heads[part.number] = load.read(0, HEAD)

    def _release(self, part: LedgerPart) -> None:
        assert part.size is not None
        self._keep_head(part)
        self.spool.release(part.number, part.file_name)
        self._ledger.released(part.number)
        self._emit(PartReleased(part.number, part.file_name, part.size))


def part_properties(job: str, part: LedgerPart, ledger: Ledger) -> dict[str, str]:
    """What a part carries on the destination, enough to rebuild a lost ledger from. Drive allows 124 bytes a
    property."""
    properties = {
        "driveshard": "part",
        "job": job,
        "part": str(part.number),
        "sha256": part.sha256 or "",
        "samples": str(part.samples),
        "files": str(part.files),
    }
    selection = ledger.selection(part.number)
    if isinstance(selection, SampleRange):
        properties["range"] = f"{selection.start}-{selection.stop}"
    files, samples = ledger.superseded(part.number)
    if files:
        properties["replaces"] = f"{files}-{samples}"
    return properties


def matches(remote: RemoteFile, part: LedgerPart) -> bool:
    """Whether the destination holds the part's very bytes. Its sha256 is compared when it has one."""
    return (
        remote.size == part.size
        and (remote.md5 or "").lower() == part.md5
        and (remote.sha256 is None or remote.sha256.lower() == part.sha256)
    )
