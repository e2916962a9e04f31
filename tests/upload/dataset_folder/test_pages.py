"""A manifest of many parts, split into pages: published a page at a time, read whole by everybody, killed anywhere."""

from __future__ import annotations

import random
import shutil
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from driveshard.archive import manifest as manifests
from driveshard.core.errors import Mismatch
from driveshard.core.events import ignore
from driveshard.dataset.dataset import Dataset
from driveshard.dataset.locate import DirectoryShelf, find_manifest, open_shelf
from driveshard.dataset.pull import pull_into
from driveshard.dataset.reader import Reading, open_reading
from driveshard.dataset.selection import Selection
from driveshard.dataset.verify import verify
from driveshard.emulator import Emulator
from driveshard.storage.drive.destination import DriveDestination
from driveshard.storage.folder.destination import FolderDestination
from driveshard.storage.registry import open_destination
from driveshard.upload.compact import Sizes, compact
from tests.compaction import Bench, _options
from tests.rig import Rig, Shelf
from tests.upload.test_compact import elsewhere

NOWHERE = "http://127.0.0.1:1"


@pytest.fixture(autouse=True)
def small_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two part numbers to a page, from the second part on."""
    monkeypatch.setattr(manifests, "SPLIT_OVER", 400)
    monkeypatch.setattr(manifests, "PAGE_NUMBERS", 2)


def bench_at(directory: Path, url: str, to: str) -> Bench:
    """Five parts, of a file each."""
    dice = random.Random(7)
    for number in range(5):
        path = directory / "source" / "d" / f"{number}.bin"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(dice.randbytes(2000))
    bench = Bench(Rig(directory, url, part_size=2100), to)
    bench.push(share="anyone" if to == "drive:" else None)
    return bench


@pytest.fixture
def bench(tmp_path: Path, emulator: Emulator) -> Bench:
    return bench_at(tmp_path, emulator.url, "drive:")


def pages_of(bench: Bench) -> dict[str, str]:
    with closing(open_shelf(bench.rig.name, bench.rig.settings(), ignore)) as shelf:
        return {one.name: one.id for one in shelf.files() if manifests.is_page(one.name)}


def written(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the small files that are written from now on."""
    names: list[str] = []
    put = DriveDestination.put

    def noting(self: DriveDestination, file_id: str, folder_id: str, name: str, *given: Any, **more: Any) -> Any:
        names.append(name)
        return put(self, file_id, folder_id, name, *given, **more)

    monkeypatch.setattr(DriveDestination, "put", noting)
    return names


def test_everybody_reads_all_of_it(bench: Bench, emulator: Emulator, monkeypatch: pytest.MonkeyPatch) -> None:
    assert Shelf(bench.rig.url).problems(bench.rig.expected()) == []
    assert len(pages_of(bench)) == 3
    assert bench.read() == bench.members() == bench.on_disk()  # by login, and verified
    rig, link = bench.rig, str(bench.push().link)
    for who in (
        replace(rig.settings(), home=rig.directory / "stranger"),
        replace(rig.settings(), home=rig.directory / "stranger", api_key="a-key"),
    ):
        with closing(open_shelf(link, who, ignore)) as shelf:
            assert len(find_manifest(shelf, shelf.files()).parts) == 5
            assert shelf.at_once == (4 if who.api_key else 1)
    out = rig.directory / "out"
    assert pull_into(link, out, Selection(), who, ignore).parts == 5
    assert sorted(one.name for one in out.iterdir()) == [
        "manifest.json",
        *(f"t-0000{number}.zip" for number in range(5)),
    ]
    assert {f"{one['__key__']}.bin": one["bin"] for one in Dataset(out)} == bench.on_disk()
    monkeypatch.setenv("DRIVESHARD_HOME", str(rig.directory / "stranger"))
    assert {
        f"{one['__key__']}.bin": one["bin"] for one in Dataset(link, cache=rig.directory / "cache")
    } == bench.on_disk()
    assert emulator.stats()["violations"] == []


