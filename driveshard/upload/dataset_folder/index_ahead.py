"""The index, written while the last parts are on their way."""

from __future__ import annotations

from collections.abc import Callable

from driveshard.core.errors import DriveshardError
from driveshard.upload.dataset_folder.publish import Publisher, Sha256s, manifest_of
from driveshard.upload.send.uploader import Address
from driveshard.upload.side_by_side import Later
from driveshard.upload.surroundings import Surroundings


class IndexAhead:
    """An index needs no more of its parts than their directories, so it can go up once all of them are packed. Then
    nothing else is written, and the end of a run has one write less to pace."""

    def __init__(self, around: Surroundings, address: Callable[[], Address]) -> None:
        self._around = around
        self._address = address
        self._written: Later[Sha256s] | None = None

    def begin(self) -> None:
        """All parts are packed and their sessions begun."""
        self._written = self._around.later(self._write)

    def _write(self) -> Sha256s:
        return Publisher(self._around, self._address().folder_id).write_index(manifest_of(self._around.ledger))

    def parts(self) -> Sha256s:
        """The parts that the written index is of, none without one. What went wrong with it is met again where it is
        published."""
        try:
            return () if self._written is None else self._written.result()
        except (DriveshardError, OSError):
            return ()
