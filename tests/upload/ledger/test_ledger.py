"""The journal: every transition, on disk when the method returns, and never trusted when it is damaged."""

from __future__ import annotations

import os
import sqlite3
import stat
import sys
import threading
from array import array
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from driveshard.core.errors import Busy, Defect, TempFull
from driveshard.core.model import FileList, Part, PartSpec, PartState, SampleRange, Selection, UploadSession
from driveshard.core.sqlite import unusable
from driveshard.upload.ledger.ledger import SCHEMA_VERSION, Ledger
from driveshard.upload.ledger.rows import LedgerDamaged
from driveshard.upload.ledger.selections import decode_selection, encode_selection

FILES = FileList.of([(b"a.txt", 1, 11), (b"b.txt", 2, 22)])
SESSION = UploadSession("id-1", "https://example.org/?upload_id=secret", 1000.0)


def spec(number: int = 0, selection: Selection = FILES) -> PartSpec:
    return PartSpec(number, f"d-{number:05d}.zip", selection, 500, 1000)


def part(number: int = 0, selection: Selection = FILES, sha256: str = "5" * 64) -> Part:
    return Part(number, f"d-{number:05d}.zip", 480, "m" * 32, sha256, 2, 2, "a.txt", "b.txt", selection)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "ledgers" / "d.sqlite"


@pytest.fixture
def ledger(path: Path) -> Iterator[Ledger]:
    with Ledger(path) as ledger:
        yield ledger


Step = Callable[[Ledger], object]
PLAN: Step = lambda ledger: ledger.plan(spec(), 1)  # noqa: E731
PACK: Step = lambda ledger: ledger.packed(part())  # noqa: E731
RESERVE: Step = lambda ledger: ledger.reserve(0, "id-1")  # noqa: E731
BEGIN: Step = lambda ledger: ledger.begun(0, SESSION)  # noqa: E731
CONFIRM: Step = lambda ledger: ledger.confirmed(0, 256)  # noqa: E731
STORE: Step = lambda ledger: ledger.stored(0)  # noqa: E731
VERIFY: Step = lambda ledger: ledger.verified(0)  # noqa: E731
RELEASE: Step = lambda ledger: ledger.released(0)  # noqa: E731
GONE: Step = lambda ledger: ledger.session_gone(0)  # noqa: E731
WRONG: Step = lambda ledger: ledger.wrong_bytes(0)  # noqa: E731
REPACK: Step = lambda ledger: ledger.packed(part(sha256="6" * 64))  # noqa: E731

# The steps, then: state, file id, session's offset (None without a session), repairs.
LIVES = [
    ([PLAN], "planned", None, None, 0),
    ([PLAN, PACK], "packed", None, None, 0),
    ([PLAN, PACK, RESERVE], "packed", "id-1", None, 0),
    ([PLAN, PACK, RESERVE, BEGIN], "begun", "id-1", 0, 0),
    ([PLAN, PACK, RESERVE, BEGIN, CONFIRM], "begun", "id-1", 256, 0),
    ([PLAN, PACK, RESERVE, BEGIN, CONFIRM, STORE], "stored", "id-1", None, 0),
    ([PLAN, PACK, RESERVE, BEGIN, STORE, VERIFY], "verified", "id-1", None, 0),
    ([PLAN, PACK, RESERVE, BEGIN, STORE, VERIFY, RELEASE], "released", "id-1", None, 0),
    ([PLAN, PACK, RESERVE, BEGIN, CONFIRM, GONE], "packed", "id-1", None, 0),
    ([PLAN, PACK, RESERVE, BEGIN, CONFIRM, GONE, BEGIN], "begun", "id-1", 0, 0),
    ([PLAN, PACK, RESERVE, BEGIN, STORE, WRONG], "packed", None, None, 1),
    ([PLAN, PACK, RESERVE, BEGIN, STORE, WRONG, RESERVE, BEGIN, STORE, WRONG], "packed", None, None, 2),
    ([PLAN, PACK, RESERVE, BEGIN, CONFIRM, PACK], "begun", "id-1", 256, 0),  # built again, the same bytes
    ([PLAN, PACK, RESERVE, BEGIN, CONFIRM, REPACK], "packed", "id-1", None, 0),  # built again, the source changed
    ([PLAN, PACK, RESERVE, BEGIN, STORE, PACK], "stored", "id-1", None, 0),
]


