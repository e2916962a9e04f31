"""What datasets, ledgers and parts are called."""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from driveshard.config.settings import PushOptions, Settings
from driveshard.core.errors import (
    UsageError,
)
from driveshard.sources.base import Source

_NAME_BYTES = 100


def ledger_path(settings: Settings, stem: str) -> Path:
    """Where the ledger of the dataset with that ``ledger_stem`` is kept."""
    return settings.ledgers / f"{stem}.sqlite"


def dataset_name(options: PushOptions, source: Source) -> str:
    """The name asked for, or the source's own. Raises UsageError when it cannot be a file name everywhere."""
    name = options.name or re.sub(r"[^\w.-]+", "-", _own_name(source), flags=re.UNICODE).strip("-.") or "dataset"
    # Windows takes neither these names nor a dot at the end; a name that is not UTF-8 can be in no zip tool's hands.
    bad = re.search(r'[/\\:*?"<>|\x00-\x1f\x7f\ud800-\udfff]|^(con|prn|aux|nul|com\d|lpt\d)(\.|$)', name, re.IGNORECASE)
    size = len(name.encode("utf-8", "replace"))
    if bad or name != name.strip() or name.startswith(".") or name.endswith(".") or size > _NAME_BYTES:
        raise UsageError(
            f"{name!r} cannot be a dataset's name",
            advice="Give --name with letters, digits, spaces, dots, - and _ (at most 100 bytes, no leading dot).",
        )
    return name


def _own_name(source: Source) -> str:
    root = getattr(source, "root", None)
    if root is not None:
        return Path(root).resolve().name
    return source.describe().rpartition(":")[2]


def ledger_stem(name: str, identity: str) -> str:
    """The file name of the ledger of dataset ``name`` at a destination: readable, and different for each place."""
    return f"{name}-{hashlib.sha256(os.fsencode(identity)).hexdigest()[:10]}"


def part_file_name(name: str, number: int) -> str:
    """``photos-00007.zip``"""
    return f"{name}-{number:05d}.zip"


def settings_digest(settings: Mapping[str, Any]) -> str:
    """What a dataset's folder carries of its source's settings: 32 hex digits, the same on every machine."""
    return hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:32]


def work_paths(ledger: Path) -> list[Path]:
    """The files in which a compaction keeps how far it is, beside the dataset's ledger; the database itself last."""
    path = ledger.with_suffix(".compacting")
    return [path.with_name(path.name + suffix) for suffix in ("-wal", "-shm", "")]
