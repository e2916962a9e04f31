"""A push under every fault word, alone and in pairs: which state it reaches, and what it costs."""

from __future__ import annotations

import random
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from driveshard.core.clock import Clock
from driveshard.core.errors import (
    AuthError,
    Blocked,
    ConfigError,
    DailyCap,
    DriveshardError,
    Interrupted,
    Mismatch,
    Refused,
    StorageFull,
    Unavailable,
)
from driveshard.core.events import BytesSent, Event, PartReleased
from driveshard.core.model import PartState
from driveshard.emulator import FAULTS, Emulator
from driveshard.storage.throttle import Throttle
from driveshard.upload.ledger.ledger import Ledger
from driveshard.upload.result import PushResult
from driveshard.upload.send import request_size
from driveshard.upload.send.uploader import Uploader
from tests.rig import REPOSITORY, UNIT, Rig, Shelf, blind_steps, fill, received

# Plans under which one run completes. A fifth of all requests of any kind is more than a bad day. (Two 401 in a row
# would be a login that is not accepted; between two for chunks lies a query.)
# Some are drawn by chance, and once for certain.
MENDED = {
    "503": "503@2,503%20",
    "500": "500@2,500%20",
    "502-html": "502-html@2,502-html%20",
    "408": "408@2,408%20",
    "429": "429@2,429%20",
    "403-userRateLimit": "403-userRateLimit@2,403-userRateLimit%20",
    "403-userRateLimit-dot": "403-userRateLimit-dot@2,403-userRateLimit-dot%20",
    "403-rateLimit": "403-rateLimit@2,403-rateLimit%20",
    "403-queries": "403-queries@2,403-queries%20",
    "429-bare": "429-bare@2,429-bare%20",
    "401-expired": "401-expired@2,401-expired:chunk%30",
    "reset": "reset@2,reset%30",
    "drop": "drop@2,drop%10",
    "outage": "outage=0.2@12",
    "tenth": "tenth@12",
    "keep-nothing": "keep-nothing*,reset@2,reset%30",
    "early": "early*,503:chunk@2,503:chunk%30",
    "503-after-256K": "503-after-256K@2*3",
    "reset-before-reply": "reset-before-reply@2,reset-before-reply%30",
    "stall": "stall@2",
    "slow-session": "slow-session@2",
    "308-short": "308-short@2*4",
    "308-no-range": "308-no-range@3*2",
    "lost-final": "lost-final*6",
    "final-201": "final-201*",
    "session-404": "session-404@2,session-404%40*3",
    "session-410": "session-410@2,session-410%40*3",
    "wrong-md5": "wrong-md5@2*2",
    "md5-late": "md5-late*",
    "list-lag": "list-lag*",
    "409-id-in-use": "409-id-in-use@2*3",
    "publish-refused": "publish-refused*",
    "download-quota": "download-quota*",
}
# Plans that end a run: the error's kind, its exit code and what its message tells. The next run completes.
ENDED: dict[str, tuple[str, type[DriveshardError], int, str]] = {
    "403-dailyCap": ("403-dailyCap@4", DailyCap, 75, "refused writes"),
    "403-projectCap": ("403-projectCap@4", DailyCap, 75, "limit for today"),
    "403-storageFull-chunk": ("403-storageFull-chunk@2", StorageFull, 79, "storage is full"),
    "403-itemLimit": ("403-itemLimit@3*", Refused, 79, "limit"),
    "403-bare": ("403-bare@9*", Refused, 79, "does not have permission"),
    "403-scope": ("403-scope@9*", AuthError, 77, "does not allow this"),
    "403-key-blocked": ("403-key-blocked@9*", ConfigError, 78, "are blocked"),
    "429-html": ("429-html@9", Blocked, 75, "blocked"),
    "403-storageFull": ("403-storageFull@2", StorageFull, 79, "storage is full"),
    "503": ("503*", Unavailable, 69, "503"),
    "reset": ("reset*", Unavailable, 69, "broke"),
    "wrong-md5": ("wrong-md5*", Mismatch, 76, "other bytes"),
}
# What only a reader meets: one that has a key instead of a login, or fetches content.
READERS = {"400-key", "wrong-bytes", "403-html"}


