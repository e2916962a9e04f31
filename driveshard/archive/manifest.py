"""The published description of a dataset: what a reader needs in order to fetch it and to trust it.

The same dataset gives the same bytes: no clock and no machine is in it. One of very many parts is split: its parts are
listed in pages, files beside it, of which it tells name, size and sha256. A page is named by its content and never
changed, so whoever has a manifest has one state of the dataset, and proves each page of it.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import groupby
from pathlib import Path
from typing import Annotated, Any

import msgspec

from driveshard.core.errors import Mismatch
from driveshard.core.formatting import plural, shown

NAME = "manifest.json"
INDEX = "index.npz"
FORMAT = "driveshard"
VERSION = 3
"""Of a manifest with pages; 2 of one with deleted files, which must not be read as if it had none; else 1."""

SPLIT_OVER = 4 * 1024 * 1024
"""Bytes of part entries, some 15,000 parts, over which they go into pages: so much goes to Drive in one request."""
PAGE_NUMBERS = 4096
"""Part numbers to a page, about 1.2 MB: few enough that one more part costs little to publish, and enough that a
million parts are not thousands of files. By numbers, not by count, so that a part that goes changes one page alone."""
_MOST_PAGES = 10_000
_MOST_IN_PAGES = 512 * 1024 * 1024  # bytes; two million parts

Count = Annotated[int, msgspec.Meta(ge=0, le=2**53)]
# Nothing that leads elsewhere, no name of a device (Windows), nothing that moves a cursor.
_PART_NAME = re.compile(
    r"(?!\.)(?!(?:con|prn|aux|nul|com\d|lpt\d)\.)[^/\\:*?\"<>|\x00-\x1f\x7f-\x9f]+\.zip", re.IGNORECASE
)
_PART_ID = re.compile(r"[\w. ()-]*")
_PAGE_NAME = re.compile(r"manifest-\d{5,16}-[0-9a-f]{12}\.json", re.ASCII)


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
class ManifestPage:
    """A file that lists ``parts`` parts, of numbers from ``lowest`` to ``highest``: its ``name`` and ``id`` on the
    destination, ``size`` in bytes, sha256 in hex."""

    name: str
    id: str
    size: Count
    sha256: str
    parts: Count
    lowest: Count
    highest: Count


Fetch = Callable[[Sequence[ManifestPage]], Iterable[bytes]]
"""The bytes of each of these pages, in their order; no more than ``size`` of each need be read."""


def _alone(pages: Sequence[ManifestPage]) -> Iterable[bytes]:
    raise Mismatch(f"the manifest's parts are listed in {len(pages)} files that are not here")


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

    def encode(self, pages: Sequence[ManifestPage] = ()) -> bytes:
        """As indented JSON: people read it, too. With ``pages``, those of ``split`` with their ids, it lists them in
        its parts' place."""
        document: dict[str, Any] = {
            "format": FORMAT,
            "version": VERSION if pages else 2 if self.deleted else 1,
            "name": self.name,
            "job": self.job,
            "source": dict(self.source),
            "samples": self.samples,
            "files": self.files,
            "bytes": self.size,
        }
        if pages:
            document["pages"] = [asdict(page) for page in pages]
        else:
            document["parts"] = [_row(part) for part in self.parts]
        if self.deleted:
            document["deleted"] = list(self.deleted)
        return json.dumps(document, indent=1, ensure_ascii=False).encode("utf-8", "backslashreplace") + b"\n"

    @classmethod
    def decode(cls, data: bytes, fetch: Fetch = _alone) -> Manifest:
        """Raises Mismatch when ``data`` is no manifest of a version known here, or what ``fetch`` gives is not the
        pages that it lists. It may come from anybody, so every field is of the type it should be afterwards, and every
        part's name can be a file's name anywhere."""
        try:
            document = json.loads(data)
            head = msgspec.convert(document, _Head)
            if head.format != FORMAT or head.version > VERSION:
                raise Mismatch(
                    f"the manifest is of {shown(head.format[:40])} version {head.version}",
                    advice="Update driveshard: pip install -U driveshard.",
                )
            body = msgspec.convert(document, _Facts)
            if head.version < VERSION:
                parts = msgspec.convert(document, _Listed).parts
            else:
                parts = list(_parts_of(msgspec.convert(document, _Paged).pages, fetch))
            _check(parts)
        except (ValueError, RecursionError) as error:  # msgspec's own error is a ValueError
            raise Mismatch(f"manifest.json cannot be read ({type(error).__name__}: {shown(str(error))})") from error
        return cls(body.name, body.job, body.source, body.samples, body.files, tuple(parts), tuple(body.deleted))


