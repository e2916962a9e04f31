"""The published description of a dataset: what a reader needs in order to fetch it and to trust it.

The same dataset gives the same bytes: no clock and no machine is in it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from driveshard.errors import Mismatch
from driveshard.ledger import Ledger

NAME = "manifest.json"
FORMAT = "driveshard"
VERSION = 1


@dataclass(frozen=True, slots=True)
class ManifestPart:
    """One part: its file's ``name`` and ``id`` on the destination, ``size`` in bytes, checksums in hex, counts, and
    its first and last member's paths."""

    number: int
    name: str
    id: str
    size: int
    md5: str
    sha256: str
    samples: int
    files: int
    first: str
    last: str


_SLOTS = ManifestPart.__slots__


@dataclass(frozen=True, slots=True)
class Manifest:
    """``samples`` and ``files`` count a member that a newer part replaces once; newer parts have higher numbers."""

    name: str
    job: str
    source: Mapping[str, Any]
    samples: int
    files: int
    parts: tuple[ManifestPart, ...]

    @property
    def size(self) -> int:
        """Sum of the parts' sizes in bytes."""
        return sum(part.size for part in self.parts)

    def encode(self) -> bytes:
        """As indented JSON: people read it, too."""
        document = {
            "format": FORMAT,
            "version": VERSION,
            "name": self.name,
            "job": self.job,
            "source": dict(self.source),
            "samples": self.samples,
            "files": self.files,
            "bytes": self.size,
            "parts": [{slot: getattr(part, slot) for slot in _SLOTS} for part in self.parts],
        }
        return json.dumps(document, indent=1, ensure_ascii=False).encode("utf-8", "backslashreplace") + b"\n"

    @classmethod
    def decode(cls, data: bytes) -> Manifest:
        """Raises Mismatch when ``data`` is no manifest of a version known here."""
        try:
            document = json.loads(data)
            if document["format"] != FORMAT or document["version"] > VERSION:
                raise Mismatch(
                    f"the manifest is of {document['format']} version {document['version']}",
                    advice="Update driveshard: pip install -U driveshard.",
                )
            parts = tuple(ManifestPart(**{slot: part[slot] for slot in _SLOTS}) for part in document["parts"])
            for part in parts:
                _check(part)
            facts = {key: document[key] for key in ("name", "job", "source", "samples", "files")}
            return cls(parts=parts, **facts)
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            raise Mismatch(f"manifest.json cannot be read ({type(error).__name__}: {error})") from error


def _check(part: ManifestPart) -> None:
    """A manifest may come from anybody: a part's name becomes a file's name at the reader. Raises ValueError."""
    texts = (part.name, part.id, part.md5, part.sha256)
    if not all(isinstance(text, str) for text in texts) or not isinstance(part.size, int) or part.size < 0:
        raise ValueError(f"part {part.number!r} is not described as a part should be")
    if re.search(r"[/\\:\x00-\x1f]", part.name) or part.name.startswith("."):
        raise ValueError(f"{part.name!r} is not a part's name")


def manifest_of(ledger: Ledger) -> Manifest:
    """The manifest of a dataset whose parts are all released."""
    totals = ledger.totals()
    parts = tuple(
        ManifestPart(
            number=part.number,
            name=part.file_name,
            id=part.file_id or "",
            size=part.size or 0,
            md5=part.md5 or "",
            sha256=part.sha256 or "",
            samples=part.samples or 0,
            files=part.files or 0,
            first=part.first or "",
            last=part.last or "",
        )
        for part in ledger.parts()
    )
    return Manifest(
        name=ledger.get("name"),
        job=ledger.get("job"),
        source=ledger.get("settings", {}),
        samples=totals.samples,
        files=totals.files,
        parts=parts,
    )
