"""The parts of a dataset as files on this machine, and how they are read: by place, with no offset that is shared."""

from __future__ import annotations

import contextlib
import os
import threading
from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from driveshard.archive.index import Index, IndexedPart
from driveshard.core.errors import Mismatch

MOST_OPEN = 128
"""Parts of a local dataset that a process holds open; opening one again takes microseconds."""

_AGAIN = 12  # others may drop what was fetched before it is opened, where a cache is small and many use it


class Parts(Protocol):
    """Where parts come from. Picklable, and usable from several threads and processes at once."""

    parts: Sequence[IndexedPart]
    most_open: int
    """How many may be held open at a time."""

    def fetch(self, number: int) -> Path:
        """The part as a file; may take as long as a download. Raises Mismatch when it is not what it should be."""

    def hold(self, descriptor: int) -> None:
        """Told of a descriptor on a fetched file: the file stays until it is closed."""

    def ahead(self, numbers: Iterable[int]) -> None:
        """These will be wanted next."""


@dataclass(frozen=True, slots=True)
class Place:
    """What a ``Dataset`` needs to know: the index is mapped from ``index_file``, None when it is in memory."""

    name: str
    parts: Parts
    index: Index
    index_file: Path | None


class LocalParts:
    """Parts that lie in a directory."""

    most_open = MOST_OPEN

    def __init__(self, directory: Path, parts: Sequence[IndexedPart]) -> None:
        self.directory = directory
        self.parts = parts

    def fetch(self, number: int) -> Path:
        return self.directory / self.parts[number].name

    def hold(self, descriptor: int) -> None:
        """Nothing here removes a file."""

    def ahead(self, numbers: Iterable[int]) -> None:
        """All are here."""


class OpenPart:
    """An open part; closed when the last one who uses it lets go, so that no other thread reads a stranger's file."""

    __slots__ = ("descriptor", "name", "size")

    def __init__(self, descriptor: int, name: str, size: int) -> None:
        self.descriptor = descriptor
        self.name = name
        self.size = size

    def __del__(self) -> None:
        with contextlib.suppress(OSError):
            os.close(self.descriptor)

    def read(self, begin: int, length: int) -> bytes:
        """``length`` bytes from ``begin``. Raises Mismatch when they are not all there."""
        if not 0 <= begin <= self.size - length:
            raise Mismatch(f"{self.name} has no bytes {begin:,} to {begin + length:,}", advice=ADVICE)
        data = pread(self.descriptor, length, begin)
        while len(data) < length:  # one call gives 2 GiB at most
            more = pread(self.descriptor, length - len(data), begin + len(data))
            if not more:
                raise Mismatch(f"{self.name} was cut short", advice=ADVICE)
            data += more
        return data


ADVICE = "Run `driveshard verify` on it, and fetch it again."


class OpenParts:
    """The parts that this process has open, at most ``most_open`` of them: the one opened first is let go first.

    Needs no lock, which a fork could inherit locked: a part that two threads open at once is open twice for a while.
    Reading by ``pread`` shares no offset, so descriptors may be inherited, too.
    """

    def __init__(self, parts: Parts) -> None:
        self.source = parts
        self.opened: list[OpenPart | None] = [None] * len(parts.parts)
        self._row: deque[int] = deque()

    def __reduce__(self) -> tuple[type[OpenParts], tuple[Parts]]:
        return OpenParts, (self.source,)

    def open(self, number: int) -> OpenPart:
        """The part, opened if need be. Raises Mismatch, IndexError."""
        found = self.opened[number]
        if found is None:
            found = self.opened[number] = self._open(number)
            self._row.append(number)
            if len(self._row) > self.source.most_open:
                with contextlib.suppress(IndexError):
                    self.opened[self._row.popleft()] = None
        return found

    def _open(self, number: int) -> OpenPart:
        part = self.source.parts[number]
        for attempt in range(_AGAIN):
            path = self.source.fetch(number)
            try:
                descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_BINARY", 0) | getattr(os, "O_CLOEXEC", 0))
            except OSError as error:  # a cache may have dropped it in this moment
                if attempt == _AGAIN - 1:
                    why = "is missing" if isinstance(error, FileNotFoundError) else f"cannot be opened: {error}"
                    raise Mismatch(f"{part.name} {why}", advice="Fetch it again.") from error
                continue
            break
        size = os.fstat(descriptor).st_size
        opened = OpenPart(descriptor, part.name, size)
        self.source.hold(descriptor)
        if size != part.size:
            raise Mismatch(f"{part.name} has {size:,} bytes instead of {part.size:,}", advice=ADVICE)
        return opened


if hasattr(os, "pread"):
    pread = os.pread
else:
    _seeking = threading.Lock()

    def pread(descriptor: int, length: int, begin: int, /) -> bytes:
        """As ``os.pread``, for Windows."""
        with _seeking:
            os.lseek(descriptor, begin, os.SEEK_SET)
            return os.read(descriptor, length)
