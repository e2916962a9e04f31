"""Which names, over all parts, are in each other's way: compared by sorted columns of hashes, a range at a time."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

import numpy as np
import numpy.typing as npt

from driveshard.archive.names import EXAMPLES, PAIR, PAIR_BYTES, as_text, folded
from driveshard.core.model import FileList
from driveshard.upload.ledger.ledger import Ledger

_AT_ONCE = 1 << 20  # entries compared together: 100 MB, in numbers of parts and hashes and their order
_MORE = 16  # entries read beyond those that are due
_HASHES = 1 << 64

Pairs = npt.NDArray[Any]


@dataclass
class Clashes:
    """What takes two names. ``repeated`` counts a part's samples whose keys an older part has."""

    twins: int = 0
    folders: int = 0
    repeated: Counter[int] = field(default_factory=Counter)
    twin_hashes: list[int] = field(default_factory=list)
    folder_hashes: list[int] = field(default_factory=list)


def find_clashes(ledger: Ledger, *, made: bool, at_once: int = _AT_ONCE) -> Clashes:
    """Compare the columns of all parts, about ``at_once`` entries at a time."""
    found = Clashes()
    known = ledger.names()
    fields = {one for _, packed in known.values() for one in np.frombuffer(packed, "<u8").tolist()}
    anything = any(not packed for _, packed in known.values())
    names = [_Column(ledger, number, "names") for number in known]
    folders = [_Column(ledger, number, "folders") for number in known]
    ranges = max(1, -(-sum(column.left for column in names + folders) // at_once))
    for step in range(1, ranges + 1):
        until = _HASHES * step // ranges
        mine = _joined(names, until)
        _pairs_of_names(found, mine, made=made)
        _names_of_folders(found, mine, _joined(folders, until), None if anything else fields)
    return found


class _Column:
    """A part's sorted column, read on and on. Between two reads nothing of it is held, open or in memory: there
    may be a hundred thousand of them."""

    def __init__(self, ledger: Ledger, number: int, which: str) -> None:
        self.number = number
        self._ledger = ledger
        self._which = which
        self._at = self._before = 0
        with ledger.open_column(number, which) as blob:
            self.left = len(blob) // PAIR_BYTES

    def take(self, until: int) -> Pairs:
        """The next entries whose hash is below ``until``."""
        if not self.left:
            return np.empty(0, PAIR)
        # Hashes lie evenly, so it is known about how many there are.
        due = self.left if until >= _HASHES else self.left * (until - self._before) // (_HASHES - self._before)
        self._before = until
        pieces: list[Pairs] = []
        with self._ledger.open_column(self.number, self._which) as blob:
            blob.seek(self._at * PAIR_BYTES)
            count = due + _MORE
            while count and (not pieces or int(pieces[-1]["fold"][-1]) < until):
                count = min(count, self.left - sum(len(piece) for piece in pieces))
                if count:
                    pieces.append(np.frombuffer(blob.read(count * PAIR_BYTES), PAIR))
        entries = pieces[0] if len(pieces) == 1 else np.concatenate(pieces)
        end = len(entries) if until >= _HASHES else int(np.searchsorted(entries["fold"], np.uint64(until)))
        self._at, self.left = self._at + end, self.left - end
        return entries[:end]


def _joined(columns: list[_Column], until: int) -> tuple[Pairs, npt.NDArray[np.int64]]:
    """(entries, the part of each) of all columns, sorted by hash, then by part."""
    taken = [column.take(until) for column in columns]
    if not taken:
        return np.empty(0, PAIR), np.empty(0, np.int64)
    entries = np.concatenate(taken)
    owners = np.repeat(np.array([column.number for column in columns], np.int64), [len(one) for one in taken])
    order = np.lexsort((owners, entries["rest"], entries["fold"]))
    return entries[order], owners[order]


def _pairs_of_names(found: Clashes, mine: tuple[Pairs, npt.NDArray[np.int64]], *, made: bool) -> None:
    """Keys that come again, and names that fold alike."""
    entries, owners = mine
    if len(entries) < 2:
        return
    again = np.zeros(len(entries), bool)
    again[1:] = entries[1:] == entries[:-1]
    if made:  # of a folder's files, the newer one replaces the older, as it should
        found.repeated.update(owners[again].tolist())
    distinct = entries[~again]
    _, which, sizes = np.unique(distinct["fold"], return_inverse=True, return_counts=True)
    twins = distinct[sizes[which] > 1]
    found.twins += len(twins)
    found.twin_hashes += twins["fold"][: 2 * EXAMPLES].tolist()


def _names_of_folders(
    found: Clashes,
    mine: tuple[Pairs, npt.NDArray[np.int64]],
    theirs: tuple[Pairs, npt.NDArray[np.int64]],
    fields: set[int] | None,
) -> None:
    """Folders that have the name of a member. ``fields`` are those that members have, None when they are too many."""
    folders = np.unique(theirs[0])
    met = folders[np.isin(folders["fold"], mine[0]["fold"])]
    hit = [fold for fold, rest in met.tolist() if fields is None or rest in fields]
    found.folders += len(hit)
    found.folder_hashes += hit[:EXAMPLES]


def named(ledger: Ledger, hashes: list[int]) -> list[str]:
    """The first few names that have one of these hashes, looked up in what a folder's parts hold."""
    return list(islice(_with_hash(ledger, set(hashes)), EXAMPLES))


def _with_hash(ledger: Ledger, hashes: set[int]) -> Iterator[str]:
    for part in ledger.parts():
        selection = ledger.kept_selection(part.number)
        if isinstance(selection, FileList):
            paths = selection.split_paths()
            for index in np.flatnonzero(np.isin(folded(paths), np.array(sorted(hashes), np.uint64))):
                yield as_text(paths[index])
