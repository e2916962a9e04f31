"""``import driveshard`` beside the command: source objects, typed results, progress, errors."""

from __future__ import annotations

import ast
import io
import os
import re
import subprocess
import sys
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import driveshard
from driveshard.core import errors
from driveshard.core.events import Event, Notice
from driveshard.emulator import Emulator

REPOSITORY = Path(__file__).resolve().parents[1]


@pytest.fixture
def drive(emulator: Emulator, home: Path, monkeypatch: pytest.MonkeyPatch) -> Emulator:
    """The emulator, named in the environment."""
    monkeypatch.setenv("DRIVESHARD_HOME", str(home))
    monkeypatch.setenv("DRIVESHARD_DRIVE_URL", emulator.url)
    monkeypatch.setenv("DRIVESHARD_WRITES_PER_SECOND", "1000")
    return emulator


class Numbers:
    """Forty samples, by number."""

    def __init__(self, count: int = 40, extra: object = None) -> None:
        self.count = count
        self.extra = extra

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, number: int) -> driveshard.Sample:
        if number == 7:
            raise ValueError("seven")
        return driveshard.Sample(f"n/{number:03d}", {"txt": str(number)})


def stream() -> Iterator[driveshard.Sample]:
    """Three samples, one after the other."""
    for number in range(3):
        yield driveshard.Sample(f"s/{number}", {"txt": str(number)})


@pytest.mark.parametrize(("given", "name", "samples"), [(Numbers, "Numbers", 39), (Numbers(20), "Numbers", 19)])
def test_a_class_or_an_object_is_a_source(drive: Emulator, given: Any, name: str, samples: int) -> None:
    result = driveshard.push(given, part_samples=15)
    assert (result.name, result.samples, result.state) == (name, samples, "complete")
    assert driveshard.push(given, part_samples=15).sent_bytes == 0
    assert driveshard.cat(name, "n/012.txt") == b"12"


def test_a_function_that_gives_samples_is_a_source(drive: Emulator) -> None:
    assert driveshard.push(stream, name="st").samples == 3
    with pytest.raises(driveshard.errors.UsageError, match="gone through only once") as caught:
        driveshard.push(stream())
    assert "Give the function that makes it" in str(caught.value)


def test_what_cannot_go_to_workers_is_packed_in_threads_and_that_is_said(drive: Emulator) -> None:
    said: list[Event] = []
    held = io.FileIO(os.devnull)
    result = driveshard.push(Numbers(20, held), name="held", on_event=said.append)
    held.close()
    assert result.samples == 19
    notices = [event.text for event in said if isinstance(event, Notice)]
    assert any("cannot be sent to worker processes" in text and "threads" in text for text in notices)


SCRIPT = """
import os
import driveshard
import beside

class Mine:
    def __len__(self): return 30
    def __getitem__(self, n):
        if n == 4:
            beside.fail(n)
        return driveshard.Sample(f"k{n:02d}", {"txt": f"{os.getpid()}"})

if __name__ == "__main__":
    result = driveshard.push(Mine, part_samples=10, workers=2)
    pids = {driveshard.cat("Mine", f"k{n:02d}.txt") for n in (0, 15, 25)}
    print(result.samples, str(os.getpid()).encode() in pids, result.failed[0].why)
"""


def test_a_class_of_a_script_is_packed_by_worker_processes(drive: Emulator, tmp_path: Path) -> None:
    (tmp_path / "script.py").write_text(SCRIPT)
    (tmp_path / "beside.py").write_text("def fail(n):\n    raise KeyError(n)\n")
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    done = subprocess.run(
        [sys.executable, "script.py"], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=60
    )
    assert done.stdout == "29 False KeyError: 4 (beside.py, line 2)\n"
    assert done.stderr == ""  # no terminal: no progress unless it is asked for


def test_failing_code_is_shown_with_its_file_and_line(drive: Emulator) -> None:
    result = driveshard.push(Numbers, name="seven")
    line = next(n for n, text in enumerate(Path(__file__).read_text().splitlines(), 1) if 'ValueError("seven")' in text)
    assert re.fullmatch(rf"ValueError: seven \(\S*test_api\.py, line {line}\)", result.failed[0].why)

    def broken() -> None:
        import json

        json.loads("{")  # the error is raised in the library, the mistake is here

    with pytest.raises(driveshard.errors.UsageError, match=r"test_api\.py, line \d+\)"):
        driveshard.push(broken, name="broken")


def test_every_kind_of_error_and_event_can_be_imported() -> None:
    kinds = {name for name, kind in vars(errors).items() if isinstance(kind, type) and issubclass(kind, Exception)}
    assert set(driveshard.errors.__all__) == kinds
    source = ast.parse(Path(driveshard.core.events.__file__).read_text())  # type: ignore[attr-defined]
    assert {node.name for node in source.body if isinstance(node, ast.ClassDef)} < set(driveshard.events.__all__)


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    folder = tmp_path / "photos"
    folder.mkdir()
    for number in range(30):
        (folder / f"{number:02d}.bin").write_bytes(bytes([number]) * 500)
    return folder


def test_what_is_there_is_told_in_types(drive: Emulator, photos: Path) -> None:
    link = driveshard.push(photos, part_size=4096, writes_per_second=1000).link
    assert [member.path for member in driveshard.ls("photos", "0*")] == [b"%02d.bin" % number for number in range(10)]
    assert driveshard.cat(str(link), "03.bin") == b"\x03" * 500
    with driveshard.open("photos") as reading:
        assert reading.manifest.files == 30
    proof = driveshard.verify("photos", deep=True)
    assert (proof.ok, proof.parts) == (True, 5)
    shared = driveshard.share("photos", "anyone")
    assert (shared.shared, shared.link) == ("anyone", link)
    assert [(one.name, one.state) for one in driveshard.status()] == [("photos", "complete")]
    with pytest.raises(driveshard.errors.UsageError, match="not anyone"):
        driveshard.share("photos", "all")
    with pytest.raises(driveshard.errors.SourceMissing, match=r"Did you mean photos\?"):
        driveshard.status("photo")


# -- progress --------------------------------------------------------------------------------------------------------


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(("progress", "shows"), [(None, True), (True, True), (False, False)])
def test_progress_in_a_terminal(
    drive: Emulator, photos: Path, monkeypatch: pytest.MonkeyPatch, progress: bool | None, shows: bool
) -> None:
    screen = Terminal()
    monkeypatch.setattr(sys, "stderr", screen)
    monkeypatch.setenv("TERM", "xterm")
    driveshard.push(photos, progress=progress)
    assert ("Packing" in screen.getvalue()) is shows


def test_progress_elsewhere_only_when_asked_for(
    drive: Emulator, photos: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    driveshard.push(photos)
    assert capsys.readouterr() == ("", "")
    driveshard.push(photos, progress=True)
    out, err = capsys.readouterr()
    assert (out, "pushing photos" in err) == ("", True)


def test_progress_in_a_notebook(
    drive: Emulator, photos: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    module = types.ModuleType("IPython")
    module.get_ipython = lambda: types.SimpleNamespace(kernel=object())  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "IPython", module)
    driveshard.push(photos)
    out, err = capsys.readouterr()
    assert err == ""
    assert re.search(r"\r100%, 1\d\.\d/1\d\.\d KiB up, 30 of 30 files, packed 1/1 parts, uploaded 1/1", out)
    assert out.endswith("\n")
