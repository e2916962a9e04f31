"""Workers that build, fail, die and are stopped; and that never outlive their coordinator."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import CancelledError
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import psutil
import pytest

from driveshard.core.errors import Interrupted, PartTooLarge, SourceMissing, UsageError, WorkersKilled
from driveshard.core.model import FileList, PartSpec, SampleRange, Selection
from driveshard.sources.base import MemberWriter, Packed
from driveshard.sources.folder import FolderSource
from driveshard.upload.pack.engine import Engine, WorkerLost, default_workers, open_engine

PLENTY = 1 << 30
SPEC = PartSpec(0, "x.zip", SampleRange(0, None), 0)


@dataclass(frozen=True)
class Play:
    """A source that notes the process it is packed in below ``notes`` and then does as ``act`` says."""

    notes: Path
    act: str
    kind = "play"

    def describe(self) -> str:
        return self.act

    def settings(self) -> Mapping[str, Any]:
        return {}

    def pack(self, selection: Selection, writer: MemberWriter, part_size: int) -> Packed:
        (self.notes / f"{os.getpid()}").touch()
        if self.act == "die":
            os.kill(os.getpid(), signal.SIGKILL)
        if self.act == "die once" and len(os.listdir(self.notes)) == 1:
            os.kill(os.getpid(), signal.SIGKILL)
        number = 0
        while self.act in ("never end", "spin") or number < 3:
            writer.add(b"%09d" % number, b"x")
            number += 1
            if self.act != "spin":
                time.sleep(0.002)
        return Packed(selection, number, number)


@dataclass(frozen=True)
class Large(Play):
    """Notes the threads that run while it is packed."""

    def pack(self, selection: Selection, writer: MemberWriter, part_size: int) -> Packed:
        writer.add(b"large", bytes(1 << 20))
        (self.notes / "+".join(thread.name for thread in threading.enumerate())).touch()
        return Packed(selection, 1, 1)


def note_pids(notes: Path) -> set[int]:
    return {int(name) for name in os.listdir(notes)}


def alive(pids: set[int]) -> set[int]:
    """Those that still run: one that ended but was not yet waited for does not."""
    running = set()
    for pid in pids:
        try:
            if psutil.Process(pid).status() != psutil.STATUS_ZOMBIE:
                running.add(pid)
        except psutil.NoSuchProcess:
            pass
    return running


def until(condition: Callable[[], object], seconds: float) -> float:
    """Seconds until ``condition`` holds; fails when it does not in time."""
    start = time.monotonic()
    while not condition():
        assert time.monotonic() - start < seconds, "waited too long"
        time.sleep(0.01)
    return time.monotonic() - start


@pytest.fixture
def notes(tmp_path: Path) -> Path:
    (tmp_path / "notes").mkdir()
    return tmp_path / "notes"


@pytest.fixture(params=["processes", "threads", "serial"])
def engine(request: pytest.FixtureRequest) -> Iterator[Engine]:
    with open_engine(request.param, 2) as made:
        yield made


@pytest.fixture
def processes() -> Iterator[Engine]:
    with open_engine("processes", 2) as made:
        yield made


def test_every_engine_builds_the_same_parts(engine: Engine, tmp_path: Path) -> None:
    root = tmp_path / "data"
    root.mkdir()
    for number in range(40):
        (root / f"{number:02d}").write_bytes(os.urandom(1) * number)
    source = FolderSource(root)
    rows = [row for block in source.scan() for row in block]
    specs = [PartSpec(at, f"{at}.zip", FileList.of(rows[at * 10 : at * 10 + 10]), 0) for at in range(4)]
    futures = [engine.submit(spec, source, tmp_path / spec.file_name, PLENTY) for spec in specs]
    parts = [future.result(timeout=30) for future in futures]
    with open_engine("serial", 1) as plain:
        expected = [plain.submit(spec, source, tmp_path / "again", PLENTY).result(timeout=30) for spec in specs]
    assert parts == expected
    assert [(tmp_path / part.file_name).stat().st_size for part in parts] == [part.size for part in parts]


def test_errors_come_out_of_the_future_whole(engine: Engine, tmp_path: Path, notes: Path) -> None:
    missing = FolderSource(tmp_path / "missing")
    with pytest.raises(SourceMissing, match="There is no folder"):
        engine.submit(PartSpec(0, "x.zip", FileList(), 0), missing, tmp_path / "a", PLENTY).result(timeout=30)
    with pytest.raises(PartTooLarge) as caught:
        engine.submit(SPEC, Play(notes, "add three"), tmp_path / "b", 200).result(timeout=30)
    assert (caught.value.limit, caught.value.exit_code) == (200, 73)
    assert caught.value.advice
    assert engine.submit(SPEC, Play(notes, "add three"), tmp_path / "c", PLENTY).result(timeout=30).files == 3


def test_cancel_ends_running_parts_within_a_second(engine: Engine, tmp_path: Path, notes: Path) -> None:
    futures = [engine.submit(SPEC, Play(notes, "never end"), tmp_path / f"{at}", PLENTY) for at in range(5)]
    until(lambda: os.listdir(notes), 20)
    start = time.monotonic()
    engine.close(cancel=True)
    for future in futures:
        with pytest.raises((WorkerLost, Interrupted, CancelledError)):
            future.result(timeout=5)
    assert time.monotonic() - start < 2
    until(lambda: not alive(note_pids(notes) - {os.getpid()}), 2)
    with pytest.raises(Interrupted):
        engine.submit(SPEC, Play(notes, "add three"), tmp_path / "late", PLENTY)


def test_close_without_cancel_waits_for_what_was_submitted(engine: Engine, tmp_path: Path, notes: Path) -> None:
    futures = [engine.submit(SPEC, Play(notes, "add three"), tmp_path / f"{at}", PLENTY) for at in range(4)]
    engine.close()
    assert [future.result(timeout=0).files for future in futures] == [3] * 4
    engine.close(cancel=True)


def test_a_warm_engine_builds_and_closes_like_any_other(engine: Engine, tmp_path: Path, notes: Path) -> None:
    engine.warm_up()
    assert engine.submit(SPEC, Play(notes, "add three"), tmp_path / "a", PLENTY).result(timeout=30).files == 3
    engine.warm_up()
    engine.close()
    engine.warm_up()


def test_an_error_inside_the_block_cancels(tmp_path: Path, notes: Path) -> None:
    start = time.monotonic()
    with pytest.raises(ZeroDivisionError), open_engine("threads", 1) as made:
        future = made.submit(SPEC, Play(notes, "never end"), tmp_path / "a", PLENTY)
        until(lambda: os.listdir(notes), 5)
        raise ZeroDivisionError
    assert isinstance(future.exception(timeout=0), Interrupted)
    assert time.monotonic() - start < 5
    assert not (tmp_path / "a").exists()


def test_an_unknown_engine_is_wrong_usage() -> None:
    with pytest.raises(UsageError, match="no engine 'steam'"):
        open_engine("steam", 2)


def test_default_workers_are_the_cpus_we_may_use() -> None:
    assert 1 <= default_workers() <= (os.cpu_count() or 1)


@pytest.mark.parametrize("name", ["processes", "threads"])
@pytest.mark.parametrize("more", [0, 1])
def test_a_part_has_a_second_thread_only_where_a_core_is_left_for_it(
    name: str, more: int, tmp_path: Path, notes: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("driveshard.upload.pack.engine.default_workers", lambda: 1 + more)
    with open_engine(name, 1) as made:
        made.submit(SPEC, Large(notes, "add one"), tmp_path / "a", PLENTY).result(timeout=30)
    (seen,) = os.listdir(notes)
    assert ("md5" in seen) is bool(more)


# Deaths


@pytest.mark.skipif(os.name == "nt", reason="needs SIGKILL")
def test_a_killed_worker_costs_its_part_one_more_try(processes: Engine, tmp_path: Path, notes: Path) -> None:
    source = Play(notes, "die once")
    with pytest.raises(WorkerLost):
        processes.submit(SPEC, source, tmp_path / "a", PLENTY).result(timeout=30)
    assert processes.submit(SPEC, source, tmp_path / "a", PLENTY).result(timeout=30).files == 3


@pytest.mark.skipif(os.name == "nt", reason="needs SIGKILL")
def test_workers_know_what_the_environment_says_now(monkeypatch: pytest.MonkeyPatch) -> None:
    """Though the fork server was started when it said something else."""
    for value in ("one", "another"):
        monkeypatch.setenv("DRIVESHARD_DRIVE_URL", value)
        with open_engine("processes", 1) as engine:
            assert engine.call(0, partial(os.getenv, "DRIVESHARD_DRIVE_URL"), "").result(timeout=30) == value


def test_many_threads_may_find_the_pool_broken_at_once(processes: Engine, tmp_path: Path, notes: Path) -> None:
    source = Play(notes, "die once")
    with pytest.raises(WorkerLost):
        processes.submit(SPEC, source, tmp_path / "a", PLENTY).result(timeout=30)
    files: list[int] = []

    def build(at: int) -> None:
        files.append(processes.submit(SPEC, source, tmp_path / f"{at}", PLENTY).result(timeout=30).files)

    threads = [threading.Thread(target=build, args=(at,)) for at in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert files == [3] * 6


@pytest.mark.skipif(os.name == "nt", reason="needs SIGKILL")
def test_workers_killed_again_and_again_are_given_up_with_advice(
    processes: Engine, tmp_path: Path, notes: Path
) -> None:
    def lose() -> None:
        with pytest.raises(WorkerLost):
            processes.submit(SPEC, Play(notes, "die"), tmp_path / "a", PLENTY).result(timeout=30)

    for _ in range(3):
        lose()
    assert processes.submit(SPEC, Play(notes, "add three"), tmp_path / "b", PLENTY).result(timeout=30).files == 3
    other = replace(SPEC, number=1)
    for _ in range(5):  # the part's own success has started its count anew; another part's says nothing about it
        lose()
        assert processes.submit(other, Play(notes, "add three"), tmp_path / "c", PLENTY).result(timeout=30).files == 3
    with pytest.raises(WorkersKilled, match=r"was killed, most often .* 5 times while x.zip was built") as caught:
        processes.submit(SPEC, Play(notes, "die"), tmp_path / "a", PLENTY)
    assert caught.value.exit_code == 71
    assert "--workers 1" in caught.value.advice
    assert processes.submit(other, Play(notes, "add three"), tmp_path / "c", PLENTY).result(timeout=30).files == 3


_WARM = """
import os, time
from driveshard.upload.pack.engine import open_engine

