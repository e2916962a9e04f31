"""Kill it anywhere: rounds of a push that is disturbed at random, then judged from the server's side.

    python -m tests.campaign --runs 20 --seed 1

A round makes a random source (a tree of files, pictures on backgrounds, or a Python source), starts the emulator as a
process of its own, and runs ``driveshard push`` as a process again and again until it ends with 0. Meanwhile, at random
moments, the whole process group of the push is killed, or one of its processes, or the emulator (which is started
again on the same root and port); the temp folder is emptied; rarely the ledger is deleted. The emulator plays random
fault words. The first runs of a round are disturbed; the last ones are not, so a sound program must finish.

Then the Drive is looked at with plain HTTP: every part there exactly once and byte for byte what an undisturbed build
makes, the manifest right, nothing else in the folder, nothing left in the temp folder, no process left. When the
ledger was lost on the way, parts may be cut elsewhere, and their members are compared instead. What is sent
again is told in seconds of the line for each kill or fault.

A round is decided by its seed; what the operating system's scheduler adds is not. A round that fails prints the
command that runs it again.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import textwrap
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import psutil
from PIL import Image

from driveshard.sources.base import Source
from driveshard.sources.composite.source import CompositeSource
from driveshard.sources.folder import FolderSource
from driveshard.sources.python.source import PythonSource
from driveshard.upload.plan.base import Cut
from tests.rig import Server, Shelf, fill, members_of, start_push, undisturbed

WORDS = (
    *("503", "500", "502-html", "408", "429", "429-html", "403-userRateLimit", "403-userRateLimit-dot"),
    *("403-rateLimit", "403-projectCap", "403-storageFull", "401-expired", "reset", "503-after-256K"),
    *("reset-before-reply", "stall", "slow-session", "308-short", "308-no-range", "lost-final", "final-201"),
    *("session-404", "session-410", "wrong-md5", "md5-late", "list-lag", "409-id-in-use", "publish-refused"),
    "download-quota",
)
DISTURBANCES = ("group", "group", "group", "child", "child", "server", "server", "temp")
RESUMABLE = {69, 73, 75, 76, 77, 79}
"""Exit codes that a disturbed run may end with; any other is a failure of the round."""

LEDGER_LOSS = 0.03  # of the kills of a whole group
SLIPS = {"sent-twice", "offset-gap", "chunk-size"}
"""What no kill excuses: bytes sent that the server had told to hold, or sent beyond what it holds."""
WILD_RUNS, CALM_RUNS = 8, 4
RUN_SECONDS = 180.0  # a slow session takes two minutes for the largest part
NAME = "c"
PIXELS = 200
OPTIONS = ("--writes-per-second", "40", "--workers", "2")

PYTHON_SOURCE = """
import random
COUNT, SIZE, SEED = {count}, {size}, {seed}

def sample(index):
    dice = random.Random(f"{{SEED}}:{{index}}")
    return {{"__key__": f"k{{index % 7}}/{{index:06d}}", "bin": dice.randbytes(dice.randrange(1, 2 * SIZE)),
            "json": {{"index": index}}}}

class Indexed:
    def __len__(self):
        return COUNT
    def __getitem__(self, index):
        return sample(index)

def indexed():
    return Indexed()

def stream():
    return (sample(index) for index in range(COUNT))
