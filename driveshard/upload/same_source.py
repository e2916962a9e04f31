"""A dataset's name stands for one source: whether this is the one, and what of it is a push's own."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

from driveshard.config.settings import PushOptions, Settings
from driveshard.core.errors import UsageError
from driveshard.core.paths import path_of
from driveshard.sources.base import Source
from driveshard.sources.folder import FolderSource
from driveshard.storage.registry import split_where
from driveshard.upload.ledger.ledger import Ledger
from driveshard.upload.naming import ledger_stem
from driveshard.upload.plan.parts import CutSource, check_parts
from driveshard.upload.spool import spool_directory


def without_own(source: Source, options: PushOptions, settings: Settings, name: str, identity: str) -> Source:
    """The source without what a push itself writes, should that lie in the very folder that is pushed: the home with
    the login in it, parts waiting in the temp folder, a dataset that goes to a plain folder. Raises UsageError."""
    if not isinstance(source, FolderSource):
        return source
    own = [settings.home, spool_directory(options.temp, settings.spools, ledger_stem(name, identity))]
    scheme, rest = split_where(options.to)
    if scheme == "file":
        own.append(path_of(rest) / name)
    return source.apart_from(own)


def check_same_source(ledger: Ledger, name: str, source: Source) -> None:
    """A name stands for one source: other settings would cut other parts, and mix two datasets in one folder. Notes
    where the source is now; raises UsageError."""
    if ledger.is_new:
        return
    known, wanted = ledger.get("settings"), {"kind": source.kind, **source.settings()}
    where, here = ledger.get("where"), where_is(source)
    moved = where is not None and where != here and source.kind == "folder" and Path(where).exists()
    if known == wanted and not moved:
        if isinstance(source, CutSource):
            check_parts(ledger, name, source)
        ledger.note(where=here)
        return
    others = sorted(key for key in known.keys() | wanted.keys() if known.get(key) != wanted.get(key))
    raise UsageError(
        f"{name} is already the dataset of {where or ledger.get('source')}"
        + (f", made with other settings ({', '.join(others)}); before: {_before(known, others)}" if others else ""),
        advice="Give this one another --name, or push with the same source and settings as before.",
    )


def _before(known: Mapping[str, Any], others: list[str]) -> str:
    """``exclude '*.tmp', '.git'``, so that it can be given again."""
    words = []
    for key in others:
        value = known.get(key)
        said = ", ".join(map(repr, value)) or "none" if isinstance(value, list) else repr(value)
        words.append(f"{key} {said}")
    return "; ".join(words)


def anchored(source: Source) -> Source:
    """The same, as it is found from any folder, on another machine too."""
    known: Any = source
    if not hasattr(known, "__dataclass_fields__"):
        return source
    paths = {one.name: value for one in fields(known) if isinstance(value := getattr(known, one.name), Path)}
    anchored: Source = replace(known, **{name: path.absolute() for name, path in paths.items()})
    return anchored


def where_is(source: Source) -> str | None:
    """Its absolute path, if it has one."""
    root = getattr(source, "root", None) or getattr(source, "file", None)
    return str(Path(root).resolve()) if root is not None else None
