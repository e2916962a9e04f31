"""How far a run is, left in a small file for ``status`` in a second terminal."""

from __future__ import annotations

import contextlib
import json
import os
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from driveshard.cli.progress.beat import beating
from driveshard.cli.progress.json_lines import progress_as_json
from driveshard.cli.progress.tally import Tally
from driveshard.core.live_files import gone_live

_EVERY = 1.0  # seconds
_EVERY_REST = 10.0  # seconds; between two pushes of a service
_FRESH = 30.0  # seconds after which nobody writes it any more


@contextmanager
def left_for_status(tally: Tally, home: Path) -> Iterator[None]:
    """Meanwhile the file is written every second; it goes at the end. That it cannot be written matters to nobody."""
    path = _path(home, os.getpid())

    def write() -> None:
        _write(home, path, {"at": time.time(), "name": tally.name or None, **progress_as_json(tally)})

    forget_gone(home)
    try:
        with beating(write, _EVERY):
            yield
    finally:
        with contextlib.suppress(OSError):
            path.unlink()


@contextmanager
def next_for_status(home: Path, name: str, when: float) -> Iterator[None]:
    """While a service rests: its next push of that dataset begins at ``when`` (POSIX seconds)."""
    path = home / "live" / f"{os.getpid()}.next.json"

    def write() -> None:
        _write(home, path, {"at": time.time(), "name": name, "next": when})

    try:
        write()
        with beating(write, _EVERY_REST):
            yield
    finally:
        with contextlib.suppress(OSError):
            path.unlink()


def read_next(home: Path, name: str) -> float | None:
    """When a service that rests now pushes that dataset next, in POSIX seconds."""
    found = []
    for path in (home / "live").glob("*.next.json"):
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
            document = json.loads(path.read_bytes())
            if document["name"] == name and abs(time.time() - document["at"]) < _FRESH:
                found.append(float(document["next"]))
    return min(found, default=None)


def _write(home: Path, path: Path, document: Mapping[str, Any]) -> None:
    with contextlib.suppress(OSError):
        if home.is_dir():
            path.parent.mkdir(mode=0o700, exist_ok=True)
            new = path.with_suffix(f".{threading.get_ident()}")
            new.write_text(json.dumps(document), encoding="utf-8")
            os.replace(new, path)


def forget_gone(home: Path) -> None:
    """Remove what killed runs left."""
    for path in gone_live(home):
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
