"""The engines side by side on the image generator, two workers each: the rate of building parts. Bar: a dask cluster on
this machine reaches 0.9 times the rate of worker processes.

Every engine builds the same parts, in turns, its workers started and warm; what the start takes is told beside it. The
parts' checksums are compared. "CPU a sample" counts all processes that were started, and is steadier on a busy machine.

    python benchmarks/engines.py [--samples N] [--workers N] [--quick] [--json FILE]
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from statistics import median

import psutil
from harness import Ratio, measure, memory_backed, parser, report

from driveshard.cli.demo.objects import draw_backgrounds, draw_foregrounds
from driveshard.core.model import PartSpec, SampleRange
from driveshard.sources.composite.source import CompositeSource
from driveshard.upload.pack.engine import Engine, open_engine

BAR = 0.9
A_PART = 1000  # samples
PLENTY = 1 << 40


class Turn:
    """An engine with its workers started, and the parts that it made."""

    def __init__(self, name: str, source: CompositeSource, temp: Path, samples: int, workers: int) -> None:
        self._source, self._temp, self._samples = source, temp / name, samples
        self._temp.mkdir()
        self.sums: list[str] = []
        self.cpu: list[float] = []
        began = time.perf_counter()
        self.engine: Engine = open_engine(name, workers, spool=self._temp)
        self._build(2 * workers, A_PART // 10)
        self.start = time.perf_counter() - began

    def run(self) -> float:
        """Seconds for 1,000 samples."""
        began, cpu = time.perf_counter(), _cpu()
        self.sums = self._build(self._samples // A_PART, A_PART)
        self.cpu.append(_cpu() - cpu)
        return (time.perf_counter() - began) * 1000 / self._samples

    def _build(self, parts: int, samples: int) -> list[str]:
        futures = []
        for number in range(parts):
            spec = PartSpec(number, f"{number}.zip", SampleRange(number * samples, (number + 1) * samples), 0)
            futures.append(self.engine.submit(spec, self._source, self._temp / f".building-{number:05d}", PLENTY))
        sums = [future.result().sha256 for future in futures]
        for path in self._temp.glob(".building-0*"):
            path.unlink()
        return sums


def _cpu() -> float:
    """Seconds of all processes below this one, and of itself."""
    me = psutil.Process()
    times = [one.cpu_times() for one in [me, *me.children(recursive=True)]]
    return sum(one.user + one.system for one in times)


def main() -> int:
    """All engines in turns; returns 1 when the bar is missed."""
    arguments = parser(__doc__)
    arguments.add_argument("--samples", type=int, default=20_000, help="samples in a turn")
    arguments.add_argument("--workers", type=int, default=2)
    options = arguments.parse_args()
    samples = 4_000 if options.quick else options.samples
    with tempfile.TemporaryDirectory(prefix="driveshard-bench-", dir=memory_backed()) as temp, ExitStack() as stack:
        root = Path(temp)
        draw_backgrounds(root / "bg", 12, 1)
        draw_foregrounds(root / "fg", 12, 1)
        source = CompositeSource(root / "bg", root / "fg", 200, placements=samples)
        turns = {}
        for name in ("processes", "dask"):
            turns[name] = turn = Turn(name, source, root, samples, options.workers)
            stack.callback(partial(turn.engine.close))
            print(f"  {name} started in {turn.start:.2f} s", file=sys.stderr)
        candidates: dict[str, Callable[[], object]] = {name: turn.run for name, turn in turns.items()}
        rows = measure(candidates, options.repeat)
    assert turns["processes"].sums == turns["dask"].sums, "other bytes"
    return report(
        "engines (s per 1,000 samples)",
        list(rows.values()),
        [
            Ratio("rate of dask against processes", rows["processes"].median / rows["dask"].median, BAR),
            Ratio("CPU a sample, processes against dask", median(turns["processes"].cpu) / median(turns["dask"].cpu)),
        ],
        options.json,
        samples=samples,
        workers=options.workers,
        seconds_to_start_dask=round(turns["dask"].start, 2),
        seconds_to_start_processes=round(turns["processes"].start, 2),
    )


if __name__ == "__main__":
    sys.exit(main())
