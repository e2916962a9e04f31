"""How a stored file leaves a folder destination: for good, or into its trash.

The trash is ``.driveshard/trash`` in the dataset's folder. What was put there is deleted for good after 30 days, as on
Drive, by whatever is put there next.
"""

from __future__ import annotations

import contextlib
import os
import time
from pathlib import Path

from driveshard.core.files import sync_directory
from driveshard.storage.folder.records import (
    FOLDER,
    STATE,
    Record,
    claimed,
    is_stored,
    partial_path,
    record_path,
    records,
    unused_name,
)

TRASH = "trash"
KEPT = 30 * 86_400.0  # seconds


def delete(place: Path, file_id: str) -> None:
    """The file, its unfinished upload and its record are gone for good."""
    name = _own_name(place, file_id)
    if name is not None:
        (place / name).unlink(missing_ok=True)
    _forget(place, file_id)


def put_in_trash(place: Path, file_id: str) -> None:
    """The file lies in the trash, under its name or one beside it, and its record is gone."""
    name = _own_name(place, file_id)
    trash = place / STATE / TRASH
    if name is not None:
        trash.mkdir(exist_ok=True)
        target = trash / name if not os.path.lexists(trash / name) else trash / unused_name(trash, name)
        os.utime(place / name)  # from now on the 30 days count
        (place / name).rename(target)
        sync_directory(place)
    _forget(place, file_id)
    empty(trash)


def delete_folder(place: Path) -> None:
    """What was stored here goes, the trash too, and the folder with it unless somebody else put something there."""
    for file_id, record in list(records(place)):
        if is_stored(place, file_id, record):
            (place / record.name).unlink(missing_ok=True)
    empty(place / STATE / TRASH, older_than=-1)
    for one in (place / STATE).iterdir():
        if one.name == TRASH:
            one.rmdir()
        elif one.name != FOLDER:
            one.unlink(missing_ok=True)
    (place / STATE / FOLDER).unlink(missing_ok=True)
    (place / STATE).rmdir()
    with contextlib.suppress(OSError):
        place.rmdir()


def empty(trash: Path, older_than: float = KEPT) -> None:
    """Delete what was put there so many seconds ago."""
    with contextlib.suppress(OSError):
        for one in list(os.scandir(trash)):
            if one.is_file(follow_symlinks=False) and time.time() - one.stat().st_mtime > older_than:
                Path(one.path).unlink(missing_ok=True)


def _own_name(place: Path, file_id: str) -> str | None:
    """The file's name, if it is stored and the name is not another's."""
    record = Record.read(record_path(place, file_id))
    if record is None or not is_stored(place, file_id, record) or claimed(place, file_id, record.name):
        return None
    return record.name


def _forget(place: Path, file_id: str) -> None:
    partial_path(place, file_id).unlink(missing_ok=True)
    record_path(place, file_id).unlink(missing_ok=True)
