"""What a plain directory does beyond the contract: it survives a kill at any point, and says what a disk lacks."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from driveshard.core import files as durable
from driveshard.core.clock import Clock
from driveshard.core.errors import (
    DriveshardError,
    IdInUse,
    NotFound,
    Refused,
    SessionGone,
    StorageFull,
    Unavailable,
    UsageError,
)
from driveshard.core.events import ignore
from driveshard.core.model import UploadSession
from driveshard.storage.base import Held, Stored
from driveshard.storage.folder import destination as folder_destination
from driveshard.storage.folder import records as folder_records
from driveshard.storage.folder.destination import FolderDestination
from driveshard.storage.registry import open_destination
from driveshard.storage.retry import Patience, Retry
from driveshard.storage.throttle import Throttle
from driveshard.upload.dataset_folder.find_or_create import find_folder
from driveshard.upload.ledger.ledger import Ledger
from driveshard.upload.surroundings import Surroundings

UNIT = FolderDestination.chunk_unit
DATA = bytes(range(256)) * (UNIT // 256) + b"end"


@dataclass
class Nas:
    """A directory with one dataset; ``open`` is what a new process does."""

    root: Path
    folder: str = ""
    place: FolderDestination = field(init=False)

    def __post_init__(self) -> None:
        self.open()

    def open(self) -> FolderDestination:
        self.place = FolderDestination(self.root)
        return self.place

    def make(self, name: str = "d", properties: Mapping[str, str] | None = None) -> str:
        self.folder = self.place.reserve_ids(1)[0]
        self.place.make_folder(self.folder, name, {"driveshard": "folder", **(properties or {})})
        return self.folder

    def begin(self, name: str = "a.zip", size: int = len(DATA), file_id: str | None = None) -> UploadSession:
        return self.place.begin(file_id or self.place.reserve_ids(1)[0], self.folder, name, size, {"part": "1"})

    def store(self, data: bytes = DATA, name: str = "a.zip") -> str:
        session = self.begin(name, len(data))
        assert isinstance(self.place.send(session, 0, data, len(data)), Stored)
        return session.file_id

    def visible(self) -> set[str]:
        return {one.name for one in (self.root / "d").iterdir()}


@pytest.fixture
def nas(tmp_path: Path) -> Nas:
    nas = Nas(tmp_path / "nas")
    nas.make()
    return nas


def test_an_upload_goes_on_in_another_process(nas: Nas) -> None:
    session = nas.begin()
    nas.place.send(session, 0, DATA[:UNIT], len(DATA))

    nas.open()

    assert nas.place.query(session, len(DATA)) == Held(UNIT)
    assert isinstance(nas.place.send(session, UNIT, DATA[UNIT:], len(DATA)), Stored)
    assert nas.open().get(session.file_id).md5 == hashlib.md5(DATA).hexdigest()
    assert isinstance(nas.place.query(session, len(DATA)), Stored)


def test_a_finished_dataset_holds_its_files_and_one_hidden_folder(nas: Nas) -> None:
    nas.store()
    for name in ("manifest.json", "README.md"):
        nas.place.put(nas.place.reserve_ids(1)[0], nas.folder, name, b"{}", "text/plain", replace=False)
    assert nas.visible() == {"a.zip", "manifest.json", "README.md", ".driveshard"}
    assert all(one.suffix == ".json" for one in (nas.root / "d" / ".driveshard").iterdir())


def test_nothing_unfinished_is_to_be_seen(nas: Nas) -> None:
    session = nas.begin()
    nas.place.send(session, 0, DATA[:UNIT], len(DATA))
    assert nas.visible() == {".driveshard"}


@pytest.mark.skipif(os.name == "nt", reason="Windows has no mode bits")
def test_others_may_read_what_was_stored(nas: Nas) -> None:
    before = os.umask(0o022)
    try:
        nas.store()
        nas.place.put(nas.place.reserve_ids(1)[0], nas.folder, "m.json", b"{}", "text/plain", replace=False)
    finally:
        os.umask(before)
    for name in ("a.zip", "m.json"):
        assert (nas.root / "d" / name).stat().st_mode & 0o777 == 0o644


def test_checksums_are_those_of_the_bytes_on_the_disk_now(nas: Nas) -> None:
    file_id = nas.store()
    assert nas.place.get(file_id).sha256 == hashlib.sha256(DATA).hexdigest()
    path = nas.root / "d" / "a.zip"
    path.write_bytes(b"other")
    found = nas.place.get(file_id)
    assert (found.size, found.md5) == (5, hashlib.md5(b"other").hexdigest())
    status = path.stat()
    path.write_bytes(b"OTHER")
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns + 1))
    assert nas.open().get(file_id).md5 == hashlib.md5(b"OTHER").hexdigest()


def test_unchanged_files_are_not_read_again(nas: Nas, monkeypatch: pytest.MonkeyPatch) -> None:
    file_id = nas.store()
    first = nas.place.get(file_id)
    monkeypatch.setattr(folder_destination, "checksums_of", lambda path: pytest.fail("read again"))
    assert nas.open().get(file_id) == first
    assert nas.place.children(nas.folder) == [first]


def test_a_file_that_somebody_deleted_is_not_found(nas: Nas) -> None:
    file_id = nas.store()
    (nas.root / "d" / "a.zip").unlink()
    with pytest.raises(NotFound):
        nas.place.get(file_id)
    assert nas.place.children(nas.folder) == []
    assert isinstance(nas.place.send(nas.begin(file_id=file_id), 0, DATA, len(DATA)), Stored)


def test_a_name_is_there_once_and_the_file_that_had_it_is_kept_beside(nas: Nas) -> None:
    """The older one may be the only copy of what somebody took out of the source, or put into it here."""
    older, newer = nas.store(b"older"), nas.store(b"newer")
    newest = nas.store(b"newest")
    names = {one.id: one.name for one in nas.open().children(nas.folder)}
    assert names == {older: "a.kept-1.zip", newer: "a.kept-2.zip", newest: "a.zip"}
    assert [nas.place.read(one, 0, 9) for one in (older, newer, newest)] == [b"older", b"newer", b"newest"]
    nas.place.remove(older)
    assert nas.visible() == {"a.kept-2.zip", "a.zip", ".driveshard"}


@pytest.mark.parametrize("what", ["file", "link", "dead link", "folder"])
def test_what_nobody_knows_of_is_kept_beside(nas: Nas, tmp_path: Path, what: str) -> None:
    """Somebody put it there under a part's name, or its record is gone."""
    (tmp_path / "theirs").write_bytes(b"theirs")
    there = nas.root / "d" / "a.zip"
    if what == "file":
        there.write_bytes(b"theirs")
    elif what == "link":
        there.symlink_to(tmp_path / "theirs")
    elif what == "dead link":
        there.symlink_to(tmp_path / "nothing")
    else:
        there.mkdir()
        (there / "x").write_bytes(b"theirs")
    nas.store()
    kept = nas.root / "d" / "a.kept-1.zip"
    if what == "dead link":
        assert kept.readlink() == tmp_path / "nothing"
    else:
        assert (kept / "x" if what == "folder" else kept).read_bytes() == b"theirs"
    assert there.read_bytes() == DATA and not there.is_symlink()
    assert (tmp_path / "theirs").read_bytes() == b"theirs"


