"""Compares the ledger with what the destination lists, at a run's start and end.

A list may lag, so what it lacks is asked for by id; what it has too much is removed only when it is the very same
part stored twice, or a spoilt upload of ours.
"""

from __future__ import annotations

from driveshard.budget import Budget
from driveshard.destination import Destination
from driveshard.errors import NotFound
from driveshard.events import Emit, Notice
from driveshard.ledger import Ledger, LedgerPart
from driveshard.manifest import NAME as MANIFEST
from driveshard.model import PartState, RemoteFile
from driveshard.retry import Retry
from driveshard.uploader import matches


class Reconciler:
    """Needs one list request when all is well."""

    def __init__(self, destination: Destination, ledger: Ledger, retry: Retry, budget: Budget, emit: Emit) -> None:
        self._destination = destination
        self._ledger = ledger
        self._retry = retry
        self._budget = budget
        self._emit = emit

    def reconcile(self, folder_id: str, job: str) -> None:
        """Send parts that vanished, or are damaged, back to *packed*; remove doubles."""
        parts = {part.number: part for part in self._ledger.parts()}
        if not parts:
            return
        listed = self._retry.call(lambda: self._destination.children(folder_id), doing="listing the folder")
        by_id = {remote.id: remote for remote in listed}
        for part in parts.values():
            if part.state is PartState.RELEASED:
                self._check_released(part, by_id, folder_id)
        for remote in listed:
            if remote.properties.get("job") == job and remote.properties.get("driveshard") == "part":
                self._check_double(remote, parts)
        for name, (file_id, md5) in self._ledger.artifacts().items():
            if md5 is not None and file_id not in by_id:
                self._check_artifact(name, file_id)

    def _check_released(self, part: LedgerPart, by_id: dict[str, RemoteFile], folder_id: str) -> None:
        file_id = part.file_id or ""
        remote = by_id.get(file_id)
        if remote is None:
            try:
                remote = self._retry.call(lambda: self._destination.get(file_id), doing=f"looking for {part.file_name}")
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

    def _check_double(self, remote: RemoteFile, parts: dict[int, LedgerPart]) -> None:
        number = remote.properties.get("part", "")
        said = remote.properties.get("sha256")
        changed = remote.id in self._changed()
        spoilt = remote.sha256 is not None and remote.sha256.lower() != said and not changed
        if not number.isdigit() or int(number) not in parts:
            if spoilt:  # of a ledger that was lost: nobody will ever want these bytes
                self._remove(remote.id)
            return
        part = self._ledger.part(int(number))
        if part.file_id == remote.id or part.state is not PartState.RELEASED:
            return
        if said == part.sha256 or spoilt:
            self._emit(Notice(f"{remote.name} was there twice; the copy that is not in the ledger is removed"))
            self._remove(remote.id)
        elif changed:
            self._emit(
                Notice(
                    f"{remote.name} was changed on the destination, and not all that it held could be packed again;"
                    " the changed file is left beside the new one"
                )
            )
        else:
            self._emit(
                Notice(f"{remote.name} is there twice with different contents; somebody else pushes this dataset, too")
            )

    def _check_artifact(self, name: str, file_id: str) -> None:
        """Have a small file that is gone published again, and the manifest with it, which says that all is there."""
        try:
            self._retry.call(lambda: self._destination.get(file_id), doing=f"looking for {name}")
        except NotFound:
            self._ledger.forget_artifact(name)
            manifest = self._ledger.artifact(MANIFEST)
            if manifest is not None:
                self._ledger.note_artifact(MANIFEST, manifest[0], "")

    def _remove(self, file_id: str) -> None:
        def step() -> None:
            self._budget.write()
            self._destination.remove(file_id)

        self._retry.call(step, doing="removing a file that should not be there")
