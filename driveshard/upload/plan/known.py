"""The files of a folder that the ledger's parts hold, in path order, without having them all in memory."""

from __future__ import annotations

import heapq
from collections.abc import Iterator
from itertools import chain, groupby, repeat

from driveshard.core.model import FileList
from driveshard.sources.folder import Row
from driveshard.upload.ledger.ledger import Ledger

Known = tuple[Row, int | None, int]
"""A file as a part holds it, the CRC-32 of what was packed (None while it is only planned), and the part's number."""


def known_rows(ledger: Ledger) -> Iterator[Known]:
    """Every file the ledger's parts hold, in path order, each once: as its newest part has it."""
    runs = [_run_rows(ledger, numbers) for numbers in ledger.generations()]
    if len(runs) < 2:
        return chain.from_iterable(runs)
    merged = heapq.merge(*runs, key=_path_of)  # equal paths come in the order of their runs
    return (list(rows)[-1] for _, rows in groupby(merged, key=_path_of))


def seen_rows(ledger: Ledger) -> Iterator[Known]:
    """As ``known_rows``, without what was dropped: the files that readers see."""
    dropped = ledger.dropped_files()
    return (known for known in known_rows(ledger) if known[0][0] not in dropped) if dropped else known_rows(ledger)


def _path_of(known: Known) -> bytes:
    return known[0][0]


def _run_rows(ledger: Ledger, numbers: list[int]) -> Iterator[Known]:
    for number in numbers:
        selection = ledger.kept_selection(number)
        if isinstance(selection, FileList):
            yield from zip(selection.rows(), selection.crcs or repeat(None), repeat(number))
