"""``forget`` and ``clean``: what goes, what stays, and that somebody is asked."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from driveshard.emulator import Emulator
from tests.rig import Shelf, call, environment
from tests.terminal import on_terminal

needs_a_terminal = pytest.mark.skipif(os.name == "nt", reason="needs a pseudo-terminal")


class Desk:
    """A home, a Drive and a folder of photos."""

    def __init__(self, work: Path, url: str) -> None:
        self.work, self.url = work, url
        self.home = work / "home"
        (work / "tmp").mkdir()
        (work / "photos").mkdir()
        for number in range(40):
            (work / "photos" / f"{number}.bin").write_bytes(os.urandom(2000))
        self.environment = environment(
            DRIVESHARD_HOME=str(self.home),
            DRIVESHARD_DRIVE_URL=url,
            DRIVESHARD_LIST_LAG="0.5",
            DRIVESHARD_RETRIES="2",
            TMPDIR=str(work / "tmp"),
        )

    def run(self, *arguments: str, code: int = 0) -> tuple[str, str]:
        done = subprocess.run(
            [sys.executable, "-m", "driveshard", *arguments],
            env=self.environment,
            cwd=self.work,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert done.returncode == code, done.stderr
        assert "Traceback" not in done.stderr
        return done.stdout, done.stderr

    def json(self, *arguments: str, code: int = 0) -> dict[str, Any]:
        return dict(json.loads(self.run(*arguments, "--json", code=code)[0]))

    def push(self, *more: str, code: int = 0) -> str:
        given = ("--part-size", "20K", "--writes-per-second", "1000", "--engine", "serial", *more)
        return self.run("push", "photos", *given, code=code)[0].strip()

    def kept(self) -> set[str]:
        """What is in the home, but for what belongs to no dataset."""
        files = {one.relative_to(self.home).as_posix() for one in self.home.rglob("*") if one.is_file()}
        return {one for one in files if not one.startswith(("account", "machine")) and not one.endswith(".lock")}


@pytest.fixture
def desk(tmp_path: Path, emulator: Emulator) -> Desk:
    return Desk(tmp_path, emulator.url)


def trashed(desk: Desk, folder_id: str) -> bool:
    return bool(json.loads(call(desk.url, f"/drive/v3/files/{folder_id}?fields=trashed"))["trashed"])


# -- forget ----------------------------------------------------------------------------------------------------------


def test_forget_leaves_nothing_here_and_all_of_it_there(desk: Desk) -> None:
    link = desk.push()
    before = Shelf(desk.url).stored_bytes()
    out, _ = desk.run("forget", "photos")
    assert "Forgot photos: " in out and link in out
    assert desk.kept() == set()
    assert "runs.jsonl" not in {one.name for one in desk.home.iterdir()}
    assert Shelf(desk.url).stored_bytes() == before
    assert "no dataset photos" in desk.run("forget", "photos", code=66)[1]
    assert desk.push() == link  # found again by its name


def test_forget_takes_waiting_parts_wherever_they_are(desk: Desk) -> None:
    desk.push("--max-transfer", "1", "--temp", "elsewhere", code=75)
    assert list(desk.work.glob("elsewhere/*/*.zip"))
    found = desk.json("forget", "photos")
    assert found["bytes"] > 20_000 and not found["deleted"]
    assert list(desk.work.glob("elsewhere/*")) == [] and desk.kept() == set()


def test_delete_moves_the_folder_to_the_trash(desk: Desk) -> None:
    desk.push()
    folder_id = desk.json("status")["datasets"][0]["folder_id"]
    said = desk.run("forget", "photos", "--delete", code=64)[1]
    assert "to Drive's trash? Everybody who has its link loses it" in said and "--yes" in said
    assert not trashed(desk, folder_id) and desk.kept()
    assert desk.json("forget", "photos", "--delete", "--yes")["deleted"] is True
    assert trashed(desk, folder_id) and desk.kept() == set()


@needs_a_terminal
def test_delete_is_asked_on_a_terminal(desk: Desk) -> None:
    desk.push()
    folder_id = desk.json("status")["datasets"][0]["folder_id"]
    command = ["forget", "photos", "--delete"]
    code, screen = on_terminal(command, desk.environment, desk.work, answers={"[y/N]": ""})
    assert code == 130 and "Nothing was removed." in screen and not trashed(desk, folder_id)
    code, screen = on_terminal(command, desk.environment, desk.work, answers={"[y/N]": "y"})
    assert code == 0 and "Forgot photos" in screen and trashed(desk, folder_id)


def test_a_plain_folder_has_no_trash(desk: Desk) -> None:
    desk.push("--to", "file:out")
    assert "has no trash" in desk.run("forget", "photos", "--delete", code=64)[1]
    assert desk.kept()
    desk.run("forget", "photos")
    assert list((desk.work / "out" / "photos").glob("*.zip"))


# -- clean -----------------------------------------------------------------------------------------------------------


def littered(desk: Desk) -> list[Path]:
    """A complete dataset with parts left over, parts of one that is gone, and more of that kind."""
    desk.push()
    (ledger,) = (desk.home / "ledgers").glob("*.sqlite")
    litter = [
        desk.home / "spool" / f"driveshard-{ledger.stem}" / "photos-00000.zip",
        desk.home / "spool" / "driveshard-old-0123456789" / "old-00000.zip",
        desk.home / "crash-20250101-000000-1.txt",
        desk.home / "stalled-20250101-000000.txt",
        desk.home / "ledgers" / f"{ledger.name}.damaged-20250101-000000",
        desk.work / "tmp" / "driveshard-demo-x" / "a",
    ]
    for path in litter:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(bytes(1000))
    os.utime(desk.work / "tmp" / "driveshard-demo-x", (1, 1))
    return litter


def test_clean_lists_and_removes_only_when_told(desk: Desk) -> None:
    litter = littered(desk)
    out, err = desk.run("clean")
    assert out.count("1000 B") == 6 and "which is complete" in out and "a dataset that is gone" in out
    assert err == "Nothing was removed; to free 5.9 KiB: driveshard clean --yes\n"
    assert all(path.exists() for path in litter)
    assert len(desk.json("clean")["found"]) == 6 and all(path.exists() for path in litter)
    found = desk.json("clean", "--yes")
    assert (found["bytes"], len(found["removed"])) == (6000, 6)
    assert not any(path.exists() for path in litter)
    assert desk.run("clean")[0] == "Nothing to remove.\n"
    assert desk.json("status")["datasets"][0]["state"] == "complete"


@needs_a_terminal
def test_clean_asks_on_a_terminal(desk: Desk) -> None:
    litter = littered(desk)
    code, screen = on_terminal(["clean"], desk.environment, desk.work, answers={"Remove all of it (5.9 KiB)? ": "no"})
    assert code == 0 and "Nothing was removed." in screen and litter[0].exists()
    code, screen = on_terminal(["clean"], desk.environment, desk.work, answers={"[y/N]": "yes"})
    assert code == 0 and "Removed: 5.9 KiB" in screen and not litter[0].exists()


def test_what_an_unfinished_push_needs_stays(desk: Desk) -> None:
    desk.push("--max-transfer", "1", code=75)
    parts = sorted(desk.home.glob("spool/*/*.zip"))
    assert parts
    assert desk.json("clean", "--yes") == {"found": [], "removed": [], "bytes": 0}
    assert sorted(desk.home.glob("spool/*/*.zip")) == parts
    (desk.work / "tmp" / "driveshard-demo-young").mkdir()
    assert desk.json("clean")["found"] == []


@pytest.mark.skipif(os.name == "nt", reason="a process cannot be asked for without ending it")
def test_what_killed_runs_said_of_themselves_goes(desk: Desk) -> None:
    live = desk.home / "live"
    live.mkdir(parents=True)
    with subprocess.Popen([sys.executable, "-c", ""]) as dead:
        dead.wait(30)
    old = [live / f"{dead.pid}.json", live / f"{dead.pid}.next.json", live / f"{os.getpid()}.json"]
    for path in (*old, live / f"{dead.pid}.1"):
        path.write_text("{}")
    for path in old:
        os.utime(path, (time.time() - 3600,) * 2)  # the last one's process is there, and the fourth is of this minute
    found = desk.json("clean", "--yes")["removed"]
    assert [one["path"] for one in found] == sorted(map(str, old[:2]))
    assert {one["why"] for one in found} == {"the progress of a run that was killed"}
    old[0].write_text("{}")
    os.utime(old[0], (time.time() - 3600,) * 2)
    desk.push()
    assert sorted(live.iterdir()) == sorted([old[2], live / f"{dead.pid}.1"])