def test_a_small_file_gives_way_to_the_next_one(nas: Nas) -> None:
    """A manifest whose id was lost is written under another one; nobody wants the older."""
    for content in (b"one", b"two"):
        file_id = nas.place.reserve_ids(1)[0]
        nas.place.put(file_id, nas.folder, "manifest.json", content, "application/json", replace=False)
    assert nas.visible() == {"manifest.json", ".driveshard"}
    assert [nas.place.read(one.id, 0, 9) for one in nas.place.children(nas.folder)] == [b"two"]


def test_files_of_others_are_left_alone(nas: Nas) -> None:
    (nas.root / "d" / "notes.txt").write_text("mine")
    nas.store()
    assert [child.name for child in nas.place.children(nas.folder)] == ["a.zip"]
    nas.place.remove(nas.folder)
    assert [one.name for one in (nas.root / "d").iterdir()] == ["notes.txt"]


@pytest.mark.parametrize("what", ["files", "dataset"])
def test_a_directory_that_is_somebody_elses_is_refused(nas: Nas, what: str) -> None:
    if what == "files":
        (nas.root / "e").mkdir()
        (nas.root / "e" / "holiday.jpg").touch()
    else:
        nas.make("e")
    with pytest.raises(Refused) as caught:
        nas.make("e")
    assert "--name" in caught.value.advice


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "a\\b", ".driveshard", "x\0y"])
def test_names_do_not_lead_out_of_the_folder(nas: Nas, name: str) -> None:
    for call in (
        lambda: nas.begin(name),
        lambda: nas.make(name),
        lambda: nas.place.put(nas.place.reserve_ids(1)[0], nas.folder, name, b"", "text/plain", replace=False),
    ):
        with pytest.raises(Refused):
            call()


