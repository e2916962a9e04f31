"""Packing a tree of many small files, checksums included, against zip, zipfile and tar, which compute none.

The tree is made on the spot and in the page cache for everybody; the bars stand on that. Where the system's caches may
be dropped (root on Linux) the same is told for a tree on a disk that is in no cache (``cold``), as one is that was made
yesterday; --cold names another disk.

Ours is timed from the first look at the tree to the last finished part, with the workers' start. The archives go to a
memory-backed directory where there is one: ours are forced to the disk (fsync) and the others' are not, so on a disk
the bars would compare a disk with a cache. To see that too, name a directory on a disk with --out.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path

import harness
from inputs import make_tree

from driveshard.core.model import Part, PartSpec
from driveshard.sources.folder import FolderSource
from driveshard.upload.pack.engine import open_engine
from driveshard.upload.plan.base import Cut
from driveshard.upload.plan.files import Cutter


def cut(source: FolderSource, part_size: int) -> Iterator[PartSpec]:
    """Parts of at most ``part_size`` bytes, as soon as the scan has seen enough for one."""
    cut = Cut("x", part_size)
    blocks = ((block, []) for block in source.scan())
    for number, (files, estimate, _) in enumerate(Cutter(cut).cut(blocks)):
        yield cut.spec(number, files, estimate)


def pack_ours(root: Path, out: Path, workers: int, part_size: int) -> list[Part]:
    source = FolderSource(root)
    with open_engine("processes", workers) as engine:
        engine.warm_up()
        futures = [engine.submit(spec, source, out / spec.file_name, spec.estimate) for spec in cut(source, part_size)]
        return [future.result() for future in futures]


def pack_zipfile(root: Path, out: Path) -> None:
    with zipfile.ZipFile(out / "x.zip", "w") as archive:
        for folder, folders, names in os.walk(root):
            folders.sort()
            for name in sorted(names):
                path = os.path.join(folder, name)
                archive.write(path, os.path.relpath(path, root))


def run_tool(root: Path, *command: str) -> None:
    subprocess.run(command, cwd=root, check=True)


def empty(folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()


def main() -> int:
    """Make the tree, check what we pack, time everybody in turns, in seconds; returns 1 when a bar is missed."""
    parser = harness.parser(__doc__)
    parser.add_argument("--files", type=int, default=200_000, metavar="N")
    parser.add_argument("--file-size", type=int, default=1200, metavar="BYTES")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--part-size", type=int, default=32 << 20, metavar="BYTES")
    parser.add_argument("--temp", type=Path, metavar="DIR", help="where the tree is made (default: the system's)")
    parser.add_argument(
        "--cold", type=Path, metavar="DIR", default=harness.on_disk(), help="the disk for the cold tree"
    )
    parser.add_argument("--out", type=Path, metavar="DIR", default=harness.memory_backed(), help="where archives go")
    options = parser.parse_args()
    count = min(options.files, 100_000) if options.quick else options.files
    with (
        tempfile.TemporaryDirectory(dir=options.temp, prefix="driveshard-") as tree,
        tempfile.TemporaryDirectory(dir=options.out or options.temp, prefix="driveshard-") as archives,
    ):
        root, out = Path(tree, "tree"), Path(archives, "out")
        make_tree(root, count, options.file_size)
        parts = check(root, out, options.workers, options.part_size, count)
        rows = harness.measure(
            candidates(root, out, options.workers, options.part_size), options.repeat, prepare=lambda: empty(out)
        )
        if options.cold and not options.quick and harness.can_drop_caches():
            rows |= measure_cold(options.cold, out, options, count)
    return harness.report(
        "pack_tree", list(rows.values()), ratios(rows), options.json, files=count, parts=parts, workers=options.workers
    )


def ratios(rows: Mapping[str, harness.Row]) -> list[harness.Ratio]:
    """How many times as fast as whom, of those that were there; and our time against tar's."""
    ours = rows["driveshard"].median
    found = [
        harness.Ratio(f"faster than {what}", rows[what].median / ours, bar)
        for what, bar in (("zip -0 -r -q", 1.8), ("zipfile.write", 5.0))
        if what in rows
    ]
    if "tar cf" in rows:
        found.append(harness.Ratio("time against tar cf", ours / rows["tar cf"].median, 1.3, at_most=True))
    if "tar cf, cold" in rows:
        cold = rows["driveshard, cold"].median / rows["tar cf, cold"].median
        found.append(harness.Ratio("time against tar cf, cold", cold))
    return found


def candidates(root: Path, out: Path, workers: int, part_size: int) -> dict[str, Callable[[], object]]:
    """What is timed, by name; tools that are not installed are left out."""
    found: dict[str, Callable[[], object]] = {
        "driveshard": partial(pack_ours, root, out, workers, part_size),
        "zipfile.write": partial(pack_zipfile, root, out),
    }
    if shutil.which("zip"):
        found["zip -0 -r -q"] = partial(run_tool, root, "zip", "-0", "-r", "-q", str(out / "x.zip"), ".")
    if shutil.which("tar"):
        found["tar cf"] = partial(run_tool, root, "tar", "cf", str(out / "x.tar"), ".")
    return found


def measure_cold(disk: Path, out: Path, options: argparse.Namespace, count: int) -> dict[str, harness.Row]:
    """Us and the tools on a tree on ``disk`` that is in no cache of the system's; zipfile would take too long."""

    def prepare() -> None:
        empty(out)
        harness.drop_caches()

    with tempfile.TemporaryDirectory(dir=disk, prefix="driveshard-") as tree:
        root = Path(tree, "tree")
        make_tree(root, count, options.file_size)
        found = candidates(root, out, options.workers, options.part_size)
        del found["zipfile.write"]
        return harness.measure({f"{what}, cold": run for what, run in found.items()}, options.repeat, prepare)


def check(root: Path, out: Path, workers: int, part_size: int, count: int) -> int:
    """Pack once untimed and look at the result; returns the number of parts. Also brings the tree into the cache."""
    empty(out)
    parts = pack_ours(root, out, workers, part_size)
    assert sum(part.files for part in parts) == count
    assert all((out / part.file_name).stat().st_size == part.size for part in parts)
    return len(parts)


if __name__ == "__main__":
    sys.exit(main())
