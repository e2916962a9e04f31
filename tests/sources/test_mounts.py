"""Other file systems, the whole system, a home: what is left out, and what is asked first."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import pytest

import driveshard
from driveshard.core.errors import UsageError
from driveshard.core.model import Failure
from driveshard.sources import mounts
from driveshard.sources.folder import FolderSource
from driveshard.sources.mounts import Borders, doubt, mounts_below, read_mounts
from tests.rig import environment
from tests.terminal import on_terminal

linux = pytest.mark.skipif(not Path("/proc/self/mountinfo").exists(), reason="needs Linux")
TABLE = """\
22 27 0:21 / /proc rw,relatime - proc proc rw
27 1 254:0 / / rw,relatime - ext4 /dev/vda rw
40 27 8:1 / /data/with\\040space rw shared:1 - ext4 /dev/sda1 rw
41 27 8:2 / /data/nas rw - autofs systemd-1 rw
42 27 0:50 / /data/nas rw - nfs4 nas:/x rw
43 27 254:0 /home /data/bind rw,relatime - ext4 /dev/vda rw
44 27 0:60 / /database rw - tmpfs none rw
"""


def table(tmp_path: Path) -> list[mounts.Mount]:
    path = tmp_path / "mountinfo"
    path.write_text(TABLE)
    found = read_mounts(path)
    assert found is not None
    return found


def test_the_mounts_below_a_folder(tmp_path: Path) -> None:
    found = mounts_below(Path("/data"), table(tmp_path))
    assert {path: one.kind for path, one in found.items()} == {b"with space": "ext4", b"nas": "nfs4"}
    assert b"proc" in mounts_below(Path("/"), table(tmp_path))
    assert mounts_below(Path("/data/nas"), table(tmp_path)) == {}


def test_what_is_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    known = table(tmp_path)
    home = tmp_path / "homes" / "ada"
    (home / "photos").mkdir(parents=True)
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("USERPROFILE", str(home))
    assert doubt(home / "photos", other_file_systems=False, mounts=known) is None
    assert "a home folder" in str(doubt(home, other_file_systems=False, mounts=known))
    assert "the folder of all homes" in str(doubt(home.parent, other_file_systems=False, mounts=known))
    if os.name != "nt":
        said = str(doubt(Path("/"), other_file_systems=False, mounts=known))
        assert "the whole system" in said and "are left out (/data/nas, /data/with space, /database)" in said
        assert "are packed, too" in str(doubt(Path("/"), other_file_systems=True, mounts=known))


def scanned(source: FolderSource) -> tuple[set[bytes], list[Failure]]:
    skipped: list[Failure] = []
    return {row[0] for block in source.scan(on_skipped=skipped.append) for row in block}, skipped


@linux
@pytest.mark.parametrize("root", ["/proc", "/sys", "/proc/self", "/dev"])
def test_what_the_system_tells_of_itself_is_never_packed(root: str) -> None:
    for other in (False, True):
        with pytest.raises(UsageError, match="what the system tells of itself"):
            scanned(FolderSource(Path(root), other_file_systems=other))


def test_a_folder_on_another_device_is_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where nobody tells the mounts, the device of each folder is looked at."""
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "x").write_bytes(b"x")
    monkeypatch.setattr(mounts, "read_mounts", lambda: None)
    assert scanned(FolderSource(tmp_path)) == ({b"a/x"}, [])
    device = os.stat(tmp_path).st_dev
    assert Borders({}, device + 1).crossed(os.fsencode(tmp_path)) and not Borders({}, device).crossed(
        os.fsencode(tmp_path)
    )
    assert not Borders({}).crossed(os.fsencode(tmp_path))


@pytest.mark.skipif(os.name == "nt", reason="needs pipes and sockets")
def test_sockets_and_pipes_are_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)  # a socket's path must be short
    os.mkfifo("pipe")
    (tmp_path / "file").write_bytes(b"x")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind("socket")
        paths, skipped = scanned(FolderSource(tmp_path))
    assert paths == {b"file"} and {one.path for one in skipped} == {"pipe", "socket"}


def mounted(tmp_path: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """``driveshard`` where another file system is mounted at ``data/disk``; only this process sees it."""
    (tmp_path / "data" / "disk").mkdir(parents=True, exist_ok=True)
    (tmp_path / "data" / "own.txt").write_text("own")
    script = 'mount -t tmpfs none data/disk && echo other > data/disk/other.txt && exec "$@"'
    command = ["unshare", "-m", "sh", "-euc", script, "sh", sys.executable, "-m", "driveshard", *arguments]
    known = environment(DRIVESHARD_HOME=str(tmp_path / "home"))
    done = subprocess.run(
        command, cwd=tmp_path, env=known, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60
    )
    if "permi" in done.stderr.lower() or not shutil.which("unshare"):
        pytest.skip("may not mount here")
    return done


@linux
@pytest.mark.skipif(shutil.which("unshare") is None, reason="needs unshare")
def test_a_mount_is_asked_about_and_left_out_unless_told(tmp_path: Path) -> None:
    push = ("push", "data", "--to", "file:out", "--engine", "serial")
    asked = mounted(tmp_path, *push)
    assert asked.returncode == 64 and "data/disk" in asked.stderr and "--yes" in asked.stderr
    assert not (tmp_path / "out").exists()
    done = mounted(tmp_path, *push, "--yes")
    assert done.returncode == 0 and "left out: other file systems (disk); --other-file-systems" in done.stderr
    members = ("ls", "out/data")
    assert mounted(tmp_path, *members).stdout.split() == ["own.txt"]
    assert mounted(tmp_path, *push, "--yes", "--other-file-systems").returncode == 0
    assert mounted(tmp_path, *members).stdout.split() == ["disk/other.txt", "own.txt"]


@pytest.mark.skipif(os.name == "nt", reason="needs a pseudo-terminal")
def test_a_home_is_asked_about_on_a_terminal(tmp_path: Path) -> None:
    (tmp_path / "ada").mkdir()
    (tmp_path / "ada" / "a.txt").write_text("a")
    known = {**environment(DRIVESHARD_HOME=str(tmp_path / "home")), "HOME": str(tmp_path / "ada")}
    push = ["push", "ada", "--to", "file:out", "--engine", "serial"]
    code, screen = on_terminal(push, known, tmp_path, answers={"keys? [y/N]": "n"})
    assert code == 130 and not (tmp_path / "out").exists(), screen
    code, screen = on_terminal(push, known, tmp_path, answers={"keys? [y/N]": "y"})
    assert code == 0 and (tmp_path / "out" / "ada").exists(), screen


def test_from_python_it_is_refused_unless_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"HOME": "data", "USERPROFILE": "data", "DRIVESHARD_HOME": "kept"}.items():
        monkeypatch.setenv(name, str(tmp_path / value))
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "a").write_bytes(b"a")
    with pytest.raises(UsageError, match="asked first"):
        driveshard.push(tmp_path / "data", to=f"file:{tmp_path / 'out'}")
    assert driveshard.push(tmp_path / "data", to=f"file:{tmp_path / 'out'}", engine="serial", yes=True).files == 1
