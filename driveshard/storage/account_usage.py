"""What all runs on this machine share of one Drive account: the pace of writes and the bytes of the day.

Two datasets may be pushed side by side, but Drive counts per account; so the tally is one small SQLite file in the
home folder, and a write's place in the queue is reserved there.
"""

from __future__ import annotations

import contextlib
import json
import os
import sqlite3
import threading
from dataclasses import dataclass
from pathlib import Path

from driveshard.core.sqlite import transaction, unusable
from driveshard.storage.rate_limits import DAY, next_write

_SLACK = 300.0  # seconds
_SCHEMA = """
CREATE TABLE IF NOT EXISTS writes (account TEXT PRIMARY KEY, places TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS sent (account TEXT, hour INTEGER, bytes INTEGER NOT NULL, PRIMARY KEY (account, hour));
"""


def _open(path: Path) -> sqlite3.Connection:
    _close_to_others(path)
    db = sqlite3.connect(path, timeout=30, isolation_level=None, check_same_thread=False)
    try:
        # Not WAL: two runs that switch to it at the same moment are told "locked" without being made to wait.
        db.execute("PRAGMA synchronous=OFF")  # a tally lost in a power cut only makes us start politely again
        db.executescript(_SCHEMA)
    except sqlite3.DatabaseError:
        db.close()
        raise
    return db


def _close_to_others(path: Path) -> None:
    """How much somebody uploads, and when, is nobody else's business. SQLite gives its journal the file's own mode."""
    with contextlib.suppress(OSError):  # SQLite says better what is wrong with the place
        os.close(os.open(path, os.O_CREAT | os.O_RDWR, 0o600))
        if os.name != "nt" and path.stat().st_mode & 0o077:
            path.chmod(0o600)


def _latest(now: float) -> int:
    """The last hour that counts: clocks are set right by minutes, and a thread may be late by seconds."""
    return int((now + _SLACK) // 3600)


@dataclass(frozen=True, slots=True)
class AccountUse:
    """Bytes that all runs of this machine sent to ``account`` in the last 24 hours; the oldest of them drop out at
    ``again`` (POSIX seconds)."""

    account: str
    sent: int
    again: float


def read_usage(path: Path, now: float) -> list[AccountUse]:
    """What the shared file at ``path`` knows of each account that sent something in the 24 hours before ``now``. Only
    looks; a file that is not there or cannot be read knows nothing."""
    first = int((now - DAY) // 3600)
    try:
        with contextlib.closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True, timeout=5)) as db:
            rows = db.execute(
                "SELECT account, sum(bytes), min(hour) FROM sent WHERE hour BETWEEN ? AND ?"
                " GROUP BY account ORDER BY account",
                (first, _latest(now)),
            ).fetchall()
    except sqlite3.Error:
        return []
    return [AccountUse(account, int(sent), (oldest + 1) * 3600 + DAY) for account, sent, oldest in rows if sent > 0]


class AccountTally:
    """``path`` is the shared file; ``account`` separates destinations (Google's Drive, an emulator's address).

    Raises TempFull, as every change does, when its disk is full or not writable.
    """

    def __init__(self, path: Path, account: str) -> None:
        self._path = path
        self._account = account
        self._lock = threading.Lock()
        try:
            self._db = _open(path)
        except sqlite3.DatabaseError as error:
            if error.sqlite_errorcode & 0xFF not in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB):
                raise unusable(path, error) from error
            for suffix in ("", "-wal", "-shm"):  # nothing in it is worth more than a polite new start
                path.with_name(path.name + suffix).unlink(missing_ok=True)
            self._db = _open(path)

    def reserve_write(self, per_second: float, now: float) -> float:
        """Take the next free place in the queue of writes; return the seconds until it (``now`` is POSIX time)."""
        if per_second <= 0:
            return 0.0
        with self._lock, transaction(self._db, self._path) as db:
            row = db.execute("SELECT places FROM writes WHERE account = ?", (self._account,)).fetchone()
            place, places = next_write(json.loads(row[0]) if row else [], per_second, now)
            db.execute("REPLACE INTO writes VALUES (?, ?)", (self._account, json.dumps(places)))
        return max(0.0, place - now)

    def add_sent(self, count: int, now: float) -> None:
        """Note ``count`` bytes sent at POSIX time ``now``."""
        with self._lock, transaction(self._db, self._path) as db:
            db.execute(
                "INSERT INTO sent VALUES (?, ?, ?)"
                " ON CONFLICT (account, hour) DO UPDATE SET bytes = bytes + excluded.bytes",
                (self._account, int(now // 3600), count),
            )
            db.execute("DELETE FROM sent WHERE hour > ?", (_latest(now),))

    def sent_since(self, now: float) -> tuple[int, float]:
        """Bytes sent in the 24 hours before ``now``, and the POSIX time at which the oldest of them drop out. What was
        noted while the clock was ahead would never be a day old, and counts no more."""
        first = int((now - DAY) // 3600)  # counted whole: some of that hour's bytes are younger than a day
        with self._lock:
            total, oldest = self._db.execute(
                "SELECT coalesce(sum(bytes), 0), coalesce(min(hour), ?) FROM sent WHERE account = ?"
                " AND hour BETWEEN ? AND ?",
                (first, self._account, first, _latest(now)),
            ).fetchone()
        return int(total), (oldest + 1) * 3600 + DAY

    def close(self) -> None:
        with self._lock:
            self._db.close()
