"""Cutting a folder: samples whole, sizes exact, and the same cut whatever interrupted it."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from itertools import groupby, islice, pairwise
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from driveshard.archive.zip_size import EMPTY_ZIP, member_cost, members_cost, zip_size
from driveshard.core.clock import Clock
from driveshard.core.errors import SourceMissing
from driveshard.core.events import Notice, Planned, Scanned, SourceFailed
from driveshard.core.model import FileList, Part, sample_key
from driveshard.sources.folder import FolderSource
from driveshard.sources.stamps import Stamps
from driveshard.upload.ledger.ledger import Ledger
from driveshard.upload.pack.build import build_part
from driveshard.upload.plan.base import Cut
from driveshard.upload.plan.files import Cutter, FilePlanner
from driveshard.upload.plan.known import known_rows
from driveshard.upload.plan.registry import planner_for
from tests.fakes import Heard

MakeTree = Callable[[Mapping[str, bytes]], Path]
Row = tuple[bytes, int, int, bool]
"""A row, and whether it replaces a file that an older part holds."""


def key_of(path: bytes) -> str:
    return sample_key(path.decode("latin-1"))


def sizes_of(files: FileList) -> int:
    return zip_size((len(path), size) for path, size, _ in files)


# -- the cutter ----------------------------------------------------------------------------------------------------

STEMS = st.sampled_from([b"a", b"a-b", b"a/b", b"a/c", b"b", b"b/.hidden", b"\xff\xfe", "ü".encode()])
ENDS = st.sampled_from([b"", b".jpg", b".mask.jpg", b".json", b"!x.jpg", b"/z.txt"])
PATHS = st.tuples(STEMS, st.integers(0, 9), ENDS).map(lambda one: one[0] + b"%d" % one[1] + one[2])
ROWS = st.lists(st.tuples(PATHS, st.integers(0, 400), st.booleans()), unique_by=lambda row: row[0], max_size=40).map(
    lambda rows: [(path, size, 7, replaces) for path, size, replaces in sorted(rows)]
)


def in_blocks(rows: list[Row], size: int) -> Iterator[tuple[list[tuple[bytes, int, int, int]], list[bytes]]]:
    """As the scan gives them."""
    for start in range(0, len(rows), size):
        block = rows[start : start + size]
        yield [(*row[:3], 0) for row in block], [row[0] for row in block if row[3]]


def cut_of(
    cut: Cut, rows: list[Row], block: int = 8192, few: int = 32
) -> Iterator[tuple[FileList, int, tuple[int, int]]]:
    return Cutter(cut, few).cut(in_blocks(rows, block))


@given(
    rows=ROWS,
    part_size=st.integers(EMPTY_ZIP, 3000),
    most=st.none() | st.integers(1, 5),
    block=st.integers(1, 50),
    few=st.integers(1, 8),
)
def test_every_sample_is_whole_and_every_part_as_full_as_it_can_be(
    rows: list[Row], part_size: int, most: int | None, block: int, few: int
) -> None:
    parts = list(cut_of(Cut("d", part_size, most), rows, block, few))

    assert [row for files, _, _ in parts for row in files] == [row[:3] for row in rows]
    samples = [[key for key, _ in groupby(path for path, _, _ in files)] for files, _, _ in parts]
    runs = [[key for key, _ in groupby(key_of(path) for path, _, _ in files)] for files, _, _ in parts]
    assert sum(map(len, runs)) == len([key for key, _ in groupby(key_of(row[0]) for row in rows)])
    for (files, estimate, superseded), keys in zip(parts, runs, strict=True):
        assert estimate == sizes_of(files)
        assert estimate <= part_size or len(keys) == 1
        assert len(keys) <= (most or len(samples[0]) + len(rows))
        replaced = [row for row in rows if row[3] and row[:3] in list(files)]
        assert superseded == (len(replaced), len({key_of(row[0]) for row in replaced}))
    for (files, estimate, _), (following, _, _) in pairwise(parts):
        first_key = key_of(next(iter(following))[0])
        next_sample = [row for row in following if key_of(row[0]) == first_key]
        larger = estimate + sum(member_cost(len(path), size) for path, size, _ in next_sample)
        assert larger > part_size or len({key_of(path) for path, _, _ in files}) == most


@given(rows=ROWS, part_size=st.integers(100, 2000), most=st.none() | st.integers(1, 4), stop=st.integers(0, 8))
def test_cutting_on_after_some_parts_cuts_as_if_nothing_had_happened(
    rows: list[Row], part_size: int, most: int | None, stop: int
) -> None:
    cut = Cut("d", part_size, most)
    whole = list(cut_of(cut, rows))
    begun = list(islice(cut_of(cut, rows, 7), stop))
    done = sum(len(files) for files, _, _ in begun)
    assert begun + list(cut_of(cut, rows[done:], 5, 2)) == whole


@pytest.mark.parametrize("block", [1000, 10**6])
def test_a_part_has_no_more_members_than_any_zip_tool_reads(block: int) -> None:
    rows = [(b"%06d" % number, 0, 0, False) for number in range(65_540)]
    assert [len(files) for files, _, _ in cut_of(Cut("d", 10**9), rows, block)] == [65_534, 6]
    pairs = [(b"%06d.%s" % (number, end), 0, 0, False) for number in range(32_768) for end in (b"a", b"b")]
    assert [len(files) for files, _, _ in cut_of(Cut("d", 10**9), pairs, block)] == [65_534, 2]
    whole = [(b"a.%06d" % number, 0, 0, False) for number in range(65_540)]
    assert [len(files) for files, _, _ in cut_of(Cut("d", 10**9), whole, block)] == [65_540]  # one sample stays whole


def test_a_part_of_very_many_members_is_sized_exactly() -> None:
    rows = [(b"%06d" % number, 0, 0, False) for number in range(65_540)]
    for count in (65_534, 65_535, 65_540):
        ((files, estimate, _),) = cut_of(Cut("d", 10**9, 10**6), rows[:count])
        assert estimate == sizes_of(files)


def test_a_file_larger_than_a_part_is_a_part_of_its_own() -> None:
    rows = [(b"a", 10, 0, False), (b"b", 10**7, 0, False), (b"c", 10, 0, False)]
    parts = [files.split_paths() for files, _, _ in cut_of(Cut("d", 1000), rows)]
    assert parts == [[b"a"], [b"b"], [b"c"]]


def test_parts_beyond_4_gib_have_room_enough() -> None:
    rows = [(b"%03d" % number, 2**27, 0, False) for number in range(40)]
    ((files, estimate, _),) = cut_of(Cut("d", 2**40), rows)
    assert sizes_of(files) <= estimate <= sizes_of(files) + 1000


def test_a_sample_of_very_many_files_is_one_part() -> None:
    rows = [(b"clip.%06d.png" % number, 100, 0, number == 30_000) for number in range(60_000)]
    before, after = (b"a.png", 1, 0, False), (b"d.png", 1, 0, True)
    parts = list(cut_of(Cut("d", 5000), [before, *rows, after]))
    assert [(len(files), superseded) for files, _, superseded in parts] == [(1, (0, 0)), (60_000, (1, 1)), (1, (1, 1))]
    assert [estimate for _, estimate, _ in parts] == [sizes_of(files) for files, _, _ in parts]


SIZES = st.sampled_from([0, 1, 1200, 2**32 - 2, 2**32 - 1, 2**40])


@given(rows=st.lists(st.tuples(st.binary(max_size=20), SIZES), max_size=20))
def test_the_cost_of_many_members_is_the_sum_of_each(rows: list[tuple[bytes, int]]) -> None:
    paths, sizes = [path for path, _ in rows], [size for _, size in rows]
    assert members_cost(paths, sizes) == sum(member_cost(len(path), size) for path, size in rows)


# -- the planner ---------------------------------------------------------------------------------------------------


class Planning:
    """A folder, its ledger, and runs of the planner over it."""

    def __init__(self, root: Path, ledger: Ledger, cut: Cut) -> None:
        self.root = root
        self.ledger = ledger
        self.cut = cut
        self.heard = Heard()

    def run(self, most: int | None = None, *, checksum: bool = False) -> list[int]:
        source = FolderSource(self.root)
        planner = planner_for(source, self.ledger, self.cut, Clock(), self.heard, checksum=checksum)
        assert isinstance(planner, FilePlanner)
        return list(islice(planner.numbers(), most))

    def notices(self) -> str:
        return "\n".join(event.text for event in self.heard if isinstance(event, Notice))

    def paths(self, number: int) -> list[bytes]:
        selection = self.ledger.selection(number)
        assert isinstance(selection, FileList)
        return selection.split_paths()

    def pack(self, number: int) -> Part:
        spec = self.ledger.spec(number)
        target = self.root.parent / spec.file_name
        part = build_part(spec, FolderSource(self.root), target, 10**9)
        self.ledger.packed(part)
        return part


FILES = {f"d{number % 3}/{number:03d}.{end}": bytes(number) for number in range(30) for end in ("jpg", "txt")}


@pytest.fixture
def planning(make_tree: MakeTree, tmp_path: Path) -> Iterator[Planning]:
    with Ledger(tmp_path / "ledger.sqlite") as ledger:
        yield Planning(make_tree(FILES), ledger, Cut("d", 1500))


def test_sizes_are_those_of_the_real_zips(planning: Planning) -> None:
    numbers = planning.run()
    assert len(numbers) > 3
    for number in numbers:
        estimate = planning.ledger.spec(number).estimate
        part = planning.pack(number)
        assert part.size == estimate == (planning.root.parent / part.file_name).stat().st_size
    assert planning.ledger.totals().files == len(FILES)
    assert planning.ledger.totals().samples == len(FILES) // 2


@pytest.mark.parametrize("stop", [0, 1, 2, 5])
def test_an_interrupted_plan_goes_on_as_if_it_had_not_been(planning: Planning, tmp_path: Path, stop: int) -> None:
    with Ledger(tmp_path / "other.sqlite") as other:
        whole = Planning(planning.root, other, planning.cut)
        whole.run()
        planning.run(stop)
        planning.run()
        numbers = [row.number for row in other.parts()]
        assert [row.number for row in planning.ledger.parts()] == numbers
        for number in numbers:
            assert planning.ledger.spec(number) == other.spec(number)


def test_nothing_new_plans_nothing(planning: Planning) -> None:
    planning.run()
    assert planning.run() == []
    last = [event for event in planning.heard if isinstance(event, Scanned)][-1]
    assert last == Scanned(len(FILES), sum(map(len, FILES.values())), complete=True)


def test_new_files_go_to_new_parts(planning: Planning) -> None:
    before = planning.run()
    (planning.root / "d0" / "000.aaa").write_bytes(b"new")
    (planning.root / "zzz").write_bytes(b"new, too")
    (number,) = planning.run()
    assert number == len(before)
    assert planning.paths(number) == [b"d0/000.aaa", b"zzz"]
    assert planning.heard.of(Planned)[-1] == Planned(number, planning.ledger.spec(number).estimate, 2)
    assert planning.run() == []


@pytest.mark.parametrize("change", ["size", "mtime"])
def test_a_changed_file_is_packed_again_and_counted_once(planning: Planning, change: str) -> None:
    for number in planning.run():
        planning.pack(number)
    file = planning.root / "d1" / "010.jpg"
    if change == "size":
        file.write_bytes(b"other")
    else:
        os.utime(file, ns=(1, 1))

    (number,) = planning.run()
    planning.pack(number)

    assert planning.paths(number) == [b"d1/010.jpg"]
    assert (planning.ledger.totals().files, planning.ledger.totals().samples) == (len(FILES), len(FILES) // 2)
    assert planning.run() == []
    os.utime(file, ns=(2, 2))
    assert planning.run() == [number + 1]
    assert planning.run() == []


def test_deleted_files_stay_where_they_are(planning: Planning) -> None:
    planning.run()
    for path in ("d0/000.jpg", "d2/029.txt"):
        (planning.root / path).unlink()
    assert planning.run() == []
    (planning.root / "d0" / "000.jpg").write_bytes(b"back again")
    (number,) = planning.run()
    assert planning.paths(number) == [b"d0/000.jpg"]


def test_a_file_that_could_not_be_read_is_tried_in_the_next_run(planning: Planning) -> None:
    numbers = planning.run()
    (planning.root / "d0" / "003.jpg").rename(planning.root / "away")
    for number in numbers:
        planning.pack(number)
    (planning.root / "away").rename(planning.root / "d0" / "003.jpg")
    (number,) = planning.run()
    assert planning.paths(number) == [b"d0/003.jpg"]


@pytest.mark.skipif(os.name == "nt" or os.geteuid() == 0, reason="needs a directory that may not be listed")
def test_a_folder_that_cannot_be_listed_is_told(planning: Planning) -> None:
    (planning.root / "d1").chmod(0)
    planning.run()
    (planning.root / "d1").chmod(0o700)
    assert [event.path for event in planning.heard if isinstance(event, SourceFailed)] == ["d1"]


def test_known_files_are_those_of_the_newest_parts(planning: Planning) -> None:
    planning.ledger.plan(planning.cut.spec(0, FileList.of([(b"a", 1, 1), (b"c", 1, 1)]), 0), 1)
    planning.ledger.plan(planning.cut.spec(1, FileList.of([(b"d", 1, 1)]), 0), 1)
    planning.ledger.plan(planning.cut.spec(2, FileList.of([(b"b", 2, 2), (b"c", 2, 2)]), 0), 2)
    planning.ledger.plan(planning.cut.spec(3, FileList.of([(b"c", 3, 3)]), 0), 3)
    assert [row[:3] for row, _, _ in known_rows(planning.ledger)] == [
        (b"a", 1, 1),
        (b"b", 2, 2),
        (b"c", 3, 3),
        (b"d", 1, 1),
    ]


def test_a_part_may_be_dropped_while_another_thread_plans(planning: Planning) -> None:
    planning.run()
    rows = known_rows(planning.ledger)
    first = planning.paths(0)
    assert next(rows)[0][0] == first[0]
    gone = planning.paths(2)
    planning.ledger.drop(2)
    assert not set(gone) & {row[0] for row, _, _ in rows}


NAMES = st.text("ab.", min_size=1, max_size=3).filter(lambda name: name not in (".", ".."))


@settings(max_examples=25, deadline=None)
@given(runs=st.lists(st.dictionaries(NAMES, st.binary(max_size=30), max_size=6), min_size=1, max_size=4))
def test_after_any_changes_the_ledger_knows_the_folder_as_it_is(
    tmp_path_factory: pytest.TempPathFactory, runs: list[dict[str, bytes]]
) -> None:
    place = tmp_path_factory.mktemp("runs")
    root = place / "root"
    root.mkdir()
    with Ledger(place / "ledger.sqlite") as ledger:
        planning = Planning(root, ledger, Cut("d", 300))
        for step, files in enumerate(runs):
            for name, content in files.items():
                (root / name).write_bytes(content)
                os.utime(root / name, ns=(step, step))
            for number in planning.run():
                planning.pack(number)
        known = {path: (size, mtime) for (path, size, mtime, _), _, _ in known_rows(ledger)}
        for file in root.iterdir():
            assert known[file.name.encode()] == (file.stat().st_size, file.stat().st_mtime_ns)
        assert planning.run() == []
        assert ledger.totals().files == len(known)


# -- a change that size and date do not tell ------------------------------------------------------------------------


def same_size_same_date(file: Path) -> None:
    """Write other content of the same size and put the date back, once the file system's clock has gone on."""
    before = file.stat()
    while file.stat().st_ctime_ns == before.st_ctime_ns:
        file.write_bytes(bytes(byte ^ 1 for byte in file.read_bytes()) if file.stat().st_size else b"")
        os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))


