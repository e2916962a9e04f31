"""What a push will cost: by hand-made sums, and against what the emulator counts."""

from __future__ import annotations

import datetime
import json
from pathlib import Path
from typing import Any

import pytest

from driveshard.cli.main import main
from driveshard.emulator import Emulator
from driveshard.storage.drive.credentials import write_token
from driveshard.upload.forecast import Pace, forecast, requests_of, seconds_by
from tests.cli.test_doctor import stored_login
from tests.rig import fill

GB = 10**9


def test_the_line_is_what_takes_long() -> None:
    told = forecast(10, 5 * GB, temp=3 * GB, writes_per_second=2.5, bytes_a_second=2_500_000)
    assert told.seconds == pytest.approx(2000)
    assert (told.temp, told.writes, told.limits) == (3 * GB, 16 + 6, ()), "six renewals of the claim in 2000 seconds"
    assert any("33 min 20 s" in line for line in told.lines())


def test_many_tiny_parts_take_as_long_as_their_writes() -> None:
    told = forecast(10_000, GB // 1000, temp=GB, writes_per_second=2.5, bytes_a_second=1e9)
    assert told.seconds == pytest.approx(10_006 / 2.5)
    assert told.temp == GB // 1000


def test_the_cap_of_the_day_is_counted_in_days() -> None:
    told = forecast(5000, 2000 * GB, temp=GB, writes_per_second=2.5, bytes_a_second=1e9)
    assert told.days == pytest.approx(2.667, abs=0.01) and told.seconds == pytest.approx(2 * 86_400)
    assert any("3 days" in line for line in told.lines()) and "75" in told.limits[0]


def test_more_items_than_a_folder_holds() -> None:
    told = forecast(500_000, GB, temp=GB, writes_per_second=2.5, bytes_a_second=None)
    assert told.seconds is None and any("--part-size" in said for said in told.limits)
    assert any("--at" in line for line in told.lines())


def test_each_limit_alone() -> None:
    told = seconds_by(1000, 1000 * GB, Pace(2.5, 100e6, uploads=4, round_trip=0.5), building=7.0)
    assert told == {
        "cores": 7.0,
        "line": 10_000,
        "writes": 1006 / 2.5,
        "trips": pytest.approx(((1000 + 1000 * requests_of(GB, 100e6)) * 0.5 + 10_000) / 4),
        "quota": pytest.approx((1000 * requests_of(GB, 100e6) + 1006) * 50 * 60 / 325_000),
        "day": 86_400,
    }
    assert seconds_by(0, 0, Pace(2.5, 1e6)) == {}


@pytest.mark.parametrize(
    ("size", "rate", "requests"),
    [(0, None, 1), (1, None, 1), (8 << 20, None, 1), (512 << 20, None, 3), (512 << 20, 1e6, 28), (10**13, 1e8, 5002)],
)
def test_requests_carry_some_seconds_of_the_line(size: int, rate: float | None, requests: int) -> None:
    assert requests_of(size, rate) == pytest.approx(requests, abs=2)


def test_it_is_near_what_the_push_then_does(
    home: Path, tmp_path: Path, emulator: Emulator, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("DRIVESHARD_HOME", str(home))
    monkeypatch.setenv("DRIVESHARD_DRIVE_URL", emulator.url)
    source = str(named_images(fill(tmp_path / "photos", 40, 50_000)))
    push = ["push", source, "--part-size", "100K", "--writes-per-second", "1000", "--engine", "serial", "--json"]
    assert main([*push, "--dry-run", "--at", "800 Kbit/s"]) == 0
    said = capsys.readouterr()
    told = json.loads(said.out)
    assert emulator.log() == []
    assert told["forecast"]["seconds"] == pytest.approx(told["bytes"] / 1e5, rel=0.05)
    assert "requests   about" in said.err and "temp disk" in said.err
    assert main(push) == 0
    done = json.loads(capsys.readouterr().out)
    assert told["forecast"]["parts"] == done["parts"]
    assert told["forecast"]["requests"] == pytest.approx(done["requests"], rel=0.15)
    assert told["forecast"]["writes"] == writes_in(emulator.log())
    assert main([*push, "--dry-run"]) == 0
    assert json.loads(capsys.readouterr().out)["forecast"]["parts"] == 0

    named_images(fill(tmp_path / "photos" / "more", 6, 50_000))
    assert main([*push, "--dry-run"]) == 0
    told, before = json.loads(capsys.readouterr().out), len(emulator.log())
    assert main(push) == 0
    capsys.readouterr()
    assert told["forecast"]["writes"] == writes_in(emulator.log()[before:]) + 1, "the preview is the same"


def named_images(folder: Path) -> Path:
    """Files that are looked at for the preview."""
    for path in folder.rglob("*.bin"):
        path.rename(path.with_suffix(".jpg"))
    return folder


def writes_in(log: list[dict[str, Any]]) -> int:
    """Requests that make or change a file; those that carry a part's bytes are no such."""
    return sum(one["method"] in ("POST", "PATCH") for one in log)


def test_storage_that_is_too_small_is_told() -> None:
    told = forecast(10, 5 * GB, temp=GB, writes_per_second=2.5, bytes_a_second=None, storage_left=3 * GB)
    assert any("2.8 GiB left on the account" in line for line in told.lines())
    assert len(told.limits) == 1 and "1.9 GiB more are needed" in told.limits[0]
    enough = forecast(10, 5 * GB, temp=GB, writes_per_second=2.5, bytes_a_second=None, storage_left=5 * GB)
    assert enough.limits == ()


def test_a_dry_run_asks_for_the_storage_left(
    tmp_path: Path, emulator: Emulator, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("DRIVESHARD_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("DRIVESHARD_DRIVE_URL", emulator.url)
    (tmp_path / "home").mkdir()
    fill(tmp_path / "photos", 3, 1000)
    write_token(tmp_path / "home" / "token.json", stored_login(datetime.datetime.now(datetime.UTC)))
    push = ["push", str(tmp_path / "photos"), "--dry-run", "--json"]
    assert main(push) == 0
    assert json.loads(capfd.readouterr().out)["forecast"]["storage_left"] == 1 << 42
    monkeypatch.setenv("DRIVESHARD_DRIVE_URL", "http://127.0.0.1:1")  # where nobody answers
    assert main(push) == 0
    assert json.loads(capfd.readouterr().out)["forecast"]["storage_left"] is None
