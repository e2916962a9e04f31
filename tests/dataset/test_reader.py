"""Listing, reading and proving a dataset where it lies: on an emulated Drive, in a directory, spoilt in every way."""

from __future__ import annotations

import json
import os
import shutil
import socket
import sys
from collections.abc import Iterator
from contextlib import ExitStack, closing, suppress
from dataclasses import replace
from pathlib import Path

import pytest

from driveshard.archive.manifest import ManifestPart
from driveshard.archive.zip_writer import ZipWriter
from driveshard.config.settings import PushOptions, Settings
from driveshard.core.errors import ComeBackLater, Mismatch, NotFound, SourceMissing, UsageError
from driveshard.core.events import ignore
from driveshard.dataset.locate import DirectoryShelf, Shelf, damage_told, find_manifest, open_part, open_shelf
from driveshard.dataset.pull import pull_into
from driveshard.dataset.reader import Reading, open_reading
from driveshard.dataset.selection import Selection
from driveshard.dataset.shelf import FolderShelf
from driveshard.dataset.verify import content_problems, refusal, verify
from driveshard.emulator import Emulator
from driveshard.sources.folder import FolderSource
from driveshard.sources.python.source import PythonSource
from driveshard.storage.retry import Patience
from driveshard.upload.ledger.lock import described, hold
from driveshard.upload.ledger.reader import find_record, find_records
from driveshard.upload.result import PushResult
from driveshard.upload.run import push
from tests.emulator.client import Client

QUICK = Patience(attempts=3, first=0.01, longest=0.05)
FILES = {f"d{number // 10}/{number:03d}.bin": bytes([number]) * (100 + number) for number in range(60)}
ODD = {"a b/c'd.txt": b"quotes", "a b/\N{SNOWMAN}.txt": b"snow", "a b/zero": b""}


class Place:
    """A Drive with one dataset pushed to it, and the settings to reach it."""

    def __init__(self, work: Path, emulator: Emulator) -> None:
        self.work = work
        self.emulator = emulator
        self.settings = Settings(home=work / "home", drive_url=f"{emulator.url}/", patience=QUICK)
        self.source = work / "src"

    def write(self, files: dict[str, bytes]) -> None:
        for path, content in files.items():
            file = self.source / path
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(content)

    def push(self, **options: object) -> PushResult:
        values = {"name": "set", "part_size": 4096, "writes_per_second": 1000.0, "share": "anyone", **options}
        result = push(PushOptions("src", **values), FolderSource(self.source), self.settings, ignore)  # type: ignore[arg-type]
        assert result.error is None
        return result


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    work = tmp_path_factory.mktemp("reading")
    with Emulator(work / "drive") as emulator:
        found = Place(work, emulator)
        found.write({**FILES, **ODD})
        found.push()
        yield found


class Opener:
    """Opens what tests read, and closes it after them."""

    def __init__(self, stack: ExitStack) -> None:
        self._stack = stack

    def reading(self, what: object, settings: Settings) -> Reading:
        return self._stack.enter_context(open_reading(str(what), settings))

    def shelf(self, what: object, settings: Settings) -> Shelf:
        return self._stack.enter_context(closing(open_shelf(str(what), settings, ignore)))


@pytest.fixture
def opener() -> Iterator[Opener]:
    with ExitStack() as stack:
        yield Opener(stack)


def test_every_member_is_listed_in_order_with_its_size(place: Place, opener: Opener) -> None:
    members = list(opener.reading("set", place.settings).members())
    assert [(one.path.decode(), one.size) for one in members] == [
        (path, len(content)) for path, content in sorted({**FILES, **ODD}.items(), key=lambda item: item[0].encode())
    ]
    assert len({one.part for one in members}) > 2


def test_the_same_by_name_id_link_and_where(place: Place, opener: Opener) -> None:
    record = find_record(place.settings, "set")
    assert record.folder_id is not None
    nobody = replace(place.settings, home=place.work / "nobody")
    names = [record.folder_id, f"drive:{record.folder_id}", str(record.link)]
    lists = [[one.path for one in opener.reading(what, nobody).members()] for what in names]
    assert lists[0] == lists[1] == lists[2]
    assert len(lists[0]) == len(FILES) + len(ODD)


def test_an_emulators_link_is_asked_there_without_being_told(place: Place, opener: Opener) -> None:
    record = find_record(place.settings, "set")
    settings = replace(place.settings, drive_url=None)
    assert opener.reading(str(record.link), settings).read(b"d1/011.bin") == FILES["d1/011.bin"]
    assert opener.reading("set", settings).read(b"d1/011.bin") == FILES["d1/011.bin"]


