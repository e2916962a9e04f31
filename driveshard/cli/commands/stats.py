"""The ``stats`` command: figures of a dataset."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from driveshard.cli.completion import complete_what
from driveshard.cli.console import put, put_json
from driveshard.cli.flags import AnyPath, common, examples, manner, option
from driveshard.cli.progress.report import told
from driveshard.core.events import Emit, Notice
from driveshard.core.formatting import human_size, plural, shown

if TYPE_CHECKING:
    from driveshard.dataset.stats.result import Stats

_MOST_VALUES = 8  # of a label that are shown
_MOST_BROKEN = 10


@click.command(
    "stats",
    short_help="Counts, sizes, labels, and mean and std of images.",
    epilog=examples(
        """
driveshard stats data/photos
driveshard stats https://drive.google.com/drive/folders/ID --sample 5000
driveshard stats photos --json -o photos.png
"""
    ),
)
@click.argument("what", shell_complete=complete_what)
@option("--sample", type=click.IntRange(1), metavar="N", help="Look at N samples, spread over all (default: all).")
@option("--seed", type=int, default=0, metavar="N", help="Draw other samples (default 0).")
@option("--workers", type=click.IntRange(1), metavar="N", help="Processes (default: one for each CPU).")
@option(
    "--engine",
    metavar="NAME",
    default="processes",
    help="What looks: processes (default), threads, serial, dask (a cluster on this machine) or dask:ADDRESS.",
)
@option(
    "--key",
    type=click.Choice(["trees", "coco", "yolo"]),
    help="Which files make a sample, where their names do not say it: those of parallel folders.",
)
@option(
    "-o",
    "--output",
    type=AnyPath(dir_okay=False, path_type=Path),
    metavar="FILE",
    help="Draw the figures, too: a .png or a .jpg; one that exists is replaced.",
)
@common
def command(
    what: str,
    sample: int | None,
    seed: int,
    workers: int | None,
    engine: str,
    key: str | None,
    output: Path | None,
) -> int:
    """Count a dataset: its samples, files and bytes, sizes of files and images, values of labels, and of every field's
    images the mean and standard deviation of each channel, in [0, 1] over all pixels; of numpy arrays those of all
    values together, in their own units.

    WHAT is a folder's link or id, the name of a dataset pushed from here, or a directory with its parts, which may be
    zips of other tools. A run that was ended goes on where it was; parts of a link pass through, three at a time. A
    cluster's workers read them where they lie.
    """
    from driveshard.config.options import FLAGS, PUSH, read_values
    from driveshard.dataset.picture_file import target
    from driveshard.dataset.stats.stats import draw_into, stats_of

    if output is not None:
        target(output, "")  # what is wrong with it is said before the work
    read_values({"engine": engine}, PUSH, FLAGS)
    with told(manner, "looking at samples") as emit, _warnings_said(emit):
        found = stats_of(what, sample, seed, workers, key, emit, emit.read, engine=engine)
    if output is not None:
        draw_into(found, output)
    if manner.as_json:
        put_json(found.as_json())
    else:
        for line in _lines(found):
            put(shown(line))
    return 0


@contextmanager
def _warnings_said(emit: Emit) -> Iterator[None]:
    """Of parts that are missing, for instance, in a sentence instead of Python's form."""
    with warnings.catch_warnings():
        warnings.showwarning = lambda message, *_, **__: emit(Notice(str(message)))
        yield


def _lines(found: Stats) -> Iterator[str]:
    whole = f"{plural(found.samples, 'sample')}, {plural(found.files, 'file')}, {human_size(found.bytes)}"
    yield f"{found.name}: {whole} in {plural(found.parts, 'part')}"
    if found.looked_at < found.samples:
        yield f"Images and labels of {found.looked_at:,} samples spread over them:"
    for name, figures in found.fields.items():
        yield from _field(name or "(no field)", figures)
    for name, places in found.labels.items():
        for place, values in places.items():
            yield f"{_of(name, place)}: {_values(values)}"
    for name, rows in found.numbers.items():
        for place, one in rows.items():
            if place not in found.labels.get(name, {}):
                yield f"{_of(name, place)}: {one['min']:g} to {one['max']:g}, mean {one['mean']:g}, std {one['std']:g}"
    for one in found.broken[:_MOST_BROKEN]:
        yield f"broken: {one['path']}: {one['why']}"
    if found.broken_count > _MOST_BROKEN:
        yield f"broken: {found.broken_count:,} in all"


def _of(name: str, place: str) -> str:
    return name if place == name else f"{name} {place}"


def _field(name: str, figures: dict[str, Any]) -> Iterator[str]:
    least, largest = human_size(figures["smallest"]), human_size(figures["largest"])
    sizes = least if least == largest else f"{least} to {largest}"
    yield f"{name}: {figures['count']:,} of {sizes}, {human_size(figures['bytes'])} in all"
    yield from _array_lines(figures.get("arrays"))
    images = figures.get("images")
    if images is None:
        return
    if images["count"]:
        shape = ", ".join(f"{count:,} of {size or 'other sizes'}" for size, count in list(images["sizes"].items())[:3])
        more = f", {len(images['sizes']) - 3} sizes more" if len(images["sizes"]) > 3 else ""
        yield f"  {shape}{more} ({', '.join(images['modes'])})"
    for channel, one in images["channels"].items():
        yield f"  {channel}: mean {one['mean']:.6f}, std {one['std']:.6f}"


def _array_lines(arrays: dict[str, Any] | None) -> Iterator[str]:
    if arrays is None or not arrays["count"]:
        return
    shapes = ", ".join(f"{count:,} of {shape or 'other shapes'}" for shape, count in list(arrays["shapes"].items())[:3])
    more = f", {len(arrays['shapes']) - 3} shapes more" if len(arrays["shapes"]) > 3 else ""
    yield f"  {shapes}{more} ({', '.join(arrays['types'])})"
    if arrays["values"]:
        yield f"  values: {arrays['min']:g} to {arrays['max']:g}, mean {arrays['mean']:g}, std {arrays['std']:g}"
    if arrays["left_out"]:
        yield f"  {arrays['left_out']:,} values are no finite numbers, and left out"


def _values(values: dict[str, int]) -> str:
    some = ", ".join(f"{value} {count:,}" for value, count in list(values.items())[:_MOST_VALUES])
    return some + (f", {len(values) - _MOST_VALUES:,} values more" if len(values) > _MOST_VALUES else "")
