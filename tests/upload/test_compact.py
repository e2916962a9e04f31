"""``compact``: the same samples in fewer parts, whatever comes in between, and a push afterwards knows what is up."""

from __future__ import annotations

import hashlib
import io
import zipfile
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from driveshard.config.settings import PushOptions
from driveshard.core.errors import ComeBackLater, DriveshardError, Interrupted, Mismatch
from driveshard.core.events import Event, ignore
from driveshard.core.model import Sample, SampleRange
from driveshard.dataset.dataset import Dataset
from driveshard.dataset.locate import open_shelf
from driveshard.dataset.pull import pull_into
from driveshard.dataset.reader import open_reading
from driveshard.dataset.selection import Selection
from driveshard.dataset.verify import verify
from driveshard.emulator import Emulator
from driveshard.sources.base import Source
from driveshard.sources.python.given import given_source
from driveshard.storage.drive.destination import DriveDestination
from driveshard.storage.folder.destination import FolderDestination
from driveshard.upload.compact import Compacted, Sizes, compact
from driveshard.upload.ledger.ledger import Ledger
from driveshard.upload.merge.work import Work
from driveshard.upload.naming import work_paths
from tests.rig import Rig, fill


class Bench:
    """A dataset that is pushed to a Drive or into a plain folder."""

    def __init__(self, rig: Rig, to: str = "drive:") -> None:
        self.rig = rig
        self.to = to
        self.events: list[Event] = []
        self.on_event: Callable[[Event], None] = ignore

    def push(self, source: Source | None = None, **options: Any) -> Any:
        result = self.rig.push(source, to=self.to, **options)
        assert result.error is None, result.error
        return result

    def compact(self, sizes: Sizes | None = None, **options: Any) -> Compacted:
        self.events = []

        def emit(event: Event) -> None:
            self.events.append(event)
            self.on_event(event)

        wanted = PushOptions(source="source", temp=self.rig.temp, writes_per_second=1000, **options)
        return compact(self.rig.name, sizes or Sizes(), wanted, self.rig.settings(), emit)

    def write(self, **files: bytes) -> None:
        for name, data in files.items():
            path = self.rig.source.root / name.replace("__", "/").replace("_", ".")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)

    def on_disk(self) -> dict[str, bytes]:
        root = self.rig.source.root
        return {path.relative_to(root).as_posix(): path.read_bytes() for path in root.rglob("*") if path.is_file()}

    def stored(self) -> dict[str, bytes]:
        """The zips in the dataset's folder."""
        with closing(open_shelf(self.rig.name, self.rig.settings(), ignore)) as shelf:
            assert verify(shelf).problems == []
            zips = [one for one in shelf.files() if one.name.endswith(".zip")]
            return {one.name: shelf.read(one.id, 0, one.size) for one in zips}

    def members(self) -> dict[str, bytes]:
        """Every member of every zip, each once at most, by Python's own zip module."""
        found: dict[str, bytes] = {}
        for data in self.stored().values():
            with zipfile.ZipFile(io.BytesIO(data)) as archive:
                assert archive.testzip() is None
                assert not found.keys() & set(archive.namelist())
                found |= {name: archive.read(name) for name in archive.namelist()}
        return found

    def read(self) -> dict[str, bytes]:
        with open_reading(self.rig.name, self.rig.settings()) as reading:
            return {one.path.decode(): reading.read(one.path) for one in reading.members()}


@pytest.fixture(params=["drive", "file"])
def bench(request: pytest.FixtureRequest, tmp_path: Path, emulator: Emulator) -> Bench:
    """Six files in a part, then four more parts of one each, of which two replace older files."""
    fill(tmp_path / "source", 6, 3000)
    rig = Rig(tmp_path, emulator.url, part_size=100_000)
    made = Bench(rig, "drive:" if request.param == "drive" else f"file:{tmp_path / 'nas'}")
    made.push()
    for number in range(4):
        made.write(**{f"d{number % 2}__new{number}_bin": bytes([number]) * 2000})
        if number > 1:
            made.write(d0__0000_bin=bytes([number]) * 100)
        made.push()
    return made


def test_small_parts_become_one(bench: Bench) -> None:
    rehearsed = bench.compact(dry_run=True)
    assert (rehearsed.state, rehearsed.merged, rehearsed.made, rehearsed.parts) == ("planned", 5, 1, 5)
    directory = bench.rig.directory / "pulled"
    pull_into(bench.rig.name, directory, Selection(), bench.rig.settings(), ignore)
    before = bench.read()
    result = bench.compact()
    assert (result.merged, result.made, result.parts, result.state) == (5, 1, 1, "complete")
    assert result.fetched_bytes > 0 < result.sent_bytes
    assert bench.members() == bench.read() == before == bench.on_disk()
    assert list(bench.stored()) == ["t-00005.zip"]
    pulled = pull_into(bench.rig.name, directory, Selection(), bench.rig.settings(), ignore)
    assert pulled.fetched_bytes == result.bytes
    assert sorted(path.name for path in directory.glob("*.zip")) == ["t-00005.zip"]
    assert {f"{one['__key__']}.bin": one["bin"] for one in Dataset(directory)} == before
    assert bench.rig.in_temp() == []
    assert not any(path.exists() for path in work_paths(bench.rig.ledger_path))
    again = bench.compact()
    assert (again.merged, again.sent_bytes) == (0, 0)
    after = bench.push()
    assert (after.sent_bytes, after.parts, after.files, after.gone, after.changed) == (0, 1, 10, 0, 0)
    bench.write(d0__0000_bin=b"newest")
    assert bench.push().changed == 1
    assert bench.read() == bench.on_disk()


