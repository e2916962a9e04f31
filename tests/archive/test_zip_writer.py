"""Zips that every zip tool reads, whose bytes depend on their members alone."""

from __future__ import annotations

import errno
import hashlib
import os
import shutil
import subprocess
import threading
import time
import zipfile
from collections.abc import Iterable, Iterator
from itertools import product
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from driveshard.archive import zip_writer as zipwriter
from driveshard.archive.checksums import Block, Checksums
from driveshard.archive.zip_size import EMPTY_ZIP, ZIP64_END, member_cost, misleads, zip_size
from driveshard.archive.zip_writer import ZipSummary, ZipWriter
from driveshard.core.errors import Interrupted, PartTooLarge, SourceChanged, TempFull, UsageError

Members = list[tuple[bytes, bytes]]

ODD_NAMES: Members = [
    (b"a/empty.txt", b""),
    (b"back\\slash.txt", b"1"),
    (b"dir/" + b"n" * 246 + b".txt", b"250 bytes in the last step"),
    (b"double\"quote'single.txt", b"2"),
    (b"latin-\xe9.txt", b"a name that is not UTF-8"),
    (b"line\nbreak.txt", b"3"),
    (b"white space.txt ", b"4"),
    ("smile-\N{GRINNING FACE}.jpg".encode(), b"5"),
    ("ungl\N{LATIN SMALL LETTER U WITH DIAERESIS}ck/\N{CJK UNIFIED IDEOGRAPH-732B}.png".encode(), b"6"),
]

name_steps = st.binary(min_size=1, max_size=12).filter(lambda step: b"\0" not in step and b"/" not in step)
paths = st.lists(name_steps, min_size=1, max_size=3).map(b"/".join)
texts = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0/"), min_size=1, max_size=8)
any_path = st.one_of(paths, texts.map(str.encode))
any_members = st.dictionaries(any_path, st.binary(max_size=300), max_size=12).map(lambda found: sorted(found.items()))


# The last name is where a reader looks for zip64's locator, and begins like one.
MISLEADING = [(b"a", b"1"), (b"x" * 7 + b"PK\6\7" + b"/" + b"y" * 15, b"22")]


def write(path: Path, members: Iterable[tuple[bytes, bytes]], **limits: int) -> ZipSummary:
    with ZipWriter(path, **limits) as writer:
        for name, data in members:
            writer.add(name, data)
        return writer.close()


def read(path: Path) -> Members:
    """What the standard library's reader finds; testzip() compares every CRC."""
    with zipfile.ZipFile(path) as archive:
        assert archive.testzip() is None
        return [(raw_name(info), archive.read(info)) for info in archive.infolist()]


def raw_name(info: zipfile.ZipInfo) -> bytes:
    return info.orig_filename.encode("utf-8" if info.flag_bits & 0x800 else "cp437")


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("zips")


@pytest.fixture(autouse=True)
def no_thread_is_left() -> Iterator[None]:
    before = set(threading.enumerate())
    yield
    assert set(threading.enumerate()) <= before  # one of an earlier test may end meanwhile


@given(members=any_members)
@example(members=MISLEADING)
@settings(max_examples=150, deadline=None)
def test_any_members_come_back_and_always_give_the_same_bytes(shared: Path, members: Members) -> None:
    one, two = shared / "one.zip", shared / "two.zip"
    summary = write(one, members)
    assert write(two, members) == summary
    content = one.read_bytes()
    assert content == two.read_bytes()
    assert read(one) == members
    more = ZIP64_END if members and misleads(members[-1][0]) else 0
    assert summary.size == len(content) == zip_size((len(name), len(data)) for name, data in members) + more
    assert summary.md5 == hashlib.md5(content).hexdigest()
    assert summary.sha256 == hashlib.sha256(content).hexdigest()


