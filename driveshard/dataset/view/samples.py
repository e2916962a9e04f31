"""A dataset opened for the page: its index, its samples' bytes by ranges, and which samples a filter means."""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path

from driveshard.archive.checksums import crc32
from driveshard.archive.directory import DEFLATED, STORED
from driveshard.archive.index import Index
from driveshard.core.errors import Mismatch
from driveshard.dataset.cached_parts import CachedParts
from driveshard.dataset.link import LinkReader, OnBytes
from driveshard.dataset.parts import ADVICE, Parts, Place
from driveshard.dataset.places import open_place
from driveshard.dataset.shelf import Shelf
from driveshard.dataset.view.bodies import Bodies, Read
from driveshard.dataset.view.keys import Keys

_BLOCK = 4 << 20
_AT_ONCE = 8  # requests side by side, where the place takes several


class Samples:
    """What the page shows of a dataset. Safe in threads."""

    def __init__(self, where: str, place: Place) -> None:
        self.place = where
        self.name = place.name
        self.index: Index = place.index
        self.keys = Keys(place.index)
        self._shelf: Shelf | None = None
        read, at_once = self._reading(place.parts)
        self._read = read
        self.bodies = Bodies(place.index, read, at_once)

    def __len__(self) -> int:
        return len(self.index)

    def _reading(self, parts: Parts) -> tuple[Read, int]:
        """How bytes are read, and how many requests side by side are best."""
        if not isinstance(parts, CachedParts) or not isinstance(parts.reader, LinkReader):
            return lambda number, start, length: _read_file(parts.fetch(number), start, length), _AT_ONCE
        opened = parts.reader.opened()
        self._shelf = opened.shelf

        def read(number: int, start: int, length: int) -> bytes:
            row, kept = parts.manifest_parts[number], parts.path_of(number)
            if kept.is_file() and kept.stat().st_size == row.size:  # a Dataset fetched it before
                return _read_file(kept, start, length)
            return opened.shelf.read(opened.shelf.id_of(row), start, length)

        return read, _AT_ONCE if opened.shelf.at_once > 1 else 1

    def sample_of(self, member: int) -> int:
        """The sample that a member belongs to."""
        return int(self.index.arrays["firsts"].searchsorted(member, side="right")) - 1

    def blocks(self, member: int) -> Iterator[bytes]:
        """A member of any size, block by block. Raises Mismatch, in the end for a wrong CRC."""
        part, _, begin, stored, size, crc, method = (column[member] for column in self.index.columns)
        name = self.index.parts[part].name
        if method not in (STORED, DEFLATED):
            raise Mismatch(f"a member of {name} is packed in a way that is not known here", advice=ADVICE)
        packed = (
            self._read(part, start, min(_BLOCK, begin + stored - start))
            for start in range(begin, begin + stored, _BLOCK)
        )
        seen = found = 0
        for block in packed if method == STORED else _inflated(packed, name):
            seen, found = seen + len(block), crc32(block, found)
            if seen > size:
                break
            yield block
        if seen != size or found != crc:
            raise Mismatch(f"a member of {name} is damaged", advice=ADVICE)

    def close(self) -> None:
        """Break what is under way, and let go of connections."""
        if self._shelf is not None:
            self._shelf.abort()
        self.bodies.close()
        if self._shelf is not None:
            self._shelf.close()


def _inflated(packed: Iterable[bytes], name: str) -> Iterator[bytes]:
    """In blocks of at most 4 MiB, however small they were packed."""
    stream = zlib.decompressobj(-zlib.MAX_WBITS)
    try:
        for data in packed:
            while data:
                yield stream.decompress(data, _BLOCK)
                data = stream.unconsumed_tail
        yield stream.flush()
    except zlib.error as error:
        raise Mismatch(f"a member of {name} is damaged", advice=ADVICE) from error


def _read_file(path: Path, start: int, length: int) -> bytes:
    try:
        with path.open("rb") as stream:
            stream.seek(start)
            return stream.read(length)
    except OSError as error:
        raise Mismatch(f"{path.name} cannot be read: {error.strerror or error}", advice=ADVICE) from error


def open_samples(what: str, on_bytes: OnBytes = lambda *_: None) -> Samples:
    """The dataset that a link, an id, a name or a directory means. Raises SourceMissing, Mismatch, and errors of the
    way to it."""
    return Samples(what, open_place(what, None, None, on_bytes))
