"""What runs leave on this machine: found, measured, removed; and a dataset forgotten as a whole.

Nothing here touches what the same push would still need: the ledger and the waiting parts of a dataset that is not
complete stay until somebody forgets it by name.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from driveshard.config.settings import Settings
from driveshard.core.errors import Busy, TempFull, UsageError
from driveshard.core.events import Emit, ignore
from driveshard.core.live_files import gone_live
from driveshard.storage.base import Destination
from driveshard.storage.rate_limits import DEFAULT_WRITES_PER_SECOND
from driveshard.storage.registry import open_destination
from driveshard.storage.retry import Retry
from driveshard.storage.throttle import Throttle
from driveshard.upload.ledger.lock import hold
from driveshard.upload.ledger.reader import Record, find_record, read_record, settings_for
from driveshard.upload.naming import work_paths
from driveshard.upload.spool import spool_directory

_SPOOL = "driveshard-"
_OWN_TEMP = ("driveshard-demo-*", "driveshard-dry-run-*")  # made in the system's temp folder, gone unless killed
_A_DAY = 86_400.0  # seconds; a younger one may be at work


@dataclass(frozen=True, slots=True)
class Leftover:
    """A file or folder nobody needs: ``why`` in words, ``size`` in bytes, ``lock`` the lock of the dataset it is of."""

    path: Path
    why: str
    size: int
    lock: Path | None = None


def find_leftovers(settings: Settings) -> list[Leftover]:
    """Everything that can go, by path."""
    found = [*_spools(settings), *_files(settings), *_temps()]
    return sorted(found, key=lambda one: one.path)


def remove_leftovers(leftovers: list[Leftover], settings: Settings) -> list[Leftover]:
    """Remove them; returns those that are gone now. What a run has just begun to use stays. Raises TempFull for what
    cannot be removed."""
    gone = []
    for one in leftovers:
        with ExitStack() as stack:
            try:
                if one.lock is not None:
                    stack.enter_context(hold(one.lock, one.path.name, settings.clock, ignore, wait=False))
            except Busy:
                continue
            _remove(one.path)
        gone.append(one)
    return gone


def forget(name: str, settings: Settings, emit: Emit, *, delete: bool = False) -> tuple[Record, list[Leftover]]:
    """Remove what is kept here of a dataset: its ledger and the parts that wait; with ``delete`` its folder goes to the
    destination's trash first. Returns what the ledger said, and what was removed.

    Raises SourceMissing, UsageError, Busy while a run has it, and the errors of the way to Drive.
    """
    record = find_record(settings, name)
    lock = record.path.with_suffix(".lock")
    with hold(lock, record.name, settings.clock, emit, wait=False):
        if delete and record.folder_id is not None:
            _trash(record, settings_for(record, settings), emit)
        pieces = [Leftover(path, why, _size(path)) for path, why in _pieces(record, settings) if os.path.lexists(path)]
        for one in pieces:
            _remove(one.path)
    return record, pieces


def has_trash(record: Record) -> bool:
    """Whether the place it is at has one."""
    return record.drive_url is not None


def _trash(record: Record, settings: Settings, emit: Emit) -> None:
    if not has_trash(record):
        raise UsageError(
            f"{record.to} has no trash, so nothing is deleted there",
            advice="Leave --delete out, and delete it by hand.",
        )
    destination: Destination = open_destination(record.to, settings)
    folder_id = record.folder_id or ""
    retry = Retry(settings.clock, settings.patience, emit)
    throttle = Throttle(settings.clock, emit, None, writes_per_second=DEFAULT_WRITES_PER_SECOND)
    try:
        throttle.write()
        retry.call(lambda: destination.trash(folder_id), doing="moving the folder to the trash")
    finally:
        getattr(destination, "close", lambda: None)()


def _pieces(record: Record, settings: Settings) -> Iterator[tuple[Path, str]]:
    """The ledger last: while it is there, the same can be done again."""
    yield from ((path, "parts that wait for their upload") for path in _spools_of(record, settings))
    yield settings.anchors / f"{record.path.stem}.json", "the folder's id"
    yield from ((path, "a compaction that is not done") for path in work_paths(record.path))
    for damaged in record.path.parent.glob(f"{_literal(record.path.name)}.damaged-*"):
        yield damaged, "a damaged ledger"
    for suffix in ("-wal", "-shm", ""):
        yield record.path.with_name(record.path.name + suffix), "its ledger"


def _spools_of(record: Record, settings: Settings) -> list[Path]:
    usual = spool_directory(None, settings.spools, record.path.stem)
    other = record.spool
    return [usual] if other in (None, usual) or not other.name.startswith(_SPOOL) else [usual, other]


def _spools(settings: Settings) -> Iterator[Leftover]:
    """Folders of parts whose dataset is complete, or not known here any more."""
    known = {path.stem: read_record(path) for path in settings.ledgers.glob("*.sqlite")}
    for stem, record in known.items():
        if record is not None and record.complete and record.holder is None:
            for path in filter(Path.is_dir, _spools_of(record, settings)):
                yield Leftover(path, f"parts of {record.name}, which is complete", _size(path), _lock(settings, stem))
    for path in settings.spools.glob(f"{_SPOOL}*"):
        stem = path.name.removeprefix(_SPOOL)
        if stem not in known and path.is_dir():
            yield Leftover(path, "parts of a dataset that is gone", _size(path), _lock(settings, stem))


def _lock(settings: Settings, stem: str) -> Path:
    return settings.ledgers / f"{stem}.lock"


def _files(settings: Settings) -> Iterator[Leftover]:
    for path in settings.home.glob("crash-*.txt"):
        yield Leftover(path, "details of a crash", _size(path))
    for path in settings.home.glob("stalled-*.txt"):
        yield Leftover(path, "details of a run that stood still", _size(path))
    for path in settings.ledgers.glob("*.damaged-*"):
        yield Leftover(path, "a damaged ledger", _size(path))
    for path in gone_live(settings.home):
        yield Leftover(path, "the progress of a run that was killed", _size(path))


def _temps() -> Iterator[Leftover]:
    for pattern in _OWN_TEMP:
        for path in Path(tempfile.gettempdir()).glob(pattern):
            with contextlib.suppress(OSError):
                status = path.lstat()
                mine = not hasattr(os, "getuid") or status.st_uid == os.getuid()
                if mine and path.is_dir() and not path.is_symlink() and time.time() - status.st_mtime > _A_DAY:
                    yield Leftover(path, "a demo or a dry run that was killed", _size(path))


def _size(path: Path) -> int:
    """Bytes of a file, or of all files in a folder."""
    if path.is_symlink() or not path.is_dir():
        return path.lstat().st_size if os.path.lexists(path) else 0
    total = 0
    for folder, _, names in os.walk(path):
        for name in names:
            with contextlib.suppress(OSError):
                total += (Path(folder) / name).lstat().st_size
    return total


def _remove(path: Path) -> None:
    try:
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)
    except OSError as error:
        raise TempFull(f"{path} cannot be removed: {error.strerror or error}", advice="Remove it by hand.") from error


def _literal(name: str) -> str:
    """A name for ``glob`` that means itself."""
    return "".join(f"[{one}]" if one in "*?[" else one for one in name)
