"""Which names, over all parts, are in each other's way: compared by sorted columns of hashes, a range at a time."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

import numpy as np
import numpy.typing as npt

from driveshard.archive.names import EXAMPLES, PAIR, PAIR_BYTES, as_text, folded
from driveshard.core.model import FileList
from driveshard.upload.ledger.ledger import Ledger

_AT_ONCE = 1 << 20  # entries compared together: 100 MB, in numbers of parts and hashes and their order
_READ = 1 << 10  # entries read from a column at least
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
    with ExitStack() as stack:
        names = [_Column(stack, ledger, number, "names") for number in known]
        folders = [_Column(stack, ledger, number, "folders") for number in known]
        ranges = max(1, -(-sum(column.left for column in names + folders) // at_once))
        for step in range(1, ranges + 1):
            until = _HASHES * step // ranges
            mine = _joined(names, until)
            _pairs_of_names(found, mine, made=made)
            _names_of_folders(found, mine, _joined(folders, until), None if anything else fields)
    return found


class _Column:
    """A part's sorted column, read on and on."""

    def __init__(self, stack: ExitStack, ledger: Ledger, number: int, which: str) -> None:
        self.number = number
        self._blob = stack.enter_context(ledger.open_column(number, which))
        self.left = len(self._blob) // PAIR_BYTES
        self._ahead: Pairs = np.empty(0, PAIR)

    def take(self, until: int) -> Pairs:
        """The next entries whose hash is below ``until``."""
        pieces = [self._ahead]
        while self.left and (not len(pieces[-1]) or int(pieces[-1]["fold"][-1]) < until):
            count = min(self.left, _READ)
            pieces.append(np.frombuffer(self._blob.read(count * PAIR_BYTES), PAIR))
            self.left -= count
        entries = np.concatenate(pieces)
        end = len(entries) if until >= _HASHES else int(np.searchsorted(entries["fold"], np.uint64(until)))
        self._ahead = entries[end:].copy()
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