"""
JOB = """
name = "{name}"
[source]
kind = "composite"
backgrounds = "bg"
foregrounds = "fg"
size = 200
quality = 95
placements = {placements}
seed = {seed}
"""


# -- a round's source ------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Material:
    """What is pushed: the argument on the command line, and the same as a value for the undisturbed build."""

    argument: str
    source: Source
    part_size: int
    kind: str


def make_material(dice: random.Random, directory: Path) -> Material:
    kind = dice.choice(["tree", "tree", "tree", "composite", "indexed", "stream"])
    if kind == "tree":
        return make_tree(dice, directory)
    if kind == "composite":
        return make_job(dice, directory)
    count, size = dice.randrange(50, 400), dice.randrange(20_000, 40_000)
    (directory / "samples.py").write_text(PYTHON_SOURCE.format(count=count, size=size, seed=dice.random()))
    part_size = max(1_000_000, count * size // dice.randrange(1, 9))
    return Material(f"samples.py:{kind}", PythonSource(f"samples.py:{kind}", directory), part_size, kind)


def make_tree(dice: random.Random, directory: Path) -> Material:
    """Either many small files or fewer large ones, some megabytes in all, cut into one to a dozen parts."""
    total = dice.randrange(4_000_000, 24_000_000)
    files = dice.choice([dice.randrange(5, 40), dice.randrange(100, 800)])
    root = fill(directory / "tree", files, 4 * total // files // 3, dice.randrange(1 << 30))
    (root / "empty.txt").touch()
    return Material("tree", FolderSource(root), max(1_000_000, total // dice.randrange(1, 13)), "tree")


def make_job(dice: random.Random, directory: Path) -> Material:
    for folder, count, mode in (("bg", 3, "RGB"), ("fg", 4, "RGBA")):
        (directory / folder).mkdir()
        for number in range(count):
            noise = Image.frombytes(mode, (120, 90), dice.randbytes(120 * 90 * len(mode)))
            noise.save(directory / folder / f"{number}.png")
    placements, seed = dice.randrange(4, 16), dice.randrange(1000)
    (directory / "job.toml").write_text(JOB.format(name=NAME, placements=placements, seed=seed))
    source = CompositeSource(
        directory / "bg", directory / "fg", size=PIXELS, quality=95, placements=placements, seed=seed
    )
    return Material("job.toml", source, dice.randrange(600_000, 2_000_000), "composite")


# -- a round ---------------------------------------------------------------------------------------------------------


@dataclass
class Round:
    """What happened in one round, and what is wrong in the end."""

    seed: int
    kind: str = ""
    parts: int = 0
    runs: int = 0
    seconds: float = 0.0
    again: float = 0.0  # seconds of the line that went into bytes sent again, a kill or fault
    kills: Counter[str] = field(default_factory=Counter)
    faults: Counter[str] = field(default_factory=Counter)
    codes: Counter[int] = field(default_factory=Counter)
    problems: list[str] = field(default_factory=list)

    def line(self) -> str:
        kills = " ".join(f"{what}:{count}" for what, count in sorted(self.kills.items())) or "none"
        verdict = "ok  " if not self.problems else "FAIL"
        return (
            f"{verdict} seed {self.seed:6} {self.kind:9} {self.parts:3} parts {self.runs:2} runs, kills {kills:32}"
            f" faults {sum(self.faults.values()):3}, {self.again:5.2f} s again, {self.seconds:4.1f} s"
        )


class Player:
    """Plays one round. ``dice`` decides everything that is random."""

    def __init__(self, seed: int, directory: Path, *, quick: bool, engine: str = "processes") -> None:
        self.round = Round(seed)
        self._dice = random.Random(seed)
        self._directory = directory
        self._quick = quick
        self._engine = engine
        self._ledger_lost = False
        self._plan = ""
        self._bandwidth = ""
        self._fired: Counter[str] = Counter()

    def play(self) -> Round:
        """The whole round; its problems are in the result, never raised."""
        began = time.monotonic()
        material = make_material(self._dice, self._directory)
        self.round.kind = material.kind
        bandwidth = self._bandwidth = self._dice.choice(["6M", "12M", "30M", "100M"])
        with Server(self._directory / "drive", "--strict", "--bandwidth", bandwidth) as server:
            done = False
            while not done and not self.round.problems and self.round.runs < WILD_RUNS + CALM_RUNS:
                calm = self.round.runs >= WILD_RUNS
                self._arm(server, calm=calm)
                code = self._run(server, material, calm=calm)
                done = code == 0
                self._note_faults(server)
            server.set_faults("")
            self._judge(server, material, done)
        self.round.seconds = time.monotonic() - began
        return self.round

    def _arm(self, server: Server, *, calm: bool) -> None:
        count = 0 if calm else self._dice.choice([0, 0, 1, 1, 2, 3, 4])
        words = [] if calm else self._dice.sample(WORDS, count)
        self._plan = ",".join(word + self._marks() for word in words)
        server.set_faults(self._plan, self._dice.randrange(1 << 30))

    def _marks(self) -> str:
        if self._dice.random() < 0.5:
            return f"@{self._dice.randrange(1, 16)}*{self._dice.randrange(1, 3)}"
        return f"%{self._dice.randrange(2, 12)}*{self._dice.randrange(1, 5)}"

    def _note_faults(self, server: Server) -> None:
        """What fired since the last look, and slips of the protocol; an emulator that is started again counts anew."""
        stats = server.stats()
        fired = Counter(stats["faults_fired"])
        self.round.faults += fired - self._fired
        self._fired = fired
        self.round.problems += [f"protocol: {slip}" for slip in stats["violations"] if slip["kind"] in SLIPS]

    # -- one run -----------------------------------------------------------------------------------------------------

    def _run(self, server: Server, material: Material, *, calm: bool) -> int:
        self.round.runs += 1
        options = [
            "--name",
            NAME,
            "--part-size",
            str(material.part_size),
            "--writes-per-second",
            "40",
            "--workers",
            "3" if self._engine == "dask" else "2",
            "--engine",
            self._engine,
        ]
        process = start_push(self._directory, server.url, material.argument, *options, quick=self._quick)
        with ThreadPoolExecutor(1) as reader:  # a full pipe must not stop the push
            said = reader.submit(process.communicate)
            try:
                self._disturb(server, process, calm=calm)
            finally:
                self._end_group(process)
            _, stderr = said.result(timeout=30)
        code = process.returncode
        self.round.codes[code] += 1
        if code not in {0, -signal.SIGKILL, *RESUMABLE} or (calm and code < 0):
            self.round.problems.append(f"run {self.round.runs} ended with {code}: {stderr.strip()[-600:]}")
        return code

    def _disturb(self, server: Server, process: subprocess.Popen[str], *, calm: bool) -> None:
        end = time.monotonic() + RUN_SECONDS
        wait = self._dice.choice([0.0, 0.3, 0.8]) + self._dice.random() * 1.2
        while process.poll() is None:
            try:
                process.wait(max(0.0, end - time.monotonic()) if calm else wait)
                return
            except subprocess.TimeoutExpired:
                if time.monotonic() >= end:
                    self.round.problems.append(f"run {self.round.runs} did not end in {RUN_SECONDS:.0f} s")
                    return
                self._strike(server, process, self._dice.choice(DISTURBANCES))
                wait = 0.1 + self._dice.random()

    def _strike(self, server: Server, process: subprocess.Popen[str], what: str) -> None:
        if what == "group":
            os.killpg(process.pid, signal.SIGKILL)
            process.wait(10)
            if self._dice.random() < LEDGER_LOSS:
                self._lose_ledger()
        elif what == "child":
            if not kill_one_child(process.pid, self._dice):
                return
        elif what == "server":
            self._note_faults(server)
            server.stop(signal.SIGKILL)
            time.sleep(self._dice.random() * 0.5)
            server.start()
            self._fired = Counter()
            server.set_faults(self._plan, self._dice.randrange(1 << 30))
        else:
            shutil.rmtree(self._directory / "temp", ignore_errors=True)
        self.round.kills[what] += 1

    def _lose_ledger(self) -> None:
        shutil.rmtree(self._directory / "home" / "ledgers", ignore_errors=True)
        self._ledger_lost = True
        self.round.kills["ledger"] += 1

    def _end_group(self, process: subprocess.Popen[str]) -> None:
        """No worker may outlive the run; then nothing of it is left to disturb the next one."""
        deadline = time.monotonic() + 5
        while process.poll() is not None and group_members(process.pid) and time.monotonic() < deadline:
            time.sleep(0.02)
        left = group_members(process.pid)
        if left and process.poll() is not None:
            self.round.problems.append(f"orphans: {left}")
        try:
            os.killpg(process.pid, signal.SIGKILL)
        except ProcessLookupError:
            return

    # -- the verdict -------------------------------------------------------------------------------------------------

    def _judge(self, server: Server, material: Material, done: bool) -> None:
        problems = self.round.problems
        if not done:
            problems.append(f"unfinished: not done after {self.round.runs} runs")
            return
        expected = undisturbed(material.source, Cut(NAME, material.part_size), self._directory / "reference")
        shelf = Shelf(server.url)
        recut = None
        if self._ledger_lost:
            recut = expected_members(material, self._directory / "whole")
        problems += shelf.problems(expected, recut=recut)
        self.round.parts = sum(one["name"].endswith(".zip") for one in shelf.files)
        left = [path.name for path in (self._directory / "temp").rglob("*") if path.is_file()]
        problems += [f"temp: {left} are left"] if left else []
        twice = server.stats()["received_bytes"] - shelf.stored_bytes()
        happened = sum(self.round.kills.values()) + sum(self.round.faults.values())
        self.round.again = max(0, twice) / (int(self._bandwidth[:-1]) * 2**20) / max(1, happened)


def expected_members(material: Material, work: Path) -> dict[bytes, str]:
    """Every member's sha256, from one part that holds all."""
    cut = Cut("whole", 1 << 40)
    undisturbed(material.source, cut, work)
    return dict(members_of([(work / "reference.zip").read_bytes()]))