@pytest.fixture
def drive(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Emulator]:
    """A strict emulator; requests begin small and grow slowly, so that a part of a megabyte has several."""
    monkeypatch.setattr(request_size, "FIRST_REQUEST", UNIT)
    monkeypatch.setattr(request_size, "_BOLDEST", 2)
    monkeypatch.setattr(request_size, "_NEARLY", 1)
    monkeypatch.setattr(Uploader, "_keep_head", lambda *_: None)  # as in a run that finds its parts released
    with Emulator(tmp_path / "drive", strict=True) as running:
        running.drive.slow.rate = 700_000  # bytes a second of a slow session: as slow as a test can bear
        yield running


@pytest.fixture
def rig(tmp_path: Path, drive: Emulator) -> Rig:
    """Four parts of about a megabyte, two of them of several chunks at any time."""
    fill(tmp_path / "source", 30, 160_000)
    return Rig(tmp_path, drive.url)


def assert_complete(rig: Rig, drive: Emulator, result: PushResult, allowed: tuple[str, ...] = ()) -> None:
    """All is there once, byte for byte; nothing is left; the protocol was kept, but for ``allowed`` slips."""
    drive.set_faults("")
    assert result.error is None, result.error
    assert result.state == "complete"
    assert Shelf(rig.url).problems(rig.expected()) == []
    assert rig.in_temp() == []
    assert [slip for slip in drive.stats()["violations"] if slip["kind"] not in allowed] == []
    assert blind_steps(drive.log()) == []


def add_picture(rig: Rig) -> None:
    """Without any there is no preview, for which parts are read."""
    Image.new("RGB", (8, 8)).save(rig.directory / "source" / "d0" / "picture.png")


def waste(drive: Emulator) -> float:
    stats = drive.stats()
    return float(stats["received_bytes"] / stats["stored_bytes"])


def test_every_word_is_tried() -> None:
    assert MENDED.keys() | ENDED.keys() | READERS == {fault.word for fault in FAULTS}


@pytest.mark.parametrize("word", MENDED)
def test_one_run_completes(word: str, rig: Rig, drive: Emulator) -> None:
    if word == "download-quota":
        add_picture(rig)
    drive.set_faults(MENDED[word], seed=5)
    result = rig.push(share="anyone")
    assert drive.stats()["faults_fired"].get(word), "the fault did not happen"
    assert_complete(rig, drive, result)


@pytest.mark.parametrize("word", ENDED)
def test_a_run_ends_and_the_next_completes(word: str, rig: Rig, drive: Emulator) -> None:
    plan, kind, code, told = ENDED[word]
    drive.set_faults(plan)
    result = rig.push(share="anyone")
    assert type(result.error) is kind and result.error.exit_code == code
    assert told in str(result.error) and result.error.advice
    assert result.state == "incomplete"
    drive.set_faults("")
    assert_complete(rig, drive, rig.push(share="anyone"))


