"""Real runs for the benchmarks: an emulated Drive in its own process, and ``driveshard push`` watched from outside.

Watching means looking, every 50 ms, at the memory of the command and of every process it started, and at its temp
directory. A process's own high-water mark is read where the system keeps one, so that no peak falls between two looks.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import harness
import psutil

MIB = 1 << 20
_EVERY = 0.05  # seconds between looks


@contextmanager
def workplace(where: Path | None, *, quick: bool, room: int = 2 << 30) -> Iterator[Path]:
    """A temporary directory, removed afterwards: below ``where`` if given. A quick run takes memory for it if ``room``
    bytes are free there, because making small files on a disk can take longer than all that is measured."""
    memory = harness.memory_backed() if quick and where is None else None
    if memory is not None and shutil.disk_usage(memory).free >= room:
        where = memory
    with tempfile.TemporaryDirectory(dir=where, prefix="driveshard-bench-") as name:
        yield Path(name)


@contextmanager
def emulated_drive(
    root: Path,
    *,
    bandwidth: int | None = None,
    latency_ms: float = 0,
    writes_per_second: float | None = None,
) -> Iterator[str]:
    """The address of an emulator that keeps its files under ``root``; ``bandwidth`` is upload bytes a second."""
    root.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", "driveshard.emulator", "--root", str(root), "--latency-ms", str(latency_ms)]
    if bandwidth is not None:
        command += ["--bandwidth", str(bandwidth)]
    if writes_per_second is not None:
        command += ["--writes-per-second", str(writes_per_second)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        yield json.loads(process.stdout.readline())["url"]
    finally:
        process.terminate()
        process.wait()


def environment(home: Path, url: str) -> dict[str, str]:
    """What a command needs to find its home and the emulator, and nothing of the user's own settings."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("DRIVESHARD_")}
    return kept | {"DRIVESHARD_HOME": str(home), "DRIVESHARD_DRIVE_URL": url}


@dataclass
class Run:
    """A command that ended: its seconds from start to end, its result if it printed one, and its peaks in bytes."""

    seconds: float
    result: dict[str, Any] = field(default_factory=dict)
    peak_temp: int = 0
    memory: dict[str, int] = field(default_factory=dict)
    """The peak of the main process (``main``) and of the largest of those that it started (``worker``)."""

    @property
    def peak_memory(self) -> int:
        return max(self.memory.values(), default=0)


def push(source: Path, url: str, home: Path, temp: Path, *options: str) -> Run:
    """``driveshard push SOURCE`` as a user runs it. Raises CalledProcessError when it does not end well."""
    command = [sys.executable, "-m", "driveshard", "push", str(source), "--temp", str(temp), *options]
    return watched([*command, "--json"], environment(home, url), temp)


def watched(command: list[str], env: dict[str, str], temp: Path) -> Run:
    """Run a command whose last line of stdout is a JSON object. Raises CalledProcessError unless it returns 0."""
    start = time.perf_counter()
    process = subprocess.Popen(command, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    watch = _Watch(process.pid, temp)
    out, err = process.communicate()
    seconds = time.perf_counter() - start
    watch.end()
    if process.returncode:
        sys.stderr.write(err)
        raise subprocess.CalledProcessError(process.returncode, command)
    return Run(seconds, json.loads(out.splitlines()[-1]), watch.peak_temp, watch.memory)


class _Watch:
    """Looks at a process, its children and a directory until ``end``."""

    def __init__(self, pid: int, temp: Path) -> None:
        self.memory: dict[str, int] = {}
        self.peak_temp = 0
        self._main = psutil.Process(pid)
        self._temp = temp
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._look_on, daemon=True)
        self._thread.start()

    def end(self) -> None:
        self._ended.set()
        self._thread.join()

    def _look_on(self) -> None:
        while not self._ended.wait(_EVERY):
            self.peak_temp = max(self.peak_temp, bytes_below(self._temp))
            with suppress(psutil.Error):
                self._note("main", self._main)
                for child in self._main.children(recursive=True):
                    self._note("worker", child)

    def _note(self, what: str, process: psutil.Process) -> None:
        with suppress(psutil.Error):
            self.memory[what] = max(self.memory.get(what, 0), peak_memory(process))


def peak_memory(process: psutil.Process) -> int:
    """Resident bytes: the most ever where the system tells it (Linux, Windows), else those of now."""
    with suppress(OSError, StopIteration):
        status = Path(f"/proc/{process.pid}/status").read_text()
        return int(next(line for line in status.splitlines() if line.startswith("VmHWM:")).split()[1]) * 1024
    now = process.memory_info()
    return int(getattr(now, "peak_wset", now.rss))


def bytes_below(directory: Path) -> int:
    """Bytes of all files below a directory whose files come and go."""
    total = 0
    for folder, _, names in os.walk(directory):
        for name in names:
            with suppress(OSError):
                total += os.stat(os.path.join(folder, name)).st_size
    return total


def mib(count: float) -> float:
    """Bytes as MiB, for tables."""
    return round(count / MIB, 1)
