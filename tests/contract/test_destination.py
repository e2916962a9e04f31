"""The contract of destination.py, sentence by sentence, on every implementation.

``pytest tests/contract --live`` also runs it on Google Drive with the login of ``driveshard login``; it makes one
folder there and removes it.
"""

from __future__ import annotations

import hashlib
import random
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from driveshard.config.settings import settings_from
from driveshard.core.errors import IdInUse, NotFound, SessionGone, ShareRefused, Throttled, Unavailable, UsageError
from driveshard.core.model import RemoteFile, UploadSession
from driveshard.emulator import Emulator
from driveshard.storage.base import Destination, Held, Stored
from driveshard.storage.registry import open_destination

NAME = f"driveshard-contract-{random.SystemRandom().randrange(10**9)}"
LAG = 300.0  # seconds that a list of Google's may lag behind


def content(size: int, seed: int = 0) -> bytes:
    return random.Random(seed).randbytes(size)


class Place:
    """A destination with one dataset folder in it."""

    def __init__(self, destination: Destination, kind: str, emulator: Emulator | None) -> None:
        self.destination = destination
        self.kind = kind
        self.emulator = emulator
        self.unit = destination.chunk_unit
        self.folder = destination.reserve_ids(1)[0]
        self.made = destination.make_folder(self.folder, NAME, {"driveshard": "folder", "job": "j1"})

    def new_id(self) -> str:
        return self.destination.reserve_ids(1)[0]

    def begin(self, size: int, name: str = "a.zip", file_id: str | None = None, **properties: str) -> UploadSession:
        return self.destination.begin(file_id or self.new_id(), self.folder, name, size, properties)

    def store(self, data: bytes, name: str = "a.zip", **properties: str) -> RemoteFile:
        progress = self.destination.send(self.begin(len(data), name, **properties), 0, data, len(data))
        assert isinstance(progress, Stored)
        return progress.file

    def eventually(self, look: Callable[[], Any], expected: Any) -> None:
        """For lists, which may lag behind on Google's Drive."""
        deadline = time.monotonic() + (LAG if self.kind == "live" else 0)
        while look() != expected and time.monotonic() < deadline:
            time.sleep(5)
        assert look() == expected


@pytest.fixture(params=["folder", "emulator", "live"])
def place(request: pytest.FixtureRequest, tmp_path: Path, home: Path) -> Iterator[Place]:
    if request.param == "folder":
        yield Place(open_destination(f"file:{tmp_path / 'nas'}", settings_from({})), "folder", None)
    elif request.param == "emulator":
        emulator = request.getfixturevalue("emulator")
        settings = settings_from({"DRIVESHARD_HOME": str(home), "DRIVESHARD_DRIVE_URL": emulator.url})
        destination = open_destination("drive:", settings)
        yield Place(destination, "emulator", emulator)
        destination.close()  # type: ignore[attr-defined]
    elif not request.config.getoption("--live"):
        pytest.skip("needs --live and a login of your own")
    else:
        destination = open_destination("drive:", settings_from())
        live = Place(destination, "live", None)
        try:
            yield live
        finally:
            destination.remove(live.folder)
            destination.close()  # type: ignore[attr-defined]


@pytest.fixture
def destination(place: Place) -> Destination:
    return place.destination


# -- ids and folders -----------------------------------------------------------------------------------------------


def test_reserved_ids_are_all_different(destination: Destination) -> None:
    assert len(set(destination.reserve_ids(7) + destination.reserve_ids(3))) == 10


def test_a_folder_is_described_as_it_was_made(place: Place) -> None:
    found = place.destination.get(place.folder)

    assert found == place.made
    assert (found.id, found.name, found.folder) == (place.folder, NAME, True)
    assert found.properties == {"driveshard": "folder", "job": "j1"}
    assert found.link


def test_a_folder_is_not_made_twice_under_one_id(place: Place) -> None:
    with pytest.raises(IdInUse):
        place.destination.make_folder(place.folder, NAME, {})


def test_dataset_folders_are_found_by_their_exact_name(place: Place) -> None:
    place.eventually(lambda: [one.id for one in place.destination.find_folders(NAME)], [place.folder])
    assert place.destination.find_folders(NAME)[0].properties["job"] == "j1"
    for other in (NAME.upper(), NAME[:-1], f"{NAME}'", f"{NAME} \\'x"):
        assert place.destination.find_folders(other) == []


def test_a_removed_folder_is_found_no_more(place: Place) -> None:
    other = place.new_id()
    place.destination.make_folder(other, f"{NAME}-2", {"driveshard": "folder"})

    place.destination.remove(other)

    assert place.destination.find_folders(f"{NAME}-2") == []
    with pytest.raises(NotFound):
        place.destination.get(other)