def kill_one_child(pid: int, dice: random.Random) -> bool:
    """False when there is none, or all ended meanwhile."""
    try:
        children = psutil.Process(pid).children(recursive=True)
        if children:
            dice.choice(children).kill()
        return bool(children)
    except psutil.NoSuchProcess:
        return False


def group_members(group: int) -> list[str]:
    """Processes of that group that still run."""
    found = []
    for process in psutil.process_iter(["pid", "name", "status"]):
        try:
            if process.info["status"] != psutil.STATUS_ZOMBIE and os.getpgid(process.info["pid"]) == group:
                found.append(f"{process.info['name']} {process.info['pid']}")
        except (ProcessLookupError, psutil.NoSuchProcess):
            continue
    return found


# -- many rounds -----------------------------------------------------------------------------------------------------


def play_round(seed: int, *, quick: bool, keep: bool, engine: str = "processes") -> Round:
    """One round in a directory of its own, which is removed if all went well."""
    directory = Path(tempfile.mkdtemp(prefix=f"campaign-{seed}-"))
    played = Player(seed, directory, quick=quick, engine=engine).play()
    if played.problems or keep:
        played.problems += [f"kept: {directory}"] if played.problems else []
    else:
        shutil.rmtree(directory, ignore_errors=True)
    return played


