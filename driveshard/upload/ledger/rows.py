"""What a ledger tells: a part's row, the counts over all parts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from driveshard.core.model import PartState, UploadSession


@dataclass(frozen=True, slots=True)
class LedgerPart:
    """A part's row. ``session`` is set from *begun* on; sizes in bytes; checksums once packed."""

    number: int
    state: PartState
    file_name: str
    estimate: int
    part_size: int
    files: int | None
    samples: int | None
    size: int | None
    md5: str | None
    sha256: str | None
    first: str | None
    last: str | None
    file_id: str | None
    session: UploadSession | None
    repairs: int


@dataclass(frozen=True, slots=True)
class Totals:
    """The dataset as planned so far: distinct files and samples, and the parts' bytes, released or not."""

    parts: int
    released: int
    samples: int
    files: int
    bytes: int


class LedgerDamaged(Exception):
    """The file is not a ledger this version can trust: corrupt, cut short, or of another schema version."""


PART_COLUMNS = (
    "number, state, file_name, estimate, part_size, files, samples, size, md5, sha256, first, last, file_id,"
    " session_uri, session_created, offset, repairs"
)


def part_of(row: tuple[Any, ...]) -> LedgerPart:
    *columns, file_id, uri, created, offset, repairs = row
    session = UploadSession(file_id, uri, created, offset) if uri else None
    number, state, *rest = columns
    return LedgerPart(number, PartState(state), *rest, file_id, session, repairs)  # type: ignore[call-arg]