def test_properties_of_a_folder_are_set_and_taken_away_one_by_one(place: Place) -> None:
    place.destination.set_properties(place.folder, {"lease-a": "1 2 host", "settings": "x"})

    changed = place.destination.set_properties(place.folder, {"settings": None, "lease-b": "\u00fc" * 58})

    told = {"driveshard": "folder", "job": "j1", "lease-a": "1 2 host", "lease-b": "\u00fc" * 58}
    assert changed.properties == told
    assert place.destination.get(place.folder) == changed
    with pytest.raises((NotFound, Unavailable)):
        place.destination.set_properties(place.new_id(), {"a": "b"})


def test_properties_set_at_once_are_all_there(place: Place) -> None:
    with ThreadPoolExecutor(6) as pool:
        answers = list(pool.map(lambda n: place.destination.set_properties(place.folder, {f"k{n}": "v"}), range(6)))

    assert {f"k{n}" for n in range(6)} <= set(place.destination.get(place.folder).properties)
    assert all(f"k{n}" in answer.properties for n, answer in enumerate(answers))
    assert sum(sum(key.startswith("k") for key in answer.properties) == 1 for answer in answers) <= 1


def test_the_clock_is_the_places_own(place: Place) -> None:
    place.destination.get(place.folder)
    assert abs(place.destination.time() - time.time()) < 60
    if place.emulator is not None:
        place.emulator.drive.clock.shift += 5000
        place.destination.get(place.folder)
        assert 4900 < place.destination.time() - time.time() < 5100


# -- uploads -------------------------------------------------------------------------------------------------------


def test_chunks_are_held_one_after_another_until_the_file_is_stored(place: Place) -> None:
    data = content(2 * place.unit + 1234)
    session = place.begin(len(data))

    assert place.destination.query(session, len(data)) == Held(0)
    for offset in (0, place.unit):
        sent = place.destination.send(session, offset, data[offset : offset + place.unit], len(data))
        assert sent == Held(offset + place.unit)
        assert place.destination.query(session, len(data)) == Held(offset + place.unit)
    last = place.destination.send(session, 2 * place.unit, memoryview(data)[2 * place.unit :], len(data))

    assert isinstance(last, Stored)
    assert (last.file.id, last.file.name, last.file.size) == (session.file_id, "a.zip", len(data))
    assert place.destination.read(session.file_id, 0, len(data)) == data


def test_bytes_already_held_are_skipped(place: Place) -> None:
    data = content(3 * place.unit + 5)
    session = place.begin(len(data))
    place.destination.send(session, 0, data[: 2 * place.unit], len(data))

    assert place.destination.send(session, 0, bytes(place.unit), len(data)) == Held(2 * place.unit)
    assert place.destination.send(session, place.unit, data[place.unit : 3 * place.unit], len(data)) == Held(
        3 * place.unit
    )
    done = place.destination.send(session, 0, data, len(data))

    assert isinstance(done, Stored)
    assert place.destination.get(session.file_id).md5 == hashlib.md5(data).hexdigest()


def test_a_gap_adds_nothing(place: Place) -> None:
    data = content(3 * place.unit)
    session = place.begin(len(data))
    place.destination.send(session, 0, data[: place.unit], len(data))

    try:
        assert place.destination.send(session, 2 * place.unit, data[2 * place.unit :], len(data)) == Held(place.unit)
    except Unavailable:
        assert place.kind != "folder"

    assert place.destination.query(session, len(data)) == Held(place.unit)


def test_what_is_held_is_told_and_not_what_was_sent(place: Place) -> None:
    if place.emulator is None:
        pytest.skip("needs a place that keeps less than was sent")
    data = content(8 * place.unit)
    session = place.begin(len(data))
    place.emulator.set_faults("308-short")

    assert place.destination.send(session, 0, data[: 4 * place.unit], len(data)) == Held(2 * place.unit)


def test_a_finished_session_goes_on_answering(place: Place) -> None:
    data = content(place.unit + 9)
    session = place.begin(len(data))
    stored = place.destination.send(session, 0, data, len(data))

    assert isinstance(stored, Stored)
    assert place.destination.query(session, len(data)) == stored
    assert place.destination.send(session, place.unit, data[place.unit :], len(data)) == stored


