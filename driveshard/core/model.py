"""The nouns everything else is about: plain frozen values, picklable, that touch neither a disk nor a wire."""

from __future__ import annotations

import enum
from array import array
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

# A list of files is kept in columns: at a million files a tuple each would cost 200 MB.
_SEPARATOR = b"\0"


class PartState(enum.StrEnum):
    """A part's life, in order. See docs/design.md for what each step proves."""

    PLANNED = "planned"
    PACKED = "packed"
    BEGUN = "begun"
    STORED = "stored"
    VERIFIED = "verified"
    RELEASED = "released"


@dataclass(frozen=True, slots=True)
class Sample:
    """What a Python source yields. ``fields`` maps a field name (``"image.jpg"``, ``"json"``) to bytes, text,
    a PIL image, a numpy array, or anything JSON can hold; each field becomes the member ``key + "." + field``."""

    key: str
    fields: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Failure:
    """A source file (or sample) that could not be read, and why, for the user."""

    path: str
    why: str


class FileList:
    """Files below a source's root in path order, as columns of equal length.

    Paths are bytes relative to the root with ``/`` between the steps, as the file system gave them (they need not be
    UTF-8); sizes are in bytes; mtimes in nanoseconds since the epoch, folded into 64 bits where they are further away.
    ``changes`` are stamps of what else the file system notes of a change (see ``sources.stamps``), 0 where nobody
    looked. ``crcs`` are the contents' CRC-32s, empty until they were packed. Neither counts when lists are
    compared: stamps differ from look to look.
    """

    __slots__ = ("changes", "crcs", "mtimes", "paths", "sizes")

    def __init__(
        self,
        paths: bytes = b"",
        sizes: array[int] | None = None,
        mtimes: array[int] | None = None,
        changes: array[int] | None = None,
        crcs: array[int] | None = None,
    ) -> None:
        self.paths = paths  # joined by NUL, which no path can hold
        self.sizes = array("q") if sizes is None else sizes
        self.mtimes = array("q") if mtimes is None else mtimes
        self.changes = array("q", bytes(8 * len(self.sizes))) if changes is None else changes
        self.crcs = array("I") if crcs is None else crcs

    @classmethod
    def of(
        cls,
        rows: Sequence[tuple[bytes, int, int] | tuple[bytes, int, int, int]],
        crcs: array[int] | None = None,
    ) -> FileList:
        """Build from (path, size, mtime_ns[, change]) rows that are in path order."""
        paths = _SEPARATOR.join([row[0] for row in rows])
        changes = array("q", [row[3] if len(row) > 3 else 0 for row in rows])
        return cls(paths, array("q", [row[1] for row in rows]), array("q", [row[2] for row in rows]), changes, crcs)

    def __len__(self) -> int:
        return len(self.sizes)

    def __iter__(self) -> Iterator[tuple[bytes, int, int]]:
        return zip(self.split_paths(), self.sizes, self.mtimes, strict=True)

    def rows(self) -> Iterator[tuple[bytes, int, int, int]]:
        """(path, size, mtime, change) of each."""
        return zip(self.split_paths(), self.sizes, self.mtimes, self.changes, strict=True)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, FileList):
            return NotImplemented
        return self.paths == other.paths and self.sizes == other.sizes and self.mtimes == other.mtimes

    __hash__ = None  # type: ignore[assignment]

    def split_paths(self) -> list[bytes]:
        return self.paths.split(_SEPARATOR) if self.sizes else []

    def __reduce__(self) -> tuple[Any, ...]:
        return FileList, (self.paths, self.sizes, self.mtimes, self.changes, self.crcs)


@dataclass(frozen=True, slots=True)
class SampleRange:
    """Samples ``start`` up to, not including, ``stop`` of a source that makes its samples.

    ``stop`` None means: as many as fit the part, for a source of unknown length.
    """

    start: int
    stop: int | None


Selection = FileList | SampleRange


@dataclass(frozen=True, slots=True)
class PartSpec:
    """What one part is to hold. ``estimate`` is the zip's size in bytes: exact for files, a guess for generated
    samples; ``part_size`` is the size at which an open-ended range stops."""

    number: int
    file_name: str
    selection: Selection
    estimate: int
    part_size: int = 0


@dataclass(frozen=True, slots=True)
class NameFacts:
    """What ``member_names`` finds in a part's member names: members a kind of trouble, a few of them as text, and
    columns of hashes (of names or keys, of folders, of fields) to compare with other parts'. ``kinds`` counts its
    members by field or suffix."""

    counts: Mapping[str, int]
    examples: Mapping[str, tuple[str, ...]]
    names: bytes
    folders: bytes
    fields: bytes
    kinds: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Part:
    """A finished zip part. ``selection`` is what really went in: files that could not be read are out of it and in
    ``failed``. ``first`` and ``last`` are its first and last member's paths. ``exhausted`` says that an open-ended
    source ended within this part. ``seconds`` it took to build, ``computing`` of them on a core. ``end``
    is the zip's end from its directory on, compressed (zlib). ``place`` is its name in the temp folder where that is
    another one than was asked for."""

    number: int
    file_name: str
    size: int
    md5: str
    sha256: str
    samples: int
    files: int
    first: str
    last: str
    selection: Selection
    failed: tuple[Failure, ...] = ()
    exhausted: bool = False
    seconds: float = field(default=0.0, compare=False)
    computing: float = field(default=0.0, compare=False)
    names: NameFacts | None = field(default=None, compare=False, repr=False)
    end: bytes = field(default=b"", compare=False, repr=False)
    place: str | None = field(default=None, compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class UploadSession:
    """A resumable upload that was begun: ``uri`` is a secret; ``created`` is POSIX seconds; ``offset`` is the last
    offset in bytes that the server confirmed."""

    file_id: str
    uri: str
    created: float
    offset: int = 0


@dataclass(frozen=True, slots=True)
class RemoteFile:
    """A file as the destination reports it. Checksums are lower-case hex, None while the destination has none;
    ``parent`` is the id of the folder it is in, None when that was not told. ``size`` is -1 where only the content
    itself would tell it; ``document`` marks what has no content of its own (a Google Doc, a shortcut)."""

    id: str
    name: str
    size: int
    md5: str | None = None
    sha256: str | None = None
    link: str | None = None
    properties: Mapping[str, str] = field(default_factory=dict)
    folder: bool = False
    parent: str | None = None
    document: bool = False


def sample_key(path: str) -> str:
    """The sample a member belongs to: its path up to the first dot of the base name (the WebDataset rule).

    A leading dot belongs to the name: ``a/.hidden.txt`` has the key ``a/.hidden``.
    """
    cut = path.find(".", path.rfind("/") + 2)
    return path if cut < 0 else path[:cut]
