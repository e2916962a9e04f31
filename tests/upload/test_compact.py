"""``compact``: the same samples in fewer parts, whatever comes in between, and a push afterwards knows what is up."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import sys
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

import driveshard
from driveshard.cli.commands.compact import sentence_of
from driveshard.config.settings import PushOptions
from driveshard.core.errors import Busy, ComeBackLater, Interrupted, Mismatch, UsageError
from driveshard.core.events import Event, Planned, Published, ignore
from driveshard.core.model import RemoteFile, Sample, SampleRange
from driveshard.dataset.dataset import Dataset
from driveshard.dataset.pull import pull_into
from driveshard.dataset.reader import open_reading
from driveshard.dataset.selection import Selection
from driveshard.emulator import Emulator
from driveshard.sources.python.given import given_source
from driveshard.storage.drive.destination import DriveDestination
from driveshard.storage.folder.taking_away import empty
from driveshard.storage.registry import open_destination
from driveshard.upload.compact import Compacted, Sizes, compact
from driveshard.upload.lease import Claim
from driveshard.upload.ledger.ledger import Ledger
from driveshard.upload.ledger.lock import hold
from driveshard.upload.leftovers import forget
from driveshard.upload.merge.work import Work
from driveshard.upload.naming import work_paths
from tests.compaction import Bench, killed_round
from tests.fakes import FakeClock
from tests.rig import Rig


@pytest.fixture
def bench(tmp_path: Path, emulator: Emulator) -> Bench:
    """On a Drive."""
    return Bench.made(tmp_path, emulator.url, on_drive=True)


def compacted(bench: Bench, sizes: Sizes | None = None, **options: bool) -> Compacted:
    wanted = PushOptions(source="source", temp=bench.rig.temp, writes_per_second=1000, **options)  # type: ignore[arg-type]
    return compact(bench.rig.name, sizes or Sizes(), wanted, bench.rig.settings(), ignore)


def pulled(bench: Bench, emit: Callable[[Event], None] = ignore) -> tuple[Path, int]:
    directory = bench.rig.directory / "pulled"
    return directory, pull_into(bench.rig.name, directory, Selection(), bench.rig.settings(), emit).fetched_bytes


@pytest.mark.parametrize("on_drive", [True, False])
def test_small_parts_become_one(tmp_path: Path, emulator: Emulator, on_drive: bool) -> None:
    bench = Bench.made(tmp_path, emulator.url, on_drive=on_drive)
    assert len(bench.stored()) == 4
    rehearsed = compacted(bench, dry_run=True)
    assert (rehearsed.state, rehearsed.merged, rehearsed.made, rehearsed.parts) == ("planned", 4, 1, 4)
    assert sentence_of(rehearsed) == "t: would merge 4 small parts into 1 part; nothing was changed"
    pulled(bench)
    before = bench.read()
    result = compacted(bench)
    assert (result.merged, result.made, result.parts, result.state) == (4, 1, 1, "complete")
    assert result.fetched_bytes > result.bytes <= result.sent_bytes
    assert bench.members() == bench.read() == before == bench.on_disk()
    assert list(bench.stored()) == ["t-00004.zip"]
    directory, fetched = pulled(bench)
    assert (fetched, [path.name for path in directory.glob("*.zip")]) == (result.bytes, ["t-00004.zip"])
    assert {f"{one['__key__']}.bin": one["bin"] for one in Dataset(directory)} == before
    assert bench.rig.in_temp() == []
    assert not any(path.exists() for path in work_paths(bench.rig.ledger_path))
    again = compacted(bench)
    assert (again.merged, again.sent_bytes, "nothing to merge" in sentence_of(again)) == (0, 0, True)
    after = bench.push()
    assert (after.sent_bytes, after.parts, after.files, after.gone, after.changed) == (0, 1, 8, 0, 0)
    bench.write(d0__0000_bin=b"newest", d1__0001_bin=b"back")
    assert (bench.push().changed, bench.read()) == (1, bench.on_disk())


def test_a_machine_that_pushes_keeps_a_compaction_out_and_one_that_did_comes_first(bench: Bench) -> None:
    """Nothing is merged of what somebody else changes, nor before this home knows what he changed."""
    with closing(open_destination("drive:", bench.rig.settings())) as destination:  # type: ignore[type-var]
        folder_id, now = compacted(bench, dry_run=True).folder_id or "", int(destination.time())
        claim = Claim("0" * 16, now, now + 300, "the other one")
        destination.set_properties(folder_id, {claim.key: claim.value})
        with pytest.raises(Busy, match="being pushed from the other one since"):
            compacted(bench)
        destination.set_properties(folder_id, {claim.key: None, "pushed": f"{claim.home} {now}"})
    with pytest.raises(ComeBackLater, match="was pushed from elsewhere meanwhile"):
        compacted(bench)
    assert len(bench.stored()) == 4
    bench.push()
    assert compacted(bench).made == 1


def elsewhere(bench: Bench) -> Bench:
    """Another home that pushes the same source to the same place."""
    other = Rig(bench.rig.directory / "other", bench.rig.url, part_size=bench.rig.part_size)
    other.directory.mkdir()
    return Bench(other, bench.to)


def test_a_home_that_was_away_follows_a_compaction_and_a_drop(bench: Bench, emulator: Emulator) -> None:
    """What another home merged, or took out, does not come back by a ledger that still has the parts of before."""
    other = elsewhere(bench)
    bench.write(e__0_bin=b"of a part of its own")
    bench.push(deleted="drop")
    other.push(bench.rig.source)
    assert compacted(other).made == 1
    seen = len(emulator.log())
    again = bench.push()
    assert (again.sent_bytes, again.parts, bench.members() == bench.on_disk()) == (0, 1, True)
    plain = [one for one in emulator.log()[seen:] if "/upload/" not in one["path"]]
    assert [one for one in plain if one["method"] == "PATCH"] == [], "what is in the trash was put there again"
    bench.write(e__1_bin=b"this too")
    bench.push()
    (bench.rig.source.root / "e" / "1.bin").unlink()
    assert other.push(bench.rig.source, deleted="drop").dropped == 1
    assert (bench.push().failed, bench.read(), len(bench.stored())) == ([], bench.on_disk(), 1)


def test_what_another_home_dropped_stays_so_when_a_list_tells_of_the_manifest_before(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Drive's lists lag, so the size that they tell may be that of a shorter manifest."""
    other = elsewhere(bench)
    (bench.rig.source.root / "d0" / "0000.bin").unlink()
    assert other.push(bench.rig.source, deleted="drop").dropped == 1

    def late(place: DriveDestination, folder_id: str) -> list[RemoteFile]:
        return [replace(one, size=one.size - 50 * (one.name == "manifest.json")) for one in children(place, folder_id)]

    children = DriveDestination.children
    monkeypatch.setattr(DriveDestination, "children", late)
    bench.push()
    monkeypatch.undo()
    assert bench.read() == bench.on_disk()