def test_a_new_beginning_under_the_same_id_wins(place: Place) -> None:
    data = content(2 * place.unit)
    older = place.begin(len(data))
    place.destination.send(older, 0, bytes(place.unit), len(data))
    newer = place.begin(len(data), file_id=older.file_id)

    assert place.destination.query(newer, len(data)) == Held(0)
    assert isinstance(place.destination.send(newer, 0, data, len(data)), Stored)

    assert place.destination.get(older.file_id).md5 == hashlib.md5(data).hexdigest()
    with pytest.raises((SessionGone, IdInUse)):
        place.destination.send(older, place.unit, bytes(place.unit), len(data))


def test_a_session_that_is_unknown_is_gone(place: Place) -> None:
    session = place.begin(place.unit)
    lost = replace(session, uri=f"{session.uri[:-12]}{'0' * 12}")

    with pytest.raises(SessionGone):
        place.destination.query(lost, place.unit)
    with pytest.raises(SessionGone):
        place.destination.send(lost, 0, bytes(place.unit), place.unit)
    assert place.destination.query(session, place.unit) == Held(0)


def test_an_id_that_is_taken_is_refused_at_the_beginning(place: Place) -> None:
    stored = place.store(b"first")

    with pytest.raises(IdInUse):
        place.begin(5, "b.zip", file_id=stored.id)

    assert place.destination.read(stored.id, 0, 9) == b"first"


def test_an_id_that_is_taken_meanwhile_is_refused_at_the_end(place: Place) -> None:
    session = place.begin(6)
    place.destination.put(session.file_id, place.folder, "other.txt", b"quick", "text/plain", replace=False)

    with pytest.raises(IdInUse):
        place.destination.send(session, 0, b"slower", 6)

    assert place.destination.read(session.file_id, 0, 9) == b"quick"


# -- files ---------------------------------------------------------------------------------------------------------


def test_a_stored_file_is_seen_at_once_with_its_checksums(place: Place) -> None:
    data = content(70_000)
    stored = place.store(data, "x 'y' ü.zip", part="3", sha256="0" * 64)

    found = place.destination.get(stored.id)

    assert (found.id, found.name, found.size, found.folder) == (stored.id, "x 'y' ü.zip", len(data), False)
    assert found.md5 == hashlib.md5(data).hexdigest()
    assert found.sha256 == hashlib.sha256(data).hexdigest()
    assert found.properties == {"part": "3", "sha256": "0" * 64}
    assert found.link


def test_an_unknown_id_is_not_found(place: Place) -> None:
    unknown = place.new_id()

    with pytest.raises(NotFound):
        place.destination.get(unknown)
    with pytest.raises(NotFound):
        place.destination.read(unknown, 0, 1)


def test_children_are_what_is_stored(place: Place) -> None:
    one, two = place.store(b"one", "one.zip", part="1"), place.store(b"two", "two.zip", part="2")
    place.destination.send(place.begin(2 * place.unit, "open.zip"), 0, bytes(place.unit), 2 * place.unit)

    place.eventually(
        lambda: sorted(child.id for child in place.destination.children(place.folder)), sorted([one.id, two.id])
    )

    by_id = {child.id: child for child in place.destination.children(place.folder)}
    assert by_id[one.id] == place.destination.get(one.id)
    assert by_id[two.id].properties == {"part": "2"}


def test_a_small_file_is_put_and_replaced(place: Place) -> None:
    file_id = place.new_id()

    first = place.destination.put(file_id, place.folder, "manifest.json", b"{}", "application/json", replace=False)
    with pytest.raises(IdInUse):
        place.destination.put(file_id, place.folder, "manifest.json", b"{1}", "application/json", replace=False)
    again = place.destination.put(file_id, place.folder, "manifest.json", b"{2}", "application/json", replace=True)

    assert first.id == again.id == file_id
    assert first.md5 == hashlib.md5(b"{}").hexdigest()
    assert again.md5 == hashlib.md5(b"{2}").hexdigest()
    assert again.properties.get("driveshard") == "artifact"
    assert place.destination.read(file_id, 0, 9) == b"{2}"
    place.eventually(lambda: [child.id for child in place.destination.children(place.folder)], [file_id])


@pytest.mark.parametrize("size", [4 << 20, (8 << 20) + 1])
def test_a_file_too_large_for_one_request_is_put_and_replaced(place: Place, size: int) -> None:
    file_id = place.new_id()
    for seed, replaces in ((1, False), (2, True)):
        data = content(size, seed)
        stored = place.destination.put(file_id, place.folder, "index.npz", data, "application/zip", replace=replaces)
        assert (stored.id, stored.name, stored.size) == (file_id, "index.npz", size)
        assert place.destination.get(file_id).md5 == hashlib.md5(data).hexdigest()
    with pytest.raises(IdInUse):
        place.destination.put(file_id, place.folder, "index.npz", data, "application/zip", replace=False)


