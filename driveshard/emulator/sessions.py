"""Resumable sessions: what each holds, on disk from the first byte, so that a restart goes on where it was.

A session's bytes lie in one growing blob. Its length, rounded down to 256 KiB, is the truth about what is held:
nothing has to be written per chunk, and a `kill -9` in the middle of a body loses less than one unit.
"""

from __future__ import annotations

import hashlib
import os
import secrets
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from driveshard.emulator.database import Database, Tally
from driveshard.emulator.record import Content
from driveshard.emulator.wire import BLOCK

UNIT = 256 * 1024
LIFETIME = 7 * 24 * 3600.0
OPEN, DONE, CANCELLED, BROKEN = "open", "done", "cancelled", "broken"
SETTLE_SECONDS = 2.0
QUIET_SECONDS = 0.25


class SupersededError(Exception):
    """Another request writes to the session now; this one's connection is dropped."""


def floor(size: int) -> int:
    """`size` rounded down to whole 256 KiB units."""
    return size - size % UNIT


@dataclass
class Hashed:
    """md5, sha1 and sha256 of the first `size` bytes of a file, open to more."""

    size: int
    digests: tuple[Any, ...]

    def copy(self) -> Hashed:
        """The same, apart from this one."""
        return Hashed(self.size, tuple(digest.copy() for digest in self.digests))

    def update(self, block: memoryview) -> None:
        """Add bytes."""
        for digest in self.digests:
            digest.update(block)
        self.size += len(block)


class Digests:
    """md5, sha1 and sha256 of a growing file. Each byte is hashed once, as it comes; a cut goes back to a mark.

    Marks lie at the last whole unit and where the last request began: what a broken request may leave. Thread-safe.
    """

    NAMES = ("md5", "sha1", "sha256")

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._restart()

    def _restart(self) -> None:
        self._now = Hashed(0, tuple(hashlib.new(name, usedforsecurity=False) for name in self.NAMES))
        self._begun = self._unit = self._now.copy()

    def mark(self) -> None:
        """A request begins here."""
        with self._lock:
            self._begun = self._now.copy()

    def feed(self, position: int, block: memoryview) -> None:
        """Hash bytes that were written at `position`; bytes before it that were not hashed are left to `advance`."""
        with self._lock:
            if self._now.size == position:
                self._feed(block)

    def cut(self, size: int) -> None:
        """The content from `size` on changed: what was hashed beyond it is hashed anew."""
        with self._lock:
            if self._now.size <= size:
                return
            marks = [mark for mark in (self._begun, self._unit) if mark.size <= size]
            if not marks:
                self._restart()
                return
            self._now = max(marks, key=lambda mark: mark.size).copy()
            self._begun = self._unit = self._now.copy()

    def advance(self, path: Path, upto: int) -> dict[str, str]:
        """Hex digests of the first `upto` bytes."""
        with self._lock:
            if self._now.size > upto:
                self._restart()
            if self._now.size < upto:
                self._catch_up(path, upto)
            return {name: digest.hexdigest() for name, digest in zip(self.NAMES, self._now.digests, strict=True)}

    def _feed(self, block: memoryview) -> None:
        while block:
            piece = block[: UNIT - self._now.size % UNIT]
            self._now.update(piece)
            if self._now.size % UNIT == 0:
                self._unit = self._now.copy()
            block = block[len(piece) :]

    def _catch_up(self, path: Path, upto: int) -> None:
        buffer = memoryview(bytearray(min(BLOCK, upto - self._now.size)))
        with path.open("rb", buffering=0) as source:
            source.seek(self._now.size)
            while self._now.size < upto:
                count = source.readinto(buffer[: upto - self._now.size])
                if not count:
                    raise OSError(f"{path.name} ends at {self._now.size}, expected {upto}")
                self._feed(buffer[:count])


@dataclass
class Session:
    """One resumable upload. `held` counts the bytes in the blob; `state` is open, done, cancelled, broken or a status
    code as text (404, 410, 409: that is the answer to everything from then on). `crd` is the URI's second secret;
    `kept` is what stays should the request under way break (None: every whole unit)."""

    id: str
    file_id: str
    update: bool
    metadata: dict[str, Any]
    params: dict[str, str]
    content_type: str
    declared: int | None
    created: float
    path: Path
    crd: str = ""
    state: str = OPEN
    held: int = 0
    slow: bool = False
    lock: threading.RLock = field(default_factory=threading.RLock)
    digests: Digests = field(default_factory=Digests)
    received: Tally | None = None
    turn: int = 0
    writing: bool = False
    kept: int | None = None

    def settle(self) -> None:
        """End the turn of an older writer, so that the offset told next stays true.

        Its client has given that connection up, or would not ask. What is still on its way gets a moment to arrive.
        """
        deadline = time.monotonic() + SETTLE_SECONDS
        seen, quiet = self.held, time.monotonic() + QUIET_SECONDS
        while self.writing and time.monotonic() < min(quiet, deadline):
            time.sleep(0.005)
            if self.held != seen:
                seen, quiet = self.held, time.monotonic() + QUIET_SECONDS
        with self.lock:
            self.turn += 1
            self.writing = False
            if self.state == OPEN:
                self.truncate(self.safe())
            self.kept = None

    def safe(self) -> int:
        """The bytes that stay when the request under way breaks here."""
        return floor(self.held) if self.kept is None else min(self.kept, self.held)

    def truncate(self, size: int) -> None:
        """Keep the first `size` bytes only."""
        with self.lock:
            if size < self.held:
                os.truncate(self.path, size)
                self.digests.cut(size)
            self.held = size

    def document(self) -> dict[str, Any]:
        """What is kept on disk besides the blob."""
        names = ("file_id", "update", "metadata", "params", "content_type", "declared", "created", "crd")
        return {name: getattr(self, name) for name in (*names, "state", "slow")}

    def summary(self) -> dict[str, Any]:
        """The session as `/_emulator/stats` shows it."""
        return {
            "id": self.id,
            "file_id": self.file_id,
            "name": self.metadata.get("name"),
            "received": self.received.values()["received"] if self.received else 0,
            "stored": self.held,
            "state": self.state,
        }


