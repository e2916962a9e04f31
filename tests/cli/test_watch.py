"""Runs that nobody looks at: one line, a log, commands at the end, an end to what hangs, a memory of runs."""

from __future__ import annotations

import json
import logging
import os
import signal
import subprocess
import sys
import threading
import time
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from driveshard.cli import watch
from driveshard.cli.main import main
from driveshard.cli.watch import LogFile, Watch, forget_runs, last_runs, remember, runs_file, summary_line
from driveshard.config.settings import RunOptions
from driveshard.config.values import duration
from driveshard.core.clock import Clock
from driveshard.core.errors import ComeBackLater, ConfigError, DailyCap
from driveshard.core.events import Doing, Waiting, ignore
from driveshard.core.model import Failure
from driveshard.emulator import Emulator
from driveshard.storage.rate_limits import Bandwidth, parse_bwlimit
from driveshard.storage.throttle import Throttle
from driveshard.upload.result import PushResult
from tests.rig import environment, fill

QUICK = ("--part-size", "100K", "--writes-per-second", "1000", "--engine", "serial")


class Job:
    def __init__(self, work: Path, url: str) -> None:
        self.work, self.home = work, work / "home"
        self.variables = environment(DRIVESHARD_HOME=str(self.home), DRIVESHARD_DRIVE_URL=url, DRIVESHARD_RETRIES="2")
        fill(work / "photos", 6, 60_000)

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        command = [sys.executable, "-m", "driveshard", *arguments]
        pipe = subprocess.PIPE
        return subprocess.Popen(
            command, env=self.variables, cwd=self.work, stdin=subprocess.DEVNULL, stdout=pipe, stderr=pipe, text=True
        )

    def run(self, *arguments: str, code: int = 0) -> tuple[str, str]:
        with self.start(*arguments) as process:
            out, err = process.communicate(timeout=60)
        assert process.returncode == code, err
        return out, err


@pytest.fixture
def job(tmp_path: Path, emulator: Emulator) -> Job:
    return Job(tmp_path, emulator.url)


def test_one_line_a_run(job: Job, emulator: Emulator) -> None:
    out, err = job.run("push", "photos", *QUICK, "--summary")
    assert err == "" and out.startswith("driveshard photos: complete, ") and out.count("\n") == 1
    assert emulator.url in out
    out, err = job.run("push", "nothing", "--summary", code=66)
    assert err == "" and out.count("\n") == 1 and "exit 66" in out and "there is no folder nothing" in out


def test_the_log_and_the_commands_at_the_end(job: Job) -> None:
    (job.work / "job.toml").write_text(
        "log-file = 'logs/push.log'\non-success = 'cat > good.json; echo said'\non-failure = 'cat > bad.json; exit 3'\n"
        "part-size = '100K'\nwrites-per-second = 1000\nengine = 'serial'\nname = 'n'\n"
        "[source]\nkind = 'folder'\npath = 'photos'\n"
    )
    out, err = job.run("push", "job.toml", "--json", "-q")
    good = json.loads((job.work / "good.json").read_text())
    assert (good["exit_code"], good["state"], good["error"]) == (0, "complete", None)
    assert json.loads(out)["parts"] == good["parts"] and "said" in err  # stdout is data
    log = job.work / "logs" / "push.log"
    events = [json.loads(line) for line in log.read_text().splitlines()]
    assert events[-1]["event"] == "Ended"
    assert {"Started", "PartPacked", "PartReleased", "Published"} <= {one["event"] for one in events}
    assert all(datetime.fromisoformat(one["time"]).tzinfo for one in events)
    if os.name == "posix":
        assert log.stat().st_mode & 0o777 == 0o600
    _, err = job.run("push", "job.toml", "--max-transfer", "1", "--to", "drive:0nosuchfolder", "-q", code=66)
    bad = json.loads((job.work / "bad.json").read_text())
    assert bad["exit_code"] == 66 and bad["error"]["message"] and "ended with 3" in err


