"""Which members of some parts readers see: those that no newer part has again, and that were not dropped."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from driveshard.archive.directory import Directory
from driveshard.archive.hashes import hashes_of

Directories = Callable[[int], Directory]
"""A part's directory, by its number."""


class Newest:
    """Of the parts ``numbers``, in their order, the members of the ``candidates`` that are seen.

    Memory holds a hash for each member of the candidates, and the names that come more than once.
    """

    def __init__(
        self, directories: Directories, numbers: Sequence[int], candidates: Iterable[int], dropped: frozenset[bytes]
    ) -> None:
        self._dropped = dropped
        self._newest: dict[bytes, int] = {}  # of names that come more than once, the last part that has them
        hashes = [_hashes(directories(number)) for number in candidates]
        again = _repeated(np.unique(np.concatenate(hashes)) if hashes else np.empty(0, np.uint64), directories, numbers)
        if len(again):
            for number in numbers:
                directory = directories(number)
                for row in np.flatnonzero(np.isin(_hashes(directory), again)).tolist():
                    self._newest[name_of(directory, row)] = number

    def seen(self, number: int, path: bytes) -> bool:
        """Whether readers see that part's member of that path."""
        return path not in self._dropped and self._newest.get(path, number) == number


def names_of(directory: Directory) -> list[bytes]:
    """The members' paths, in the directory's order."""
    whole = directory.names.tobytes()
    ends = directory.ends.tolist()
    return [whole[begin:end] for begin, end in zip([0, *ends[:-1]], ends, strict=True)] if ends else []


def name_of(directory: Directory, row: int) -> bytes:
    begin = int(directory.ends[row - 1]) if row else 0
    return directory.names[begin : int(directory.ends[row])].tobytes()


def _hashes(directory: Directory) -> NDArray[np.uint64]:
    return hashes_of(directory.names, np.diff(directory.ends, prepend=0))


def _repeated(wanted: NDArray[np.uint64], directories: Directories, numbers: Sequence[int]) -> NDArray[np.uint64]:
    """Those of the hashes that come in more than one part; what is alike is for the caller to compare."""
    counts = np.zeros(len(wanted), np.int64)
    for number in numbers if len(wanted) else ():
        hashes = _hashes(directories(number))
        places = np.minimum(np.searchsorted(wanted, hashes), len(wanted) - 1)
        counts[np.unique(places[wanted[places] == hashes])] += 1
    return wanted[counts > 1]
