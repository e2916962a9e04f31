"""``driveshard.stats``: what a dataset holds, and what its images and labels are like, wherever it lies."""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import Executor
from contextlib import closing
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from driveshard.archive.index import Index
from driveshard.archive.index_builder import path_of, regrouped
from driveshard.config.options import KEYWORDS, PUSH, read_values
from driveshard.config.settings import home_folder
from driveshard.core.errors import Mismatch, UsageError
from driveshard.core.events import Emit, Notice, ignore
from driveshard.dataset.picture_file import format_of, write_picture
from driveshard.dataset.places import open_place
from driveshard.dataset.regroup import Split, split_for
from driveshard.dataset.stats.figures import fields_of, labels_of
from driveshard.dataset.stats.kept import KeptResults
from driveshard.dataset.stats.pieces import Fields, PartWork, chosen_samples, cut_into_pieces, told_fields
from driveshard.dataset.stats.result import Stats
from driveshard.dataset.stats.run import OnBytes, look_at_all
from driveshard.dataset.stats.supply import Supply
from driveshard.dataset.stats.tally import Tally
from driveshard.upload.pack.engine import workers_of


def stats(
    what: str | os.PathLike[str],
    *,
    sample: int | None = None,
    seed: int = 0,
    workers: int | None = None,
    key: str | Split | None = None,
    engine: str | Executor = "processes",
    on_event: Emit = ignore,
) -> Stats:
    """Count a dataset, the pixels of its images and its labels: all of it, or ``sample`` samples spread over it.

    ``what`` is a folder's link or id, the name of a dataset pushed from here, or a directory with parts, which may be
    zips of other tools; ``key`` regroups members as ``driveshard.Dataset`` does. ``seed`` draws other samples. The work
    is done by ``workers`` processes, one for each CPU, or by another ``engine``, as for ``driveshard.push``; what they
    found is kept, so that a run that was ended goes on. Workers of a cluster or of an Executor read parts themselves.

    Raises SourceMissing when there is no such dataset, UsageError, Mismatch when a part cannot be read, and errors of
    the way to it.
    """
    return stats_of(os.fspath(what), sample, seed, workers, key, on_event, engine=engine)


def stats_of(
    what: str,
    sample: int | None,
    seed: int,
    workers: int | None,
    key: str | Split | None,
    emit: Emit,
    on_bytes: OnBytes = lambda *_: None,
    *,
    engine: str | Executor = "processes",
) -> Stats:
    """As ``stats``; ``on_bytes`` is told of more bytes that were looked at, and of how many."""
    engine = read_values({"engine": engine}, PUSH, KEYWORDS)["engine"]
    for name, value in (("sample", sample), ("workers", workers)):
        if value is not None and value < 1:
            raise UsageError(f"{name} has to be 1 or more, and is {value}")
    place = open_place(what, None, None)
    index = place.index if key is None else regrouped(place.index, split_for(key))
    fields = told_fields(index, key)
    samples = chosen_samples(len(index), sample, seed)
    kept = KeptResults(home_folder(os.environ) / "cache" / "stats")
    with closing(Supply(place.parts)) as supply:
        works = _works(place.name, index, fields, samples, supply)
        tally = look_at_all(
            works,
            supply,
            kept,
            engine,
            workers_of(engine, workers),
            _namer(index),
            on_bytes,
            lambda text: emit(Notice(text)),
        )
    labels, numbers = labels_of(tally)
    return Stats(
        name=place.name,
        parts=len(index.parts),
        samples=len(index),
        looked_at=len(samples),
        files=index.members,
        bytes=int(index.arrays["size"].sum(dtype=np.uint64)),
        fields=fields_of(index, fields, tally),
        labels=labels,
        numbers=numbers,
        broken=[{"path": path, "why": why} for path, why in tally.broken],
        broken_count=_broken(tally),
    )


def _works(name: str, index: Index, fields: Fields, samples: NDArray[np.int64], supply: Supply) -> list[PartWork]:
    marks = supply.marks()
    try:
        return list(cut_into_pieces(index, fields, samples, marks))
    except (IndexError, ValueError, OverflowError) as error:
        raise Mismatch(f"the index of {name} is damaged", advice="Delete its index.npz.") from error


def draw_into(found: Stats, file: Path) -> None:
    """Draw the figures into a file. Raises UsageError for an ending that is neither .png nor .jpg, TempFull when it
    cannot be written."""
    from driveshard.dataset.stats.picture import picture_of

    write_picture(file, picture_of(found, format_of(file)))


def _namer(index: Index) -> Callable[[int], str]:
    def named(row: int) -> str:
        sample = int(np.searchsorted(index.arrays["firsts"], row, "right")) - 1
        return path_of(index, sample, row).encode("utf-8", "backslashreplace").decode()

    return named


def _broken(tally: Tally) -> int:
    pictures = sum(one.broken for one in tally.pictures.values())
    arrays = sum(one.broken for one in tally.arrays.values())
    return pictures + arrays + sum(one.broken for one in tally.labels.values())