def manifest_in(directory: Path) -> Manifest:
    """The manifest that lies in a directory, with its pages. Raises Mismatch, and OSError when it cannot be opened."""

    def fetch(pages: Sequence[ManifestPage]) -> Iterator[bytes]:
        for page in pages:
            try:
                with (directory / page.name).open("rb") as stream:
                    yield stream.read(page.size)
            except OSError as error:
                raise missing(page) from error

    return Manifest.decode((directory / NAME).read_bytes(), fetch)


def missing(page: ManifestPage) -> Mismatch:
    """What a reader says who does not find a page."""
    return Mismatch(
        f"{page.name}, in which the manifest lists {plural(page.parts, 'part')}, is not there",
        advice="The dataset is being changed, or is not whole: run the same command again later.",
    )


# -- pages -----------------------------------------------------------------------------------------------------------


def split(manifest: Manifest) -> list[tuple[ManifestPage, bytes]]:
    """The pages of a manifest that is too large for one file, still without ids, and their bytes: one part a line. None
    for any other."""
    lines = [(part.number, _json(_row(part))) for part in manifest.parts]
    if sum(len(line) for _, line in lines) <= SPLIT_OVER:
        return []
    ranges = groupby(sorted(lines), key=lambda one: one[0] // PAGE_NUMBERS)
    return [_page(index, list(found)) for index, found in ranges]


def is_page(name: str) -> bool:
    """Whether a file of that name is a manifest's page."""
    return _PAGE_NAME.fullmatch(name) is not None


def _page(index: int, lines: list[tuple[int, bytes]]) -> tuple[ManifestPage, bytes]:
    data = b'{"parts": [\n' + b",\n".join(line for _, line in lines) + b"\n]}\n"
    sha256 = hashlib.sha256(data).hexdigest()
    name = f"manifest-{index:05d}-{sha256[:12]}.json"
    return ManifestPage(name, "", len(data), sha256, len(lines), lines[0][0], lines[-1][0]), data


def _row(part: ManifestPart) -> dict[str, Any]:
    return {slot: getattr(part, slot) for slot in _SLOTS}


def _json(row: dict[str, Any]) -> bytes:
    return json.dumps(row, ensure_ascii=False).encode("utf-8", "backslashreplace")


def _parts_of(pages: list[ManifestPage], fetch: Fetch) -> Iterator[ManifestPart]:
    """What the pages list, each proved before it is looked into. Raises Mismatch, ValueError."""
    _check_pages(pages)
    for page, data in zip(pages, fetch(pages), strict=True):
        if len(data) != page.size or hashlib.sha256(data).hexdigest() != page.sha256.lower():
            raise Mismatch(
                f"{page.name} is not what the manifest says: its sha256 is another one",
                advice="It was damaged or changed: run the push again, or ask its owner to.",
            )
        found = msgspec.convert(json.loads(data), _Listed).parts
        if len(found) != page.parts or any(not page.lowest <= part.number <= page.highest for part in found):
            raise ValueError(f"{page.name} lists other parts than the manifest says")
        yield from found


def _check_pages(pages: list[ManifestPage]) -> None:
    """Before any of them is fetched. Raises ValueError."""
    before = -1
    for page in pages:
        if not is_page(page.name):
            raise ValueError(f"{page.name[:100]!r} is not a page's name")
        if not _PART_ID.fullmatch(page.id):
            raise ValueError(f"{page.id[:100]!r} is not a page's id")
        if not before < page.lowest <= page.highest or not page.parts:
            raise ValueError(f"the numbers of {page.name} are not behind those of the page before")
        before = page.highest
    if len(pages) > _MOST_PAGES or sum(page.size for page in pages) > _MOST_IN_PAGES:
        raise ValueError("the pages are far more than a dataset ever needs")


class _Head(msgspec.Struct):
    format: str
    version: Annotated[int, msgspec.Meta(ge=1, le=2**31)]


class _Facts(msgspec.Struct):
    name: str
    job: str
    source: dict[str, Any]
    samples: Count
    files: Count
    deleted: list[str] = []


class _Listed(msgspec.Struct):
    parts: list[ManifestPart]


class _Paged(msgspec.Struct):
    pages: list[ManifestPage]


def _check(parts: list[ManifestPart]) -> None:
    """A part's name becomes a file's name at the reader, and its id a word in an address. Raises ValueError."""
    for part in parts:
        if not _PART_NAME.fullmatch(part.name) or len(part.name.encode("utf-8", "surrogateescape")) > 255:
            raise ValueError(f"{part.name[:100]!r} is not a part's name")
        if not _PART_ID.fullmatch(part.id):
            raise ValueError(f"{part.id[:100]!r} is not a part's id")
    if len({part.name for part in parts}) != len(parts) or len({part.number for part in parts}) != len(parts):
        raise ValueError("a part is listed twice")
