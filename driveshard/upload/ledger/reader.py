"""Ledgers seen from outside: which datasets there are and how far they are, also while a run goes on.

Read only, without the dataset's lock: a run must never wait for somebody who looks.
"""

from __future__ import annotations

import contextlib
import json
import os
import sqlite3
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from driveshard.config.settings import Settings
from driveshard.core.errors import SourceMissing, UsageError
from driveshard.core.model import PartState
from driveshard.core.similar import near
from driveshard.upload.ledger.lock import read_holder

GOOGLE = "https://www.googleapis.com/"  # as in drive.client, which is too dear to import for a look
_LEFT = "CASE WHEN state IN ('stored', 'verified', 'released') THEN 0 ELSE coalesce(size, estimate) - offset END"


@dataclass(frozen=True, slots=True)
class Progress:
    """A part's upload under way, in bytes."""

    file_name: str
    offset: int
    size: int


@dataclass(frozen=True, slots=True)
class Record:
    """What a ledger says. ``identity`` is the destination's; ``holder`` who runs it now (pid, host, since) or None;
    ``resume_after`` POSIX seconds; ``last_advice`` what must be done before the next run, or None; ``states`` counts
    parts; bytes of planned parts are estimates; ``spool`` is the folder in which parts waited last; ``gone`` counts
    files that the source had no more; ``where`` is the source's absolute path, if it has one; ``manifest_id`` the id of
    the published manifest."""

    path: Path
    name: str
    identity: str
    to: str
    source: str
    folder_id: str | None
    link: str | None
    shared: str | None
    complete: bool
    last_error: str | None
    resume_after: float | None
    states: Mapping[str, int]
    bytes: int
    bytes_left: int
    uploads: tuple[Progress, ...] = ()
    holder: Mapping[str, Any] | None = field(default=None)
    last_advice: str | None = None
    spool: Path | None = None
    gone: int = 0
    where: str | None = None
    manifest_id: str | None = None

    @property
    def spool_bytes(self) -> int:
        """What lies in the spool now."""
        total = 0
        with contextlib.suppress(OSError):
            for entry in os.scandir(self.spool) if self.spool is not None else ():
                with contextlib.suppress(OSError):
                    total += entry.stat(follow_symlinks=False).st_size
        return total

    @property
    def state(self) -> str:
        """``running``, ``complete`` or ``incomplete``."""
        if self.holder is not None:
            return "running"
        return "complete" if self.complete else "incomplete"

    def is_called(self, text: str) -> bool:
        """Whether ``text`` is its name, or its link in one of Drive's spellings."""
        linked = self.folder_id is not None and text.startswith("http") and self.folder_id in text
        return linked or text in (self.name, self.link)

    @property
    def drive_url(self) -> str | None:
        """The Drive it is on; None when it is on none."""
        words = self.identity.split(" ")
        return words[1] if words[0] == "drive" and len(words) > 1 else None

    @property
    def profile(self) -> str | None:
        """The login it was pushed with, where that has a name."""
        words = self.identity.split(" ")
        return words[3] if words[0] == "drive" and len(words) > 3 else None

    def is_on(self, settings: Settings) -> bool:
        """Whether the Drive that is talked to now is the one it is on; a plain directory is always at hand."""
        return self.drive_url in (None, settings.drive_url or GOOGLE)


def settings_for(record: Record, settings: Settings) -> Settings:
    """Settings that reach the record's place: its emulator and its login are used although nothing in the environment
    names them."""
    url = record.drive_url
    here = replace(settings, profile=record.profile or settings.profile)
    return replace(here, drive_url=url) if here.drive_url is None and url not in (None, GOOGLE) else here


