"""What 10 million, 100 million and a billion files take on 1 to 256 workers under Drive's limits, by simulation.

Discrete events, no sleeping: workers build parts (no more at once than the temp folder holds), uploads begin them at
the pace that driveshard keeps, requests of the size that it would choose share one line, and no 24 hours hold more than
Drive takes. The calculators are the program's own (the pace of writes, the size of requests), the events are made up
here. Each outcome is told beside what the forecast of ``push --dry-run`` says for it. Bars: these two no further apart
than 15 % where a job has at least eight parts a worker; a real push against the emulator within 15 % of its own.

    python benchmarks/scale.py [--quick] [--no-real] [--json FILE]
    python benchmarks/plots.py RESULTS docs      # draws it from RESULTS/scale.json

The jobs: ``generator`` composes images (0.34 ms a file on a core, as composite.py measures it, 2.5 KB each), ``model``
runs or renders something for each (25 ms a file, 2.5 KB), ``photos`` packs a folder of 100 KB files (15 us a file and
400 MB/s a core, as pack_tree.py measures it). The line is 1 Gbit/s, a request takes 300 ms beyond its bytes.
"""

from __future__ import annotations

import heapq
import itertools
import json
import math
import os
import subprocess
import sys
import tempfile
import time
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from harness import Ratio, Row, parser, report

from driveshard.storage.rate_limits import DEFAULT_WRITES_PER_SECOND, DRIVE_BYTES_A_DAY, next_write
from driveshard.upload.forecast import FOLDER_ITEMS, Pace, seconds_by
from driveshard.upload.send.request_size import RequestSizer

BAR = 1.15
MIB, DAY = 1 << 20, 86_400.0
GIGABIT = 125e6  # bytes a second
IN_TEMP = 2  # parts beyond those being built and sent, as the program reckons its temp folder
UNIT = 256 * 1024


@dataclass(frozen=True)
class Job:
    """Files of ``size`` bytes, each of which takes ``seconds`` of one core to make and pack."""

    name: str
    files: int
    size: int
    seconds: float

    @property
    def total(self) -> int:
        return self.files * self.size


@dataclass(frozen=True)
class Site:
    """What the job runs on."""

    workers: int
    part_size: int
    pace: Pace = field(default_factory=lambda: Pace(DEFAULT_WRITES_PER_SECOND, GIGABIT))


@dataclass(frozen=True)
class Outcome:
    """``busy`` is how much of the time each resource was in use, or waited for; ``temp`` bytes at most."""

    seconds: float
    parts: int
    busy: dict[str, float]
    temp: int


