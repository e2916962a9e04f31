"""Fetching a dataset: every way to it, what is damaged or changed on either side, and what is left after a cut."""

from __future__ import annotations

import json
import os
import random
import shutil
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import driveshard
from driveshard.config.settings import Settings
from driveshard.core.clock import Clock
from driveshard.core.errors import (
    AuthError,
    Blocked,
    Busy,
    ConfigError,
    DailyCap,
    Interrupted,
    Mismatch,
    NotFound,
    SourceMissing,
    TempFull,
    Unavailable,
    UsageError,
)
from driveshard.core.events import BytesSent, Event, Notice, PartReleased, UploadStarted, ignore
from driveshard.core.files import md5_of
from driveshard.dataset import fetch as fetching
from driveshard.dataset.directory_lock import hold_directory
from driveshard.dataset.fetch import Ways, temp_path
from driveshard.dataset.locate import find_manifest, open_shelf
from driveshard.dataset.pull import PullResult, fetch_part, pull_into
from driveshard.dataset.reader import open_reading
from driveshard.dataset.selection import Selection, parse_parts
from driveshard.dataset.verify import verify
from driveshard.emulator import Emulator
from driveshard.storage.retry import Patience, Retry
from driveshard.upload.dataset_folder.permissions import share
from driveshard.upload.ledger.reader import find_record
from tests.dataset.test_reader import Place
from tests.emulator.client import Client
from tests.fakes import Heard
from tests.rig import call

MIB = 1 << 20
PATIENT = Patience(attempts=6, first=0.01, longest=0.05, throttled=0.3)


class Link(Place):
    """A dataset of four parts of about 600 KB that anyone may read, and three people who have only its link."""

    def __init__(self, work: Path, emulator: Emulator) -> None:
        super().__init__(work, emulator)
        self.settings = replace(self.settings, patience=PATIENT, timeout=2.0)
        dice = random.Random(3)
        self.write({f"{kind}/{n:03d}.bin": dice.randbytes(60_000) for kind in ("cats", "dogs") for n in range(20)})
        self.link = str(self.push(part_size=650_000).link)
        self.stranger = replace(self.settings, home=work / "stranger")
        self.with_key = replace(self.stranger, api_key="a-key")
        self.stored = {one.name: one for one in emulator.drive.store.all()}

    def pull(
        self, where: str = "out", who: Settings | None = None, emit: Callable[[Event], None] = ignore, **selection: Any
    ) -> PullResult:
        settings = who or self.stranger
        return pull_into(self.link, self.work / where, Selection(**selection), settings, emit)

    def content(self, name: str) -> bytes:
        content = self.stored[name].content
        assert content is not None
        return self.emulator.drive.store.path_of(content).read_bytes()

    def downloads(self) -> list[str]:
        return [one["path"] for one in self.emulator.log() if "/download" in one["path"] or "alt=media" in one["path"]]


@pytest.fixture
def link(tmp_path: Path, emulator: Emulator) -> Link:
    found = Link(tmp_path, emulator)
    emulator.drive.journal.reset()
    return found


def parts_in(directory: Path) -> list[str]:
    return sorted(one.name for one in directory.iterdir())


WHOLE = ["manifest.json", *(f"set-0000{number}.zip" for number in range(4))]


# -- ways ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("who", "said"),
    [
        ("settings", "the emulator's login, which shows the folder"),
        ("stranger", "without a login, one file at a time: nobody is logged in"),
        ("with_key", "with the API key that was given"),
    ],
)
def test_every_way_fetches_the_same_and_says_which_it_is(link: Link, who: str, said: str) -> None:
    heard = Heard()
    result = link.pull(who=getattr(link, who), emit=heard)
    out = link.work / "out"
    size = sum(len(link.content(name)) for name in WHOLE[1:])
    assert result == PullResult("set", 4, size, size, True, str(out))
    assert parts_in(out) == WHOLE
    assert all((out / name).read_bytes() == link.content(name) for name in WHOLE)
    assert any(isinstance(event, Notice) and said in event.text for event in heard)
    assert verify(open_shelf(str(out), link.settings, ignore)).ok
    sent = [one["path"] for one in link.emulator.log()]
    assert all(("/download" in path or "embedded" in path) == (who == "stranger") for path in sent)
    assert link.pull(who=getattr(link, who)).fetched_bytes == 0


