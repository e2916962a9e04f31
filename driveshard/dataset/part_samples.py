"""The samples of a dataset part by part, each part gone through once from its beginning to its end."""

from __future__ import annotations

import contextlib
import hashlib
import pickle
import socket
import tempfile
import threading
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from driveshard.archive.directory import map_directory
from driveshard.archive.index import COLUMNS
from driveshard.core.errors import Mismatch, TempFull
from driveshard.dataset.dataset import Dataset, Sample
from driveshard.dataset.members import Batch, grouped, unpacked
from driveshard.dataset.part_stream import PartStream, Read
from driveshard.dataset.parts import ADVICE, LocalParts, OpenParts, Place

if TYPE_CHECKING:
    from driveshard.dataset.abroad import Way

_READERS = 8  # threads that read ahead, once several parts are gone through at a time
_FAR = 64 * 1024 * 1024  # bytes over which a sample may be scattered before its part is not read in one go
_BLOCK = 4 * 1024 * 1024


class PartSamples:
    """The samples of ``where`` (see ``Dataset``), as bytes, by the part that they are read from.

    A sample belongs to the newest part that holds something of it. Every member's CRC is compared, and of a part that
    is elsewhere the sha256 of all of it. Picklable: a process keeps the last one that it was sent.
    """

    _dataset: Any  # a Dataset, or a Place

    def __init__(self, where: str) -> None:
        self._dataset = Dataset(where)
        self.name, self.numbers = _described(self._dataset)
        self.digests = [part.sha256 for part in self._parts.parts]
        if self._local:
            rows = enumerate(self.digests)
            self.digests = [digest or _digest(self._parts.fetch(at)) for at, digest in rows]

    def lent(self, *, renew: bool = False) -> LentSamples:
        """To be sent at once to a worker that has neither this machine's login nor its cache. Raises what renewing the
        login does."""
        way = self._parts.directory.absolute() if self._local else self._parts.reader.lent(renew=renew).what
        return LentSamples(self.name, self._token, way, self._fingerprint)

    def __reduce__(self) -> tuple[Any, ...]:
        return _restored, (self._token, self._pickled)

    @cached_property
    def _token(self) -> str:
        return uuid.uuid4().hex

    @cached_property
    def _pickled(self) -> bytes:
        return pickle.dumps({name: self.__dict__[name] for name in ("_dataset", "name", "numbers", "digests")})

    @property
    def _parts(self) -> Any:
        return self._dataset.parts

    @cached_property
    def _fingerprint(self) -> str:
        """Of its parts, in their order."""
        rows = ((part.name, part.size, part.sha256) for part in self._parts.parts)
        return hashlib.sha256(repr([*rows, self._dataset.index.hidden]).encode()).hexdigest()

    @property
    def _local(self) -> bool:
        """Whether its parts are files here; else they are ``CachedParts``, which are only asked where they come from:
        who needs no link need not load what reads one."""
        return isinstance(self._parts, LocalParts)

    @property
    def _ends(self) -> bool:
        """Whether what was lent may end before all that is made of a part is made."""
        return not self._local and getattr(self._parts.reader.what, "ends", False)

    @cached_property
    def _opened(self) -> OpenParts:
        return OpenParts(self._parts)

    @cached_property
    def _pool(self) -> ThreadPoolExecutor | None:
        """For reading ahead where that takes waiting. Its threads, and their connections, serve part after part."""
        if self._local:
            return None
        shelf = getattr(self._parts.reader, "shelf", None)
        return ThreadPoolExecutor(1 if shelf is not None and shelf().at_once == 1 else _READERS, "ahead")

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

    def batches(self, at: int, size: int, folder: Path | None = None) -> Iterator[list[Sample]]:
        """The samples of the ``at``-th part, ``size`` at a time, in the order in which they lie. A part that has to be
        copied for that is copied into ``folder``, the system's own when there is none, and gone at the end.

        Raises Mismatch when they are not what they should be, perhaps only once all were given; TempFull.
        """
        with self._damage_told():
            order = self._order(at)
        part = self._parts.parts[at]
        near = order.reach <= _FAR and not self._ends
        with ExitStack() as stack:
            stream = stack.enter_context(PartStream(part.name, self._reader(at), part.size, self._pool))
            take = stream.take if near else self._anywhere(stack, stream, at, folder)
            for begin in range(0, len(order.samples), size):
                if near:
                    stream.let_go(int(order.begins[begin]))
                with self._damage_told():
                    found = self._read(take, at, order.samples[begin : begin + size])
                yield found
            stream.prove(part.sha256)

    def few(self, at: int, count: int) -> list[Sample]:
        """The first ``count`` samples of the ``at``-th part; by one read, if they lie near each other."""
        with self._damage_told():
            order = self._order(at)
            read, begin, end = self._reader(at), int(order.begins[0]), int(order.ends[:count].max())
            if end - begin > _BLOCK:
                return self._read(read, at, order.samples[:count])
            data = read(begin, end - begin)
            return self._read(lambda at, length: data[at - begin : at - begin + length], at, order.samples[:count])

    def _order(self, at: int) -> _Order:
        arrays = self._dataset.index.arrays
        samples = np.flatnonzero(self._newest == at)
        batch = Batch.of(self._dataset.index, samples)
        here = arrays["part"][batch.members] == at
        begins = arrays["begin"][batch.members].astype(np.int64)
        ends = begins + arrays["stored"][batch.members]
        firsts = np.cumsum(batch.counts) - batch.counts
        lowest = np.minimum.reduceat(np.where(here, begins, np.iinfo(np.int64).max), firsts) if len(samples) else begins
        highest = np.maximum.reduceat(np.where(here, ends, 0), firsts) if len(samples) else ends
        order = np.argsort(lowest, kind="stable")
        return _Order(samples[order], lowest[order], highest[order])

    def _read(self, take: Read, at: int, samples: NDArray[np.int64]) -> list[Sample]:
        """Samples whose members in that part come from ``take``, in the order in which they lie."""
        index = self._dataset.index
        batch = Batch.of(index, samples)
        columns = [index.arrays[name][batch.members] for name in COLUMNS]
        order = np.argsort(columns[2], kind="stable").tolist()
        rows = list(zip(*(column.tolist() for column in columns), strict=True))
        bodies = [b""] * len(rows)
        for row in order:
            part, _, begin, stored, size, crc, method = rows[row]
            data = take(begin, stored) if part == at else self._reader(part)(begin, stored)
            bodies[row] = unpacked(self._parts.parts[part].name, data, size, method, crc)
        return grouped(index, batch, bodies)

    def _reader(self, at: int) -> Read:
        return self._opened.open(at).read if self._local else partial(_exactly, self._parts, at)

    def _anywhere(self, stack: ExitStack, stream: PartStream, at: int, folder: Path | None) -> Read:
        """For a part whose samples are scattered all over it, or that cannot be read for long: the file itself, or a
        copy of it, proved."""
        part = self._parts.parts[at]
        if self._pool is None:
            return self._reader(at)
        with _room_told(part.name, folder):
            file = stack.enter_context(tempfile.TemporaryFile(dir=folder))  # noqa: SIM115
        for begin in range(0, part.size, _BLOCK):
            stream.let_go(begin)
            data = stream.take(begin, min(_BLOCK, part.size - begin))
            with _room_told(part.name, folder):
                file.write(data)
                file.flush()
        stream.prove(part.sha256)

        def read(begin: int, length: int) -> bytes:
            file.seek(begin)
            return file.read(length)

        return read

    @contextmanager
    def _damage_told(self) -> Iterator[None]:
        """What an index that lies leads to, as a Mismatch."""
        try:
            yield
        except (IndexError, ValueError, OverflowError) as error:
            raise Mismatch(f"the index of {self.name} is damaged", advice="Delete its index.npz.") from error


