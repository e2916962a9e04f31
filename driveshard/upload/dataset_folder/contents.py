"""What a dataset holds, as its card tells: fields with their sizes, folders, and values of small labels.

Of a folder's files the ledger knows every path and size. What is in them, and everything of made samples, is known from
the heads of a few parts, and then the card says of how many samples.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from driveshard.archive.names import OTHER, as_text
from driveshard.archive.zip_reader import whole_members
from driveshard.core.model import FileList, sample_key
from driveshard.sources.composite.layouts import as_sample
from driveshard.upload.ledger.ledger import Ledger
from driveshard.upload.plan.known import seen_rows

_LABEL_KINDS = ("cls", "json")
_LABEL_BYTES = 4096  # a larger one is no label
_MOST_VALUES = 24  # a label with more values is a measurement
_SHORT = 40  # characters of a value
_MOST_FIELDS = 100
OTHERS = "..."  # the field that counts those beyond that many


@dataclass
class Contents:
    """``fields`` counts files and bytes by field (``image.jpg``), ``folders`` samples by the first step of their key;
    ``of`` is how many samples these were counted from. ``labels`` counts samples by the values of each label, from
    ``looked_at`` samples. ``parts`` says which parts all this is about."""

    parts: str = ""
    of: int = 0
    looked_at: int = 0
    fields: dict[str, list[int]] = field(default_factory=dict)
    folders: dict[str, int] = field(default_factory=dict)
    labels: dict[str, dict[str, int]] = field(default_factory=dict)


def note_contents(ledger: Ledger, heads: Iterable[bytes]) -> None:
    """Count, and note it in the ledger; ``heads`` are bytes of parts, from anywhere in them."""
    members = [(as_text(path), data) for head in heads for path, data in whole_members(head)]
    if ledger.get("settings", {}).get("layout") == "trees":
        members = sorted((as_sample(path), data) for path, data in members)
    seen = _counted((path, len(data)) for path, data in members)
    exact = _counted(_known(ledger)) if _is_folder(ledger) else seen
    labels = _labels(members, seen.of)
    found = Contents(ledger.contents(), exact.of, seen.of, exact.fields, exact.folders, labels)
    ledger.note(inside=asdict(found))


def is_known(ledger: Ledger, kinds: Mapping[str, int]) -> bool:
    """Whether the card needs no look into the parts: of a folder's files without labels. ``kinds`` counts its members
    by kind, empty when that is not known."""
    labels = any(kind.rpartition(".")[2] in _LABEL_KINDS for kind in kinds)
    return _is_folder(ledger) and bool(kinds) and OTHER not in kinds and not labels


def noted_contents(ledger: Ledger) -> Contents | None:
    """What was noted about the parts as they are now."""
    noted: dict[str, Any] = ledger.get("inside", {})
    return Contents(**noted) if noted and noted["parts"] == ledger.contents() else None


def _is_folder(ledger: Ledger) -> bool:
    parts = ledger.parts()
    return bool(parts) and isinstance(ledger.kept_selection(parts[0].number), FileList)


def _known(ledger: Ledger) -> Iterator[tuple[str, int]]:
    return ((as_text(row[0]), row[1]) for row, _, _ in seen_rows(ledger))


def _counted(files: Iterable[tuple[str, int]]) -> Contents:
    """Of (path, size) in path order, or in runs of it."""
    found = Contents()
    before = None
    folders: Counter[str] = Counter()
    for path, size in files:
        key = sample_key(path)
        name = path[len(key) + 1 :]
        if name not in found.fields and len(found.fields) >= _MOST_FIELDS:
            name = OTHERS
        count = found.fields.setdefault(name, [0, 0])
        count[0] += 1
        count[1] += size
        if key != before:
            before = key
            found.of += 1
            if len(folders) <= _MOST_VALUES:  # more are no classes, and might be a million
                folders[key.partition("/")[0] if "/" in key else ""] += 1
    found.folders = dict(sorted(folders.items())) if 1 < len(folders) <= _MOST_VALUES else {}
    return found


def _labels(members: Iterable[tuple[str, bytes]], samples: int) -> dict[str, dict[str, int]]:
    """Values of each label, most frequent first; what hardly ever comes twice is left out."""
    counts: dict[str, Counter[str]] = {}
    for path, data in members:
        for name, value in _label_of(path, data):
            values = counts.setdefault(name, Counter())
            if len(values) <= _MOST_VALUES:
                values[value] += 1
    told = {name: values for name, values in counts.items() if len(values) <= min(_MOST_VALUES, max(2, samples // 3))}
    return {name: dict(values.most_common()) for name, values in sorted(told.items())}


def _label_of(path: str, data: bytes) -> Iterator[tuple[str, str]]:
    """(label, value) of a small ``.cls`` or ``.json`` member: its whole, or each plain value of an object."""
    name = path[len(sample_key(path)) + 1 :]
    if len(data) > _LABEL_BYTES or name.rpartition(".")[2] not in _LABEL_KINDS:
        return
    try:
        text = data.decode()
        value = json.loads(text) if name.endswith("json") else text.strip()
    except (ValueError, RecursionError):
        return
    for key, one in value.items() if isinstance(value, dict) else [(name, value)]:
        if isinstance(one, str | bool | int):
            said = one if isinstance(one, str) else json.dumps(one)
            if len(said) <= _SHORT and len(key) <= _SHORT and said.isprintable() and key.isprintable():
                yield key, said
