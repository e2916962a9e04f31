"""Builds the index of a dataset from the directories of its parts, one after another: what it holds of each is little
more than its rows of the index."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from driveshard.archive.directory import Directory, gathered
from driveshard.archive.hashes import hash_of, hashes_of
from driveshard.archive.index import COLUMNS, HIDDEN, Index, IndexedPart

_ROWS = 1 << 16  # names compared together
_KINDS = {"part": np.uint16, "field": np.uint16, "begin": np.uint64, "method": np.uint8}


def build_index(
    parts: Iterable[tuple[IndexedPart, Directory]], deleted: frozenset[bytes] = frozenset(), hidden: str = ""
) -> Index:
    """The index of these parts, oldest first. A member of a later part replaces one of the same path; those whose paths
    are ``deleted`` are left out, and ``hidden`` tells which these are (see ``Manifest.hidden``)."""
    members = _Members()
    described: list[IndexedPart] = []
    for part, whole in parts:
        members.add(len(described), without(_files_of(whole), deleted))
        described.append(part)
    found = _grouped(*members.all(), described, members.fields.names)
    return Index({**found.arrays, HIDDEN: np.frombuffer(hidden.encode(), np.uint8)}) if hidden else found


def regrouped(index: Index, split: Callable[[str], tuple[str, str] | None]) -> Index:
    """The same members as other samples: ``split`` gives each path its (key, field), or None to leave it out. Fields of
    one name in one sample are a mistake of the caller's that keeps the last one."""
    numbers: dict[str, int] = {}
    rows, fields, keys = [], [], []
    for sample in range(len(index)):
        for member in index.members_of(sample):
            found = split(path_of(index, sample, member))
            if found is not None:
                rows.append(member)
                keys.append(found[0].encode("utf-8", "surrogateescape"))
                fields.append(numbers.setdefault(found[1], len(numbers)))
    chosen = np.array(rows, np.int64)
    columns = {name: index.arrays[name][chosen].astype(np.int64) for name in COLUMNS}
    columns["field"] = np.array(fields, np.int64)
    lengths = np.array([len(key) for key in keys], np.int64)
    data = np.frombuffer(b"".join(keys), np.uint8)
    runs = _Runs(data, lengths, hashes_of(data, lengths), np.ones(len(keys), np.int64))
    return _grouped(runs, columns, index.parts, list(numbers))


def path_of(index: Index, sample: int, member: int) -> str:
    """A member's path; only in an index whose samples are made by their paths."""
    key, field = index.key(sample), index.field_of(member)
    return f"{key}.{field}" if field else key


def _begins(directory: Directory) -> NDArray[np.int64]:
    """Where each name begins."""
    return np.concatenate(([0], directory.ends[:-1])) if len(directory) else directory.ends


def _files_of(directory: Directory) -> Directory:
    """The directory without its entries for directories, whose names end in a slash."""
    begins = _begins(directory)
    kept = directory.ends == begins
    kept[~kept] = directory.names[directory.ends[~kept] - 1] != ord("/")
    return directory if kept.all() else _rows_of(directory, kept)


def without(directory: Directory, paths: frozenset[bytes]) -> Directory:
    """The directory without the members of these paths. Hashes find them, a comparison proves it."""
    if not paths or not len(directory):
        return directory
    begins = _begins(directory)
    wanted = np.array([hash_of(path) for path in paths], np.uint64)
    kept = np.ones(len(directory), np.bool_)
    for row in np.flatnonzero(np.isin(hashes_of(directory.names, directory.ends - begins), wanted)).tolist():
        kept[row] = directory.names[begins[row] : directory.ends[row]].tobytes() not in paths
    return directory if kept.all() else _rows_of(directory, kept)


