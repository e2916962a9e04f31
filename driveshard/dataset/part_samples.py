"""The samples of a dataset part by part, each part gone through once from its beginning to its end."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Iterator
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from driveshard.archive import manifest as manifests
from driveshard.archive.directory import map_directory
from driveshard.archive.index import COLUMNS
from driveshard.archive.manifest import Manifest
from driveshard.core.errors import Mismatch
from driveshard.dataset.cached_parts import CachedParts
from driveshard.dataset.dataset import Dataset, Sample
from driveshard.dataset.members import Batch, grouped, unpacked
from driveshard.dataset.part_stream import PartStream, Read
from driveshard.dataset.parts import ADVICE, LocalParts, OpenParts

_AHEAD = 2  # reads under way of a part that is elsewhere


class PartSamples:
    """The samples of ``where`` (see ``Dataset``), as bytes, by the part that they are read from.

    A sample belongs to the newest part that holds something of it. Every member's CRC is compared, and of a part that
    is elsewhere the sha256 of all of it. Picklable; each process opens the dataset for itself.
    """

    def __init__(self, where: str, cache: str | None = None) -> None:
        self._dataset = Dataset(where, cache=cache)
        self.name, self.numbers = _described(self._dataset, where)
        self.digests = [part.sha256 for part in self._parts.parts]
        if isinstance(self._parts, LocalParts) and not all(self.digests):
            self.digests = [_digest(self._parts.fetch(at)) for at in range(len(self.digests))]

    def __getstate__(self) -> dict[str, Any]:
        kept = ("_dataset", "name", "numbers", "digests")
        return {name: self.__dict__[name] for name in kept}

    @property
    def _parts(self) -> Any:
        return self._dataset.parts

    @cached_property
    def _opened(self) -> OpenParts:
        return OpenParts(self._parts)

    @cached_property
    def _newest(self) -> NDArray[Any]:
        """For each sample the newest part that it has a member in."""
        arrays = self._dataset.index.arrays
        firsts = arrays["firsts"][:-1].astype(np.int64)
        found: NDArray[Any] = np.maximum.reduceat(arrays["part"], firsts) if len(firsts) else arrays["part"]
        return found

    def counts(self) -> list[int]:
        """Samples of each part."""
        found: list[int] = np.bincount(self._newest, minlength=len(self.numbers)).tolist()
        return found

    def batches(self, at: int, size: int) -> Iterator[list[Sample]]:
        """The samples of the ``at``-th part, ``size`` at a time, in the order in which they lie.

        Raises Mismatch when they are not what they should be, perhaps only once all were given.
        """
        samples = self._samples_of(at)
        with self._stream(at) as stream:
            for begin in range(0, len(samples), size):
                yield self._read(stream, at, samples[begin : begin + size])
            stream.prove(self._parts.parts[at].sha256)

    def few(self, at: int, count: int) -> list[Sample]:
        """The first ``count`` samples of the ``at``-th part."""
        samples = self._samples_of(at)[:count]
        with PartStream(self._parts.parts[at].name, self._reader(at), self._parts.parts[at].size) as stream:
            return self._read(stream, at, samples)

    def _samples_of(self, at: int) -> NDArray[np.int64]:
        arrays = self._dataset.index.arrays
        samples = np.flatnonzero(self._newest == at)
        begins = arrays["begin"][arrays["firsts"][samples].astype(np.int64)]
        found: NDArray[np.int64] = samples[np.argsort(begins, kind="stable")]
        return found

    def _read(self, stream: PartStream, at: int, samples: NDArray[np.int64]) -> list[Sample]:
        index = self._dataset.index
        batch = Batch.of(index, samples)
        columns = [index.arrays[name][batch.members] for name in COLUMNS]
        order = np.argsort(columns[2], kind="stable").tolist()
        rows = list(zip(*(column.tolist() for column in columns), strict=True))
        bodies = [b""] * len(rows)
        for row in order:
            part, _, begin, stored, size, crc, method = rows[row]
            data = stream.take(begin, stored) if part == at else self._reader(part)(begin, stored)
            bodies[row] = unpacked(self._parts.parts[part].name, data, size, method, crc)
        return grouped(index, batch, bodies)

    def _stream(self, at: int) -> PartStream:
        ahead = _AHEAD if isinstance(self._parts, CachedParts) else 0
        return PartStream(self._parts.parts[at].name, self._reader(at), self._parts.parts[at].size, ahead)

    def _reader(self, at: int) -> Read:
        if isinstance(self._parts, CachedParts):
            return partial(_exactly, self._parts, at)
        return self._opened.open(at).read


def _exactly(parts: CachedParts, at: int, begin: int, length: int) -> bytes:
    """A range of a part where it lies. Raises Mismatch when it is cut short."""
    data = parts.reader(parts.manifest_parts[at], begin, length)
    if len(data) != length:
        raise Mismatch(f"{parts.parts[at].name} was cut short", advice=ADVICE)
    return data


def _described(dataset: Dataset, where: str) -> tuple[str, list[int]]:
    """The dataset's name, and its parts' numbers; without a manifest they are counted."""
    parts = dataset.parts
    if isinstance(parts, CachedParts):
        return dataset.name, [part.number for part in parts.manifest_parts]
    assert isinstance(parts, LocalParts)
    with contextlib.suppress(FileNotFoundError):
        manifest = Manifest.decode((parts.directory / manifests.NAME).read_bytes())
        numbers = {part.name: part.number for part in manifest.parts}
        return manifest.name, [numbers[part.name] for part in parts.parts]
    return parts.directory.name, list(range(len(parts.parts)))


def _digest(path: Path) -> str:
    """What stands for a zip that nobody computed a checksum of: its members' names, sizes and CRCs."""
    directory = map_directory(path)
    sums = hashlib.sha256()
    for column in (directory.names, directory.ends, directory.sizes, directory.crcs):
        sums.update(column.tobytes())
    return sums.hexdigest()
