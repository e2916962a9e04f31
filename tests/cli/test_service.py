"""`push --every`: pushes what is new each time, is heard by systemd, hears signals, and ends in time."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from driveshard.cli.error_messages import moment
from driveshard.cli.progress.live import read_next
from driveshard.cli.service import notify
from driveshard.cli.watch import last_runs
from driveshard.emulator import Emulator
from tests.cli.test_watch import QUICK, Job

pytestmark = pytest.mark.skipif(os.name == "nt", reason="signals and systemd")


@pytest.fixture
def job(tmp_path: Path, emulator: Emulator) -> Job:
    return Job(tmp_path, emulator.url)


class Ear:
    """Takes what systemd would be told."""

    def __init__(self, path: Path) -> None:
        self.address = str(path)
        self.told: list[str] = []
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(self.address)
        self._thread = threading.Thread(target=self._listen, daemon=True)
        self._thread.start()

    def _listen(self) -> None:
        while (words := self._socket.recv(4096)) != b"end":
            self.told += words.decode().splitlines()

    def close(self) -> None:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as line:
            line.sendto(b"end", self.address)
        self._thread.join(10)
        self._socket.close()


@pytest.fixture
def systemd(tmp_path: Path) -> Iterator[Ear]:
    ear = Ear(tmp_path / "notify")
    yield ear
    ear.close()


@contextlib.contextmanager
def serving(job: Job, *arguments: str) -> Iterator[subprocess.Popen[str]]:
    """A service that is gone in the end, whatever happens."""
    with job.start(*arguments) as process:
        try:
            yield process
        finally:
            process.kill()


def runs(job: Job, count: int) -> None:
    until = time.monotonic() + 40
    while len(last_runs(job.home, "photos")) < count:
        assert time.monotonic() < until
        time.sleep(0.1)


def finish(process: subprocess.Popen[str]) -> tuple[str, str]:
    began = time.monotonic()
    process.send_signal(signal.SIGTERM)
    out, err = process.communicate(timeout=20)
    assert time.monotonic() - began < 6
    return out, err


def test_what_is_new_goes_up_each_time(job: Job, systemd: Ear) -> None:
    job.variables |= {"NOTIFY_SOCKET": systemd.address, "WATCHDOG_USEC": "200000"}
    with serving(job, "push", "photos", *QUICK, "--every", "1s", "--summary") as process:
        runs(job, 1)
        (job.work / "photos" / "new.bin").write_bytes(os.urandom(50_000))
        runs(job, 3)
        out, err = finish(process)
    assert process.returncode in (0, 143), err
    assert [one["sent_bytes"] > 0 for one in last_runs(job.home, "photos")][-3:].count(True) >= 1
    assert max(one["parts"] for one in last_runs(job.home, "photos")) > last_runs(job.home, "photos")[-1]["parts"]
    assert out.count("driveshard photos: complete") >= 3
    told = systemd.told
    assert told[0] == "READY=1" and "WATCHDOG=1" in told and told[-1] in ("STOPPING=1", "WATCHDOG=1")
    assert any(line.startswith("STATUS=waiting; next push at") for line in told)


def test_hangup_begins_the_next_one_with_the_job_file_as_it_is_now(job: Job) -> None:
    file = job.work / "photos.toml"
    text = '{}part-size = "100K"\nwrites-per-second = 1000\n[source]\nkind = "folder"\npath = "photos"\n'
    file.write_text(text.format(""))
    with serving(job, "push", "photos.toml", "--every", "1h", "-q") as process:
        runs(job, 1)
        began = time.time()
        while read_next(job.home, "photos") is None:
            assert time.time() < began + 20
            time.sleep(0.05)
        (told,) = json.loads(job.run("status", "--json")[0])["datasets"]
        assert began + 3500 < told["next_push"] < began + 3601
        assert f"every      next push at {moment(told['next_push'])}" in job.run("status")[0]
        file.write_text(text.format('share = "anyone"\n'))
        process.send_signal(signal.SIGHUP)
        runs(job, 2)
        time.sleep(0.5)
        finish(process)
    assert process.returncode == 0
    assert read_next(job.home, "photos") is None and not list((job.home / "live").iterdir())
    out, _ = job.run("status", "--json")
    assert '"shared": "anyone"' in out


def test_what_is_to_be_mended_ends_it(job: Job) -> None:
    (job.work / "photos.toml").write_text("uplods = 3\n[source]\nkind = 'folder'\npath = 'photos'\n")
    _, err = job.run("push", "photos.toml", "--every", "1h", code=78)
    assert "uploads" in err
    _, err = job.run("push", "photos", "--every", "soon", code=64)
    assert "soon" in err


def test_nobody_to_tell(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("NOTIFY_SOCKET", "/nonexistent/notify")
    notify("READY=1")
    monkeypatch.delenv("NOTIFY_SOCKET")
    notify("READY=1")
    assert capsys.readouterr() == ("", "")  # and nothing was raised