def find_records(settings: Settings, name: str | None = None) -> list[Record]:
    """The datasets this machine has pushed, by name; those called ``name`` (or whose link it is), if given: on the
    Drive that is talked to now, or wherever they are when it has none. Raises SourceMissing when there is none."""
    paths = sorted(settings.ledgers.glob("*.sqlite")) if settings.ledgers.is_dir() else []
    records = [record for path in paths if (record := read_record(path)) is not None]
    if name is None:
        return records
    named = [record for record in records if record.is_called(name)]
    if not named:
        raise SourceMissing(f"there is no dataset {name} on this machine", advice=_others(name, records))
    return [record for record in named if record.is_on(settings)] or named


def find_record(settings: Settings, name: str) -> Record:
    """The one dataset of that name or link. Raises SourceMissing, and UsageError when there are several."""
    found = find_records(settings, name)
    # What never got a folder (a destination that was mistyped) is in nobody's way.
    found = [record for record in found if record.folder_id is not None] or found[:1]
    if len(found) > 1:
        places = ", ".join(record.to if record.drive_url is None else f"{record.to} {record.link}" for record in found)
        raise UsageError(f"there are {len(found)} datasets named {name}: {places}", advice="Give its link instead.")
    return found[0]


def _others(name: str, records: Iterable[Record]) -> str:
    names = sorted({record.name for record in records})
    close = near(name, names)
    if close:
        return f"Did you mean {close}?"
    return f"There are: {', '.join(names[:20])}." if names else "Nothing was pushed from here yet."


def read_record(path: Path) -> Record | None:
    """What the ledger at ``path`` says; None when it cannot be read or holds no dataset yet."""
    try:
        with contextlib.closing(open_read_only(path)) as db:
            return _record(path, db)
    except (sqlite3.Error, ValueError, TypeError):
        return None


def open_read_only(path: Path) -> sqlite3.Connection:
    """A connection that cannot write and takes no lock that a run would wait for. Raises sqlite3.Error."""
    db = sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True, timeout=5, isolation_level=None)
    try:
        db.execute("SELECT count(*) FROM meta")
    except sqlite3.OperationalError:
        # In a folder that cannot be written SQLite cannot share memory with a run; then there is none, either.
        db.close()
        db = sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro&immutable=1", uri=True, isolation_level=None)
    except BaseException:
        db.close()
        raise
    return db


def _record(path: Path, db: sqlite3.Connection) -> Record | None:
    db.execute("BEGIN")  # one moment for all that is read
    meta = {key: json.loads(value) for key, value in db.execute("SELECT key, value FROM meta")}
    if meta.get("job") is None:
        return None
    states = {state.value: 0 for state in PartState}
    states |= dict(db.execute("SELECT state, count(*) FROM parts GROUP BY state"))
    total, left = db.execute(
        f"SELECT coalesce(sum(coalesce(size, estimate)), 0), coalesce(sum({_LEFT}), 0) FROM parts"  # noqa: S608
    ).fetchone()
    uploads = db.execute("SELECT file_name, offset, size FROM parts WHERE state = 'begun' ORDER BY number").fetchall()
    published = db.execute("SELECT file_id FROM artifacts WHERE name = 'manifest.json' AND md5 IS NOT NULL").fetchone()
    finished = sum(states.values()) == states["released"] > 0
    return Record(
        path=path,
        name=str(meta.get("name", "")),
        identity=str(meta.get("identity", "")),
        to=str(meta.get("to", "drive:")),
        source=str(meta.get("source", "")),
        folder_id=meta.get("folder_id") if meta.get("folder_made") else None,
        link=meta.get("link"),
        shared=meta.get("shared"),
        complete=finished and published is not None and meta.get("last_error") is None,
        last_error=meta.get("last_error"),
        resume_after=meta.get("resume_after"),
        states=states,
        bytes=int(total),
        bytes_left=int(left),
        uploads=tuple(Progress(*row) for row in uploads),
        holder=read_holder(path.with_suffix(".lock")),
        last_advice=meta.get("last_advice"),
        gone=int(meta.get("gone", 0)),
        spool=Path(meta["spool"]) if meta.get("spool") else None,
        where=meta.get("where"),
        manifest_id=published[0] if published is not None else None,
    )
