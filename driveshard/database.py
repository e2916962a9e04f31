"""Changes of an SQLite file, all or none, and what it means when its disk does not take them."""

from __future__ import annotations

import contextlib
import json
import os
import sqlite3
from collections.abc import Iterator
from pathlib import Path

from driveshard.errors import TempFull
from driveshard.model import NameFacts

# What is wrong with the disk or its rights, and says nothing about the file.
SURROUNDINGS = {
    sqlite3.SQLITE_PERM,
    sqlite3.SQLITE_BUSY,
    sqlite3.SQLITE_NOMEM,
    sqlite3.SQLITE_READONLY,
    sqlite3.SQLITE_IOERR,
    sqlite3.SQLITE_FULL,
    sqlite3.SQLITE_CANTOPEN,
}


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


def create_private(path: Path) -> None:
    """SQLite gives its journal files the mode of the database, so the mode must be right before it is opened."""
    with contextlib.suppress(FileExistsError):
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600))


def put_names(db: sqlite3.Connection, number: int, facts: NameFacts | None) -> None:
    """A ledger's row of what is known of a part's names; none when nothing is."""
    if facts is None:
        db.execute("DELETE FROM names WHERE number = ?", (number,))
        return
    trouble = json.dumps({"counts": dict(facts.counts), "examples": dict(facts.examples)}, sort_keys=True)
    row = (number, trouble, facts.fields, facts.names, facts.folders)
    db.execute("INSERT OR REPLACE INTO names VALUES (?, ?, ?, ?, ?)", row)
