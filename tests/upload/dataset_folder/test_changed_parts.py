"""Parts that somebody changed where they were stored: whatever only they hold stays, with and without the ledger."""

from __future__ import annotations

import io
import shutil
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from driveshard.core.model import RemoteFile
from driveshard.emulator import Emulator
from driveshard.storage.base import Destination
from driveshard.storage.registry import open_destination
from driveshard.upload.ledger.ledger import Ledger
from driveshard.upload.result import PushResult
from tests.rig import Rig

Change = Callable[[bytes], bytes]
ONLY_HERE = b"the only copy" * 40


def commented(data: bytes) -> bytes:
    """As a tool does that only touches it."""
    stream = io.BytesIO(data)
    with zipfile.ZipFile(stream, "a") as archive:
        archive.comment = b"touched by a tool"
    return stream.getvalue()


def added(data: bytes) -> bytes:
    """Somebody put a file into it, there."""
    stream = io.BytesIO(data)
    with zipfile.ZipFile(stream, "a") as archive:
        archive.writestr("put-in-there.txt", ONLY_HERE)
    return stream.getvalue()


def one_bit(data: bytes) -> bytes:
    """Rot, or an upload that went wrong: all members are still listed."""
    middle = data.index(b"alpha") + 1
    return data[:middle] + bytes([data[middle] ^ 1]) + data[middle + 1 :]


def noise(data: bytes) -> bytes:
    """No zip any more, of the same size."""
    return bytes(len(data))


def other(data: bytes) -> bytes:
    """Something else altogether under the part's name."""
    return b"a letter" * 1000


@dataclass
class There:
    """A rig, and the place it pushes to."""

    rig: Rig
    to: str
    place: Destination

    def push(self) -> PushResult:
        result = self.rig.push(to=self.to)
        assert result.error is None, result.error
        return result

    def files(self, result: PushResult) -> list[RemoteFile]:
        return [one for one in self.place.children(result.folder_id or "") if one.name.endswith(".zip")]

    def change(self, result: PushResult, change: Change) -> str:
        """Change part 0; returns its id."""
        one = next(one for one in self.files(result) if one.name == "t-00000.zip")
        data = change(self.place.read(one.id, 0, one.size))
        self.place.put(one.id, result.folder_id or "", one.name, data, "application/zip", replace=True)
        return one.id

    def content(self, result: PushResult) -> dict[str, bytes]:
        """The bytes of all files that look like parts, by id."""
        return {one.id: self.place.read(one.id, 0, one.size) for one in self.files(result)}

    def lose_ledger(self) -> None:
        shutil.rmtree(self.rig.directory / "home" / "ledgers")
        shutil.rmtree(self.rig.directory / "home" / "folders")


@pytest.fixture(params=["drive:", "file:"])
def there(request: pytest.FixtureRequest, tmp_path: Path, emulator: Emulator) -> Iterator[There]:
    source = tmp_path / "source"
    source.mkdir()
    (source / "a.txt").write_bytes(b"alpha" * 100)
    (source / "b.txt").write_bytes(ONLY_HERE)
    (source / "c.txt").write_bytes(b"gamma" * 100)
    to = "drive:" if request.param == "drive:" else f"file:{tmp_path / 'nas'}"
    rig = Rig(tmp_path, emulator.url, part_size=1400, list_lag=0.2)
    place = open_destination(to, rig.settings())
    yield There(rig, to, place)
    getattr(place, "close", lambda: None)()


@pytest.mark.parametrize("lost", [False, True], ids=["ledger", "no ledger"])
@pytest.mark.parametrize("change", [commented, added, one_bit, noise, other])
def test_what_the_source_has_no_more_stays(there: There, change: Change, lost: bool) -> None:
    result = there.push()
    file_id = there.change(result, change)
    held = there.content(result)[file_id]
    (there.rig.directory / "source" / "b.txt").unlink()
    if lost:
        there.lose_ledger()
    for _ in range(2):
        result = there.push()
        assert there.content(result)[file_id] == held
        assert [text for text in there.rig.notices() if "changed on the destination" in text and "left beside" in text]
    with Ledger(there.rig.ledger_path) as ledger:
        assert file_id not in {part.file_id for part in ledger.parts()}