def test_a_log_file_is_turned_over_and_takes_no_secrets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watch, "_LOG_BYTES", 50_000)
    log = LogFile(tmp_path / "x.log")
    for _ in range(12):
        log.line("a" * 10_000)
    log.line("https://www.googleapis.com/upload?upload_id=geheim Bearer ya29.geheim\nmore")
    log.close()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["x.log", "x.log.1", "x.log.2"]
    assert all(path.stat().st_size <= 50_000 for path in tmp_path.iterdir())
    assert "geheim" not in (tmp_path / "x.log").read_text() and logging.getLogger("driveshard").handlers == []
    with pytest.raises(ConfigError, match="cannot be written"):
        LogFile(tmp_path)


def test_status_tells_the_last_runs(job: Job) -> None:
    for _ in range(2):
        job.run("push", "photos", *QUICK, "-q")
    job.run("push", "photos", *QUICK, "--to", "drive:0nosuchfolder", "-q", code=66)
    out, _ = job.run("status", "--json")
    runs = json.loads(out)["datasets"][0]["runs"]
    assert [one["exit_code"] for one in runs] == [66, 0, 0]
    assert runs[2]["sent_bytes"] > 0 == runs[1]["sent_bytes"] and runs[0]["error"]
    out, _ = job.run("status")
    assert "last runs" in out and "exit 66" in out and "nothing sent" in out


def test_the_memory_of_runs_is_bounded(home: Path) -> None:
    runs_file(home).write_bytes(b"{broken\n" + b"x" * (1 << 19) + b"\n")
    for number in range(15):
        remember(home, {"name": "n", "exit_code": number, "state": "complete"})
    runs_file(home).write_bytes(runs_file(home).read_bytes() + b"{cut sho")
    assert [one["exit_code"] for one in last_runs(home, "n")] == list(range(14, 4, -1))
    assert last_runs(home, "other") == [] == last_runs(home / "none", "n")


def test_forgetting_a_dataset_keeps_the_runs_of_others(home: Path) -> None:
    home.mkdir(exist_ok=True)
    for name in ("n", "m", "n"):
        remember(home, {"name": name, "exit_code": 0, "state": "complete"})
    with runs_file(home).open("ab") as stream:
        stream.write(b"no object\n")
    forget_runs(home, "n")
    assert (len(last_runs(home, "n")), len(last_runs(home, "m"))) == (0, 1)
    assert runs_file(home).read_bytes().endswith(b"no object\n")


def test_a_run_in_which_nothing_happens_any_more_is_ended(job: Job) -> None:
    (job.work / "hang.py").write_text(
        "import driveshard, threading\n"
        "class Samples:\n"
        "    def __len__(self): return 3\n"
        "    def __getitem__(self, n): threading.Event().wait()\n"
        "def make(): return Samples()\n"
    )
    began = time.monotonic()
    _, err = job.run("push", "hang.py:make", "--engine", "threads", "--stall-after", "1", code=69)
    assert time.monotonic() - began < 20
    assert "nothing has happened for 1.0 s" in err
    assert any(path.name.startswith("stalled-") for path in job.home.iterdir())


def test_waiting_for_another_run_is_no_stall(home: Path) -> None:
    stop = threading.Event()
    watch = Watch(RunOptions(stall_after=0.2), home)
    with watch.on(stop):
        watch.take(Waiting("photos is being pushed by process 7 on host since noon", 0.0))
        assert not stop.wait(1.5)
        watch.take(Doing("looking at what is in the dataset's folder"))
        assert stop.wait(10)
    assert watch.stalled


