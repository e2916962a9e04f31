"""The journal of one dataset: a SQLite file in which every step is noted before, and proved after, it is taken.

One process writes it (the run holds the dataset's lock); threads share one connection behind a lock. Every method
that changes a part is one transition of the state machine in docs/design.md and one transaction, on disk when the
method returns. The file holds session URIs, so it is readable by its owner only.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import sqlite3
import threading
import uuid
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from driveshard.core.errors import Defect
from driveshard.core.model import FileList, NameFacts, Part, PartSpec, PartState, Selection, UploadSession
from driveshard.core.sqlite import SURROUNDINGS, create_private, put_names, reading, transaction, unusable
from driveshard.upload.ledger.replaced import Arrived, Replaced, put_part, put_values
from driveshard.upload.ledger.rows import PART_COLUMNS, LedgerDamaged, LedgerPart, Totals, part_of
from driveshard.upload.ledger.schema import APPLICATION_ID, ENDS, NAMES, REPLACED, SCHEMA, SCHEMA_VERSION
from driveshard.upload.ledger.selections import decode_selection, encode_selection


class Ledger(Replaced):
    """Open or create the journal at ``path``. Raises LedgerDamaged and, as every method does, TempFull when the disk it
    is on is full or not writable, Busy when another program holds it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock = threading.RLock()
        path.parent.mkdir(parents=True, exist_ok=True)
        create_private(path)
        try:
            self._db = sqlite3.connect(path, timeout=30, isolation_level=None, check_same_thread=False)
            self._prepare()
        except sqlite3.DatabaseError as error:
            self._close_quietly()
            if error.sqlite_errorcode & 0xFF in SURROUNDINGS:
                raise unusable(path, error) from error
            raise LedgerDamaged(str(error)) from error
        except LedgerDamaged:
            self._close_quietly()
            raise

    def _prepare(self) -> None:
        self._db.execute("PRAGMA journal_mode=WAL")
        self._db.execute("PRAGMA synchronous=FULL")
        self._db.execute("PRAGMA foreign_keys=ON")
        version = self._db.execute("PRAGMA user_version").fetchone()[0]
        tables = {row[0] for row in self._db.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
        if version == 0 and not tables:
            with self._write() as db:
                for statement in SCHEMA.split(";\n"):
                    db.execute(statement)
                for statement in (ENDS, *REPLACED):
                    db.execute(statement)
                db.execute(f"PRAGMA application_id={APPLICATION_ID}")
                db.execute(NAMES)
                db.execute(f"PRAGMA user_version={SCHEMA_VERSION}")
            return
        if version != SCHEMA_VERSION:
            raise LedgerDamaged(f"it has schema version {version}, this driveshard knows {SCHEMA_VERSION}")
        if not {"meta", "parts", "selections", "artifacts"} <= tables:
            raise LedgerDamaged("tables are missing")
        verdict = self._db.execute("PRAGMA quick_check(1)").fetchone()[0]
        if verdict != "ok":
            raise LedgerDamaged(verdict)
        if "names" not in tables:
            self._db.execute(NAMES)
        for statement in (ENDS, *REPLACED):
            self._db.execute(statement)

    def _close_quietly(self) -> None:
        with contextlib.suppress(AttributeError, sqlite3.Error):
            self._db.close()

    def close(self) -> None:
        with self._lock:
            self._db.close()

    def __enter__(self) -> Ledger:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @contextlib.contextmanager
    def _write(self) -> Iterator[sqlite3.Connection]:
        with self._lock, transaction(self._db, self.path) as db:
            yield db

    def _rows(self, sql: str, *arguments: Any) -> list[tuple[Any, ...]]:
        with self._lock, reading(self.path):
            return self._db.execute(sql, arguments).fetchall()

    # -- the dataset ---------------------------------------------------------------------------------------------

    def get(self, key: str, default: Any = None) -> Any:
        """A JSON value noted about the dataset."""
        rows = self._rows("SELECT value FROM meta WHERE key = ?", key)
        return json.loads(rows[0][0]) if rows else default

    def note(self, **values: Any) -> None:
        """Note JSON values about the dataset, all or none."""
        with self._write() as db:
            put_values(db, values)

    @property
    def is_new(self) -> bool:
        return self.get("job") is None

    def create_job(self, name: str, **values: Any) -> str:
        """Name the dataset and give it an id that its parts carry on the destination; returns the id."""
        job = uuid.uuid4().hex
        self.note(job=job, name=name, **values)
        return job

    def begin_anew(self, name: str, **values: Any) -> str:
        """As ``create_job``, and forget all that was noted of the dataset before: its folder is gone."""
        job = uuid.uuid4().hex
        with self._write() as db:
            for table in ("parts", "artifacts", "names", "meta", "retired", "dropped"):
                db.execute(f"DELETE FROM {table}")  # noqa: S608
            put_values(db, {"job": job, "name": name, **values})
        return job

    def totals(self) -> Totals:
        """Counts over all parts, a member replaced by a newer part counted once: as counted when the parts were all
        packed (``settled``), before that as planned."""
        settled = self.settled()
        row = self._rows(
            "SELECT count(*), coalesce(sum(state = 'released'), 0), coalesce(sum(samples - superseded_samples), 0),"
            " coalesce(sum(files - superseded_files), 0), coalesce(sum(size), 0) FROM parts"
        )[0]
        parts, released, samples, files, size = (int(value) for value in row)
        if settled:
            samples, files = settled["samples"], settled["files"]
        return Totals(parts, released, samples, files, size)

    def contents(self) -> str:
        """Changes whenever any part's bytes do, or which files are dropped."""
        rows = self._rows("SELECT number, sha256, state = 'planned' FROM parts ORDER BY number")
        dropped = self.get("dropped") or ""
        return hashlib.sha256((repr(rows) + dropped).encode()).hexdigest()

    def settled(self) -> dict[str, Any]:
        """What ``settling.settle`` noted about the parts as they are now; empty when that is still to be done."""
        noted: dict[str, Any] = self.get("settled", {})
        return noted if noted and noted["contents"] == self.contents() else {}

    def released_totals(self) -> tuple[int, int]:
        """(parts, bytes) that are proved and released."""
        row = self._rows("SELECT count(*), coalesce(sum(size), 0) FROM parts WHERE state = 'released'")[0]
        return int(row[0]), int(row[1])

    def released_files(self) -> int:
        """Members of the parts that are proved and released."""
        return int(self._rows("SELECT coalesce(sum(files), 0) FROM parts WHERE state = 'released'")[0][0])

    # -- parts: reading ------------------------------------------------------------------------------------------

    def parts(self, *, unfinished: bool = False) -> list[LedgerPart]:
        """All parts, or those not yet released, by number."""
        where = "WHERE state != 'released' " if unfinished else ""
        return [part_of(row) for row in self._rows(f"SELECT {PART_COLUMNS} FROM parts {where}ORDER BY number")]  # noqa: S608

    def part(self, number: int) -> LedgerPart:
        """One part's row; raises Defect when there is none."""
        rows = self._rows(f"SELECT {PART_COLUMNS} FROM parts WHERE number = ?", number)  # noqa: S608
        if not rows:
            raise Defect(f"part {number} is not in the ledger")
        return part_of(rows[0])

    def spec(self, number: int) -> PartSpec:
        """What the part is to hold, as planned or, once packed, as it was really packed."""
        rows = self._rows(
            "SELECT p.number, p.file_name, s.data, p.estimate, p.part_size"
            " FROM parts p JOIN selections s USING (number) WHERE p.number = ?",
            number,
        )
        if not rows:
            raise Defect(f"part {number} has no selection in the ledger")
        number, file_name, data, estimate, part_size = rows[0]
        return PartSpec(number, file_name, decode_selection(data), estimate, part_size)

    def generations(self) -> list[list[int]]:
        """Part numbers of each planning run, in path order within one, oldest run first."""
        runs: dict[int, list[int]] = {}
        for generation, number in self._rows("SELECT generation, number FROM parts ORDER BY generation, number"):
            runs.setdefault(generation, []).append(number)
        return list(runs.values())

    def selection(self, number: int) -> Selection:
        return self.spec(number).selection

    def kept_selection(self, number: int) -> Selection | None:
        """As ``selection``; None for a part that was dropped meanwhile, because nothing of it could be read."""
        rows = self._rows("SELECT data FROM selections WHERE number = ?", number)
        return decode_selection(rows[0][0]) if rows else None

    def end(self, number: int, sha256: str) -> bytes | None:
        """The compressed end of that zip, None when it is not known."""
        rows = self._rows("SELECT data FROM ends WHERE number = ? AND sha256 = ?", number, sha256)
        return bytes(rows[0][0]) if rows else None

    # -- parts: transitions --------------------------------------------------------------------------------------

    def plan(self, spec: PartSpec, generation: int, superseded: tuple[int, int] = (0, 0)) -> None:
        """-> planned. ``superseded`` is (files, samples) that replace older ones."""
        with self._write() as db:
            db.execute(
                "INSERT INTO parts (number, state, file_name, generation, estimate, part_size, superseded_files,"
                " superseded_samples) VALUES (?, 'planned', ?, ?, ?, ?, ?, ?)",
                (spec.number, spec.file_name, generation, spec.estimate, spec.part_size, *superseded),
            )
            db.execute("INSERT INTO selections VALUES (?, ?)", (spec.number, encode_selection(spec.selection)))

    def packed(self, part: Part) -> None:
        """planned -> packed: the zip is in the spool under its final name. Also notes a part built again, whose
        upload (if the bytes are the same) goes on: a later state is kept then."""
        with self._write() as db:
            if part.end:
                db.execute("INSERT OR REPLACE INTO ends VALUES (?, ?, ?)", (part.number, part.sha256, part.end))
            row = db.execute("SELECT state, sha256 FROM parts WHERE number = ?", (part.number,)).fetchone()
            if row[0] != PartState.PLANNED and row[1] == part.sha256:
                return
            db.execute(
                "UPDATE parts SET state = 'packed', files = ?, samples = ?, size = ?, md5 = ?, sha256 = ?, first = ?,"
                " last = ?, session_uri = NULL, session_created = NULL, offset = 0 WHERE number = ?",
                (part.files, part.samples, part.size, part.md5, part.sha256, part.first, part.last, part.number),
            )
            db.execute(
                "UPDATE selections SET data = ? WHERE number = ?", (encode_selection(part.selection), part.number)
            )
            put_names(db, part.number, part.names)

    def restamp(self, number: int, changes: Mapping[bytes, int]) -> None:
        """Note other change stamps of a packed part's files, by path; everything else stays."""
        with self._write() as db:
            row = db.execute("SELECT data FROM selections WHERE number = ?", (number,)).fetchone()
            held = decode_selection(row[0]) if row else None
            if not isinstance(held, FileList) or not held.crcs:
                return  # planned anew meanwhile
            for index, path in enumerate(held.split_paths()):
                if path in changes:
                    held.changes[index] = changes[path]
            db.execute("UPDATE selections SET data = ? WHERE number = ?", (encode_selection(held), number))

    def drop(self, number: int) -> None:
        """Forget a part of which nothing could be read, so that its files count as new next time."""
        with self._write() as db:
            db.execute("DELETE FROM parts WHERE number = ?", (number,))

    def reserve(self, number: int, file_id: str | None) -> None:
        """Note the id the part will have on the destination, or None to have another one reserved."""
        with self._write() as db:
            db.execute(
                "UPDATE parts SET file_id = ?, session_uri = NULL, session_created = NULL, offset = 0 WHERE number = ?",
                (file_id, number),
            )

    def begun(self, number: int, session: UploadSession) -> None:
        """packed -> begun: id and session URI are known before the first byte leaves."""
        with self._write() as db:
            db.execute(
                "UPDATE parts SET state = 'begun', file_id = ?, session_uri = ?, session_created = ?, offset = 0"
                " WHERE number = ?",
                (session.file_id, session.uri, session.created, number),
            )

    def confirmed(self, number: int, offset: int) -> None:
        """The server holds ``offset`` bytes. For ``status`` only: after a crash the server is asked."""
        with self._write() as db:
            db.execute("UPDATE parts SET offset = ? WHERE number = ?", (offset, number))

    def session_gone(self, number: int) -> None:
        """begun -> packed: the session is no more; the id stays reserved."""
        with self._write() as db:
            db.execute(
                "UPDATE parts SET state = 'packed', session_uri = NULL, session_created = NULL, offset = 0"
                " WHERE number = ?",
                (number,),
            )

    def stored(self, number: int) -> None:
        """begun -> stored: the destination has the whole file; its checksum is not compared yet."""
        with self._write() as db:
            db.execute(
                "UPDATE parts SET state = 'stored', session_uri = NULL, session_created = NULL, offset = size"
                " WHERE number = ?",
                (number,),
            )

    def verified(self, number: int) -> None:
        """stored -> verified: the destination's checksum equals ours, so the repairs before do not count any more."""
        with self._write() as db:
            db.execute("UPDATE parts SET state = 'verified', repairs = 0 WHERE number = ?", (number,))

    def released(self, number: int) -> None:
        """verified -> released: the spool file is gone."""
        self._set_state(number, PartState.RELEASED)

    def wrong_bytes(self, number: int) -> int:
        """stored -> packed: what is stored is not what was sent; the id is given up. Returns the repairs so far."""
        with self._write() as db:
            db.execute(
                "UPDATE parts SET state = 'packed', file_id = NULL, session_uri = NULL, session_created = NULL,"
                " offset = 0, repairs = repairs + 1 WHERE number = ?",
                (number,),
            )
            return int(db.execute("SELECT repairs FROM parts WHERE number = ?", (number,)).fetchone()[0])

    def _set_state(self, number: int, state: PartState) -> None:
        with self._write() as db:
            db.execute("UPDATE parts SET state = ? WHERE number = ?", (state.value, number))

    def forget(self) -> None:
        """Empty the journal of a dataset that has no job yet: an earlier recovery was cut short."""
        with self._write() as db:
            db.execute("DELETE FROM parts")
            db.execute("DELETE FROM artifacts")

    def superseded(self, number: int) -> tuple[int, int]:
        """(files, samples) of the part that replace older ones."""
        rows = self._rows("SELECT superseded_files, superseded_samples FROM parts WHERE number = ?", number)
        return rows[0][0], rows[0][1]

    def adopt(self, part: Part, file_id: str, generation: int, superseded: tuple[int, int] = (0, 0)) -> None:
        """-> released: a part found on the destination when the ledger itself was lost."""
        with self._write() as db:
            put_part(db, Arrived(part, file_id, generation, superseded))

    # -- the members' names ---------------------------------------------------------------------------------------

    def note_names(self, number: int, facts: NameFacts) -> None:
        with self._write() as db:
            put_names(db, number, facts)

    def names(self) -> dict[int, tuple[dict[str, Any], bytes]]:
        """(trouble, fields) of every part whose names are known, by number, oldest first."""
        rows = self._rows("SELECT number, trouble, fields FROM names ORDER BY number")
        return {number: (json.loads(trouble), fields) for number, trouble, fields in rows}

    def open_column(self, number: int, column: str) -> sqlite3.Blob:
        """A part's ``names`` or ``folders`` column, to be read piece by piece."""
        return self._db.blobopen("names", column, number, readonly=True)

    # -- the small files beside the parts ------------------------------------------------------------------------

    def artifact(self, name: str) -> tuple[str, str | None] | None:
        """(file id, md5 once it is stored) of manifest, card or preview; None when it was never begun."""
        rows = self._rows("SELECT file_id, md5 FROM artifacts WHERE name = ?", name)
        return (rows[0][0], rows[0][1]) if rows else None

    def artifacts(self) -> dict[str, tuple[str, str | None]]:
        return {name: (file_id, md5) for name, file_id, md5 in self._rows("SELECT name, file_id, md5 FROM artifacts")}

    def note_artifact(self, name: str, file_id: str, md5: str | None) -> None:
        with self._write() as db:
            db.execute("INSERT OR REPLACE INTO artifacts VALUES (?, ?, ?)", (name, file_id, md5))

    def forget_artifact(self, name: str) -> None:
        """It is gone from the destination; the next one gets another id."""
        with self._write() as db:
            db.execute("DELETE FROM artifacts WHERE name = ?", (name,))