def test_a_login_that_does_not_see_the_folder_is_not_the_end(link: Link) -> None:
    other = replace(link.stranger, home=link.work / "other", drive_url=None, api_key=None)
    other.home.mkdir()
    # A login of another Drive: it is asked first, and the site is read when it shows nothing.
    with Emulator(link.work / "elsewhere") as elsewhere:
        other.token_file.write_text("{}")
        asked = replace(other, drive_url=f"{elsewhere.url}/", site_url=f"{link.emulator.url}/")
        heard = Heard()
        result = pull_into(link.link, link.work / "out", Selection(), asked, heard)
    assert result.verified and parts_in(link.work / "out") == WHOLE
    assert any("does not show this folder" in event.text for event in heard if isinstance(event, Notice))


def test_the_python_function_and_its_result(link: Link, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DRIVESHARD_HOME", str(link.work / "stranger"))
    monkeypatch.setenv("DRIVESHARD_DRIVE_URL", link.emulator.url)
    heard = Heard()
    result = driveshard.pull(link.link, link.work / "out", parts=[1, 2], on_event=heard)
    assert isinstance(result, driveshard.PullResult) and (result.parts, result.verified) == (2, True)
    assert heard.of(UploadStarted) and heard.of(BytesSent)
    assert driveshard.pull(link.link, str(link.work / "out"), only="dogs/019.bin", api_key="k").parts == 1


def test_private_missing_and_wrong(link: Link) -> None:
    share("set", "nobody", link.settings, ignore)
    with pytest.raises(AuthError, match="not shared") as private:
        link.pull()
    assert "Ask whoever sent you the link" in private.value.advice
    with pytest.raises(NotFound, match="not shared with anyone") as private:
        link.pull(who=link.with_key)
    assert "Ask whoever sent you the link" in private.value.advice
    assert link.pull(who=link.settings).verified
    with pytest.raises(NotFound):
        pull_into("1" * 30, link.work / "x", Selection(), link.stranger, ignore)
    link.emulator.set_faults("400-key*")
    with pytest.raises(ConfigError, match="does not accept the API key"):
        link.pull("x", who=link.with_key)
    assert not (link.work / "x").exists()


def test_a_resource_key_opens_an_old_folder(link: Link) -> None:
    folder = str(find_record(link.settings, "set").folder_id)
    for one in link.emulator.drive.store.all():
        call(link.emulator.url, "/_emulator/resource-key", {"id": one.id, "key": f"0-{one.id[:5]}"})
    with pytest.raises(AuthError):
        link.pull()
    link.link = f"{link.emulator.url}/drive/u/0/folders/{folder}?usp=sharing&resourcekey=0-{folder[:5]}"
    assert link.pull().verified
    assert link.pull("second", who=link.with_key).verified
    assert parts_in(link.work / "second") == WHOLE


# -- what is fetched -------------------------------------------------------------------------------------------------


def test_only_what_is_missing_damaged_or_foreign_comes_again(link: Link) -> None:
    out = link.work / "out"
    link.pull()
    (out / WHOLE[1]).unlink()
    data = bytearray((out / WHOLE[2]).read_bytes())
    data[1000] ^= 1
    (out / WHOLE[2]).write_bytes(data)
    (out / WHOLE[3]).write_bytes(b"")
    (out / "mine.txt").write_text("stays")
    again = link.pull()
    assert again.fetched_bytes == sum(len(link.content(name)) for name in WHOLE[1:4])
    assert all((out / name).read_bytes() == link.content(name) for name in WHOLE)
    assert parts_in(out) == sorted([*WHOLE, "mine.txt"])


def test_parts_that_were_replaced_on_drive(link: Link) -> None:
    out = link.work / "out"
    link.pull()
    (link.source / "cats" / "000.bin").write_bytes(b"new" * 1000)
    link.push(part_size=650_000)
    link.stored = {one.name: one for one in link.emulator.drive.store.all()}
    result = link.pull()
    names = sorted(name for name in link.stored if name.endswith(".zip"))
    assert result.fetched_bytes < result.bytes / 2
    assert all((out / name).read_bytes() == link.content(name) for name in [*names, "manifest.json"])
    assert verify(open_shelf(str(out), link.settings, ignore)).ok


def test_some_parts_are_a_dataset_of_their_own(link: Link) -> None:
    out = link.work / "out"
    result = link.pull(parts=frozenset({0, 2, 77}))
    assert (result.parts, parts_in(out)) == (2, [WHOLE[0], WHOLE[1], WHOLE[3]])
    proof = verify(open_shelf(str(out), link.settings, ignore))
    assert (proof.problems, proof.parts) == ([], 2)
    assert link.pull(parts=frozenset({1})).parts == 1
    assert [one["number"] for one in json.loads((out / "manifest.json").read_bytes())["parts"]] == [0, 1, 2]
    assert link.pull().fetched_bytes == len(link.content(WHOLE[4]))
    assert (out / "manifest.json").read_bytes() == link.content("manifest.json")
    with pytest.raises(SourceMissing, match="no such parts"):
        link.pull("x", parts=frozenset({9}))


@pytest.mark.parametrize("who", ["stranger", "with_key"])
def test_members_choose_the_parts_that_hold_them(link: Link, who: str) -> None:
    result = link.pull(who=getattr(link, who), only=("cats/00*",))
    assert parts_in(link.work / "out") == WHOLE[:2] and result.parts == 1
    result = link.pull("dogs", only=("dogs", "nothing"))
    assert (result.parts, parts_in(link.work / "dogs")) == (2, [WHOLE[0], *WHOLE[3:]])
    with pytest.raises(SourceMissing, match="no member of set matches birds"):
        link.pull("x", only=("birds/**",))
    assert not (link.work / "x").exists()


@pytest.mark.parametrize(
    ("text", "numbers"), [("0-3", {0, 1, 2, 3}), ("7", {7}), ("0,2, 5-6", {0, 2, 5, 6}), ("3-3", {3})]
)
def test_part_numbers(text: str, numbers: set[int]) -> None:
    assert parse_parts(text) == numbers


@pytest.mark.parametrize("text", ["", "a", "3-1", "-1", "1-", "1;2", "0-99999999999", "0-999999999", "\u0663"])
def test_what_are_no_part_numbers(text: str) -> None:
    with pytest.raises(UsageError):
        parse_parts(text)


# -- trouble ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("who", ["settings", "stranger", "with_key"])
@pytest.mark.parametrize("words", ["reset:download*4", "drop:download*4", "503:download*3", "wrong-bytes"])
def test_faults_on_the_way_down(link: Link, who: str, words: str) -> None:
    link.emulator.set_faults(words, seed=5)
    result = link.pull(who=getattr(link, who))
    assert all((link.work / "out" / name).read_bytes() == link.content(name) for name in WHOLE)
    assert parts_in(link.work / "out") == WHOLE
    assert sum(link.emulator.stats()["faults_fired"].values()) >= 1
    if words.startswith(("reset", "drop")):  # it went on behind what had come
        assert result.fetched_bytes == result.bytes


def test_a_stalled_download_is_given_up_and_goes_on(link: Link) -> None:
    link.emulator.set_faults("stall:download", seed=5)
    who = replace(link.with_key, timeout=0.3)
    result = link.pull(who=who)
    assert result.fetched_bytes == result.bytes


def test_what_stays_damaged_is_said_and_the_rest_is_there(link: Link) -> None:
    content = link.stored[WHOLE[2]].content
    assert content is not None
    path = link.emulator.drive.store.path_of(content)
    data = bytearray(path.read_bytes())
    data[5000] ^= 8
    path.write_bytes(data)
    heard = Heard()
    with pytest.raises(Mismatch, match=r"set-00001\.zip came with another md5, and the same bytes 2 times") as raised:
        link.pull(emit=heard)
    assert raised.value.exit_code == 76
    assert parts_in(link.work / "out") == [WHOLE[1], WHOLE[3], WHOLE[4]]
    assert sum("fetching it again" in event.text for event in heard if isinstance(event, Notice)) == 1


def test_a_quota_says_what_helps_and_the_next_run_goes_on(tmp_path: Path) -> None:
    with Emulator(tmp_path / "drive", download_quota=1) as emulator:
        link = Link(tmp_path, emulator)
        link.pull(parts=frozenset({0, 1}))
        shutil.rmtree(tmp_path / "out")
        with pytest.raises(DailyCap) as raised:
            link.pull()
        assert raised.value.exit_code == 75
        assert "--api-key" in raised.value.advice and "driveshard login" in raised.value.advice
        assert not list((tmp_path / "out").glob("*")) if (tmp_path / "out").exists() else True
        assert link.pull(who=link.settings).verified


def test_the_day_s_quota_in_the_middle_keeps_what_is_proved(link: Link) -> None:
    link.emulator.set_faults("download-quota@4*", seed=1)
    with pytest.raises(DailyCap):
        link.pull()
    assert parts_in(link.work / "out") == [WHOLE[1], WHOLE[2]]
    link.emulator.set_faults("403-html")
    with pytest.raises(Blocked) as raised:
        link.pull()
    assert raised.value.exit_code == 75
    link.emulator.set_faults("")
    again = link.pull()
    assert again.fetched_bytes == len(link.content(WHOLE[3])) + len(link.content(WHOLE[4]))


@pytest.mark.parametrize("who", ["stranger", "with_key"])
def test_a_run_goes_on_inside_a_part(link: Link, who: str) -> None:
    stop = Clock()

    def emit(event: Event) -> None:
        if isinstance(event, BytesSent):
            stop.stop.set()

    with pytest.raises(Interrupted):
        link.pull(who=replace(getattr(link, who), clock=stop), emit=emit)
    out = link.work / "out"
    held = sum(path.stat().st_size for path in out.glob(".*.part"))
    assert held > 0 and not list(out.glob("*.zip"))
    heard = Heard()
    result = link.pull(who=getattr(link, who), emit=heard)
    assert result.fetched_bytes == result.bytes - held
    assert parts_in(out) == WHOLE
    assert max(event.offset for event in heard.of(UploadStarted)) > 0  # type: ignore[attr-defined]


@pytest.mark.parametrize("held", [b"other bytes" * 100, b"x" * 10_000_000, b""])
def test_a_temp_file_that_is_none_of_ours_spoils_nothing(link: Link, held: bytes) -> None:
    out = link.work / "out"
    out.mkdir()
    temp_path(out / WHOLE[1]).write_bytes(held)
    temp_path(out / WHOLE[2]).symlink_to(link.work / "elsewhere")
    link.pull()
    assert parts_in(out) == WHOLE and not (link.work / "elsewhere").exists()
    assert all((out / name).read_bytes() == link.content(name) for name in WHOLE)


def test_a_directory_is_one_pull_s(link: Link) -> None:
    out = link.work / "out"
    out.mkdir()
    with hold_directory(out), pytest.raises(Busy) as raised:
        link.pull()
    assert raised.value.exit_code == 75
    assert link.pull().verified


def test_no_room(link: Link, monkeypatch: pytest.MonkeyPatch) -> None:
    little = shutil.disk_usage(link.work)._replace(free=100_000)
    monkeypatch.setattr(fetching.shutil, "disk_usage", lambda _: little)
    with pytest.raises(TempFull, match="no room") as raised:
        link.pull()
    assert raised.value.exit_code == 73 and not list((link.work / "out").glob("*"))


@pytest.mark.skipif(sys.platform == "win32" or os.geteuid() == 0, reason="permissions of POSIX; not as root")
def test_a_directory_that_cannot_be_written(link: Link) -> None:
    out = link.work / "out"
    out.mkdir(mode=0o500)
    with pytest.raises(TempFull, match="cannot be written"):
        link.pull()


def test_a_file_where_a_directory_is_meant(link: Link) -> None:
    (link.work / "out").write_text("x")
    with pytest.raises(UsageError, match="is not a directory"):
        link.pull()


def test_nothing_answers(link: Link) -> None:
    link.emulator.stop()
    with pytest.raises(Unavailable):
        link.pull()
    assert not (link.work / "out").exists()
    link.emulator.start()


# -- other places ----------------------------------------------------------------------------------------------------


def test_a_directory_on_another_disk(link: Link) -> None:
    link.pull("nas")
    nas = link.work / "nas"
    result = pull_into(f"file:{nas}", link.work / "out", Selection(), link.stranger, ignore)
    assert (result.parts, result.verified) == (4, True) and parts_in(link.work / "out") == WHOLE
    data = bytearray((nas / WHOLE[1]).read_bytes())
    data[10] ^= 1
    (nas / WHOLE[1]).write_bytes(data)
    with pytest.raises(Mismatch):
        pull_into(f"file:{nas}", link.work / "second", Selection(), link.stranger, ignore)
    with pytest.raises(UsageError, match="into itself"):
        pull_into(f"file:{nas}", nas, Selection(), link.stranger, ignore)
    with pytest.raises(SourceMissing, match="there is no directory"):
        pull_into(f"file:{nas}-not", link.work / "x", Selection(), link.stranger, ignore)


def test_a_dataset_that_was_pushed_to_a_directory_by_name(link: Link) -> None:
    link.push(name="local", to=f"file:{link.work}/disk", share=None, part_size=650_000)
    result = pull_into("local", link.work / "out", Selection(), link.settings, ignore)
    assert (result.name, result.verified) == ("local", True)
    assert md5_of(link.work / "out" / "local-00000.zip") == md5_of(link.work / "disk" / "local" / "local-00000.zip")


@pytest.mark.parametrize("who", ["stranger", "with_key"])
def test_a_part_that_is_gone_is_named(link: Link, who: str) -> None:
    client = Client(link.emulator.url)
    assert client("DELETE", f"/drive/v3/files/{link.stored['set-00002.zip'].id}").status == 204
    client.connection.close()
    with pytest.raises(NotFound, match=r"set-00002\.zip is not to be had"):
        link.pull(who=getattr(link, who))


def test_a_copy_of_the_folder_whose_files_have_other_ids(link: Link) -> None:
    manifest = json.loads(link.content("manifest.json"))
    nas = link.work / "nas"
    link.pull("nas")
    for part in manifest["parts"]:
        part["id"] = "1" * 20
    (nas / "manifest.json").write_text(json.dumps(manifest))
    client = Client(link.emulator.url)
    folder = client.folder("copy")
    client.share(folder)
    for path in nas.iterdir():
        client.upload(path.read_bytes(), name=path.name, parents=[folder])
    client.connection.close()
    for who in (link.stranger, link.with_key):
        result = pull_into(folder, link.work / f"out-{who.api_key}", Selection(), who, ignore)
        assert (result.parts, result.verified) == (4, True)


def test_one_part_for_whoever_needs_just_that(link: Link) -> None:
    shelf = open_shelf(link.link, link.stranger, ignore)
    ways = Ways(Clock(), Retry(Clock(), PATIENT, ignore), ignore)
    manifest = find_manifest(shelf, shelf.files())
    path = link.work / "part.zip"
    assert fetch_part(shelf, manifest, 2, path, ways) == len(link.content(WHOLE[3]))
    assert path.read_bytes() == link.content(WHOLE[3])
    assert fetch_part(shelf, manifest, 2, path, ways) == 0
    with pytest.raises(SourceMissing, match="no part 9"):
        fetch_part(shelf, manifest, 9, path, ways)
    shelf.close()


def test_a_block_at_a_time_is_held(link: Link, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes: list[int] = []
    write = fetching.Checksums.update

    def update(self: fetching.Checksums, block: bytes) -> None:
        sizes.append(len(block))
        write(self, block)

    monkeypatch.setattr(fetching.Checksums, "update", update)
    link.pull(who=link.with_key)
    link.pull("second")
    assert max(sizes) <= MIB


@pytest.mark.parametrize(("who", "most"), [("with_key", 4), ("stranger", 1)])
def test_several_at_once_with_a_key_and_one_without(link: Link, who: str, most: int) -> None:
    busy: set[int] = set()
    peaks: list[int] = []
    lock = threading.Lock()

    def emit(event: Event) -> None:
        with lock:
            if isinstance(event, UploadStarted):
                busy.add(event.number)
            elif isinstance(event, PartReleased):
                busy.discard(event.number)
            peaks.append(len(busy))

    link.emulator.drive.line.set_bandwidth(4_000_000)
    link.pull(who=getattr(link, who), emit=emit)
    assert max(peaks) == most


@pytest.fixture(autouse=True)
def closed() -> Iterator[None]:
    yield
    while Client.opened:
        Client.opened.pop().connection.close()


# -- looking without fetching ----------------------------------------------------------------------------------------


def test_a_stranger_lists_reads_and_proves(link: Link) -> None:
    with open_reading(link.link, link.stranger) as reading:
        assert len(list(reading.members())) == 40
        assert reading.read(b"cats/003.bin") == (link.source / "cats" / "003.bin").read_bytes()
    link.emulator.set_faults("reset:download*3", seed=2)
    with closing(open_shelf(link.link, link.stranger, ignore)) as shelf:
        proof = verify(shelf)
    assert (proof.problems, proof.parts) == ([], 4)
    content = link.stored[WHOLE[2]].content
    assert content is not None
    path = link.emulator.drive.store.path_of(content)
    data = bytearray(path.read_bytes())
    data[5000] ^= 8
    path.write_bytes(data)
    with closing(open_shelf(link.link, link.stranger, ignore)) as shelf:
        assert verify(shelf).problems[0] == "set-00001.zip has other bytes than were packed"