def summary(rounds: list[Round]) -> dict[str, object]:
    """The figures of a campaign, as docs/campaign.md has them."""
    again = [one.again for one in rounds if not one.problems] or [0.0]
    count = lambda word: sum(problem.startswith(word) for one in rounds for problem in one.problems)  # noqa: E731
    kills = sum((one.kills for one in rounds), Counter[str]())
    return {
        "rounds": len(rounds),
        "good": sum(not one.problems for one in rounds),
        "lost": count("lost"),
        "doubled": count("doubled"),
        "strays": count("stray"),
        "runs": sum(one.runs for one in rounds),
        "recoveries": sum(one.runs - 1 for one in rounds),
        "parts": sum(one.parts for one in rounds),
        "sources": dict(sorted(Counter(one.kind for one in rounds).items())),
        "kills": sum(kills.values()),
        "kills_by_kind": dict(sorted(kills.items())),
        "faults": sum(sum(one.faults.values()) for one in rounds),
        "fault_words": len({word for one in rounds for word in one.faults}),
        "exit_codes": {str(code): n for code, n in sorted(sum((one.codes for one in rounds), Counter[int]()).items())},
        "seconds_again_median": round(statistics.median(again), 3),
        "seconds_again_largest": round(max(again), 3),
        "seconds": round(sum(one.seconds for one in rounds), 1),
    }


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.campaign", description=textwrap.dedent(__doc__ or ""))
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--runs", type=int, default=25, metavar="N", help="rounds (default 25)")
    parser.add_argument("--seed", type=int, default=1, metavar="S", help="of the first round; the next ones count on")
    parser.add_argument("--jobs", type=int, default=1, metavar="N", help="rounds side by side")
    parser.add_argument("--keep", action="store_true", help="keep the directories of good rounds, too")
    parser.add_argument("--patient", action="store_true", help="the command with its true waits: ten times slower")
    parser.add_argument("--engine", default="processes", metavar="NAME", help="what packs; dask has three workers")
    options = parser.parse_args(arguments)
    rounds: list[Round] = []
    with ThreadPoolExecutor(options.jobs) as pool:
        seeds = range(options.seed, options.seed + options.runs)
        quick, keep, engine = not options.patient, options.keep, options.engine
        for played in pool.map(lambda seed: play_round(seed, quick=quick, keep=keep, engine=engine), seeds):
            rounds.append(played)
            print(played.line(), flush=True)
            for problem in played.problems:
                print(f"     {problem}", flush=True)
            if played.problems:
                patient = " --patient" if options.patient else ""
                again = f"python -m tests.campaign --runs 1 --seed {played.seed} --engine {engine}{patient}"
                print(f"     again: {again}", flush=True)
    print(json.dumps(summary(rounds), indent=1))
    return 1 if any(one.problems for one in rounds) else 0


if __name__ == "__main__":
    sys.exit(main())
