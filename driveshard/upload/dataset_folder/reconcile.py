"""Compares the ledger with what the destination lists, at a run's start and end.

A list may lag, so what it lacks is asked for by id. What it has too much is removed only when all that it holds is
proved to be in a part of the ledger; whatever else somebody may have changed or put there stays, and is told.
"""

from __future__ import annotations

from collections.abc import Mapping

from driveshard.archive.manifest import NAME as MANIFEST
from driveshard.archive.zip_reader import DAMAGED, directory_of
from driveshard.core.errors import DailyCap, NotFound, Refused
from driveshard.core.events import Notice
from driveshard.core.model import PartState, RemoteFile
from driveshard.upload.ledger.rows import LedgerPart
from driveshard.upload.send.uploader import matches
from driveshard.upload.side_by_side import Later
from driveshard.upload.surroundings import Surroundings


def number_of(remote: RemoteFile) -> int:
    """The part's number that the file carries, -1 without one."""
    text = remote.properties.get("part", "")
    return int(text) if text.isascii() and text.isdecimal() and len(text) < 16 else -1


class Reconciler:
    """Needs one list request when all is well."""

    def __init__(self, around: Surroundings) -> None:
        self._around = around
        self._destination = around.destination
        self._ledger = around.ledger
        self._emit = around.emit
        self._begun: tuple[str, Later[list[RemoteFile]]] | None = None

    def begin(self) -> None:
        """Ask for the list now that ``reconcile`` will want."""
        folder_id = self._ledger.get("folder_id")
        if folder_id is not None and self._ledger.parts():
            self._begun = folder_id, self._around.later(lambda: self._list(folder_id))

    def _list(self, folder_id: str) -> list[RemoteFile]:
        return self._around.ask(lambda: self._destination.children(folder_id), doing="listing the folder")

    def reconcile(self, folder_id: str, job: str) -> None:
        """Send parts that vanished, or are damaged, back to *packed*; remove doubles."""
        begun, self._begun = self._begun, None
        parts = {part.number: part for part in self._ledger.parts()}
        if not parts:
            return
        listed = begun[1].result() if begun and begun[0] == folder_id else self._list(folder_id)
        by_id = {remote.id: remote for remote in listed}
        for part in parts.values():
            if part.state is PartState.RELEASED:
                self._check_released(part, by_id, folder_id)
        parts = {part.number: part for part in self._ledger.parts()}
        known = {part.file_id for part in parts.values()}
        for remote in listed:
            ours = remote.properties.get("job") == job and remote.properties.get("driveshard") == "part"
            if ours and remote.id not in known:
                self._check_beside(remote, parts)
        for name, (file_id, md5) in self._ledger.artifacts().items():
            if md5 is not None and file_id not in by_id:
                self._check_artifact(name, file_id)

    def _check_released(self, part: LedgerPart, by_id: dict[str, RemoteFile], folder_id: str) -> None:
        file_id = part.file_id or ""
        remote = by_id.get(file_id)
        if remote is None:
            try:
                remote = self._around.ask(lambda: self._destination.get(file_id), doing=f"looking for {part.file_name}")
            except NotFound:
                remote = None
        if remote is not None and remote.parent not in (None, folder_id):
            self._emit(
                Notice(
                    f"{part.file_name} was moved out of the dataset's folder, where those who have only the link cannot"
                    " read it; move it back"
                )
            )
        if remote is not None and (remote.md5 is None or matches(remote, part)):
            return
        what = "is gone from the folder" if remote is None else "was changed on the destination"
        self._emit(Notice(f"{part.file_name} {what}; it is packed and uploaded again"))
        if remote is not None:
            # It may hold the only copy of what the source has lost meanwhile: it stays until its like is stored.
            self._ledger.note(changed=[*self._changed(), file_id])
        self._ledger.wrong_bytes(part.number)

    def _changed(self) -> list[str]:
        """Ids of files that were parts once, proved, and were then changed by somebody."""
        return list(self._ledger.get("changed", []))

    def _check_beside(self, remote: RemoteFile, parts: Mapping[int, LedgerPart]) -> None:
        """A file that says it is a part of this dataset, and is not one of the ledger's."""
        said = remote.properties.get("sha256")
        like = next((one for one in parts.values() if one.sha256 == said and one.state is PartState.RELEASED), None)
        if like is not None and self._holds_no_more(remote, like):
            self._emit(Notice(f"{remote.name} was there twice; the copy that is not in the ledger is removed"))
            self._remove(remote.id)
            return
        twin = parts.get(number_of(remote))
        if twin is not None and twin.state is not PartState.RELEASED:
            return  # it is packed again in this run
        if remote.id in self._changed() or remote.sha256 not in (None, said):
            self._emit(
                Notice(
                    f"{remote.name} was changed on the destination since it was uploaded; it is left beside the parts,"
                    " for it may hold what they do not"
                )
            )
        elif twin is not None:
            self._emit(
                Notice(f"{remote.name} is there twice with different contents; somebody else pushes this dataset, too")
            )

    def _holds_no_more(self, remote: RemoteFile, like: LedgerPart) -> bool:
        """Whether the proved part ``like`` has all that is in the file: they are equal, or each of its members is
        there. Of a file that is no zip any more, or that the ledger never knew as a part (an older one was lost), the
        size must be the part's, too: then it is a damaged copy, and not what somebody made of it."""
        if remote.md5 is not None and matches(remote, like):
            return True
        if remote.size != like.size and remote.id not in self._changed():
            return False
        try:
            here = set(self._directory(remote.id, remote.size))
            return here <= set(self._directory(like.file_id or "", like.size or 0))
        except DAMAGED:
            return remote.size == like.size
        except (Refused, DailyCap):  # it may not be read now, or is gone meanwhile
            return False

    def _directory(self, file_id: str, size: int) -> list[tuple[bytes, int, int]]:
        def read(start: int, length: int) -> bytes:
            return self._around.ask(
                lambda: self._destination.read(file_id, start, length), doing="reading the directory of a part"
            )

        return directory_of(read, size)

    def _check_artifact(self, name: str, file_id: str) -> None:
        """Have a small file that is gone published again, and the manifest with it, which says that all is there."""
        try:
            self._around.ask(lambda: self._destination.get(file_id), doing=f"looking for {name}")
        except NotFound:
            known = self._ledger.artifact(name)
            if known is None or known[1] is None:
                return  # a page that this run itself took away just now
            self._ledger.forget_artifact(name)
            manifest = self._ledger.artifact(MANIFEST)
            if manifest is not None:
                self._ledger.note_artifact(MANIFEST, manifest[0], "")

    def _remove(self, file_id: str) -> None:
        self._around.write(lambda: self._destination.remove(file_id), doing="removing a file that should not be there")
