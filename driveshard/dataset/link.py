"""A dataset that is read where it is shared: its index at once, its parts as they are needed."""

from __future__ import annotations

import contextlib
import hashlib
import os
import threading
import weakref
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from pathlib import Path

from driveshard.archive.directory import BrokenDirectory, Directory, map_directory, read_directory
from driveshard.archive.index import IndexedPart
from driveshard.archive.index_builder import build_index
from driveshard.archive.manifest import INDEX, Manifest, ManifestPart
from driveshard.config.settings import settings_from
from driveshard.core.errors import Mismatch
from driveshard.core.events import ignore
from driveshard.core.model import RemoteFile
from driveshard.dataset.cached_parts import CachedParts
from driveshard.dataset.fetch import Ways, fetch
from driveshard.dataset.find_index import fitting, keep
from driveshard.dataset.locate import Shelf, find_manifest, open_shelf
from driveshard.dataset.parts import Place
from driveshard.dataset.selection import wanted_of
from driveshard.dataset.shelf import Lent
from driveshard.storage.retry import Retry

OnBytes = Callable[[int, int], None]
"""Told from several threads of so many bytes more, of so many in all; 0 for those that nobody told."""

_BLOCK = 8 * 1024 * 1024
_BLOCKS_AT_ONCE = 8
_LARGEST_INDEX = 16 << 30  # bytes; 200 million files


class LinkReader:
    """Reads parts where they lie. Every thread of every process has connections of its own; where it was not ``lent``,
    a process on this machine logs in by itself."""

    def __init__(self, what: str | Lent) -> None:
        self.what = what
        self._local = threading.local()
        self._lender: Opened | None = None

    def __reduce__(self) -> tuple[type[LinkReader], tuple[str | Lent]]:
        return LinkReader, (self.what,)

    def lent(self, *, renew: bool = False) -> LinkReader:
        """One for a worker elsewhere, to be sent there at once; ``renew`` as for ``Shelf.lend``."""
        if self._lender is None:  # one for all threads, so that none lends what another one knows to have ended
            self._lender = self.opened()
        return LinkReader(self._lender.shelf.lend(renew=renew))

    def __call__(self, part: ManifestPart, start: int, length: int) -> bytes:
        """As ``cached_parts.Reader``."""
        shelf = self.shelf()
        try:
            return shelf.read(shelf.id_of(part), start, length)
        except FileNotFoundError as error:  # of a folder on a disk
            raise Mismatch(f"{part.name} is missing", advice="Run `driveshard verify` on it.") from error

    def fetch(self, part: ManifestPart, path: Path) -> None:
        """As ``cached_parts.Reader.fetch``: as ``pull`` fetches one, so that the line stays full."""
        shelf, settings = self.shelf(), settings_from()
        ways = Ways(settings.clock, Retry(settings.clock, settings.patience, ignore), ignore)
        fetch(shelf, wanted_of(part, shelf.id_of(part)), path, ways)

    def shelf(self) -> Shelf:
        """This thread's own."""
        return self.opened().shelf

    def opened(self) -> Opened:
        """This thread's own; whoever holds it may use its shelf in other threads, too."""
        if getattr(self._local, "process", 0) != os.getpid():
            what, settings = self.what, settings_from()
            shelf = what.open(settings) if isinstance(what, Lent) else open_shelf(what, settings, ignore)
            self._local.opened = Opened(shelf)
            self._local.process = os.getpid()
        found: Opened = self._local.opened
        return found


class Opened:
    """A shelf that is closed when its thread, or the reader, is gone, and nobody else holds it."""

    def __init__(self, shelf: Shelf) -> None:
        self.shelf = shelf
        # Not __del__: of a circle of objects that is found, connections could go before what closes them.
        weakref.finalize(self, shelf.close)