@pytest.mark.parametrize(("steps", "state", "file_id", "offset", "repairs"), LIVES)
@pytest.mark.parametrize("crash", [False, True])
def test_every_step_is_on_disk_when_it_returns(
    path: Path, crash: bool, steps: list[Step], state: str, file_id: str | None, offset: int | None, repairs: int
) -> None:
    ledger = Ledger(path)
    abandoned = []
    for step in steps:
        step(ledger)
        if crash:  # nothing is closed: what a kill leaves
            abandoned.append(ledger)
            ledger = Ledger(path)

    row = ledger.part(0)

    assert (row.state, row.file_id, row.repairs) == (PartState(state), file_id, repairs)
    assert row.session == (None if offset is None else replace(SESSION, offset=offset))
    if len(steps) > 1:
        assert (row.size, row.md5, row.samples, row.files, row.first, row.last) == (
            *(480, "m" * 32, 2, 2),
            *("a.txt", "b.txt"),
        )
    for one in (*abandoned, ledger):
        one.close()


def test_repairs_are_counted_in_a_row(ledger: Ledger) -> None:
    for step in (PLAN, PACK, RESERVE, BEGIN, STORE, WRONG, RESERVE, BEGIN, STORE, VERIFY, RELEASE):
        step(ledger)
    assert ledger.wrong_bytes(0) == 1


def test_a_change_that_fails_leaves_nothing_half_done(ledger: Ledger) -> None:
    ledger.plan(spec(), 1)
    with pytest.raises(sqlite3.IntegrityError):
        ledger.plan(spec(), 1)
    with pytest.raises(sqlite3.IntegrityError):
        ledger.plan(replace(spec(1), file_name="d-00000.zip"), 1)
    with pytest.raises(TypeError):
        ledger.note(good=1, bad=object())

    assert [row.number for row in ledger.parts()] == [0]
    assert ledger.get("good") is None
    ledger.note(good=2)
    assert ledger.get("good") == 2


def test_the_selection_follows_what_was_really_packed(ledger: Ledger) -> None:
    ledger.plan(spec(), 1)
    assert ledger.spec(0) == spec()
    ledger.packed(part(selection=FileList.of([(b"b.txt", 2, 22)])))
    assert ledger.selection(0) == FileList.of([(b"b.txt", 2, 22)])


def test_a_dropped_part_is_forgotten_with_its_selection(ledger: Ledger) -> None:
    ledger.plan(spec(), 1)
    ledger.drop(0)
    assert ledger.parts() == []
    assert ledger.next_number() == 0
    with pytest.raises(Defect):
        ledger.spec(0)
    with pytest.raises(Defect):
        ledger.part(0)
    ledger.plan(spec(), 2)
    assert ledger.selection(0) == FILES


def test_an_adopted_part_is_released(ledger: Ledger) -> None:
    ledger.adopt(part(3), "id-9", 4)
    row = ledger.part(3)
    assert (row.state, row.file_id, row.size, row.sha256) == (PartState.RELEASED, "id-9", 480, "5" * 64)
    assert ledger.selection(3) == FILES
    assert ledger.next_number() == 4
    assert ledger.generations() == [[3]]
    assert ledger.released_totals() == (1, 480)


def test_what_a_recovery_left_half_done_can_be_forgotten(ledger: Ledger) -> None:
    ledger.adopt(part(3), "id-9", 4)
    ledger.note_artifact("README.md", "id-8", "m")
    ledger.forget()
    assert (ledger.parts(), ledger.artifacts(), ledger.is_new) == ([], {}, True)
    ledger.adopt(part(3), "id-9", 4)


def test_totals_count_a_replaced_member_once(ledger: Ledger) -> None:
    ledger.plan(spec(0), 1)
    ledger.packed(part(0))
    ledger.plan(spec(1), 2, superseded=(2, 1))
    ledger.packed(part(1))
    ledger.plan(spec(2), 2)
    totals = ledger.totals()
    assert (totals.parts, totals.released, totals.files, totals.samples, totals.bytes) == (3, 0, 2, 3, 960)


def test_unfinished_parts_are_those_not_released(ledger: Ledger) -> None:
    for number in range(3):
        ledger.plan(spec(number), 1)
        ledger.packed(part(number))
    ledger.released(1)
    assert [row.number for row in ledger.parts(unfinished=True)] == [0, 2]
    assert [row.number for row in ledger.parts()] == [0, 1, 2]


def test_generations_come_oldest_first(ledger: Ledger) -> None:
    for number, generation in [(0, 1), (1, 1), (2, 2), (3, 5), (4, 2)]:
        ledger.plan(spec(number), generation)
    assert ledger.generations() == [[0, 1], [2, 4], [3]]


def test_facts_and_artifacts_are_kept(path: Path) -> None:
    with Ledger(path) as ledger:
        assert ledger.is_new
        job = ledger.create_job("d", settings={"kind": "folder", "include": ["*.jpg"]})
        ledger.note_artifact("manifest.json", "id-5", None)
        ledger.note_artifact("manifest.json", "id-5", "abc")
    with Ledger(path) as ledger:
        assert not ledger.is_new
        assert (ledger.get("job"), ledger.get("name")) == (job, "d")
        assert ledger.get("settings") == {"kind": "folder", "include": ["*.jpg"]}
        assert ledger.get("nothing", 5) == 5
        assert ledger.artifact("manifest.json") == ("id-5", "abc")
        assert ledger.artifact("preview.jpg") is None