def test_what_waits_for_the_trash_is_not_taken_over_again(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """A compaction ends before its manifest; another home pushes, by whose manifest the small parts are still there."""

    def end(_: object) -> None:
        raise Interrupted("stopped")

    with monkeypatch.context() as patched, pytest.raises(Interrupted):
        patched.setattr("driveshard.upload.compact._Compaction._finish", end)
        compacted(bench)
    elsewhere(bench).push(bench.rig.source)
    bench.push()
    assert (bench.read(), list(bench.stored())) == (bench.on_disk(), ["t-00004.zip"])


def test_a_derived_dataset_is_left_alone(bench: Bench) -> None:
    with Ledger(bench.rig.ledger_path) as ledger:
        ledger.note(settings={**ledger.get("settings"), "kind": "derived"})
    with pytest.raises(UsageError, match="t was derived: its parts have the numbers of those that they were made from"):
        compacted(bench)
    assert len(bench.stored()) == 4


def test_the_command_answers_in_json(bench: Bench) -> None:
    done = json.loads(bench.compact_as_process(0).stdout)
    assert list(done) == [
        *("name", "state", "folder_id", "link", "parts", "bytes", "merged", "made"),
        *("fetched_bytes", "sent_bytes", "requests", "seconds"),
    ]
    assert (done["name"], done["state"], done["merged"], done["parts"]) == ("t", "complete", 4, 1)


def test_it_is_to_be_had_from_python(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DRIVESHARD_HOME", str(bench.rig.directory / "home"))
    monkeypatch.setenv("DRIVESHARD_DRIVE_URL", bench.rig.url)
    monkeypatch.setenv("DRIVESHARD_WRITES_PER_SECOND", "1000")
    with pytest.raises(driveshard.errors.UsageError, match=r"^below: 'small' is not a size"):
        driveshard.compact("t", below="small")
    seen: list[Event] = []
    planned = driveshard.compact("t", dry_run=True, temp=bench.rig.temp)
    done = driveshard.compact("t", part_size="1MiB", temp=bench.rig.temp, on_event=seen.append)
    assert [(one.state, one.merged, one.made) for one in (planned, done)] == [("planned", 4, 1), ("complete", 4, 1)]
    assert any(isinstance(event, Published) for event in seen) and bench.members() == bench.on_disk()
    assert isinstance(done, driveshard.Compacted)
    with pytest.raises(driveshard.errors.SourceMissing):
        driveshard.compact("nothing")


def test_what_it_fetches_has_the_same_limit_as_what_it_sends(tmp_path: Path, emulator: Emulator) -> None:
    bench, clock = Bench.made(tmp_path, emulator.url, on_drive=False), FakeClock()
    wanted = PushOptions(source="source", temp=bench.rig.temp, bwlimit="1000b")
    result = compact(bench.rig.name, Sizes(), wanted, bench.rig.settings(clock), ignore)
    assert result.fetched_bytes > 10_000 < result.sent_bytes
    assert sum(clock.slept) == pytest.approx((result.fetched_bytes + result.sent_bytes) / 1000)


def test_the_merged_part_is_what_a_push_of_the_same_files_makes(bench: Bench) -> None:
    compacted(bench)
    (data,) = bench.stored().values()
    fresh = Rig(bench.rig.directory / "fresh", bench.rig.url, part_size=100_000)
    fresh.directory.mkdir()
    assert list(fresh.expected(bench.rig.source).values()) == [hashlib.sha256(data).hexdigest()]


def test_large_parts_are_left_alone_and_sizes_are_kept(bench: Bench) -> None:
    first = bench.stored()["t-00000.zip"]
    result = compacted(bench, Sizes(part_size=len(first), below=len(first)))
    parts = bench.stored()
    assert (result.merged, result.made, parts["t-00000.zip"]) == (3, 1, first)
    assert all(len(data) <= len(first) for data in parts.values())
    assert bench.read() == bench.on_disk()
    with open_reading(bench.rig.name, bench.rig.settings()) as reading:
        assert reading.manifest.deleted == ("d1/0001.bin",), "the part that has it is still there"


def test_a_damaged_small_part_ends_it_and_nothing_is_lost(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    read = DriveDestination.read
    with monkeypatch.context() as patch:
        patch.setattr(DriveDestination, "read", lambda *given: bytes(10) + read(*given)[10:])
        with pytest.raises(Mismatch, match="other bytes than were packed"):
            compacted(bench)
    assert len(bench.stored()) == 4
    assert compacted(bench).made == 1
    assert bench.members() == bench.on_disk()


@pytest.mark.skipif(sys.platform == "win32", reason="SIGKILL")
@pytest.mark.parametrize("moment", [31, 60, 82])
def test_a_kill_in_the_middle(tmp_path: Path, emulator: Emulator, moment: int) -> None:
    """While it fetches, sends, and after it put the merged part in place; ``python -m tests.compaction`` has them all.
    At odd moments a push comes in between."""
    assert killed_round(Bench.made(tmp_path, emulator.url, on_drive=moment != 82), moment)


def _cut(*_: object) -> None:
    raise Interrupted("cut off")


def test_what_is_proved_is_not_sent_again(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(Work, "put_in_place", _cut)
        with pytest.raises(Interrupted):
            compacted(bench)
    bench.write(late_bin=b"late")
    bench.push()
    result = compacted(bench)
    assert (result.made, result.fetched_bytes, result.sent_bytes) == (1, 0, 0)
    assert bench.read() == bench.on_disk()


def test_what_no_longer_fits_is_given_up(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(Work, "put_in_place", _cut)
        with pytest.raises(Interrupted):
            compacted(bench)
    (bench.rig.source.root / "d1" / "new1.bin").unlink()
    bench.push(deleted="drop")
    assert compacted(bench).sent_bytes > 0
    assert bench.members() == bench.on_disk()


def test_a_merged_part_that_vanished_meanwhile_is_built_again(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(Work, "put_in_place", _cut)
        with pytest.raises(Interrupted):
            compacted(bench)
    with Ledger(work_paths(bench.rig.ledger_path)[-1]) as ledger:
        (part,) = ledger.parts()
    with closing(open_destination("drive:", bench.rig.settings())) as destination:  # type: ignore[type-var]
        destination.remove(part.file_id or "")
    assert compacted(bench).sent_bytes > 0
    assert bench.members() == bench.on_disk()


def test_a_lost_ledger_knows_what_was_replaced_and_dropped(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(DriveDestination, "trash", _cut)
        with pytest.raises(Interrupted):
            compacted(bench)
    (bench.rig.source.root / "d1" / "new1.bin").rename(bench.rig.directory / "aside")
    (bench.rig.source.root / "d1" / "0004.bin").unlink()
    with monkeypatch.context() as patch:
        patch.setattr(DriveDestination, "trash", lambda *_: None)
        bench.push(deleted="drop")
    shutil.rmtree(bench.rig.directory / "home")
    result = bench.push()
    assert (result.sent_bytes, result.parts, result.gone, bench.read()) == (0, 1, 0, bench.on_disk())
    assert any("the manifest does not tell of it any more" in text for text in bench.rig.notices())


def test_a_puller_who_comes_in_between_takes_what_is_there_then(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """To whom has only a link, what is in the trash is gone."""
    monkeypatch.setattr(DriveDestination, "trash", DriveDestination.remove)
    done: list[Compacted] = []

    def emit(event: Event) -> None:
        if isinstance(event, Planned) and not done:
            done.append(compacted(bench))

    directory, fetched = pulled(bench, emit)
    assert fetched == done[0].bytes
    assert {f"{one['__key__']}.bin": one["bin"] for one in Dataset(directory)} == bench.on_disk()


def test_a_dataset_that_is_not_complete_or_busy_is_left_alone(bench: Bench) -> None:
    settings = bench.rig.settings()
    with (
        hold(bench.rig.ledger_path.with_suffix(".lock"), "t", settings.clock, ignore, wait=False),
        pytest.raises(Busy),
    ):
        compacted(bench)
    with Ledger(bench.rig.ledger_path) as ledger:
        ledger.wrong_bytes(0)
    with pytest.raises(ComeBackLater, match="t is not complete: 1 part is not up"):
        compacted(bench)
    kept = work_paths(bench.rig.ledger_path)[-1]
    kept.write_bytes(b"")
    forget("t", settings, ignore)
    assert not kept.exists()


class Counting:
    def __init__(self, count: int) -> None:
        self.count = count

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> Sample:
        return Sample(f"s{index:03d}", {"txt": f"{index}", "json": {"n": index}})


def test_made_samples_are_merged_with_those_that_come_next(tmp_path: Path, emulator: Emulator) -> None:
    bench = Bench(Rig(tmp_path, emulator.url, part_size=100_000), "drive:")
    for count in (4, 6, 7, 10):
        bench.push(given_source(Counting(count))[0])
    before = bench.members()
    result = compacted(bench)
    assert (result.merged, result.made, bench.members()) == (4, 1, before)
    with Ledger(bench.rig.ledger_path) as ledger:
        assert [ledger.selection(part.number) for part in ledger.parts()] == [SampleRange(0, 10)]
        assert ledger.totals().samples == 10
    grown = bench.push(given_source(Counting(12))[0])
    assert (grown.parts, grown.samples) == (2, 12)


def test_the_trash_of_a_folder_forgets_after_thirty_days(tmp_path: Path) -> None:
    for name, days in (("old.zip", 31), ("young.zip", 29)):
        (tmp_path / name).write_bytes(b"zip")
        time = (tmp_path / name).stat().st_mtime - days * 86_400
        os.utime(tmp_path / name, (time, time))
    empty(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["young.zip"]