@pytest.mark.parametrize("file_id", ["../../x", "a/b", "", "x\0", "a" * 200])
def test_ids_do_not_lead_out_of_the_folder(nas: Nas, file_id: str) -> None:
    with pytest.raises(NotFound):
        nas.place.get(file_id)
    with pytest.raises(NotFound):
        nas.place.read(file_id, 0, 1)
    nas.place.remove(file_id)
    with pytest.raises(Refused):
        nas.place.begin(file_id, nas.folder, "x.zip", 5, {})


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"null", b'{"name": 5}', b"\xff"])
def test_a_damaged_record_is_none(nas: Nas, content: bytes) -> None:
    session = nas.begin()
    (nas.root / "d" / ".driveshard" / f"{session.file_id}.json").write_bytes(content)
    with pytest.raises(SessionGone):
        nas.place.query(session, len(DATA))
    assert nas.place.children(nas.folder) == []
    again = nas.begin(file_id=session.file_id)
    assert isinstance(nas.place.send(again, 0, DATA, len(DATA)), Stored)


RECORD = {"name": "a.zip", "size": 3, "token": "x", "properties": {"part": "0"}, "stored": True, "sums": None}
PLANTED = {
    "a path up": {"name": "../../precious"},
    "a whole path": {"name": "{root}/precious"},
    "a path down": {"name": "sub/precious"},
    "a path of Windows": {"name": "..\\precious"},
    "a drive of Windows": {"name": "C:precious"},
    "the records": {"name": ".driveshard"},
    "the folder above": {"name": ".."},
    "no name": {"name": ""},
    "a name with NUL": {"name": "precious\0"},
    "a name that is a number": {"name": 7},
    "a name that is a list": {"name": ["precious"]},
    "a size that is a text": {"size": "3"},
    "a size that is a truth": {"size": True},
    "a size below 0": {"size": -1},
    "a token that is a number": {"token": 1},
    "stored as a text": {"stored": "yes"},
    "properties that are a list": {"properties": ["part"]},
    "a property that is a number": {"properties": {"part": 0}},
    "sums that are a number": {"sums": 5},
    "sums that are too few": {"sums": [3, 4]},
    "sums of other kinds": {"sums": ["3", 4, None, {}]},
    "a field too many": {"more": 1},
}


@pytest.mark.parametrize("planted", PLANTED.values(), ids=PLANTED)
def test_a_planted_record_is_none(nas: Nas, tmp_path: Path, planted: dict[str, object]) -> None:
    """Others may write to a shared folder; what they write must not read or delete a file outside of it."""
    precious = tmp_path / "precious"
    (nas.root / "d" / "sub").mkdir()
    for path in (precious, nas.root / "d" / "sub" / "precious", nas.root / "d" / "a.zip"):
        path.write_bytes(b"mine")
    document = json.dumps({**RECORD, **planted}).replace("{root}", str(tmp_path))
    (nas.root / "d" / ".driveshard" / "evil.json").write_text(document)
    nas.open()
    assert nas.place.children(nas.folder) == []
    for call in (lambda: nas.place.get("evil"), lambda: nas.place.read("evil", 0, 9)):
        with pytest.raises(NotFound):
            call()
    nas.place.remove("evil")
    nas.place.remove(nas.folder)
    assert precious.read_bytes() == b"mine"
    assert (nas.root / "d" / "sub" / "precious").read_bytes() == b"mine"


