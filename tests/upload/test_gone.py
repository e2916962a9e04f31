"""A source that shrank or changed: said after the push, in a dry run and in ``status``."""

from __future__ import annotations

from pathlib import Path

import pytest

from driveshard.cli.commands.status import as_json, lines_of
from driveshard.cli.ending import _plan, _summary
from driveshard.config.settings import PushOptions
from driveshard.core.events import ignore
from driveshard.emulator import Emulator
from driveshard.upload.dry_run import rehearse
from driveshard.upload.ledger.reader import find_record
from tests.rig import Rig, fill


@pytest.fixture
def rig(tmp_path: Path, emulator: Emulator) -> Rig:
    fill(tmp_path / "source", 9, 2000)
    rig = Rig(tmp_path, emulator.url)
    assert rig.push().error is None
    return rig


def status(rig: Rig) -> str:
    return "\n".join(lines_of(find_record(rig.settings(), rig.name), 0.0, None))


def test_deleted_files_are_still_in_it(rig: Rig) -> None:
    assert (rig.push().gone, "at the source" in status(rig)) == (0, False)
    for number in range(3):
        (rig.source.root / "d0" / f"{3 * number:04d}.bin").unlink()
    rehearsed = rehearse(PushOptions("source", name=rig.name), rig.source, rig.settings(), ignore)
    said = "3 files deleted at the source are still in it"
    assert said in _plan(rehearsed)
    result = rig.push()
    assert (result.gone, result.files, result.as_json()["gone"]) == (3, 9, 3)
    assert said in _summary(result)
    assert said in status(rig)
    assert as_json(find_record(rig.settings(), rig.name), None)["gone"] == 3


def test_it_is_forgotten_when_they_are_back(rig: Rig) -> None:
    path = rig.source.root / "d0" / "0000.bin"
    data = path.read_bytes()
    path.unlink()
    assert "1 file deleted at the source is still in it" in _summary(rig.push())
    path.write_bytes(data)
    assert rig.push().gone == 0
    assert "at the source" not in status(rig)


def test_changed_files_are_told(rig: Rig) -> None:
    for number in (1, 4):
        (rig.source.root / "d1" / f"{number:04d}.bin").write_bytes(b"another")
    result = rig.push()
    assert (result.changed, result.files) == (2, 9)
    assert "2 files that changed since are in a newer part, which is what readers see" in _summary(result)
    assert rig.push().changed == 0
