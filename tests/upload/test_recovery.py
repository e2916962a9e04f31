"""What is lost between runs: the temp folder, the ledger, room on the disk. Nothing is sent twice for it."""

from __future__ import annotations

import hashlib
import os
import shutil
import sqlite3
import stat
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from driveshard.core.clock import Clock
from driveshard.core.errors import Interrupted, PartTooLarge, TempFull, UsageError
from driveshard.core.events import BytesSent, Event, PackStarted, Waiting
from driveshard.core.model import PartState
from driveshard.emulator import Emulator
from driveshard.sources.composite.source import CompositeSource
from driveshard.sources.python.source import PythonSource
from driveshard.upload.ledger.ledger import SCHEMA_VERSION, Ledger
from driveshard.upload.plan.base import Cut
from driveshard.upload.send import request_size
from tests.rig import UNIT, Rig, Shelf, environment, fill, members_of, received, undisturbed

SAMPLES = """
import random

def sample(index):
    return {"__key__": f"{index:04d}", "bin": random.Random(index).randbytes(20_000)}

class Indexed:
    def __len__(self):
        return 150
    def __getitem__(self, index):
        return sample(index)

def indexed():
    return Indexed()

def stream():
    return (sample(index) for index in range(150))
"""


@pytest.fixture
def drive(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Emulator]:
    monkeypatch.setattr(request_size, "FIRST_REQUEST", UNIT)
    monkeypatch.setattr(request_size, "_BOLDEST", 2)
    monkeypatch.setattr(request_size, "_NEARLY", 1)
    with Emulator(tmp_path / "drive", strict=True) as running:
        yield running


@pytest.fixture
def rig(tmp_path: Path, drive: Emulator) -> Rig:
    """Four parts of about a megabyte."""
    fill(tmp_path / "source", 30, 160_000)
    return Rig(tmp_path, drive.url)


def cut_off(rig: Rig, drive: Emulator, plan: str, **options: object) -> None:
    """A run that ends early, and a Drive that is well again."""
    drive.set_faults(plan)
    result = rig.push(uploads=2, **options)
    assert result.error is not None
    drive.set_faults("")


def states(rig: Rig) -> list[PartState]:
    with Ledger(rig.ledger_path) as ledger:
        return [part.state for part in ledger.parts()]


def complete(rig: Rig, *, recut: bool = False, **options: object) -> None:
    """Run again, and find everything there once."""
    result = rig.push(**options)
    assert result.error is None, (result.error, result.error.__cause__)
    expected = rig.expected()
    members = all_members(rig) if recut else None
    assert Shelf(rig.url).problems(expected, recut=members) == []
    assert rig.in_temp() == []


def all_members(rig: Rig) -> dict[bytes, str]:
    work = rig.directory / "whole"
    undisturbed(rig.source, Cut("whole", 1 << 40), work)
    return dict(members_of([(work / "reference.zip").read_bytes()]))


# -- the temp folder -------------------------------------------------------------------------------------------------

# Each plan ends the first run with parts in the states named; what each costs to finish is known then.
STATES = {
    "packed": ("403-storageFull@1*", PartState.PACKED),
    "begun": ("503:chunk@4*", PartState.BEGUN),
    "stored": ("503:get@2*,md5-late*", PartState.STORED),
    "released": ("403-projectCap@4", PartState.RELEASED),
}


@pytest.mark.parametrize("state", STATES)
@pytest.mark.parametrize("lost", ["nothing", "files", "folder"])
def test_lost_temp_parts_are_built_again_and_go_on(state: str, lost: str, rig: Rig, drive: Emulator) -> None:
    """Whatever the first run got through is not sent again: the parts' bytes are the same, so sessions go on."""
    plan, expected = STATES[state]
    cut_off(rig, drive, plan)
    assert expected in states(rig)
    if lost == "files":
        for path in rig.temp.rglob("*.zip"):
            path.unlink()
    if lost == "folder":
        shutil.rmtree(rig.temp)
    held = sum(one["stored"] for one in drive.stats()["sessions"])
    before = received(drive)
    complete(rig)
    sent = received(drive) - before
    shelf = Shelf(rig.url)
    assert sent == shelf.part_bytes() - held
    assert drive.stats()["violations"] == []


