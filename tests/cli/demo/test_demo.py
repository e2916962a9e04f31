"""The demo does the whole job, with and without trouble on the way, and leaves nothing behind unless asked."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import urllib.request
import zipfile
from pathlib import Path

import pytest

from driveshard.emulator import Emulator
from tests.rig import environment
from tests.terminal import on_terminal

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
    assert "Read a batch of 32 samples from the pulled zips" in out
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
    assert found["samples_read"] == 24
    assert found["faults"] >= 4  # a small part goes out in one request, which may be over before 256 KiB
    assert found["sent_bytes"] >= found["bytes"]


def test_what_is_kept_can_be_served_again(tmp_path: Path) -> None:
    out, _ = demo(tmp_path, "--samples", "20", "--keep", "kept", "-v")
    root = re.findall(r"driveshard emulate --root (\S+)/drive --port \d+$", out, re.MULTILINE)
    assert root == ["kept"]
    assert len(list((tmp_path / "kept" / "backgrounds").iterdir())) == 4
    with Emulator(tmp_path / "kept" / "drive") as emulator:
        stored = {one.name: one for one in emulator.drive.store.all()}
        assert {"demo", "demo-00000.zip", "manifest.json", "README.md", "preview.jpg"} <= set(stored)
    zips = [path for path in (tmp_path / "kept" / "drive").rglob("*") if path.is_file() and zipfile.is_zipfile(path)]
    members = []
    for path in zips:  # the part, and the index, which is a zip of arrays
        with zipfile.ZipFile(path) as archive:
            members.append(len([name for name in archive.namelist() if not name.endswith(".npy")]))
    assert sorted(members) == [0, 3 * 32]
    pulled = tmp_path / "kept" / "pulled"
    assert sorted(one.name for one in pulled.iterdir()) == ["demo-00000.zip", "index.npz", "manifest.json"]
    assert (pulled / "demo-00000.zip").read_bytes() in [path.read_bytes() for path in zips]
    _, err = demo(tmp_path, "--keep", "kept", code=64)
    assert "kept is not empty" in err


def page_at(link: str) -> str:
    with urllib.request.urlopen(link, timeout=10) as reply:
        return str(reply.read().decode())


@pytest.mark.skipif(os.name == "nt", reason="needs a pseudo-terminal")
def test_the_link_can_be_looked_at(tmp_path: Path) -> None:
    """The page is asked for before the question is answered, and once more after yes."""
    seen: list[str] = []

    def look(screen: str) -> str:
        seen.append(page_at(re.findall(r"http://127\.0\.0\.1:\d+/drive/folders/\S+", screen)[0]))
        return "y" if len(seen) == 1 else ""

    known = environment(DRIVESHARD_HOME=str(tmp_path / "home"), TMPDIR=str(tmp_path))
    answers = {"[y/N]": look, "closes it.": look}
    code, screen = on_terminal(["demo", "--samples", "20"], known, tmp_path, answers=answers)
    assert code == 0 and len(seen) == 2, screen
    assert "<h2>demo</h2>" in seen[1] and "pip install driveshard" in seen[1]
    assert not list(tmp_path.glob("driveshard-demo-*"))


@pytest.mark.skipif(os.name == "nt", reason="signals are another thing there")
def test_open_needs_no_terminal_and_ends_when_told(tmp_path: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "driveshard", "demo", "--samples", "20", "--open", "--json"],
        env=environment(DRIVESHARD_HOME=str(tmp_path / "home"), TMPDIR=str(tmp_path)),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None and process.stderr is not None
    link = json.loads(process.stdout.readline())["link"]
    while "closes it." not in process.stderr.readline():
        assert process.poll() is None
    assert "manifest.json" in page_at(link)
    process.send_signal(signal.SIGTERM)
    _, err = process.communicate(timeout=30)
    assert (process.returncode, "Traceback" in err) == (0, False)
    assert not list(tmp_path.glob("driveshard-demo-*"))


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