@contextmanager
def _room_told(name: str, folder: Path | None) -> Iterator[None]:
    """What the disk refuses, as a TempFull."""
    try:
        yield
    except OSError as error:
        place = f"{folder or tempfile.gettempdir()} on {socket.gethostname()}"
        raise TempFull(f"{name} cannot be copied to {place}: {error.strerror or error}") from error


@dataclass(frozen=True, slots=True)
class _Order:
    """Samples in the order in which they lie in a part, and where each one begins and ends there."""

    samples: NDArray[np.int64]
    begins: NDArray[np.int64]
    ends: NDArray[np.int64]

    @property
    def reach(self) -> int:
        """Bytes over which the most scattered one reaches."""
        return int((self.ends - self.begins).max()) if len(self.samples) else 0


@dataclass(frozen=True, slots=True)
class LentSamples:
    """The same samples for a worker elsewhere, which opens the dataset by itself when it first needs it: a directory
    that it sees, or by the way that it was lent. On its way there it is unpickled by others, who do not.

    Opening raises ConfigError for what the worker does not see, Mismatch when it finds other parts."""

    name: str
    token: str
    way: Way
    fingerprint: str

    @property
    def numbers(self) -> list[int]:
        return self._opened().numbers

    def counts(self) -> list[int]:
        """As ``PartSamples``, like all of these."""
        return self._opened().counts()

    def batches(self, at: int, size: int, folder: Path | None = None) -> Iterator[list[Sample]]:
        return self._opened().batches(at, size, folder)

    def few(self, at: int, count: int) -> list[Sample]:
        return self._opened().few(at, count)

    def _opened(self) -> PartSamples:
        from driveshard.dataset.abroad import place_by, renew

        with _restoring:
            found = _kept.get(self.token)
            if found is not None:
                renew(found._dataset, self.way)
                return found
            found = PartSamples.__new__(PartSamples)
            found._dataset = place_by(self.way)
            found.name, found.numbers = _described(found._dataset)
            if found._fingerprint != self.fingerprint:
                raise Mismatch(
                    f"{found.name} is not the same on {socket.gethostname()}, or changed while it was read",
                    advice="Run the same command again.",
                )
            _kept.clear()
            _kept[self.token] = found
            return found


_kept: dict[str, PartSamples] = {}
_restoring = threading.Lock()


def _restored(token: str, pickled: bytes) -> PartSamples:
    """The one that this process has, or a new one in place of all others."""
    with _restoring:  # a worker of a cluster may have several threads
        found = _kept.get(token)
        if found is None:
            found = PartSamples.__new__(PartSamples)
            found.__dict__.update(pickle.loads(pickled))  # noqa: S301  (our own bytes)
            _kept.clear()
            _kept[token] = found
        return found


def _exactly(parts: Any, at: int, begin: int, length: int) -> bytes:
    """A range of a part where it lies. Raises Mismatch when it is cut short."""
    data: bytes = parts.reader(parts.manifest_parts[at], begin, length)
    if len(data) != length:
        raise Mismatch(f"{parts.parts[at].name} was cut short", advice=ADVICE)
    return data


def _described(dataset: Dataset | Place) -> tuple[str, list[int]]:
    """The dataset's name, and its parts' numbers; without a manifest they are counted."""
    parts: Any = dataset.parts
    if not isinstance(parts, LocalParts):
        return dataset.name, [part.number for part in parts.manifest_parts]
    from driveshard.archive.manifest import manifest_in

    with contextlib.suppress(FileNotFoundError):
        manifest = manifest_in(parts.directory)
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
