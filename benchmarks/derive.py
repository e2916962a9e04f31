"""How long `derive` takes with a function that only copies a field, against `pull` and then `push` of the same bytes:
all on this machine, 20,000 samples in a directory, two workers.

What is pulled are zips, and they are pushed as they are, so that nothing but whole files is copied and proved on that
side; derive opens every sample, hands it to Python code, and packs what it returns. Also told: the most bytes that lay
in the temp folder, in parts, and memory against that of a fifth of the samples.
"""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

import harness
from runs import Run, environment, mib, watched, workplace

SAMPLES, PARTS, WORKERS = 20_000, 10, 2
CODE = """
import random
import driveshard

class Many:
    def __len__(self):
        return {samples}

    def __getitem__(self, number):
        dice = random.Random(number)
        data = dice.randbytes(dice.randrange(1500, 4500))
        return driveshard.Sample(f"d{{number % 3}}/{{number:06d}}", {{"jpg": data}})

def copy(samples):
    return [{{"jpg": sample["jpg"]}} for sample in samples]
"""


class Place:
    """A directory with a dataset of so many samples, and the commands that are timed there."""

    def __init__(self, work: Path, samples: int) -> None:
        self.work = work
        work.mkdir()
        (work / "code.py").write_text(CODE.format(samples=samples))
        self._env = environment(work / "home", "")
        options = ("--name", "source", "--part-samples", str(-(-samples // PARTS)))
        self.parts = self._run("push", f"{work}/code.py:Many", *options, temp="temp").result["parts"]

    def fresh(self) -> None:
        for name in ("pulled", "out/pushed", "out/derived", "home", "temp"):
            shutil.rmtree(self.work / name, ignore_errors=True)

    def pull_and_push(self) -> float:
        pulled = self._run("pull", f"file:{self.work}/out/source", f"{self.work}/pulled", temp="pulled", to=False)
        pushed = self._run("push", f"{self.work}/pulled", "--name", "pushed", temp="temp")
        return pulled.seconds + pushed.seconds

    def derive(self) -> Run:
        options = ("--name", "derived", "--workers", str(WORKERS))
        return self._run("derive", f"{self.work}/out/source", f"{self.work}/code.py:copy", *options, temp="temp")

    def largest(self) -> int:
        """Bytes of the largest derived part."""
        return max(path.stat().st_size for path in (self.work / "out" / "derived").glob("*.zip"))

    def same_bytes(self) -> bool:
        """Whether derived members are those of the source."""
        manifests = [
            json.loads((self.work / "out" / name / "manifest.json").read_text()) for name in ("source", "derived")
        ]
        return [part["sha256"] for part in manifests[0]["parts"]] == [part["sha256"] for part in manifests[1]["parts"]]

    def _run(self, *words: str, temp: str, to: bool = True) -> Run:
        where = ("--to", f"file:{self.work}/out", "--temp", f"{self.work}/temp") if to else ()
        return watched(
            [sys.executable, "-m", "driveshard", *words, *where, "--json", "-q"], self._env, self.work / temp
        )


def main() -> int:
    """Time both in turns; returns 1 when a bar is missed."""
    parser = harness.parser(__doc__)
    parser.add_argument("--samples", type=int, default=SAMPLES, help="how many (default: %(default)s)")
    options = parser.parse_args()
    samples = 5000 if options.quick else options.samples
    with workplace(None, quick=True) as work:
        place = Place(work / "whole", samples)
        runs: list[Run] = []

        def derive() -> float:
            runs.append(place.derive())
            return runs[-1].seconds

        rows = harness.measure({"pull, then push": place.pull_and_push, "derive": derive}, options.repeat, place.fresh)
        assert place.same_bytes()
        most_parts = max(run.peak_temp for run in runs) / place.largest()
        memory = {name: max(run.memory.get(name, 0) for run in runs) for name in ("main", "worker")}
        fifth = Place(work / "fifth", samples // 5)
        fifth.fresh()
        less = fifth.derive().memory
    ratios = [
        harness.Ratio(
            "derive / pull and push", rows["derive"].median / rows["pull, then push"].median, 1.3, at_most=True
        ),
        harness.Ratio("parts in the temp folder at a time", most_parts, 3.0, at_most=True),
        harness.Ratio("memory / that for a fifth", max(memory.values()) / max(less.values()), 1.15, at_most=True),
    ]
    details = {f"{name}_mib": mib(size) for name, size in memory.items()}
    return harness.report(
        "derive", list(rows.values()), ratios, options.json, samples=samples, parts=place.parts, **details
    )


if __name__ == "__main__":
    sys.exit(main())
