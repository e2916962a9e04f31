"""How full the line is: a whole push against the plainest uploader (three threads, one PUT a part) on the same line.

The emulator plays the line, in a process of its own, with a bandwidth that all connections share and a round trip for
every request; both uploaders send as many bytes in as many parts, in turns. The push reads and packs its files, proves
each part, publishes, and shares; the other one sends parts that lie ready. Beside these:

- ``small``: 1 MiB in one part, shared, and the same again with nothing to do: seconds and requests
- ``tenth``, ``reset``, ``outage``: the line is a tenth for some seconds, a twentieth of the requests with content are
  reset half way, every connection drops for 30 s; against what the line allowed
- ``kill``: SIGKILL at a random moment, then the same push again; what was sent twice, in seconds of the line, when the
  server keeps its 256 KiB blocks of a broken request and when it keeps nothing
"""

from __future__ import annotations

import json
import os
import random
import shutil
import subprocess
import sys
import threading
import time
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import harness
import runs

MIB = runs.MIB
FILE = 1 * MIB
PLAIN = Path(__file__).with_name("plain_uploader.py")


@dataclass(frozen=True)
class Case:
    """``mib`` in ``parts`` on a line of ``rate`` bytes a second and ``latency`` ms. ``bar``: push / plain at most."""

    mib: int
    parts: int
    rate: int
    latency: float = 300
    bar: float | None = None

    @property
    def name(self) -> str:
        return f"{self.mib} MiB in {self.parts}, {self.rate / 1e6:g} MB/s, {self.latency:g} ms"


CASES = (
    Case(256, 4, 20_000_000, bar=1.08),
    Case(256, 1, 20_000_000, bar=1.08),
    Case(32, 4, 4_000_000, bar=1.20),
    Case(8, 4, 2_000_000, bar=1.60),
    Case(2048, 4, 100_000_000, 100, bar=1.08),
)
WORST = Case(128, 4, 8_000_000)  # for the lines that fail
LARGE_MEMORY = 150 * MIB


