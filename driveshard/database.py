"""Changes of an SQLite file, all or none, and what it means when its disk does not take them."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterator
from pathlib import Path

from driveshard.errors import TempFull


@contextlib.contextmanager
def transaction(db: sqlite3.Connection, path: Path) -> Iterator[sqlite3.Connection]:
    """Commit what the block changes, or nothing of it. ``path`` is the database's file. Raises TempFull when its disk
    is full or not writable."""
    try:
        db.execute("BEGIN IMMEDIATE")
        yield db
        db.execute("COMMIT")
    except BaseException as error:
        with contextlib.suppress(sqlite3.Error):  # SQLite has rolled back by itself when the disk is full
            db.execute("ROLLBACK")
        if isinstance(error, sqlite3.OperationalError):
            raise unusable(path, error) from error
        raise


def unusable(path: Path, error: sqlite3.Error) -> TempFull:
    """What it means that SQLite cannot write ``path``."""
    return TempFull(
        f"{path} cannot be written ({error})",
        advice="Its disk is full or not writable; mend that (or name another folder with DRIVESHARD_HOME), then run"
        " the same command again.",
    )
