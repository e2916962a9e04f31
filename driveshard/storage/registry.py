"""From ``drive:`` or ``file:`` to a destination."""

from __future__ import annotations

from typing import Any

from driveshard.core.errors import UsageError
from driveshard.core.paths import path_of
from driveshard.storage.base import Destination


def split_where(where: str) -> tuple[str, str]:
    """Scheme and rest of a WHERE: ``drive:``, ``drive:ID``, a folder link, or ``file:DIR``. Raises UsageError."""
    if where.startswith(("http://", "https://")):
        return "drive", where
    scheme, colon, rest = where.partition(":")
    if colon and scheme in ("drive", "file"):
        return scheme, rest
    raise UsageError(
        f"{where!r} is not a destination", advice="Give drive:, drive:FOLDER_ID, a folder link, or file:DIR."
    )


def open_destination(where: str, settings: Any) -> Destination:
    """The destination that ``where`` names. ``settings`` is what the config module knows (home, Drive URL, timeout).

    Implementations are imported when they are asked for: Google's client takes a third of a second to load.
    """
    scheme, rest = split_where(where)
    if scheme == "file":
        from driveshard.storage.folder.destination import FolderDestination

        if not rest:
            raise UsageError("file: needs a directory", advice="Write file:DIR, for example file:/mnt/nas/datasets.")
        if "\0" in rest:
            raise UsageError(f"{where!r} names no directory", advice="Leave out the zero byte.")
        return FolderDestination(path_of(rest))
    from driveshard.storage.drive.destination import open_drive

    drive: Destination = open_drive(rest, settings)
    return drive
