"""``--changed`` and ``--deleted``: what readers see of source files that are another than the dataset has."""

from __future__ import annotations

import json
from contextlib import closing
from pathlib import Path

import pytest

from driveshard.archive.manifest import Manifest
from driveshard.cli.ending import _summary
from driveshard.config.settings import PushOptions
from driveshard.core.errors import Interrupted, SourceMissing
from driveshard.core.events import ignore
from driveshard.core.model import FileList
from driveshard.dataset.dataset import Dataset
from driveshard.dataset.locate import open_shelf
from driveshard.dataset.pull import pull_into
from driveshard.dataset.reader import open_reading
from driveshard.dataset.selection import Selection
from driveshard.dataset.verify import verify
from driveshard.emulator import Emulator
from driveshard.storage.drive.destination import DriveDestination
from driveshard.upload.dry_run import rehearse
from driveshard.upload.ledger.ledger import Ledger
from driveshard.upload.result import PushResult
from tests.rig import Rig, fill


@pytest.fixture
def rig(tmp_path: Path, emulator: Emulator) -> Rig:
    """Nine files in three parts, a directory each."""
    fill(tmp_path / "source", 9, 2000)
    rig = Rig(tmp_path, emulator.url, part_size=7000)
    assert rig.push().parts >= 3
    return rig


def seen(rig: Rig, result: PushResult) -> dict[str, bytes]:
    """What readers find, all of whom must find the same: at the link, in a pulled directory, and ``ls`` and ``cat``."""
    with open_reading(rig.name, rig.settings()) as reading:
        found = {one.path.decode(): reading.read(one.path) for one in reading.members()}
        assert reading.manifest.files == len(found)
    with closing(open_shelf(rig.name, rig.settings(), ignore)) as shelf:
        assert verify(shelf).problems == []
    directory = rig.directory / "pulled"
    pull_into(rig.name, directory, Selection(), rig.settings(), ignore)
    here = open_shelf(str(directory), rig.settings(), ignore)
    assert verify(here).problems == []
    for dataset in (Dataset(directory), Dataset(result.link or "", cache=rig.directory / "cache")):
        assert {f"{one['__key__']}.bin": one["bin"] for one in dataset} == found
    assert result.files == len(found)
    return found


def in_folder(rig: Rig) -> set[str]:
    with closing(open_shelf(rig.name, rig.settings(), ignore)) as shelf:
        return {one.name for one in shelf.files()}


def on_disk(rig: Rig) -> dict[str, bytes]:
    root = rig.source.root
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in root.rglob("*.bin")}


