"""One file from where a dataset lies onto this disk: by ranges, as a stream, and with its final name only when it is
proved to be what it should be.

Until then it is called ``.NAME.part``; its length is what is held, so that a run after a kill goes on behind it.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import stat
import threading
import time
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import BinaryIO

from driveshard.archive.zip_reader import DAMAGED, damage_in_words
from driveshard.core.clock import Clock
from driveshard.core.errors import DriveshardError, Interrupted, Mismatch, NotFound, TempFull, Unavailable
from driveshard.core.events import BytesSent, Emit, Notice, PartReleased, UploadStarted
from driveshard.core.files import sync_directory
from driveshard.core.formatting import human_size, shown
from driveshard.dataset.shelf import Shelf
from driveshard.storage.retry import Retry

MIB = 1024 * 1024
_TRIES = 3  # times that a file may come with other bytes than it should have
_BLOCK = MIB
_FIRST, _LEAST, _MOST = 64 * MIB, 8 * MIB, 4096 * MIB  # bytes of a request
_REQUEST_SECONDS = 20.0
_PROGRESS = 64 * 1024  # bytes that make a request worth having been made
_TELL_EVERY = 0.2  # seconds between events
_WHOLE = 1 << 53  # bytes, for a file whose size nobody told


@dataclass(frozen=True, slots=True)
class Wanted:
    """A file to have: its ``number`` and ``name`` for the user, its ``file_id`` where it lies, and what it must be.
    ``size`` is in bytes, None when it is not known; checksums are hex, empty when there are none."""

    number: int
    name: str
    file_id: str
    size: int | None
    md5: str = ""
    sha256: str = ""

    @property
    def proved(self) -> bool:
        """Whether there are checksums to prove it by."""
        return bool(self.md5 or self.sha256)


@dataclass(frozen=True)
class Ways:
    """What fetching a file needs beside its shelf. ``halt`` set ends it at the next block."""

    clock: Clock
    retry: Retry
    emit: Emit
    halt: threading.Event = field(default_factory=threading.Event)


class Checksums:
    """md5 and sha256 of bytes as they pass."""

    def __init__(self) -> None:
        self.size = 0
        self._md5, self._sha256 = hashlib.md5(usedforsecurity=False), hashlib.sha256()

    def update(self, block: bytes) -> None:
        self._md5.update(block)
        self._sha256.update(block)
        self.size += len(block)

    @property
    def digest(self) -> str:
        """The sha256, in hex."""
        return self._sha256.hexdigest()

    def wrong(self, wanted: Wanted) -> str | None:
        """What is not as it should be, in words; None when all is."""
        if wanted.size is not None and self.size != wanted.size:
            return f"{self.size:,} bytes instead of {wanted.size:,}"
        if wanted.md5 and self._md5.hexdigest() != wanted.md5.lower():
            return "another md5"
        if wanted.sha256 and self._sha256.hexdigest() != wanted.sha256.lower():
            return "another sha256"
        return None


def is_whole(path: Path, wanted: Wanted, check: Callable[[], None] = lambda: None) -> bool:
    """Whether the file is there and is what is wanted, every byte read. Without checksums its size must do."""
    try:
        found = path.lstat()
        if not stat.S_ISREG(found.st_mode) or (wanted.size is not None and found.st_size != wanted.size):
            return False
        sums = Checksums()
        if not wanted.proved:
            return wanted.size is not None
        with path.open("rb", buffering=0) as stream:
            while block := stream.read(_BLOCK):
                check()
                sums.update(block)
    except OSError:
        return False
    return sums.wrong(wanted) is None


def temp_path(path: Path) -> Path:
    """What a file is called before it is proved."""
    return path.with_name(f".{path.name}.part")


def fetch(shelf: Shelf, wanted: Wanted, path: Path, ways: Ways) -> int:
    """Fetch a file to ``path``; returns the bytes that came over the line. What stood at ``path`` stays until the new
    one is proved. The directory must be there.

    Raises Mismatch when it is not what it should be, also the third time; TempFull; and errors of the way there.
    """
    fetched, before = 0, ""
    for turn in range(1, _TRIES + 1):
        landing = _Landing(path, wanted, ways)
        try:
            landing.begin(keep=turn == 1 and wanted.proved)
            ways.emit(UploadStarted(wanted.number, wanted.name, wanted.size or 0, landing.offset))
            _receive(shelf, wanted, landing, ways)
            why = landing.finish()
        finally:
            landing.close()
            fetched += landing.received
        if why is None:
            ways.emit(PartReleased(wanted.number, wanted.name, landing.offset))
            return fetched
        landing.discard()
        if turn == _TRIES or landing.digest == before:
            break
        before = landing.digest
        ways.emit(Notice(f"{wanted.name} came with {why}; fetching it again"))
    same = "and the same bytes" if landing.digest == before else "each of"
    raise Mismatch(
        f"{wanted.name} came with {why}, {same} {turn} times",
        advice="It is damaged where it lies, or on the way. Ask its owner to run the push again, which mends it.",
    )


def _receive(shelf: Shelf, wanted: Wanted, landing: _Landing, ways: Ways) -> None:
    """Fetch what is missing, request by request; only failures without a byte more count as failures in a row."""
    length = _FIRST
    while not landing.complete:
        began, before = ways.clock.monotonic(), landing.offset
        request = partial(_request, shelf, wanted.file_id, landing, length)
        try:
            ways.retry.call(request, doing=f"fetching {wanted.name}", number=wanted.number)
        except NotFound as error:
            raise NotFound(f"{wanted.name} is not to be had: {error.message}", advice=error.advice) from error
        seconds = max(ways.clock.monotonic() - began, 0.001)
        length = int(min(_MOST, max(_LEAST, (landing.offset - before) / seconds * _REQUEST_SECONDS)))


def _request(shelf: Shelf, file_id: str, landing: _Landing, length: int) -> None:
    """One request, as far as it comes: for the rest if that is at most ``length`` bytes, or if strangers' requests are
    counted. Raises Unavailable when it brought next to nothing."""
    before = landing.offset
    left = _WHOLE if landing.size is None else landing.size - before
    ends = left <= length or shelf.at_once == 1
    try:
        shelf.stream(file_id, before, left if ends else length, landing.write, landing.told)
    except Unavailable:
        if landing.offset - before < _PROGRESS:
            raise
        return
    if landing.offset == before and landing.size is None:
        landing.size = 0
    elif landing.offset == before and left:
        raise Unavailable("the file ended before its end")


class _Landing:
    """The temp file of one fetch: what is held of it, its checksums so far, and how it ends."""

    def __init__(self, path: Path, wanted: Wanted, ways: Ways) -> None:
        self.size = wanted.size
        self.received = 0
        self._path = path
        self._temp = temp_path(path)
        self._wanted = wanted
        self._ways = ways
        self._sums = Checksums()
        self._stream: BinaryIO | None = None
        self._untold, self._told_at = 0, 0.0

    @property
    def offset(self) -> int:
        """Bytes that are held."""
        return self._sums.size

    @property
    def digest(self) -> str:
        """What came, as a checksum."""
        return self._sums.digest

    @property
    def complete(self) -> bool:
        """Whether all bytes are held, right or wrong."""
        return self.size is not None and self.offset >= self.size

    def begin(self, *, keep: bool) -> None:
        """Look what an earlier run left; it is taken on when it can be proved later."""
        try:
            found = self._temp.lstat()
        except FileNotFoundError:
            return
        if not keep or not stat.S_ISREG(found.st_mode) or self.size is None or found.st_size > self.size:
            self.discard()
            return
        with self._guarded(), self._temp.open("rb", buffering=0) as stream:
            while block := stream.read(_BLOCK):
                self._check()
                self._sums.update(block)

    def told(self, total: int) -> None:
        """The place says how large the whole file is. Raises Mismatch when it should be of another size."""
        if self._wanted.size is not None and total != self._wanted.size:
            raise Mismatch(
                f"{self._wanted.name} has {total:,} bytes where it lies instead of {self._wanted.size:,}",
                advice="The dataset may be changing just now: run the same command again, or ask its owner.",
            )
        if self.size is None:
            require_room(self._path.parent, total - self.offset)
        self.size = total

    def write(self, block: bytes) -> None:
        """A piece of the content."""
        self._check()
        if self.size is None:
            raise Mismatch(f"{self._wanted.name} comes without a word of its size, and may have no end")
        with self._guarded():
            if self._stream is None:
                self._stream = _opened(self._temp, self.offset)
            rest = memoryview(block)
            while rest:
                rest = rest[self._stream.write(rest) :]
        self._sums.update(block)
        self.received += len(block)
        self._untold += len(block)
        now = time.monotonic()
        if now - self._told_at >= _TELL_EVERY:
            self._tell(now)

    def _tell(self, now: float) -> None:
        if self._untold:
            self._ways.emit(BytesSent(self._wanted.number, self.offset, self._untold))
        self._untold, self._told_at = 0, now

    def _check(self) -> None:
        self._ways.clock.check()
        if self._ways.halt.is_set():
            raise Interrupted("stopped, because another file failed")

    def finish(self) -> str | None:
        """Give it its name; or, when it is not what it should be, why."""
        self._tell(time.monotonic())
        why = self._sums.wrong(self._wanted)
        with self._guarded():
            if self._stream is None:
                self._stream = _opened(self._temp, self.offset)
            if why is None and not self._wanted.proved and self._path.suffix.lower() == ".zip":
                self._stream.flush()
                why = _zip_damage(self._temp)
            if why is not None:
                return why
            self._stream.flush()
            os.fsync(self._stream.fileno())
            self.close()
            os.replace(self._temp, self._path)
            sync_directory(self._path.parent)
        return None

    def discard(self) -> None:
        """Forget what is held."""
        self.close()
        with self._guarded(), contextlib.suppress(FileNotFoundError):
            self._temp.unlink()

    def close(self) -> None:
        """Let go of the file; what is held of it stays."""
        if self._stream is not None:
            self._stream.close()
            self._stream = None

    @contextlib.contextmanager
    def _guarded(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise unwritable(self._path.parent, error) from error


def _opened(temp: Path, offset: int) -> BinaryIO:
    """The temp file for writing behind its first ``offset`` bytes; never what a link leads to."""
    flags = os.O_WRONLY | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0)
    stream = os.fdopen(os.open(temp, flags, 0o666), "wb", buffering=0)
    try:
        stream.truncate(offset)
        stream.seek(offset)
    except BaseException:
        stream.close()
        raise
    return stream


def _zip_damage(path: Path) -> str | None:
    """What is wrong with a zip that nothing else can be said of, by its own checksums."""
    try:
        with zipfile.ZipFile(path) as archive:
            bad = archive.testzip()
    except DAMAGED as error:
        return f"no whole zip in it ({damage_in_words(error)})"
    return None if bad is None else f"a damaged member ({shown(bad)})"


def require_room(directory: Path, size: int) -> None:
    """Raises TempFull when the disk that ``directory`` is on, or will be, has not ``size`` bytes free."""
    place = next((one for one in (directory, *directory.absolute().parents) if one.exists()), Path.cwd())
    try:
        free = shutil.disk_usage(place).free
    except OSError:
        return
    if size > free:
        raise TempFull(
            f"{directory} has no room: {human_size(size)} are to come and {human_size(free)} are free",
            advice="Free some room, pull into another directory, or fetch less of it (--parts 0-3, --only GLOB).",
        )


def unwritable(directory: Path, error: OSError) -> DriveshardError:
    """What it means that the disk refuses."""
    return TempFull(
        f"{directory} cannot be written: {error.strerror or error}",
        advice="Free some room or mend that, or pull into another directory; then run the same command again.",
    )
