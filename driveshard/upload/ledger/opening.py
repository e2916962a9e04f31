"""Opens a ledger for a run; one that cannot be used is kept aside, and a new one begun."""

from __future__ import annotations

import time
from pathlib import Path

from driveshard.core.events import Emit, Notice
from driveshard.upload.ledger.ledger import Ledger
from driveshard.upload.ledger.rows import LedgerDamaged


def open_ledger(path: Path, name: str, emit: Emit) -> Ledger:
    """The ledger of the dataset ``name`` at ``path``. Raises TempFull, Busy."""
    try:
        return Ledger(path)
    except LedgerDamaged as damage:
        aside = _unused(path.with_name(f"{path.name}.damaged-{time.strftime('%Y%m%d-%H%M%S')}"))
        for suffix in ("", "-wal", "-shm"):
            piece = path.with_name(path.name + suffix)
            if piece.exists():
                piece.rename(aside.with_name(aside.name + suffix))
        emit(Notice(f"The ledger of {name} cannot be used ({damage}); it is kept as {aside.name}"))
        return Ledger(path)


def _unused(path: Path) -> Path:
    """That path, or one like it, at which nothing is."""
    count = 1
    free = path
    while free.exists():
        count += 1
        free = path.with_name(f"{path.name}-{count}")
    return free