@pytest.mark.parametrize("plan", ["", "409-id-in-use%60*6,wrong-md5%20*2,503%5"])
def test_every_write_has_had_its_turn(plan: str, rig: Rig, drive: Emulator, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also those that follow from a refusal: Drive counts them all."""
    assert rig.push().error is None
    with Ledger(rig.ledger_path) as ledger:  # as a run leaves it that was killed before it noted what it had written
        for name, (file_id, _) in ledger.artifacts().items():
            ledger.note_artifact(name, file_id, None)
    (rig.directory / "source" / "new.bin").write_bytes(bytes(5000))  # so the small files are to be others
    before = drive.stats()["writes"]
    turns = []
    take_turn = Throttle.write
    monkeypatch.setattr(Throttle, "write", lambda budget: (turns.append(1), take_turn(budget)))
    drive.set_faults(plan, seed=4)
    result = rig.push()
    written = drive.stats()["writes"] - before
    assert result.state == "complete"
    names = [one["name"] for one in Shelf(rig.url).files]
    assert len(names) == len(set(names)) == 1 + result.parts + 3  # the folder, the parts, manifest, index and card
    assert 5 <= written <= len(turns)


def test_after_a_block_no_thread_makes_another_request(rig: Rig, drive: Emulator) -> None:
    """But for those that the other upload threads had on the wire."""
    drive.set_faults("429-html@12")
    assert isinstance(rig.push(uploads=3).error, Blocked)
    statuses = [one["status"] for one in drive.log()]
    assert len(statuses) - statuses.index(429) - 1 <= 2


# -- each word's own claims ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("plan", ["lost-final*6", "reset-before-reply%40"])
def test_a_lost_reply_costs_no_second_upload(plan: str, rig: Rig, drive: Emulator) -> None:
    """Also of manifest and card: what is asked first is found to be there."""
    drive.set_faults(plan, seed=1)
    assert_complete(rig, drive, rig.push())
    assert waste(drive) < 1.001


@pytest.mark.parametrize(("plan", "most"), [("503-after-256K%50*8", 1.6), ("reset%30", 1.5), ("308-short%50*6", 2.0)])
def test_what_was_kept_is_not_sent_again(plan: str, most: float, rig: Rig, drive: Emulator) -> None:
    """The server's own 256 KiB steps are all that a broken chunk costs; `sent-twice` would be a violation."""
    drive.set_faults(plan, seed=1)
    assert_complete(rig, drive, rig.push())
    assert waste(drive) < most


def test_progress_counts_although_every_request_fails(rig: Rig, drive: Emulator) -> None:
    """More failures than patience has tries, but the server keeps something each time."""
    rig.part_size = 6_000_000
    drive.set_faults("503-after-256K*13")
    result = rig.push(uploads=1)
    assert drive.stats()["faults_fired"]["503-after-256K"] == 13
    assert_complete(rig, drive, result)


def test_patience_ends_when_nothing_is_kept(rig: Rig, drive: Emulator) -> None:
    drive.set_faults("308-no-range*")
    result = rig.push(uploads=1)
    assert isinstance(result.error, Unavailable) and result.error.exit_code == 69
    assert drive.stats()["faults_fired"]["308-no-range"] <= 3 * 12
    drive.set_faults("")
    assert_complete(rig, drive, rig.push())


@pytest.mark.parametrize("word", ["session-404", "session-410"])
def test_a_session_gone_begins_again_under_the_same_id(word: str, rig: Rig, drive: Emulator) -> None:
    drive.set_faults(f"{word}:chunk@5")
    result = rig.push(uploads=1)
    assert_complete(rig, drive, result)
    sessions = drive.stats()["sessions"]
    (gone,) = [one for one in sessions if one["state"] == word[-3:]]
    assert [one["state"] for one in sessions if one["file_id"] == gone["file_id"]] == [word[-3:], "done"]


def test_a_session_that_ended_well_before_it_went_is_not_sent_again(rig: Rig, drive: Emulator) -> None:
    """The last reply is lost, and the query after it hears 404: only the file itself can tell."""
    drive.set_faults("lost-final,session-404:query")
    assert_complete(rig, drive, rig.push(uploads=1))
    assert drive.stats()["faults_fired"] == {"lost-final": 1, "session-404": 1}
    assert waste(drive) < 1.001


def test_a_stall_is_noticed(rig: Rig, drive: Emulator) -> None:
    drive.set_faults("stall@3")
    rig.timeout = 0.5
    began = time.monotonic()
    assert_complete(rig, drive, rig.push())
    assert time.monotonic() - began < 5.0
    assert any("no answer from Drive" in why for why in rig.waits())


def test_a_stop_ends_a_large_request(rig: Rig, drive: Emulator, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also when it would take a minute more; what the server keeps of it is not sent again."""
    monkeypatch.setattr(request_size, "FIRST_REQUEST", 64 * UNIT)
    rig.part_size = 6_000_000
    drive.drive.line.set_bandwidth(50_000)
    clock = Clock()
    stopped: list[float] = []

    def stop(event: Event) -> None:
        if isinstance(event, BytesSent) and event.sent and not stopped:
            stopped.append(time.monotonic())
            clock.stop.set()

    rig.on_event = stop
    assert isinstance(rig.push(clock=clock, uploads=1).error, Interrupted)
    assert time.monotonic() - stopped[0] < 5
    drive.drive.line.set_bandwidth(None)
    rig.on_event = lambda event: None
    assert rig.push().error is None
    assert Shelf(rig.url).problems(rig.expected()) == []


def test_a_session_that_crawls_is_waited_for(rig: Rig, drive: Emulator) -> None:
    """Begun anew it might crawl again, and what it holds would be sent twice."""
    drive.set_faults("slow-session@2")
    result = rig.push()
    assert_complete(rig, drive, result)
    assert len(drive.stats()["sessions"]) == result.parts


def test_wrong_bytes_are_removed_and_sent_again(rig: Rig, drive: Emulator) -> None:
    drive.set_faults("wrong-md5@2")
    result = rig.push(uploads=1)
    assert_complete(rig, drive, result)
    assert [text for text in rig.notices() if "other bytes" in text and "uploaded again" in text]
    assert sum(isinstance(event, PartReleased) for event in rig.events) == result.parts


def test_bytes_that_stay_wrong_end_the_run_and_the_part_is_kept(rig: Rig, drive: Emulator) -> None:
    drive.set_faults("wrong-md5*")
    result = rig.push(uploads=1)
    assert isinstance(result.error, Mismatch) and "4 times" in str(result.error)
    assert not any(isinstance(event, PartReleased) for event in rig.events)
    (name,) = re.findall(r"t-\d{5}\.zip", str(result.error))
    assert name in rig.in_temp()
    assert [one["name"] for one in Shelf(rig.url).files] == ["t"], "a spoilt upload was left behind"
    with Ledger(rig.ledger_path) as ledger:
        assert {part.state for part in ledger.parts()} <= {PartState.PLANNED, PartState.PACKED}
    drive.set_faults("")
    assert_complete(rig, drive, rig.push())


def test_late_checksums_are_waited_for(rig: Rig, drive: Emulator) -> None:
    """Nothing is released on a reply without a checksum."""
    drive.set_faults("md5-late*")
    assert_complete(rig, drive, rig.push(uploads=1))
    assert any("checksum" in why for why in rig.waits())
    log = drive.log()
    parts = [entry for entry in log if "final" in entry["kinds"] and "session" in entry["kinds"]]
    gets = [entry for entry in log if "get" in entry["kinds"]]
    assert len(gets) >= 3 * len(parts)


def test_a_409_is_verified(rig: Rig, drive: Emulator) -> None:
    """The id is somebody else's: the file cannot be seen, so another id is taken and all is sent."""
    drive.set_faults("409-id-in-use:initiation@2")
    result = rig.push(uploads=1)
    assert_complete(rig, drive, result)
    log = drive.log()
    (refused,) = [entry for entry in log if entry["status"] == 409]
    after = [entry for entry in log if entry["n"] > refused["n"]]
    assert "get" in after[0]["kinds"] and after[0]["status"] == 404
    assert "initiation" in after[1]["kinds"] and after[1]["status"] == 200


def test_a_409_of_our_own_file_is_believed_after_a_look(rig: Rig, drive: Emulator) -> None:
    """The ledger of yesterday, the folder of today: each part's id is taken by that very part."""
    rig.push(uploads=1)
    with Ledger(rig.ledger_path) as ledger:
        for part in ledger.parts():
            ledger._set_state(part.number, PartState.PACKED)
    before = received(drive)
    assert_complete(rig, drive, rig.push(uploads=1), allowed=("id-uploaded-twice",))
    assert received(drive) == before


def test_a_409_of_our_own_spoilt_file_is_mended(rig: Rig, drive: Emulator) -> None:
    drive.set_faults("wrong-md5,403-projectCap@3")
    rig.push(uploads=1)
    with Ledger(rig.ledger_path) as ledger:
        (stored,) = [part for part in ledger.parts() if part.state is PartState.STORED]
        ledger._set_state(stored.number, PartState.PACKED)
    drive.set_faults("")
    assert_complete(rig, drive, rig.push(uploads=1), allowed=("id-uploaded-twice",))


def test_the_folder_id_may_be_refused_too(rig: Rig, drive: Emulator) -> None:
    drive.set_faults("409-id-in-use")
    assert_complete(rig, drive, rig.push())


def test_a_daily_cap_finishes_what_is_under_way(rig: Rig, drive: Emulator) -> None:
    """Two parts were begun when the cap came: both are finished, nothing new is begun, and the time is told."""
    drive.set_faults("403-projectCap@4")
    result = rig.push(uploads=2)
    assert isinstance(result.error, DailyCap)
    assert result.resume_after is not None and 23 * 3600 < result.resume_after - time.time() < 25 * 3600
    assert [one["state"] for one in drive.stats()["sessions"]] == ["done", "done"]
    with Ledger(rig.ledger_path) as ledger:
        assert ledger.totals().released == 2
    before = received(drive)
    drive.set_faults("")
    result = rig.push()
    assert_complete(rig, drive, result)
    assert received(drive) - before < result.bytes / 2 + 100_000, "the two parts were sent again"


def test_slow_down_for_too_long_counts_as_the_daily_cap(rig: Rig, drive: Emulator) -> None:
    drive.set_faults("403-userRateLimit-dot:write@3*")
    result = rig.push()
    assert isinstance(result.error, DailyCap) and result.error.exit_code == 75
    assert result.resume_after is not None and result.resume_after > time.time() + 23 * 3600
    drive.set_faults("")
    assert_complete(rig, drive, rig.push())


def test_storage_full_stops_new_parts_only(rig: Rig, drive: Emulator) -> None:
    drive.set_faults("403-storageFull@2*")
    result = rig.push(uploads=1)
    assert isinstance(result.error, StorageFull) and "trash" in result.error.advice
    assert [one["state"] for one in drive.stats()["sessions"]] == ["done"]
    drive.set_faults("")
    assert_complete(rig, drive, rig.push())


def test_sharing_refused_does_not_fail_the_push(rig: Rig, drive: Emulator) -> None:
    drive.set_faults("publish-refused*")
    result = rig.push(share="anyone")
    assert_complete(rig, drive, result)
    assert any("Not shared" in text and "administrator" in text for text in rig.notices())
    result = rig.push(share="anyone")
    assert result.error is None and result.sent_bytes == 0
    assert [one["type"] for one in permissions(drive, result)] == ["anyone"], "the next run did not share"


def permissions(drive: Emulator, result: PushResult) -> list[dict[str, Any]]:
    folder = drive.drive.store.require(str(result.folder_id))
    return [one for one in drive.drive.store.permissions(folder).values() if one["role"] != "owner"]


def test_sharing_throttled_does_not_fail_the_push(rig: Rig, drive: Emulator) -> None:
    drive.set_faults("403-rateLimit:permission*")
    assert_complete(rig, drive, rig.push(share="anyone"))
    assert any("Not shared" in text for text in rig.notices())


@pytest.mark.parametrize("fault", ["download-quota*", "503:download*"])
def test_a_preview_that_cannot_be_made_does_not_fail_the_push(rig: Rig, drive: Emulator, fault: str) -> None:
    add_picture(rig)
    drive.set_faults(fault)
    assert_complete(rig, drive, rig.push())
    assert any("No preview" in text for text in rig.notices())


def test_lagging_lists_make_no_doubles(rig: Rig, drive: Emulator) -> None:
    """Three runs in a row, each with a list that lacks what the one before made."""
    drive.set_faults("list-lag*,403-projectCap@4")
    rig.push(uploads=1)
    for _ in range(3):
        drive.set_faults("list-lag*")
        result = rig.push(uploads=1)
    assert_complete(rig, drive, result)


def test_expired_logins_are_renewed_in_passing(rig: Rig, drive: Emulator) -> None:
    drive.set_faults("401-expired:chunk%40")
    assert_complete(rig, drive, rig.push())


# -- pairs -----------------------------------------------------------------------------------------------------------

SLOW = {"slow-session"}  # takes its seconds, and has its own test above
LASTING = {"403-projectCap": 75, "403-storageFull": 79, "429-html": 75}
ALONE = {word: plan for word, plan in MENDED.items() if word not in SLOW} | {
    "403-projectCap": "403-projectCap@5",
    "403-storageFull": "403-storageFull@3",
    "429-html": "429-html@12",
}


def sampled_pairs(count: int, seed: int) -> list[tuple[str, str]]:
    """Every word at least once, then at random."""
    dice = random.Random(seed)
    words = sorted(ALONE)
    dice.shuffle(words)
    pairs = list(zip(words[::2], words[1::2], strict=False))
    if len(words) % 2:
        pairs.append((words[-1], words[0]))
    while len(pairs) < count:
        first, second = dice.sample(words, 2)
        if (first, second) not in pairs:
            pairs.append((first, second))
    return pairs


@pytest.mark.parametrize(("first", "second"), sampled_pairs(20, seed=2026))
def test_pairs(first: str, second: str, rig: Rig, drive: Emulator) -> None:
    """Both at once; runs again until done, as a user would. Each run that ends before says why by its code."""
    allowed = {LASTING[word] for word in (first, second) if word in LASTING} | {69}
    drive.set_faults(f"{ALONE[first]},{ALONE[second]}", seed=1)
    for _ in range(4):
        result = rig.push(share="anyone")
        if result.error is None:
            break
        assert result.error.exit_code in allowed, result.error
        if result.error.exit_code != 69:
            drive.set_faults("")
    assert_complete(rig, drive, result)


# -- the table in the docs -------------------------------------------------------------------------------------------


def documented_rows() -> dict[str, list[str]]:
    """The cells behind each word in docs/faults.md."""
    rows = {}
    for line in (REPOSITORY / "docs" / "faults.md").read_text(encoding="utf-8").splitlines():
        match = re.fullmatch(r"\| `([^`]+)` \|(.*)\|", line)
        if match:
            assert match[1] not in rows, f"{match[1]} has two rows"
            rows[match[1]] = [cell.strip() for cell in match[2].split("|")]
    return rows


def test_the_docs_have_a_row_for_every_word() -> None:
    rows = documented_rows()
    assert rows.keys() == {fault.word for fault in FAULTS}
    assert all(len(cells) == 3 and all(cells) for cells in rows.values())


@pytest.mark.parametrize("word", sorted({*MENDED, *ENDED}))
def test_the_docs_tell_the_exit_code(word: str) -> None:
    """The last cell begins with the code that one run under the word ends with."""
    reached = documented_rows()[word][2]
    codes = {0} if word in MENDED else set()
    if word in ENDED:
        codes.add(ENDED[word][2])
    assert {int(code) for code in re.findall(r"\*\*(\d+)\*\*", reached)} == codes
