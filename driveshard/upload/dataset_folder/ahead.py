"""What lies beside the parts, written while the last of them are on their way; all but the manifest."""

from __future__ import annotations

from collections.abc import Callable

from driveshard.core.errors import DriveshardError
from driveshard.upload.dataset_folder.publish import Publisher, Written, manifest_of
from driveshard.upload.send.uploader import Address, Uploader
from driveshard.upload.side_by_side import Later
from driveshard.upload.surroundings import Surroundings


class Ahead:
    """An index needs no more of its parts than their directories, and a preview some of their samples, most of which
    lie in the temp folder still; so both can go up once all parts are packed, and on a first push the card. Then
    nothing else is written, and the end of a run has neither to read nor to pace them. ``readers`` is who may read in
    the end, for the card."""

    def __init__(self, around: Surroundings, address: Callable[[], Address], uploader: Uploader, readers: str) -> None:
        self._around = around
        self._address = address
        self._uploader = uploader
        self._readers = readers
        self._written: Later[Written] | None = None

    def begin(self) -> None:
        """All parts are packed and their sessions begun."""
        self._written = self._around.later(self._write)

    def _write(self) -> Written:
        publisher = Publisher(self._around, self._address().folder_id, self._uploader.at_hand)
        return publisher.write_ahead(manifest_of(self._around.ledger), self._readers)

    def written(self) -> Written:
        """What of it is there. What went wrong with it is met again where it is published."""
        try:
            return Written() if self._written is None else self._written.result()
        except (DriveshardError, OSError):
            return Written()