def settled_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if every file had been written long ago."""
    monkeypatch.setattr(Stamps, "horizon", staticmethod(lambda: 1 << 62))


@pytest.mark.parametrize("settled", [False, True])
def test_other_content_of_the_same_size_and_date_is_packed(
    planning: Planning, monkeypatch: pytest.MonkeyPatch, settled: bool
) -> None:
    if settled:
        settled_at_once(monkeypatch)
    for number in planning.run():
        planning.pack(number)
    file = planning.root / "d1" / "010.jpg"
    file.write_bytes(b"0" * 10)
    for number in planning.run():
        planning.pack(number)
    before = file.stat()
    file.write_bytes(b"1" * 10)
    if settled:
        while file.stat().st_ctime_ns == before.st_ctime_ns:
            file.write_bytes(b"1" * 10)
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))

    (number,) = planning.run()
    assert planning.paths(number) == [b"d1/010.jpg"]
    planning.pack(number)
    assert planning.run() == []


def test_a_file_touched_by_nobody_but_chmod_is_read_once_and_not_packed(
    planning: Planning, monkeypatch: pytest.MonkeyPatch
) -> None:
    settled_at_once(monkeypatch)
    for number in planning.run():
        planning.pack(number)
    file = planning.root / "d1" / "010.jpg"
    before = file.stat().st_ctime_ns
    while file.stat().st_ctime_ns == before:
        file.chmod(0o640)
    assert planning.run() == []
    assert "read again: 1 file" in planning.notices()
    planning.heard.clear()
    assert planning.run() == []
    assert planning.notices() == ""


def test_files_written_a_moment_ago_are_read_in_the_next_run_and_then_no_more(
    planning: Planning, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in planning.run():
        planning.pack(number)
    assert planning.run() == []
    assert f"read again: {len(FILES)} files" in planning.notices()
    settled_at_once(monkeypatch)
    planning.run()
    planning.heard.clear()
    assert planning.run() == []
    assert planning.notices() == ""


def test_checksum_reads_what_every_stamp_calls_whole(planning: Planning, monkeypatch: pytest.MonkeyPatch) -> None:
    settled_at_once(monkeypatch)
    for number in planning.run():
        planning.pack(number)
    file = planning.root / "d1" / "010.jpg"
    before = file.stat()
    file.write_bytes(b"1" * 10)
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))
    change = next(row[3] for block in FolderSource(planning.root).scan() for row in block if row[0] == b"d1/010.jpg")
    for part in planning.ledger.parts():
        planning.ledger.restamp(part.number, {b"d1/010.jpg": change})
    assert planning.run() == []
    (number,) = planning.run(checksum=True)
    assert planning.paths(number) == [b"d1/010.jpg"]


def test_a_part_that_is_only_planned_is_not_planned_twice(planning: Planning) -> None:
    planning.run()
    same_size_same_date(planning.root / "d1" / "010.jpg")
    assert planning.run() == []


# -- a source that is not what it was -------------------------------------------------------------------------------


def test_a_source_without_any_file_is_missing(planning: Planning) -> None:
    planning.run()
    shutil.rmtree(planning.root)
    planning.root.mkdir()
    with pytest.raises(SourceMissing, match=f"the dataset holds {len(FILES)}"):
        planning.run()


@pytest.mark.parametrize(("left", "told"), [(["d0"], True), (["d0", "d1"], False), ([], True)])
def test_most_files_gone_is_told(planning: Planning, left: list[str], told: bool) -> None:
    planning.run()
    for name in {"d0", "d1", "d2"} - set(left):
        shutil.rmtree(planning.root / name)
    (planning.root / "other").write_bytes(b"new")
    planning.run()
    gone = len(FILES) - len(FILES) // 3 * len(left)
    assert (f"gone: {gone} of the {len(FILES)} files" in planning.notices()) == told


# -- what never fits ------------------------------------------------------------------------------------------------


def test_a_file_that_never_fits_is_named_and_the_rest_is_planned(planning: Planning) -> None:
    for name in ("d0/big.bin", "zz/huge.bin"):
        (planning.root / name).parent.mkdir(exist_ok=True)
        with (planning.root / name).open("wb") as file:
            file.truncate(2**42 if "huge" in name else 5000)
    planning.cut = Cut("d", 1500, most=4000)
    paths = {path for number in planning.run() for path in planning.paths(number)}
    assert len(paths) == len(FILES)
    assert [event.path for event in planning.heard if isinstance(event, SourceFailed)] == ["d0/big.bin", "zz/huge.bin"]
    assert "which can hold 3.9 KiB at most" in planning.heard.of(SourceFailed)[0].why  # type: ignore[union-attr]


def test_a_sample_that_never_fits_is_named_file_by_file(planning: Planning) -> None:
    for end in ("a", "b", "c"):
        (planning.root / f"sample.{end}").write_bytes(bytes(1500))
    planning.cut = Cut("d", 1500, most=4000)
    planning.run()
    assert [event.path for event in planning.heard if isinstance(event, SourceFailed)] == [
        "sample.a",
        "sample.b",
        "sample.c",
    ]


@pytest.mark.parametrize("fate", ["gone", "smaller"])
def test_a_planned_file_that_can_not_fit_any_more_is_forgotten(planning: Planning, fate: str) -> None:
    big = planning.root / "zz.bin"
    big.write_bytes(bytes(9000))
    before = planning.run()
    if fate == "gone":
        big.unlink()
    else:
        big.write_bytes(bytes(100))
    planning.cut = Cut("d", 1500, most=4000)
    planning.run()
    planned = [planning.paths(part.number) for part in planning.ledger.parts()]
    assert sum(map(len, planned)) == len(FILES) + (fate == "smaller")
    assert len(planned) == len(before) - (fate == "gone")
    assert not planning.heard.of(SourceFailed)


def test_a_sample_taken_in_with_others_is_carried_over_at_its_exact_cost() -> None:
    names = [b"a", b"b", b"k.0", b"k.1", b"k.2", b"k.3", b"k.4", b"l"]
    rows = [(name, 100, 0, False) for name in names]
    for block in (2, 3, 4, 5):
        parts = list(cut_of(Cut("d", 1100), rows, block, few=1))
        assert [files.split_paths() for files, _, _ in parts] == [names[:2], names[2:7], names[7:]]
        assert [estimate for _, estimate, _ in parts] == [sizes_of(files) for files, _, _ in parts]