@pytest.mark.skipif(os.name == "nt", reason="Windows has no mode bits")
def test_nobody_else_can_read_it(path: Path) -> None:
    before = os.umask(0)
    try:
        with Ledger(path) as ledger:
            ledger.create_job("d")
            modes = {file.name: stat.S_IMODE(file.stat().st_mode) for file in path.parent.iterdir()}
    finally:
        os.umask(before)
    assert set(modes.values()) == {0o600}
    assert f"{path.name}-wal" in modes


def _grow(path: Path) -> int:
    """A ledger of many pages; returns its size in bytes."""
    with Ledger(path) as ledger:
        ledger.create_job("d")
        for number in range(30):
            rows = [(b"%05d-%03d.txt" % (number, index), index, index) for index in range(200)]
            ledger.plan(spec(number, FileList.of(rows)), 1)
    return path.stat().st_size


@pytest.mark.parametrize("keep", [15, 99, 100, 2000, 4096, 0.3, 0.5, 0.9])
def test_a_ledger_that_was_cut_short_is_not_trusted(path: Path, keep: float) -> None:
    size = _grow(path)
    os.truncate(path, int(keep if keep >= 1 else size * keep))
    with pytest.raises(LedgerDamaged):
        Ledger(path)


@pytest.mark.parametrize("at", [0, 20, 5000, 40_000])
def test_a_ledger_that_was_overwritten_is_not_trusted(path: Path, at: int) -> None:
    _grow(path)
    with path.open("r+b") as stream:
        stream.seek(at)
        stream.write(b"\xa5" * 4096)
    with pytest.raises(LedgerDamaged):
        Ledger(path)


def test_what_is_no_ledger_is_not_trusted(path: Path) -> None:
    path.parent.mkdir()
    path.write_bytes(b"this is not a database, and never was one\n" * 100)
    with pytest.raises(LedgerDamaged):
        Ledger(path)


@pytest.mark.parametrize(
    "statement",
    [
        f"PRAGMA user_version={SCHEMA_VERSION + 1}",
        "PRAGMA user_version=0",
        "DROP TABLE selections",
        "DROP TABLE artifacts",
    ],
)
def test_a_ledger_of_another_schema_is_not_trusted(path: Path, statement: str) -> None:
    Ledger(path).close()
    db = sqlite3.connect(path)
    db.execute(statement)
    db.close()
    with pytest.raises(LedgerDamaged):
        Ledger(path)


def test_an_empty_file_is_a_new_ledger(path: Path) -> None:
    path.parent.mkdir()
    path.touch()
    with Ledger(path) as ledger:
        assert ledger.is_new


def test_a_full_disk_is_no_damage(ledger: Ledger) -> None:
    ledger.plan(spec(), 1)
    pages = ledger._db.execute("PRAGMA page_count").fetchone()[0]
    ledger._db.execute(f"PRAGMA max_page_count={pages}")
    large = FileList.of([(b"%09d" % index, 1, 1) for index in range(5000)])
    with pytest.raises(TempFull) as caught:
        ledger.plan(spec(1, large), 1)
    assert caught.value.advice
    ledger._db.execute("PRAGMA max_page_count=1000000")
    ledger.plan(spec(1, large), 1)
    assert [row.number for row in ledger.parts()] == [0, 1]


def hold(path: Path, mode: str) -> sqlite3.Connection:
    """Somebody else's transaction: one that keeps writers off, or readers, too."""
    holder = sqlite3.connect(path, isolation_level=None)
    if mode == "EXCLUSIVE":
        holder.execute("PRAGMA locking_mode=EXCLUSIVE")
    holder.execute(f"BEGIN {mode}")
    return holder


@pytest.mark.parametrize("mode", ["IMMEDIATE", "EXCLUSIVE"])
@pytest.mark.parametrize("opened", ["before", "after"])
def test_a_ledger_that_somebody_holds_is_no_damage_and_no_full_disk(
    path: Path, monkeypatch: pytest.MonkeyPatch, mode: str, opened: str
) -> None:
    """An SQLite browser with a change that it has not saved: said as it is, and it passes."""
    Ledger(path).close()
    connect = sqlite3.connect
    monkeypatch.setattr(sqlite3, "connect", lambda *a, **k: connect(*a, **{**k, "timeout": 0.05}))
    ledger = Ledger(path) if opened == "before" and mode == "IMMEDIATE" else None
    holder = hold(path, mode)
    try:
        with pytest.raises(Busy, match="locked by another program") as caught:
            ledger = ledger or Ledger(path)
            ledger.note(x=1)
    finally:
        holder.close()
    assert caught.value.exit_code == 75
    assert str(path) in str(caught.value) and "disk" not in str(caught.value) and "Close" in caught.value.advice
    if ledger is not None:
        ledger.close()
    with Ledger(path) as again:
        again.note(x=2)


