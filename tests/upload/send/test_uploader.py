"""What lies under a part's id is looked at before anything is done to it, and an id goes with its file."""

from __future__ import annotations

import hashlib
import json
import random
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from driveshard.archive.manifest import NAME as MANIFEST
from driveshard.core.errors import IdRefused, TempLost
from driveshard.core.model import Part, PartSpec, PartState, SampleRange, UploadSession
from driveshard.emulator import Emulator
from driveshard.emulator.errors import invalid
from driveshard.storage.base import Stored
from driveshard.storage.folder.destination import FolderDestination
from driveshard.storage.retry import Patience, Retry
from driveshard.storage.throttle import Throttle
from driveshard.upload.ledger.ledger import Ledger
from driveshard.upload.send.uploader import Address, Uploader
from driveshard.upload.spool import Spool
from driveshard.upload.surroundings import Surroundings
from tests.fakes import FakeClock, Heard
from tests.rig import Rig, Shelf, fill

DATA = random.Random(7).randbytes(5000)


class Bench:
    """Part 0, packed, and a plain folder to upload it to."""

    def __init__(self, root: Path) -> None:
        clock, heard = FakeClock(), Heard()
        self.place = FolderDestination(root / "nas")
        self.folder = self.place.reserve_ids(1)[0]
        self.place.make_folder(self.folder, "d", {"driveshard": "folder", "job": "ours"})
        self.ledger = Ledger(root / "ledger.sqlite")
        self.spool = Spool(root / "spool", 10**8, clock)
        self.uploader = Uploader(
            Surroundings(
                self.place,
                self.ledger,
                Retry(clock, Patience(attempts=3), heard, random.Random(0)),
                Throttle(clock, heard, None, writes_per_second=0),
                clock,
                heard,
            ),
            lambda: Address("ours", self.folder),
            self.spool,
        )
        self.ledger.plan(PartSpec(0, "d-00000.zip", SampleRange(0, 1), 1), 1)
        self.pack(DATA)

    def pack(self, data: bytes) -> None:
        self.spool.reserve(0, len(data))
        self.spool.building(0).write_bytes(data)
        self.spool.commit(0, "d-00000.zip", len(data))
        md5, sha256 = hashlib.md5(data).hexdigest(), hashlib.sha256(data).hexdigest()
        self.ledger.packed(Part(0, "d-00000.zip", len(data), md5, sha256, 1, 1, "a", "a", SampleRange(0, 1)))

    def store(self, data: bytes, **properties: str) -> str:
        """Somebody stores a file; from then on the ledger has its id for part 0."""
        file_id = self.place.reserve_ids(1)[0]
        session = self.place.begin(file_id, self.folder, "there.bin", len(data), properties)
        assert isinstance(self.place.send(session, 0, data, len(data)), Stored)
        self.ledger.reserve(0, file_id)
        return file_id


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    bench = Bench(tmp_path)
    yield bench
    bench.ledger.close()


@pytest.mark.parametrize(
    ("properties", "stays"),
    [
        ({"job": "ours", "part": "0"}, False),  # a spoilt upload of this very part
        ({"job": "another", "part": "0"}, True),
        ({"job": "ours", "part": "1"}, True),
        ({"job": "ours"}, True),
        ({"part": "0"}, True),
        ({}, True),
    ],
)
def test_only_a_spoilt_upload_of_this_very_part_is_removed(
    bench: Bench, properties: dict[str, str], stays: bool
) -> None:
    file_id = bench.store(b"something else", **properties)

    bench.uploader.upload(0)

    row = bench.ledger.part(0)
    assert row.state is PartState.RELEASED and row.file_id not in (None, file_id)
    assert bench.place.read(row.file_id, 0, 10**6) == DATA
    there = {one.id for one in bench.place.children(bench.folder)}
    assert there == ({row.file_id, file_id} if stays else {row.file_id})
    if stays:
        assert bench.place.read(file_id, 0, 100) == b"something else"


def test_the_part_itself_under_its_id_is_taken_for_stored(bench: Bench) -> None:
    file_id = bench.store(DATA, job="ours", part="0")
    bench.uploader.upload(0)
    assert (bench.ledger.part(0).file_id, bench.ledger.part(0).state) == (file_id, PartState.RELEASED)


def test_a_temp_file_that_went_bad_is_not_sent_again(bench: Bench) -> None:
    """Wrong bytes arrived because the temp file itself is wrong: only building it again helps."""
    path = bench.spool.path("d-00000.zip")
    path.write_bytes(DATA[:2000] + b"?" + DATA[2001:])
    with pytest.raises(TempLost, match="not intact"):
        bench.uploader.upload(0)
    assert bench.ledger.part(0).state is PartState.PACKED
    assert bench.place.children(bench.folder) == []
    bench.pack(DATA)
    bench.uploader.upload(0)
    (stored,) = bench.place.children(bench.folder)
    assert bench.place.read(stored.id, 0, 10**6) == DATA


