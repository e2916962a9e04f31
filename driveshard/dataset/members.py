"""Members' bytes, one by one and many at once."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from driveshard.archive.checksums import crc32
from driveshard.archive.directory import DEFLATED, STORED, gathered
from driveshard.archive.index import Index
from driveshard.core.errors import Mismatch
from driveshard.dataset.parts import ADVICE, OpenParts, pread

_NEAR = 512  # bytes between two members that are rather read than skipped
ONE_READ = 1 << 24
"""Bytes that are read before they are known to be there."""

_SMALL = 1 << 16  # bytes of a member from which on it is read by a call of its own

Columns = Sequence[memoryview]
"""An index's columns: part, field, begin, stored, size, crc, method."""


def body_of(parts: OpenParts, columns: Columns, member: int, check: bool) -> bytes:
    """One member. Raises Mismatch, and IndexError when the index lies."""
    part_of, _, begin_of, stored_of, size_of, crc_of, method_of = columns
    number = part_of[member]
    part = parts.opened[number] or parts.open(number)
    data = part.read(begin_of[member], stored_of[member])
    if method_of[member] or check or len(data) != size_of[member]:
        return unpacked(part.name, data, size_of[member], method_of[member], crc_of[member] if check else None)
    return data


def unpacked(part: str, data: bytes, size: int, method: int, crc: int | None) -> bytes:
    """The bytes as they were packed, ``size`` of them. Raises Mismatch when they are not, or have another CRC."""
    if method == DEFLATED:
        stream = zlib.decompressobj(-zlib.MAX_WBITS)
        try:
            data = stream.decompress(data, size + 1)
        except zlib.error as error:
            raise _damaged(part) from error
    elif method != STORED:
        raise _damaged(part)
    if len(data) != size or (crc is not None and crc32(data) != crc):
        raise _damaged(part)
    return data


def _damaged(part: str) -> Mismatch:
    return Mismatch(f"a member of {part} is damaged", advice=ADVICE)


@dataclass(frozen=True, slots=True)
class Batch:
    """Samples by number, ``counts`` of members of each, and the members themselves behind each other."""

    samples: NDArray[np.int64]
    counts: NDArray[np.int64]
    members: NDArray[np.int64]

    @classmethod
    def of(cls, index: Index, samples: NDArray[np.int64]) -> Batch:
        """Raises IndexError, ValueError when the index lies."""
        firsts = index.arrays["firsts"]
        begins, ends = firsts[samples].astype(np.int64), firsts[samples + 1].astype(np.int64)
        counts = ends - begins
        if len(counts) and (counts.min() < 0 or ends.max() > index.members):
            raise IndexError("its samples have members that are none")
        if (counts == 1).all():
            return cls(samples, counts, begins)
        before = np.cumsum(counts) - counts
        members = np.repeat(begins - before, counts) + np.arange(int(counts.sum()))
        return cls(samples, counts, members)


def read_batch(parts: OpenParts, index: Index, batch: Batch, check: bool) -> list[dict[str, Any]]:
    """The samples of a batch, in its order; read in the order in which they lie. Raises Mismatch, IndexError."""
    return grouped(index, batch, _bodies(parts, index, batch.members, check))


def grouped(index: Index, batch: Batch, bodies: list[bytes]) -> list[dict[str, Any]]:
    """The samples of a batch from its members' bytes. Raises IndexError when the index lies."""
    names = index.fields
    fields = [names[field] for field in index.arrays["field"][batch.members].tolist()]
    keys = _keys(index, batch.samples)
    if len(bodies) == len(keys) and (batch.counts == 1).all():
        return [{"__key__": key, field: body} for key, field, body in zip(keys, fields, bodies, strict=True)]
    found, at = [], 0
    for key, count in zip(keys, batch.counts.tolist(), strict=True):
        sample: dict[str, Any] = {"__key__": key}
        sample.update(zip(fields[at : at + count], bodies[at : at + count], strict=True))
        at += count
        found.append(sample)
    return found


def _keys(index: Index, samples: NDArray[np.int64]) -> list[str]:
    ends = index.arrays["key_ends"]
    begins = np.where(samples > 0, ends[samples - 1], 0).astype(np.int64)
    lengths = ends[samples].astype(np.int64) - begins
    text = gathered(index.arrays["keys"], begins, lengths).tobytes()
    cuts = [0, *np.cumsum(lengths).tolist()]
    if text.isascii():  # decoded at once, for a slice of text costs a third of a decoded slice of bytes
        whole = text.decode("ascii")
        return [whole[begin:end] for begin, end in pairwise(cuts)]
    return [text[begin:end].decode("utf-8", "surrogateescape") for begin, end in pairwise(cuts)]


def _bodies(parts: OpenParts, index: Index, members: NDArray[np.int64], check: bool) -> list[bytes]:
    """The members' bytes, in their order here."""
    part, begin, stored, size, crc, method = (
        index.arrays[name][members] for name in ("part", "begin", "stored", "size", "crc", "method")
    )
    order = np.argsort((part.astype(np.uint64) << np.uint64(48)) | begin)  # by part and place
    found: list[bytes] = [b""] * len(members)
    places = Places(part[order], begin[order].astype(np.int64), stored[order].astype(np.int64))
    _read_all(parts, places, order.tolist(), found)
    if check or method.any() or (stored != size).any():
        rows = zip(part.tolist(), found, size.tolist(), method.tolist(), crc.tolist(), strict=True)
        names = [one.name for one in index.parts]
        return [unpacked(names[n], data, size, kind, crc if check else None) for n, data, size, kind, crc in rows]
    return found


@dataclass(frozen=True, slots=True)
class Places:
    """Where bytes lie, sorted by part and begin."""

    part: NDArray[Any]
    begin: NDArray[np.int64]
    stored: NDArray[np.int64]


def _read_all(parts: OpenParts, places: Places, rows: list[int], found: list[bytes]) -> None:
    """Read all places, each into its row of ``found``; those side by side by one call."""
    begin, stored = places.begin, places.stored
    gaps = begin[1:] - (begin[:-1] + stored[:-1])
    near = (gaps >= 0) & (gaps <= _NEAR) & (places.part[1:] == places.part[:-1])
    near &= (stored[1:] <= _SMALL) & (stored[:-1] <= _SMALL)
    cuts = [0, *(np.flatnonzero(~near) + 1).tolist(), len(rows)] if rows else []
    numbers, begins, lengths, opened = places.part.tolist(), begin.tolist(), stored.tolist(), parts.opened
    for first, last in pairwise(cuts):
        number, start = numbers[first], begins[first]
        part = opened[number] or parts.open(number)
        if last == first + 1:
            length = lengths[first]
            data = pread(part.descriptor, length, start) if length <= ONE_READ else b""
            found[rows[first]] = data if len(data) == length else part.read(start, length)
            continue
        chunk = part.read(start, begins[last - 1] + lengths[last - 1] - start)
        for at in range(first, last):
            offset = begins[at] - start
            found[rows[at]] = chunk[offset : offset + lengths[at]]
