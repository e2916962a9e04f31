"""A dataset's folder that somebody deleted or put into the trash: said by name, and begun anew when asked for."""

from __future__ import annotations

import json
import shutil
import urllib.request
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import pytest

from driveshard.cli.commands.status import show_status
from driveshard.cli.console import Manner
from driveshard.config.settings import PushOptions, Settings
from driveshard.core.errors import Mismatch, NotFound
from driveshard.core.events import Event, PartReleased, ignore
from driveshard.dataset.locate import open_shelf
from driveshard.emulator import Emulator
from driveshard.upload.dataset_folder.permissions import share
from driveshard.upload.ledger.ledger import Ledger
from driveshard.upload.ledger.reader import find_record
from driveshard.upload.result import PushResult
from tests.rig import Rig, Shelf, fill


@dataclass
class There:
    """A rig, the place it pushes to, and what befalls the dataset's folder there."""

    rig: Rig
    to: str
    how: str

    def push(self, **options: object) -> PushResult:
        return self.rig.push(to=self.to, **options)

    def lose_folder(self, folder_id: str | None) -> None:
        if self.to != "drive:":
            shutil.rmtree(self.rig.directory / "nas" / "t")
            return
        method, body = ("DELETE", None) if self.how == "deleted" else ("PATCH", b'{"trashed": true}')
        request = urllib.request.Request(f"{self.rig.url}/drive/v3/files/{folder_id}", body, method=method)
        request.add_header("Authorization", "Bearer emulator")
        request.add_header("Content-Type", "application/json")
        urllib.request.urlopen(request, timeout=10).close()

    def settings(self) -> Settings:
        return self.rig.settings()


@pytest.fixture(params=["drive: deleted", "drive: trashed", "file: deleted"])
def there(request: pytest.FixtureRequest, tmp_path: Path, emulator: Emulator) -> There:
    fill(tmp_path / "source", 9, 40_000)
    to, _, how = request.param.partition(" ")
    return There(
        Rig(tmp_path, emulator.url, part_size=100_000, list_lag=0.2),
        to if to == "drive:" else f"file:{tmp_path / 'nas'}",
        how,
    )


def pushed(there: There) -> PushResult:
    result = there.push(share="anyone") if there.to == "drive:" else there.push()
    assert result.error is None, result.error
    return result


def assert_told(there: There, result: PushResult, capsys: pytest.CaptureFixture[str]) -> None:
    """The same on the screen and in ``status``: whose folder it is, what befell it, and both ways out."""
    error = result.error
    assert isinstance(error, NotFound) and error.exit_code == 66
    assert "the folder of the dataset t " in error.message
    assert ("trash" in error.message) is (there.how == "trashed")
    assert "--recreate" in error.advice and "--name" in error.advice
    assert ("Restore" in error.advice) is (there.how == "trashed")
    record = find_record(there.settings(), "t")
    assert (record.state, record.last_error, record.last_advice) == ("incomplete", error.message, error.advice)
    show_status("t", there.settings(), Manner())
    said = capsys.readouterr().out
    assert error.message in said and "--recreate" in said and "run the same push again" not in said
    show_status("t", there.settings(), Manner(as_json=True))
    (told,) = json.loads(capsys.readouterr().out)["datasets"]
    assert (told["last_error"], told["last_advice"]) == (error.message, error.advice)


def raised(result: PushResult) -> None:
    if result.error is not None:
        raise result.error


def test_it_is_said_by_name_again_and_again(there: There, capsys: pytest.CaptureFixture[str]) -> None:
    result = pushed(there)
    there.lose_folder(result.folder_id)
    for _ in range(2):
        again = there.push()
        assert_told(there, again, capsys)
        assert again.sent_bytes == 0


def test_whoever_looks_at_it_by_name_is_told_the_same(there: There) -> None:
    result = pushed(there)
    there.lose_folder(result.folder_id)

    def read() -> None:
        with closing(open_shelf("t", there.settings(), ignore)) as shelf:
            shelf.files()

    looks: list[Callable[[], object]] = [
        read,
        lambda: share("t", "nobody", there.settings(), ignore),
        lambda: raised(there.push()),
    ]
    told = set()
    for look in looks:
        with pytest.raises(NotFound, match="the folder of the dataset t ") as caught:
            look()
        told.add((str(caught.value), caught.value.advice, caught.value.trashed))
    assert len(told) == 1
    assert told.pop()[2] is (there.how == "trashed")