@given(members=any_members, limit=st.integers(0, 1500), member_limit=st.integers(0, 14))
@settings(max_examples=150, deadline=None)
def test_zip64_begins_where_it_must_and_reads_the_same(
    shared: Path, members: Members, limit: int, member_limit: int
) -> None:
    path = shared / "lowered.zip"
    with ZipWriter(path, limit=limit, member_limit=member_limit) as writer:
        for name, data in members:
            writer.add(name, data)
        foretold = writer.size
        assert writer.close().size == foretold == path.stat().st_size
    assert read(path) == members


def test_what_stands_in_the_headers(tmp_path: Path) -> None:
    write(tmp_path / "a.zip", ODD_NAMES)
    with zipfile.ZipFile(tmp_path / "a.zip") as archive:
        for info in archive.infolist():
            assert info.date_time == (1980, 1, 1, 0, 0, 0)
            assert (info.create_system, info.external_attr >> 16) == (3, 0o100644)
            assert (info.compress_type, info.extra, info.comment) == (zipfile.ZIP_STORED, b"", b"")
        flagged = [raw_name(info) for info in archive.infolist() if info.flag_bits]
        assert flagged == [ODD_NAMES[-2][0], ODD_NAMES[-1][0]]
        assert {info.flag_bits for info in archive.infolist()} == {0, 0x800}


def test_a_name_that_looks_like_a_record_is_read_by_all(tmp_path: Path) -> None:
    """Also when it comes last only because what came after it did not fit."""
    for count, after in enumerate([[], [(b"z", bytes(500))]]):
        path = tmp_path / f"{count}.zip"
        with ZipWriter(path, max_bytes=400) as writer:
            for name, data in MISLEADING:
                writer.add(name, data)
            for name, data in after:
                with pytest.raises(PartTooLarge):
                    writer.add(name, data)
            assert writer.close().size == path.stat().st_size
        assert read(path) == MISLEADING
        if shutil.which("unzip"):
            assert subprocess.run(["unzip", "-tqq", path], check=False).returncode == 0


@pytest.mark.parametrize("limits", [{}, {"limit": 60, "member_limit": 3}], ids=["plain", "zip64"])
@pytest.mark.parametrize("command", [["unzip", "-tqq"], ["7z", "t", "-bd"]], ids=["Info-ZIP", "7-Zip"])
def test_other_tools_find_nothing_wrong(tmp_path: Path, command: list[str], limits: dict[str, int]) -> None:
    if shutil.which(command[0]) is None:
        pytest.skip(f"{command[0]} is not installed")
    path = tmp_path / "a.zip"
    write(path, ODD_NAMES, **limits)
    told = subprocess.run([*command, path], capture_output=True, text=True, errors="replace", check=False)
    assert told.returncode == 0, told.stdout + told.stderr
    assert "warning" not in (told.stdout + told.stderr).lower()


@pytest.mark.skipif(shutil.which("unzip") is None or os.name == "nt", reason="needs Info-ZIP on Unix")
def test_info_zip_restores_every_name_byte_for_byte(tmp_path: Path) -> None:
    """-^ allows control characters in names."""
    write(tmp_path / "a.zip", ODD_NAMES)
    subprocess.run(
        ["unzip", "-qq", "-^", tmp_path / "a.zip", "-d", tmp_path / "out"],
        check=True,
        env={**os.environ, "LC_ALL": "C.UTF-8"},
    )
    root = os.fsencode(tmp_path / "out")
    found = {os.path.relpath(os.path.join(folder, name), root) for folder, _, names in os.walk(root) for name in names}
    assert found == {name for name, _ in ODD_NAMES}
    for name, data in ODD_NAMES:
        assert Path(os.fsdecode(os.path.join(root, name))).read_bytes() == data


@pytest.mark.parametrize("count", [65_534, 65_535, 65_536])
def test_more_members_than_the_plain_directory_counts(tmp_path: Path, count: int) -> None:
    path = tmp_path / "many.zip"
    summary = write(path, ((b"%06d" % number, b"x") for number in range(count)))
    with zipfile.ZipFile(path) as archive:
        assert len(archive.infolist()) == count
        assert archive.read(f"{count - 1:06d}") == b"x"
    assert summary.size == path.stat().st_size == zip_size([(6, 1)] * count)
    assert (b"PK\6\6" in path.read_bytes()[-200:]) is (count >= 65_535)