def test_a_planted_record_of_anothers_file_does_not_take_it_along(nas: Nas) -> None:
    file_id = nas.store()
    (nas.root / "d" / ".driveshard" / "evil.json").write_text(json.dumps(RECORD))
    nas.open().remove("evil")
    assert nas.place.read(file_id, 0, len(DATA)) == DATA
    with pytest.raises(NotFound):
        nas.place.get("evil")
    nas.place.remove(file_id)
    assert nas.visible() == {".driveshard"}


@pytest.mark.skipif(os.name == "nt", reason="links take rights on Windows")
@pytest.mark.parametrize("planted", ["a.zip", ".driveshard/{id}.partial", ".driveshard/{id}.new", ".driveshard"])
def test_a_planted_link_leads_nowhere(nas: Nas, tmp_path: Path, planted: str) -> None:
    """Neither read, nor written through, nor is what it leads to deleted."""
    precious = tmp_path / "precious"
    precious.mkdir() if planted == ".driveshard" else precious.write_bytes(b"mine")
    session = nas.begin()
    nas.place.send(session, 0, DATA[:UNIT], len(DATA))
    path = nas.root / "d" / planted.format(id=session.file_id)
    if planted == ".driveshard":
        shutil.copytree(path, precious, dirs_exist_ok=True)
        shutil.rmtree(path)
        (precious / "mine.json").write_bytes(b"mine")
    path.unlink(missing_ok=True)
    path.symlink_to(precious)
    nas.open()
    for call in (
        lambda: nas.place.send(session, 0, DATA, len(DATA)),
        lambda: nas.place.put(session.file_id, nas.folder, "m.json", b"x", "text/plain", replace=False),
        lambda: nas.place.remove(session.file_id),
        lambda: nas.place.remove(nas.folder),
    ):
        with contextlib.suppress(DriveshardError):
            call()
    assert (precious / "mine.json" if planted == ".driveshard" else precious).read_bytes() == b"mine"


@pytest.mark.parametrize(
    "document", ["{}", "[]", '{"id": 5, "properties": {}}', '{"id": "x"}', '{"id": "../x"}', "[" * 9999]
)
def test_a_planted_folder_record_is_none(nas: Nas, document: str) -> None:
    (nas.root / "e" / ".driveshard").mkdir(parents=True)
    (nas.root / "e" / ".driveshard" / "folder.json").write_text(document)
    found = [one.id for name in ("d", "e") for one in nas.open().find_folders(name)]
    assert found in ([nas.folder], [nas.folder, "x"])


