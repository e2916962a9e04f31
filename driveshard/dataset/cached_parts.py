"""Parts of a dataset that is elsewhere: fetched when they are needed, proved, kept in a directory up to a limit."""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import os
import queue
import shutil
import threading
import time
import weakref
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol

from driveshard.archive.index import IndexedPart
from driveshard.archive.manifest import ManifestPart
from driveshard.core.errors import DriveshardError, TempFull
from driveshard.core.formatting import human_size

try:
    import fcntl

    _FLOCK = True
except ImportError:  # Windows, which does not remove a file that is open anyway
    fcntl = None  # type: ignore[assignment]
    _FLOCK = False


class Reader(Protocol):
    """Reads parts where they lie. Picklable, for any thread and process."""

    def __call__(self, part: ManifestPart, start: int, length: int) -> bytes:
        """Bytes of it, fewer at its end."""

    def fetch(self, part: ManifestPart, path: Path) -> None:
        """All of it to ``path``, which is there only when size, md5 and sha256 agree; what a killed process has of it
        is gone on with. Raises Mismatch, TempFull."""


_STALE = 24 * 3600  # seconds after which what a killed process left is removed
_MOST_OPEN = 16


class CachedParts:
    """The parts of a manifest, fetched by ``reader`` into ``directory``.

    A part gets its name, which tells its content, only when size, md5 and sha256 agree. Before one is fetched the
    oldest ones that no process has open are removed until it fits ``limit`` bytes; a limit that the open ones alone
    exceed is exceeded. Two processes that want the same part fetch it once.
    """

    def __init__(
        self, directory: Path, parts: Sequence[ManifestPart], reader: Reader, limit: int | None = None
    ) -> None:
        self.directory = directory
        self.manifest_parts = list(parts)
        self.parts: Sequence[IndexedPart] = [IndexedPart(part.name, part.size, part.sha256) for part in parts]
        self.reader = reader
        self.limit = limit
        largest = max((part.size for part in parts), default=1) or 1
        self.fitting = len(parts) if limit is None else max(1, limit // largest)
        # With a limit, open parts cannot make room: a process holds few, and leaves room for the next one.
        self.most_open = min(_MOST_OPEN, max(1, self.fitting // 2))
        self._wanted: queue.SimpleQueue[int | None] | None = None
        self._thread_of = 0
        self._last = -1
        directory.mkdir(parents=True, exist_ok=True)
        _sweep(directory)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_wanted": None, "_thread_of": 0}

    def path_of(self, number: int) -> Path:
        """Where the part is, or will be."""
        part = self.manifest_parts[number]
        proof = part.sha256 or part.md5 or hashlib.sha256(f"{part.id} {part.size}".encode()).hexdigest()
        return self.directory / f"{proof[:16]}-{part.name}"

    def fetch(self, number: int) -> Path:
        """The part's file, fetched if it is not here; when parts are asked for in order, the next one is begun, too.

        Raises Mismatch when it is not what the manifest says, TempFull, and what the reader raises."""
        path = self.path_of(number)
        if not self._is_here(number):
            with _alone(path):
                if not self._is_here(number):
                    self._make_room(self.parts[number].size)
                    self._download(number, path)
        with contextlib.suppress(OSError):
            os.utime(path)  # the oldest is the one that was not asked for longest
        if number == self._last + 1:
            self.ahead([number + 1])
        self._last = number
        return path

    def hold(self, descriptor: int) -> None:
        """A shared lock marks a part as in use, for all processes, for as long as the descriptor is open."""
        if fcntl is not None:
            with contextlib.suppress(OSError):
                fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)

    def ahead(self, numbers: Iterable[int]) -> None:
        """Fetch these in a thread while others are read, as far as they fit beside them."""
        if self.fitting < 2:
            return
        wanted = self._wanted
        if wanted is None or self._thread_of != os.getpid():
            wanted = self._wanted = queue.SimpleQueue()
            self._thread_of = os.getpid()
            weakref.finalize(self, wanted.put, None)  # the thread keeps no cache alive, and ends with it
            threading.Thread(target=_fetch_ahead, args=(weakref.ref(self), wanted), daemon=True).start()
        for number in numbers:
            if number < len(self.parts) and not self._is_here(number):
                wanted.put(number)

    def fetch_ahead(self, number: int) -> None:
        """As ``fetch``, but only if it fits, and quietly: whoever needs the part meets the error."""
        path = self.path_of(number)
        with contextlib.suppress(DriveshardError, OSError), _alone(path):
            if not self._is_here(number) and self._make_room(self.parts[number].size):
                self._download(number, path)

    def _is_here(self, number: int) -> bool:
        try:
            return self.path_of(number).stat().st_size == self.parts[number].size
        except OSError:
            return False

    def _make_room(self, size: int) -> bool:
        """Remove the oldest parts that nobody has open until ``size`` bytes more keep the limit; whether they do."""
        if self.limit is None:
            return True
        kept = sorted(_kept(self.directory))
        total = sum(length for _, length, _ in kept) + size
        for _, length, path in kept:
            if total <= self.limit:
                break
            if remove_unless_used(path):
                total -= length
        return total <= self.limit

    def _download(self, number: int, path: Path) -> None:
        part = self.manifest_parts[number]
        if shutil.disk_usage(self.directory).free < part.size:
            raise TempFull(
                f"{self.directory} has no room for the {human_size(part.size)} of {part.name}",
                advice="Give a cache_limit, or another cache.",
            )
        self.reader.fetch(part, path)


def _fetch_ahead(cache: weakref.ref[CachedParts], wanted: queue.SimpleQueue[int | None]) -> None:
    while (number := wanted.get()) is not None and (found := cache()) is not None:
        found.fetch_ahead(number)
        del found


@contextlib.contextmanager
def _alone(path: Path) -> Iterator[None]:
    """Only one thread of one process at a time fetches that part."""
    if not _FLOCK:
        from filelock import FileLock

        with FileLock(path.with_name(f".{path.name}.lock")):
            yield
        return
    with path.with_name(f".{path.name}.lock").open("wb") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        try:
            yield
        finally:  # closing is not enough when a process was forked meanwhile
            fcntl.flock(lock, fcntl.LOCK_UN)


def _kept(directory: Path) -> Iterator[tuple[float, int, Path]]:
    """(time of last use, bytes, path) of every part in the cache."""
    for path in directory.iterdir():
        if not path.name.startswith(".") and path.suffix == ".zip":
            with contextlib.suppress(OSError):
                status = path.stat()
                yield status.st_mtime, status.st_size, path


def remove_unless_used(path: Path) -> bool:
    """Whether it could be removed: it is not while anybody has it open."""
    try:
        with path.open("rb") as stream:
            if fcntl is not None:
                fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
                path.unlink()  # while nobody else can begin to use it
        path.unlink(missing_ok=True)
    except OSError:
        return False
    return True


def _sweep(directory: Path) -> None:
    """Remove what processes left that were killed in the middle of a part."""
    for path in itertools.chain(directory.glob(".new-*"), directory.glob(".*.part")):
        with contextlib.suppress(OSError):
            if path.stat().st_mtime < time.time() - _STALE:
                path.unlink()
