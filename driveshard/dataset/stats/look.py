"""Looks at the members of a piece, in whatever process: from their bytes to a tally."""

from __future__ import annotations

import json
import os
import tempfile
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from PIL import UnidentifiedImageError

from driveshard.archive.manifest import ManifestPart
from driveshard.core.decoding import strict
from driveshard.core.errors import DriveshardError, Mismatch
from driveshard.dataset.cached_parts import Reader
from driveshard.dataset.fetch import require_room
from driveshard.dataset.members import unpacked
from driveshard.dataset.parts import ADVICE, pread
from driveshard.dataset.shelf import require_seen
from driveshard.dataset.stats.arrays import count_array
from driveshard.dataset.stats.pictures import PixelCounter
from driveshard.dataset.stats.pieces import ARRAY, BOXES, LABEL, NUMBER, PICTURE, TABLE, Piece
from driveshard.dataset.stats.tally import MOST_BROKEN, Arrays, Labels, Pictures, Tally
from driveshard.dataset.stats.values import boxes, count_label, count_table
from driveshard.upload.pack.apart import require_version

_NEAR = 64 << 10  # bytes between two members in a file that are rather read than skipped
_NEAR_AFAR = 1 << 20  # where each read is a request
_MOST_BYTES = 16 << 20  # that are read at once, but for a member that is larger
_LARGEST = 1 << 30  # bytes of a member once unpacked
_WORDS = 200  # characters of why a member is broken
_PARSERS: dict[int, Callable[[bytes], Any]] = {LABEL: json.loads, NUMBER: int, BOXES: boxes}


@dataclass(frozen=True, slots=True)
class Place:
    """Where a part's bytes are read: in a file, or by requests where it lies, ``at_once`` of them side by side, or
    ``whole``, by one."""

    path: Path | None
    reader: Reader | None = None
    part: ManifestPart | None = None
    at_once: int = 1
    whole: bool = False


def look_at(pieces: Sequence[Piece], place: Place) -> list[Tally]:
    """Count the members of each of some pieces of one part. What cannot be read is named by its row in the index, and
    counted.

    Raises Mismatch when the part itself cannot be read, and errors of the way to it."""
    with strict, _Open(pieces[0].part, place) as read:
        cuts = [_cuts(piece, _NEAR if place.path is not None else _NEAR_AFAR) for piece in pieces]
        ranges = [_range(piece, *cut) for piece, some in zip(pieces, cuts, strict=True) for cut in pairwise(some)]
        chunks = _chunks(ranges, read, place)
        return [_looked_at(piece, some, chunks) for piece, some in zip(pieces, cuts, strict=True)]


def _looked_at(piece: Piece, cuts: Sequence[int], chunks: Iterator[bytes]) -> Tally:
    looked = _Looked(piece)
    starts, lengths = piece.begin.tolist(), piece.stored.tolist()
    for first, last in pairwise(cuts):
        chunk = next(chunks)
        for at in range(first, last):
            offset = starts[at] - starts[first]
            looked.at(at, chunk[offset : offset + lengths[at]])
    return looked.tally()


def look_abroad(pieces: Sequence[Piece], place: Place, size: int, version: str) -> list[Tally]:
    """As ``look_at``, by a worker that is not ours: it reads the part, of ``size`` bytes, where it lies, and keeps one
    that it fetches until it is done.

    Raises ConfigError for a part on a disk that it does not see, or another version of driveshard."""
    require_version(version)
    if place.path is not None:
        require_seen(place.path, size)
    if not place.whole:
        return look_at(pieces, place)
    assert place.reader is not None and place.part is not None
    with tempfile.TemporaryDirectory(prefix="driveshard-", ignore_cleanup_errors=True) as folder:
        path = Path(folder) / place.part.name
        require_room(path.parent, size)
        place.reader.fetch(place.part, path)
        return look_at(pieces, Place(path))