def test_size_arithmetic_at_the_borders_of_zip64() -> None:
    full = 0xFFFFFFFF
    assert member_cost(5, 10) == 30 + 46 + 10 + 10
    assert member_cost(5, full - 1) == member_cost(5, 0) + full - 1
    assert member_cost(5, full) == member_cost(5, 0) + full + 40
    assert member_cost(5, 10, offset=full - 1) == member_cost(5, 10)
    assert member_cost(5, 10, offset=full) == member_cost(5, 10) + 12
    assert member_cost(5, full, offset=full) == member_cost(5, 0) + full + 48
    assert zip_size([]) == EMPTY_ZIP
    assert zip_size([(5, full)]) == member_cost(5, full) + EMPTY_ZIP + ZIP64_END


@pytest.mark.skipif(not os.environ.get("DRIVESHARD_BIG"), reason="writes 4.3 GB; set DRIVESHARD_BIG=1 to run it")
def test_a_member_beyond_4_gib_and_one_behind_it(tmp_path: Path) -> None:
    big, path = tmp_path / "big.bin", tmp_path / "big.zip"
    size = (1 << 32) + 12_345
    with open(big, "wb") as file:
        file.seek(size - 3)
        file.write(b"end")
    with ZipWriter(path) as writer:
        assert writer.add_file(b"big.bin", big) == size
        writer.add(b"small.txt", b"behind")
        summary = writer.close()
    assert summary.size == path.stat().st_size == zip_size([(7, size), (9, 6)])
    with zipfile.ZipFile(path) as archive:
        assert archive.getinfo("big.bin").file_size == size
        assert archive.read("small.txt") == b"behind"
    if shutil.which("unzip"):
        subprocess.run(["unzip", "-tqq", path], check=True)


