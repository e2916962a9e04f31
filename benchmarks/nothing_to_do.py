"""``push`` with nothing to do against one walk of the same tree with os.scandir and stat. Bar: twice the walk's time.

The files are pushed once, to an emulator. Then walk and push take turns as calls in one process, both after a turn
that is not counted: this is what the bar stands on. Both are also run as whole commands, which adds the start of
Python and, for push, Google's client library: reported only.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import harness
import runs
from inputs import make_tree
from walk import walk

import driveshard

BAR, MOST_REQUESTS = 2.0, 5


def main() -> int:
    """Push once, then time the push again against a bare walk, in seconds; returns 1 when a bar is missed."""
    parser = harness.parser(__doc__)
    parser.add_argument("--files", type=int, default=800_000, metavar="N")
    parser.add_argument("--file-size", type=int, default=1200, metavar="BYTES")
    parser.add_argument("--part-size", default="64MiB", metavar="SIZE")
    parser.add_argument("--temp", type=Path, metavar="DIR", help="where the tree is made (default: the system's)")
    options = parser.parse_args()
    count = min(options.files, 50_000) if options.quick else options.files
    with runs.workplace(options.temp, quick=options.quick) as temp:
        make_tree(temp / "tree", count, options.file_size)
        with runs.emulated_drive(temp / "drive") as url:
            first = runs.push(temp / "tree", url, temp / "home", temp / "spool", "--part-size", options.part_size)
            assert first.result["files"] == count
            os.environ |= runs.environment(temp / "home", url)
            rows, requests = _take_turns(temp, options.part_size, options.repeat)
    ratios = [
        harness.Ratio("push against the walk", rows["push"].median / rows["walk"].median, BAR, at_most=True),
        harness.Ratio("as whole commands", rows["push, command"].median / rows["walk, command"].median),
        harness.Ratio("requests to Drive", requests, MOST_REQUESTS, at_most=True),
    ]
    return harness.report(
        "nothing_to_do",
        list(rows.values()),
        ratios,
        options.json,
        files=count,
        requests=requests,
        first_push_seconds=round(first.seconds, 1),
    )


def _take_turns(temp: Path, part_size: str, repeat: int) -> tuple[dict[str, harness.Row], int]:
    """The rows, and the requests of a push with nothing to do."""
    tree = str(temp / "tree")
    requests = []

    def push() -> None:
        result = driveshard.push(tree, part_size=part_size, temp=temp / "spool")
        assert result.state == "complete" and result.sent_bytes == 0
        requests.append(result.requests)

    def push_command() -> float:
        """The whole command, with the start of Python; returns seconds."""
        return runs.push(
            temp / "tree",
            os.environ["DRIVESHARD_DRIVE_URL"],
            temp / "home",
            temp / "spool",
            "--part-size",
            part_size,
        ).seconds

    walk(tree)
    push()
    rows = harness.measure({"walk": lambda: walk(tree), "push": push}, repeat)

    def walk_command() -> None:
        command = [sys.executable, str(Path(__file__).with_name("walk.py")), tree]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)

    rows |= harness.measure({"walk, command": walk_command, "push, command": push_command}, repeat)
    return rows, max(requests)


if __name__ == "__main__":
    sys.exit(main())