def test_members_are_read_back_whole(place: Place, opener: Opener) -> None:
    reading = opener.reading("set", place.settings)
    for path, content in {**FILES, **ODD}.items():
        assert reading.read(path.encode()) == content


def test_only_parts_that_can_hold_a_member_are_opened(place: Place, opener: Opener) -> None:
    place.emulator.log()
    seen = len(place.emulator.log())
    opener.reading("set", place.settings).read(b"d5/055.bin")
    downloads = [
        entry["path"].partition("?")[0] for entry in place.emulator.log()[seen:] if "alt=media" in entry["path"]
    ]
    assert len(set(downloads)) == 2  # the manifest and one part
    assert len(downloads) == 2  # all that zipfile looks for at the end of a short part comes at once


def test_a_member_that_is_not_there(place: Place, opener: Opener) -> None:
    with pytest.raises(SourceMissing, match="set has no member d9/none"):
        opener.reading("set", place.settings).read(b"d9/none")


@pytest.mark.skipif(sys.platform != "linux", reason="other systems have no such names")
def test_names_that_are_not_text(tmp_path: Path, emulator: Emulator, opener: Opener) -> None:
    place = Place(tmp_path, emulator)
    place.source.mkdir()
    odd = b"caf\xe9\n.bin"
    Path(os.fsdecode(os.path.join(os.fsencode(place.source), odd))).write_bytes(b"latin")
    place.push()
    reading = opener.reading("set", place.settings)
    assert [one.path for one in reading.members()] == [odd]
    assert reading.read(odd) == b"latin"


def test_the_newest_of_a_repeated_path_counts(tmp_path: Path, emulator: Emulator, opener: Opener) -> None:
    place = Place(tmp_path, emulator)
    place.write(FILES)
    place.push()
    place.write({"d1/011.bin": b"newer and longer than before", "e/new.bin": b"new"})
    place.push()
    reading = opener.reading("set", place.settings)
    paths = [one.path.decode() for one in reading.members()]
    assert sorted(paths) == sorted({**FILES, "e/new.bin": b""})
    assert reading.read(b"d1/011.bin") == b"newer and longer than before"
    assert verify(reading.shelf).ok


def test_what_was_pushed_from_here_is_read_before_lists_show_it(
    tmp_path: Path, emulator: Emulator, opener: Opener
) -> None:
    place = Place(tmp_path, emulator)
    place.write(FILES)
    emulator.set_faults("list-lag*=600")
    result = place.push()
    reading = opener.reading("set", place.settings)
    assert len(list(reading.members())) == len(FILES)
    assert verify(opener.shelf("set", place.settings)).ok
    with pytest.raises(SourceMissing, match="there is nothing in folder"):
        pull_into(str(result.link), tmp_path / "pulled", Selection(), place.settings, ignore)


def test_a_list_may_tell_the_size_that_the_manifest_had_before(place: Place, opener: Opener) -> None:
    shelf = opener.shelf("set", place.settings)
    old = [replace(one, size=one.size - 100) for one in shelf.files()]
    assert find_manifest(shelf, old).samples == len(FILES) + len(ODD)


def test_a_list_may_show_what_is_in_the_trash_by_now(tmp_path: Path, emulator: Emulator, opener: Opener) -> None:
    place = Place(tmp_path, emulator)
    place.write(FILES)
    place.push()
    client = Client(emulator.url)
    folder = str(find_record(place.settings, "set").folder_id)
    beside = [client.upload(b"x", name=name, parents=[folder]) for name in ("set-00000.zip", "set-00077.zip")]
    lagging = opener.shelf("set", place.settings)
    assert isinstance(lagging, FolderShelf)
    lagging.look()
    assert len(verify(opener.shelf("set", place.settings)).problems) == 2
    for file_id in beside:
        assert client("PATCH", f"/drive/v3/files/{file_id}", {"trashed": True}).status == 200
    client.connection.close()
    assert verify(lagging).problems == []


def test_samples_of_a_program_are_found_in_any_order(tmp_path: Path, emulator: Emulator, opener: Opener) -> None:
    place = Place(tmp_path, emulator)
    (tmp_path / "make.py").write_text(
        "import driveshard\n"
        "def make():\n"
        "    return [driveshard.Sample(f'k{(n * 7) % 40:02d}', {'txt': f'{n}' * 200}) for n in range(40)]\n"
    )
    source = PythonSource("make.py:make", tmp_path)
    options = PushOptions("make.py:make", name="set", part_size=4096, writes_per_second=1000.0)
    result = push(options, source, place.settings, ignore)
    assert result.error is None
    assert result.parts > 2
    assert opener.reading("set", place.settings).read(b"k07.txt") == b"1" * 200


