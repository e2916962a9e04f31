"""The published description of a dataset: what a reader needs in order to fetch it and to trust it.

The same dataset gives the same bytes: no clock and no machine is in it.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any

import msgspec

from driveshard.core.errors import Mismatch
from driveshard.core.formatting import shown

NAME = "manifest.json"
INDEX = "index.npz"
FORMAT = "driveshard"
VERSION = 2
"""Of a manifest with deleted files, which must not be read as if it had none; without any it is of version 1."""

Count = Annotated[int, msgspec.Meta(ge=0, le=2**53)]
# Nothing that leads elsewhere, no name of a device (Windows), nothing that moves a cursor.
_PART_NAME = re.compile(
    r"(?!\.)(?!(?:con|prn|aux|nul|com\d|lpt\d)\.)[^/\\:*?\"<>|\x00-\x1f\x7f-\x9f]+\.zip", re.IGNORECASE
)
_PART_ID = re.compile(r"[\w. ()-]*")


@dataclass(frozen=True, slots=True)
class ManifestPart:
    """One part: its file's ``name`` and ``id`` on the destination, ``size`` in bytes, checksums in hex, counts, and
    its first and last member's paths."""

    number: Count
    name: str
    id: str
    size: Count
    md5: str
    sha256: str
    samples: Count
    files: Count
    first: str
    last: str


_SLOTS = ManifestPart.__slots__


@dataclass(frozen=True, slots=True)
class Manifest:
    """``samples`` and ``files`` count a member that a newer part replaces once; newer parts have higher numbers.
    ``deleted`` are paths of members that are the dataset's no more, whatever part holds them, in order; what is not
    UTF-8 in them stands as lone surrogates (``surrogateescape``)."""

    name: str
    job: str
    source: Mapping[str, Any]
    samples: int
    files: int
    parts: tuple[ManifestPart, ...]
    deleted: tuple[str, ...] = ()

    @property
    def deleted_paths(self) -> frozenset[bytes]:
        """``deleted`` as the bytes that the parts have."""
        return frozenset(path.encode("utf-8", "surrogateescape") for path in self.deleted)

    @property
    def hidden(self) -> str:
        """What tells one set of deleted paths from another; empty for none."""
        joined = "\0".join(sorted(self.deleted)).encode("utf-8", "surrogateescape")
        return hashlib.sha256(joined).hexdigest() if self.deleted else ""

    @property
    def size(self) -> int:
        """Sum of the parts' sizes in bytes."""
        return sum(part.size for part in self.parts)

    def encode(self) -> bytes:
        """As indented JSON: people read it, too."""
        document = {
            "format": FORMAT,
            "version": VERSION if self.deleted else 1,
            "name": self.name,
            "job": self.job,
            "source": dict(self.source),
            "samples": self.samples,
            "files": self.files,
            "bytes": self.size,
            "parts": [{slot: getattr(part, slot) for slot in _SLOTS} for part in self.parts],
        }
        if self.deleted:
            document["deleted"] = list(self.deleted)
        return json.dumps(document, indent=1, ensure_ascii=False).encode("utf-8", "backslashreplace") + b"\n"

    @classmethod
    def decode(cls, data: bytes) -> Manifest:
        """Raises Mismatch when ``data`` is no manifest of a version known here. It may come from anybody, so every
        field is of the type it should be afterwards, and every part's name can be a file's name anywhere."""
        try:
            document = json.loads(data)
            head = msgspec.convert(document, _Head)
            if head.format != FORMAT or head.version > VERSION:
                raise Mismatch(
                    f"the manifest is of {shown(head.format[:40])} version {head.version}",
                    advice="Update driveshard: pip install -U driveshard.",
                )
            body = msgspec.convert(document, _Body)
            _check(body.parts)
        except (ValueError, RecursionError) as error:  # msgspec's own error is a ValueError
            raise Mismatch(f"manifest.json cannot be read ({type(error).__name__}: {shown(str(error))})") from error
        return cls(body.name, body.job, body.source, body.samples, body.files, tuple(body.parts), tuple(body.deleted))


class _Head(msgspec.Struct):
    format: str
    version: Annotated[int, msgspec.Meta(ge=1, le=2**31)]


class _Body(msgspec.Struct):
    name: str
    job: str
    source: dict[str, Any]
    samples: Count
    files: Count
    parts: list[ManifestPart]
    deleted: list[str] = []


def _check(parts: list[ManifestPart]) -> None:
    """A part's name becomes a file's name at the reader, and its id a word in an address. Raises ValueError."""
    for part in parts:
        if not _PART_NAME.fullmatch(part.name) or len(part.name.encode("utf-8", "surrogateescape")) > 255:
            raise ValueError(f"{part.name[:100]!r} is not a part's name")
        if not _PART_ID.fullmatch(part.id):
            raise ValueError(f"{part.id[:100]!r} is not a part's id")
    if len({part.name for part in parts}) != len(parts) or len({part.number for part in parts}) != len(parts):
        raise ValueError("a part is listed twice")
