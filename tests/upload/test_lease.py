"""Two machines, one dataset: one home keeps another out, and is followed by it when it is no more."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from driveshard.core.clock import Clock
from driveshard.core.errors import Busy, Refused
from driveshard.core.events import Emit, Notice, ignore
from driveshard.emulator import Emulator
from driveshard.storage.base import Destination
from driveshard.storage.drive.connection import Connection
from driveshard.storage.registry import open_destination
from driveshard.storage.retry import Retry
from driveshard.storage.throttle import Throttle
from driveshard.upload.lease import LIFE, Claim, Lease, claims_in, home_id
from tests.fakes import Heard
from tests.rig import QUICK, Rig, Shelf, call, fill, members_of, start_push

SENTENCE = r"t is being pushed from .+ since \d{4}-\d\d-\d\d \d\d:\d\d; unless .+ ends at \d{4}-\d\d-\d\d \d\d:\d\d"


@pytest.fixture
def drive(tmp_path: Path) -> Iterator[Emulator]:
    with Emulator(tmp_path / "drive", strict=True) as running:
        yield running


@pytest.fixture
def rig(tmp_path: Path, drive: Emulator) -> Rig:
    """Two parts of about a megabyte."""
    fill(tmp_path / "source", 15, 160_000)
    return Rig(tmp_path, drive.url)


@pytest.fixture
def opened(rig: Rig) -> Iterator[Callable[[str], Destination]]:
    places: list[Destination] = []

    def begin(where: str) -> Destination:
        places.append(open_destination(where, rig.settings()))
        return places[-1]

    yield begin
    for place in places:
        getattr(place, "close", lambda: None)()


@pytest.fixture
def start(rig: Rig) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """``start(home, *options)`` begins a push of the rig's source from that home."""
    running = []

    def begin(home: str, *options: str) -> subprocess.Popen[str]:
        options = ("--name", "t", "--part-size", "1MB", "--engine", "serial", "--writes-per-second", "100", *options)
        (rig.directory / home).mkdir(exist_ok=True)
        running.append(start_push(rig.directory / home, rig.url, str(rig.directory / "source"), *options))
        return running[-1]

    yield begin
    for one in running:
        one.kill()
        one.communicate()


def slow(drive: Emulator, rate: float | None) -> None:
    call(drive.url, "/_emulator/line", {"bandwidth": rate})


def wait_for(what: Callable[[], object]) -> None:
    deadline = time.monotonic() + 30
    while not what():
        assert time.monotonic() < deadline, "it did not come"
        time.sleep(0.05)


def claims(rig: Rig) -> list[Claim]:
    return [claim for folder in Shelf(rig.url).folders() for claim in claims_in(folder.get("appProperties", {}))]


def sends(drive: Emulator) -> bool:
    return any(session["received"] for session in drive.stats()["sessions"])


def assert_whole(rig: Rig) -> None:
    assert Shelf(rig.url).problems(rig.expected()) == []
    assert claims(rig) == []


def test_a_second_home_is_kept_out_and_told_by_whom(
    rig: Rig, drive: Emulator, start: Callable[..., subprocess.Popen[str]]
) -> None:
    slow(drive, 300_000)
    first = start("a")
    wait_for(lambda: sends(drive))
    second = start("b")
    waiting = start("c", "--wait")
    out, err = second.communicate(timeout=30)

    assert second.returncode == 75, err
    assert re.search(SENTENCE, err) and "--wait" in err and first.poll() is None
    assert 0 < json.loads(out)["resume_after"] - time.time() <= LIFE
    assert waiting.stderr is not None
    assert any("is being pushed from" in line for line in waiting.stderr)
    slow(drive, None)
    assert first.wait(30) == 0
    out, err = waiting.communicate(timeout=30)
    assert (waiting.returncode, json.loads(out)["sent_bytes"]) == (0, 0), err
    assert_whole(rig)


