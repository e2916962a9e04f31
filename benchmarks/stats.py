"""Figures of a dataset: ``driveshard stats`` on all cores against a loop of Pillow and numpy on one.

Pairs of a photograph-like JPEG and its mask, 200 x 200, in parts that the system holds in memory. The loop opens the
zips with zipfile, decodes image by image and adds up pixels and their squares for each channel; the command is a
process that begins with nothing kept. Means and standard deviations have to agree to 1e-6.
"""

from __future__ import annotations

import io
import json
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import harness
import numpy as np
from numpy.typing import NDArray
from PIL import Image
from reading import Sample, write_zips

EDGE = 200  # pixels a side
PICTURES = 256  # that are different from each other
SAME = 1e-6

Moments = dict[str, list[tuple[float, float]]]
"""By field the mean and the standard deviation of each channel."""


def pairs(count: int) -> Iterator[Sample]:
    """Pictures with noise as a camera's, and masks of one disk each."""
    rng = np.random.default_rng(1)
    across, down = np.meshgrid(np.arange(EDGE), np.arange(EDGE))
    pool = []
    for _ in range(PICTURES):
        small = Image.fromarray(rng.integers(0, 256, (12, 12, 3), np.uint8)).resize((EDGE, EDGE))
        noisy = np.clip(np.asarray(small, np.int64) + rng.normal(0, 6, (EDGE, EDGE, 3)), 0, 255).astype(np.uint8)
        x, y, radius = rng.integers(40, 160), rng.integers(40, 160), rng.integers(20, 40)
        disk = ((across - x) ** 2 + (down - y) ** 2 < radius**2).astype(np.uint8) * 255
        pool.append({"image.jpg": _jpeg(noisy, 30), "mask.jpg": _jpeg(disk, 30)})
    for at in range(count):
        yield f"d{at // 1000:03d}/{at:06d}", pool[at % len(pool)]


def _jpeg(values: NDArray[np.uint8], quality: int) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(values).save(buffer, "JPEG", quality=quality)
    return buffer.getvalue()


def by_loop(directory: Path) -> Moments:
    """What anybody would write."""
    totals: dict[str, Any] = defaultdict(float)
    squares: dict[str, Any] = defaultdict(float)
    pixels: dict[str, int] = defaultdict(int)
    for path in sorted(directory.glob("*.zip")):
        with zipfile.ZipFile(path) as archive:
            for name in archive.namelist():
                field = name.partition(".")[2]
                values = np.asarray(Image.open(io.BytesIO(archive.read(name)))) / 255
                flat = values.reshape(EDGE * EDGE, -1)
                totals[field] += flat.sum(axis=0)
                squares[field] += (flat**2).sum(axis=0)
                pixels[field] += len(flat)
    found = {}
    for field, count in pixels.items():
        mean = totals[field] / count
        deviation = np.sqrt(squares[field] / count - mean**2)
        found[field] = list(zip(mean.tolist(), deviation.tolist(), strict=True))
    return found


def by_command(directory: Path, home: Path, *options: str) -> Moments:
    """``driveshard stats`` that finds no results of an earlier run."""
    shutil.rmtree(home, ignore_errors=True)
    command = [sys.executable, "-m", "driveshard", "stats", str(directory), "--json", *options]
    environment = os.environ | {"DRIVESHARD_HOME": str(home)}
    done = subprocess.run(command, env=environment, check=True, capture_output=True, text=True)
    fields = json.loads(done.stdout.splitlines()[-1])["fields"]
    return {
        field: [(one["mean"], one["std"]) for one in figures["images"]["channels"].values()]
        for field, figures in fields.items()
    }


def furthest(one: Moments, other: Moments) -> float:
    """The largest difference between two figures of the same thing. Raises ValueError when they are not of the same."""
    if one.keys() != other.keys():
        raise ValueError(f"fields {sorted(one)} and {sorted(other)}")
    return max(
        abs(mine - theirs)
        for field in one
        for ours, others in zip(one[field], other[field], strict=True)
        for mine, theirs in zip(ours, others, strict=True)
    )


def main() -> int:
    """All in one run; returns 1 when a bar is missed."""
    parser = harness.parser(__doc__)
    parser.add_argument("--temp", type=Path, default=harness.memory_backed(), metavar="DIR")
    parser.add_argument("--pairs", type=int, metavar="N", help="of images and masks")
    options = parser.parse_args()
    count = options.pairs or (2_000 if options.quick else 100_000)
    with tempfile.TemporaryDirectory(dir=options.temp, prefix="driveshard-") as name:
        work = Path(name)
        write_zips(work / "pairs", pairs(count), count)
        found: dict[str, Moments] = {}
        rows = harness.measure(
            {
                "driveshard stats": lambda: found.update(ours=by_command(work / "pairs", work / "home")),
                "Pillow and numpy, one core": lambda: found.update(loop=by_loop(work / "pairs")),
            },
            options.repeat,
        )
    ours, loop = rows.values()
    difference = furthest(found["ours"], found["loop"])
    ratios = [
        harness.Ratio("stats faster than a loop on one core", loop.median / ours.median, 1.8),
        harness.Ratio("millionths by which any figure differs", difference / SAME, 1.0, at_most=True),
    ]
    return harness.report("stats", list(rows.values()), ratios, options.json, pairs=count)


if __name__ == "__main__":
    sys.exit(main())
