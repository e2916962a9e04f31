"""The temp directory: never above its limit, swept after a crash, and clear about a disk that is full or gone."""

from __future__ import annotations

import os
import random
import shutil
import stat
import threading
import time
from collections import namedtuple
from pathlib import Path

import pytest

from driveshard.core.clock import Clock
from driveshard.core.errors import Interrupted, TempFull, TempLost
from driveshard.upload import spool as spool_module
from driveshard.upload.spool import Spool

Usage = namedtuple("Usage", "total used free")
MIB = 2**20


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return tmp_path / "spool" / "d"


def spool_of(directory: Path, limit: int = 1000) -> Spool:
    return Spool(directory, limit, Clock())


def build(spool: Spool, number: int, size: int) -> str:
    """A part as the packer leaves it: whole, under its temporary name; then committed."""
    spool.building(number).write_bytes(bytes(size))
    name = f"d-{number:05d}.zip"
    spool.commit(number, name, size)
    return name


def free(monkeypatch: pytest.MonkeyPatch, size: int) -> list[int]:
    """A disk with ``size`` bytes free beyond what is kept for others; change the list's item to change it."""
    left = [size]
    monkeypatch.setattr(shutil, "disk_usage", lambda path: Usage(10**12, 0, left[0] + 64 * MIB))
    return left


def test_room_is_taken_and_given_back(directory: Path) -> None:
    spool = spool_of(directory)
    assert spool.reserve(1, 600) == 600
    name = build(spool, 1, 500)
    assert spool.used == 500
    assert spool.path(name).stat().st_size == 500
    assert [one.name for one in directory.iterdir()] == [name]
    assert spool.reserve(2, 500) == 500
    spool.release(1, name)
    assert (spool.used, list(directory.iterdir())) == (500, [])
    spool.cancel(2)
    assert (spool.used, spool.peak) == (0, 1000)


def test_a_part_waits_until_there_is_room_and_says_so_once(directory: Path) -> None:
    spool = spool_of(directory)
    spool.reserve(1, 800)
    told: list[str] = []
    threading.Timer(0.7, lambda: spool.cancel(1)).start()

    assert spool.reserve(2, 300, on_wait=lambda: told.append("full")) == 300

    assert told == ["full"]


def test_a_larger_room_for_the_same_part_does_not_wait_for_itself(directory: Path) -> None:
    spool = spool_of(directory)
    spool.reserve(1, 800)
    assert spool.reserve(1, 1000) == 1000
    assert spool.used == 1000


def test_no_more_parts_than_were_named_are_there_at_a_time(directory: Path) -> None:
    spool = Spool(directory, 1000, Clock(), parts=2)
    spool.reserve(0, 10)
    spool.reserve(1, 10)
    spool.reserve(1, 20)  # the same part again
    waits: list[int] = []
    released = threading.Timer(0, spool.cancel, (0,))
    spool.reserve(2, 10, on_wait=lambda: (waits.append(2), released.start()))  # type: ignore[arg-type, func-returns-value]
    assert (waits, spool.used) == ([2], 30)


def test_a_part_that_can_never_fit_is_refused(directory: Path) -> None:
    with pytest.raises(TempFull) as caught:
        spool_of(directory).reserve(7, 1001)
    assert "--temp-limit" in caught.value.advice


def test_a_stop_ends_the_wait_for_room(directory: Path) -> None:
    clock = Clock()
    spool = Spool(directory, 1000, clock)
    spool.reserve(1, 1000)
    threading.Timer(0.1, clock.stop.set).start()
    began = time.monotonic()
    with pytest.raises(Interrupted):
        spool.reserve(2, 1)
    assert time.monotonic() - began < 2


