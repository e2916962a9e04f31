"""Parts that stay with the workers that built them: sent from there, dropped there, and built again when a worker is
gone. The workers here are threads with folders of their own; tests/upload/pack/test_dask.py has real ones."""

from __future__ import annotations

import os
import pickle
import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from driveshard.core.clock import Clock
from driveshard.core.errors import ConfigError, Interrupted, SourceMissing, TempFull, TempLost, Unavailable
from driveshard.core.events import ignore
from driveshard.core.model import FileList, Part, PartSpec
from driveshard.emulator import Emulator
from driveshard.sources.folder import FolderSource
from driveshard.storage.base import Destination, Held, Progress, Stored
from driveshard.storage.registry import lender, open_destination
from driveshard.storage.retry import Patience, Retry
from driveshard.storage.throttle import Throttle
from driveshard.upload.far import bench, sealing
from driveshard.upload.far.bench import Workplace
from driveshard.upload.far.sealing import public_key
from driveshard.upload.far.spool import FarSpool
from driveshard.upload.far.yard import Lying, Yard
from driveshard.upload.send.load import Stretch
from driveshard.upload.surroundings import Surroundings
from tests.rig import PLENTY, UNIT, Rig, fill


class Threads:
    """Workers by name, each with a folder below ``root``. Calls to those in ``gone`` fail as dask's do."""

    def __init__(self, root: Path, yard: Yard) -> None:
        self._root = root
        self._yard = yard
        self.gone: set[str] = set()
        self.asked: list[bytes] = []

    def place(self, worker: str) -> Workplace:
        return Workplace(self._root / worker, 1, self._yard.heard)

    def begin(self, worker: str, work: Callable[..., Any], *arguments: Any) -> Callable[[float], Any]:
        answer: Future[Any] = Future()
        self.asked.append(pickle.dumps((work, arguments)))

        def run() -> None:
            try:
                if worker in self.gone:
                    raise TempLost(f"{worker} is gone")
                answer.set_result(work(self.place(worker), *pickle.loads(self.asked[-1])[1]))
            except BaseException as error:
                answer.set_exception(error)

        threading.Thread(target=run, daemon=True).start()
        return answer.result

    def everywhere(self, work: Callable[..., Any], *arguments: Any) -> None:
        work(self.place("a"), *arguments)


class Site:
    """A run whose workers are ``threads``, and an emulator it sends to."""

    def __init__(self, root: Path, rig: Rig) -> None:
        self.root = root
        self.source = rig.source
        below = sorted(path for path in (root / "source").rglob("*.bin"))
        rows = [
            (os.fsencode(path.relative_to(root / "source")), path.stat().st_size, path.stat().st_mtime_ns)
            for path in below
        ]
        self.files = FileList.of(rows)
        self.drive: Destination = open_destination("drive:", rig.settings())
        lend = lender(self.drive)
        assert lend is not None
        self.clock = Clock()
        self.yard = Yard(lend, self.clock)
        self.threads = Threads(root / "workers", self.yard)
        self.yard.open(self.threads)
        self.spool = FarSpool(self.yard, root / "spool", PLENTY, self.clock)
        self.folder = self.drive.reserve_ids(1)[0]
        self.drive.make_folder(self.folder, "d", {"driveshard": "folder", "job": "ours"})

    def build(self, number: int = 0, worker: str = "a", **changes: Any) -> Part:
        spec = PartSpec(number, f"d-{number:05d}.zip", self.files, 0)
        errand = replace(self.yard.errand, **changes)
        part = bench.build(self.threads.place(worker), errand, spec, self.source, PLENTY)
        self.spool.reserve(number, 1)
        self.spool.commit(number, part.file_name, part.size, str(Lying(worker, part.place or "", public_key())))
        return part

    def around(self, **limits: Any) -> Surroundings:
        throttle = Throttle(self.clock, ignore, None, writes_per_second=0, **limits)
        return Surroundings(self.drive, None, Retry(self.clock, Patience(), ignore), throttle, self.clock, ignore)  # type: ignore[arg-type]

    def send(self, part: Part, start: int, length: int, sent: Callable[[int], None] = lambda _: None) -> Progress:
        around = self.around()
        with (
            closing(self.spool.open(part.number, part.file_name)) as load,
            around.throttle.request(length, UNIT) as allowed,
        ):
            assert load.fitting(length, UNIT, None) == length
            return load.send(around, Stretch(self.session, start, allowed, part.size), sent)

    def begin(self, part: Part) -> None:
        self.session = self.drive.begin(self.drive.reserve_ids(1)[0], self.folder, part.file_name, part.size, {})

    def lying(self) -> list[str]:
        return [path.name for path in (self.root / "workers").rglob("0*") if path.is_file()]


