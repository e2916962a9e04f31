"""A folder as a source: what is listed, in which order, and what is packed when files changed since."""

from __future__ import annotations

import inspect
import os
import pickle
import shutil
import socket
import sys
import tempfile
import tracemalloc
import zipfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from driveshard.archive.zip_writer import ZipWriter
from driveshard.core.errors import PartTooLarge, SourceMissing
from driveshard.core.formatting import printable
from driveshard.core.model import Failure, FileList, sample_key
from driveshard.sources import folder
from driveshard.sources.base import Packed, Source
from driveshard.sources.folder import FolderSource
from driveshard.sources.stamps import folded

LARGE = (8 << 20) + 1

needs_odd_names = pytest.mark.skipif(os.name == "nt", reason="Windows refuses such names")


@pytest.fixture(params=["from its directory", "by its whole path"], scope="module", autouse=True)
def looked_up(request: pytest.FixtureRequest) -> Iterator[None]:
    """How a file is found: the fast way, from the first name on, and the way of systems that have no other."""
    fast = request.param == "from its directory"
    if fast and not folder._HAS_DIR_FD:
        pytest.skip("needs look-ups from a directory")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(folder, "_HAS_DIR_FD", fast)
        yield


def fill(root: Path, *paths: str | bytes) -> None:
    """Make files that hold their own path."""
    made = None
    for path in paths:
        raw = os.fsencode(path)
        place = os.path.join(os.fsencode(root), raw)
        if made != os.path.dirname(place):
            made = os.path.dirname(place)
            os.makedirs(made, exist_ok=True)
        with open(place, "wb") as file:
            file.write(raw)


def listed(source: FolderSource) -> list[bytes]:
    return [path for block in source.scan() for path, *_ in block]


def select(source: FolderSource) -> FileList:
    return FileList.of([row for block in source.scan() for row in block])


def pack(source: FolderSource, selection: FileList, target: Path, max_bytes: int | None = None) -> Packed:
    with ZipWriter(target, max_bytes=max_bytes) as writer:
        packed = source.pack(selection, writer, 0)
        writer.close()
    return packed


def contents(path: Path) -> dict[str, bytes]:
    with zipfile.ZipFile(path) as archive:
        assert archive.testzip() is None
        return {name: archive.read(name) for name in archive.namelist()}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "data").mkdir()
    return tmp_path / "data"


@pytest.fixture
def target(tmp_path: Path) -> Path:
    return tmp_path / "part.zip"


# Listing


def test_it_is_a_source_that_travels(root: Path) -> None:
    source = FolderSource(root, ("*.jpg",), (".git",))
    assert isinstance(source, Source)
    assert pickle.loads(pickle.dumps(source)) == source
    assert (source.kind, source.describe()) == ("folder", str(root))
    assert source.settings() == {"include": ["*.jpg"], "exclude": [".git"]}


def test_order_is_that_of_whole_paths(root: Path) -> None:
    paths = ["a-b.txt", "a.txt", "a/x.txt", "a/y/z.txt", "a0.txt", "a0/x", "b", "\N{LATIN SMALL LETTER E WITH ACUTE}"]
    fill(root, *paths)
    assert listed(FolderSource(root)) == sorted(path.encode() for path in paths)
    assert listed(FolderSource(root))[:3] == [b"a-b.txt", b"a.txt", b"a/x.txt"]


steps = st.text(st.sampled_from("ab-.0 \N{GREEK SMALL LETTER LAMDA}"), min_size=1, max_size=3).filter(
    lambda step: step not in (".", "..") and step == step.strip(" .")
)


@given(files=st.sets(st.lists(steps, min_size=1, max_size=4).map("/".join), max_size=12))
@settings(max_examples=60, deadline=None)
def test_every_tree_is_listed_whole_and_in_order(files: set[str]) -> None:
    with tempfile.TemporaryDirectory() as name:
        made = set()
        for path in sorted(files, key=len, reverse=True):
            place = Path(name, path)
            if not place.exists() and not any(parent.is_file() for parent in place.parents):
                fill(Path(name), path)
                made.add(path.encode())
        assert listed(FolderSource(Path(name))) == sorted(made)


def test_rows_hold_size_and_mtime(root: Path) -> None:
    fill(root, "a.txt")
    os.utime(root / "a.txt", ns=(1, 1_700_000_000_123_456_789))
    told = (root / "a.txt").stat()
    ((row,),) = FolderSource(root).scan()
    assert row[:3] == (b"a.txt", 5, told.st_mtime_ns)


