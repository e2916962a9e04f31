"""The directories of a dataset's parts, from the ledger or, where it does not have them, from where the parts lie."""

from __future__ import annotations

from driveshard.archive.directory import Directory
from driveshard.archive.manifest import ManifestPart
from driveshard.upload.dataset_folder.index import directory_of
from driveshard.upload.dataset_folder.publish import manifest_part
from driveshard.upload.surroundings import Surroundings


class KeptDirectories:
    """``directories(number)``. Raises BrokenDirectory, and errors of the way to the destination."""

    def __init__(self, around: Surroundings) -> None:
        self._around = around

    def __call__(self, number: int) -> Directory:
        return directory_of(manifest_part(self._around.ledger.part(number)), self._around.ledger, self._read)

    def _read(self, part: ManifestPart, start: int, length: int) -> bytes:
        return self._around.ask(
            lambda: self._around.destination.read(part.id, start, length), doing=f"reading the directory of {part.name}"
        )