@pytest.mark.skipif(not hasattr(signal, "SIGUSR1"), reason="no SIGUSR1 here")
def test_the_limit_is_changed_while_it_runs(job: Job) -> None:
    job.home.mkdir()
    config = job.home / "config.toml"
    config.write_text('bwlimit = "20K"\n')
    with job.start("push", "photos", *QUICK) as process:
        assert process.stderr is not None
        early = []
        for line in process.stderr:
            early.append(line)
            if "pushing photos" in line:
                break
        config.write_text('bwlimit = "off"\n')
        process.send_signal(signal.SIGUSR1)
        began = time.monotonic()
        _, err = process.communicate(timeout=60)
    assert process.returncode == 0, "".join(early) + err
    assert "the bandwidth limit is now off" in err and time.monotonic() - began < 12  # 360 KB at 20 KB/s are 18 s


def test_a_new_limit_counts_from_the_next_bytes_on() -> None:
    class Still(Clock):
        slept = 0.0

        def sleep(self, seconds: float) -> None:
            self.slept += seconds

    clock, bandwidth = Still(), Bandwidth(parse_bwlimit("1K"))
    throttle = Throttle(clock, ignore, None, writes_per_second=1, bwlimit=bandwidth)
    throttle.pace(3072)
    assert clock.slept == pytest.approx(3, abs=0.2)
    bandwidth.timetable = None
    throttle.pace(1 << 30)
    assert clock.slept == pytest.approx(3, abs=0.2) and throttle.rate is None


def test_a_run_ends_after_the_time_it_may_take() -> None:
    class Later(Clock):
        ahead = 0.0

        def monotonic(self) -> float:
            return time.monotonic() + self.ahead

    clock = Later()
    throttle = Throttle(clock, ignore, None, writes_per_second=1, max_duration=3600)
    with throttle.request(1, 1):
        clock.ahead = 3601
    with pytest.raises(ComeBackLater, match="1 h 0 min that --max-duration") as caught, throttle.request(1, 1):
        pass
    assert caught.value.exit_code == 75


@pytest.mark.parametrize(
    ("text", "seconds"), [("90", 90), (90, 90), ("15m", 900), ("1h30m", 5400), ("1d", 86_400), ("2H", 7200), (0.5, 0.5)]
)
def test_a_time_as_people_write_it(text: Any, seconds: float) -> None:
    assert duration(text) == seconds


@pytest.mark.parametrize("text", ["", "x", "-1", "1w", "h", True, None, [], "nan"])
def test_what_is_no_time(text: Any) -> None:
    with pytest.raises(ValueError, match=r"a (time|number)"):
        duration(text)


def test_the_line_names_what_to_do() -> None:
    result = PushResult("n", error=DailyCap("the cap of\nthe day", resume_after=time.time() + 9000))
    line = summary_line(result, 75)
    assert "\n" not in line and "exit 75" in line and "It can go on from" in line and "Run the same command" in line
    result = PushResult("n", "complete", failed=[Failure("a", "b")])
    assert "1 file could not be read" in summary_line(result, 65)


@pytest.mark.skipif(os.name == "nt", reason="Windows has no nice")
def test_low_priority(job: Job) -> None:
    (job.work / "told.py").write_text(
        "import driveshard, os\ndef make(): yield driveshard.Sample('k', {'txt': str(os.nice(0))})\n"
    )
    job.run("push", "told.py:make", "--nice", "-q", "--name", "n")
    out, _ = job.run("cat", "n", "k.txt")
    assert int(out) - os.nice(0) == min(10, 19 - os.nice(0))


def test_watching_in_this_process_leaves_nothing(
    home: Path, tmp_path: Path, emulator: Emulator, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("DRIVESHARD_HOME", str(home))
    monkeypatch.setenv("DRIVESHARD_DRIVE_URL", emulator.url)
    before = {thread.name for thread in threading.enumerate()}
    fill(tmp_path / "photos", 2, 100)
    assert main(["push", str(tmp_path / "photos"), *QUICK, "--stall-after", "1h", "-q"]) == 0
    left = {thread.name for thread in threading.enumerate()} - before
    # The emulator runs in this process, too: its thread for a connection ends a moment after the connection.
    assert {name for name in left if "process_request_thread" not in name} <= {"stall watch"}
