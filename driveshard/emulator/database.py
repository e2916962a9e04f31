"""What must survive a `kill -9`, as JSON documents in one SQLite file, and the counters beside it."""

from __future__ import annotations

import json
import os
import sqlite3
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any


class Database:
    """JSON documents by kind and id. One connection behind one lock; a transaction is all or nothing.

    The kinds are `files`, `sessions`, `ids`, `deleted` (ids that never work again) and `tokens`.
    """

    def __init__(self, path: Path) -> None:
        self.lock = threading.RLock()
        self._depth = 0
        self._connection = sqlite3.connect(path, check_same_thread=False, isolation_level=None)
        self._connection.execute("PRAGMA journal_mode=WAL")
        # A killed process loses nothing with OFF; only a dying machine could, and nobody's data lives here.
        self._connection.execute("PRAGMA synchronous=OFF")
        self._connection.execute(
            "CREATE TABLE IF NOT EXISTS documents (kind TEXT, id TEXT, document TEXT NOT NULL, PRIMARY KEY (kind, id))"
        )

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """Everything put or dropped inside is committed together, or not at all. Nested ones join the outer one."""
        with self.lock:
            if self._depth == 0:
                self._connection.execute("BEGIN IMMEDIATE")
            self._depth += 1
            try:
                yield
            except BaseException:
                self._depth -= 1
                if self._depth == 0:
                    self._connection.execute("ROLLBACK")
                raise
            self._depth -= 1
            if self._depth == 0:
                self._connection.execute("COMMIT")

    def put(self, kind: str, key: str, document: dict[str, Any]) -> None:
        """Insert or replace a document."""
        with self.lock:
            # An upsert keeps the row's number, and so the order in which `load` returns it.
            self._connection.execute(
                "INSERT INTO documents VALUES (?, ?, ?)"
                " ON CONFLICT (kind, id) DO UPDATE SET document = excluded.document",
                (kind, key, json.dumps(document)),
            )

    def put_new(self, kind: str, keys: list[str], document: dict[str, Any]) -> None:
        """Insert the same document under many new keys in one go."""
        text = json.dumps(document)
        with self.transaction():
            self._connection.executemany("INSERT INTO documents VALUES (?, ?, ?)", [(kind, key, text) for key in keys])

    def get(self, kind: str, key: str) -> dict[str, Any] | None:
        """The document of that key, or None."""
        with self.lock:
            query = "SELECT document FROM documents WHERE kind = ? AND id = ?"
            row = self._connection.execute(query, (kind, key)).fetchone()
        return json.loads(row[0]) if row else None

    def drop(self, kind: str, key: str) -> None:
        """Remove a document; a missing one is no error."""
        with self.lock:
            self._connection.execute("DELETE FROM documents WHERE kind = ? AND id = ?", (kind, key))

    def load(self, kind: str) -> list[tuple[str, dict[str, Any]]]:
        """Every (key, document) of a kind in insertion order."""
        with self.lock:
            query = "SELECT id, document FROM documents WHERE kind = ? ORDER BY rowid"
            rows = self._connection.execute(query, (kind,)).fetchall()
        return [(key, json.loads(text)) for key, text in rows]

    def close(self) -> None:
        """Close the file."""
        with self.lock:
            self._connection.close()


class Tally:
    """A few counters in a file, written through at each change: true even after a `kill -9` in the middle of a body."""

    def __init__(self, path: Path, names: tuple[str, ...]) -> None:
        self._lock = threading.Lock()
        self._path = path
        self._format = struct.Struct(f"<{len(names)}q")
        held = path.read_bytes() if path.exists() else b""
        values = self._format.unpack(held) if len(held) == self._format.size else (0,) * len(names)
        self._values = dict(zip(names, values, strict=True))
        self._file: int | None = None

    def add(self, name: str, count: int = 1) -> None:
        """Add to one counter."""
        with self._lock:
            self._values[name] += count
            self._write()

    def values(self) -> dict[str, int]:
        """All counters."""
        with self._lock:
            return dict(self._values)

    def reset(self) -> None:
        """Set every counter to 0."""
        with self._lock:
            self._values = dict.fromkeys(self._values, 0)
            self._write()

    def release(self) -> None:
        """Close the file until the next change, so that many idle counters hold no descriptors."""
        with self._lock:
            if self._file is not None:
                os.close(self._file)
                self._file = None

    def _write(self) -> None:
        if self._file is None:
            self._file = os.open(self._path, os.O_WRONLY | os.O_CREAT | getattr(os, "O_BINARY", 0), 0o600)
        packed = self._format.pack(*self._values.values())
        if hasattr(os, "pwrite"):
            os.pwrite(self._file, packed, 0)
        else:  # on Windows; the lock keeps the two calls together
            os.lseek(self._file, 0, os.SEEK_SET)
            os.write(self._file, packed)