class _Looked:
    """What was seen of a piece so far."""

    def __init__(self, piece: Piece) -> None:
        self._rows, self._names = piece.rows.tolist(), piece.names
        self._fields, self._kinds = piece.field.tolist(), piece.kind.tolist()
        self._unpack = list(zip(piece.size.tolist(), piece.method.tolist(), piece.crc.tolist(), strict=True))
        self._part = piece.part
        self._counters: dict[str, PixelCounter] = {}
        self._labels: dict[str, Labels] = {}
        self._arrays: dict[str, Arrays] = {}
        self._broken: list[tuple[int, str]] = []
        self._doubtful = False

    def at(self, at: int, data: bytes) -> None:
        """Count the piece's member ``at``, whose bytes are as they are stored; what cannot be read is broken."""
        name, kind = self._names[self._fields[at]], self._kinds[at]
        counter = (self._counters.get(name) if kind == PICTURE else None) or self._counter(name, kind)
        try:
            if self._unpack[at][0] > _LARGEST:
                raise ValueError(f"it is of {self._unpack[at][0]:,} bytes, too many to be looked at")
            body = unpacked(self._part, data, *self._unpack[at])
            if isinstance(counter, PixelCounter):
                counter.count(body)
            elif isinstance(counter, Arrays):
                count_array(counter, body)
            elif kind == TABLE:
                count_table(counter, body)
            else:
                count_label(counter, body, _PARSERS[kind])
        except Exception as error:  # Pillow's decoders raise nearly anything on bad bytes
            broken = counter.pictures if isinstance(counter, PixelCounter) else counter
            broken.broken += 1
            self._doubtful = self._doubtful or isinstance(error, Mismatch | MemoryError)
            if len(self._broken) < MOST_BROKEN:
                self._broken.append((self._rows[at], _why(error)))

    def _counter(self, name: str, kind: int) -> PixelCounter | Labels | Arrays:
        if kind == PICTURE:
            return self._counters.setdefault(name, PixelCounter())
        if kind == ARRAY:
            return self._arrays.setdefault(name, Arrays())
        return self._labels.setdefault(name, Labels())

    def tally(self) -> Tally:
        pictures: dict[str, Pictures] = {name: one.counted() for name, one in self._counters.items()}
        return Tally(pictures, self._labels, self._broken, self._doubtful, self._arrays)


def _why(error: Exception) -> str:
    if isinstance(error, UnidentifiedImageError):
        return "it is no image of a known format"
    if isinstance(error, Mismatch):
        return "its bytes are damaged"
    if isinstance(error, MemoryError):
        return "it takes more memory than there is"
    return (str(error) or type(error).__name__)[:_WORDS]


def _range(piece: Piece, first: int, last: int) -> tuple[int, int]:
    """(begin, length) of what holds these members."""
    begin = int(piece.begin[first])
    ends = piece.begin[first:last].astype(np.int64) + piece.stored[first:last]
    return begin, int(ends.max()) - begin


def _chunks(ranges: Sequence[tuple[int, int]], read: Callable[[int, int], bytes], place: Place) -> Iterator[bytes]:
    """The bytes of each range; of what lies far away, the next few are asked for meanwhile."""
    if place.path is not None:
        yield from (read(*one) for one in ranges)
        return
    ahead: deque[Future[bytes]] = deque()
    with ThreadPoolExecutor(place.at_once, "ranges") as pool:
        for one in ranges:
            ahead.append(pool.submit(read, *one))
            if len(ahead) > place.at_once:
                yield ahead.popleft().result()
        while ahead:
            yield ahead.popleft().result()


def _cuts(piece: Piece, near: int) -> list[int]:
    """Where the members of each read begin, and the end of all: what is near is read together, up to so many bytes."""
    starts, lengths = piece.begin.tolist(), piece.stored.tolist()
    cuts, reach = [0], starts[0] if starts else 0
    for at, (start, length) in enumerate(zip(starts, lengths, strict=True)):
        if start - reach > near or (at > cuts[-1] and start + length - starts[cuts[-1]] > _MOST_BYTES):
            cuts.append(at)
        reach = max(reach, start + length)
    return [*cuts, len(starts)]


class _Open:
    """A place that is open for reading: ``read(start, length)``, fewer bytes at its end."""

    def __init__(self, part: str, place: Place) -> None:
        self._part, self._place = part, place
        self._descriptor: int | None = None
        self._size = 0

    def __enter__(self) -> Callable[[int, int], bytes]:
        place = self._place
        if place.path is None:
            assert place.reader is not None and place.part is not None
            reader, part = place.reader, place.part
            return lambda start, length: reader(part, start, max(0, min(length, part.size - start)))
        flags = os.O_RDONLY | getattr(os, "O_BINARY", 0) | getattr(os, "O_CLOEXEC", 0)
        try:
            self._descriptor = os.open(place.path, flags)
        except OSError as error:
            raise self._unreadable(error) from error
        self._size = os.fstat(self._descriptor).st_size
        return self._read

    def _read(self, start: int, length: int) -> bytes:
        assert self._descriptor is not None
        length = max(0, min(length, self._size - start))  # an index that lies may ask for any number of bytes
        try:
            found = pread(self._descriptor, length, start)
            while len(found) < length and (more := pread(self._descriptor, length - len(found), start + len(found))):
                found += more
        except OSError as error:
            raise self._unreadable(error) from error
        return found

    def _unreadable(self, error: OSError) -> DriveshardError:
        return Mismatch(f"{self._part} cannot be read: {error.strerror or error}", advice=ADVICE)

    def __exit__(self, *_: Any) -> None:
        if self._descriptor is not None:
            os.close(self._descriptor)