def test_the_merged_part_is_what_a_push_of_the_same_files_makes(bench: Bench) -> None:
    bench.compact()
    (data,) = bench.stored().values()
    fresh = Rig(bench.rig.directory / "fresh", bench.rig.url, part_size=100_000)
    fresh.directory.mkdir()
    assert list(fresh.expected(bench.rig.source).values()) == [hashlib.sha256(data).hexdigest()]


def test_large_parts_are_left_alone_and_sizes_are_kept(bench: Bench) -> None:
    first = bench.stored()["t-00000.zip"]
    result = bench.compact(Sizes(part_size=len(first), below=len(first)))
    assert (result.merged, result.made) == (4, 1)
    parts = bench.stored()
    assert parts["t-00000.zip"] == first
    assert all(len(data) <= len(first) for data in parts.values())
    assert bench.read() == bench.on_disk()


def test_dropped_files_are_left_out(bench: Bench) -> None:
    (bench.rig.source.root / "d1" / "new1.bin").unlink()
    (bench.rig.source.root / "d1" / "0001.bin").unlink()
    bench.push(deleted="drop")
    bench.compact()
    assert bench.members() == bench.on_disk()
    with open_reading(bench.rig.name, bench.rig.settings()) as reading:
        assert (reading.manifest.deleted, reading.manifest.files) == ((), 8)
    with Ledger(bench.rig.ledger_path) as ledger:
        assert (ledger.dropped_files(), ledger.retired()) == (frozenset(), {})
    bench.write(d1__0001_bin=b"back")
    assert bench.push().files == 9
    assert bench.read() == bench.on_disk()


def test_a_damaged_small_part_ends_it_and_nothing_is_lost(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    kind = DriveDestination if bench.to == "drive:" else FolderDestination
    read = kind.read
    monkeypatch.setattr(kind, "read", lambda *given: bytes(10) + read(*given)[10:])
    with pytest.raises(Mismatch, match="other bytes than were packed"):
        bench.compact()
    monkeypatch.undo()
    assert len(bench.stored()) == 5
    assert bench.compact().made == 1
    assert bench.members() == bench.on_disk()


@pytest.mark.parametrize("moment", ["begin", "send", "replace", "put", "trash"])
def test_cut_off_anywhere_it_goes_on(bench: Bench, moment: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """And a push in between, with what is new, is not in its way."""
    kind = Ledger if moment == "replace" else DriveDestination if bench.to == "drive:" else FolderDestination

    def cut(*_: object, **__: object) -> None:
        raise Interrupted("cut off")

    monkeypatch.setattr(kind, moment, cut)
    with pytest.raises(DriveshardError, match="cut off"):
        bench.compact()
    monkeypatch.undo()
    assert bench.read() == bench.on_disk(), "readers see all of it in between"
    bench.write(d0__0000_bin=b"newest", late_bin=b"late")
    bench.push()
    assert bench.read() == bench.on_disk()
    result = bench.compact()
    assert bench.read() == bench.on_disk()
    if moment == "replace":
        assert result.fetched_bytes == result.sent_bytes == 0, "what was proved is not sent again"
    bench.compact()
    assert len(bench.stored()) <= 2
    after = bench.push()
    assert (after.sent_bytes, after.files) == (0, 11)


def test_what_no_longer_fits_is_given_up(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(Work, "put_in_place", _cut)
        with pytest.raises(Interrupted):
            bench.compact()
    (bench.rig.source.root / "d1" / "new1.bin").unlink()
    bench.push(deleted="drop")
    result = bench.compact()
    assert result.made == 1
    assert bench.members() == bench.on_disk()


def _cut(*_: object) -> None:
    raise Interrupted("cut off")


def test_a_dataset_that_is_not_complete_is_pushed_first(bench: Bench) -> None:
    with Ledger(bench.rig.ledger_path) as ledger:
        ledger.wrong_bytes(0)
    with pytest.raises(ComeBackLater, match=r"t is not complete: 1 part is not up"):
        bench.compact()


class Counting:
    def __init__(self, count: int) -> None:
        self.count = count

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> Sample:
        return Sample(f"s{index:03d}", {"txt": f"{index}", "json": {"n": index}})


def test_made_samples_are_merged_with_those_that_come_next(tmp_path: Path, emulator: Emulator) -> None:
    bench = Bench(Rig(tmp_path, emulator.url, part_size=100_000))
    for count in (4, 6, 7, 10):
        bench.push(given_source(Counting(count))[0])
    before = bench.members()
    assert (bench.compact().merged, bench.members()) == (4, before)
    with Ledger(bench.rig.ledger_path) as ledger:
        assert [ledger.selection(part.number) for part in ledger.parts()] == [SampleRange(0, 10)]
        assert ledger.totals().samples == 10
    result = bench.push(given_source(Counting(12))[0])
    assert (result.parts, result.samples) == (2, 12)
