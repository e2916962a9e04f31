"""A dataset opened by a worker of somebody else's: a directory that it sees, or what it was lent."""

from __future__ import annotations

import tempfile
from pathlib import Path

from driveshard.dataset.link import LinkReader, open_link
from driveshard.dataset.parts import Place
from driveshard.dataset.places import open_place
from driveshard.dataset.shelf import Lent, require_seen

Way = Path | Lent
"""A directory with parts, or the way to a shelf."""


def place_by(way: Way) -> Place:
    """The dataset, with an index that is mapped and of which no file is left. Raises ConfigError for a directory that
    is not seen from here, and what opening a dataset raises."""
    with tempfile.TemporaryDirectory(prefix="driveshard-", ignore_cleanup_errors=True) as cache:
        if isinstance(way, Lent):
            return open_link(way, Path(cache), None)
        require_seen(way)
        return open_place(f"file:{way}", cache, None)


def renew(place: Place, way: Way) -> None:
    """Go on with what was lent just now."""
    if isinstance(way, Lent):
        place.parts.reader = LinkReader(way)  # type: ignore[attr-defined]
