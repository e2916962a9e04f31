"""A few rounds of the campaign, and that its judge sees what it must."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from driveshard.emulator import Emulator
from tests.campaign import play_round
from tests.rig import REPOSITORY, Rig, Shelf, environment, fill

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="process groups")


@pytest.mark.parametrize("seed", [7001, 7002, 7003])
def test_a_round(seed: int) -> None:
    played = play_round(seed, quick=True, keep=False)
    assert played.problems == []
    assert played.parts > 0 and played.again >= 0.0


def test_the_command_sums_up() -> None:
    command = [sys.executable, "-m", "tests.campaign", "--runs", "1", "--seed", "7004"]
    done = subprocess.run(command, cwd=REPOSITORY, env=environment(), capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout
    figures = json.loads(done.stdout[done.stdout.index("{") :])
    assert (figures["rounds"], figures["good"], figures["lost"], figures["doubled"]) == (1, 1, 0, 0)


@pytest.mark.parametrize("damage", ["lost", "doubled", "wrong", "stray", "manifest"])
def test_the_judge_is_not_blind(damage: str, tmp_path: Path) -> None:
    """Each kind of harm is done to a complete dataset behind its back."""
    fill(tmp_path / "source", 12, 100_000)
    with Emulator(tmp_path / "drive") as drive:
        rig = Rig(tmp_path, drive.url, part_size=300_000)
        assert rig.push().state == "complete"
        expected = rig.expected()
        assert Shelf(drive.url).problems(expected) == []
        store = drive.drive.store
        part = next(record for record in store.all() if record.name == "t-00001.zip")
        if damage == "lost":
            store.delete(part)
        elif damage == "doubled":
            part.name = "t-00000.zip"
        elif damage == "stray":
            part.name = "other.bin"
        elif damage == "wrong":
            assert part.content is not None
            blob = store.path_of(part.content)
            blob.write_bytes(bytes(100) + blob.read_bytes()[100:])
        else:
            store.delete(next(record for record in store.all() if record.name == "manifest.json"))
        assert any(problem.startswith(damage) for problem in Shelf(drive.url).problems(expected))
