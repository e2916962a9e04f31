"""What a written path means, everywhere one can be written."""

from __future__ import annotations

from pathlib import Path

import pytest

from driveshard.config.job_file import read_job_file
from driveshard.config.options import FLAGS, PUSH, SETTINGS, in_file, read_environment, read_values
from driveshard.config.settings import home_folder
from driveshard.config.source_argument import open_source
from driveshard.core.paths import path_of
from driveshard.sources.folder import FolderSource


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home folder, with the current folder beside it."""
    (tmp_path / "home").mkdir()
    (tmp_path / "here").mkdir()
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("USERPROFILE", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path / "here")
    return tmp_path / "home"


def test_only_a_leading_tilde_step_is_home(home: Path) -> None:
    here = Path.cwd()
    assert path_of("~") == home
    assert path_of("~/data") == home / "data"
    assert path_of("./~").resolve() == here / "~"
    assert path_of("./~/data").resolve() == here / "~" / "data"
    assert path_of("a/~").resolve() == here / "a" / "~"
    assert path_of("~root").resolve() == here / "~root"
    assert path_of("~root/x").resolve() == here / "~root" / "x"
    assert path_of("$HOME") == Path("$HOME")


def test_what_is_there_wins(home: Path) -> None:
    (Path.cwd() / "~" / "in").mkdir(parents=True)
    assert path_of("~") == Path.cwd() / "~"
    assert path_of("~/in") == Path.cwd() / "~" / "in"
    assert path_of("~/out") == home / "out"
    assert path_of(path_of("~")) == Path.cwd() / "~"


def test_a_file_s_paths_start_from_its_folder(home: Path, tmp_path: Path) -> None:
    assert path_of("x", tmp_path) == tmp_path / "x"
    assert path_of("~/x", tmp_path) == home / "x"
    (tmp_path / "~").mkdir()
    assert path_of("~", tmp_path) == tmp_path / "~"


@pytest.mark.parametrize("key", ["temp", "credentials", "service-account"])
def test_every_option_that_is_a_path_follows_the_rule(home: Path, key: str) -> None:
    field = key.replace("-", "_")
    table = (*PUSH, *SETTINGS)
    for origin, base in ((FLAGS, Path.cwd()), (in_file(home / "config.toml"), home)):
        assert read_values({key: "~/x"}, table, origin)[field] == home / "x"
        assert read_values({key: "./~"}, table, origin)[field].absolute() == base / "~"
        assert read_values({key: "~x"}, table, origin)[field].absolute() == base / "~x"
    variable = "DRIVESHARD_" + field.upper()
    assert read_environment({variable: "./~/x"}, table)[field].absolute() == Path.cwd() / "~" / "x"


def test_a_destination_follows_the_rule(home: Path) -> None:
    assert read_values({"to": "file:~/out"}, PUSH, FLAGS)["to"] == f"file:{home / 'out'}"
    assert read_values({"to": "file:./~"}, PUSH, FLAGS)["to"] == f"file:{Path.cwd() / '~'}"
    assert read_values({"to": "drive:"}, PUSH, FLAGS)["to"] == "drive:"
    assert home_folder({"DRIVESHARD_HOME": "./~"}) == Path.cwd() / "~"


@pytest.mark.parametrize("text", ["~", "./~", "~/"])
def test_a_source_called_tilde_is_not_the_home_folder(home: Path, text: str) -> None:
    (Path.cwd() / "~").mkdir()
    source = open_source(text)
    assert isinstance(source, FolderSource)
    assert source.root.samefile(Path.cwd() / "~")


def test_a_job_file_s_source_follows_the_rule(home: Path, tmp_path: Path) -> None:
    (tmp_path / "~x").mkdir()
    (tmp_path / "job.toml").write_text('[source]\nkind = "folder"\npath = "~x"\n')
    source = read_job_file(tmp_path / "job.toml").source((), ())
    assert isinstance(source, FolderSource)
    assert source.root == tmp_path / "~x"