# -- what WHAT may be ------------------------------------------------------------------------------------------------


def test_what_is_not_there(place: Place, tmp_path: Path, opener: Opener) -> None:
    with pytest.raises(SourceMissing, match="there is no dataset, directory or Drive folder sett") as caught:
        opener.reading("sett", place.settings)
    assert caught.value.advice == "Did you mean set?"
    with pytest.raises(SourceMissing, match=r"has no manifest\.json"):
        opener.reading(str(tmp_path), place.settings)
    with pytest.raises(NotFound):
        opener.reading("1" * 30, place.settings)
    with pytest.raises(UsageError, match="is not a Drive folder"):
        opener.reading("https://example.org/", place.settings)


def test_a_folder_without_a_manifest(tmp_path: Path, emulator: Emulator, opener: Opener) -> None:
    place = Place(tmp_path, emulator)
    place.write(FILES)
    options = PushOptions("src", name="set", part_size=5000, max_transfer=1, writes_per_second=1000.0)
    assert isinstance(push(options, FolderSource(place.source), place.settings, ignore).error, ComeBackLater)
    with pytest.raises(SourceMissing, match=r"has no manifest\.json"):
        opener.reading("set", place.settings)
    problem = verify(opener.shelf("set", place.settings)).problems[0]
    assert "has no manifest.json" in problem


def test_a_name_on_two_drives_means_the_one_talked_to(tmp_path: Path, emulator: Emulator, opener: Opener) -> None:
    here = Place(tmp_path, emulator)
    here.write({"a.bin": b"here"})
    here.push()
    with Emulator(tmp_path / "other") as other:
        there = Place(tmp_path, other)
        there.source = tmp_path / "src2"
        there.write({"a.bin": b"there"})
        there.push()
        assert opener.reading("set", there.settings).read(b"a.bin") == b"there"
        assert opener.reading("set", here.settings).read(b"a.bin") == b"here"
        nowhere = replace(here.settings, drive_url=None)
        assert len(find_records(nowhere, "set")) == 2
        with pytest.raises(UsageError, match="there are 2 datasets named set"):
            find_record(nowhere, "set")


# -- verify ----------------------------------------------------------------------------------------------------------


def test_a_whole_dataset_is_proved(place: Place, opener: Opener) -> None:
    for deep in (False, True):
        proof = verify(opener.shelf("set", place.settings), deep=deep)
        assert proof.as_json() == {
            "name": "set",
            "parts": proof.parts,
            "bytes": proof.bytes,
            "ok": True,
            "problems": [],
        }
        assert proof.parts > 2
        assert refusal(proof) is None


def pulled(place: Place, opener: Opener, target: Path) -> Path:
    """The dataset's files in a directory, as a reader would have them."""
    shelf = opener.shelf("set", place.settings)
    target.mkdir()
    for file in shelf.files():
        (target / file.name).write_bytes(shelf.read(file.id, 0, file.size) if file.size else b"")
    return target


def test_a_directory_reads_as_the_drive_does(place: Place, tmp_path: Path, opener: Opener) -> None:
    directory = pulled(place, opener, tmp_path / "pulled")
    local, remote = opener.reading(str(directory), place.settings), opener.reading("set", place.settings)
    assert list(local.members()) == list(remote.members())
    assert local.read(b"d3/033.bin") == FILES["d3/033.bin"]
    assert verify(local.shelf).ok


def _flip(path: Path, position: int) -> None:
    data = bytearray(path.read_bytes())
    data[position] ^= 1
    path.write_bytes(data)


@pytest.mark.parametrize(
    ("spoil", "problem"),
    [
        (lambda d: (d / "set-00001.zip").unlink(), "set-00001.zip is missing"),
        (lambda d: _flip(d / "set-00001.zip", 60), "set-00001.zip has other bytes than were packed"),
        (lambda d: _flip(d / "set-00001.zip", 60), "set-00001.zip has a damaged member: "),
        (lambda d: _flip(d / "set-00001.zip", -20), "set-00001.zip is not a whole zip"),
        (lambda d: (d / "set-00001.zip").write_bytes(b"short"), "set-00001.zip has 5 bytes instead of "),
        (lambda d: shutil.copy(d / "set-00001.zip", d / "set-00099.zip"), "set-00099.zip is not in the manifest"),
        (lambda d: (d / "manifest.json").write_text("{}"), "manifest.json cannot be read"),
    ],
)
def test_damage_in_a_directory_is_found(
    place: Place, tmp_path: Path, spoil: object, problem: str, opener: Opener
) -> None:
    directory = pulled(place, opener, tmp_path / "pulled")
    spoil(directory)  # type: ignore[operator]
    proof = verify(opener.shelf(str(directory), place.settings))
    assert not proof.ok
    assert any(found.startswith(problem) for found in proof.problems), proof.problems
    assert isinstance(refusal(proof), Mismatch)


