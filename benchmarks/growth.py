"""How ``push`` grows: trees of 10 k, 100 k and 1 M small files, really pushed to an emulator without a bandwidth limit.

For each size: seconds a file, the peak memory of any process of the push, and the peak of its temp directory against
its limit. Bars: from the second size on the time a file stays within 20 %; 200 MiB; the limit. The smallest size is
reported only: with it, what a push of any size takes (start, first contact, four paced writes at the end) is most of
the time. That part is measured by a push of 10 files, and subtracted before times a file are compared.

Files lie in directories of 1,000, or all in one with ``--flat``.
"""

from __future__ import annotations

import argparse
import shutil
import statistics
import sys
from pathlib import Path

import harness
import runs
from inputs import make_tree

WITHIN, MOST_MEMORY = 1.2, 200 * runs.MIB
FEW = 10  # files of the push that shows what every push takes


def main() -> int:
    """Push trees of growing size to fresh Drives; returns 1 when a bar is missed."""
    parser = harness.parser(__doc__)
    parser.add_argument("--files", type=int, nargs="+", default=[10_000, 100_000, 1_000_000], metavar="N")
    parser.add_argument("--file-size", type=int, default=1200, metavar="BYTES")
    parser.add_argument("--flat", action="store_true", help="all files in one directory")
    parser.add_argument("--part-size", default="32MiB", metavar="SIZE")
    parser.add_argument("--temp-limit", type=int, default=160, metavar="MIB")
    parser.add_argument("--temp", type=Path, metavar="DIR", help="where all this lies (default: the system's)")
    options = parser.parse_args()
    sizes = [5_000, 60_000, 180_000] if options.quick else sorted(options.files)
    repeat = 1 if options.quick else options.repeat
    limits = ["--part-size", options.part_size, "--temp-limit", f"{options.temp_limit}MiB", "--name", "growth"]
    pushed: dict[int, list[runs.Run]] = {}
    with runs.workplace(options.temp, quick=options.quick) as temp:
        for count in [FEW, *sizes]:
            tree = temp / f"tree-{count}"
            make_tree(tree, count, options.file_size, count if options.flat else 1000)
            pushed[count] = [_push(tree, temp, count, limits) for _ in range(repeat)]
            shutil.rmtree(tree)
    return _report(options, sizes, pushed)


def _push(tree: Path, temp: Path, count: int, limits: list[str]) -> runs.Run:
    """One push of everything, to a Drive and from a home that know nothing yet."""
    drive, home, spool = temp / "drive", temp / "home", temp / "spool"
    with runs.emulated_drive(drive) as url:
        run = runs.push(tree, url, home, spool, *limits)
    assert run.result["files"] == count and run.result["state"] == "complete"
    for folder in (drive, home, spool):
        shutil.rmtree(folder)
    print(f"  {count:,} files: {run.seconds:.2f} s, {runs.mib(run.peak_memory)} MiB", file=sys.stderr, flush=True)
    return run


def _report(options: argparse.Namespace, sizes: list[int], pushed: dict[int, list[runs.Run]]) -> int:
    start = statistics.median(run.seconds for run in pushed[FEW])
    each = {count: (statistics.median(run.seconds for run in pushed[count]) - start) / (count - FEW) for count in sizes}
    compared = [each[count] for count in sizes[1:]]
    memory = max(run.peak_memory for several in pushed.values() for run in several)
    temp = max(run.peak_temp for several in pushed.values() for run in several)
    limit = options.temp_limit * runs.MIB
    within = None if options.quick else WITHIN  # runs of two seconds differ more than that by themselves
    ratios = [
        harness.Ratio(f"time a file, {sizes[-1]:,} against {sizes[1]:,}", compared[-1] / compared[0], WITHIN, True),
        harness.Ratio("time a file, slowest against quickest", max(compared) / min(compared), within, True),
        harness.Ratio("peak memory of any process / 200 MiB", memory / MOST_MEMORY, 1.0, True),
        harness.Ratio("peak temp disk / its limit", temp / limit, 1.0, True),
    ]
    rows = [harness.Row(f"{count:,} files", tuple(run.seconds for run in pushed[count])) for count in [FEW, *sizes]]
    growth = [
        {
            "files": count,
            **({"microseconds_a_file": round(each[count] * 1e6, 1)} if count in sizes[1:] else {}),
            "microseconds_a_file_with_start": round((each[count] + start / count) * 1e6, 1),
            "main_mib": runs.mib(max(run.memory["main"] for run in pushed[count])),
            "worker_mib": runs.mib(max(run.memory.get("worker", 0) for run in pushed[count])),
            "temp_mib": runs.mib(max(run.peak_temp for run in pushed[count])),
        }
        for count in sizes
    ]
    for line in growth:
        print("  " + ", ".join(f"{name} {value:,}" for name, value in line.items()))
    return harness.report(
        "growth",
        rows,
        ratios,
        options.json,
        flat=options.flat,
        temp_limit_mib=options.temp_limit,
        growth=growth,
    )


if __name__ == "__main__":
    sys.exit(main())