def test_the_same_directory_is_the_same_place(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    assert FolderDestination(tmp_path / "a").identity == FolderDestination(tmp_path / "x" / ".." / "a").identity
    assert FolderDestination(tmp_path / "a").identity != FolderDestination(tmp_path / "b").identity


# -- disks ---------------------------------------------------------------------------------------------------------

DISKS = [
    (errno.ENOSPC, StorageFull),
    (getattr(errno, "EDQUOT", errno.ENOSPC), StorageFull),
    (errno.EACCES, Refused),
    (errno.EROFS, Refused),
    (errno.EFBIG, Refused),
    (errno.EIO, Unavailable),
    (getattr(errno, "ESTALE", errno.EIO), Unavailable),
    (getattr(errno, "ENOTCONN", errno.EIO), Unavailable),
]


@pytest.mark.parametrize(("code", "kind"), DISKS)
def test_what_is_wrong_with_a_disk_is_said(
    nas: Nas, monkeypatch: pytest.MonkeyPatch, code: int, kind: type[DriveshardError]
) -> None:
    session = nas.begin()

    def fail(*_: object) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(folder_destination, "write_all", fail)
    with pytest.raises(kind) as caught:
        nas.place.send(session, 0, DATA, len(DATA))
    assert type(caught.value) is kind
    monkeypatch.undo()
    assert nas.place.query(session, len(DATA)) == Held(0)


def test_what_was_written_before_the_disk_was_full_is_held(nas: Nas, monkeypatch: pytest.MonkeyPatch) -> None:
    session = nas.begin()

    def half(stream: object, data: memoryview) -> None:
        stream.write(data[:1000])  # type: ignore[attr-defined]
        raise OSError(errno.ENOSPC, "full")

    monkeypatch.setattr(folder_destination, "write_all", half)
    with pytest.raises(StorageFull):
        nas.place.send(session, 0, DATA, len(DATA))
    monkeypatch.undo()
    assert nas.place.query(session, len(DATA)) == Held(1000)
    nas.place.send(session, 1000, DATA[1000:], len(DATA))
    assert nas.place.get(session.file_id).md5 == hashlib.md5(DATA).hexdigest()


def test_a_disk_that_went_away_may_come_back(nas: Nas) -> None:
    session = nas.begin()
    nas.place.send(session, 0, DATA[:UNIT], len(DATA))
    away = nas.root.rename(nas.root.with_name("away"))
    for call in (
        lambda: nas.place.query(session, len(DATA)),
        lambda: nas.place.send(session, UNIT, DATA[UNIT:], len(DATA)),
        lambda: nas.begin("b.zip"),
        lambda: nas.place.children(nas.folder),
    ):
        with pytest.raises(Unavailable, match="connected"):
            call()
    away.rename(nas.root)
    assert nas.place.query(session, len(DATA)) == Held(UNIT)


def test_a_path_that_leads_nowhere_is_not_made(tmp_path: Path) -> None:
    nas = Nas(tmp_path / "not mounted" / "data")
    for call in (nas.make, lambda: nas.place.find_folders("d")):
        with pytest.raises(NotFound, match="not mounted"):
            call()
    assert list(tmp_path.iterdir()) == []
    assert Nas(tmp_path / "new").place.find_folders("d") == []


# -- kills ---------------------------------------------------------------------------------------------------------


class Killed(BaseException):
    """The process is gone."""


def kill_at(monkeypatch: pytest.MonkeyPatch, step: int) -> None:
    """Kill before the ``step``th change of the disk from now on."""
    count = [0]

    def counted(change: Callable[..., object]) -> Callable[..., object]:
        def run(*arguments: object, **options: object) -> object:
            count[0] += 1
            if count[0] == step:
                raise Killed
            return change(*arguments, **options)

        return run

    monkeypatch.setattr(os, "replace", counted(os.replace))
    monkeypatch.setattr(os, "fsync", counted(os.fsync))
    monkeypatch.setattr(Path, "unlink", counted(Path.unlink))
    monkeypatch.setattr(Path, "mkdir", counted(Path.mkdir))
    monkeypatch.setattr(Path, "write_bytes", counted(Path.write_bytes))
    monkeypatch.setattr(folder_destination, "write_all", counted(folder_records.write_all))
    monkeypatch.setattr(durable.secrets, "token_hex", counted(durable.secrets.token_hex))  # before a temp file is made


def push_again(nas: Nas, file_id: str, manifest: str) -> None:
    """Upload a part and replace a small file from whatever is there, as uploader and publisher do."""
    if not nas.place.find_folders("d"):
        nas.place.make_folder(nas.folder, "d", {"driveshard": "folder"})
    try:
        session = nas.begin(file_id=file_id)
        progress = nas.place.query(session, len(DATA))
        while isinstance(progress, Held):
            chunk = DATA[progress.offset : progress.offset + UNIT]
            progress = nas.place.send(session, progress.offset, chunk, len(DATA))
    except IdInUse:
        assert nas.place.get(file_id).md5 == hashlib.md5(DATA).hexdigest()
    with contextlib.suppress(IdInUse):
        nas.place.put(manifest, nas.folder, "m.json", b"one", "text/plain", replace=False)
    nas.place.put(manifest, nas.folder, "m.json", b"two", "text/plain", replace=True)


def test_a_kill_at_any_point_costs_nothing_that_was_stored(tmp_path: Path) -> None:
    step = 0
    killed = True
    while killed:
        step += 1
        nas = Nas(tmp_path / f"nas{step}")
        nas.folder, file_id, manifest = nas.place.reserve_ids(3)
        with pytest.MonkeyPatch.context() as patch:
            kill_at(patch, step)
            try:
                push_again(nas, file_id, manifest)
                killed = False
            except Killed:
                killed = True
        nas.open()
        push_again(nas, file_id, manifest)
        found = {child.name: (child.id, child.md5) for child in nas.place.children(nas.folder)}
        assert found == {
            "a.zip": (file_id, hashlib.md5(DATA).hexdigest()),
            "m.json": (manifest, hashlib.md5(b"two").hexdigest()),
        }
        assert nas.visible() == {"a.zip", "m.json", ".driveshard"}
    assert step > 15


DAMAGED = [
    b"",
    b"{}",
    b"[]",
    b"null",
    b"garbage",
    b'{"id": 5, "properties": {}}',
    b'{"id": "x"}trailing',
    b'{"id": "x", "properties": {"job": 1}}',
    b'{"id": "x", "properties": []}',
    b'{"properties": {}}',
    b"[" * 100_000,
    b"\xff\xfe",
]


@pytest.mark.parametrize("damage", DAMAGED, ids=[repr(one[:40]) for one in DAMAGED])
def test_a_damaged_record_of_a_folder_is_named(nas: Nas, damage: bytes) -> None:
    """It is no dataset any more, and what is there is neither taken over nor written into."""
    record = nas.root / "d" / ".driveshard" / "folder.json"
    folder, stored = nas.folder, nas.store()
    record.write_bytes(damage)
    place = nas.open()
    assert place.find_folders("d") == []
    for look in (place.get, place.children):
        with pytest.raises(NotFound):
            look(folder)
    with pytest.raises(NotFound):
        place.get(stored)
    with pytest.raises(Refused, match=r"folder\.json is damaged") as caught:
        place.make_folder(place.reserve_ids(1)[0], "d", {"driveshard": "folder"})
    assert "backup" in caught.value.advice and "--name" in caught.value.advice
    assert (record.read_bytes(), (nas.root / "d" / "a.zip").read_bytes()) == (damage, DATA)


def test_a_folder_that_does_not_say_whose_it_is_is_not_taken_over(nas: Nas, tmp_path: Path) -> None:
    record = nas.root / "d" / ".driveshard" / "folder.json"
    record.write_text('{"id": "x", "properties": {}}')
    clock = Clock()
    throttle = Throttle(clock, ignore, None, writes_per_second=100)
    with Ledger(tmp_path / "ledger.sqlite") as ledger:
        around = Surroundings(nas.open(), ledger, Retry(clock, Patience(), ignore), throttle, clock, ignore)
        assert find_folder("d", around) is None


@pytest.mark.parametrize("what", ["too long", "a file", "a loop"])
def test_a_path_that_can_never_be_a_folder_is_no_matter_of_the_disk(tmp_path: Path, what: str) -> None:
    path = tmp_path / ("n" * 300 if what == "too long" else "there")
    if what == "a file":
        path.write_bytes(b"mine")
    if what == "a loop":
        path.symlink_to(path)
    place = FolderDestination(path)
    with pytest.raises(Refused) as caught:
        place.find_folders("d")
        place.make_folder(place.reserve_ids(1)[0], "d", {"driveshard": "folder"})
    assert "cannot be a folder" in str(caught.value) and "still connected" not in str(caught.value)
    assert "--" in caught.value.advice


def test_a_zero_byte_is_in_no_path() -> None:
    with pytest.raises(UsageError, match="names no directory"):
        open_destination("file:a\0b", None)
