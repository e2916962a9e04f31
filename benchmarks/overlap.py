"""Packing and uploading at the same time against the longer of the two alone. Bar: 1.10 times its time.

The emulator's bandwidth is set so that both take about as long. All three are whole runs, from the start of Python to
its end, on the generator's samples:

- pack alone: a push that ends when all parts lie in the temp directory, nothing sent
- upload alone: the same push run again, which finds all parts packed and sends them
- together: a push as users run it, from nothing, with the default temp limit

While the first parts are packed nothing can be uploaded, and the last one is uploaded when nothing is left to pack, so
the ratio depends on the number of parts, and what every run takes weighs more in a small job. By default it is half of
the job that all this was made for: 200,000 samples in 64 parts. Client and emulator share the machine's cores: what the
emulator takes of them comes on top, and the ratio holds it, too.
"""

from __future__ import annotations

import shutil
import sys
from pathlib import Path
from typing import Any
from unittest import mock

import harness
import runs
from inputs import make_job

from driveshard.core.events import ignore
from driveshard.storage.registry import open_destination
from driveshard.upload.dataset_folder.ahead import Ahead
from driveshard.upload.push import prepare
from driveshard.upload.result import PushResult
from driveshard.upload.run import Run
from driveshard.upload.send.uploader import Uploader

BAR = 1.1


def main() -> int:
    """Set the bandwidth by a trial, then time the three ways in turns, in seconds; returns 1 when the bar is missed."""
    parser = harness.parser(__doc__)
    parser.add_argument("--samples", type=int, default=200_000)
    parser.add_argument("--pictures", type=int, default=20, metavar="N", help="backgrounds, and as many foregrounds")
    parser.add_argument("--parts", type=int, default=64)
    parser.add_argument("--temp", type=Path, metavar="DIR", help="where parts and the emulated Drive are")
    parser.add_argument("--pack-only", nargs=3, metavar=("JOB", "TEMP", "NAME"), help="internal: pack and send nothing")
    options = parser.parse_args()
    if options.pack_only:
        return pack_only(*options.pack_only)
    samples, parts = (2_000, 6) if options.quick else (options.samples, options.parts)
    with runs.workplace(options.temp, quick=options.quick) as temp:
        job, samples = make_job(temp, options.pictures, samples, -(-samples // parts))
        with runs.emulated_drive(temp / "trial") as url:
            trial = _Ways(temp, job, url)
            packing = min(trial.pack_alone() for _ in range(2))  # the first one finds less in caches
            size = trial.push().result["sent_bytes"]
        shutil.rmtree(temp / "trial")
        with runs.emulated_drive(temp / "drive", bandwidth=int(size / packing)) as url:
            ways = _Ways(temp, job, url)
            rows = harness.measure(
                {"pack alone": ways.pack_alone, "upload alone": ways.upload_alone, "together": ways.together},
                1 if options.quick else options.repeat,
            )
    longer = max(rows["pack alone"].median, rows["upload alone"].median)
    ratios = [
        harness.Ratio("together against the longer alone", rows["together"].median / longer, BAR, at_most=True),
        harness.Ratio(
            "pack alone + upload alone against together",
            (rows["pack alone"].median + rows["upload alone"].median) / rows["together"].median,
        ),
    ]
    return harness.report(
        "overlap",
        list(rows.values()),
        ratios,
        options.json,
        samples=samples,
        parts=parts,
        mib=runs.mib(size),
        mib_a_second=runs.mib(size / packing),
    )


class _Ways:
    """The three ways to run ``job`` to the Drive at ``url``; each returns its seconds."""

    def __init__(self, temp: Path, job: Path, url: str) -> None:
        self._temp = temp
        self._job = job
        self._url = url
        self._turn = 0

    def pack_alone(self) -> float:
        self._forget()
        command = [sys.executable, __file__, "--pack-only", str(self._job), str(self._temp / "spool"), self._name]
        environment = runs.environment(self._temp / "home", self._url)
        return runs.watched(command, environment, self._temp / "spool").seconds

    def upload_alone(self) -> float:
        """What ``pack_alone`` left is sent."""
        return self.push().seconds

    def together(self) -> float:
        self._forget()
        return self.push().seconds

    def push(self) -> runs.Run:
        return runs.push(self._job, self._url, self._temp / "home", self._temp / "spool", "--name", self._name)

    @property
    def _name(self) -> str:
        return f"turn-{self._turn}"

    def _forget(self) -> None:
        """The next push is another dataset's: of one with the same name it would find all parts on the Drive."""
        self._turn += 1
        for folder in ("home", "spool"):
            shutil.rmtree(self._temp / folder, ignore_errors=True)


class _Packing(Run):
    """A push that ends when everything is packed: nothing is sent, and nothing published."""

    def _run_pipeline(self, *arguments: Any) -> None:
        with (
            mock.patch.object(Uploader, "upload", lambda uploader, number: None),
            mock.patch.object(Ahead, "begin", lambda ahead: None),
        ):
            super()._run_pipeline(*arguments)

    def _finish(self, *arguments: Any) -> None:
        """The parts stay where they are."""


def pack_only(job: str, temp: str, name: str) -> int:
    """Run the job's push up to the temp directory, which may grow as it needs."""
    task = prepare(
        job, {"temp": Path(temp), "temp_limit": shutil.disk_usage(Path(temp).parent).free // 2, "name": name}
    )
    destination = open_destination(task.options.to, task.settings)
    result = PushResult(name)
    _Packing(name, task.options, task.source, task.settings, destination, ignore, result).run()
    print(f'{{"parts": {result.parts}}}')
    return 0


if __name__ == "__main__":
    sys.exit(main())
