"""Where a ``Dataset`` reads from: a directory, or a link whose parts come into a cache."""

from __future__ import annotations

import os
from pathlib import Path

from driveshard.archive import manifest as manifests
from driveshard.config.settings import home_folder
from driveshard.core.errors import SourceMissing
from driveshard.core.units import parse_size
from driveshard.dataset.find_index import index_in, parts_in
from driveshard.dataset.link import OnBytes, open_link
from driveshard.dataset.parts import LocalParts, Place


def open_place(
    where: str,
    cache: str | os.PathLike[str] | None,
    limit: int | str | None,
    on_bytes: OnBytes = lambda *_: None,
) -> Place:
    """The place that ``where`` means; ``on_bytes`` is told of an index that is fetched. Raises SourceMissing, Mismatch,
    and what the way to a link raises."""
    kept = Path(cache).expanduser() if cache is not None else home_folder(os.environ) / "cache"
    directory = Path(where.removeprefix("file:")).expanduser().absolute()
    if directory.is_dir() and (where.startswith("file:") or _holds_parts(directory)):
        parts = parts_in(directory)
        return Place(directory.name, LocalParts(directory.absolute(), parts), *index_in(directory, parts, kept))
    try:
        return open_link(where, kept, parse_size(limit) if isinstance(limit, str) else limit, on_bytes)
    except SourceMissing:
        if directory.is_dir():
            parts_in(directory)  # says what is missing there
        raise


def _holds_parts(directory: Path) -> bool:
    return (directory / manifests.NAME).is_file() or any(directory.glob("*.zip"))