def test_any_wrong_bit_in_a_part_is_damage_and_no_bug(tmp_path: Path) -> None:
    """Whatever zipfile makes of it: a password, an unknown method, compressed bytes, a place before the start."""
    part = tmp_path / "s-00000.zip"
    with ZipWriter(part) as writer:
        for number in range(2):
            writer.add(b"%d.bin" % number, bytes([number]) * 9)
        done = writer.close()
    row = ManifestPart(0, part.name, "", done.size, done.md5, done.sha256, 2, 2, "0.bin", "1.bin")
    shelf, whole = DirectoryShelf(tmp_path), part.read_bytes()
    assert content_problems(shelf, row) == []
    for bit in range(8 * len(whole)):
        spoilt = bytearray(whole)
        spoilt[bit // 8] ^= 1 << bit % 8
        part.write_bytes(spoilt)
        assert "has other bytes than were packed" in content_problems(shelf, row)
        with suppress(Mismatch), open_part(shelf, row) as archive:
            for info in archive.infolist():
                with damage_told(row):
                    archive.read(info)


def test_a_manifest_from_the_future(place: Place, tmp_path: Path, opener: Opener) -> None:
    directory = pulled(place, opener, tmp_path / "pulled")
    document = json.loads((directory / "manifest.json").read_text())
    (directory / "manifest.json").write_text(json.dumps({**document, "version": 99}))
    with pytest.raises(Mismatch, match="version 99"):
        opener.reading(str(directory), place.settings)


def test_damage_on_the_drive_is_found(tmp_path: Path, emulator: Emulator, opener: Opener) -> None:
    place = Place(tmp_path, emulator)
    place.write(FILES)
    place.push()
    shelf = opener.shelf("set", place.settings)
    manifest = Reading(shelf).manifest
    destination = shelf._destination  # type: ignore[attr-defined]
    first, second, third = manifest.parts[:3]
    folder = str(find_record(place.settings, "set").folder_id)
    destination.remove(first.id)
    data = bytearray(destination.read(second.id, 0, second.size))
    data[50] ^= 1
    destination.put(second.id, folder, second.name, bytes(data), "application/zip", replace=True)
    copies = destination.reserve_ids(2)
    destination.put(copies[0], folder, third.name, b"x", "application/zip", replace=False)
    destination.put(copies[1], folder, "set-00077.zip", b"x", "application/zip", replace=False)
    assert verify(shelf).problems == [
        "set-00002.zip is there 2 times",
        "set-00077.zip is not in the manifest",
        "set-00000.zip is missing",
        "set-00001.zip has another md5 than the manifest",
        "set-00001.zip has another sha256 than the manifest",
    ]
    with pytest.raises(Mismatch, match=r"set-00001\.zip is damaged"):
        Reading(shelf).read(second.first.encode())


# -- ledgers seen from outside ---------------------------------------------------------------------------------------


def test_a_note_without_the_lock_holds_nothing(place: Place) -> None:
    """A run that was killed on another host, or whose number another process has by now, leaves one."""
    holder = find_record(place.settings, "set").path.with_suffix(".holder")
    note = {"pid": os.getpid(), "host": socket.gethostname(), "since": "2026-01-01 00:00:00"}
    try:
        for written in (note, {**note, "host": "elsewhere"}, {**note, "pid": 1}, {}, []):
            holder.write_text(json.dumps(written))
            record = find_record(place.settings, "set")
            assert (record.state, record.holder) == ("complete", None)
    finally:
        holder.unlink()


def test_the_lock_says_who_runs_whatever_the_note_says(place: Place) -> None:
    lock = find_record(place.settings, "set").path.with_suffix(".lock")
    with hold(lock, "set", place.settings.clock, ignore, wait=False):
        record = find_record(place.settings, "set")
        assert record.state == "running"
        assert (record.holder or {})["pid"] == os.getpid()
        for spoilt in ("not json", "[]", '{"pid": "x"}'):
            lock.with_suffix(".holder").write_text(spoilt)
            record = find_record(place.settings, "set")
            assert record.state == "running"
            assert "another process" in described(record.holder or {})
    assert find_record(place.settings, "set").state == "complete"


def test_a_ledger_that_cannot_be_read_is_passed_over(place: Place) -> None:
    spoilt = place.settings.ledgers / "spoilt.sqlite"
    spoilt.write_bytes(b"not a database at all" * 100)
    try:
        assert [record.name for record in find_records(place.settings)] == ["set"]
    finally:
        spoilt.unlink()