class Bench:
    """One case's files, an emulator, and turns of both uploaders."""

    def __init__(self, root: Path, case: Case) -> None:
        self.root = root
        self.case = case
        self.memory = 0
        self.turn = 0
        self.source, self.ready = root / "source", root / "ready"
        self.source.mkdir(parents=True)
        self.ready.mkdir()
        for number in range(case.mib * MIB // FILE):
            (self.source / f"{number:05d}.bin").write_bytes(os.urandom(FILE))
        for number in range(case.parts):
            with (self.ready / f"{number}.zip").open("wb") as out:
                for one in sorted(self.source.iterdir())[: case.mib * MIB // FILE // case.parts]:
                    out.write(one.read_bytes())

    def drive(self) -> Any:
        self.turn += 1
        return runs.emulated_drive(
            self.root / f"drive-{self.turn}", bandwidth=self.case.rate, latency_ms=self.case.latency
        )

    def options(self) -> list[str]:
        # A part's own headers come on top of its files; a little room keeps the number of parts.
        return ["--part-size", str(self.case.mib * MIB // self.case.parts + 65536), "--name", "line"]

    def push(self, url: str, *more: str) -> runs.Run:
        done = runs.push(self.source, url, self.root / "home", self.root / "spool", *self.options(), *more)
        assert done.result["parts"] == self.case.parts, done.result
        self.memory = max(self.memory, done.memory["main"])
        return done

    def forget(self) -> None:
        for folder in ("home", "spool"):
            shutil.rmtree(self.root / folder, ignore_errors=True)
        shutil.rmtree(self.root / f"drive-{self.turn}", ignore_errors=True)

    def time_push(self) -> float:
        with self.drive() as url:
            seconds = self.push(url).seconds
        self.forget()
        return seconds

    def time_plain(self) -> float:
        with self.drive() as url:
            start = time.perf_counter()
            subprocess.run([sys.executable, PLAIN, url, *sorted(self.ready.iterdir())], check=True)
            seconds = time.perf_counter() - start
        self.forget()
        return seconds


def told(url: str, what: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
    """Ask the emulator about itself, or tell it what to do."""
    data = None if body is None else json.dumps(body).encode()
    with urllib.request.urlopen(urllib.request.Request(f"{url}/_emulator/{what}", data), timeout=30) as reply:
        return dict(json.loads(reply.read()))


def small(root: Path) -> list[harness.Ratio]:
    """1 MiB in one part, shared; and a second time."""
    bench = Bench(root, Case(1, 1, 20_000_000))
    with bench.drive() as url:
        first = bench.push(url, "--share", "anyone")
        again = bench.push(url)
    return [
        harness.Ratio("1 MiB in one part, shared: seconds", first.seconds, 4.0, at_most=True),
        harness.Ratio("1 MiB in one part, shared: requests", first.result["requests"], 12, at_most=True),
        harness.Ratio("nothing to do: seconds", again.seconds, 1.0, at_most=True),
    ]


def failing(root: Path, case: Case, words: str, change: dict[str, Any] | None, allowed: float) -> harness.Ratio:
    """A push on a line that fails, by fault ``words`` or by a ``change`` in the middle of it, against the seconds that
    the same push takes on a good line and the ``allowed`` ones on top."""
    bench = Bench(root, case)
    clean = bench.time_push()
    with bench.drive() as url:
        told(url, "faults", {"faults": words, "seed": 1})
        seconds = bench.push(url).seconds if change is None else _push_with(bench, url, clean, change, allowed)
    what = words or next(iter(change or {}))
    return harness.Ratio(
        f"{what}: seconds, against what the line allowed", seconds / (clean + allowed), 1.15, at_most=True
    )


def _push_with(bench: Bench, url: str, clean: float, change: dict[str, Any], lasts: float) -> float:
    def disturb() -> None:
        time.sleep(clean / 2)
        told(url, "line", change)
        if "factor" in change:
            time.sleep(lasts / (1 - change["factor"]))
            told(url, "line", {"factor": 1 / change["factor"]})

    thread = threading.Thread(target=disturb, daemon=True)
    thread.start()
    seconds = bench.push(url).seconds
    thread.join()
    return seconds


def killed(root: Path, case: Case, words: str, kills: int, bar: float) -> harness.Ratio:
    """Mean seconds of the line that a kill costs."""
    bench = Bench(root, case)
    dice = random.Random(7)
    usual = case.mib * MIB / case.rate
    with bench.drive() as url:
        told(url, "faults", {"faults": words})
        for _ in range(kills):
            command = [sys.executable, "-m", "driveshard", "push", str(bench.source), "--temp", str(root / "spool")]
            process = subprocess.Popen(
                [*command, *bench.options()],
                env=runs.environment(root / "home", url),
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                start_new_session=True,
            )
            try:
                process.wait(2.0 + dice.random() * usual / kills)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, 9)
                process.wait()
        bench.push(url)
        stats = told(url, "stats")
    cost = (stats["received_bytes"] - stats["stored_bytes"]) / case.rate / kills
    return harness.Ratio(f"a kill, {words or 'blocks are kept'}: seconds of the line", cost, bar, at_most=True)


def main() -> int:
    """Run the rows that are named, or all of them; returns 1 when a bar is missed."""
    parser = harness.parser(__doc__)
    parser.add_argument("--rows", default="", help="cases by number (1-5), small, tenth, reset, outage, kill")
    parser.add_argument("--temp", type=Path, metavar="DIR")
    options = parser.parse_args()
    wanted = set(options.rows.split(",")) - {""} or ({"3", "small"} if options.quick else {*"12345", *_OTHERS})
    rows: list[harness.Row] = []
    ratios: list[harness.Ratio] = []
    memory = 0
    for number, case in enumerate(CASES, 1):
        if str(number) in wanted:
            with runs.workplace(options.temp or harness.memory_backed(), quick=False) as root:
                bench = Bench(root, case)
                ways = {f"plain {case.name}": bench.time_plain, f"push {case.name}": bench.time_push}
                timed = list(harness.measure(ways, 1 if options.quick else options.repeat).values())
            rows += timed
            ratios.append(harness.Ratio(case.name, timed[1].median / timed[0].median, case.bar, at_most=True))
            memory = max(memory, bench.memory)
    for name in _OTHERS:
        if name in wanted:
            with runs.workplace(options.temp or harness.memory_backed(), quick=False) as root:
                ratios += _other(name, root)
    if memory:
        ratios.append(harness.Ratio("peak memory, against 150 MiB", memory / LARGE_MEMORY, 1.0, at_most=True))
    return harness.report("line", rows, ratios, options.json, peak_memory_mib=runs.mib(memory))


_OTHERS = ("small", "tenth", "reset", "outage", "kill")


def _other(name: str, root: Path) -> list[harness.Ratio]:
    if name == "small":
        return small(root)
    if name == "kill":
        large = CASES[-1]
        return [killed(root / "kept", large, "", 5, 10.0), killed(root / "lost", large, "keep-nothing*", 5, 25.0)]
    if name == "tenth":
        return [failing(root, WORST, "", {"factor": 0.1}, 9.0)]
    if name == "outage":
        return [failing(root, WORST, "", {"outage": 30.0}, 30.0)]
    return [failing(root, WORST, "reset%5", None, 0.0)]


if __name__ == "__main__":
    sys.exit(main())
