"""How far a run is, left in a small file for ``status`` in a second terminal."""

from __future__ import annotations

import contextlib
import json
import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from driveshard.cli.progress.beat import beating
from driveshard.cli.progress.json_lines import progress_as_json
from driveshard.cli.progress.tally import Tally

_EVERY = 1.0  # seconds
_FRESH = 30.0  # seconds after which nobody writes it any more


@contextmanager
def left_for_status(tally: Tally, home: Path) -> Iterator[None]:
    """Meanwhile the file is written every second; it goes at the end. That it cannot be written matters to nobody."""
    path = _path(home, os.getpid())

    def write() -> None:
        with contextlib.suppress(OSError):
            if home.is_dir():
                path.parent.mkdir(mode=0o700, exist_ok=True)
                document = {"at": time.time(), "name": tally.name or None, **progress_as_json(tally)}
                new = path.with_suffix(f".{threading.get_ident()}")
                new.write_text(json.dumps(document), encoding="utf-8")
                os.replace(new, path)

    try:
        with beating(write, _EVERY):
            yield
    finally:
        with contextlib.suppress(OSError):
            path.unlink()


def read_live(home: Path, pid: int, name: str) -> dict[str, Any] | None:
    """What that process left about the dataset, if it is of this half minute; as ``progress_as_json``."""
    try:
        document = json.loads(_path(home, pid).read_bytes())
        known = document.pop("name") in (name, None) and abs(time.time() - document.pop("at")) < _FRESH
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None
    return document if known else None


def _path(home: Path, pid: int) -> Path:
    return home / "live" / f"{pid}.json"