def test_an_empty_file_is_put_and_read(place: Place) -> None:
    file_id = place.new_id()

    assert place.destination.put(file_id, place.folder, "e", b"", "text/plain", replace=False).size == 0
    assert place.destination.read(file_id, 0, 100) == b""


def test_what_is_not_there_is_not_replaced(place: Place) -> None:
    with pytest.raises(NotFound):
        place.destination.put(place.new_id(), place.folder, "x", b"1", "text/plain", replace=True)


@pytest.mark.parametrize(
    ("start", "length", "expected"),
    [
        (0, 1000, slice(0, 1000)),
        (0, 1, slice(0, 1)),
        (999, 1, slice(999, 1000)),
        (300, 200, slice(300, 500)),
        (990, 500, slice(990, 1000)),
        (1000, 10, slice(0, 0)),
        (5000, 10, slice(0, 0)),
        (500, 0, slice(0, 0)),
    ],
)
def test_ranges_end_with_the_file(place: Place, start: int, length: int, expected: slice) -> None:
    data = content(1000)

    assert place.destination.read(place.store(data).id, start, length) == data[expected]


def test_removing_twice_is_fine(place: Place) -> None:
    stored = place.store(b"here")

    place.destination.remove(stored.id)
    place.destination.remove(stored.id)
    place.destination.remove(place.new_id())

    with pytest.raises(NotFound):
        place.destination.get(stored.id)
    place.eventually(lambda: place.destination.children(place.folder), [])


# -- sharing -------------------------------------------------------------------------------------------------------


def test_sharing_can_be_said_twice_and_taken_back(place: Place) -> None:
    for who in ("nobody", "anyone", "anyone", "nobody", "nobody"):
        try:
            place.destination.share(place.folder, who)
        except ShareRefused as refusal:
            assert place.kind != "emulator"
            assert who != "nobody"
            assert refusal.advice


def test_nobody_knows_whom_that_means(place: Place) -> None:
    with pytest.raises((UsageError, ShareRefused)):
        place.destination.share(place.folder, "everybody")


# -- all of it -----------------------------------------------------------------------------------------------------


def test_many_threads_at_once(place: Place) -> None:
    def upload(number: int) -> tuple[str, str]:
        data = content(place.unit + 1 + number, number)
        session = place.begin(len(data), f"{number}.zip", part=str(number))
        assert place.destination.send(session, 0, data[: place.unit], len(data)) == Held(place.unit)
        assert isinstance(place.destination.send(session, place.unit, data[place.unit :], len(data)), Stored)
        return session.file_id, hashlib.md5(data).hexdigest()

    with ThreadPoolExecutor(6) as pool:
        expected = dict(pool.map(upload, range(12)))

    place.eventually(lambda: {child.id: child.md5 for child in place.destination.children(place.folder)}, expected)


def test_failures_that_may_pass_are_raised_after_one_request(place: Place) -> None:
    if place.emulator is None:
        pytest.skip("needs a place that fails when told to")
    before = place.destination.requests
    for word, kind in (("503", Unavailable), ("403-rateLimit", Throttled), ("502-html", Unavailable)):
        place.emulator.set_faults(word)
        with pytest.raises(kind):
            place.destination.get(place.folder)
    assert place.destination.requests - before == 3


def test_requests_are_counted_and_the_identity_stays(place: Place) -> None:
    before, identity = place.destination.requests, place.destination.identity
    place.destination.get(place.folder)

    assert place.destination.requests == before + 1
    assert place.destination.identity == identity
    assert place.destination.describe()


def test_no_protocol_slip_was_seen(place: Place) -> None:
    if place.emulator is None:
        pytest.skip("needs a server that watches")
    data = content(3 * place.unit + 1)
    session = place.begin(len(data))
    for offset in range(0, len(data), place.unit):
        place.destination.send(session, offset, data[offset : offset + place.unit], len(data))
    assert place.emulator.stats()["violations"] == []


def test_what_is_in_the_trash_is_not_found(place: Place) -> None:
    one, other = place.store(content(100), "a.zip"), place.store(content(50, 1), "b.zip")
    place.destination.trash(one.id)
    place.destination.trash(one.id)
    place.destination.trash(place.new_id())
    with pytest.raises(NotFound):
        place.destination.get(one.id)
    place.eventually(lambda: [file.id for file in place.destination.children(place.folder)], [other.id])
    again = place.store(content(70, 2), "a.zip")
    place.destination.trash(again.id)
    assert place.destination.read(other.id, 0, 50) == content(50, 1)
