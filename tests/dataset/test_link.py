"""A dataset that is shared is read through a cache: parts are fetched once, proved, and kept within its limit."""

from __future__ import annotations

import gc
import hashlib
import multiprocessing
import os
import pickle
import threading
import weakref
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import driveshard
from driveshard.archive.manifest import ManifestPart
from driveshard.archive.zip_writer import ZipWriter
from driveshard.config.settings import PushOptions, Settings
from driveshard.core.clock import Clock
from driveshard.core.errors import Mismatch, Unavailable
from driveshard.core.events import ignore
from driveshard.dataset.cached_parts import CachedParts
from driveshard.dataset.fetch import Ways, fetch
from driveshard.dataset.link import LinkReader
from driveshard.dataset.parts import OpenParts
from driveshard.dataset.selection import wanted_of
from driveshard.dataset.shelf import DirectoryShelf
from driveshard.emulator.server import Emulator
from driveshard.sources.folder import FolderSource
from driveshard.storage.retry import Patience, Retry
from driveshard.upload.run import push

FILES = {f"d/{number:03d}.bin": bytes([number]) * 900 for number in range(60)}


class Shop:
    """A place that parts are read from; it counts what was asked of it. ``spoil`` may change what it gives."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.log = directory / "log"

    def __call__(self, part: ManifestPart, start: int, length: int) -> bytes:
        raise AssertionError("parts are fetched whole")

    def fetch(self, part: ManifestPart, path: Path) -> None:
        with self.log.open("a") as stream:
            stream.write(f"{part.name}\n")
        clock = Clock()
        ways = Ways(clock, Retry(clock, Patience(attempts=1), ignore), ignore)
        fetch(DirectoryShelf(self.directory), wanted_of(part, part.name), path, ways)

    def asked(self) -> list[str]:
        return self.log.read_text().split() if self.log.exists() else []


@pytest.fixture
def shop(tmp_path: Path) -> Shop:
    directory = tmp_path / "shop"
    directory.mkdir()
    for number in range(6):
        with ZipWriter(directory / f"{number}.zip") as writer:
            writer.add(b"k%d.bin" % number, bytes([number]) * 1000)
            writer.close()
    return Shop(directory)


def described(shop: Shop) -> list[ManifestPart]:
    found = []
    for number in range(6):
        data = (shop.directory / f"{number}.zip").read_bytes()
        sums = hashlib.md5(data).hexdigest(), hashlib.sha256(data).hexdigest()
        found.append(ManifestPart(number, f"{number}.zip", "", len(data), *sums, 1, 1, "", ""))
    return found


def kept(directory: Path) -> list[str]:
    return sorted(path.name[17:] for path in directory.glob("[!.]*.zip"))


def test_a_part_is_fetched_once_and_proved(shop: Shop, tmp_path: Path) -> None:
    cache = CachedParts(tmp_path / "cache", described(shop), shop)
    for _ in range(2):
        assert cache.fetch(3).read_bytes() == (shop.directory / "3.zip").read_bytes()
    again = CachedParts(tmp_path / "cache", described(shop), shop)
    again.fetch(3)
    assert shop.asked() == ["3.zip"]


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"md5": "0" * 32}, "came with another md5"),
        ({"sha256": "0" * 64}, "came with another sha256"),
        ({"size": 5000}, "has 1,\\d+ bytes where it lies instead of 5,000"),
    ],
)
def test_what_is_not_as_promised_gets_no_name(shop: Shop, tmp_path: Path, changes: dict[str, object], why: str) -> None:
    rows = described(shop)
    rows[2] = replace(rows[2], **changes)  # type: ignore[arg-type]
    cache = CachedParts(tmp_path / "cache", rows, shop)
    with pytest.raises(Mismatch, match=f"2.zip {why}"):
        cache.fetch(2)
    assert [path.name for path in (tmp_path / "cache").iterdir() if not path.name.endswith(".lock")] == []
    assert cache.fetch(1).exists()


def test_a_part_published_anew_is_fetched_anew(shop: Shop, tmp_path: Path) -> None:
    CachedParts(tmp_path / "cache", described(shop), shop).fetch(0)
    with ZipWriter(shop.directory / "0.zip") as writer:
        writer.add(b"k0.bin", bytes([9]) * 1000)
        writer.close()
    assert b"\x09" * 1000 in CachedParts(tmp_path / "cache", described(shop), shop).fetch(0).read_bytes()


def test_the_oldest_are_dropped_and_never_one_in_use(shop: Shop, tmp_path: Path) -> None:
    size = described(shop)[0].size
    cache = CachedParts(tmp_path / "cache", described(shop), shop, limit=3 * size)
    cache.ahead = lambda numbers: None  # type: ignore[method-assign]
    opened = OpenParts(cache)
    held = opened.open(0)
    for number in (5, 1, 3):
        cache.fetch(number)
    assert kept(tmp_path / "cache") == ["0.zip", "1.zip", "3.zip"]
    os.utime(cache.path_of(3), (1, 1))
    cache.fetch(5)
    assert kept(tmp_path / "cache") == ["0.zip", "1.zip", "5.zip"]
    assert held.read(0, 4) == b"PK\3\4"
    del held, opened
    os.utime(cache.path_of(0), (1, 1))
    cache.fetch(3)
    assert kept(tmp_path / "cache") == ["1.zip", "3.zip", "5.zip"]


def test_a_limit_smaller_than_a_part_still_gives_it(shop: Shop, tmp_path: Path) -> None:
    cache = CachedParts(tmp_path / "cache", described(shop), shop, limit=1)
    for number in range(6):
        cache.fetch(number)
        assert kept(tmp_path / "cache") == [f"{number}.zip"]


def test_the_next_one_is_fetched_while_this_one_is_read(shop: Shop, tmp_path: Path) -> None:
    arrived = threading.Event()

    class Watched(Shop):
        def fetch(self, part: ManifestPart, path: Path) -> None:
            super().fetch(part, path)
            if part.number == 1:
                arrived.set()

    cache = CachedParts(tmp_path / "cache", described(shop), Watched(shop.directory))
    cache.fetch(0)
    assert arrived.wait(20)
    cache.fetch(1)
    assert shop.asked().count("1.zip") == 1


def test_what_fails_ahead_is_met_by_whoever_needs_it(shop: Shop, tmp_path: Path) -> None:
    tried = threading.Event()

    class Cut(Shop):
        def fetch(self, part: ManifestPart, path: Path) -> None:
            if part.number == 1:
                tried.set()
                raise Unavailable("no line")
            super().fetch(part, path)

    cache = CachedParts(tmp_path / "cache", described(shop), Cut(shop.directory))
    cache.fetch(0)
    assert tried.wait(20)
    with pytest.raises(Unavailable):
        cache.fetch(1)


@pytest.mark.parametrize("flock", [True, False])
def test_threads_that_want_the_same_part_fetch_it_once(
    shop: Shop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, flock: bool
) -> None:
    """Also where the system knows no flock."""
    if not flock:
        monkeypatch.setattr("driveshard.dataset.cached_parts._FLOCK", False)
    cache = CachedParts(tmp_path / "cache", described(shop), shop)
    with ThreadPoolExecutor(4) as pool:
        for number in range(6):
            assert len({path.read_bytes() for path in pool.map(cache.fetch, [number] * 4)}) == 1
    assert sorted(shop.asked()) == [f"{number}.zip" for number in range(6)]


def _fetch_all(cache: CachedParts) -> list[bytes]:
    opened = OpenParts(cache)
    return [opened.open(number).read(0, 4) for number in (3, 1, 5, 0, 2, 4)]


@pytest.mark.parametrize("method", multiprocessing.get_all_start_methods())
@pytest.mark.parametrize("parts", [None, 2])
def test_processes_share_a_cache(shop: Shop, tmp_path: Path, method: str, parts: int | None) -> None:
    limit = None if parts is None else parts * described(shop)[0].size
    cache = CachedParts(tmp_path / "cache", described(shop), shop, limit)
    cache.fetch(5)
    with multiprocessing.get_context(method).Pool(3) as pool:
        assert pool.map(_fetch_all, [cache] * 6, 1) == [[b"PK\3\4"] * 6] * 6
    if limit is None:
        assert sorted(shop.asked()) == [f"{number}.zip" for number in range(6)]
    left = [path.name for path in (tmp_path / "cache").glob(".new-*")]
    assert left == []


# -- a link on Drive -------------------------------------------------------------------------------------------------


class Place:
    def __init__(self, work: Path, emulator: Emulator) -> None:
        self.emulator = emulator
        self.source = work / "src"
        patience = Patience(attempts=3, first=0.01, longest=0.05)
        self.settings = Settings(home=work / "home", drive_url=f"{emulator.url}/", patience=patience)

    def push(self, files: dict[str, bytes]) -> str:
        for path, content in files.items():
            (self.source / path).parent.mkdir(parents=True, exist_ok=True)
            (self.source / path).write_bytes(content)
        options = PushOptions("src", name="set", part_size=8192, writes_per_second=1000.0, share="anyone")
        result = push(options, FolderSource(self.source), self.settings, ignore)
        assert result.error is None and result.link is not None
        return result.link

    def downloads(self) -> list[str]:
        """The ranges that files were answered with, without a login."""
        return [str(entry["range"]) for entry in self.emulator.log() if "/download?" in str(entry["path"])]


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Place]:
    monkeypatch.setenv("DRIVESHARD_HOME", str(tmp_path / "nobody"))
    with Emulator(tmp_path / "drive") as emulator:
        yield Place(tmp_path, emulator)


def samples(files: dict[str, bytes]) -> list[dict[str, object]]:
    return [{"__key__": path[:-4], "bin": body} for path, body in files.items()]


def test_a_link_reads_as_the_folder_does(place: Place, tmp_path: Path) -> None:
    link = place.push(FILES)
    dataset = driveshard.Dataset(link, cache=tmp_path / "cache")
    assert len(dataset) == 60 and dataset.keys[59] == "d/059"
    assert list(dataset) == samples(FILES)
    assert dataset.read("d/031.bin") == FILES["d/031.bin"]
    again = driveshard.Dataset(link, cache=tmp_path / "cache")
    before = len(place.downloads())
    assert before > 0
    assert list(pickle.loads(pickle.dumps(again))) == samples(FILES)
    assert len(place.downloads()) == before


@pytest.mark.parametrize("who", ["owner", "stranger"])
def test_an_index_comes_in_blocks(place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, who: str) -> None:
    """The owner's side by side; a stranger is told no size, and reads on until a block is short."""
    link = place.push(FILES)
    monkeypatch.setattr("driveshard.dataset.link._BLOCK", 256)
    if who == "owner":
        monkeypatch.setenv("DRIVESHARD_HOME", str(place.settings.home))
    before = len(place.emulator.log())
    dataset = driveshard.Dataset(link, cache=tmp_path / "cache")
    (index,) = (tmp_path / "cache").rglob("index-*.npz")
    requests = [entry for entry in place.emulator.log()[before:] if "download" in entry["kinds"]]
    assert len(requests) == 1 + -(-index.stat().st_size // (512 if who == "owner" else 256))
    assert list(dataset) == samples(FILES)


@pytest.fixture
def no_collection() -> Iterator[None]:
    gc.disable()
    yield
    gc.enable()


def test_a_reader_that_is_part_of_a_circle_closes_its_connection(
    place: Place, monkeypatch: pytest.MonkeyPatch, no_collection: None
) -> None:
    """When Python finds it, the older connection would go before the younger one that closes it."""
    link = place.push({"d/0.bin": b"0"})
    monkeypatch.setenv("DRIVESHARD_HOME", str(place.settings.home))
    reader: Any = LinkReader(link)
    reader.shelf().files()
    reader.itself = reader
    gone = weakref.ref(reader)
    del reader
    gc.collect()  # an open connection is told as an error
    assert gone() is None


def test_a_dataset_larger_than_its_cache(place: Place, tmp_path: Path) -> None:
    link = place.push(FILES)
    dataset = driveshard.Dataset(link, cache=tmp_path / "cache", cache_limit="20K", check=True)
    order = [(number * 37) % 60 for number in range(60)]
    assert [dataset[number] for number in order] == [samples(FILES)[number] for number in order]
    assert sum(path.stat().st_size for path in (tmp_path / "cache").rglob("*.zip")) <= 20 * 1024


def test_reading_begins_before_everything_is_there(place: Place, tmp_path: Path) -> None:
    link = place.push(FILES)
    dataset = driveshard.Dataset(link, cache=tmp_path / "cache", cache_limit=1)  # too little to fetch ahead
    assert dataset[0] == samples(FILES)[0]
    assert len(list((tmp_path / "cache").rglob("*.zip"))) == 1


def test_parts_that_are_published_anew_between_two_readings(place: Place, tmp_path: Path) -> None:
    link = place.push(FILES)
    before = driveshard.Dataset(link, cache=tmp_path / "cache")
    assert before[7] == samples(FILES)[7]
    newer = {**FILES, "d/007.bin": b"newer", "e/1.bin": b"more"}
    place.push(newer)
    after = driveshard.Dataset(link, cache=tmp_path / "cache")
    assert {one["__key__"]: one["bin"] for one in after} == {path[:-4]: body for path, body in newer.items()}
    assert before[7] == samples(FILES)[7]


def test_a_part_that_was_replaced_on_drive_is_told(place: Place, tmp_path: Path) -> None:
    link = place.push(FILES)
    dataset = driveshard.Dataset(link, cache=tmp_path / "cache")
    from driveshard.dataset.locate import open_shelf

    shelf = open_shelf(link, place.settings, ignore)
    part = next(one for one in shelf.files() if one.name == "set-00002.zip")
    data = bytearray(shelf.read(part.id, 0, part.size))
    data[60] ^= 1
    record = shelf._folder_id  # type: ignore[attr-defined]
    shelf._destination.put(part.id, record, part.name, bytes(data), "application/zip", replace=True)  # type: ignore[attr-defined]
    shelf.close()
    with pytest.raises(Mismatch, match=r"set-00002\.zip came with another md5"):
        list(dataset)


def test_a_part_that_a_killed_process_had_half_of_is_gone_on_with(place: Place, tmp_path: Path) -> None:
    link = place.push({"d/0.bin": os.urandom(3000), "d/1.bin": os.urandom(3000)})
    dataset = driveshard.Dataset(link, cache=tmp_path / "cache")
    expected = list(dataset)
    (part,) = (tmp_path / "cache").rglob("[!.]*.zip")
    data = part.read_bytes()
    (part.parent / f".{part.name}.part").write_bytes(data[:2000])
    part.unlink()
    size, before = len(data), len(place.downloads())
    assert list(driveshard.Dataset(link, cache=tmp_path / "cache")) == expected
    assert f"bytes 2000-{size - 1}/{size}" in place.downloads()[before:]
    assert f"bytes 0-{size - 1}/{size}" not in place.downloads()[before:]
    assert [one.name for one in part.parent.glob(".*.part")] == []


def _read_all(dataset: driveshard.Dataset) -> bool:
    return list(dataset) == samples(FILES)


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_workers_fetch_what_they_need(place: Place, tmp_path: Path, method: str) -> None:
    if method not in multiprocessing.get_all_start_methods():
        pytest.skip("this system has no fork")
    dataset = driveshard.Dataset(place.push(FILES), cache=tmp_path / "cache", cache_limit="30K")
    with multiprocessing.get_context(method).Pool(2) as pool:
        assert pool.map(_read_all, [dataset] * 2, 1) == [True, True]