def test_a_killed_home_is_followed_once_its_claim_is_over(
    rig: Rig, drive: Emulator, start: Callable[..., subprocess.Popen[str]]
) -> None:
    slow(drive, 300_000)
    first = start("a")
    wait_for(lambda: sends(drive))
    first.kill()
    first.wait()
    slow(drive, None)
    assert start("b").wait(30) == 75
    assert [claim.until - claim.since for claim in claims(rig)] == [LIFE]

    call(drive.url, "/_emulator/clock", {"advance": LIFE})

    taken = start("b")
    out, err = taken.communicate(timeout=30)
    assert taken.returncode == 0, err
    assert json.loads(out)["parts"] == 2
    again = start("a")
    out, err = again.communicate(timeout=30)
    assert again.returncode == 0, err
    assert Shelf(rig.url).problems(rig.expected()) == []


@pytest.mark.parametrize("end", [signal.SIGKILL, signal.SIGINT])
def test_the_same_home_goes_on_at_once(
    end: signal.Signals, rig: Rig, drive: Emulator, start: Callable[..., subprocess.Popen[str]]
) -> None:
    slow(drive, 300_000)
    first = start("a")
    wait_for(lambda: sends(drive))
    first.send_signal(end)
    first.wait(15)
    assert len(claims(rig)) == (end == signal.SIGKILL)  # who is asked to stop lets go
    slow(drive, None)
    assert start("a").wait(30) == 0
    assert_whole(rig)


def test_homes_that_take_turns_know_of_each_others_parts(rig: Rig, drive: Emulator) -> None:
    """Each has a ledger of its own, written before the other one pushed."""
    other = Rig(rig.directory / "other", rig.url)
    other.directory.mkdir()
    sent = []
    for turn, home in enumerate([rig, other, rig, other, rig]):
        (rig.directory / "source" / f"more-{turn}").write_bytes(bytes([turn]) * 70_000)
        result = home.push(rig.source)
        assert (result.error, result.state, result.parts) == (None, "complete", 3 + turn)
        sent.append(result.sent_bytes)
    assert max(sent[1:]) < 80_000
    assert [rig.push(rig.source).sent_bytes, other.push(rig.source).sent_bytes] == [0, 0]
    members = members_of(shelf_parts(rig))
    assert len(members) == len({path for path, _ in members}) == 20
    assert Shelf(rig.url).problems({}, recut=dict(members)) == []


def test_homes_that_take_turns_while_lists_lag_number_on(rig: Rig, drive: Emulator) -> None:
    """What the other one sent a moment ago is in its manifest, if in no list."""
    other = Rig(rig.directory / "other", rig.url)
    other.directory.mkdir()
    rig.push()
    other.push(rig.source)
    drive.set_faults("list-lag*=600")
    rig.list_lag = other.list_lag = 0
    for turn, home in enumerate([other, rig, other]):
        (rig.directory / "source" / f"more-{turn}").write_bytes(bytes([turn]) * 70_000)
        result = home.push(rig.source)
        assert (result.error, result.state, result.parts) == (None, "complete", 3 + turn)
    names = [one.name for one in drive.drive.store.all() if one.name.endswith(".zip")]
    assert sorted(names) == [f"t-{number:05}.zip" for number in range(5)]


def shelf_parts(rig: Rig) -> list[bytes]:
    shelf = Shelf(rig.url)
    return [shelf.content(one["id"]) for one in shelf.files if one["name"].endswith(".zip")]


def test_what_a_home_had_not_finished_is_not_sent_beside_what_another_made_of_it(rig: Rig, drive: Emulator) -> None:
    """The other home cuts larger parts, of the same files."""
    drive.set_faults("403-storageFull@2*")
    assert rig.push().error is not None
    drive.set_faults("")
    other = Rig(rig.directory / "other", rig.url, part_size=4_000_000)
    other.directory.mkdir()
    assert other.push(rig.source).state == "complete"
    assert rig.push().sent_bytes == 0
    members = members_of(shelf_parts(rig))
    assert len(members) == len({path for path, _ in members}) == 15
    assert rig.in_temp() == []