def test_half_done_sessions_go_on_at_their_offset(rig: Rig, drive: Emulator) -> None:
    cut_off(rig, drive, "503:chunk@3*")  # a part takes three
    shutil.rmtree(rig.temp)
    sessions = {one["id"]: one["stored"] for one in drive.stats()["sessions"] if one["state"] == "open"}
    assert sessions  # one part may be through in three chunks, before the next one is packed
    since = len(drive.log())
    complete(rig)
    chunks = [entry for entry in drive.log(since) if "chunk" in entry["kinds"]]
    for session, held in sessions.items():
        first = next(entry for entry in chunks if session in entry["path"])
        assert first["content_range"].startswith(f"bytes {held}-")


def test_a_damaged_temp_part_is_built_again(rig: Rig, drive: Emulator) -> None:
    """Same size, one bit wrong: its checksum tells, before a byte of it is sent."""
    cut_off(rig, drive, "403-storageFull@1*")
    damaged = sorted(rig.temp.rglob("*.zip"))[0]
    content = bytearray(damaged.read_bytes())
    content[len(content) // 2] ^= 1
    damaged.write_bytes(content)
    complete(rig)
    assert not any("other bytes" in notice for notice in rig.notices())


def test_a_temp_part_cut_short_during_the_run_is_built_again(rig: Rig, drive: Emulator) -> None:
    done = threading.Event()

    def cut_short(event: Event) -> None:
        if isinstance(event, BytesSent) and event.sent and not done.is_set():
            done.set()
            (part,) = rig.temp.rglob(f"t-{event.number:05d}.zip")
            os.truncate(part, UNIT)

    rig.on_event = cut_short
    complete(rig, uploads=1)
    assert done.is_set()
    assert any("built again" in notice for notice in rig.notices())


def test_the_temp_folder_may_vanish_during_the_run(rig: Rig, drive: Emulator) -> None:
    """Somebody cleans /tmp: packing and uploading mend it by themselves."""
    times = iter([True] * 3)

    def clean(event: Event) -> None:
        if isinstance(event, PackStarted) and next(times, False):
            shutil.rmtree(rig.temp, ignore_errors=True)

    rig.on_event = clean
    complete(rig)
    assert next(times, None) is None


def test_a_source_that_changed_starts_its_part_afresh(rig: Rig, drive: Emulator) -> None:
    cut_off(rig, drive, "503:chunk@4*")
    with Ledger(rig.ledger_path) as ledger:
        begun = next(part for part in ledger.parts() if part.session is not None)
        path = next(iter(ledger.selection(begun.number)))[0].decode()  # type: ignore[union-attr]
    file = rig.directory / "source" / path
    old = file.stat()
    file.write_bytes(os.urandom(old.st_size))
    os.utime(file, ns=(old.st_atime_ns, old.st_mtime_ns))  # a change that only the bytes tell
    shutil.rmtree(rig.temp)
    result = rig.push()
    # The planner may see the change before the part is built again: then a newer part has the file once more.
    assert (result.state, result.failed) == ("complete", [])
    shelf = Shelf(rig.url)
    zips = {one["name"]: shelf.content(one["id"]) for one in shelf.files if one["name"].endswith(".zip")}
    newest = {member: digest for _, data in sorted(zips.items()) for member, digest in members_of([data])}
    assert newest[path.encode()] == hashlib.sha256(file.read_bytes()).hexdigest()
    assert result.files == len(newest)
    assert any("source changed" in notice and "starts afresh" in notice for notice in rig.notices())


# -- the ledger ------------------------------------------------------------------------------------------------------


def test_a_deleted_ledger_of_a_finished_push_costs_nothing(rig: Rig, drive: Emulator) -> None:
    complete(rig, share="anyone")
    shutil.rmtree(rig.directory / "home")
    before = received(drive)
    complete(rig)
    assert received(drive) == before
    assert any("no ledger of it here" in notice for notice in rig.notices())


@pytest.mark.parametrize("plan", ["403-projectCap@3", "403-projectCap@4", "503:chunk@4*", "403-storageFull@1*"])
def test_a_ledger_deleted_half_way(plan: str, rig: Rig, drive: Emulator) -> None:
    """What is stored is kept; what was on its way begins again, since the session URIs are lost, too."""
    cut_off(rig, drive, plan)
    shutil.rmtree(rig.directory / "home")
    there = Shelf(rig.url).part_bytes()
    before = received(drive)
    complete(rig, recut=True)
    stored = Shelf(rig.url).part_bytes()
    assert received(drive) - before == stored - there


@pytest.mark.parametrize(
    ("lost", "plan"),
    [
        ("home/ledgers", "403-projectCap@4"),
        ("home/ledgers", "503:chunk@4*"),
        ("home/ledgers", "503:get@2*"),
        ("home", "403-projectCap@4"),
        ("home", "503:chunk@4*"),
    ],
)
def test_a_ledger_deleted_at_once_while_lists_lag(lost: str, plan: str, rig: Rig, drive: Emulator) -> None:
    """Nothing that was made a moment ago is in any list yet: neither the folder nor its parts."""
    rig.list_lag = 1.5
    cut_off(rig, drive, f"{plan},list-lag*=1.2")
    shutil.rmtree(rig.directory / lost)
    complete(rig, recut=True)
    assert len(Shelf(rig.url).folders()) == 1


def test_a_broken_or_wrong_anchor_does_no_harm(rig: Rig, drive: Emulator) -> None:
    complete(rig)
    before = received(drive)
    for content in (b"", b"{", b"[]", b'{"folder_id": 1}', b"\xff", b'{"folder_id": "x", "job": "y"}'):
        rig.ledger_path.unlink()
        (anchor,) = (rig.directory / "home" / "folders").iterdir()
        anchor.write_bytes(content)
        complete(rig)
        assert received(drive) == before, content


def test_an_anchor_leads_to_a_folder_that_was_renamed(rig: Rig, drive: Emulator) -> None:
    result = rig.push()
    record = drive.drive.store.require(str(result.folder_id))
    record.name = "renamed by its owner"
    drive.drive.store.save(record)
    rig.ledger_path.unlink()
    assert rig.push().folder_id == result.folder_id


def test_lists_are_waited_for_only_after_a_loss_and_only_when_something_was_sent_just_now(
    rig: Rig, drive: Emulator
) -> None:
    account, began = rig.directory / "home" / "account.sqlite", time.time()
    complete(rig)
    assert account.stat().st_mtime > began - 2  # which is how a run knows when bytes left last
    complete(rig)
    assert not waited_for_lists(rig)
    rig.ledger_path.unlink()
    os.utime(account)  # a busy machine may have taken longer than lists lag here
    complete(rig)
    assert waited_for_lists(rig)
    rig.ledger_path.unlink()
    os.utime(account, (1, 1))
    complete(rig)
    assert not waited_for_lists(rig)


def waited_for_lists(rig: Rig) -> bool:
    return any(isinstance(event, Waiting) and "lists" in event.why for event in rig.events)


def test_files_that_changed_since_count_as_new(rig: Rig, drive: Emulator) -> None:
    """The zip directories on Drive have CRCs: only what is the same is taken for packed."""
    complete(rig)
    shutil.rmtree(rig.directory / "home")
    (rig.directory / "source" / "d0" / "0000.bin").write_bytes(b"other")
    result = rig.push()
    assert result.error is None and result.parts == 5
    newest = next(one for one in Shelf(rig.url).files if one["name"] == "t-00004.zip")
    assert [path for path, _ in members_of([Shelf(rig.url).content(newest["id"])])] == [b"d0/0000.bin"]


def damage(path: Path, how: str) -> None:
    if how == "cut to half":
        os.truncate(path, path.stat().st_size // 2)
    elif how == "cut to 10 bytes":
        os.truncate(path, 10)
    elif how == "cut to nothing":
        os.truncate(path, 0)
    elif how == "noise":
        path.write_bytes(os.urandom(path.stat().st_size))
    elif how == "noise inside":
        content = bytearray(path.read_bytes())
        content[4096:12288] = os.urandom(8192)
        path.write_bytes(content)
    elif how == "newer":
        with sqlite3.connect(path) as db:
            db.execute(f"PRAGMA user_version={SCHEMA_VERSION + 1}")
        db.close()
    else:
        raise AssertionError(how)


@pytest.mark.parametrize("how", ["cut to half", "cut to 10 bytes", "cut to nothing", "noise", "noise inside", "newer"])
def test_a_damaged_ledger_is_set_aside_and_rebuilt(how: str, rig: Rig, drive: Emulator) -> None:
    complete(rig)
    path = rig.ledger_path
    damage(path, how)
    damaged = path.read_bytes()
    before = received(drive)
    complete(rig)
    assert received(drive) == before
    if how != "cut to nothing":  # an empty file holds nothing to keep
        kept = [one for one in path.parent.iterdir() if ".damaged-" in one.name]
        assert [one.read_bytes() for one in kept] == [damaged]
        assert any("cannot be used" in notice and kept[0].name in notice for notice in rig.notices())


def test_a_ledger_damaged_twice_in_a_second_is_kept_twice(rig: Rig, drive: Emulator) -> None:
    complete(rig)
    for content in (b"first" * 100, b"second" * 100):
        rig.ledger_path.write_bytes(content)
        rig.push()
    kept = [one.read_bytes() for one in rig.ledger_path.parent.iterdir() if ".damaged-" in one.name]
    assert sorted(kept) == [b"first" * 100, b"second" * 100]


def test_a_recovery_that_is_cut_off_can_be_repeated(rig: Rig, drive: Emulator) -> None:
    complete(rig)
    shutil.rmtree(rig.directory / "home")
    drive.set_faults("503:download@3*")
    assert rig.push().error is not None
    drive.set_faults("")
    before = received(drive)
    complete(rig)
    assert received(drive) == before


def test_a_folder_of_another_source_is_not_mixed_with(rig: Rig, drive: Emulator) -> None:
    complete(rig, include=())
    shutil.rmtree(rig.directory / "home")
    other = type(rig.source)(rig.directory / "source", include=("*.bin",))
    result = rig.push(other)
    assert isinstance(result.error, UsageError) and "other settings" in str(result.error)


@pytest.mark.parametrize("kind", ["indexed", "stream"])
def test_gaps_between_the_parts_found_are_filled(kind: str, rig: Rig, drive: Emulator) -> None:
    """The middle part was never stored when the ledger went: its samples must not be forgotten."""
    (rig.directory / "samples.py").write_text(SAMPLES)
    source = PythonSource(f"samples.py:{kind}", rig.directory)
    rig.part_size = 700_000
    assert rig.push(source).state == "complete"
    shelf = Shelf(rig.url)
    gone = next(one for one in shelf.files if one["name"] == "t-00001.zip")
    members = dict(members_of(shelf.content(one["id"]) for one in shelf.files if one["name"].endswith(".zip")))
    drive.drive.store.delete(drive.drive.store.require(gone["id"]))
    shutil.rmtree(rig.directory / "home")
    result = rig.push(source)
    assert result.error is None and result.samples == 150
    assert Shelf(rig.url).problems({}, recut=members) == []


def test_a_lost_ledger_of_pictures(rig: Rig, drive: Emulator) -> None:
    """A generator's samples are known by their range: nothing is made again."""
    for folder in ("bg", "fg"):
        (rig.directory / folder).mkdir()
    make_pictures(rig.directory)
    source = CompositeSource(rig.directory / "bg", rig.directory / "fg", size=64, placements=4)
    rig.part_size = 30_000
    assert rig.push(source).state == "complete"
    shutil.rmtree(rig.directory / "home")
    before = received(drive)
    result = rig.push(source)
    assert result.error is None and not any(isinstance(event, PackStarted) for event in rig.events)
    assert received(drive) == before


def make_pictures(directory: Path) -> None:
    from PIL import Image

    for folder, mode in (("bg", "RGB"), ("fg", "RGBA")):
        for number in range(2):
            colour = tuple(40 * number + 50 for _ in mode)
            Image.new(mode, (80, 60), colour).save(directory / folder / f"{number}.png")


def test_a_ledger_on_a_full_disk_is_not_taken_for_damaged(rig: Rig, drive: Emulator) -> None:
    """Its own error, with advice; the file stays where it is and the next run goes on with it."""
    cut_off(rig, drive, "403-projectCap@4")
    before = rig.ledger_path.read_bytes()
    code = run_limited(rig, ledger_limit=len(before))
    assert code == 73
    assert not [one for one in rig.ledger_path.parent.iterdir() if "damaged" in one.name]
    complete(rig)


# -- the disk --------------------------------------------------------------------------------------------------------


def run_limited(rig: Rig, *, ledger_limit: int) -> int:
    """A push in a process that may write no file beyond that size: what a full disk is to SQLite."""
    script = textwrap.dedent(
        f"""
        import resource, sys
        resource.setrlimit(resource.RLIMIT_FSIZE, ({ledger_limit}, {ledger_limit}))
        from tests.rig import Rig
        from pathlib import Path
        result = Rig(Path({str(rig.directory)!r}), {rig.url!r}, part_size={rig.part_size}).push()
        print(type(result.error).__name__, result.error, result.error and result.error.advice)
        sys.exit(result.error.exit_code if result.error else 0)
        """
    )
    done = subprocess.run([sys.executable, "-c", script], env=environment(), capture_output=True, text=True, timeout=60)
    assert "Error" not in done.stderr, done.stderr
    return done.returncode


@pytest.mark.skipif(sys.platform == "win32", reason="file size limits are a POSIX matter")
def test_no_room_while_packing_ends_with_a_clear_message(rig: Rig, drive: Emulator) -> None:
    """RLIMIT_FSIZE fails a write in the middle of a part, as a full disk does."""
    assert run_limited(rig, ledger_limit=500_000) == 73
    assert rig.in_temp() == [], "a part that could not be built was left"
    complete(rig)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 70 MiB."""
    if sys.platform != "linux" or os.geteuid() != 0:
        pytest.skip("mounting a small file system takes root on Linux")
    mounted = tmp_path / "small"
    mounted.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=70m", "none", str(mounted)], check=False).returncode:
        pytest.skip("this machine does not let a file system be mounted")
    yield mounted
    subprocess.run(["umount", str(mounted)], check=True)


def test_a_full_disk_is_told_before_packing(rig: Rig, drive: Emulator, small_disk: Path) -> None:
    """64 MiB are left to everybody else, so four parts at a time do not fit: the run goes on with fewer."""
    rig.part_size = 2_500_000
    assert rig.push(temp=small_disk).error is None
    (small_disk / "others").write_bytes(bytes(60 * 2**20))
    (rig.directory / "source" / "more").write_bytes(bytes(2_000_000))
    result = rig.push(temp=small_disk)
    assert type(result.error) is TempFull and "free" in str(result.error) and result.error.advice
    (small_disk / "others").unlink()
    assert rig.push(temp=small_disk).error is None


def test_a_temp_limit_smaller_than_a_part_makes_smaller_parts(rig: Rig, drive: Emulator) -> None:
    result = rig.push(temp_limit=500_000)
    assert (result.state, result.failed) == ("complete", [])
    sizes = [int(one["size"]) for one in Shelf(rig.url).files if one["name"].endswith(".zip")]
    assert max(sizes) <= 500_000
    assert rig.push().sent_bytes == 0


def test_a_part_of_unknown_size_that_outgrows_the_limit(rig: Rig, drive: Emulator) -> None:
    """A generated part is estimated; one that turns out larger than all there is ends with the same code."""
    (rig.directory / "samples.py").write_text(SAMPLES.replace("20_000", "20_000 * (1 + 40 * (index > 140))"))
    source = PythonSource("samples.py:stream", rig.directory)
    result = rig.push(source, part_size=300_000, temp_limit=400_000)
    assert isinstance(result.error, PartTooLarge) and result.error.exit_code == 73
    assert rig.push(source, part_size=300_000).error is None


@pytest.mark.skipif(sys.platform == "win32" or os.geteuid() == 0, reason="root may write anywhere; not on Windows")
def test_a_temp_folder_that_may_not_be_written(rig: Rig, drive: Emulator) -> None:
    rig.temp.mkdir()
    rig.temp.chmod(stat.S_IRUSR | stat.S_IXUSR)
    result = rig.push()
    assert isinstance(result.error, TempFull) and "cannot be written" in str(result.error)


def test_a_temp_folder_that_cannot_be_made(rig: Rig, drive: Emulator) -> None:
    rig.temp.write_bytes(b"a file is in its place")
    result = rig.push()
    assert type(result.error) is TempFull and result.error.exit_code == 73
    rig.temp.unlink()
    complete(rig)


def test_what_a_crash_left_is_swept(rig: Rig, drive: Emulator) -> None:
    cut_off(rig, drive, "503:chunk@4*")
    (spool,) = [path for path in rig.temp.iterdir() if path.is_dir()]
    (spool / ".building-00099").write_bytes(bytes(1000))
    (spool / "t-00077.zip").write_bytes(bytes(1000))
    complete(rig)
    assert not (spool / ".building-00099").exists() and not (spool / "t-00077.zip").exists()


def test_other_peoples_files_in_temp_are_left_alone(rig: Rig, drive: Emulator) -> None:
    rig.temp.mkdir()
    (rig.temp / "t-00000.zip").write_bytes(b"not ours")
    result = rig.push()
    assert result.state == "complete"
    assert rig.in_temp() == ["t-00000.zip"]


@pytest.mark.parametrize("engine", ["serial", "threads", "processes"])
def test_temp_never_holds_more_than_its_limit(engine: str, rig: Rig, drive: Emulator) -> None:
    """Measured by looking, all the time, at what is on the disk. The line is slow, so parts wait."""
    limit = 2_600_000
    drive.drive.line.set_bandwidth(8_000_000)
    seen = [0]
    ended = threading.Event()

    def watch() -> None:
        while not ended.is_set():
            seen.append(bytes_below(rig.temp))
            time.sleep(0.001)

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        complete(rig, temp_limit=limit, engine=engine, workers=2)
    finally:
        ended.set()
        watcher.join()
    assert 1_000_000 < max(seen) <= limit
    assert len(seen) > 100


def bytes_below(root: Path) -> int:
    total = 0
    for folder, _, names in os.walk(root):
        for name in names:
            try:
                total += os.lstat(os.path.join(folder, name)).st_size
            except FileNotFoundError:
                continue
    return total


def test_a_stop_in_the_middle_leaves_nothing_that_hurts(rig: Rig, drive: Emulator) -> None:
    """Stopped at the first byte of every kind of step, again and again, it still ends complete."""
    for limit in (1, 3, 6, 10, 15, 25, 40):
        clock = Clock()
        count = iter(range(limit))

        def stop(event: Event, clock: Clock = clock, count: Iterator[int] = count) -> None:
            if next(count, None) is None:
                clock.stop.set()

        rig.on_event = stop
        error = rig.push(clock=clock).error
        assert error is None or isinstance(error, Interrupted)
    rig.on_event = lambda event: None
    complete(rig)
