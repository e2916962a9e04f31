"""The whole job that driveshard was made for: 100 backgrounds x 100 foregrounds x 2 flips x 20 placements.

400,000 images and as many masks (and labels) are generated, packed and pushed by one real command, once, to an
emulator at Drive's pace: 3 writes a second, 300 ms a request, no limit of bandwidth. Recorded: seconds, peak memory of
the command and of its workers, peak temp disk, parts, bytes. Told beside it: the 17 minutes that the author of the
original script reports for generating the files alone, on another machine.
"""

from __future__ import annotations

import sys
from pathlib import Path

import harness
import runs
from inputs import make_job

SAMPLES, PICTURES = 400_000, 100
PACE, LATENCY_MS = 3.0, 300.0
AUTHOR_SECONDS = 17 * 60.0  # for 800,000 files, not packed, not uploaded


def main() -> int:
    """One run of the whole job; prints seconds, peak memory and peak temp disk (MiB)."""
    parser = harness.parser(__doc__)
    parser.add_argument("--samples", type=int, default=SAMPLES, help="about so many, by fewer pictures")
    parser.add_argument("--part-samples", type=int, default=4000)
    parser.add_argument("--temp", type=Path, metavar="DIR", help="where temp parts and the emulated Drive are")
    options = parser.parse_args()
    wanted = 2_000 if options.quick else options.samples
    pictures = max(2, round(PICTURES * (wanted / SAMPLES) ** 0.5))
    with runs.workplace(options.temp, quick=options.quick) as temp:
        job, samples = make_job(temp, pictures, wanted, min(options.part_samples, -(-wanted // 2)))
        with runs.emulated_drive(temp / "drive", latency_ms=LATENCY_MS, writes_per_second=PACE) as url:
            run = runs.push(job, url, temp / "home", temp / "spool")
    assert run.result["state"] == "complete" and run.result["samples"] == samples
    rows = [harness.Row("driveshard: generate, pack, upload", (run.seconds,))]
    author = AUTHOR_SECONDS * samples / SAMPLES
    return harness.report(
        "full_job",
        rows,
        [harness.Ratio("quicker than the author's generating alone", author / run.seconds)],
        options.json,
        samples=samples,
        pictures=f"{pictures}+{pictures}",
        files=run.result["files"],
        parts=run.result["parts"],
        mib=runs.mib(run.result["bytes"]),
        samples_a_second=round(samples / run.seconds),
        author_seconds=round(author, 1),
        main_peak_mib=runs.mib(run.memory["main"]),
        worker_peak_mib=runs.mib(run.memory.get("worker", 0)),
        temp_peak_mib=runs.mib(run.peak_temp),
        requests=run.result["requests"],
    )


if __name__ == "__main__":
    sys.exit(main())