def test_what_a_claim_costs(rig: Rig, drive: Emulator, monkeypatch: pytest.MonkeyPatch) -> None:
    """A first push has it in the folder that it makes; one with nothing to send asks and writes nothing. Whatever goes
    side by side, a few connections do."""
    connect, connected = Connection.connect, []

    def noted(self: Connection) -> None:
        connected.append(self)
        connect(self)

    monkeypatch.setattr(Connection, "connect", noted)

    def patches() -> int:
        return sum(entry["method"] == "PATCH" and "/upload/" not in entry["path"] for entry in drive.log())

    rig.part_size = 10_000_000
    first = rig.push(share="anyone")
    assert (first.state, patches()) == ("complete", 1)
    chunks = sum("chunk" in entry["kinds"] for entry in drive.log())  # how many is a matter of how fast they go
    assert first.requests - chunks + 1 <= 12
    assert len(connected) <= 4
    assert (rig.push().requests, patches()) == (3, 1)
    (rig.directory / "source" / "more").write_bytes(b"more")
    assert (rig.push().state, patches()) == ("complete", 3)
    assert claims(rig) == []


def test_a_long_run_renews_its_claim_and_drives_clock_counts(
    rig: Rig, drive: Emulator, start: Callable[..., subprocess.Popen[str]]
) -> None:
    slow(drive, 400_000)
    first = start("a")
    wait_for(lambda: sends(drive))
    (before,) = claims(rig)
    call(drive.url, "/_emulator/clock", {"advance": LIFE - 100})
    wait_for(lambda: claims(rig)[0].until > before.until)
    assert claims(rig)[0].since == before.since

    class Wrong(Clock):
        def now(self) -> float:
            return super().now() - 86_400 * 3

    other = Rig(rig.directory / "other", rig.url)
    other.directory.mkdir()
    result = other.push(rig.source, clock=Wrong())
    assert isinstance(result.error, Busy), result.error
    assert result.error.resume_after is not None
    assert 0 < result.error.resume_after - Wrong().now() <= LIFE + 1
    slow(drive, None)
    assert first.wait(30) == 0


def lease_of(drive: Destination, home: str, *, wait: bool = False, emit: Emit = ignore) -> Lease:
    clock = Clock()
    throttle = Throttle(clock, ignore, None, writes_per_second=1000)
    retry = Retry(clock, QUICK, ignore)
    return Lease(drive, home, "t", retry=retry, throttle=throttle, clock=clock, emit=emit, wait=wait)


@pytest.mark.parametrize("kind", ["drive", "folder"])
def test_of_two_who_claim_at_once_never_both_have_it(kind: str, rig: Rig, opened: Callable[[str], Destination]) -> None:
    """Both have seen a folder without a claim."""
    place = opened("drive:" if kind == "drive" else f"file:{rig.directory / 'nas'}")
    folder = place.reserve_ids(1)[0]
    seen = place.make_folder(folder, "t", {"driveshard": "folder", "job": "j"})
    for _ in range(5):
        leases = [lease_of(place, home) for home in ("a" * 16, "b" * 16)]
        held: list[Lease] = []
        together = threading.Barrier(2)

        def claim(lease: Lease, held: list[Lease] = held, together: threading.Barrier = together) -> None:
            lease.admit(seen)
            together.wait()
            try:
                lease.hold()
                held.append(lease)
            except Busy:
                pass

        threads = [threading.Thread(target=claim, args=(lease,)) for lease in leases]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(held) <= 1
        for lease in leases:
            lease.release()
        assert list(claims_in(place.get(folder).properties)) == []


def test_of_many_who_wait_one_goes_after_the_other(rig: Rig, opened: Callable[[str], Destination]) -> None:
    place = opened("drive:")
    seen = place.make_folder(place.reserve_ids(1)[0], "t", {"driveshard": "folder", "job": "j"})
    first = lease_of(place, "0" * 16)
    first.admit(seen)
    first.hold()
    seen = place.get(seen.id)
    inside, turns = threading.Lock(), []

    def push(lease: Lease) -> None:
        lease.admit(seen)
        lease.hold()
        turns.append(inside.acquire(blocking=False))
        time.sleep(0.05)
        inside.release()
        lease.release()

    threads = [threading.Thread(target=push, args=(lease_of(place, one * 16, wait=True),)) for one in "abc"]
    for thread in threads:
        thread.start()
    first.release()
    for thread in threads:
        thread.join(30)
    assert turns == [True, True, True]