def _together(directories: list[Directory]) -> Directory:
    """Their entries as if they were of one."""
    if len(directories) == 1:
        return directories[0]
    ends, before = [], 0
    for one in directories:
        ends.append(one.ends + before)
        before += len(one.names)
    columns = ("headers", "begins", "stored", "sizes", "crcs", "methods")
    joined = {name: _joined([getattr(one, name) for one in directories]) for name in columns}
    return Directory(_joined([one.names for one in directories], np.uint8), _joined(ends), **joined)


def _joined(pieces: list[NDArray[Any]], kind: Any = np.int64) -> NDArray[Any]:
    return np.concatenate(pieces) if pieces else np.empty(0, kind)


def _rows_of(directory: Directory, kept: NDArray[np.bool_]) -> Directory:
    """Some of its entries."""
    begins = _begins(directory)
    lengths = (directory.ends - begins)[kept]
    columns = {
        one: getattr(directory, one)[kept] for one in ("headers", "begins", "stored", "sizes", "crcs", "methods")
    }
    return Directory(gathered(directory.names, begins[kept], lengths), np.cumsum(lengths), **columns)


class _Column:
    """Numbers that come piece by piece, each in the bytes of ``kind`` until one needs twice as many."""

    def __init__(self, kind: Any) -> None:
        self._kind = kind
        self._data = bytearray()

    def add(self, piece: NDArray[Any]) -> None:
        wide = _kind_for(piece, self._kind)
        if wide != self._kind:
            self._data = bytearray(self.array.astype(wide).tobytes())
            self._kind = wide
        self._data += piece.astype(self._kind, copy=False).tobytes()

    @property
    def array(self) -> NDArray[Any]:
        """All that came, not copied: nothing may be added any more."""
        return np.frombuffer(self._data, self._kind)


@dataclass(frozen=True, slots=True)
class _Runs:
    """Members that follow each other with one key: all ``keys`` behind each other, and of each its length, its hash and
    how many members it has."""

    keys: NDArray[np.uint8]
    lengths: NDArray[Any]
    hashes: NDArray[np.uint64]
    counts: NDArray[Any]


class _Members:
    """The members of all parts, as they come; those of small parts are taken together, for speed."""

    def __init__(self) -> None:
        self.fields = _Fields()
        self._waiting: list[tuple[int, Directory]] = []
        self._rows = 0
        self._columns = {name: _Column(_KINDS.get(name, np.uint32)) for name in COLUMNS}
        self._keys, self._hashes = _Column(np.uint8), _Column(np.uint64)
        self._lengths, self._counts = _Column(np.uint32), _Column(np.uint32)

    def all(self) -> tuple[_Runs, dict[str, NDArray[Any]]]:
        """Their runs and columns, once all have come."""
        self._take()
        runs = _Runs(self._keys.array, self._lengths.array, self._hashes.array, self._counts.array)
        return runs, {name: column.array for name, column in self._columns.items()}

    def add(self, part: int, directory: Directory) -> None:
        """Those of one part."""
        self._waiting.append((part, directory))
        self._rows += len(directory)
        if self._rows >= _ROWS:
            self._take()

    def _take(self) -> None:
        parts = [np.full(len(one), part, np.int64) for part, one in self._waiting]
        directory = _together([one for _, one in self._waiting])
        self._waiting, self._rows = [], 0
        begins = _begins(directory)
        cuts = _cuts(directory.names, begins, directory.ends)
        self._add_keys(gathered(directory.names, begins, cuts - begins), cuts - begins)
        for name, piece in (
            ("part", _joined(parts)),
            ("field", self.fields.numbers(directory.names, cuts, directory.ends)),
            ("begin", directory.begins),
            ("stored", directory.stored),
            ("size", directory.sizes),
            ("crc", directory.crcs),
            ("method", directory.methods),
        ):
            self._columns[name].add(piece)

    def _add_keys(self, keys: NDArray[np.uint8], lengths: NDArray[np.int64]) -> None:
        hashes = hashes_of(keys, lengths)
        begin = np.ones(len(lengths), np.bool_)
        begin[1:] = hashes[1:] != hashes[:-1]
        if not _all_equal(keys, lengths, np.arange(len(lengths)) - ~begin):
            begin[:] = True  # different keys of one hash
        firsts = np.flatnonzero(begin)
        self._keys.add(gathered(keys, (np.cumsum(lengths) - lengths)[firsts], lengths[firsts]))
        self._lengths.add(lengths[firsts])
        self._hashes.add(hashes[firsts])
        self._counts.add(np.diff(firsts, append=len(lengths)))


