"""When all parts are packed: what they hold together. Members and samples counted once each, and the trouble that
their names make, over all parts, whatever the parts' size.

Manifest, card, result and ``status`` take their counts from what is noted here. Memory stays bounded: hashes of names
are compared a range at a time, every part's sorted column being read on from where the range before ended.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from itertools import groupby, islice
from typing import Any

import numpy as np
import numpy.typing as npt

from driveshard.archive.names import EXAMPLES, KINDS, PAIR, as_text, facts_of, folded, kinds_of, sentence
from driveshard.core.model import FileList, sample_key
from driveshard.upload.ledger.ledger import Ledger
from driveshard.upload.plan.files import known_rows

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


def settle(ledger: Ledger) -> dict[int, int]:
    """Count and compare what the ledger's parts hold, unless that was done for these very parts, and note it.

    Returns which parts have how many samples whose keys an older part has, as far as that is news.
    """
    if ledger.settled():
        return {}
    before = ledger.get("settled", {}).get("repeated", {})
    made = _is_made(ledger)
    _look_at_old_parts(ledger)
    clashes = find_clashes(ledger, made=made)
    samples, files = _counts(ledger, clashes)
    counts, examples = _trouble(ledger, clashes, made=made)
    ledger.note(
        settled={
            "contents": ledger.contents(),
            "samples": samples,
            "files": files,
            "names": counts,
            "examples": examples,
            "kinds": _kinds(ledger),
            "repeated": {str(number): count for number, count in clashes.repeated.items()},
        }
    )
    return {number: count for number, count in clashes.repeated.items() if str(number) not in before}


def sentences(ledger: Ledger) -> list[str]:
    """A line for people on each kind of trouble."""
    settled = ledger.settled()
    lines = []
    for kind, count in settled.get("names", {}).items():
        shown = settled["examples"].get(kind, [])
        lines.append(sentence(kind, count) + (f" (such as {', '.join(shown)})" if shown else ""))
    return lines


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
        self.left = len(self._blob) // PAIR.itemsize
        self._ahead: Pairs = np.empty(0, PAIR)

    def take(self, until: int) -> Pairs:
        """The next entries whose hash is below ``until``."""
        pieces = [self._ahead]
        while self.left and (not len(pieces[-1]) or int(pieces[-1]["fold"][-1]) < until):
            count = min(self.left, _READ)
            pieces.append(np.frombuffer(self._blob.read(count * PAIR.itemsize), PAIR))
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


def _is_made(ledger: Ledger) -> bool:
    parts = ledger.parts()
    return bool(parts) and not isinstance(ledger.kept_selection(parts[0].number), FileList)


def _look_at_old_parts(ledger: Ledger) -> None:
    """Parts of a folder that were packed before names were looked at; of made samples nobody knows them any more."""
    known = ledger.names()
    for part in ledger.parts():
        selection = ledger.kept_selection(part.number) if part.number not in known else None
        if isinstance(selection, FileList):
            ledger.note_names(part.number, facts_of(selection.split_paths(), by_key=False))


def _counts(ledger: Ledger, clashes: Clashes) -> tuple[int, int]:
    """(samples, files), each once whatever parts it is in."""
    parts = ledger.parts()
    samples, files = sum(part.samples or 0 for part in parts), sum(part.files or 0 for part in parts)
    if clashes.repeated:
        each = {part.number: (part.files or 0) / max(1, part.samples or 0) for part in parts}
        again = sum(count * each[number] for number, count in clashes.repeated.items())
        return samples - clashes.repeated.total(), files - round(again)
    if len(ledger.generations()) < 2 or _is_made(ledger):
        return samples, files
    paths = (as_text(row[0]) for row, _, _ in known_rows(ledger))
    runs = [0, 0]
    for _, members in groupby(paths, key=sample_key):
        runs[0] += 1
        runs[1] += sum(1 for _ in members)
    return runs[0], runs[1]


def _kinds(ledger: Ledger) -> dict[str, int]:
    """Members a kind; empty when some part was packed before that was counted. Of a folder's files each counts once."""
    known = [trouble.get("kinds") for trouble, _ in ledger.names().values()]
    if not all(known):
        return {}
    if len(ledger.generations()) > 1 and not _is_made(ledger):
        return kinds_of((row[0] for row, _, _ in known_rows(ledger)), by_key=False)
    counts: Counter[str] = Counter()
    for kinds in known:
        counts.update(kinds or {})
    return dict(counts)


def _trouble(ledger: Ledger, clashes: Clashes, *, made: bool) -> tuple[dict[str, int], dict[str, list[str]]]:
    """(counts, examples) of every kind there is, the gravest first."""
    counts: Counter[str] = Counter()
    examples: dict[str, list[str]] = {}
    for trouble, _ in ledger.names().values():
        counts.update(trouble["counts"])
        for kind, names in trouble["examples"].items():
            examples[kind] = [*examples.get(kind, []), *names][:EXAMPLES]
    counts.update(twins=clashes.twins, folders=clashes.folders, repeated=clashes.repeated.total())
    if not made:
        for kind, hashes in (("twins", clashes.twin_hashes), ("folders", clashes.folder_hashes)):
            if hashes:
                examples[kind] = _named(ledger, hashes)
    return {kind: counts[kind] for kind in KINDS if counts[kind]}, examples


def _named(ledger: Ledger, hashes: list[int]) -> list[str]:
    """The first few names that have one of these hashes, looked up in what a folder's parts hold."""
    return list(islice(_with_hash(ledger, set(hashes)), EXAMPLES))


def _with_hash(ledger: Ledger, hashes: set[int]) -> Iterator[str]:
    for part in ledger.parts():
        selection = ledger.kept_selection(part.number)
        if isinstance(selection, FileList):
            paths = selection.split_paths()
            for index in np.flatnonzero(np.isin(folded(paths), np.array(sorted(hashes), np.uint64))):
                yield as_text(paths[index])
