"""Real processes: signals, kills, locks, and several runs at once. The emulator is slow, so that there is time."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from driveshard.core.model import FileList, PartSpec
from driveshard.emulator import Emulator
from driveshard.sources.folder import FolderSource
from driveshard.upload.pack.engine import WorkerLost, open_engine
from driveshard.upload.plan.base import Cut
from tests.rig import Server, Shelf, call, environment, fill, start_push, undisturbed

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="POSIX signals and process groups")

PART_SIZE = 1_000_000


class Stage:
    """A source of four parts, a Drive, and pushes in processes; whatever is left in the end is killed."""

    def __init__(self, directory: Path, server: Server | Emulator) -> None:
        self.directory = directory
        self.server = server
        self._started: list[subprocess.Popen[str]] = []
        fill(directory / "source", 30, 160_000)

    def start(self, name: str = "t", *options: str, source: str = "source") -> subprocess.Popen[str]:
        wanted = (
            "--name",
            name,
            "--part-size",
            str(PART_SIZE),
            "--writes-per-second",
            "100",
            "--workers",
            "2",
            *options,
        )
        process = start_push(self.directory, self.server.url, source, *wanted)
        self._started.append(process)
        return process

    def close(self) -> None:
        for process in self._started:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.communicate()

    def chunks(self) -> int:
        """Upload requests that were answered so far."""
        return sum("chunk" in entry["kinds"] for entry in self.server.log())

    def at_work(self, process: subprocess.Popen[str]) -> bool:
        """Whether that push holds its dataset."""
        notes = [note.read_text() for note in self.directory.rglob("*.holder")]
        return any(json.loads(note)["pid"] == process.pid for note in notes if note)

    def hurry(self) -> None:
        """The same Drive on a fast line, and well again."""
        self.server.set_faults("")
        call(self.server.url, "/_emulator/line", {"bandwidth": None})

    def finish(self, name: str = "t") -> None:
        """Run again, undisturbed, and find all there once."""
        self.hurry()
        done = self.start(name)
        out, err = done.communicate(timeout=60)
        assert done.returncode == 0, err
        assert json.loads(out)["state"] == "complete"
        expected = undisturbed(
            FolderSource(self.directory / "source"), Cut(name, PART_SIZE), self.directory / "reference"
        )
        assert Shelf(self.server.url).problems(expected) == []
        assert [path for path in (self.directory / "temp").rglob("*") if path.is_file()] == []


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[Stage]:
    with Emulator(tmp_path / "drive", bandwidth=600_000) as drive, contextlib.closing(Stage(tmp_path, drive)) as made:
        yield made


def until(condition: Callable[[], object], seconds: float = 20.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.02)


def alive(pids: list[int]) -> list[int]:
    found = []
    for pid in pids:
        try:
            if psutil.Process(pid).status() != psutil.STATUS_ZOMBIE:
                found.append(pid)
        except psutil.NoSuchProcess:
            continue
    return found


def family(process: subprocess.Popen[str]) -> list[int]:
    return [child.pid for child in psutil.Process(process.pid).children(recursive=True)]


# -- signals ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("moment", "number", "code"),
    [
        ("at once", signal.SIGINT, 130),
        ("while sending", signal.SIGTERM, 143),
        ("while Drive stalls", signal.SIGINT, 130),
        ("while Drive stalls", signal.SIGTERM, 143),
    ],
)
def test_a_signal_ends_the_run_within_five_seconds(number: int, code: int, moment: str, stage: Stage) -> None:
    """At whatever it is; the result says incomplete, and the next run goes on."""
    if moment == "while Drive stalls":
        stage.server.set_faults("stall*")
    process = stage.start()
    if moment == "at once":
        until(lambda: (stage.directory / "home").exists())
    else:
        until(lambda: stage.server.stats()["received_bytes"] > 0)
    children = family(process)
    began = time.monotonic()
    process.send_signal(number)
    out, err = process.communicate(timeout=10)
    assert time.monotonic() - began < 5.0
    assert process.returncode == code, err
    assert "run the same command again" in err.lower()
    if out:
        assert json.loads(out)["state"] == "incomplete"
    until(lambda: not alive(children), 5)
    stage.finish()


def test_ctrl_c_reaches_everybody_and_is_still_a_clean_stop(stage: Stage) -> None:
    """A terminal sends SIGINT to the whole group, workers included; systemd does so with SIGTERM."""
    for number, code in ((signal.SIGINT, 130), (signal.SIGTERM, 143)):
        before = stage.chunks()
        process = stage.start()
        # What an earlier push had on its way may be counted late, so that this one must be seen itself.
        until(lambda before=before, process=process: stage.at_work(process) and stage.chunks() > before)
        os.killpg(process.pid, number)
        _, err = process.communicate(timeout=10)
        assert process.returncode == code, err
        assert "Traceback" not in err
    stage.finish()


def test_a_second_signal_ends_it_at_once(stage: Stage) -> None:
    stage.server.set_faults("stall*")
    process = stage.start()
    until(lambda: stage.server.stats()["received_bytes"] > 0)
    process.send_signal(signal.SIGTERM)
    time.sleep(0.3)
    assert process.poll() is None, "the first signal leaves requests under way some time"
    began = time.monotonic()
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=5)
    assert time.monotonic() - began < 1.0
    assert process.returncode == 143
    stage.finish()


def test_a_signal_during_the_last_steps(stage: Stage) -> None:
    """The manifest is being written, and Drive does not answer."""
    stage.hurry()
    stage.server.set_faults("503:start@5*")  # the four parts begin, the card does not
    process = stage.start()
    until(lambda: "503" in stage.server.stats()["faults_fired"])
    process.send_signal(signal.SIGINT)
    began = time.monotonic()
    process.communicate(timeout=10)
    assert process.returncode == 130 and time.monotonic() - began < 5.0
    stage.finish()


# -- kills -----------------------------------------------------------------------------------------------------------


def test_no_worker_outlives_a_killed_run(stage: Stage) -> None:
    process = stage.start()
    until(lambda: stage.chunks() > 0)
    children = family(process)
    assert children, "there are no workers to look for"
    process.send_signal(signal.SIGKILL)
    process.wait()
    until(lambda: not alive(children), 5)
    stage.finish()


def test_every_child_may_be_killed(stage: Stage) -> None:
    """Workers, and the processes that serve them: the run notices, replaces them and completes."""
    process = stage.start()
    until(lambda: len(family(process)) >= 3)
    for pid in family(process):
        os.kill(pid, signal.SIGKILL)
        time.sleep(0.1)
    stage.hurry()
    out, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    assert json.loads(out)["state"] == "complete"
    stage.finish()


def test_the_fork_server_may_be_killed_at_a_bad_moment(tmp_path: Path) -> None:
    """While it is dying it still seems to be there, and takes no connection: that is a lost worker, not a defect."""
    source = FolderSource(fill(tmp_path / "source", 2, 10))
    spec = PartSpec(0, "x.zip", FileList.of([row for block in source.scan() for row in block]), 0)
    for _ in range(10):
        with open_engine("processes", 2) as engine:
            engine.submit(spec, source, tmp_path / "x.zip", 1 << 20).result(30)
            for child in psutil.Process().children():
                if "forkserver" in " ".join(child.cmdline()):
                    child.kill()
            for _ in range(4):
                with contextlib.suppress(WorkerLost):
                    built = engine.submit(spec, source, tmp_path / "x.zip", 1 << 20).result(30)
                    break
            assert built.files == 2


def test_the_emulator_may_be_killed_and_come_back(tmp_path: Path) -> None:
    server = Server(tmp_path / "drive", "--bandwidth", "600k")
    with server, contextlib.closing(Stage(tmp_path, server)) as stage:
        process = stage.start()
        for _ in range(3):
            count = stage.chunks()
            until(lambda count=count: stage.chunks() > count)
            server.stop(signal.SIGKILL)
            time.sleep(0.2)
            server.start()
        stage.hurry()
        _, err = process.communicate(timeout=60)
        assert process.returncode == 0, err
        stage.finish()


def test_a_kill_costs_at_most_what_was_not_confirmed(stage: Stage) -> None:
    """Three kills; each may waste the chunks that were on the wire, one a session."""
    for _ in range(3):
        before = stage.chunks()
        process = stage.start()
        until(lambda before=before: stage.chunks() >= before + 2)
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
    stage.finish()
    sessions = stage.server.stats()["sessions"]
    assert len({one["file_id"] for one in sessions}) == 4, "a part was begun under two ids"
    largest = 512 * 1024
    assert sum(one["received"] - one["stored"] for one in sessions) <= 3 * 3 * largest


# -- locks -----------------------------------------------------------------------------------------------------------


def test_a_second_run_of_the_same_dataset_is_told_who_holds_it(stage: Stage) -> None:
    first = stage.start()
    until(lambda: stage.chunks() > 0)
    second = stage.start()
    out, err = second.communicate(timeout=20)
    assert second.returncode == 75
    assert f"process {first.pid}" in err and "--wait" in err
    assert json.loads(out)["state"] == "incomplete"
    stage.hurry()
    first.communicate(timeout=60)
    assert first.returncode == 0
    stage.finish()


def test_a_second_run_that_waits_goes_on_afterwards(stage: Stage) -> None:
    first = stage.start()
    until(lambda: stage.chunks() > 0)
    second = stage.start("t", "--wait")
    time.sleep(0.5)
    assert second.poll() is None
    stage.hurry()
    assert first.wait(60) == 0
    out, err = second.communicate(timeout=30)
    assert second.returncode == 0, err
    assert json.loads(out)["sent_bytes"] == 0
    stage.finish()


def test_a_waiting_run_can_be_stopped(stage: Stage) -> None:
    first = stage.start()
    until(lambda: stage.chunks() > 0)
    second = stage.start("t", "--wait")
    time.sleep(1.0)
    second.send_signal(signal.SIGTERM)
    second.communicate(timeout=5)
    assert second.returncode == 143
    assert first.poll() is None
    os.killpg(first.pid, signal.SIGKILL)
    stage.finish()


def test_a_lock_dies_with_its_holder(stage: Stage) -> None:
    process = stage.start()
    until(lambda: stage.chunks() > 0)
    os.killpg(process.pid, signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    stage.finish()


def test_different_datasets_run_side_by_side_at_one_pace(tmp_path: Path) -> None:
    """Three at once from a fresh home: all complete, and together they keep the writes a second of one account."""
    with Emulator(tmp_path / "drive") as drive, contextlib.closing(Stage(tmp_path, drive)) as made:
        names = ["a", "b", "c"]
        for name in names:
            shutil.copytree(tmp_path / "source", tmp_path / f"source-{name}")
        pace = ("--writes-per-second", "4")
        running = [made.start(name, *pace, source=f"source-{name}") for name in names]
        for process in running:
            _, err = process.communicate(timeout=90)
            assert process.returncode == 0, err
        # Twelve if each kept its own; a place that a busy machine uses late falls among those of the next second.
        assert drive.stats()["max_writes_in_any_second"] <= 7
        folders = [one["name"] for one in Shelf(drive.url).folders()]
        assert sorted(folders) == names


def test_the_plain_command_is_the_same(stage: Stage) -> None:
    """Once without the shortened waits of the other tests: python -m driveshard."""
    stage.hurry()
    done = subprocess.run(
        [sys.executable, "-m", "driveshard", "push", "source", "--name", "t", "--part-size", str(PART_SIZE)],
        cwd=stage.directory,
        env=environment(
            DRIVESHARD_HOME=str(stage.directory / "home"),
            DRIVESHARD_DRIVE_URL=stage.server.url,
            DRIVESHARD_TEMP=str(stage.directory / "temp"),
            DRIVESHARD_WRITES_PER_SECOND="100",
        ),
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    stage.finish()
