"""Builds the index of a dataset from the directories of its parts."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
from numpy.typing import NDArray

from driveshard.archive.directory import Directory, gathered
from driveshard.archive.hashes import hash_of, hashes_of
from driveshard.archive.index import COLUMNS, HIDDEN, Index, IndexedPart

_ROWS = 1 << 16  # names compared together


def build_index(
    parts: Sequence[tuple[IndexedPart, Directory]], deleted: frozenset[bytes] = frozenset(), hidden: str = ""
) -> Index:
    """The index of these parts, oldest first. A member of a later part replaces one of the same path; those whose paths
    are ``deleted`` are left out, and ``hidden`` tells which these are (see ``Manifest.hidden``)."""
    fields = _Fields()
    columns: dict[str, list[NDArray[Any]]] = {name: [] for name in COLUMNS}
    keys: list[NDArray[np.uint8]] = []
    lengths: list[NDArray[np.int64]] = []
    for number, (_, whole) in enumerate(parts):
        directory = without(_files_of(whole), deleted)
        begins = _begins(directory)
        cuts = _cuts(directory.names, begins, directory.ends)
        keys.append(gathered(directory.names, begins, cuts - begins))
        lengths.append(cuts - begins)
        columns["part"].append(np.full(len(directory), number, np.int64))
        columns["field"].append(fields.numbers(directory.names, cuts, directory.ends))
        for name, column in (
            ("begin", directory.begins),
            ("stored", directory.stored),
            ("size", directory.sizes),
            ("crc", directory.crcs),
            ("method", directory.methods),
        ):
            columns[name].append(column)
    joined = {name: _joined(found) for name, found in columns.items()}
    found = _grouped(_joined(keys, np.uint8), _joined(lengths), joined, [part for part, _ in parts], fields.names)
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
    return _grouped(np.frombuffer(b"".join(keys), np.uint8), lengths, columns, index.parts, list(numbers))


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


def _rows_of(directory: Directory, kept: NDArray[np.bool_]) -> Directory:
    """Some of its entries."""
    begins = _begins(directory)
    lengths = (directory.ends - begins)[kept]
    columns = {
        one: getattr(directory, one)[kept] for one in ("headers", "begins", "stored", "sizes", "crcs", "methods")
    }
    return Directory(gathered(directory.names, begins[kept], lengths), np.cumsum(lengths), **columns)


def _joined(pieces: list[NDArray[Any]], kind: Any = np.int64) -> NDArray[Any]:
    return np.concatenate(pieces) if pieces else np.empty(0, kind)


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
    keys: NDArray[np.uint8],
    lengths: NDArray[np.int64],
    columns: Mapping[str, NDArray[Any]],
    parts: Sequence[IndexedPart],
    fields: Sequence[str],
) -> Index:
    """Members that share a key become a sample; of those with one path the last stays."""
    hashes = hashes_of(keys, lengths)
    rows, sample = _distinct(keys, lengths, hashes)
    order = np.arange(len(hashes))
    if len(hashes) and ((np.diff(sample) < 0).any() or _repeats(sample, columns["field"])):
        order = _newest(sample, columns["field"])
    by_hash = np.argsort(hashes[rows], kind="stable")
    arrays: dict[str, NDArray[Any]] = {
        "parts": _json([asdict(part) for part in parts]),
        "fields": _json(list(fields)),
        "keys": gathered(keys, (np.cumsum(lengths) - lengths)[rows], lengths[rows]),
        "key_ends": np.cumsum(lengths[rows]).astype(np.uint64),
        "hashes": hashes[rows][by_hash],
        "rows": by_hash.astype(np.uint32),
        "firsts": _narrow(np.searchsorted(sample[order], np.arange(len(rows) + 1)), np.uint32),
        "part": _narrow(columns["part"][order], np.uint16),
        "field": _narrow(columns["field"][order], np.uint16),
        "begin": columns["begin"][order].astype(np.uint64),
        "stored": _narrow(columns["stored"][order], np.uint32),
        "size": _narrow(columns["size"][order], np.uint32),
        "crc": columns["crc"][order].astype(np.uint32),
        "method": columns["method"][order].astype(np.uint8),
    }
    return Index(arrays)


def _repeats(sample: NDArray[np.int64], field: NDArray[np.int64]) -> bool:
    """Whether a sample, its members being neighbours, has a field twice."""
    same = sample[1:] == sample[:-1]
    if (same & (field[1:] == field[:-1])).any():
        return True
    pairs = sample * (int(field.max()) + 1) + field
    return len(np.unique(pairs)) != len(pairs)


def _newest(sample: NDArray[np.int64], field: NDArray[np.int64]) -> NDArray[np.int64]:
    """Rows by sample, in their order; of rows with the same sample and field only the last one."""
    pairs = sample * (int(field.max()) + 1) + field
    backwards = pairs[::-1]
    _, last = np.unique(backwards, return_index=True)
    kept = np.sort(len(pairs) - 1 - last)
    found: NDArray[np.int64] = kept[np.argsort(sample[kept], kind="stable")]
    return found


def _narrow(column: NDArray[Any], kind: Any) -> NDArray[Any]:
    """In ``kind`` where all values fit, else in twice its bytes."""
    most = int(column.max()) if len(column) else 0
    return column.astype(kind if most <= np.iinfo(kind).max else {np.uint16: np.uint32, np.uint32: np.uint64}[kind])


def _json(value: Any) -> NDArray[np.uint8]:
    return np.frombuffer(json.dumps(value, separators=(",", ":")).encode("ascii"), np.uint8)