@pytest.fixture
def site(tmp_path: Path, emulator: Emulator) -> Iterator[Site]:
    fill(tmp_path / "source", 3, 400_000)
    made = Site(tmp_path, Rig(tmp_path, emulator.url))
    yield made
    made.yard.close()
    made.drive.close()  # type: ignore[attr-defined]


def test_a_part_is_sent_from_where_it_was_built(site: Site) -> None:
    part = site.build()
    site.begin(part)
    told: list[int] = []
    first = site.send(part, 0, UNIT, told.append)
    assert first == Held(UNIT)
    assert sum(told) == UNIT
    done = site.send(part, UNIT, part.size - UNIT)
    assert isinstance(done, Stored)
    assert (done.file.size, done.file.md5) == (part.size, part.md5)
    assert os.listdir(site.spool.directory) == []
    with closing(site.spool.open(0, part.file_name)) as load:
        assert load.read(0, 4) == b"PK\x03\x04"
    assert site.spool.is_intact(0, part.file_name, part.md5)
    assert not site.spool.is_intact(0, part.file_name, "0" * 32)
    assert len(site.lying()) == 1
    site.spool.release(0, part.file_name)
    assert (site.lying(), site.spool.holds(0, part.file_name)) == ([], False)


def test_nobody_who_listens_learns_a_login_or_where_a_session_is(site: Site) -> None:
    part = site.build()
    site.begin(part)
    site.send(part, 0, UNIT)
    heard = b"".join(site.threads.asked)
    assert b"driveshard.upload.far" in heard
    for secret in (b"upload_id", site.session.uri.encode(), b"emulator", b"Bearer", b"authorization"):
        assert secret not in heard
    for path in (site.root / "workers").rglob("*"):
        assert not path.is_file() or b"upload_id" not in path.read_bytes()


def test_a_lent_login_that_has_ended_is_one_more_try(site: Site, emulator: Emulator) -> None:
    part = site.build()
    site.begin(part)
    emulator.set_faults("401-expired@1")
    with pytest.raises(Unavailable, match="the access that was lent to a worker has ended"):
        site.send(part, 0, UNIT)
    assert site.send(part, 0, UNIT) == Held(UNIT)


def test_a_worker_that_was_started_again_under_its_address_is_another_one(site: Site) -> None:
    part = site.build()
    site.begin(part)
    bench.leave(site.threads.place("a"), site.yard.errand)
    sealing._made_key.cache_clear()
    other = site.build(1)
    with pytest.raises(TempLost, match="part 0 is lost"):
        site.send(part, 0, UNIT)
    assert site.send(other, 0, UNIT) == Held(UNIT)


def test_two_threads_that_build_first_tell_of_one_key(monkeypatch: pytest.MonkeyPatch) -> None:
    from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

    class Slow:
        @staticmethod
        def generate() -> Any:
            time.sleep(0.05)
            return X25519PrivateKey.generate()

    monkeypatch.setattr(sealing, "X25519PrivateKey", Slow)
    sealing._made_key.cache_clear()
    with ThreadPoolExecutor(2) as pool:
        assert len({*pool.map(lambda _: public_key(), range(2))}) == 1


def test_each_request_counts_as_one_of_ours(site: Site) -> None:
    part = site.build()
    site.begin(part)
    before = site.drive.requests
    site.send(part, 0, UNIT)
    assert site.drive.requests == before + 1