if __name__ == "__main__":
    with open_engine("processes", 1) as engine:
        engine.warm_up()
        input()
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="the system does not tell what a process blocks")
def test_ctrl_c_never_reaches_what_an_engine_starts(tmp_path: Path) -> None:
    """Not even the fork server while it still imports: it would show a traceback."""
    script = tmp_path / "warm.py"
    script.write_text(_WARM)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    with subprocess.Popen([sys.executable, script], stdin=subprocess.PIPE, env=environment) as process:
        deaf: dict[int, bool] = {}
        deadline = time.monotonic() + 20
        while len(deaf) < 3 and time.monotonic() < deadline:  # resource tracker, fork server, worker
            for child in psutil.Process(process.pid).children(recursive=True):
                if child.pid not in deaf and child.cmdline()[1:]:
                    deaf[child.pid] = _is_deaf(child.pid)
        process.communicate(b"\n")
    assert len(deaf) >= 3
    assert all(deaf.values())


def _is_deaf(pid: int) -> bool:
    """Whether SIGINT is blocked or ignored."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    masks = [int(line.split()[1], 16) for line in lines if line.startswith(("SigBlk:", "SigIgn:"))]
    return any(mask >> (signal.SIGINT - 1) & 1 for mask in masks)


@pytest.mark.skipif(os.name == "nt", reason="needs Unix signals")
def test_ctrl_c_does_not_end_a_worker(processes: Engine, tmp_path: Path, notes: Path) -> None:
    future = processes.submit(SPEC, Play(notes, "never end"), tmp_path / "a", PLENTY)
    until(lambda: os.listdir(notes), 20)
    (pid,) = note_pids(notes)
    before = (tmp_path / "a").stat().st_ino
    os.kill(pid, signal.SIGINT)
    after = processes.submit(SPEC, Play(notes, "add three"), tmp_path / "b", PLENTY)
    assert after.result(timeout=30).files == 3
    assert not future.done()
    assert alive({pid}) == {pid}
    assert (tmp_path / "a").stat().st_ino == before
    processes.close(cancel=True)


COORDINATOR = """
    import sys, time
    from pathlib import Path
    sys.path.insert(0, sys.argv[1])
    from test_engine import SPEC, PLENTY, Play
    from driveshard.upload.pack.engine import open_engine

    engine = open_engine("processes", 2)
    notes, temp = Path(sys.argv[2]), Path(sys.argv[3])
    futures = [engine.submit(SPEC, Play(notes, sys.argv[4]), temp / str(at), PLENTY) for at in range(2)]
    print([future.result().files for future in futures])
    engine.close()
