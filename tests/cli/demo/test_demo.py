"""The demo does the whole job, with and without trouble on the way, and leaves nothing behind unless asked."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from driveshard.emulator import Emulator

REPOSITORY = Path(__file__).resolve().parents[3]


def demo(work: Path, *arguments: str, code: int = 0) -> tuple[str, str]:
    """Stdout and stderr of a demo whose temp folder and home are in ``work``."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("DRIVESHARD_")}
    environment = {**kept, "PYTHONPATH": str(REPOSITORY), "TMPDIR": str(work), "DRIVESHARD_HOME": str(work / "home")}
    command = [sys.executable, "-m", "driveshard", "demo", *arguments]
    done = subprocess.run(command, env=environment, cwd=work, capture_output=True, text=True, timeout=60)
    assert done.returncode == code, done.stderr
    return done.stdout, done.stderr


def test_the_whole_job(tmp_path: Path) -> None:
    out, _ = demo(tmp_path)
    assert re.search(r"Packed and uploaded 2,000 samples \(6,000 files, \d+\.\d MiB\) as [4-6] zip parts", out)
    assert "Verified: " in out
    assert "Read 24 samples back" in out
    assert re.search(r"^Pulled it without a login: [4-6] parts, \d+\.\d MiB, each proved by size", out, re.M)
    assert re.search(r"^  http://127\.0\.0\.1:\d+/drive/folders/\S+$", out, re.MULTILINE)
    assert "driveshard login" in out
    left = [one.name for one in tmp_path.iterdir() if not one.name.startswith("pymp-")]
    assert left == []


def test_trouble_on_the_way_changes_nothing(tmp_path: Path) -> None:
    out, err = demo(tmp_path, "--samples", "400", "--faults", "503@5*3,lost-final,503-after-256K", "--json", "-q")
    assert out.count("\n") == 1
    assert err == ""
    found = json.loads(out)
    assert (found["state"], found["samples"], found["files"], found["verified"]) == ("complete", 400, 1200, True)
    assert (found["samples_read"], found["faults"]) == (24, 5)
    assert found["sent_bytes"] >= found["bytes"]


def test_what_is_kept_can_be_served_again(tmp_path: Path) -> None:
    out, _ = demo(tmp_path, "--samples", "20", "--keep", "kept", "-v")
    root = re.findall(r"driveshard emulate --root (\S+)/drive --port \d+$", out, re.MULTILINE)
    assert root == ["kept"]
    assert len(list((tmp_path / "kept" / "backgrounds").iterdir())) == 4
    with Emulator(tmp_path / "kept" / "drive") as emulator:
        stored = {one.name: one for one in emulator.drive.store.all()}
        assert {"demo", "demo-00000.zip", "manifest.json", "README.md", "preview.jpg"} <= set(stored)
    parts = [path for path in (tmp_path / "kept" / "drive").rglob("*") if path.is_file() and zipfile.is_zipfile(path)]
    assert len(parts) == 1
    pulled = tmp_path / "kept" / "pulled"
    assert sorted(one.name for one in pulled.iterdir()) == ["demo-00000.zip", "manifest.json"]
    assert (pulled / "demo-00000.zip").read_bytes() == parts[0].read_bytes()
    with zipfile.ZipFile(parts[0]) as archive:
        assert len(archive.namelist()) == 3 * 32
    _, err = demo(tmp_path, "--keep", "kept", code=64)
    assert "kept is not empty" in err


@pytest.mark.parametrize(
    ("arguments", "said"),
    [(("--faults", "floods"), "--faults: unknown fault 'floods'"), (("--samples", "0"), "--samples")],
)
def test_wrong_use(tmp_path: Path, arguments: tuple[str, ...], said: str) -> None:
    out, err = demo(tmp_path, *arguments, code=64)
    assert out == ""
    assert said in err
    assert list(tmp_path.iterdir()) == []


def test_a_fault_that_lasts_ends_it_with_its_code(tmp_path: Path) -> None:
    _, err = demo(tmp_path, "--samples", "20", "--faults", "403-storageFull*", code=79)
    assert "driveshard: the Drive storage is full." in err