@pytest.fixture(autouse=True)
def reach_the_drive(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DRIVESHARD_DRIVE_URL", rig.url)
    monkeypatch.setenv("DRIVESHARD_HOME", str(rig.directory / "home"))


def test_changed_files_are_ignored_or_added(rig: Rig) -> None:
    before = on_disk(rig)
    (rig.source.root / "d1" / "0004.bin").write_bytes(b"another")
    (rig.source.root / "d1" / "new.bin").write_bytes(b"new")
    result = rig.push(changed="ignore")
    assert (result.ignored, result.changed, result.as_json()["ignored"]) == (1, 0, 1)
    assert "1 file changed at the source is in it as before" in _summary(result)
    assert seen(rig, result) == {**before, "d1/new.bin": b"new"}
    result = rig.push()
    assert (result.ignored, result.changed) == (0, 1)
    assert seen(rig, result) == on_disk(rig)


def test_deleted_files_are_dropped_for_all_readers(rig: Rig) -> None:
    parts = in_folder(rig)
    for name in ("d0/0000.bin", "d0/0003.bin", "d0/0006.bin", "d1/0001.bin"):
        (rig.source.root / name).unlink()
    rehearsed = rehearse(PushOptions("source", name=rig.name, deleted="drop"), rig.source, rig.settings(), ignore)
    assert (rehearsed.dropped, len(seen(rig, rig.push()))) == (4, 9)
    result = rig.push(deleted="drop")
    assert (result.dropped, result.gone, result.sent_bytes) == (4, 0, 0)
    assert "4 files deleted at the source are no longer in it" in _summary(result)
    assert seen(rig, result) == on_disk(rig)
    assert parts - in_folder(rig) == {"t-00000.zip"}, "the part that has nothing else is in the trash"
    result = rig.push()
    assert (result.dropped, result.gone) == (0, 0), "what was dropped stays out, and is no news"
    assert len(seen(rig, result)) == 5


def test_a_file_that_comes_back_is_seen_again(rig: Rig) -> None:
    path = rig.source.root / "d1" / "0001.bin"
    path.rename(rig.directory / "aside")
    assert rig.push(deleted="drop").dropped == 1
    (rig.directory / "aside").rename(path)
    result = rig.push()
    assert (result.sent_bytes, seen(rig, result)) == (0, on_disk(rig))
    path.unlink()
    rig.push(deleted="drop")
    path.write_bytes(b"something else")
    result = rig.push(changed="ignore")
    assert seen(rig, result) == on_disk(rig), "to a file that is new again nothing is as before"


def test_most_of_a_source_is_not_dropped_by_mistake(rig: Rig) -> None:
    for name in ("d0", "d1"):
        for path in (rig.source.root / name).iterdir():
            path.unlink()
    result = rig.push(deleted="drop")
    assert (result.dropped, result.gone, len(seen(rig, result))) == (0, 6, 9)
    assert any("6 deleted files not dropped: they are most of the dataset" in text for text in rig.notices())
    for path in (rig.source.root / "d2").iterdir():
        path.rename(rig.directory / path.name)
    assert isinstance(rig.push(deleted="drop", yes=True).error, SourceMissing), "a source that is not there drops none"
    (rig.directory / "0002.bin").rename(rig.source.root / "d2" / "0002.bin")
    result = rig.push(deleted="drop", yes=True)
    assert (result.dropped, seen(rig, result)) == (8, on_disk(rig))


def test_a_folder_that_cannot_be_looked_into_is_not_deleted(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    (rig.source.root / "d0").rename(rig.directory / "d0")
    (rig.source.root / "d0").symlink_to(rig.directory / "nowhere")
    scan = type(rig.source).scan

    def failing(source: object, on_failure: object, *others: object) -> object:
        from driveshard.core.model import Failure

        on_failure(Failure("d0", "permission denied"))  # type: ignore[operator]
        return scan(source, on_failure, *others)  # type: ignore[arg-type]

    monkeypatch.setattr(type(rig.source), "scan", failing)
    result = rig.push(deleted="drop")
    assert (result.dropped, result.gone) == (0, 3)
    assert any("not all of the source could be looked into" in text for text in rig.notices())


def test_a_manifest_with_deleted_files_is_not_read_by_those_who_do_not_know_of_them() -> None:
    paths = ("a/b.bin", b"a/\xff.bin".decode("utf-8", "surrogateescape"), 'a/"é.bin')
    manifest = Manifest("n", "j", {}, 1, 1, (), paths)
    again = Manifest.decode(manifest.encode())
    assert again == manifest
    assert again.deleted_paths == {b"a/b.bin", b"a/\xff.bin", 'a/"é.bin'.encode()}
    assert json.loads(manifest.encode())["version"] == 2
    assert json.loads(Manifest("n", "j", {}, 1, 1, ()).encode())["version"] == 1


def test_a_part_that_went_leaves_its_number_behind(rig: Rig) -> None:
    with Ledger(rig.ledger_path) as ledger:
        last = ledger.next_number()
    for path in (rig.source.root / "d2").iterdir():
        path.unlink()
    rig.push(deleted="drop")
    with Ledger(rig.ledger_path) as ledger:
        assert [part.number for part in ledger.parts()] == list(range(last - 1))
        assert ledger.next_number() == last
    (rig.source.root / "new.bin").write_bytes(b"new")
    result = rig.push()
    assert seen(rig, result) == on_disk(rig)
    with Ledger(rig.ledger_path) as ledger:
        assert [one for part in ledger.parts() if isinstance(one := ledger.selection(part.number), FileList)]
        assert ledger.parts()[-1].number == last


def test_a_part_that_was_not_in_the_trash_yet_goes_there_in_the_next_run(rig: Rig) -> None:
    for name in ("d0/0000.bin", "d0/0003.bin", "d0/0006.bin", "d1/0001.bin"):
        (rig.source.root / name).unlink()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(DriveDestination, "trash", _cut)
        assert isinstance(rig.push(deleted="drop").error, Interrupted)
    assert "t-00000.zip" in in_folder(rig)
    result = rig.push()
    assert (result.sent_bytes, "t-00000.zip" in in_folder(rig)) == (0, False)
    assert seen(rig, result) == on_disk(rig)


def _cut(*_: object) -> None:
    raise Interrupted("cut off")