class Writer:
    """The one request that may add bytes to a session, until it ends or a newer one settles the session."""

    def __init__(self, session: Session, *, keep_nothing: bool = False) -> None:
        self._session = session
        with session.lock:
            session.turn += 1
            session.writing = True
            session.kept = session.held if keep_nothing else None
            session.digests.mark()
            self._turn = session.turn
            self._blob = session.path.open("r+b", buffering=0)

    @property
    def current(self) -> bool:
        """False once a newer request took over."""
        return self._turn == self._session.turn

    def append(self, block: memoryview) -> None:
        """Add bytes at the end. Raises SupersededError when a newer request took over."""
        with self._session.lock:
            if not self.current:
                raise SupersededError
            self._blob.seek(self._session.held)
            self._blob.write(block)
            position = self._session.held
            self._session.held += len(block)
            self._session.digests.feed(position, block)

    def __enter__(self) -> Writer:
        return self

    def __exit__(self, *_: object) -> None:
        self._blob.close()
        with self._session.lock:
            if self.current:
                self._session.writing = False
                self._session.kept = None


class Sessions:
    """All sessions by upload id; unfinished ones survive a restart with the bytes they hold."""

    def __init__(self, root: Path, blobs: Path, database: Database) -> None:
        self._blobs = blobs
        self._tallies = root / "sessions"
        self._tallies.mkdir(exist_ok=True)
        self._database = database
        self._lock = threading.Lock()
        self._sessions: dict[str, Session] = {}
        for key, document in database.load("sessions"):
            session = Session(id=key, path=blobs / key, **document)
            session.received = Tally(self._tallies / key, ("received",))
            if session.path.exists():
                session.held = session.path.stat().st_size
                if session.state == OPEN:
                    session.truncate(floor(session.held))
            self._sessions[key] = session

    def create(self, **given: Any) -> Session:
        """Begin a session; it is on disk when this returns."""
        key = "A" + secrets.token_urlsafe(36)
        session = Session(id=key, path=self._blobs / key, crd=secrets.token_urlsafe(24), **given)
        session.path.touch(mode=0o600)
        session.received = Tally(self._tallies / key, ("received",))
        with self._lock:
            self._sessions[key] = session
        self.save(session)
        return session

    def find(self, key: str, now: float) -> Session | None:
        """The session of that upload id; None when unknown or older than a week."""
        with self._lock:
            session = self._sessions.get(key)
        if session and session.state == OPEN and now - session.created > LIFETIME:
            self.end(session, "404")
        return session

    def of_file(self, file_id: str) -> list[Session]:
        """The sessions that upload to that file id."""
        with self._lock:
            return [session for session in self._sessions.values() if session.file_id == file_id]

    def save(self, session: Session) -> None:
        """Write a session's state to disk."""
        self._database.put("sessions", session.id, session.document())

    def end(self, session: Session, state: str) -> None:
        """Close a session for good and drop its bytes, unless they are a file's content by now."""
        with session.lock:
            if session.state != DONE:
                session.held = 0
                session.path.unlink(missing_ok=True)
            session.state = state
            session.turn += 1
            self.save(session)

    def content(self, session: Session, *, spoil: bool = False) -> Content:
        """The finished blob's description; `spoil` flips one bit of its bytes first."""
        if spoil and session.held:
            with session.path.open("r+b") as blob:
                blob.seek(session.held // 2)
                byte = blob.read(1)[0]
                blob.seek(session.held // 2)
                blob.write(bytes([byte ^ 1]))
            session.digests.cut(0)
        return describe(session.path, session.digests)

    def summaries(self) -> list[dict[str, Any]]:
        """Every session for `/_emulator/stats`, oldest first."""
        with self._lock:
            return [session.summary() for session in self._sessions.values()]

    def open_blobs(self) -> set[str]:
        """Names of the blobs that unfinished sessions grow."""
        with self._lock:
            return {session.id for session in self._sessions.values() if session.state == OPEN}


def describe(path: Path, digests: Digests | None = None) -> Content:
    """Size and checksums of a finished blob."""
    size = path.stat().st_size
    found = (digests or Digests()).advance(path, size)
    return Content(path.name, size, found["md5"], found["sha1"], found["sha256"], "0B" + secrets.token_urlsafe(36))