def test_empty_folders_give_nothing(root: Path) -> None:
    (root / "a" / "b").mkdir(parents=True)
    assert list(FolderSource(root).scan()) == []


def test_blocks_are_bounded_and_lose_nothing(root: Path) -> None:
    fill(root, *(f"{number:05d}" for number in range(9000)), "zz/last")
    blocks = list(FolderSource(root).scan())
    assert [len(block) for block in blocks] == [8192, 809]
    rows = [row for block in blocks for row in block]
    assert rows == sorted(rows)


def test_memory_for_a_flat_folder_is_names_only(root: Path) -> None:
    fill(root, *(f"some_longer_name_{number:06d}.image.jpg" for number in range(20_000)))
    tracemalloc.start()
    try:
        count = sum(len(block) for block in FolderSource(root).scan())
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    # 100 bytes a name, and one block of rows at 250 bytes each.
    assert count == 20_000
    assert peak < 20_000 * 100 + 2 * 8192 * 250


def test_depth_is_no_problem(root: Path) -> None:
    """Deeper than Python may recurse; its limit is lowered, since by whole paths each level costs what is above it."""
    depth, limit = 250, sys.getrecursionlimit()
    fill(root, "d/" * depth + "leaf", "d/leaf")
    sys.setrecursionlimit(len(inspect.stack(0)) + depth - 50)
    try:
        found = listed(FolderSource(root))
    finally:
        sys.setrecursionlimit(limit)
    assert found == [b"d/" * depth + b"leaf", b"d/leaf"]


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs Unix")
def test_links_and_special_files_are_skipped_and_told(root: Path, tmp_path: Path) -> None:
    fill(root, "real.txt", "sub/real.txt")
    fill(tmp_path, "outside/secret.txt")
    (root / "file-link").symlink_to(root / "real.txt")
    (root / "folder-link").symlink_to(tmp_path / "outside")
    (root / "circle").symlink_to(root)
    (root / "broken").symlink_to("nowhere")
    os.mkfifo(root / "pipe")
    with socket.socket(socket.AF_UNIX) as made:
        made.bind(os.path.relpath(root / "socket"))
        skipped: list[Failure] = []
        failures: list[Failure] = []
        found = [path for block in FolderSource(root).scan(failures.append, skipped.append) for path, *_ in block]
    assert found == [b"real.txt", b"sub/real.txt"]
    assert failures == []
    assert {one.path: one.why for one in skipped} == {
        "broken": "a symbolic link",
        "circle": "a symbolic link",
        "file-link": "a symbolic link",
        "folder-link": "a symbolic link",
        "pipe": "a pipe",
        "socket": "a socket",
    }


@pytest.mark.skipif(not hasattr(os, "symlink"), reason="needs symbolic links")
def test_the_root_itself_may_be_a_link(root: Path, tmp_path: Path) -> None:
    fill(root, "a.txt")
    (tmp_path / "link").symlink_to(root, target_is_directory=True)
    assert listed(FolderSource(tmp_path / "link")) == [b"a.txt"]


@pytest.mark.parametrize(("name", "sentence"), [("missing", "There is no folder"), ("file", "is a file, not a folder")])
def test_a_root_that_is_no_folder_is_said_at_once(tmp_path: Path, name: str, sentence: str) -> None:
    fill(tmp_path, "file")
    with pytest.raises(SourceMissing, match=sentence) as caught:
        FolderSource(tmp_path / name).scan()
    assert caught.value.exit_code == 66
    assert caught.value.advice


@needs_odd_names
def test_names_are_bytes_and_need_not_be_utf8(root: Path, target: Path) -> None:
    names = [b"\xff\xfe.bin", b'quote".txt', b"new\nline", "\N{GRINNING FACE}.jpg".encode()]
    fill(root, *names)
    source = FolderSource(root)
    assert listed(source) == sorted(names)
    packed = pack(source, select(source), target)
    assert (packed.files, packed.failed) == (4, ())
    with zipfile.ZipFile(target) as archive:
        assert b"".join(archive.read(info) for info in archive.infolist()) == b"".join(sorted(names))


