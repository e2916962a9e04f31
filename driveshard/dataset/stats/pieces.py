"""Cuts a dataset into pieces of work: runs of members of one part, to be looked at by one process in one go."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from driveshard.archive.contact_sheet import IMAGES as ENDINGS
from driveshard.archive.index import Index, IndexedPart
from driveshard.dataset.decode import IMAGES, extension
from driveshard.dataset.members import Batch

_VERSION = 1  # of what is counted and of how pieces are cut: results of another one are not used
_MOST_MEMBERS = 1024
_MOST_BYTES = 16 << 20
MOST_FIELDS = 64  # that are told apart; in more than that, those with one extension are taken together

PICTURE, LABEL, NUMBER, BOXES, OTHER, TABLE, ARRAY = range(7)
_KINDS = {"json": LABEL, "cls": NUMBER, "csv": TABLE, "npy": ARRAY} | dict.fromkeys(
    IMAGES | {one[1:] for one in ENDINGS}, PICTURE
)


@dataclass(frozen=True, slots=True)
class Fields:
    """The fields as they are told: their names, and for each number of the index's fields which of them it is, and its
    kind (PICTURE, LABEL, NUMBER, BOXES, TABLE, ARRAY or OTHER)."""

    names: list[str]
    which: NDArray[np.uint8]
    kinds: NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class Piece:
    """Members in the order in which they lie in a part: their rows in the index and what that has of them, as narrow as
    there; ``field`` is a number of ``names``."""

    part: str
    names: list[str]
    rows: NDArray[np.int64]
    field: NDArray[np.uint8]
    kind: NDArray[np.uint8]
    begin: NDArray[Any]
    stored: NDArray[Any]
    size: NDArray[Any]
    crc: NDArray[Any]
    method: NDArray[Any]


@dataclass(frozen=True, slots=True)
class PartWork:
    """What is to be looked at in the part of that number. ``key`` names the results: the same members of the same
    bytes have the same key."""

    number: int
    key: str
    pieces: list[Piece]

    @property
    def bytes(self) -> int:
        """Of its members there."""
        return sum(int(piece.stored.sum()) for piece in self.pieces)


def told_fields(index: Index, key: object = None) -> Fields:
    """The fields of an index, of which a folder of odd names may have as many as files; ``key`` is the rule by which
    its samples are made."""
    names = index.fields
    if len(names) > MOST_FIELDS:
        names = [f"*.{extension(name)}" if extension(name) in _KINDS else "*" for name in names]
    distinct = list(dict.fromkeys(names))
    which = np.array([distinct.index(name) for name in names], np.uint8)
    known = _KINDS | ({"txt": BOXES} if key == "yolo" else {})
    kinds = np.array([known.get(extension(name), OTHER) for name in index.fields], np.uint8)
    return Fields(distinct, which, kinds)


def chosen_samples(total: int, count: int | None, seed: int) -> NDArray[np.int64]:
    """The numbers of ``count`` samples: one anywhere in each of as many equal stretches; all, for None."""
    if count is None or count >= total:
        return np.arange(total)
    dice = random.Random(seed)
    cuts = [number * total // count for number in range(count + 1)]
    return np.array([dice.randrange(first, last) for first, last in pairwise(cuts)], np.int64)


def cut_into_pieces(
    index: Index, fields: Fields, samples: NDArray[np.int64], marks: Sequence[str]
) -> Iterator[PartWork]:
    """The work on each part that has any of it, by its number. ``marks`` tell each part's bytes from others.

    Raises IndexError and ValueError when the index lies."""
    members = Batch.of(index, samples).members
    members = members[fields.kinds[index.arrays["field"][members]] != OTHER]
    part, begin = index.arrays["part"][members].astype(np.int64), index.arrays["begin"][members]
    members = members[np.lexsort((begin, part))]
    part = index.arrays["part"][members]
    ends = np.searchsorted(part, np.arange(len(index.parts) + 1))
    for number, (first, last) in enumerate(pairwise(ends.tolist())):
        if last > first:
            rows = members[first:last]
            pieces = [_piece(index, fields, index.parts[number], some) for some in _cut(index, rows)]
            yield PartWork(number, _key(marks[number], pieces), pieces)


def _cut(index: Index, rows: NDArray[np.int64]) -> Iterator[NDArray[np.int64]]:
    """Runs of at most so many members and bytes, or of one member."""
    reached = np.cumsum(index.arrays["stored"][rows].astype(np.int64))
    at = 0
    while at < len(rows):
        before = int(reached[at - 1]) if at else 0
        fitting = int(np.searchsorted(reached, before + _MOST_BYTES, "right"))
        end = min(max(fitting, at + 1), at + _MOST_MEMBERS)
        yield rows[at:end]
        at = end


def _piece(index: Index, fields: Fields, part: IndexedPart, rows: NDArray[np.int64]) -> Piece:
    columns = {name: index.arrays[name][rows] for name in ("begin", "stored", "size", "crc", "method")}
    numbers = index.arrays["field"][rows]
    return Piece(part.name, fields.names, rows, fields.which[numbers], fields.kinds[numbers], **columns)


def _key(mark: str, pieces: Sequence[Piece]) -> str:
    digest = hashlib.sha256(f"{_VERSION} {_MOST_MEMBERS} {_MOST_BYTES} {mark} {pieces[0].names}".encode())
    for piece in pieces:
        for column in (piece.kind, piece.field, piece.begin, piece.stored, piece.size, piece.crc, piece.method):
            digest.update(column.astype(np.uint64).tobytes())
    return digest.hexdigest()[:32]
