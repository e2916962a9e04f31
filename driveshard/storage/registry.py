"""From ``drive:`` or ``file:`` to a destination."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from functools import partial
from typing import Any

from driveshard.core.errors import UsageError
from driveshard.core.paths import path_of
from driveshard.core.similar import near
from driveshard.storage.base import Destination, Sender


def split_where(where: str) -> tuple[str, str]:
    """Scheme and rest of a WHERE: ``drive:``, ``drive:ID``, a folder link, or ``file:DIR``. Raises UsageError."""
    if where.startswith(("http://", "https://")):
        return "drive", where
    scheme, colon, rest = where.partition(":")
    if colon and scheme in ("drive", "file"):
        return scheme, rest
    raise UsageError(f"{where!r} is not a destination", advice=_perhaps(where, scheme if colon else ""))


def _perhaps(where: str, scheme: str) -> str:
    """What was probably meant: a path without file:, an id without drive:, a link without https://."""
    close = near(scheme, ("drive", "file")) if len(scheme) > 1 else None
    if close:
        return f"Did you mean {close}:{where.partition(':')[2]}?"
    if re.match(r"[\w-]+(\.[\w-]+)*\.(com|google)/", where) and "/folders/" in where:
        return f"Did you mean https://{where}?"
    if re.match(r"[/\\.~]|[A-Za-z]:[/\\]", where) or os.path.isdir(path_of(where)):  # noqa: PTH112
        return f"Did you mean file:{where}?"
    if len(where) >= 20 and re.fullmatch(r"[\w-]+", where, re.ASCII):
        return f"Did you mean drive:{where}?"
    if "/" in where and not scheme:
        return f"Did you mean file:{where}?"
    return "Give drive:, drive:FOLDER_ID, a folder link, or file:DIR."


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


def lender(destination: Destination) -> Callable[[], Sender] | None:
    """What lends a login for one request that a worker elsewhere makes for us; raises as a request does. None for a
    place that has none to lend: a folder, which is sent to from here."""
    client = getattr(destination, "client", None)
    if client is None:
        return None
    from driveshard.storage.drive.lent import lend

    return partial(lend, client)