@pytest.mark.parametrize("size", [0, 1, (1 << 20) - 1, 1 << 20, (3 << 20) + 7])
def test_every_way_in_gives_the_same_zip(tmp_path: Path, size: int) -> None:
    data = os.urandom(size)
    file = tmp_path / "data"
    file.write_bytes(data)
    ways = [
        data,
        bytearray(data),
        memoryview(data),
        memoryview(data * 4).cast("I")[: size // 4] if size % 4 == 0 else data,
    ]
    made = []
    for number, (way, spare_core) in enumerate(product(ways, (True, False))):
        with ZipWriter(tmp_path / f"{number}.zip", spare_core=spare_core) as writer:
            writer.add(b"first", b"before")
            mine = bytearray(way) if type(way) is bytearray else way
            writer.add(b"middle", mine)
            if type(mine) is bytearray:
                mine[:] = bytes(size)  # what was added is in the zip, whatever becomes of it
            writer.add(b"third", b"after")
            made.append(writer.close())
    with ZipWriter(tmp_path / "file.zip") as writer:
        writer.add(b"first", b"before")
        assert writer.add_file(b"middle", file) == size
        writer.add(b"third", b"after")
        made.append(writer.close())
    assert len(set(made)) == 1
    assert read(tmp_path / "file.zip") == [(b"first", b"before"), (b"middle", data), (b"third", b"after")]


def test_files_are_read_on_while_their_last_block_is_hashed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """However long that takes: no block is overwritten before."""
    update = Checksums._update_md5

    def slow(self: Checksums, block: Block) -> None:
        time.sleep(0.02)
        update(self, block)

    monkeypatch.setattr(Checksums, "_update_md5", slow)
    for number in range(3):
        (tmp_path / f"{number}").write_bytes(os.urandom((2 << 20) + number))
    with ZipWriter(tmp_path / "a.zip") as writer:
        for number in range(3):
            writer.add_file(b"%d" % number, tmp_path / f"{number}")
        made = writer.close()
    data = (tmp_path / "a.zip").read_bytes()
    assert (made.md5, made.sha256) == (hashlib.md5(data).hexdigest(), hashlib.sha256(data).hexdigest())
    assert read(tmp_path / "a.zip") == [(b"%d" % n, (tmp_path / f"{n}").read_bytes()) for n in range(3)]


def test_it_counts_and_remembers_first_and_last(tmp_path: Path) -> None:
    with ZipWriter(tmp_path / "a.zip") as writer:
        assert (writer.members, writer.first, writer.last, writer.size) == (0, None, None, EMPTY_ZIP)
        writer.add(b"a", b"1")
        writer.add(b"b", b"22")
        assert (writer.members, writer.first, writer.last) == (2, b"a", b"b")
        assert writer.size == zip_size([(1, 1), (1, 2)])


@given(members=any_members, short=st.integers(1, 400))
@example(members=MISLEADING, short=1)
@example(members=[*MISLEADING, (b"z", b"")], short=40)
@settings(max_examples=100, deadline=None)
def test_the_limit_is_never_passed_and_what_did_not_fit_leaves_no_trace(
    shared: Path, members: Members, short: int
) -> None:
    limit = max(EMPTY_ZIP, zip_size((len(name), len(data)) for name, data in members) - short)
    path, fitting = shared / "limited.zip", []
    with ZipWriter(path, max_bytes=limit) as writer:
        for name, data in members:
            try:
                writer.add(name, data)
            except PartTooLarge as error:
                assert error.needed > error.limit == limit
            else:
                fitting.append((name, data))
        assert writer.close().size == path.stat().st_size <= limit
    assert read(path) == fitting


def test_a_file_that_does_not_fit_leaves_no_trace(tmp_path: Path) -> None:
    (tmp_path / "large").write_bytes(bytes(3 << 20))
    with ZipWriter(tmp_path / "a.zip", max_bytes=1 << 20) as writer:
        writer.add(b"a", b"1")
        with pytest.raises(PartTooLarge):
            writer.add_file(b"b", tmp_path / "large")
        writer.close()
    assert read(tmp_path / "a.zip") == [(b"a", b"1")]


class Meddler:
    """Called before every block the writer reads; at the given call it does something to the file."""

    def __init__(self, at: int, deed: object) -> None:
        self.calls, self.at, self.deed = 0, at, deed

    def __call__(self) -> None:
        self.calls += 1
        if self.calls == self.at and callable(self.deed):
            self.deed()


# The file has four blocks: calls 2..5 are the first reading (1 is the member before), 6..9 the second.
@pytest.mark.parametrize("at", [6, 7, 9])
@pytest.mark.parametrize("change", ["grows", "shrinks", "other bytes"])
def test_a_file_that_changes_while_it_is_read_leaves_no_trace(tmp_path: Path, change: str, at: int) -> None:
    file = tmp_path / "data"
    file.write_bytes(b"x" * (4 << 20))

    def meddle() -> None:
        with open(file, "r+b") as handle:
            if change == "shrinks":
                handle.truncate((4 << 20) - 1)
            else:
                handle.seek((4 << 20) - (1 if change == "other bytes" else 0))
                handle.write(b"y")

    # The last block is already in hand at call 9 unless the file grows, so there the change comes too late to matter.
    late = at == 9 and change != "grows"
    with ZipWriter(tmp_path / "a.zip", check=Meddler(at, meddle)) as writer:
        writer.add(b"a", b"1")
        before = writer.size
        if late:
            writer.add_file(b"b", file)
        else:
            with pytest.raises(SourceChanged):
                writer.add_file(b"b", file)
            assert (writer.size, writer.members, writer.last) == (before, 1, b"a")
        writer.add(b"c", b"3")
        summary = writer.close()
    middle = [(b"b", b"x" * (4 << 20))] if late else []
    assert read(tmp_path / "a.zip") == [(b"a", b"1"), *middle, (b"c", b"3")]
    assert summary == write(tmp_path / "same.zip", [(b"a", b"1"), *middle, (b"c", b"3")])


def test_a_file_that_cannot_be_read_leaves_no_trace(tmp_path: Path) -> None:
    with ZipWriter(tmp_path / "a.zip") as writer:
        writer.add(b"a", b"1")
        with pytest.raises(FileNotFoundError):
            writer.add_file(b"b", tmp_path / "missing")
        with pytest.raises(OSError):
            writer.add_file(b"b", tmp_path)
        summary = writer.close()
    assert summary == write(tmp_path / "same.zip", [(b"a", b"1")])


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
def test_a_pipe_in_a_files_place_does_not_hang(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with ZipWriter(tmp_path / "a.zip") as writer, pytest.raises(OSError, match="not a regular file"):
        writer.add_file(b"b", tmp_path / "pipe")


def test_leaving_without_close_removes_the_file(tmp_path: Path) -> None:
    path = tmp_path / "a.zip"
    with ZipWriter(path) as writer:
        writer.add(b"a", bytes(2 << 20))
        assert path.exists()
    assert not path.exists()
    writer.abort()
    write(path, [(b"a", b"1")])
    assert path.exists()


def test_check_can_stop_it_before_any_member(tmp_path: Path) -> None:
    stop = threading.Event()

    def check() -> None:
        if stop.is_set():
            raise Interrupted("stopped")

    with ZipWriter(tmp_path / "a.zip", check=check) as writer:
        writer.add(b"a", b"1")
        stop.set()
        with pytest.raises(Interrupted):
            writer.add(b"b", b"2")
        assert writer.members == 1


def test_a_name_too_long_for_any_zip_is_refused(tmp_path: Path) -> None:
    with ZipWriter(tmp_path / "a.zip") as writer:
        writer.add(b"n" * 65_535, b"1")
        with pytest.raises(UsageError):
            writer.add(b"n" * 65_536, b"2")
        writer.close()
    assert len(read(tmp_path / "a.zip")) == 1


def test_a_missing_folder_is_trouble_with_the_temp_disk(tmp_path: Path) -> None:
    with pytest.raises(TempFull) as caught:
        ZipWriter(tmp_path / "missing" / "a.zip")
    assert isinstance(caught.value.__cause__, FileNotFoundError)


def test_an_error_in_the_middle_ends_the_thread_and_removes_the_file(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), ZipWriter(tmp_path / "a.zip") as writer:
        for number in range(40):
            writer.add(b"%03d" % number, bytes(100_000))
        assert threading.active_count() > 1
        raise ZeroDivisionError
    assert not (tmp_path / "a.zip").exists()


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")
def test_a_disk_that_fills_up_stops_the_next_member(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.zip"
    monkeypatch.setattr(zipwriter, "create_private", lambda _: os.open("/dev/full", os.O_WRONLY))
    with pytest.raises(TempFull, match="no room left in"), ZipWriter(path) as writer:
        for number in range(40):
            writer.add(b"%03d" % number, bytes(100_000))


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")
def test_a_full_disk_is_told_as_such(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.zip"
    monkeypatch.setattr(zipwriter, "create_private", lambda _: os.open("/dev/full", os.O_WRONLY))
    with ZipWriter(path) as writer:
        writer.add(b"a", b"1")
        with pytest.raises(TempFull, match="no room left in") as caught:
            writer.close()
    assert isinstance(caught.value.__cause__, OSError)
    assert caught.value.__cause__.errno == errno.ENOSPC


@pytest.mark.skipif(os.name == "nt", reason="modes of POSIX")
def test_a_zip_is_its_owners_and_a_link_in_its_place_is_not_written_through(tmp_path: Path) -> None:
    victim, path = tmp_path / "victim", tmp_path / "a.zip"
    victim.write_text("mine")
    path.symlink_to(victim)
    before = os.umask(0)
    try:
        with ZipWriter(path) as writer:
            writer.add(b"a", b"1")
            writer.close()
    finally:
        os.umask(before)
    assert victim.read_text() == "mine"
    assert not path.is_symlink()
    assert path.stat().st_mode & 0o777 == 0o600
