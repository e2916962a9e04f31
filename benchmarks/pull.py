"""How long a pull takes with all its proof, against a plain script that sends one GET a part from three threads and
proves nothing: 256 MiB in 4 parts from the emulator, at 20 MB/s and 300 ms a request.

The parts are random bytes in zips of one member each; they are stored into the emulator before its line is slowed. The
plain script knows the ids beforehand; driveshard finds them by the folder's list and the manifest.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import harness

MIB = 1 << 20
PARTS, THREADS = 4, 3


def call(url: str, path: str, body: Any = None) -> Any:
    request = urllib.request.Request(url + path, headers={"Authorization": "Bearer emulator"})
    if body is not None:
        request.data = json.dumps(body).encode()
    with urllib.request.urlopen(request) as reply:
        return json.loads(reply.read() or b"null")


@contextmanager
def drive(root: Path) -> Any:
    """The address of an emulator in a process of its own."""
    command = [sys.executable, "-m", "driveshard.emulator", "--root", str(root)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        yield json.loads(process.stdout.readline())["url"]
    finally:
        process.kill()
        process.wait()


def publish(work: Path, url: str, mib: int) -> dict[str, Any]:
    """Push a dataset of PARTS parts of ``mib`` MiB in all; returns the push's result."""
    source = work / "source"
    source.mkdir()
    for number in range(PARTS):
        with (source / f"{number}.bin").open("wb") as out:
            for _ in range(mib // PARTS):
                out.write(os.urandom(MIB))
    environment = {**os.environ, "DRIVESHARD_DRIVE_URL": url, "DRIVESHARD_HOME": str(work / "owner")}
    options = ["--part-size", f"{mib // PARTS + 1}MiB", "--share", "anyone", "--name", "b", "--json", "-q"]
    command = [sys.executable, "-m", "driveshard", "push", str(source), *options]
    done = subprocess.run(command, env=environment, check=True, capture_output=True, text=True)
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    assert result["parts"] == PARTS, result
    shutil.rmtree(source)
    return result


def plain(url: str, parts: list[tuple[str, str]], out: Path) -> float:
    """Seconds of the plain script."""

    def one(part: tuple[str, str]) -> None:
        name, file_id = part
        request = urllib.request.Request(f"{url}/drive/v3/files/{file_id}?alt=media&key=k")
        with urllib.request.urlopen(request) as reply, (out / name).open("wb") as file:
            shutil.copyfileobj(reply, file, MIB)

    start = time.perf_counter()
    with ThreadPoolExecutor(THREADS) as pool:
        list(pool.map(one, parts))
    return time.perf_counter() - start


def ours(url: str, link: str, out: Path, home: Path, key: str | None) -> tuple[float, int]:
    """Seconds of a pull in this process, and how much memory it took more at its peak."""
    from dataclasses import replace

    from driveshard.config.settings import settings_from
    from driveshard.core.events import ignore
    from driveshard.dataset.pull import pull_into
    from driveshard.dataset.selection import Selection

    settings = settings_from({"DRIVESHARD_DRIVE_URL": url, "DRIVESHARD_HOME": str(home)})
    start = time.perf_counter()
    result = pull_into(link, out, Selection(), replace(settings, api_key=key), ignore)
    seconds = time.perf_counter() - start
    assert result.verified and result.parts == PARTS
    return seconds, result.bytes


def main() -> int:
    """Time the three in turns; returns 1 when the bar is missed."""
    parser = harness.parser(__doc__)
    parser.add_argument("--mib", type=int, default=256, help="size of all parts (default: %(default)s)")
    options = parser.parse_args()
    mib = 64 if options.quick else options.mib
    with tempfile.TemporaryDirectory(dir=harness.memory_backed()) as folder, drive(Path(folder) / "drive") as url:
        work = Path(folder)
        result = publish(work, url, mib)
        listed = call(url, f"/drive/v3/files?q='{result['folder_id']}'+in+parents&fields=files(id,name)")["files"]
        parts = [(one["name"], one["id"]) for one in listed if one["name"].endswith(".zip")]
        call(url, "/_emulator/line", {"bandwidth": 20_000_000, "latency_ms": 300})
        out = work / "out"

        def fresh() -> None:
            shutil.rmtree(out, ignore_errors=True)
            out.mkdir()

        candidates = {
            "plain script, three threads": lambda: plain(url, parts, out),
            "driveshard pull, API key": lambda: ours(url, result["link"], out, work / "home", "k")[0],
            "driveshard pull, no login": lambda: ours(url, result["link"], out, work / "home", None)[0],
        }
        rows = harness.measure(candidates, options.repeat, fresh)
    script = rows["plain script, three threads"].median
    ratios = [
        harness.Ratio(
            "pull with proof / plain script", rows["driveshard pull, API key"].median / script, 1.08, at_most=True
        ),
        harness.Ratio("pull without a login / plain script", rows["driveshard pull, no login"].median / script),
    ]
    return harness.report("pull", list(rows.values()), ratios, options.json, mib=mib, parts=PARTS)


if __name__ == "__main__":
    sys.exit(main())