def test_it_is_begun_anew_when_asked_for(there: There) -> None:
    first = pushed(there)
    with Ledger(there.rig.ledger_path) as ledger:
        job = ledger.get("job")
    there.lose_folder(first.folder_id)
    assert there.push().error is not None

    result = there.push(recreate=True)

    assert (result.state, result.error) == ("complete", None)
    assert result.folder_id not in (None, first.folder_id)
    assert (result.parts, result.samples, result.bytes) == (first.parts, first.samples, first.bytes)
    assert result.sent_bytes == first.bytes
    assert [text for text in there.rig.notices() if "new folder" in text and "nobody" in text]
    with Ledger(there.rig.ledger_path) as ledger:
        assert ledger.get("job") != job and ledger.get("shared") is None
    assert find_record(there.settings(), "t").state == "complete"
    if there.to == "drive:" and there.how == "deleted":
        assert Shelf(there.rig.url).problems(there.rig.expected()) == []
    again = there.push()
    assert (again.error, again.sent_bytes, again.folder_id) == (None, 0, result.folder_id)


def test_a_folder_that_is_there_is_kept(there: There) -> None:
    """So a timer may have the option in its command."""
    first = pushed(there)
    again = there.push(recreate=True)
    assert (again.error, again.sent_bytes, again.folder_id) == (None, 0, first.folder_id)
    assert not [text for text in there.rig.notices() if "folder" in text]


def test_what_waits_in_temp_belongs_to_the_old_folder(there: There) -> None:
    """Half done, then the folder goes: nothing of the old parts is mixed into the new dataset."""
    stopped = there.push(max_transfer=90_000)
    assert stopped.error is not None and there.rig.in_temp()
    there.lose_folder(stopped.folder_id)
    assert isinstance(there.push().error, NotFound)
    result = there.push(recreate=True)
    assert result.error is None, result.error
    assert there.rig.in_temp() == []
    assert result.sent_bytes == result.bytes


def test_a_beginning_that_was_cut_off_goes_on_without_the_option(there: There, emulator: Emulator) -> None:
    first = pushed(there)
    there.lose_folder(first.folder_id)
    cut_off = there.push(recreate=True, max_transfer=90_000)
    assert cut_off.error is not None
    result = there.push()
    assert result.error is None, result.error
    assert result.folder_id == cut_off.folder_id != first.folder_id
    assert (result.parts, result.files) == (first.parts, first.files)


def test_a_folder_that_cannot_be_made_yet_is_made_by_the_next_run(there: There, emulator: Emulator) -> None:
    if there.to != "drive:":
        pytest.skip("needs a place that fails when told to")
    first = pushed(there)
    there.lose_folder(first.folder_id)
    emulator.set_faults("403-storageFull:create@1")
    assert there.push(recreate=True).error is not None
    emulator.set_faults("")
    result = there.push()
    assert result.error is None, result.error
    assert result.folder_id != first.folder_id


def test_a_folder_that_goes_during_the_run_is_told_by_name(there: There, capsys: pytest.CaptureFixture[str]) -> None:
    """What Drive says then is only that some id is not there."""
    lost: list[int] = []

    def lose(event: Event) -> None:
        if isinstance(event, PartReleased) and not lost:
            lost.append(event.number)
            record = find_record(there.settings(), "t")
            there.lose_folder(record.folder_id)

    there.rig.on_event = lose
    result = there.push(uploads=1)
    assert lost
    if there.to == "drive:":
        assert not isinstance(result.error, Mismatch)
        assert_told(there, result, capsys)
    else:
        assert result.error is not None and result.error.exit_code == 69  # perhaps only its disk was taken away


def test_the_option_is_off_by_default() -> None:
    assert PushOptions("source").recreate is False


@pytest.mark.parametrize("place", ["file", "drive"])
def test_a_folder_that_was_never_made_is_not_said_to_be_gone(tmp_path: Path, emulator: Emulator, place: str) -> None:
    """What is not there is the place it was to be made in; --recreate would not help."""
    to = f"file:{tmp_path / 'unmounted' / 'nas'}" if place == "file" else f"drive:{'x' * 33}"
    fill(tmp_path / "source", 2, 100)
    rig = Rig(tmp_path, emulator.url, list_lag=0.2)
    for _ in range(2):
        error = rig.push(to=to).error
        assert isinstance(error, NotFound)
        words = f"{error} {error.advice}"
        assert ("unmounted" if place == "file" else "xxxxx") in words
        assert "is gone" not in words
        assert "--recreate" not in words
