"""Where each value comes from: defaults < config file < job file < environment."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from driveshard.cli.main import main
from driveshard.config.effective import effective, unknown_variables
from driveshard.config.options import PUSH, RUN, SETTINGS
from driveshard.core.errors import ConfigError


@pytest.fixture
def job(tmp_path: Path) -> Path:
    path = tmp_path / "job.toml"
    path.write_text('uploads = 4\nshare = "anyone"\n[source]\nkind = "folder"\npath = "x"\n')
    return path


def found(home: Path, job: Path | None = None, **environment: str) -> dict[str, tuple[Any, str]]:
    return {one.name: (one.value, one.source) for one in effective(home, environment, job)}


def test_each_place_comes_over_the_one_before(home: Path, job: Path) -> None:
    config = home / "config.toml"
    config.write_text('uploads = 2\nshare = "nobody"\npart-size = "64MiB"\ntimeout = 7\n')
    told = found(home, job, DRIVESHARD_UPLOADS="8")
    assert told["uploads"] == (8, "DRIVESHARD_UPLOADS")
    assert told["share"] == ("anyone", str(job))
    assert told["part-size"] == (64 << 20, str(config))
    assert told["timeout"] == (7, str(config))
    assert told["engine"] == ("processes", "default")
    assert told["retries"] == (12, "default")
    assert list(told) == [option.name for option in (*PUSH, *RUN, *SETTINGS)]


def test_an_unknown_key_is_an_error_with_a_suggestion(home: Path) -> None:
    (home / "config.toml").write_text("part-sise = 5\n")
    with pytest.raises(ConfigError, match="part-sise is not an option") as caught:
        effective(home, {})
    assert caught.value.advice == "Did you mean part-size?"


def test_an_unknown_variable_is_told_with_the_one_that_was_meant() -> None:
    environment = {"DRIVESHARD_PART_SISE": "1", "DRIVESHARD_HOME": "x", "DRIVESHARD_JSON": "1", "PART_SIZE": "1"}
    assert unknown_variables(environment, ["DRIVESHARD_JSON"]) == {"DRIVESHARD_PART_SISE": "DRIVESHARD_PART_SIZE"}


def test_the_command(
    home: Path, job: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("DRIVESHARD_HOME", str(home))
    monkeypatch.setenv("DRIVESHARD_API_KEY", "AIza-a-secret")
    monkeypatch.setenv("DRIVESHARD_BWLIMIT", "20 Mbit/s")
    assert main(["config", str(job), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    rows = {one["name"]: (one["value"], one["from"]) for one in told["values"]}
    assert rows["share"] == ("anyone", str(job)) and rows["bwlimit"] == ("20 Mbit/s", "DRIVESHARD_BWLIMIT")
    assert told["home"] == str(home) and told["unknown"] == []
    assert main(["config"]) == 0
    out = capsys.readouterr().out
    assert "512.0 MiB" in out and "AIza" not in out
    monkeypatch.setenv("DRIVESHARD_SHARRE", "anyone")
    assert main(["config", "-q"]) == 78
    said = capsys.readouterr()
    assert "Did you mean DRIVESHARD_SHARE?" in said.err and "part-size" not in said.out and "bwlimit" in said.out