@pytest.mark.parametrize("lost", [False, True], ids=["ledger", "no ledger"])
@pytest.mark.parametrize(
    ("change", "stays"), [(commented, False), (added, True), (one_bit, False), (noise, False), (other, True)]
)
def test_what_was_put_in_there_stays_and_a_mere_copy_goes(
    there: There, change: Change, stays: bool, lost: bool
) -> None:
    """The source has everything, so the same part is stored again."""
    result = there.push()
    before = {one.sha256 for one in there.files(result)}
    file_id = there.change(result, change)
    held = there.content(result)[file_id]
    if lost:
        there.lose_ledger()
    result = there.push()
    content = there.content(result)
    # Without a ledger only what has the part's size is taken for a damaged copy of it.
    assert (file_id in content) is (stays or (lost and change is commented))
    assert content.get(file_id, held) == held
    assert {one.sha256 for one in there.files(result) if one.id != file_id} == before


def test_a_file_that_only_claims_to_be_a_double_stays(there: There) -> None:
    """It carries a part's number and checksum, and holds something else."""
    result = there.push()
    like = next(one for one in there.files(result) if one.name == "t-00000.zip")
    place = there.place
    session = place.begin(
        place.reserve_ids(1)[0], result.folder_id or "", "copy of t-00000.zip", len(ONLY_HERE), like.properties
    )
    place.send(session, 0, ONLY_HERE, len(ONLY_HERE))
    result = there.push()
    assert there.content(result)[session.file_id] == ONLY_HERE


def test_a_true_double_goes(there: There) -> None:
    result = there.push()
    like = next(one for one in there.files(result) if one.name == "t-00000.zip")
    data = there.content(result)[like.id]
    place = there.place
    session = place.begin(
        place.reserve_ids(1)[0], result.folder_id or "", "copy of t-00000.zip", len(data), like.properties
    )
    place.send(session, 0, data, len(data))
    result = there.push()
    assert session.file_id not in there.content(result)
    assert there.content(result)[like.id] == data


@pytest.mark.parametrize(("field", "value"), [("job", "another job"), ("driveshard", "something"), ("job", None)])
def test_the_very_bytes_in_another_datasets_name_stay(there: There, field: str, value: str | None) -> None:
    """Only what this dataset put there is its to remove."""
    result = there.push()
    like = next(one for one in there.files(result) if one.name == "t-00000.zip")
    data = there.content(result)[like.id]
    properties = {**like.properties, field: value or ""}
    if value is None:
        del properties[field]
    place = there.place
    session = place.begin(place.reserve_ids(1)[0], result.folder_id or "", "theirs.zip", len(data), properties)
    place.send(session, 0, data, len(data))
    for lost in (False, True):
        if lost:
            there.lose_ledger()
        result = there.push()
        assert there.content(result)[session.file_id] == data


ODD_PROPERTIES: list[dict[str, str]] = [
    *({"part": "x"}, {"part": "\u00b2"}, {"part": ""}, {"samples": "many"}, {"files": "-1"}, {"range": "5"}),
    *({"range": "a-b"}, {"replaces": "1-2-3"}, {"sha256": ""}, {"part": "9" * 40}),
]


def test_properties_that_say_nothing_make_no_part(there: There) -> None:
    """Others may write there, too."""
    result = there.push()
    like = next(one for one in there.files(result) if one.name == "t-00000.zip")
    place, odd = there.place, {}
    for number, said in enumerate(ODD_PROPERTIES):
        properties = {**like.properties, **said}
        session = place.begin(
            place.reserve_ids(1)[0], result.folder_id or "", f"odd{number}.zip", len(ONLY_HERE), properties
        )
        place.send(session, 0, ONLY_HERE, len(ONLY_HERE))
        odd[session.file_id] = said
    there.lose_ledger()
    again = there.push()
    content = there.content(again)
    assert [said for file_id, said in odd.items() if content.get(file_id) != ONLY_HERE] == []
    with Ledger(there.rig.ledger_path) as ledger:
        taken = {part.file_id for part in ledger.parts()}
    assert [said for file_id, said in odd.items() if file_id in taken] == []
    assert (again.parts, again.files) == (result.parts, result.files)