# -- ids whose file was deleted for good, on Drive --------------------------------------------------------------------


@pytest.fixture
def rig(tmp_path: Path, emulator: Emulator) -> Rig:
    fill(tmp_path / "source", 6, 60_000)
    return Rig(tmp_path, emulator.url, part_size=100_000)


def api(rig: Rig, method: str, path: str, body: bytes | None = None) -> None:
    where = "drive/v3" if body is None else "upload/drive/v3"
    request = urllib.request.Request(f"{rig.url}/{where}/{path}", body, method=method)
    request.add_header("Authorization", "Bearer emulator")
    urllib.request.urlopen(request, timeout=10).close()


def pushed(rig: Rig) -> Ledger:
    result = rig.push()
    assert result.error is None, result.error
    return Ledger(rig.ledger_path)


def refusals(emulator: Emulator, since: int) -> list[int]:
    return [entry["status"] for entry in emulator.log(since) if entry["status"] >= 400]


def assert_whole(rig: Rig) -> None:
    result = rig.push()
    assert result.error is None, result.error
    assert Shelf(rig.url).problems(rig.expected()) == []


@pytest.mark.parametrize("state", [PartState.PACKED, PartState.STORED, PartState.VERIFIED, PartState.RELEASED])
def test_a_part_whose_file_was_deleted_gets_another_id(rig: Rig, emulator: Emulator, state: PartState) -> None:
    """Whatever the ledger knew of it when somebody emptied the folder."""
    with pushed(rig) as ledger:
        gone = ledger.part(1)
        ledger._set_state(1, state)
    api(rig, "DELETE", f"files/{gone.file_id}")
    if state is PartState.VERIFIED:  # proved before: told at the end of that run, mended by the next one
        rig.push()
    assert_whole(rig)
    with Ledger(rig.ledger_path) as ledger:
        assert ledger.part(1).file_id != gone.file_id


def test_a_spoilt_upload_that_is_removed_takes_its_id_along(rig: Rig, emulator: Emulator) -> None:
    """Its session is over before it told how the upload ended: it begins again, under another id."""
    with pushed(rig) as ledger:
        spoilt = ledger.part(1)
        assert spoilt.file_id is not None
        ledger.begun(1, UploadSession(spoilt.file_id, f"{rig.url}/upload/drive/v3/files?upload_id=over", 0.0))
    api(rig, "PATCH", f"files/{spoilt.file_id}?uploadType=media", b"spoilt")
    since = len(emulator.log())
    assert_whole(rig)
    assert [entry["path"] for entry in emulator.log(since) if entry["method"] == "DELETE"]
    assert 400 not in refusals(emulator, since)


@pytest.mark.parametrize("known", [None, "5" * 32])
def test_a_small_file_that_was_deleted_gets_another_id(rig: Rig, emulator: Emulator, known: str | None) -> None:
    """Also when it was never noted as stored: the run was killed in between."""
    with pushed(rig) as ledger:
        found = ledger.artifact(MANIFEST)
        assert found is not None
        ledger.note_artifact(MANIFEST, found[0], known)
    api(rig, "DELETE", f"files/{found[0]}")
    assert_whole(rig)


def test_a_folder_that_was_deleted_before_it_was_noted_gets_another_id(rig: Rig, emulator: Emulator) -> None:
    emulator.set_faults("403-dailyCap@2")
    result = rig.push()
    emulator.set_faults("")
    with Ledger(rig.ledger_path) as ledger:
        folder_id = ledger.get("folder_id")
        ledger.note(folder_made=False)
    api(rig, "DELETE", f"files/{folder_id}")
    assert result.error is not None
    assert_whole(rig)
    assert [one["id"] for one in Shelf(rig.url).folders()] != [folder_id]


def test_a_refusal_that_is_not_for_the_id_is_told_after_one_more_try(
    rig: Rig, emulator: Emulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As Drive says it, and not for ever: two requests, each with its own id."""
    with pushed(rig) as ledger:
        ledger.wrong_bytes(1)
    asked: list[str] = []

    def refuse(file_id: str, mime_type: str) -> None:
        asked.append(file_id)
        raise invalid("fileId")

    monkeypatch.setattr(emulator.drive.store, "check_id", refuse)
    result = rig.push()
    assert isinstance(result.error, IdRefused) and result.error.exit_code == 79
    assert "Invalid Value" in str(result.error) and result.error.advice
    assert len(asked) == 2 == len(set(asked))
    monkeypatch.undo()
    rig.push()
    assert json.dumps(Shelf(rig.url).problems(rig.expected())).count("lost") == 0
