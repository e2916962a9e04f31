"""``import driveshard`` as a program uses it."""

from __future__ import annotations

import inspect
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import driveshard
from driveshard.config.options import PUSH
from driveshard.core.errors import ConfigError, DailyCap, SourceMissing, UsageError
from driveshard.core.events import Event, PartReleased, Published
from driveshard.emulator import Emulator

REPOSITORY = Path(__file__).resolve().parents[2]


@pytest.fixture
def drive(emulator: Emulator, home: Path, monkeypatch: pytest.MonkeyPatch) -> Emulator:
    """The emulator, named in the environment."""
    monkeypatch.setenv("DRIVESHARD_HOME", str(home))
    monkeypatch.setenv("DRIVESHARD_DRIVE_URL", emulator.url)
    monkeypatch.setenv("DRIVESHARD_WRITES_PER_SECOND", "1000")
    return emulator


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    folder = tmp_path / "photos"
    folder.mkdir()
    for number in range(30):
        (folder / f"{number:02d}.bin").write_bytes(bytes([number]) * 500)
    return folder


def test_what_is_exported_is_there() -> None:
    assert {"DriveshardError", "PushResult", "Sample", "__version__", "errors", "events"} <= set(driveshard.__all__)
    assert {"cat", "ls", "open", "push", "share", "status", "verify"} <= set(driveshard.__all__)
    assert set(driveshard.__all__) <= set(dir(driveshard))
    for name in driveshard.__all__:
        assert getattr(driveshard, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'pusch'"):
        driveshard.pusch  # noqa: B018


def test_the_version_is_the_packages() -> None:
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
    assert project["version"] == driveshard.__version__


def test_importing_it_imports_next_to_nothing() -> None:
    """No other room of the house, nobody else's library and nothing dear of Python's own. Without ``site``, so that it
    is the same in every venv: a .pth file may import whatever it likes before, or hide what is imported here."""
    code = f"import sys; sys.path.insert(0, {str(REPOSITORY)!r})"
    code += "; before = set(sys.modules); import driveshard; print(*(set(sys.modules) - before))"
    done = subprocess.run([sys.executable, "-I", "-S", "-c", code], capture_output=True, text=True, check=True)
    imported = set(done.stdout.split())
    assert {name for name in imported if name.partition(".")[0] not in sys.stdlib_module_names} == {"driveshard"}
    dear = {"asyncio", "concurrent", "http", "json", "logging", "multiprocessing", "socket", "sqlite3", "ssl", "urllib"}
    assert not {name.partition(".")[0] for name in imported} & dear


def test_push_takes_the_options_of_the_command() -> None:
    parameters = inspect.signature(driveshard.push).parameters
    apart = ("source", "progress", "on_event")
    assert [name for name in parameters if name not in apart] == [option.field for option in PUSH]
    for option in PUSH:
        assert parameters[option.field].kind is inspect.Parameter.KEYWORD_ONLY
        assert parameters[option.field].default is None


def test_the_docstring_of_push_tells_of_every_option() -> None:
    told = re.findall(
        r"^        (\w+): ", (inspect.getdoc(driveshard.push) and driveshard.push.__doc__) or "", re.MULTILINE
    )
    assert told[: len(PUSH) + 3] == list(inspect.signature(driveshard.push).parameters)


def test_push_returns_what_was_done(drive: Emulator, photos: Path) -> None:
    events: list[Event] = []
    result = driveshard.push(photos, part_size="4KiB", share="anyone", exclude=["0*"], on_event=events.append)
    assert (result.name, result.state, result.files, result.failed) == ("photos", "complete", 20, [])
    assert result.link is not None
    assert result.link.startswith(drive.url)
    assert sum(isinstance(event, PartReleased) for event in events) == result.parts > 2
    assert isinstance(events[-1], Published)
    assert driveshard.push(str(photos), part_size=4096, exclude="0*").sent_bytes == 0


def test_a_dry_run_returns_what_is_new(drive: Emulator, photos: Path) -> None:
    result = driveshard.push(photos, dry_run=True, part_samples=10, temp=photos.parent / "temp")
    assert (result.state, result.parts, result.files) == ("planned", 3, 30)
    assert drive.log() == []


def test_samples_of_a_program(drive: Emulator, tmp_path: Path) -> None:
    (tmp_path / "make.py").write_text(
        "import driveshard\n"
        "def make():\n"
        "    yield driveshard.Sample('a/1', {'txt': 'one', 'json': {'n': 1}})\n"
        "    yield driveshard.Sample('a/2', {'txt': object()})\n"
    )
    result = driveshard.push(f"{tmp_path / 'make.py'}:make", name="made")
    assert (result.samples, result.files) == (1, 2)
    assert [failure.path for failure in result.failed] == ["sample 1"]


def test_errors_are_raised_with_their_advice(drive: Emulator, photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(SourceMissing, match="there is no folder nothing"):
        driveshard.push("nothing")
    with pytest.raises(UsageError, match=r"^part_size: 'big' is not a size"):
        driveshard.push(photos, part_size="big")
    with pytest.raises(TypeError):
        driveshard.push(photos, part_sise=3)  # type: ignore[call-arg]
    drive.set_faults("403-projectCap")
    with pytest.raises(driveshard.DriveshardError) as caught:
        driveshard.push(photos)
    assert isinstance(caught.value, DailyCap)
    assert "Run the same command again" in caught.value.advice
    assert str(caught.value) == f"{caught.value.message}\n{caught.value.advice}"
    assert f"{caught.value}" == caught.value.message
    monkeypatch.setenv("DRIVESHARD_UPLOADS", "x")
    with pytest.raises(ConfigError, match="DRIVESHARD_UPLOADS"):
        driveshard.push(photos)