def test_threads_never_have_more_than_the_limit_on_disk(directory: Path) -> None:
    spool = spool_of(directory, 100_000)
    most = [0]
    ended = threading.Event()

    def watch() -> None:
        while not ended.is_set():
            total = 0
            for entry in os.scandir(directory):
                try:
                    total += entry.stat().st_size
                except FileNotFoundError:
                    continue
            most[0] = max(most[0], total)

    def work(first: int) -> None:
        rng = random.Random(first)
        for number in range(first, first + 20):
            room = spool.reserve(number, rng.randrange(1, 50_000))
            size = rng.randrange(1, room + 1)
            name = build(spool, number, size)
            assert spool.used <= spool.limit
            spool.release(number, name)

    watcher = threading.Thread(target=watch)
    watcher.start()
    threads = [threading.Thread(target=work, args=(100 * index,)) for index in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    ended.set()
    watcher.join()

    assert 0 < most[0] <= spool.limit
    assert 50_000 < spool.peak <= spool.limit
    assert (spool.used, list(directory.iterdir())) == (0, [])


def test_what_a_crash_left_is_swept_and_what_is_waited_for_is_kept(directory: Path) -> None:
    spool = spool_of(directory)
    for number in (1, 2):
        spool.reserve(number, 100)
        build(spool, number, 100)
    spool.building(3).write_bytes(b"half")
    (directory / "stray.zip").write_bytes(b"?")

    again = spool_of(directory)
    assert again.sweep(["d-00002.zip"]) == 3
    again.adopt(2, "d-00002.zip")

    assert [one.name for one in directory.iterdir()] == ["d-00002.zip"]
    assert (again.used, again.peak) == (100, 100)


def test_a_part_that_somebody_looks_at_is_removed_when_he_is_done(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Windows refuses to remove an open file."""
    monkeypatch.setattr("driveshard.upload.spool._POLL", 0.01)
    spool = spool_of(directory)
    spool.reserve(1, 100)
    name = build(spool, 1, 100)
    refusals = [PermissionError(13, "in use")] * 2
    unlink = Path.unlink

    def busy(path: Path, missing_ok: bool = False) -> None:
        if refusals:
            raise refusals.pop()
        unlink(path, missing_ok)

    monkeypatch.setattr(Path, "unlink", busy)
    spool.release(1, name)
    assert not (directory / name).exists() and spool.used == 0
    refusals += [PermissionError(13, "in use")] * 1000
    monkeypatch.setattr("driveshard.upload.spool._PATIENCE", 0.05)
    with pytest.raises(TempFull, match="cannot be removed"):
        spool.sweep([]) if (directory / "left.zip").write_bytes(b"x") else None


def test_releasing_what_is_gone_already_is_fine(directory: Path) -> None:
    spool = spool_of(directory)
    spool.reserve(1, 10)
    spool.release(1, "d-00001.zip")
    spool.cancel(1)
    assert spool.used == 0


def test_a_directory_that_vanished_is_made_again(directory: Path) -> None:
    spool = spool_of(directory)
    spool.reserve(1, 100)
    shutil.rmtree(directory)
    with pytest.raises(TempLost):
        spool.commit(1, "d-00001.zip", 100)
    spool.cancel(1)

    spool.reserve(2, 100)
    build(spool, 2, 50)
    assert spool.used == 50


def test_a_finished_dataset_leaves_no_directory_behind(directory: Path) -> None:
    spool = spool_of(directory)
    spool.remove_if_empty()
    assert not directory.exists()
    spool.remove_if_empty()


def test_a_directory_with_something_in_it_stays(directory: Path) -> None:
    spool = spool_of(directory)
    (directory / "x").touch()
    spool.remove_if_empty()
    assert directory.exists()


# -- the disk ------------------------------------------------------------------------------------------------------


def test_a_full_disk_is_said_clearly(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    free(monkeypatch, 99)
    with pytest.raises(TempFull) as caught:
        spool_of(directory).reserve(1, 100)
    assert "--temp" in caught.value.advice


def test_a_disk_that_others_fill_is_waited_for_while_parts_can_go(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spool = spool_of(directory)
    spool.reserve(1, 100)
    name = build(spool, 1, 100)
    left = free(monkeypatch, 50)

    def let_go() -> None:
        left[0] = 150
        spool.release(1, name)

    threading.Timer(0.1, let_go).start()
    assert spool.reserve(2, 100) == 100


def test_room_that_is_promised_to_others_is_not_promised_twice(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    free(monkeypatch, 150)
    spool = spool_of(directory)
    spool.reserve(1, 100)  # not written yet, so the disk does not show it
    waited: list[str] = []
    threading.Timer(0.2, lambda: spool.cancel(1)).start()
    spool.reserve(2, 100, on_wait=lambda: waited.append("disk"))
    assert waited == ["disk"]


@pytest.mark.skipif(os.name == "nt" or os.geteuid() == 0, reason="needs a directory that may not be written")
def test_an_unwritable_directory_is_said_clearly(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(TempFull):
        spool_of(tmp_path / "d")
    tmp_path.chmod(0o700)


def test_a_file_in_the_way_is_said_clearly(tmp_path: Path) -> None:
    (tmp_path / "d").touch()
    with pytest.raises(TempFull) as caught:
        spool_of(tmp_path / "d")
    assert str(tmp_path / "d") in str(caught.value)


def test_a_part_larger_than_a_limit_that_nobody_asked_for_may_be_there_alone(directory: Path) -> None:
    spool = Spool(directory, 1000, Clock(), elastic=True)
    spool.reserve(1, 400)
    threading.Timer(0.2, lambda: spool.cancel(1)).start()
    waited: list[str] = []
    assert spool.reserve(2, 5000, on_wait=lambda: waited.append("full")) == 5000
    assert waited == ["full"]
    threading.Timer(0.2, lambda: spool.cancel(2)).start()
    assert spool.reserve(3, 10, on_wait=lambda: waited.append("full")) == 10
    assert waited == ["full", "full"]


def test_a_part_that_is_whole_gives_back_what_it_did_not_need_at_once(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever waits for room is woken by the commit itself, not by a look now and then."""
    monkeypatch.setattr(spool_module, "_POLL", 600.0)
    spool = spool_of(directory)
    spool.reserve(1, 900)
    waits, has = threading.Event(), threading.Event()

    def other() -> None:
        spool.reserve(2, 400, on_wait=waits.set)
        has.set()

    thread = threading.Thread(target=other, daemon=True)
    thread.start()
    assert waits.wait(10) and not has.is_set()
    build(spool, 1, 600)
    assert has.wait(10)
    assert spool.used == 1000


def test_a_part_that_is_whole_is_on_the_disk_and_not_promised_any_more(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Counted twice, once as used and once as promised, it would keep others out of room that is there."""
    spool = spool_of(directory)
    left = free(monkeypatch, 1000)
    spool.reserve(1, 600)
    build(spool, 1, 600)
    left[0] -= 600
    assert spool.reserve(2, 400, on_wait=lambda: pytest.fail("there is room")) == 400


# -- a folder that others may write in ---------------------------------------------------------------------------------

posix = pytest.mark.skipif(os.name == "nt", reason="modes and owners of POSIX")


@posix
def test_the_directory_is_closed_to_others(directory: Path) -> None:
    before = os.umask(0)
    try:
        spool_of(directory)
        assert stat.S_IMODE(directory.stat().st_mode) == 0o700
        directory.chmod(0o777)  # as an older driveshard, or somebody else, left it
        spool_of(directory)
        assert stat.S_IMODE(directory.stat().st_mode) == 0o700
    finally:
        os.umask(before)


@posix
def test_links_that_were_laid_are_not_followed(directory: Path, tmp_path: Path) -> None:
    directory.mkdir(parents=True)
    victim = tmp_path / "victim"
    victim.write_text("mine")
    for name in (".building-probe", ".building-owner", ".building-00001", "d-00001.zip", "d-00002.zip"):
        (directory / name).symlink_to(victim)
    spool = spool_of(directory)
    spool.sweep(["d-00001.zip"])
    assert list(directory.iterdir()) == []
    assert victim.read_text() == "mine"


@posix
def test_a_link_in_the_place_of_the_directory_is_refused(directory: Path, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    directory.parent.mkdir(parents=True)
    directory.symlink_to(elsewhere)
    with pytest.raises(TempFull, match="link"):
        spool_of(directory)
    assert list(elsewhere.iterdir()) == []


@pytest.mark.skipif(os.name == "nt" or os.geteuid() != 0, reason="only root can give a directory away")
def test_a_directory_of_somebody_else_is_refused(directory: Path) -> None:
    directory.mkdir(parents=True, mode=0o777)
    os.chown(directory, 54321, 54321)
    with pytest.raises(TempFull, match="belongs to somebody else") as caught:
        spool_of(directory)
    assert "--temp" in caught.value.advice
    assert list(directory.iterdir()) == []


@posix
def test_a_directory_that_vanished_is_made_again_as_closed(directory: Path) -> None:
    spool = spool_of(directory)
    directory.rmdir()
    spool.reserve(1, 10)
    assert stat.S_IMODE(directory.stat().st_mode) == 0o700


def test_what_stays_free_is_told(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spool = spool_of(directory)
    free(monkeypatch, 500 - 64 * MIB)
    with pytest.raises(TempFull, match=r"500 B free; a part needs 600 B, and 64\.0 MiB stay free"):
        spool.reserve(1, 600)


@pytest.mark.parametrize("there", ["file", "dead link"])
def test_what_is_no_folder_is_not_told_as_a_want_of_room(tmp_path: Path, there: str) -> None:
    place = tmp_path / "temp"
    if there == "file":
        place.touch()
    else:
        place.symlink_to(tmp_path / "nowhere")
    with pytest.raises(TempFull, match="cannot be written") as caught:
        spool_of(place / "d")
    assert "room" not in caught.value.advice
    assert "--temp" in caught.value.advice