def test_a_read_that_somebody_keeps_off_is_told_the_same_way(path: Path) -> None:
    with Ledger(path) as ledger:
        ledger._db.execute("PRAGMA busy_timeout=50")
        ledger._db.execute("PRAGMA journal_mode=DELETE")
        holder = hold(path, "EXCLUSIVE")
        try:
            with pytest.raises(Busy):
                ledger.parts()
        finally:
            holder.close()


@pytest.mark.parametrize(
    ("code", "said"),
    [
        (sqlite3.SQLITE_FULL, "full"),
        (sqlite3.SQLITE_READONLY, "not writable"),
        (sqlite3.SQLITE_READONLY_DBMOVED, "not writable"),
        (sqlite3.SQLITE_CANTOPEN, "cannot be opened"),
        (sqlite3.SQLITE_IOERR_WRITE, "disk"),
        (sqlite3.SQLITE_NOMEM, "disk"),
    ],
)
def test_what_keeps_it_from_being_written_is_said(path: Path, code: int, said: str) -> None:
    error = sqlite3.OperationalError("no")
    error.sqlite_errorcode = code
    found = unusable(path, error)
    assert type(found) is TempFull and said in str(found) and str(path) in str(found) and found.advice


@pytest.mark.parametrize("code", [sqlite3.SQLITE_BUSY, sqlite3.SQLITE_BUSY_SNAPSHOT, sqlite3.SQLITE_LOCKED])
def test_every_kind_of_lock_is_a_lock(path: Path, code: int) -> None:
    error = sqlite3.OperationalError("no")
    error.sqlite_errorcode = code
    assert isinstance(unusable(path, error), Busy)


def test_a_step_is_on_disk_when_it_is_told(ledger: Ledger) -> None:
    """FULL: a commit waits until the disk has it, or a power cut would take back what the place was told."""
    assert ledger._db.execute("PRAGMA synchronous").fetchone()[0] == 2
    assert ledger._db.execute("PRAGMA journal_mode").fetchone()[0] == "wal"


def test_threads_share_it(ledger: Ledger) -> None:
    def work(first: int) -> None:
        for number in range(first, 40, 4):
            ledger.plan(spec(number), 1)
            ledger.packed(part(number))
            ledger.note(**{f"seen{number}": number})

    threads = [threading.Thread(target=work, args=(first,)) for first in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [row.number for row in ledger.parts()] == list(range(40))
    assert {row.state for row in ledger.parts()} == {PartState.PACKED}


NUMBER = st.integers(-(2**63), 2**63 - 1)
PATHS = st.binary(min_size=1, max_size=40).filter(lambda path: b"\0" not in path)
FILE_LISTS = st.lists(st.tuples(PATHS, NUMBER, NUMBER), max_size=20).map(FileList.of)
RANGES = st.builds(SampleRange, st.integers(0, 2**60), st.none() | st.integers(0, 2**60))


@given(FILE_LISTS | RANGES)
def test_selections_come_back_as_they_were(selection: Selection) -> None:
    again = decode_selection(encode_selection(selection))
    assert again == selection
    if isinstance(selection, FileList) and isinstance(again, FileList):
        assert list(again) == list(selection)


def test_the_bytes_of_a_selection_do_not_depend_on_the_machine() -> None:
    columns = (array("q", [258]), array("q", [1]), array("q", [-1]), array("I", [0x01020304]))
    encoded = encode_selection(FileList(b"ab", *columns))
    assert encoded == (
        b"L"
        + bytes([1, 0, 0, 0, 0, 0, 0, 0])
        + bytes([1, 0, 0, 0, 0, 0, 0, 0])
        + bytes([2, 1, 0, 0, 0, 0, 0, 0])
        + bytes([1, 0, 0, 0, 0, 0, 0, 0])
        + bytes([255] * 8)
        + bytes([4, 3, 2, 1])
        + b"ab"
    )
    assert decode_selection(encoded).crcs == columns[3]  # type: ignore[union-attr]
    assert encode_selection(SampleRange(3, None)) == b"R[3, null]"


def test_a_selection_in_the_first_form_is_still_read() -> None:
    numbers = array("q", [2, 258, 3, 1, 4])
    if sys.byteorder == "big":
        numbers.byteswap()
    assert decode_selection(b"F" + numbers.tobytes() + b"a\0b") == FileList.of([(b"a", 258, 1), (b"b", 3, 4)])
