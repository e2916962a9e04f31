"""Where the parts that are looked at come from: they are here, or they pass through.

Parts of a link that are not in the cache anyway are fetched into a folder of their own, the next one while one is
looked at, and are gone as soon as nobody needs them: three at most are there at a time.
"""

from __future__ import annotations

import contextlib
import os
from collections import deque
from collections.abc import Generator, Iterable
from concurrent.futures import Future
from pathlib import Path

import numpy as np

from driveshard.core.errors import Mismatch
from driveshard.dataset.cached_parts import CachedParts, remove_unless_used
from driveshard.dataset.link import LinkReader
from driveshard.dataset.parts import Parts
from driveshard.dataset.stats.look import Place
from driveshard.dataset.stats.pieces import PartWork
from driveshard.upload.pack.workers import DaemonThreads

_REQUEST = 1 << 20  # bytes that arrive in the time that a request takes
_LITTLE = 0.7  # of a part; one that comes whole is proved, too
_FOLDER = "passing"
_LOCK = ".in-use"


class PassingParts(CachedParts):
    """Parts that nobody keeps. Which one comes next is known to whoever asks, so nothing is fetched unasked."""

    def ahead(self, numbers: Iterable[int]) -> None:
        """Nothing."""


class Supply:
    """The parts of a dataset, one after another, each for as long as it is needed."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._passing: PassingParts | None = None
        self._at_once = 1
        self._fetched: dict[int, Path] = {}
        self._held: dict[int, int] = {}
        if isinstance(parts, CachedParts):
            self._passing = PassingParts(parts.directory / _FOLDER, parts.manifest_parts, parts.reader)
            self._in_use = os.open(self._passing.directory / _LOCK, os.O_RDWR | os.O_CREAT, 0o600)
            parts.hold(self._in_use)
            if isinstance(parts.reader, LinkReader):
                self._at_once = parts.reader.shelf().at_once

    def marks(self) -> list[str]:
        """Of each part what tells its bytes from others'. Raises Mismatch when one is gone."""
        return [part.sha256 or self._mark(number) for number, part in enumerate(self._parts.parts)]

    def _mark(self, number: int) -> str:
        part = self._parts.parts[number]
        if isinstance(self._parts, CachedParts):
            row = self._parts.manifest_parts[number]
            return f"{row.md5} {row.id} {row.name} {row.size}"
        try:
            return f"{part.name} {part.size} {self._parts.fetch(number).stat().st_mtime_ns}"
        except OSError as error:
            raise Mismatch(f"{part.name} cannot be read: {error.strerror}", advice="Fetch it again.") from error

    def coming(self, works: Iterable[PartWork]) -> Generator[tuple[PartWork, Place], None, None]:
        """Each part with the place where it is read; the next one is on its way meanwhile.

        Raises what fetching a part raises."""
        if not isinstance(self._parts, CachedParts):
            yield from ((work, Place(self._parts.fetch(work.number))) for work in works)
            return
        pool = DaemonThreads(1, "fetch")  # whoever ends the run does not wait for the part that is on its way
        try:
            ahead: deque[tuple[PartWork, Future[Place]]] = deque()
            for work in works:
                ahead.append((work, pool.submit(self._place, work)))
                if len(ahead) == 2:
                    first, place = ahead.popleft()
                    yield first, place.result()
            for first, place in ahead:
                yield first, place.result()
        finally:
            pool.shutdown(wait=False, cancel_futures=True)

    def abroad(self, work: PartWork, *, renew: bool = False) -> Place:
        """Where a worker elsewhere reads that part by itself, with what it needs for that from now on; ``renew`` as for
        ``Shelf.lend``."""
        if not isinstance(self._parts, CachedParts):
            return Place(self._parts.fetch(work.number).absolute())
        reader = self._parts.reader
        lent = reader.lent(renew=renew) if isinstance(reader, LinkReader) else reader
        return Place(None, lent, self._parts.manifest_parts[work.number], self._at_once, self.whole(work))

    def whole(self, work: PartWork) -> bool:
        """Whether a worker elsewhere fetches that part whole: where requests are few, unless it takes little of it."""
        few = isinstance(self._parts, CachedParts) and self._at_once == 1
        return few and not _is_little(work, self.size(work.number))

    def size(self, number: int) -> int:
        """Bytes of that part."""
        return self._parts.parts[number].size

    def _place(self, work: PartWork) -> Place:
        assert isinstance(self._parts, CachedParts) and self._passing is not None
        number = work.number
        here = self._parts.path_of(number)
        if self._hold(number, here):
            return Place(here)
        if _is_little(work, self._parts.parts[number].size):
            return Place(None, self._parts.reader, self._parts.manifest_parts[number], self._at_once)
        path = self._fetched[number] = self._passing.fetch(number)
        self._hold(number, path)
        return Place(path)

    def _hold(self, number: int, path: Path) -> bool:
        """Keep a file from being removed by others; whether it is there, and whole."""
        try:
            descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_BINARY", 0) | getattr(os, "O_CLOEXEC", 0))
        except OSError:
            return False
        self._parts.hold(descriptor)
        if os.fstat(descriptor).st_size != self._parts.parts[number].size:
            os.close(descriptor)
            return False
        self._held[number] = descriptor
        return True

    def done(self, number: int) -> None:
        """That part is needed no more."""
        if number in self._held:
            os.close(self._held.pop(number))
        if number in self._fetched:
            remove_unless_used(self._fetched.pop(number))

    def close(self) -> None:
        """Let go of everything; what was fetched and not looked at stays for the next run."""
        for number in list(self._held):
            os.close(self._held.pop(number))
        if self._passing is not None:
            os.close(self._in_use)
            if not self._fetched:
                _tidy(self._passing.directory)


def _tidy(directory: Path) -> None:
    """Remove the folder and what a killed run left there, unless another run uses it."""
    with contextlib.suppress(OSError):
        if remove_unless_used(directory / _LOCK):
            for path in directory.iterdir():
                path.unlink()
            directory.rmdir()


def _is_little(work: PartWork, size: int) -> bool:
    """Whether reading its members by requests takes less than fetching the part of that many bytes."""
    begins = np.concatenate([piece.begin.astype(np.int64) for piece in work.pieces])
    ends = begins + np.concatenate([piece.stored.astype(np.int64) for piece in work.pieces])
    gaps = begins[1:] - ends[:-1]
    read = int((ends - begins).sum()) + int(gaps[gaps <= _REQUEST].sum())
    return read + _REQUEST * int((gaps > _REQUEST).sum()) < _LITTLE * size
