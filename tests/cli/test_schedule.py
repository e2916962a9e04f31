"""What `schedule` prints is taken by systemd and by cron, and runs where nobody is at home."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from driveshard.cli.units import Rhythm, calendar, cron_times, rhythm, unit_name
from driveshard.core.errors import UsageError
from driveshard.emulator import Emulator
from tests.rig import environment

ANALYZE = shutil.which("systemd-analyze")


@pytest.fixture
def desk(tmp_path: Path) -> Path:
    odd = tmp_path / "my photos 5% $HOME"
    odd.mkdir()
    (odd / "a.txt").write_text("a")
    return tmp_path


def schedule(desk: Path, *arguments: str, code: int = 0, **variables: str) -> str:
    kept = environment(DRIVESHARD_HOME=str(desk / "home"), **variables)
    command = [sys.executable, "-m", "driveshard", "schedule", *arguments]
    done = subprocess.run(command, env=kept, cwd=desk, capture_output=True, text=True, timeout=60)
    assert done.returncode == code, done.stderr
    return done.stdout if code == 0 else done.stderr


def printed(desk: Path, *arguments: str, **variables: str) -> dict[str, Any]:
    return dict(json.loads(schedule(desk, *arguments, "--json", **variables)))


@pytest.mark.skipif(ANALYZE is None, reason="systemd-analyze is not installed")
@pytest.mark.parametrize("when", [("--every", "15m"), ("--every", "1h"), ("--every", "6h"), ("--at", "02:30"), ()])
def test_systemd_takes_the_units(desk: Path, when: tuple[str, ...]) -> None:
    told = printed(desk, "my photos 5% $HOME", "--name", "a $b %c", *when)
    files = []
    for kind in ("service", "timer"):
        files.append(desk / f"{told['unit']}.{kind}")
        files[-1].write_text(told[kind])
    assert ANALYZE is not None
    done = subprocess.run([ANALYZE, "verify", "--man=no", *files], capture_output=True, text=True, timeout=60)
    assert (done.returncode, [line for line in done.stderr.splitlines() if told["unit"] in line]) == (0, [])
    at = re.search(r"OnCalendar=(.*)", told["timer"])
    assert at
    subprocess.run([ANALYZE, "calendar", at[1]], check=True, capture_output=True, timeout=60)


def test_a_job_that_stays_is_one_service_that_systemd_watches(desk: Path) -> None:
    job = "name = 'n'\nevery = '15m'\n[source]\nkind = 'folder'\npath = 'my photos 5% $HOME'\n"
    (desk / "job.toml").write_text(job)
    told = printed(desk, "job.toml")
    unit = dict(line.split("=", 1) for line in told["service"].splitlines() if re.match(r"[A-Z]\w*=", line))
    assert (unit["Type"], unit["WatchdogSec"], told["timer"]) == ("notify", "2min", None)
    assert unit["RestartPreventExitStatus"] == "64 70 77 78 79" and unit["SuccessExitStatus"] == "130 143"
    assert told["crontab"].startswith("@reboot cd ") and told["crontab"].endswith(" --summary --wait --nice")
    assert "enable --now driveshard-n.service" in schedule(desk, "job.toml")
    assert "stays by itself" in schedule(desk, "job.toml", "--every", "1h", code=64)
    if ANALYZE is not None:
        file = desk / f"{told['unit']}.service"
        file.write_text(told["service"])
        done = subprocess.run([ANALYZE, "verify", "--man=no", file], capture_output=True, text=True, timeout=60)
        assert (done.returncode, [line for line in done.stderr.splitlines() if told["unit"] in line]) == (0, [])


@pytest.mark.skipif(os.name == "nt", reason="cron")
def test_the_crontab_line_runs_with_nothing_around(desk: Path, emulator: Emulator) -> None:
    (desk / "home").mkdir()
    options = ("--name", "night", "--part-size", "4096", "--engine", "serial")
    told = printed(desk, "my photos 5% $HOME", *options, "--at", "02:30", DRIVESHARD_DRIVE_URL=emulator.url)
    times, line = re.fullmatch(r"((?:\S+ ){5})(.*)", told["crontab"]).groups()  # type: ignore[union-attr]
    assert times == "30 2 * * * " and "\n" not in line
    line = line.replace(r"\%", "%")  # as cron does
    bare = {"PATH": "/usr/bin:/bin", "LC_ALL": "C", "PYTHONPATH": environment()["PYTHONPATH"]}
    for sent in ("sent 1", "sent 0 B"):
        done = subprocess.run(
            ["/bin/sh", "-c", f"{line} <&-"], env=bare, cwd="/", capture_output=True, text=True, timeout=60
        )
        assert done.returncode == 0, done.stderr
        assert done.stderr == ""
        assert re.fullmatch(rf"driveshard night: complete, 1 part, .*{sent}.* http://\S+\n", done.stdout), done.stdout


def test_what_push_would_refuse_is_refused_now(desk: Path) -> None:
    assert "Did you mean '--name'?" in schedule(desk, "my photos 5% $HOME", "--nam", "x", code=64)
    assert "anyone, domain:D" in schedule(desk, "my photos 5% $HOME", "--share", "all", code=64)
    assert "there is no folder" in schedule(desk, "photos", code=66)
    (desk / "job.toml").write_text("uplods = 3\n[source]\nkind = 'folder'\npath = '.'\n")
    assert "uploads" in schedule(desk, "job.toml", code=78)


def test_a_proxys_password_is_not_printed(desk: Path) -> None:
    told = json.dumps(printed(desk, "my photos 5% $HOME", HTTPS_PROXY="http://me:geheim@proxy:8080"))
    assert "geheim" not in told


@pytest.mark.parametrize(
    ("when", "cron", "systemd"),
    [
        (Rhythm(every=900), "*/15 * * * *", "*-*-* *:00/15:00"),
        (Rhythm(at=(2, 5)), "5 2 * * *", "*-*-* 02:05:00"),
        (Rhythm(every=6 * 3600), "31 */6 * * *", "*-*-* 00/6:31:00"),
    ],
)
def test_the_times(when: Rhythm, cron: str, systemd: str) -> None:
    name = next(name for name in map(str, range(1000)) if cron_times(Rhythm(every=3600), name).startswith("31 "))
    assert (cron_times(when, name), calendar(when, name)) == (cron, systemd)


@pytest.mark.parametrize(("every", "at"), [(420, None), (90, None), (5 * 3600, None), (None, "25:00"), (60, "02:30")])
def test_what_cron_cannot_say_is_refused(every: float | None, at: str | None) -> None:
    with pytest.raises(UsageError) as caught:
        rhythm(every, at)
    assert caught.value.advice


def test_a_units_name_is_a_file_name() -> None:
    assert unit_name("../Größe von/x") == "driveshard-Gr-e-von-x"
    assert unit_name("///") == "driveshard-push"