"""


def coordinate(tmp_path: Path, notes: Path, act: str) -> list[str | Path]:
    """The command of a coordinator: a script without the ``if __name__`` guard."""
    script = tmp_path / "coordinator.py"
    script.write_text(textwrap.dedent(COORDINATOR))
    return [sys.executable, script, Path(__file__).parent, notes, tmp_path, act]


def environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}


def test_a_script_needs_no_main_guard(tmp_path: Path, notes: Path) -> None:
    command = coordinate(tmp_path, notes, "add three")
    told = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False, env=environment())
    assert (told.returncode, told.stdout, told.stderr) == (0, "[3, 3]\n", "")


@pytest.mark.parametrize("act", ["never end", "spin"])
def test_no_worker_outlives_a_killed_coordinator(tmp_path: Path, notes: Path, act: str) -> None:
    coordinator = subprocess.Popen(
        coordinate(tmp_path, notes, act), env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    try:
        until(lambda: len(os.listdir(notes)) == 2, 30)
        family = {child.pid for child in psutil.Process(coordinator.pid).children(recursive=True)}
        workers = note_pids(notes)
        assert alive(workers) == workers <= family
    finally:
        coordinator.kill()
        coordinator.wait()
    until(lambda: not alive(family), 3)
    coordinator.communicate()
