"""What a dataset holds no more: files that were dropped from it, parts that others replaced.

A replaced part leaves the ledger in the transaction that brings the parts in its place, and lies among the retired
ones until a manifest without it is up; only then it may go from the destination.
"""

from __future__ import annotations

import hashlib
import json
import sqlite3
from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

from driveshard.core.model import Part
from driveshard.core.sqlite import put_names
from driveshard.upload.ledger.selections import encode_selection


@dataclass(frozen=True, slots=True)
class Arrived:
    """A part that is on the destination, proved, under ``file_id``. ``superseded`` is (files, samples) that replace
    older ones."""

    part: Part
    file_id: str
    generation: int
    superseded: tuple[int, int] = (0, 0)


class Replaced:
    """The part of the ledger that this module is about."""

    def _write(self) -> AbstractContextManager[sqlite3.Connection]:
        raise NotImplementedError

    def _rows(self, sql: str, *arguments: Any) -> list[tuple[Any, ...]]:
        raise NotImplementedError

    # -- parts ---------------------------------------------------------------------------------------------------

    def next_number(self) -> int:
        """A number that no part has, has had, or is promised to."""
        after = self._rows("SELECT coalesce(max(number) + 1, 0) FROM parts")[0][0]
        promised = self._rows("SELECT value FROM meta WHERE key = 'next_number'")
        return max(int(after), *(int(json.loads(value)) for (value,) in promised), 0)

    def promise(self, parts: int) -> tuple[int, int]:
        """Keep so many numbers, and as many generations, for parts that will arrive later; returns the first of each.
        What is planned meanwhile has higher ones, and so is newer."""
        with self._write() as db:
            number, generation = self.next_number(), _meta(db, "generation") + 1
            put_values(db, {"next_number": number + parts, "generation": generation + parts - 1})
        return number, generation

    def replace(self, old: Iterable[int], new: Sequence[Arrived] = ()) -> None:
        """The parts ``old`` are no more of the dataset, and ``new`` are, at once."""
        with self._write() as db:
            put_values(db, {"next_number": self.next_number()})
            for number in old:
                db.execute(
                    "INSERT OR REPLACE INTO retired SELECT file_id, file_name FROM parts"
                    " WHERE number = ? AND file_id IS NOT NULL",
                    (number,),
                )
                db.execute("DELETE FROM parts WHERE number = ?", (number,))
            for one in new:
                put_part(db, one)

    def retire(self, file_id: str, file_name: str) -> None:
        """A file that once was a part, and is none of the ledger's."""
        with self._write() as db:
            db.execute("INSERT OR REPLACE INTO retired VALUES (?, ?)", (file_id, file_name))

    def retired(self) -> dict[str, str]:
        """Names of replaced parts that are still on the destination, by id."""
        return dict(self._rows("SELECT file_id, file_name FROM retired ORDER BY file_name"))

    def forget_retired(self, file_id: str) -> None:
        """It is gone from the destination."""
        with self._write() as db:
            db.execute("DELETE FROM retired WHERE file_id = ?", (file_id,))

    # -- files ---------------------------------------------------------------------------------------------------

    def dropped_files(self) -> frozenset[bytes]:
        """Paths that parts hold and nobody is to see."""
        return frozenset(bytes(row[0]) for row in self._rows("SELECT path FROM dropped"))

    def drop_files(self, paths: Iterable[bytes]) -> None:
        """These are dropped, and no others."""
        ordered = sorted(paths)
        digest = hashlib.sha256(b"\0".join(ordered)).hexdigest() if ordered else None
        with self._write() as db:
            db.execute("DELETE FROM dropped")
            db.executemany("INSERT INTO dropped VALUES (?)", ((path,) for path in ordered))
            put_values(db, {"dropped": digest})


def put_part(db: sqlite3.Connection, arrived: Arrived) -> None:
    """-> released, within a transaction."""
    part = arrived.part
    db.execute(
        "INSERT INTO parts (number, state, file_name, generation, estimate, part_size, files, samples, size,"
        " md5, sha256, first, last, file_id, offset, superseded_files, superseded_samples)"
        " VALUES (?, 'released', ?, ?, ?, 0, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (
            *(part.number, part.file_name, arrived.generation, part.size, part.files, part.samples, part.size),
            *(part.md5, part.sha256, part.first, part.last, arrived.file_id, part.size, *arrived.superseded),
        ),
    )
    db.execute("INSERT INTO selections VALUES (?, ?)", (part.number, encode_selection(part.selection)))
    if part.end:
        db.execute("INSERT OR REPLACE INTO ends VALUES (?, ?, ?)", (part.number, part.sha256, part.end))
    put_names(db, part.number, part.names)


def put_values(db: sqlite3.Connection, values: Mapping[str, Any]) -> None:
    """JSON values about the dataset, within a transaction."""
    for key, value in values.items():
        db.execute("INSERT OR REPLACE INTO meta VALUES (?, ?)", (key, json.dumps(value, sort_keys=True)))


def _meta(db: sqlite3.Connection, key: str) -> int:
    row = db.execute("SELECT value FROM meta WHERE key = ?", (key,)).fetchone()
    return int(json.loads(row[0])) if row else 0