def test_only_what_changed_is_sent(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    before = pages_of(bench)
    names = written(monkeypatch)
    bench.write(d__5_bin=b"n" * 2000)
    bench.push()
    after = pages_of(bench)
    (new,) = after.keys() - before.keys()
    assert sorted(names) == sorted([new, "manifest.json", "index.npz", "README.md"])
    assert new.startswith("manifest-00002-") and len(before.items() & after.items()) == 2
    assert len(after) == 3  # what it took the place of is in the trash
    names.clear()
    assert (bench.push().sent_bytes, names) == (0, [])
    bench.rig.ledger_path.unlink()
    assert (bench.push().sent_bytes, names, pages_of(bench)) == (0, [], after)
    assert bench.read() == bench.on_disk()
    assert compact(bench.rig.name, Sizes(part_size=1 << 20), _options(bench), bench.rig.settings(), ignore).parts == 1
    assert (pages_of(bench), bench.members()) == ({}, bench.on_disk())


def test_a_page_that_somebody_deleted_comes_again(bench: Bench) -> None:
    before = pages_of(bench)
    name = min(before)
    with closing(open_destination("drive:", bench.rig.settings())) as destination:
        destination.remove(before[name])
    with pytest.raises(Mismatch, match=rf"{name}, in which the manifest lists 2 parts, is not there") as caught:
        bench.read()
    assert caught.value.exit_code == 76
    bench.push()
    after = pages_of(bench)
    assert after.keys() == before.keys() and after[name] != before[name]
    assert bench.read() == bench.on_disk()


def test_a_reader_who_comes_while_it_is_published(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The manifest is read, then a page of it is replaced: what the new one tells is read."""
    bench = bench_at(tmp_path, NOWHERE, f"file:{tmp_path / 'nas'}")
    decode = manifests.Manifest.decode

    def pushed_meanwhile(data: bytes, fetch: Callable[..., Any]) -> Any:
        monkeypatch.setattr(manifests.Manifest, "decode", decode)
        bench.write(d__5_bin=b"n" * 2000)
        bench.push()
        return decode(data, fetch)

    monkeypatch.setattr(manifests.Manifest, "decode", pushed_meanwhile)
    with open_reading(bench.rig.name, bench.rig.settings()) as reading:
        assert len(reading.manifest.parts) == 6


def test_two_homes_in_turns(bench: Bench) -> None:
    """Each follows the other's pages, and takes away those of its own that are no more."""
    other = elsewhere(bench)
    for number, home in enumerate((other, bench, other, bench), 5):
        bench.write(**{f"d__{number}_bin": bytes([number]) * 2000})
        home.push(bench.rig.source)
        assert len(pages_of(bench)) == number // 2 + 1
        assert bench.read() == bench.on_disk()
    bench.push(deleted="drop")
    (bench.rig.source.root / "d" / "8.bin").unlink()
    other.push(bench.rig.source, deleted="drop")  # the last page is one that was there before
    assert bench.read() == bench.on_disk()
    assert (bench.push().failed, len(pages_of(bench))) == ([], 4)


def test_pages_of_a_copied_folder_are_known_by_their_names(tmp_path: Path) -> None:
    bench = bench_at(tmp_path, NOWHERE, f"file:{tmp_path / 'nas'}")
    records = tmp_path / "nas" / "t" / ".driveshard"
    for name, file_id in pages_of(bench).items():
        (records / f"{file_id}.json").rename(records / f"copy{name[9:14]}.json")
    assert sorted(pages_of(bench).values()) == ["copy00000", "copy00001", "copy00002"]
    assert bench.read() == bench.on_disk()


class Killed(BaseException):
    """As if the process ended there."""


def dying(monkeypatch: pytest.MonkeyPatch, moment: int) -> Callable[[], int]:
    """The folder's ``moment``-th step of publishing is the last one, and the next ones never come; odd moments are
    before a step, even ones after it. Returns how many there were."""
    passed = 0

    def pass_moment() -> None:
        nonlocal passed
        passed += 1
        if passed >= moment:
            raise Killed

    def watched(call: Any) -> Any:
        def watching(*given: Any, **named: Any) -> Any:
            pass_moment()
            outcome = call(*given, **named)
            pass_moment()
            return outcome

        return watching

    for name in ("put", "trash"):
        monkeypatch.setattr(FolderDestination, name, watched(getattr(FolderDestination, name)))
    return lambda: passed


def test_a_kill_at_each_step_of_publishing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Readers see the dataset before or after, never none, and the next push leaves nothing behind."""
    bench = bench_at(tmp_path / "work", NOWHERE, f"file:{tmp_path / 'work' / 'nas'}")
    bench.write(d__5_bin=b"n" * 2000)
    nas = tmp_path / "work" / "nas" / "t"
    shutil.copytree(tmp_path / "work", tmp_path / "kept")
    old, new = set(range(5)), set(range(6))
    seen, moment, dead = [], 0, True
    while dead:
        moment += 1
        shutil.rmtree(tmp_path / "work")
        shutil.copytree(tmp_path / "kept", tmp_path / "work")
        with monkeypatch.context() as patched:
            passed = dying(patched, moment)
            result = bench.rig.push(to=bench.to)
        dead = passed() >= moment
        assert (result.error is not None) == dead
        with Reading(DirectoryShelf(nas)) as reading:
            numbers = {part.number for part in reading.manifest.parts}
            assert numbers in (old, new)
            seen.append(numbers == new)
            assert len(list(reading.members())) == len(numbers)
        assert bench.push().parts == 6
        assert verify(DirectoryShelf(nas)).problems == []
        assert len(list(nas.glob("manifest-*.json"))) == 3
        assert bench.read() == bench.on_disk()
    assert set(seen) == {False, True} and moment > 6


def test_a_damaged_page_is_told(tmp_path: Path) -> None:
    bench = bench_at(tmp_path, NOWHERE, f"file:{tmp_path / 'nas'}")
    shelf = DirectoryShelf(tmp_path / "nas" / "t")
    (page,) = shelf.directory.glob("manifest-00001-*.json")
    page.write_bytes(page.read_bytes().replace(b"t-00002", b"t-00009"))
    (problem,) = verify(shelf).problems
    assert f"{page.name} is not what the manifest says: its sha256 is another one" in problem
    with pytest.raises(Mismatch, match="its sha256 is another one"):
        pull_into(f"file:{shelf.directory}", tmp_path / "out", Selection(), bench.rig.settings(), ignore)
    assert not (tmp_path / "out").exists()