def open_link(what: str | Lent, cache: Path, limit: int | None, on_bytes: OnBytes = lambda *_: None) -> Place:
    """The dataset that a link, id or name means; ``on_bytes`` is told of its index as it comes. Raises SourceMissing,
    Mismatch, and errors of the way to it."""
    reader = LinkReader(what)
    shelf = reader.shelf()
    files = shelf.files()
    manifest = find_manifest(shelf, files)
    rows = sorted(manifest.parts, key=lambda part: part.number)
    directory = cache / hashlib.sha256(f"{manifest.name}\0{manifest.job}".encode()).hexdigest()[:24]
    parts = CachedParts(directory, rows, reader, limit)
    # Named for what it is the index of: once the dataset is published anew, another one is kept beside it.
    file = directory / f"index-{_digest(manifest)}.npz"
    index = fitting(file, parts.parts, hidden=manifest.hidden)
    if index is None:
        _fetch_index(shelf, files, file, on_bytes)
        index = fitting(file, parts.parts, hidden=manifest.hidden)
    if index is None:
        index = build_index(_directories(parts, reader), manifest.deleted_paths, manifest.hidden)
        with contextlib.suppress(OSError):
            keep(index, file)
            index = fitting(file, parts.parts, hidden=manifest.hidden) or index
    return Place(manifest.name, parts, index, file if file.is_file() else None)


def _digest(manifest: Manifest) -> str:
    return hashlib.sha256(manifest.encode()).hexdigest()[:24]


def _fetch_index(shelf: Shelf, files: Sequence[RemoteFile], target: Path, on_bytes: OnBytes) -> None:
    """The published index, if there is one; what it holds is looked at by whoever opens it."""
    found = [one for one in files if one.name == INDEX]
    if not found or found[0].size > _LARGEST_INDEX:
        return
    temporary = target.with_name(f".new-{os.getpid()}-{threading.get_ident()}-{target.name}")
    try:
        with temporary.open("wb") as stream:
            for block in _blocks(shelf, found[0], on_bytes):
                stream.write(block)
        os.replace(temporary, target)
    finally:
        temporary.unlink(missing_ok=True)


def _blocks(shelf: Shelf, file: RemoteFile, on_bytes: OnBytes) -> Iterator[bytearray]:
    """A file in blocks, several of them read side by side where the place takes that: an index of a million samples
    would else wait for ten requests one after the other. A file whose size nobody tells ends where a block is short."""
    size = file.size if file.size >= 0 else _LARGEST_INDEX
    step = max(_BLOCK, min(2 * _BLOCK, -(-file.size // _BLOCKS_AT_ONCE)))  # all at once, if that is no more memory
    at_once = _BLOCKS_AT_ONCE if shelf.at_once > 1 and file.size > _BLOCK else 1
    with ThreadPoolExecutor(at_once, "index") as pool:
        under_way: deque[tuple[int, Future[bytearray]]] = deque()
        for start in range(0, size, step):
            length = min(step, size - start)
            under_way.append((length, pool.submit(_block, shelf, file.id, start, length, on_bytes)))
            if len(under_way) < at_once:
                continue
            length, block = under_way.popleft()
            yield block.result()
            if len(block.result()) < length:
                return
        for _, block in under_way:
            yield block.result()


def _block(shelf: Shelf, file_id: str, start: int, length: int, on_bytes: OnBytes) -> bytearray:
    """These bytes, fewer at the end of the file, each told as it comes."""
    came, totals = bytearray(), [0]

    def take(data: bytes) -> None:
        came.extend(data)
        on_bytes(len(data), totals[-1])

    def once() -> None:
        if came:  # of a try that broke off
            on_bytes(-len(came), totals[-1])
            came.clear()
        shelf.stream(file_id, start, length, take, totals.append)

    shelf.patiently(once, "reading the index")
    return came


def _directories(parts: CachedParts, reader: LinkReader) -> Iterator[tuple[IndexedPart, Directory]]:
    """The directory of each part, read by range; only a part of another program's making is fetched for it."""
    for number, (part, row) in enumerate(zip(parts.parts, parts.manifest_parts, strict=True)):
        try:
            directory = read_directory(partial(reader, row), part.size)
            if (directory.begins < 0).any():
                directory = map_directory(parts.fetch(number))
        except BrokenDirectory as error:
            raise Mismatch(f"{part.name} is damaged: {error}", advice="`driveshard verify` tells more.") from error
        yield part, directory
