"""Packing and uploading at the same time against the longer of the two alone. Bar: 1.10 times its time.

The emulator's bandwidth is set so that both take about as long. All three are whole runs, from the start of Python to
its end, on the generator's samples:

- pack alone: a push that ends when all parts lie in the temp directory, nothing sent
- upload alone: the same push run again, which finds all parts packed and sends them
- together: a push as users run it, from nothing, with the default temp limit

Client and emulator share the machine's cores. What the emulator takes of them is on top of packing and uploading, so
the ratio also holds what a machine with Drive at the other end of a line would not see.
"""

from __future__ import annotations

import shutil
import sys
from pathlib import Path
from unittest import mock

import harness
import runs
from inputs import make_job

from driveshard.api import prepare
from driveshard.budget import Budget
from driveshard.destination import open_destination
from driveshard.events import ignore
from driveshard.job import Job, PushResult
from driveshard.ledger import Ledger
from driveshard.model import RemoteFile
from driveshard.spool import Spool
from driveshard.uploader import Uploader

BAR = 1.1
PARTS = 32


def main() -> int:
    parser = harness.parser(__doc__)
    parser.add_argument("--samples", type=int, default=60_000)
    parser.add_argument("--pictures", type=int, default=20, metavar="N", help="backgrounds, and as many foregrounds")
    parser.add_argument("--parts", type=int, default=PARTS)
    parser.add_argument("--temp", type=Path, metavar="DIR", help="where parts and the emulated Drive are")
    parser.add_argument("--pack-only", nargs=2, metavar=("JOB", "TEMP"), help="internal: pack and send nothing")
    options = parser.parse_args()
    if options.pack_only:
        return pack_only(*options.pack_only)
    samples, parts = (8_000, 12) if options.quick else (options.samples, options.parts)
    with runs.workplace(options.temp, quick=options.quick) as temp:
        job, samples = make_job(temp, options.pictures, samples, -(-samples // parts))
        trial = _Turn(temp, job, None)
        packing = trial.pack_alone()
        size = trial.upload_alone_bytes()
        turn = _Turn(temp, job, int(size / packing))
        ways = {"pack alone": turn.pack_alone, "upload alone": turn.upload_alone, "together": turn.together}
        rows = harness.measure(ways, 1 if options.quick else options.repeat)
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


class _Turn:
    """The three ways, in turns. ``bandwidth`` is that of the emulator in bytes a second, None for no limit."""

    def __init__(self, temp: Path, job: Path, bandwidth: int | None) -> None:
        self._temp = temp
        self._job = job
        self._bandwidth = bandwidth

    def pack_alone(self) -> float:
        self._clear()
        with self._drive() as url:
            command = [sys.executable, __file__, "--pack-only", str(self._job), str(self._temp / "spool")]
            return runs.watched(command, runs.environment(self._temp / "home", url), self._temp / "spool").seconds

    def upload_alone(self) -> float:
        """Sends what the last ``pack_alone`` left."""
        return self._push().seconds

    def upload_alone_bytes(self) -> int:
        return int(self._push().result["sent_bytes"])

    def together(self) -> float:
        self._clear()
        return self._push().seconds

    def _push(self) -> runs.Run:
        with self._drive() as url:
            return runs.push(self._job, url, self._temp / "home", self._temp / "spool")

    def _drive(self) -> object: ...

    def _clear(self) -> None:
        for folder in ("drive", "home", "spool"):
            shutil.rmtree(self._temp / folder, ignore_errors=True)