def test_a_part_on_a_lost_worker_is_lost_and_others_are_not(site: Site) -> None:
    lost, other = site.build(0, "a"), site.build(1, "b")
    site.begin(lost)
    site.threads.gone.add("a")
    with pytest.raises(TempLost):
        site.send(lost, 0, UNIT)
    assert not site.spool.holds(0, lost.file_name)
    with pytest.raises(TempLost, match=r"d-00000\.zip"):
        site.spool.open(0, lost.file_name)
    again = site.build(0, "b")
    assert (again.sha256, again.place) == (lost.sha256, again.place)
    assert site.send(again, 0, UNIT) == Held(UNIT)
    assert site.spool.is_intact(1, other.file_name, other.md5)


def test_a_worker_has_two_parts_at_most(site: Site) -> None:
    first, second = site.build(0), site.build(1)
    waiting: Future[Part] = Future()
    threading.Thread(target=lambda: waiting.set_result(site.build(2)), daemon=True).start()
    with pytest.raises(TimeoutError):
        waiting.result(0.2)
    assert set(site.lying()) == {first.place, second.place}
    site.spool.release(0, first.file_name)
    assert waiting.result(5).number == 2


def test_a_run_that_ends_leaves_nothing_and_stops_what_goes_on(site: Site) -> None:
    first, second = site.build(0), site.build(1)
    waiting: Future[Any] = Future()

    def wait() -> None:
        try:
            site.build(2)
        except BaseException as error:
            waiting.set_result(error)

    threading.Thread(target=wait, daemon=True).start()
    time.sleep(0.05)
    site.yard.close()
    assert isinstance(waiting.result(5), Interrupted)
    assert site.lying() == []
    assert not site.spool.holds(0, first.file_name)
    with pytest.raises(TempLost):
        site.spool.open(1, second.file_name)


def test_of_a_killed_run_nothing_is_heard_and_its_parts_go(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bench, "HEARD_WITHIN", 0.2)
    part = site.build(run="killed")
    assert part.place in site.lying()
    deadline = time.monotonic() + 5
    while site.lying() and time.monotonic() < deadline:
        time.sleep(0.02)
    assert site.lying() == []


def test_a_part_of_which_the_answer_was_lost_goes_in_time(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    known, unknown = site.build(0), site.build(1)
    go_on = partial(bench.go_on, site.threads.place("a"), site.yard.errand)
    go_on(frozenset([known.place or ""]))
    assert len(site.lying()) == 2, "its answer may still be on its way"
    monkeypatch.setattr(bench, "_UNKNOWN_FOR", 0.0)
    go_on(frozenset([known.place or ""]))
    assert site.lying() == [known.place]
    assert unknown.place != known.place


def test_a_cleaned_folder_is_made_again(site: Site) -> None:
    import shutil

    part = site.build()
    shutil.rmtree(site.root / "workers")
    site.begin(part)
    with pytest.raises(TempLost, match=r"part 0 is lost: 00000-\w+ is no longer on the worker that built it"):
        site.send(part, 0, UNIT)
    assert site.build().sha256 == part.sha256


def test_a_worker_says_what_it_does_not_have(site: Site) -> None:
    with pytest.raises(ConfigError, match=r"has driveshard .*, and this is 0\.0"):
        site.build(version="0.0")
    site.source = FolderSource(site.root / "elsewhere")
    with pytest.raises(SourceMissing, match=r"There is no folder .*/elsewhere, on the worker ") as caught:
        site.build()
    assert "under the same path" in caught.value.advice


def test_a_worker_without_room_is_named(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any, **__: Any) -> Part:
        raise TempFull("There is no room left in a folder.")

    monkeypatch.setattr(bench, "build_part", full)
    with pytest.raises(TempFull, match=f"no room left in a folder, on the worker {socket.gethostname()}\\.") as caught:
        site.build()
    assert "--local-directory" in caught.value.advice


@pytest.mark.parametrize(("rate", "carries"), [(None, 4 * UNIT), (2.5 * UNIT, 2 * UNIT), (1000.0, UNIT)])
def test_where_a_limit_stands_a_request_is_a_second_of_it(site: Site, rate: float | None, carries: int) -> None:
    part = site.build()
    with closing(site.spool.open(0, part.file_name)) as load:
        assert load.fitting(4 * UNIT, UNIT, rate) == carries
        assert load.fitting(7, UNIT, rate) == 7