class Simulation:
    """One push, from its first part to its last."""

    def __init__(self, job: Job, site: Site) -> None:
        self.site, self.pace = site, site.pace
        self.parts = max(1, math.ceil(job.total / site.part_size))
        self.size = math.ceil(job.total / self.parts)
        self.build_seconds = job.files / self.parts * job.seconds
        self.now = 0.0
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._order = itertools.count()
        self._unbuilt, self._waiting = self.parts, 0
        self._free, self._slots = site.workers, self.pace.uploads
        self._room = site.workers + self.pace.uploads + IN_TEMP
        self.most_room, self._held = self._room, 0
        self._places: list[float] = []
        self._line_free = 0.0
        self._sent: deque[tuple[float, int]] = deque()
        self._sent_today = 0
        self._sizer = RequestSizer(UNIT)
        self.busy: Counter[str] = Counter()
        self.peak = 0

    def run(self) -> Outcome:
        """To the last event."""
        self._build()
        while self._events:
            self.now, _, event = heapq.heappop(self._events)
            event()
        shares = {what: seconds / self.now for what, seconds in self.busy.items()}
        shares["cores"] = self.parts * self.build_seconds / self.site.workers / self.now
        return Outcome(self.now, self.parts, shares, self.peak * self.size)

    def _at(self, when: float, event: Callable[[], None]) -> None:
        heapq.heappush(self._events, (when, next(self._order), event))

    def _build(self) -> None:
        while self._free and self._unbuilt and self._held < self._room:
            self._free, self._unbuilt, self._held = self._free - 1, self._unbuilt - 1, self._held + 1
            self.peak = max(self.peak, self._held)
            self._at(self.now + self.build_seconds, self._built)

    def _built(self) -> None:
        self._free, self._waiting = self._free + 1, self._waiting + 1
        self._build()
        self._upload()

    def _upload(self) -> None:
        while self._slots and self._waiting:
            self._slots, self._waiting = self._slots - 1, self._waiting - 1
            self._begin()

    def _begin(self) -> None:
        """One part: its share of the day, then its turn to write."""
        while self._sent and self._sent[0][0] + DAY <= self.now:
            self._sent_today -= self._sent.popleft()[1]
        if self._sent_today + self.size > DRIVE_BYTES_A_DAY and self._sent:
            due = self._sent[0][0] + DAY
            self.busy["day"] += (due - self.now) / self.pace.uploads
            self._at(due, self._begin)
            return
        self._sent_today += self.size
        self._sent.append((self.now, self.size))
        place, self._places = next_write(self._places, self.pace.writes_per_second, self.now)
        self.busy["writes"] += (place - self.now) / self.pace.uploads
        self._at(place + self.pace.round_trip, lambda: self._send(self.size))

    def _send(self, rest: int) -> None:
        length = self._sizer.of(rest)
        began, self._line_free = self.now, max(self.now, self._line_free) + length / self.pace.bytes_a_second
        self.busy["line"] += length / self.pace.bytes_a_second

        def answered() -> None:
            self._sizer.took(length, self.now - began)
            self._send(rest - length) if rest > length else self._done()

        self._at(self._line_free + self.pace.round_trip, answered)

    def _done(self) -> None:
        self._slots, self._held = self._slots + 1, self._held - 1
        self._upload()
        self._build()


def foretold(job: Job, site: Site) -> dict[str, float]:
    """The forecast's seconds for the same, by each limit."""
    parts = max(1, math.ceil(job.total / site.part_size))
    building = math.ceil(parts / site.workers) * job.files / parts * job.seconds
    return seconds_by(parts, job.total, site.pace, building=building)


# -- what is tried ---------------------------------------------------------------------------------------------------

KINDS = {"generator": (2_500, 0.00034), "model": (2_500, 0.025), "photos": (100_000, 15e-6 + 100_000 / 400e6)}
FILES = (10_000_000, 100_000_000, 1_000_000_000)
WORKERS = (1, 2, 4, 8, 16, 32, 64, 128, 256)
PART_SIZES = tuple(MIB << power for power in range(12))


def job_of(kind: str, files: int) -> Job:
    size, seconds = KINDS[kind]
    return Job(kind, files, size, seconds)


def fitting(job: Job, workers: int) -> int:
    """The largest part size up to 512 MiB that takes hardly longer than the best: workers that are left without a part
    want smaller ones, Drive's pace of writes and its folders want larger ones."""
    sizes = [size for size in PART_SIZES if size <= 512 * MIB and job.total / size < FOLDER_ITEMS]
    seconds = {size: max(foretold(job, Site(workers, size)).values()) for size in sizes}
    return max(size for size in sizes if seconds[size] <= 1.05 * min(seconds.values()))


def figures(job: Job, site: Site) -> dict[str, Any]:
    """A row for the plots."""
    outcome, told = Simulation(job, site).run(), foretold(job, site)
    return {
        "kind": job.name,
        "files": job.files,
        "workers": site.workers,
        "part_size": site.part_size,
        "parts": outcome.parts,
        "seconds": round(outcome.seconds, 1),
        "forecast": round(max(told.values()), 1),
        "held_back_by": max(told, key=lambda what: told[what]),
        "busy": {what: round(share, 3) for what, share in outcome.busy.items()},
        "temp": outcome.temp,
    }


def by_workers(files: tuple[int, ...], workers: tuple[int, ...]) -> list[dict[str, Any]]:
    jobs = [job_of(kind, count) for count in files for kind in KINDS]
    return [figures(job, Site(count, fitting(job, count))) for job in jobs for count in workers]


def by_part_size(files: tuple[int, ...], workers: int) -> list[dict[str, Any]]:
    jobs = [job_of("generator", count) for count in files]
    return [figures(job, Site(workers, size)) for job in jobs for size in PART_SIZES if size <= job.total]


