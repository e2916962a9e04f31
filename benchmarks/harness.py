"""Times things side by side and says whether a bar is met. Shared by every script in this directory.

Figures on a shared machine drift by tens of percent, so only ratios within one run count: candidates take turns
(A B C, A B C, ...) and medians are compared.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil


@dataclass(frozen=True)
class Row:
    """What was timed and how long each turn took, in seconds."""

    what: str
    seconds: tuple[float, ...]

    @property
    def median(self) -> float:
        return statistics.median(self.seconds)


@dataclass(frozen=True)
class Ratio:
    """A quotient that matters. ``bar`` is what it must reach (``at_most``: must not exceed), None to report only."""

    what: str
    ratio: float
    bar: float | None = None
    at_most: bool = False

    @property
    def ok(self) -> bool:
        if self.bar is None:
            return True
        return self.ratio <= self.bar if self.at_most else self.ratio >= self.bar

    @property
    def margin(self) -> float:
        """How far on the good side of the bar: 1 is just met, 0.5 is half of it."""
        if self.bar is None:
            return 1.0
        return self.bar / self.ratio if self.at_most else self.ratio / self.bar


def memory_backed() -> Path | None:
    """A directory that is not on a disk, where there is one, for what must not be blurred by the disk."""
    shared = Path("/dev/shm")
    return shared if shared.is_dir() else None


_DROP_CACHES = Path("/proc/sys/vm/drop_caches")


def can_drop_caches() -> bool:
    """Whether ``drop_caches`` works here: for root on Linux."""
    return os.access(_DROP_CACHES, os.W_OK)


def drop_caches() -> None:
    """Make the system forget what it holds of files in memory, after what waits for a disk has been written there."""
    os.sync()
    _DROP_CACHES.write_text("3\n")


def on_disk() -> Path | None:
    """The system's temp directory if that is on a disk, so far as can be told."""
    place = Path(tempfile.gettempdir()).resolve()
    mounts = {Path(one.mountpoint): one.fstype for one in psutil.disk_partitions(all=True)}
    kind = next((mounts[folder] for folder in (place, *place.parents) if folder in mounts), "")
    return None if kind in ("", "tmpfs", "ramfs") else place


def parser(description: str | None) -> argparse.ArgumentParser:
    """An argument parser with the flags every benchmark has: ``--quick``, ``--json FILE``, ``--repeat N``."""
    made = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    made.add_argument("--quick", action="store_true", help="small sizes: done within a minute")
    made.add_argument("--json", type=Path, metavar="FILE", help="write the figures here as JSON")
    made.add_argument("--repeat", type=int, default=3, metavar="N", help="turns of each (default: %(default)s)")
    return made


def measure(
    candidates: Mapping[str, Callable[[], object]],
    repeat: int = 3,
    prepare: Callable[[], object] | None = None,
) -> dict[str, Row]:
    """Time each callable ``repeat`` times, taking turns. ``prepare`` runs untimed before every call.

    A callable that times itself (to leave its set-up out) returns its seconds as a float.
    """
    seconds: dict[str, list[float]] = {name: [] for name in candidates}
    for turn in range(repeat):
        for name, run in candidates.items():
            if prepare is not None:
                prepare()
            gc.collect()
            start = time.perf_counter()
            own = run()
            took = own if isinstance(own, float) else time.perf_counter() - start
            seconds[name].append(took)
            print(f"  turn {turn + 1}/{repeat}  {name}: {took:.3f} s", file=sys.stderr, flush=True)
    return {name: Row(name, tuple(taken)) for name, taken in seconds.items()}


def report(
    name: str,
    rows: Sequence[Row],
    ratios: Sequence[Ratio],
    json_file: Path | None = None,
    **details: Any,
) -> int:
    """Print the table, write the JSON file if one is named, and return the exit code: 1 when a bar is missed.

    ``details`` (sizes, counts) go into the JSON beside the figures; a list goes there only.
    """
    width = max([len(row.what) for row in rows] + [len(ratio.what) for ratio in ratios] + [10])
    print(f"{name}: " + ", ".join(f"{key} {value}" for key, value in details.items() if not isinstance(value, list)))
    for row in rows:
        print(f"  {row.what:<{width}}  {row.median:9.3f} s   ({', '.join(f'{one:.3f}' for one in row.seconds)})")
    for ratio in ratios:
        print(f"  {ratio.what:<{width}}  {ratio.ratio:9.2f} x   {_verdict(ratio)}")
    if json_file is not None:
        json_file.write_text(json.dumps(_as_json(name, rows, ratios, details), indent=2) + "\n")
    return 0 if all(ratio.ok for ratio in ratios) else 1


def _verdict(ratio: Ratio) -> str:
    if ratio.bar is None:
        return ""
    sign = "<=" if ratio.at_most else ">="
    return f"bar {sign} {ratio.bar:g}: {'met' if ratio.ok else 'MISSED'}"


def _as_json(name: str, rows: Sequence[Row], ratios: Sequence[Ratio], details: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "name": name,
        **({"details": dict(details)} if details else {}),
        "rows": [{"what": row.what, "seconds": list(row.seconds), "median": row.median} for row in rows],
        "ratios": [
            {
                "what": ratio.what,
                "ratio": ratio.ratio,
                "bar": ratio.bar,
                "at_most": ratio.at_most,
                "margin": ratio.margin,
                "ok": ratio.ok,
            }
            for ratio in ratios
        ],
    }