GLOBS = [
    # (include, exclude, what is left of the tree below)
    ((), (), "a.jpg a.txt notes.txt raw/a.jpg raw/deep/b.jpg raw/deep/c.TXT x/.git/config x/raw/a.jpg"),
    (("*.jpg",), (), "a.jpg raw/a.jpg raw/deep/b.jpg x/raw/a.jpg"),
    (("*.txt",), (), "a.txt notes.txt"),
    (("?.txt",), (), "a.txt"),
    (("raw/*.jpg",), (), "raw/a.jpg"),
    (("raw/**/*.jpg",), (), "raw/a.jpg raw/deep/b.jpg"),
    (("**/raw/*.jpg",), (), "raw/a.jpg x/raw/a.jpg"),
    (("raw/**",), (), "raw/a.jpg raw/deep/b.jpg raw/deep/c.TXT"),
    (("/a.jpg",), (), "a.jpg"),
    (("raw",), (), "raw/a.jpg raw/deep/b.jpg raw/deep/c.TXT x/raw/a.jpg"),
    (("/raw",), (), "raw/a.jpg raw/deep/b.jpg raw/deep/c.TXT"),
    (("deep/",), (), "raw/deep/b.jpg raw/deep/c.TXT"),
    (("a.jpg/",), (), ""),
    (("[ab].jpg",), (), "a.jpg raw/a.jpg raw/deep/b.jpg x/raw/a.jpg"),
    (("[!b].jpg",), (), "a.jpg raw/a.jpg x/raw/a.jpg"),
    (("[a-c].[jT]*",), (), "a.jpg raw/a.jpg raw/deep/b.jpg raw/deep/c.TXT x/raw/a.jpg"),
    (("raw[/]a.jpg",), (), ""),
    (("*.jpg", "*.txt"), ("a.*",), "notes.txt raw/deep/b.jpg"),
    ((), (".git",), "a.jpg a.txt notes.txt raw/a.jpg raw/deep/b.jpg raw/deep/c.TXT x/raw/a.jpg"),
    ((), (".git/", "raw/"), "a.jpg a.txt notes.txt"),
    ((), ("raw/deep",), "a.jpg a.txt notes.txt raw/a.jpg x/.git/config x/raw/a.jpg"),
    ((), ("*",), ""),
    ((), ("**",), ""),
    (("[unclosed",), (), ""),
    (("a+.jpg",), (), ""),
]


@pytest.mark.parametrize(("include", "exclude", "left"), GLOBS)
def test_globs(root: Path, include: tuple[str, ...], exclude: tuple[str, ...], left: str) -> None:
    fill(root, *GLOBS[0][2].split())
    assert listed(FolderSource(root, include, exclude)) == [path.encode() for path in left.split()]


@needs_odd_names
def test_a_question_mark_is_one_character_not_one_byte(root: Path) -> None:
    fill(root, "\N{LATIN SMALL LETTER E WITH ACUTE}.jpg", b"\xff.jpg")
    assert len(listed(FolderSource(root, ("?.jpg",)))) == 2


@pytest.fixture
def unprivileged() -> Iterator[tuple[Path, Callable[[], AbstractContextManager[None]]]]:
    """A folder, and a way to act as somebody whom permissions concern: they do not concern root."""
    if not hasattr(os, "geteuid"):
        pytest.skip("needs Unix permissions")

    @contextmanager
    def acting() -> Iterator[None]:
        if os.geteuid() != 0:
            yield
            return
        os.seteuid(65534)
        try:
            yield
        finally:
            os.seteuid(0)

    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o755)
        yield Path(name), acting
        for folder in Path(name).iterdir():
            folder.chmod(0o755)


def test_what_may_not_be_read_is_listed_and_the_rest_goes_on(
    unprivileged: tuple[Path, Callable[[], AbstractContextManager[None]]], target: Path
) -> None:
    root, acting = unprivileged
    fill(root, "a.txt", "closed/b.txt", "no-entry/c.txt", "secret.txt", "z.txt")
    (root / "closed").chmod(0o300)
    (root / "no-entry").chmod(0o444)
    (root / "secret.txt").chmod(0o000)
    source = FolderSource(root)
    failures: list[Failure] = []
    with acting():
        rows = [row for block in source.scan(failures.append) for row in block]
    assert [row[0] for row in rows] == [b"a.txt", b"secret.txt", b"z.txt"]
    assert failures == [Failure("closed/", "permission denied"), Failure("no-entry/c.txt", "permission denied")]
    with ZipWriter(target) as writer:
        with acting():
            packed = source.pack(FileList.of(rows), writer, 0)
        writer.close()
    assert packed.failed == (Failure("secret.txt", "permission denied"),)
    assert list(contents(target)) == ["a.txt", "z.txt"]


