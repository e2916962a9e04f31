"""Changes of an SQLite file, all or none, and what it means when it cannot be used."""

from __future__ import annotations

import contextlib
import json
import os
import sqlite3
from collections.abc import Iterator
from pathlib import Path

from driveshard.core.errors import Busy, DriveshardError, TempFull
from driveshard.core.model import NameFacts

_HELD = {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_PROTOCOL}
_WHY = {
    sqlite3.SQLITE_FULL: ("its disk is full", "Free some room there"),
    sqlite3.SQLITE_READONLY: ("it is not writable", "Mend its permissions"),
    sqlite3.SQLITE_PERM: ("it is not writable", "Mend its permissions"),
    sqlite3.SQLITE_CANTOPEN: ("it cannot be opened", "Mend the folder it is in, or its permissions"),
    sqlite3.SQLITE_IOERR: ("its disk fails, or is full", "Mend the disk, or free some room there"),
}
# What is wrong with the disk or its rights, and says nothing about the file.
SURROUNDINGS = {
    sqlite3.SQLITE_PERM,
    sqlite3.SQLITE_BUSY,
    sqlite3.SQLITE_LOCKED,
    sqlite3.SQLITE_PROTOCOL,
    sqlite3.SQLITE_NOMEM,
    sqlite3.SQLITE_READONLY,
    sqlite3.SQLITE_IOERR,
    sqlite3.SQLITE_FULL,
    sqlite3.SQLITE_CANTOPEN,
}


@contextlib.contextmanager
def transaction(db: sqlite3.Connection, path: Path) -> Iterator[sqlite3.Connection]:
    """Commit what the block changes, or nothing of it. ``path`` is the database's file. Raises what ``unusable``
    says."""
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


@contextlib.contextmanager
def reading(path: Path) -> Iterator[None]:
    """Reads from the database at ``path``. Raises what ``unusable`` says."""
    try:
        yield
    except sqlite3.OperationalError as error:
        raise unusable(path, error) from error


def unusable(path: Path, error: sqlite3.Error) -> DriveshardError:
    """What it means that SQLite cannot use ``path``: Busy when somebody else holds it, else TempFull."""
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF
    if code in _HELD:
        return Busy(
            f"the SQLite file {path} is locked by another program: an SQLite browser, a backup or a virus scanner that"
            " holds it open, or a driveshard that hangs",
            advice="Close that program, then run the same command again; nothing is lost.",
        )
    why, what = _WHY.get(code, ("its disk is full or not writable", "Mend that"))
    return TempFull(
        f"{path} cannot be written: {why} ({error})",
        advice=f"{what} (or name another folder with DRIVESHARD_HOME), then run the same command again.",
    )


def create_private(path: Path) -> None:
    """SQLite gives its journal files the mode of the database, so the mode must be right before it is opened."""
    try:
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600))
    except FileExistsError:  # perhaps from a backup that lost its mode
        if os.name != "nt" and path.stat().st_mode & 0o077:
            with contextlib.suppress(OSError):
                path.chmod(0o600)


def put_names(db: sqlite3.Connection, number: int, facts: NameFacts | None) -> None:
    """A ledger's row of what is known of a part's names; none when nothing is."""
    if facts is None:
        db.execute("DELETE FROM names WHERE number = ?", (number,))
        return
    told = {"counts": dict(facts.counts), "examples": dict(facts.examples), "kinds": dict(facts.kinds)}
    trouble = json.dumps(told, sort_keys=True)
    row = (number, trouble, facts.fields, facts.names, facts.folders)
    db.execute("INSERT OR REPLACE INTO names VALUES (?, ?, ?, ?, ?)", row)