def test_who_waits_does_so_also_when_nobody_was_there_at_first(rig: Rig, opened: Callable[[str], Destination]) -> None:
    """Two timers go off at once: both see a folder without a claim, of which they know that others push it, too."""
    place = opened("drive:")
    traces = {"driveshard": "folder", "job": "j", "pushed": f"{'9' * 16} 1 token"}
    seen = place.make_folder(place.reserve_ids(1)[0], "t", traces)
    both, inside, turns = threading.Barrier(2), threading.Lock(), []

    def push(lease: Lease) -> None:
        both.wait(30)
        lease.admit(seen)
        lease.hold()
        turns.append(inside.acquire(blocking=False))
        time.sleep(0.05)
        inside.release()
        lease.release()

    threads = [threading.Thread(target=push, args=(lease_of(place, one * 16, wait=True),)) for one in "ab"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert turns == [True, True]


def test_a_place_that_takes_no_claim_is_told_and_pushed_to(
    rig: Rig, opened: Callable[[str], Destination], monkeypatch: pytest.MonkeyPatch
) -> None:
    place = opened("drive:")
    seen = place.make_folder(place.reserve_ids(1)[0], "t", {"driveshard": "folder", "job": "j"})

    def refuse(folder_id: str, properties: object) -> None:
        raise Refused("no")

    monkeypatch.setattr(place, "set_properties", refuse)
    heard = Heard()
    lease = lease_of(place, "a" * 16, emit=heard)
    lease.admit(seen)
    lease.hold()
    lease.hold()
    lease.release()
    assert [event.text for event in heard if isinstance(event, Notice)] == [
        "Other machines cannot be kept from pushing t at the same time: no"
    ]


def test_who_slept_past_his_claim_lets_the_follower_be(
    rig: Rig, drive: Emulator, opened: Callable[[str], Destination]
) -> None:
    place = opened("drive:")
    seen = place.make_folder(place.reserve_ids(1)[0], "t", {"driveshard": "folder", "job": "j"})
    sleeper, follower = lease_of(place, "a" * 16), lease_of(place, "b" * 16)
    sleeper.admit(seen)
    sleeper.hold()
    drive.drive.clock.shift += LIFE + 5
    now = int(drive.drive.clock.now())
    place.set_properties(seen.id, {"lease-" + "b" * 16: f"{now} {now + 600} follower"})
    with pytest.raises(Busy, match="from follower since"):
        for _ in range(100):
            sleeper.hold()
            time.sleep(0.05)
    sleeper.release()
    follower.admit(place.get(seen.id))
    follower.hold()
    follower.release()


def test_a_claim_fits_its_property_and_nonsense_is_none() -> None:
    claim = Claim("0" * 16, 1_900_000_000, 1_900_000_600, "ü" * 100)
    assert len((claim.key + claim.value).encode()) <= 124
    assert [one.host for one in claims_in({claim.key: claim.value})] == ["ü" * 40]
    for value in ("", "x", "1 2", "9" * 40 + " 1 h", "-1 5 h", "1 \u0665 h"):
        assert [one.is_live(1_900_000_000) for one in claims_in({claim.key: value})] in ([], [False])
    assert not Claim("0" * 16, 0, 10**11, "h").is_live(1_900_000_000)  # no clock of ours says that


def test_a_home_has_a_lasting_id_and_is_the_same_again_when_it_was_deleted(tmp_path: Path) -> None:
    one, other = tmp_path / "one", tmp_path / "other"
    one.mkdir()
    other.mkdir()
    first = home_id(one)
    assert home_id(one) == first != home_id(other)
    (one / "machine").write_bytes(b"\xff not an id")
    assert home_id(one) == first
    (one / "machine").write_text("0123456789abcdef")
    assert home_id(one) == "0123456789abcdef"