def test_files_that_vanish_while_listing_are_not_there(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(folder, "_BLOCK_ROWS", 3)
    fill(root, *(f"a/{number:05d}" for number in range(3)), "b/gone", "c/stays")
    failures: list[Failure] = []
    blocks = FolderSource(root).scan(failures.append)
    assert len(next(blocks)) == 3
    shutil.rmtree(root / "b")
    assert [row[0] for block in blocks for row in block] == [b"c/stays"]
    assert failures == [Failure("b/", "it is no longer there")]


# Packing


def test_what_did_not_change_is_packed_as_selected(root: Path, target: Path) -> None:
    fill(root, "a.txt", "sub/b.image.jpg", "sub/b.mask.jpg", "sub/deep/c", "z")
    (root / "empty").touch()
    source = FolderSource(root)
    selection = select(source)
    packed = pack(source, selection, target)
    assert packed == Packed(selection, samples=5, files=6)
    assert contents(target) == {
        "a.txt": b"a.txt",
        "empty": b"",
        "sub/b.image.jpg": b"sub/b.image.jpg",
        "sub/b.mask.jpg": b"sub/b.mask.jpg",
        "sub/deep/c": b"sub/deep/c",
        "z": b"z",
    }


names = st.text(st.sampled_from("ab./"), min_size=1, max_size=6)


@given(files=st.sets(names, max_size=15))
@settings(max_examples=60, deadline=None)
def test_samples_are_runs_of_one_key(files: set[str]) -> None:
    with tempfile.TemporaryDirectory() as name:
        root = Path(name, "data")
        root.mkdir()
        for path in files:
            place = Path(os.path.normpath(root / path.strip("/")))
            parents = [parent for parent in place.parents if parent != root and root in parent.parents]
            if root in place.parents and not place.exists() and not any(parent.is_file() for parent in parents):
                fill(root, os.path.relpath(place, root))
        source = FolderSource(root)
        keys = [sample_key(path.decode()) for path in listed(source)]
        runs = sum(1 for index, key in enumerate(keys) if index == 0 or keys[index - 1] != key)
        assert pack(source, select(source), Path(name, "part.zip")).samples == runs


@pytest.mark.parametrize("new", [b"", b"shorter", b"longer than it was before", b"L" * LARGE])
@pytest.mark.parametrize("old", [b"", b"what it was", b"l" * LARGE])
def test_what_is_packed_is_what_is_there_now(root: Path, target: Path, old: bytes, new: bytes) -> None:
    fill(root, "a", "z")
    (root / "changing").write_bytes(old)
    source = FolderSource(root)
    selection = select(source)
    (root / "changing").write_bytes(new)
    os.utime(root / "changing", ns=(5, 5_000_000_000))
    packed = pack(source, selection, target)
    assert (packed.files, packed.failed) == (3, ())
    assert contents(target)["changing"] == new
    rows = list(selection)
    rows[1] = (b"changing", len(new), 5_000_000_000)
    assert list(packed.selection) == rows


def replace_by_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def replace_by_link(path: Path) -> None:
    path.rename(path.with_name("moved"))
    path.symlink_to("moved")


def replace_by_pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def replace_by_socket(path: Path) -> None:
    path.unlink()
    with socket.socket(socket.AF_UNIX) as made:
        made.bind(os.path.relpath(path))


FATES: list[tuple[Callable[[Path], object], str]] = [
    (Path.unlink, "it is no longer there"),
    (replace_by_folder, "it is a folder now"),
    (replace_by_link, "it is a symbolic link now"),
    (replace_by_pipe, "it is a pipe now"),
    (replace_by_socket, "it is a socket or a pipe now"),
]


@pytest.mark.skipif(os.name == "nt", reason="needs Unix")
@pytest.mark.parametrize("size", [0, 10, LARGE])
@pytest.mark.parametrize(("fate", "why"), FATES)
def test_a_file_that_is_none_any_more_is_left_out(
    root: Path, target: Path, fate: Callable[[Path], object], why: str, size: int
) -> None:
    fill(root, "a", "sub/b", "z")
    (root / "sub" / "b").write_bytes(bytes(size))
    source = FolderSource(root)
    selection = select(source)
    fate(root / "sub" / "b")
    packed = pack(source, selection, target)
    assert packed.failed == (Failure("sub/b", why),)
    assert [row[0] for row in packed.selection] == [b"a", b"z"]
    assert (packed.files, packed.samples) == (2, 2)
    assert list(contents(target)) == ["a", "z"]


def test_a_folder_that_vanished_costs_only_its_files(root: Path, target: Path) -> None:
    fill(root, "a/1", "b/1", "b/2", "c/1")
    source = FolderSource(root)
    selection = select(source)
    shutil.rmtree(root / "b")
    packed = pack(source, selection, target)
    assert [one.path for one in packed.failed] == ["b/1", "b/2"]
    assert list(contents(target)) == ["a/1", "c/1"]


def test_a_root_that_vanished_is_an_error_not_a_list_of_failures(root: Path, target: Path) -> None:
    fill(root, "a")
    source = FolderSource(root)
    selection = select(source)
    shutil.rmtree(root)
    with pytest.raises(SourceMissing):
        pack(source, selection, target)


def test_trouble_of_the_writer_passes_through(root: Path, target: Path) -> None:
    fill(root, "a", "b")
    source = FolderSource(root)
    with pytest.raises(PartTooLarge):
        pack(source, select(source), target, max_bytes=150)


def test_a_relative_root_is_bound_when_used(root: Path, target: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fill(root, "a")
    monkeypatch.chdir(root.parent)
    source = FolderSource(Path("data"))
    assert pack(source, select(source), target).files == 1


@pytest.mark.skipif(not os.path.isdir("/proc/self/fd"), reason="needs /proc")
def test_no_descriptor_is_left_open(root: Path, target: Path) -> None:
    fill(root, "a/1", "b/1", "c")
    source = FolderSource(root)
    selection = select(source)
    (root / "b" / "1").unlink()
    before = os.listdir("/proc/self/fd")
    pack(source, selection, target)
    with pytest.raises(PartTooLarge):
        pack(source, selection, target, max_bytes=100)
    assert os.listdir("/proc/self/fd") == before


@pytest.mark.parametrize(
    ("path", "shown"),
    [
        (b"plain/name.txt", "plain/name.txt"),
        ("\N{GRINNING FACE}".encode(), "\N{GRINNING FACE}"),
        (b"latin-\xe9", "latin-\\xe9"),
        (b"line\nbreak\x1b[31m", "line\\nbreak\\x1b[31m"),
    ],
)
def test_paths_are_made_fit_to_print(path: bytes, shown: str) -> None:
    assert printable(path) == shown


# Links that take a place


def swap_for_link(directory: Path, outside: Path) -> None:
    """A folder of the same names lies elsewhere, and a link to it takes this one's place."""
    shutil.copytree(directory, outside)
    for path in outside.rglob("*"):
        if path.is_file():
            path.write_bytes(b"SECRET")
    shutil.rmtree(directory)
    directory.symlink_to(outside)


@pytest.mark.skipif(os.name == "nt", reason="needs links")
@pytest.mark.parametrize("where", ["a", "a/b", "a/b/c"])
def test_a_folder_swapped_for_a_link_before_packing_is_not_followed(root: Path, target: Path, where: str) -> None:
    fill(root, "a/b/c/1.txt", "a/b/c/2.txt", "z.txt")
    source = FolderSource(root)
    selection = select(source)
    swap_for_link(root / where, root.parent / "outside")
    packed = pack(source, selection, target)
    assert [one.path for one in packed.failed] == ["a/b/c/1.txt", "a/b/c/2.txt"]
    assert contents(target) == {"z.txt": b"z.txt"}


@pytest.mark.skipif(os.name == "nt", reason="needs links")
@pytest.mark.parametrize("where", ["b", "b/deep"])
def test_a_folder_swapped_for_a_link_during_the_scan_is_not_followed(
    root: Path, where: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(folder, "_BLOCK_ROWS", 3)
    fill(root, *(f"a/{number:05d}" for number in range(3)), "b/deep/1", "c")
    failures: list[Failure] = []
    blocks = FolderSource(root).scan(failures.append)
    next(blocks)
    swap_for_link(root / where, root.parent / "outside")
    assert [row[0] for block in blocks for row in block] == [b"c"]


@pytest.mark.skipif(os.name == "nt", reason="needs links")
def test_a_large_file_swapped_while_it_is_packed_is_read_as_it_was(
    root: Path, target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(root, "big")
    (root / "big").write_bytes(b"x" * LARGE)
    (root.parent / "secret").write_bytes(b"S" * LARGE)
    source = FolderSource(root)
    selection = select(source)
    real = os.fstat

    def swap(fd: int) -> os.stat_result:
        status = real(fd)
        if status.st_size == LARGE and not (root / "big").is_symlink():
            (root / "big").unlink()
            (root / "big").symlink_to(root.parent / "secret")
        return status

    monkeypatch.setattr(os, "fstat", swap)
    packed = pack(source, selection, target)
    assert b"S" not in b"".join(contents(target).values())
    assert packed.files + len(packed.failed) == 1


@pytest.mark.skipif(os.name == "nt", reason="Windows has shorter paths")
def test_a_tree_deeper_than_descriptors_are_kept_is_whole(root: Path, target: Path) -> None:
    deep = [f"{'d/' * depth}{name}" for depth in range(80) for name in ("a", "z")]
    fill(root, *deep)
    source = FolderSource(root)
    assert listed(source) == sorted(os.fsencode(path) for path in deep)
    packed = pack(source, select(source), target)
    assert (packed.files, packed.failed) == (160, ())


# Dates


@pytest.mark.parametrize("seconds", [-(2**33), -1, 0, 2**31, 2**32, 2**33, 10_413_792_000, 2**36])
def test_any_date_that_a_file_system_holds_is_taken(root: Path, target: Path, seconds: int) -> None:
    fill(root, "a", "b")
    try:
        os.utime(root / "a", (seconds, seconds))
    except (OSError, OverflowError):
        pytest.skip("this file system cannot hold the date")
    source = FolderSource(root)
    (row, _) = next(source.scan())
    assert -(2**63) <= row[2] < 2**63
    (root / "a").write_bytes(b"longer than before")
    os.utime(root / "a", (seconds, seconds))
    packed = pack(source, select(source), target)
    assert (packed.files, next(iter(packed.selection))[2]) == (2, row[2])


def test_dates_beyond_64_bits_are_folded_and_stay_apart() -> None:
    far = [10**19, 10**19 + 1, -(10**19), 2**63, -(2**63) - 1]
    assert len({folded(time) for time in far}) == len(far)
    assert all(-(2**63) <= folded(time) < 2**63 for time in far)
    assert [folded(time) for time in (0, -1, 2**63 - 1, -(2**63))] == [0, -1, 2**63 - 1, -(2**63)]


# What a pattern may look like


def test_a_pattern_may_name_the_root_in_many_ways(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fill(root, "private/key", "raw/private/other", "a")
    monkeypatch.chdir(root.parent)
    ways = [
        *("./private", "./private/", "././private", str(root / "private"), f"{root}/./private/", "data/private"),
        *(
            "./data/private",
            f"../{root.parent.name}/data/private",
            "raw/../private",
            f"{root.parent.name}/data/private",
        ),
    ]
    for relative in (root, Path("data"), Path("./data")):
        for way in ways:
            assert listed(FolderSource(relative, (), (way,))) == [b"a", b"raw/private/other"], way
    assert FolderSource(root, (), (str(root / "private"),)).settings()["exclude"] == ["/private"]
    assert FolderSource(root, (), ("./private", "*.tmp")).settings()["exclude"] == ["/private", "*.tmp"]


@needs_odd_names
@pytest.mark.parametrize(("name", "pattern"), [("cafe\u0301", "caf\u00e9"), ("caf\u00e9", "cafe\u0301")])
def test_a_pattern_may_be_in_any_unicode_form(root: Path, name: str, pattern: str) -> None:
    fill(root, f"{name}.txt", f"{name}/x", "a")
    for way in (pattern, f"{pattern}*", f"./{pattern}", str(root / pattern)):
        left = listed(FolderSource(root, (), (way, f"/{pattern}.txt")))
        assert left == [b"a"], way


def test_patterns_that_matched_nothing_are_told(root: Path) -> None:
    fill(root, "a.txt", "b.jpg", "sub/c.jpg")
    told: list[tuple[str, str]] = []
    source = FolderSource(root, ("*.jpg", "*.png"), ("*.txt", "b.*", "privat", "b.jpg"))
    rows = [row[0] for block in source.scan(on_idle=lambda *idle: told.append(idle)) for row in block]
    assert rows == [b"sub/c.jpg"]
    assert told == [("include", "*.png"), ("exclude", "privat")]
