"""How long `driveshard view LINK` takes from the command to the first 48 samples with all their 96 pictures: 800,000
samples at 300 ms a request, the first time, with the index to be fetched (74 MB), and later, with the index kept.

Beside it what nobody can save: the requests that depend on each other (folder, manifest, samples; the first time the
index, too), made one after the other by a plain script that knows all ids. The bars are those 2 seconds that a person
waits for a page. No browser is in it: the page's own requests are made as one makes them, six at a time.
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
from pathlib import Path
from typing import Any

import harness
from pull import call, drive

BAR = 2.0  # seconds
SOURCE = """
import io
from PIL import Image, ImageDraw
import driveshard


def drawn(mode, number):
    image = Image.new(mode, (96, 96), "navy" if mode == "RGB" else 0)
    ImageDraw.Draw(image).ellipse((10 + number, 20, 70 + number, 80), fill="orange" if mode == "RGB" else 255)
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=40)
    return buffer.getvalue()


PAIRS = [{"image.jpg": drawn("RGB", number), "mask.jpg": drawn("L", number)} for number in range(10)]


class Pairs:
    def __len__(self):
        return COUNT

    def __getitem__(self, at):
        return driveshard.Sample(f"bg_{at // 8000:03d}/fg_{at // 80 % 100:03d}_o_{at % 80:02d}", PAIRS[at % 10])
"""


def publish(work: Path, url: str, samples: int) -> dict[str, Any]:
    """Push the dataset; returns the push's result."""
    (work / "pairs.py").write_text(SOURCE.replace("COUNT", str(samples)))
    environment = {**os.environ, "DRIVESHARD_DRIVE_URL": url, "DRIVESHARD_HOME": str(work / "home")}
    options = ["--part-size", "64MiB", "--share", "anyone", "--writes-per-second", "1000", "--json", "-q"]
    command = [sys.executable, "-m", "driveshard", "push", "pairs.py:Pairs", *options]
    done = subprocess.run(command, cwd=work, env=environment, check=True, capture_output=True, text=True)
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    assert result["samples"] == samples, result
    return result


def first_page(link: str, home: Path) -> float:
    """Seconds from the command to all pictures of the first page."""
    start = time.perf_counter()
    command = [sys.executable, "-m", "driveshard", "view", link, "--no-browser", "-q"]
    environment = {**os.environ, "DRIVESHARD_HOME": str(home)}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as process:
        assert process.stdout is not None
        address = process.stdout.readline().strip()
        page = json.loads(fetched(f"{address}page"))
        pictures = [one["id"] for sample in page["samples"] for one in sample["images"]]
        with ThreadPoolExecutor(6) as pool:
            found = list(pool.map(lambda one: fetched(f"{address}image/{one}"), pictures))
        seconds = time.perf_counter() - start
        process.terminate()
    assert len(found) == 96 and all(one.startswith(b"\xff\xd8") for one in found)
    return seconds


def fetched(address: str, **headers: str) -> bytes:
    with urllib.request.urlopen(urllib.request.Request(address, headers=headers)) as reply:
        return bytes(reply.read())


def requests(url: str, folder: str, ids: dict[str, str], *, index: bool) -> float:
    """Seconds of a plain script: the requests that have to wait for each other, and all bytes that the page needs."""
    start = time.perf_counter()
    bearer = {"Authorization": "Bearer emulator"}
    call(url, f"/drive/v3/files?q='{folder}'+in+parents&fields=files(id,name,size)")
    for name in ["manifest.json", *["index.npz"] * index]:
        fetched(f"{url}/drive/v3/files/{ids[name]}?alt=media", **bearer)
    part = min(name for name in ids if name.endswith(".zip"))
    fetched(f"{url}/drive/v3/files/{ids[part]}?alt=media", **bearer, Range="bytes=0-100999")
    return time.perf_counter() - start


def main() -> int:
    """Time the starts in turns; returns 1 when a bar is missed."""
    options = harness.parser(__doc__).parse_args()
    samples = 50_000 if options.quick else 800_000
    with tempfile.TemporaryDirectory(dir=harness.memory_backed()) as folder, drive(Path(folder) / "drive") as url:
        work = Path(folder)
        result = publish(work, url, samples)
        home, kept = work / "home", work / "home" / "cache"
        listed = call(url, f"/drive/v3/files?q='{result['folder_id']}'+in+parents&fields=files(id,name)")["files"]
        ids = {one["name"]: one["id"] for one in listed}
        call(url, "/_emulator/line", {"latency_ms": 300})

        def first() -> float:
            shutil.rmtree(kept, ignore_errors=True)
            return first_page(result["link"], home)

        candidates = {
            "first start, the index fetched": first,
            "later start, the index kept": lambda: first_page(result["link"], home),
            "bare requests with the index": lambda: requests(url, result["folder_id"], ids, index=True),
            "bare requests without it": lambda: requests(url, result["folder_id"], ids, index=False),
        }
        rows = harness.measure(candidates, options.repeat)
    took = {name: row.median for name, row in rows.items()}
    anew, later, plain_anew, plain = took.values()
    ratios = [
        harness.Ratio("first page, the index kept / 2 s", later / BAR, 1.0, at_most=True),
        harness.Ratio("first page, the index fetched / 2 s", anew / BAR),
        harness.Ratio("first page, the index kept / bare requests", later / plain),
        harness.Ratio("first page, the index fetched / bare requests", anew / plain_anew),
    ]
    return harness.report("view", list(rows.values()), ratios, options.json, samples=samples)


if __name__ == "__main__":
    sys.exit(main())