def _cuts(names: NDArray[np.uint8], begins: NDArray[np.int64], ends: NDArray[np.int64]) -> NDArray[np.int64]:
    """Where each name's key ends, see ``key_length``."""
    slashes, dots = np.flatnonzero(names == ord("/")), np.flatnonzero(names == ord("."))
    last = np.searchsorted(slashes, ends) - 1
    base = np.maximum(begins, np.where(last >= 0, slashes[np.maximum(last, 0)], -1) + 1) if len(slashes) else begins
    following = np.searchsorted(dots, base + 1)
    if not len(dots):
        return ends.copy()
    first = np.where(following < len(dots), dots[np.minimum(following, len(dots) - 1)], ends)
    return np.where(first < ends - 1, first, ends)


class _Fields:
    """Numbers for field names, in the order in which they were met."""

    def __init__(self) -> None:
        self.names: list[str] = []
        self._numbers: dict[bytes, int] = {}

    def numbers(self, names: NDArray[np.uint8], cuts: NDArray[np.int64], ends: NDArray[np.int64]) -> NDArray[np.int64]:
        """The number of what stands behind each cut."""
        begins = np.minimum(cuts + 1, ends)
        data = gathered(names, begins, ends - begins)
        firsts, which = _distinct(data, ends - begins, hashes_of(data, ends - begins))
        numbers = [self._number(names[begins[row] : ends[row]].tobytes()) for row in firsts]
        found: NDArray[np.int64] = np.array(numbers, np.int64)[which]
        return found

    def _number(self, name: bytes) -> int:
        if name not in self._numbers:
            self._numbers[name] = len(self.names)
            self.names.append(name.decode("utf-8", "surrogateescape"))
        return self._numbers[name]