# -- against a real push ---------------------------------------------------------------------------------------------

REAL = ({"part": 2 * MIB, "line": 4 * MIB, "trip": 0.1}, {"part": 256 * 1024, "line": 20 * MIB, "trip": 0.1})
REAL_FILES, REAL_SIZE = 6_000, 8_000


def real_runs() -> list[dict[str, float]]:
    """Pushes against the emulator beside their simulations: one that the line holds back, one that the pace does. The
    start and end of a run, which no simulation has, are a push of one file, measured the same way."""
    found = []
    with tempfile.TemporaryDirectory(prefix="driveshard-scale-") as temp:
        root = Path(temp)
        for name, count in (("one", 1), ("many", REAL_FILES)):
            (root / name).mkdir()
            for number in range(count):
                (root / name / f"{number:05d}.bin").write_bytes(os.urandom(REAL_SIZE))
        for at, way in enumerate(REAL):
            alone = _push(root, "one", f"one-{at}", way)
            took = _push(root, "many", f"many-{at}", way)
            pace = Pace(DEFAULT_WRITES_PER_SECOND, way["line"], round_trip=way["trip"])
            job = Job("real", REAL_FILES, REAL_SIZE + 130, 30e-6)
            said = Simulation(job, Site(2, int(way["part"]), pace)).run()
            found.append({"real": took - alone, "simulated": said.seconds, "beside": alone, "parts": said.parts})
            print(f"  real {took - alone:.1f} s, simulated {said.seconds:.1f} s", file=sys.stderr)
    return found


def _push(root: Path, source: str, name: str, way: dict[str, float]) -> float:
    """The result's seconds."""
    driveshard = [sys.executable, "-m", "driveshard"]
    line = ["--bandwidth", str(int(way["line"])), "--latency-ms", str(int(1000 * way["trip"]))]
    emulator = subprocess.Popen(
        [*driveshard, "emulate", "--root", str(root / f"drive-{name}"), *line], stdout=subprocess.PIPE, text=True
    )
    try:
        assert emulator.stdout is not None
        url = json.loads(emulator.stdout.readline())["url"]
        given = {"DRIVESHARD_HOME": str(root / f"home-{name}"), "DRIVESHARD_DRIVE_URL": url}
        push = [*driveshard, "push", source, "--name", name, "--part-size", str(int(way["part"])), "--workers", "2"]
        done = subprocess.run(
            [*push, "--json", "-q"], cwd=root, env={**os.environ, **given}, capture_output=True, text=True, check=True
        )
        return float(json.loads(done.stdout)["seconds"])
    finally:
        emulator.kill()
        emulator.wait()


def main() -> int:
    """All of it; returns 1 when a bar is missed."""
    arguments = parser(__doc__)
    arguments.add_argument("--no-real", action="store_true", help="leave out the pushes against the emulator")
    options = arguments.parse_args()
    files = FILES[:1] if options.quick else FILES
    began = time.perf_counter()
    rows = by_workers(files, WORKERS[::4] if options.quick else WORKERS)
    sizes = by_part_size(files, 64)
    took = time.perf_counter() - began
    many = [row for row in [*rows, *sizes] if row["parts"] >= 8 * row["workers"]]
    apart = [max(row["seconds"] / row["forecast"], row["forecast"] / row["seconds"]) for row in many]
    ratios = [Ratio("simulation and forecast, furthest apart", max(apart), BAR, at_most=True)]
    real = [] if options.no_real or options.quick else real_runs()
    for run in real:
        off = max(run["real"] / run["simulated"], run["simulated"] / run["real"])
        ratios.append(Ratio(f"a real push of {run['parts']} parts and its simulation", off, BAR, at_most=True))
    for row in rows:
        print(
            f"  {row['kind']:9} {row['files']:13,} files {row['workers']:4} workers, parts of"
            f" {row['part_size'] / MIB:5.0f} MiB: {row['seconds'] / 3600:9.2f} h  ({row['held_back_by']})"
        )
    return report(
        "scale", [Row("simulating", (took,))], ratios, options.json, by_workers=rows, by_part_size=sizes, real=real
    )


if __name__ == "__main__":
    sys.exit(main())