def _distinct(
    data: NDArray[np.uint8], lengths: NDArray[np.int64], hashes: NDArray[np.uint64]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """(rows, numbers) of the runs of ``data``: the first row of each distinct one in order of appearance, and for each
    row which of them it is. Hashes find what is alike, a comparison proves it: names come from anybody."""
    _, first, inverse = np.unique(hashes, return_index=True, return_inverse=True)
    order = np.argsort(first)
    place = np.empty(len(order), np.int64)
    place[order] = np.arange(len(order))
    if _all_equal(data, lengths, first[inverse]):
        return first[order], place[inverse]
    ends = np.cumsum(lengths)
    seen: dict[bytes, int] = {}
    numbers = [seen.setdefault(data[e - n : e].tobytes(), len(seen)) for n, e in zip(lengths, ends, strict=True)]
    return np.unique(np.array(numbers), return_index=True)[1], np.array(numbers)


def _all_equal(data: NDArray[np.uint8], lengths: NDArray[np.int64], others: NDArray[np.int64]) -> bool:
    """Whether every run is the same as the run of the row in ``others``."""
    rows = np.flatnonzero(others != np.arange(len(others)))
    if (lengths[rows] != lengths[others[rows]]).any():
        return False
    begins = np.cumsum(lengths) - lengths
    for at in range(0, len(rows), _ROWS):
        some = rows[at : at + _ROWS]
        same = others[some]
        if (gathered(data, begins[some], lengths[some]) != gathered(data, begins[same], lengths[same])).any():
            return False
    return True


def _grouped(
    runs: _Runs, columns: Mapping[str, NDArray[Any]], parts: Sequence[IndexedPart], fields: Sequence[str]
) -> Index:
    """Members that share a key become a sample; of those with one path the last stays."""
    by_hash = np.argsort(runs.hashes, kind="stable")
    hashes = runs.hashes[by_hash]
    if (hashes[1:] == hashes[:-1]).any() or _repeat_in_runs(runs.counts, columns["field"]):
        runs, columns = _rearranged(runs, columns)
        by_hash = np.argsort(runs.hashes, kind="stable")
        hashes = runs.hashes[by_hash]
    firsts = np.zeros(len(runs.counts) + 1, np.int64)
    np.cumsum(runs.counts, out=firsts[1:])
    arrays: dict[str, NDArray[Any]] = {
        "parts": _json([asdict(part) for part in parts]),
        "fields": _json(list(fields)),
        "keys": runs.keys,
        "key_ends": np.cumsum(runs.lengths, dtype=np.uint64),
        "hashes": hashes,
        "rows": by_hash.astype(np.uint32),
        "firsts": _narrow(firsts, np.uint32),
        **{name: _narrow(columns[name], _KINDS.get(name, np.uint32)) for name in COLUMNS},
    }
    return Index(arrays)


def _rearranged(runs: _Runs, columns: Mapping[str, NDArray[Any]]) -> tuple[_Runs, dict[str, NDArray[Any]]]:
    """The same members with those of one key behind each other, as one run where the first of them was; of those with
    one path the last."""
    lengths = runs.lengths.astype(np.int64)
    rows, which = _distinct(runs.keys, lengths, runs.hashes)
    sample = np.repeat(which, runs.counts)
    order = np.arange(len(sample))
    if (np.diff(sample) < 0).any() or _repeats(sample, columns["field"]):
        order = _newest(sample, columns["field"])
    keys = gathered(runs.keys, (np.cumsum(lengths) - lengths)[rows], lengths[rows])
    counts = np.bincount(sample[order], minlength=len(rows))
    return _Runs(keys, lengths[rows], runs.hashes[rows], counts), {name: columns[name][order] for name in COLUMNS}


def _repeat_in_runs(counts: NDArray[Any], field: NDArray[Any]) -> bool:
    """Whether a run has a field twice."""
    at = 0
    for begin in range(0, len(counts), _ROWS):
        some = counts[begin : begin + _ROWS]
        upto = at + int(some.sum())
        if _repeats(np.repeat(np.arange(len(some)), some), field[at:upto]):
            return True
        at = upto
    return False


def _repeats(sample: NDArray[np.int64], field: NDArray[Any]) -> bool:
    """Whether a sample, its members being neighbours, has a field twice."""
    same = sample[1:] == sample[:-1]
    if (same & (field[1:] == field[:-1])).any():
        return True
    pairs = sample * (int(field.max()) + 1) + field
    return len(np.unique(pairs)) != len(pairs)


def _newest(sample: NDArray[np.int64], field: NDArray[Any]) -> NDArray[np.int64]:
    """Rows by sample, in their order; of rows with the same sample and field only the last one."""
    pairs = sample * (int(field.max()) + 1) + field
    backwards = pairs[::-1]
    _, last = np.unique(backwards, return_index=True)
    kept = np.sort(len(pairs) - 1 - last)
    found: NDArray[np.int64] = kept[np.argsort(sample[kept], kind="stable")]
    return found


def _narrow(column: NDArray[Any], kind: Any) -> NDArray[Any]:
    """In ``kind`` where all values fit, else in twice its bytes."""
    return column.astype(_kind_for(column, kind), copy=False)


def _kind_for(column: NDArray[Any], kind: Any) -> Any:
    """``kind`` where all values fit, else the one of twice its bytes."""
    most = int(column.max()) if len(column) else 0
    return kind if most <= np.iinfo(kind).max else {np.uint16: np.uint32, np.uint32: np.uint64}[kind]


def _json(value: Any) -> NDArray[np.uint8]:
    return np.frombuffer(json.dumps(value, separators=(",", ":")).encode("ascii"), np.uint8)
