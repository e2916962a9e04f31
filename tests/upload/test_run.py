"""The whole push against the emulator: everything arrives, once, and whatever happens the next run puts it right."""

from __future__ import annotations

import io
import json
import os
import random
import shutil
import subprocess
import sys
import textwrap
import urllib.request
import zipfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from driveshard.archive.manifest import Manifest
from driveshard.archive.zip_reader import member_path
from driveshard.config.settings import PushOptions, settings_from
from driveshard.core.errors import Busy, ComeBackLater, Mismatch, Refused, SourceMissing, TempFull, UsageError
from driveshard.core.events import Notice, PackStarted, PartDropped, PartPacked
from driveshard.core.model import RemoteFile
from driveshard.emulator import Emulator
from driveshard.sources.base import Source
from driveshard.sources.composite.source import CompositeSource
from driveshard.sources.folder import FolderSource
from driveshard.sources.python.source import PythonSource
from driveshard.storage.base import Destination
from driveshard.storage.registry import open_destination
from driveshard.upload.pack.engine import Engine
from driveshard.upload.plan.files import FilePlanner
from driveshard.upload.result import PushResult
from driveshard.upload.run import push
from tests.fakes import Heard

MakeTree = Callable[..., Path]
KIB = 1024
LISTS = {"DRIVESHARD_LIST_LAG": "0.3"}


@dataclass
class Bench:
    """Pushes to one emulator from one home, and looks at what came of it from the other side."""

    emulator: Emulator
    home: Path
    heard: Heard = field(default_factory=Heard)

    def settings(self) -> Any:
        return settings_from({"DRIVESHARD_HOME": str(self.home), "DRIVESHARD_DRIVE_URL": self.emulator.url, **LISTS})

    def push(self, source: Source | Path, **options: Any) -> PushResult:
        if isinstance(source, Path):
            source = FolderSource(source)
        given: dict[str, Any] = {
            "name": "d",
            "part_size": 40 * KIB,
            "writes_per_second": 0.0,
            "engine": "threads",
            "workers": 2,
            **options,
        }
        return push(PushOptions(source.describe(), **given), source, self.settings(), self.heard)

    def destination(self) -> Destination:
        return open_destination("drive:", self.settings())

    def files(self, result: PushResult) -> dict[str, list[RemoteFile]]:
        """What lies in the dataset's folder, by name."""
        destination = self.destination()
        found: dict[str, list[RemoteFile]] = {}
        for child in destination.children(result.folder_id or ""):
            found.setdefault(child.name, []).append(child)
        destination.close()  # type: ignore[attr-defined]
        return found

    def read(self, remote: RemoteFile) -> bytes:
        destination = self.destination()
        data = destination.read(remote.id, 0, remote.size)
        destination.close()  # type: ignore[attr-defined]
        return data

    def parts(self, result: PushResult) -> dict[str, bytes]:
        return {name: self.read(one[0]) for name, one in sorted(self.files(result).items()) if name.endswith(".zip")}

    def members(self, result: PushResult) -> dict[bytes, bytes]:
        """Every member, newer parts over older ones."""
        members = {}
        for data in self.parts(result).values():
            with zipfile.ZipFile(io.BytesIO(data)) as archive:
                assert archive.testzip() is None
                for info in archive.infolist():
                    members[member_path(info)] = archive.read(info)
        return members

    def writes(self) -> int:
        return int(self.emulator.stats()["writes"])

    def notices(self) -> str:
        return "\n".join(event.text for event in self.heard if isinstance(event, Notice))


@pytest.fixture
def bench(emulator: Emulator, home: Path) -> Bench:
    return Bench(emulator, home)


def tree(count: int, seed: int = 0) -> dict[str, bytes]:
    rng = random.Random(seed)
    return {f"d{number % 7}/{number:05d}.jpg": rng.randbytes(rng.randrange(0, 3000)) for number in range(count)}


def as_bytes(files: Mapping[str, bytes]) -> dict[bytes, bytes]:
    return {path.encode(): content for path, content in files.items()}


def done(result: PushResult) -> PushResult:
    if result.error is not None:
        raise result.error
    assert result.state == "complete"
    return result


def check(bench: Bench, result: PushResult, files: Mapping[bytes, bytes], allowed: tuple[str, ...] = ()) -> None:
    """All is there once and equal, and the manifest says so; the protocol was kept, but for ``allowed`` slips."""
    done(result)
    listed = bench.files(result)
    assert {name: len(ones) for name, ones in listed.items() if len(ones) != 1} == {}
    assert {name for name in listed if not name.endswith(".zip")} <= {
        *("manifest.json", "index.npz", "README.md", "preview.jpg")
    }
    assert bench.members(result) == files
    manifest = Manifest.decode(bench.read(listed["manifest.json"][0]))
    assert {part.name: (part.id, part.size, part.md5, part.sha256) for part in manifest.parts} == {
        name: (one.id, one.size, one.md5, one.sha256) for name, (one,) in listed.items() if name.endswith(".zip")
    }
    assert manifest.files == result.files == len(files)
    assert [slip for slip in bench.emulator.stats()["violations"] if slip["kind"] not in allowed] == []
    spools = bench.home / "spool"
    assert not spools.exists() or not [one for one in spools.rglob("*") if one.is_file()]


# -- what arrives --------------------------------------------------------------------------------------------------


def test_every_file_arrives_as_it_was(bench: Bench, make_tree: MakeTree, tmp_path: Path) -> None:
    files = tree(200)
    result = bench.push(make_tree(files))

    check(bench, result, as_bytes(files))
    assert result.parts > 3
    assert (result.samples, result.files) == (200, 200)
    assert result.sent_bytes == result.bytes == sum(len(data) for data in bench.parts(result).values())
    assert result.link
    for name, data in bench.parts(result).items():
        (tmp_path / name).write_bytes(data)
        for tool in (["unzip", "-tq"], ["7z", "t", "-bd"]):
            if shutil.which(tool[0]):
                subprocess.run([*tool, str(tmp_path / name)], check=True, capture_output=True)


def test_the_same_push_again_sends_nothing(bench: Bench, make_tree: MakeTree) -> None:
    root = make_tree(tree(60))
    first = done(bench.push(root))
    writes = bench.writes()

    again = done(bench.push(root))

    assert (again.sent_bytes, bench.writes()) == (0, writes)
    assert again.requests <= 5
    assert (again.parts, again.files, again.bytes, again.link) == (first.parts, first.files, first.bytes, first.link)


def test_only_new_files_are_sent(bench: Bench, make_tree: MakeTree) -> None:
    files = tree(100)
    root = make_tree(files)
    first = done(bench.push(root))
    before = bench.parts(first)
    new = {f"new/{number}.txt": b"hello %d" % number for number in range(100)}
    make_tree(new)

    result = bench.push(root)

    check(bench, result, as_bytes({**files, **new}))
    after = bench.parts(result)
    assert {name: after[name] for name in before} == before
    assert result.sent_bytes == sum(len(after[name]) for name in after if name not in before) < 20 * KIB
    assert result.files == 200


def test_a_first_push_starts_its_workers_while_it_looks_at_the_source(
    bench: Bench, make_tree: MakeTree, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And one that finds nothing to do starts none."""
    happened: list[str] = []
    numbers = FilePlanner.numbers

    def noted(planner: FilePlanner) -> Iterator[int]:
        happened.append("planning")
        return numbers(planner)

    monkeypatch.setattr(FilePlanner, "numbers", noted)
    monkeypatch.setattr(Engine, "warm_up", lambda engine: happened.append("warm-up"))
    root = make_tree(tree(20))
    done(bench.push(root))
    assert happened == ["warm-up", "planning"]
    happened.clear()
    done(bench.push(root))
    assert happened == ["planning"]
    (root / "new.jpg").write_bytes(b"new")
    happened.clear()
    done(bench.push(root))
    assert happened == ["planning", "warm-up"]


def test_worker_processes_start_beside_drives_first_answer(
    bench: Bench, make_tree: MakeTree, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where there is something to pack for certain."""
    answered: list[int] = []
    monkeypatch.setattr(Engine, "warm_up", lambda engine: answered.append(len(bench.emulator.log())))
    done(bench.push(make_tree(tree(20)), engine="processes", workers=1))
    assert answered[0] == 0
    answered.clear()
    done(bench.push(make_tree({}), engine="processes", workers=1))
    assert answered == []


def test_the_first_part_of_a_folder_is_packed_alone(bench: Bench, make_tree: MakeTree) -> None:
    """The line waits for it, and for nothing after it."""
    done(bench.push(make_tree(tree(60)), workers=3))
    order = [(type(event), event.number) for event in bench.heard if isinstance(event, PackStarted | PartPacked)]
    assert len(order) >= 4
    assert order[:2] == [(PackStarted, 0), (PartPacked, 0)]


def test_a_changed_file_is_sent_again_and_counted_once(bench: Bench, make_tree: MakeTree) -> None:
    files = tree(50)
    root = make_tree(files)
    done(bench.push(root))
    changed = {"d1/00001.jpg": b"something else"}
    make_tree(changed)

    result = bench.push(root)

    check(bench, result, as_bytes({**files, **changed}))
    assert (result.files, result.samples) == (50, 50)
    assert result.sent_bytes < KIB


def test_a_deleted_file_stays_on_drive(bench: Bench, make_tree: MakeTree) -> None:
    files = tree(20)
    root = make_tree(files)
    done(bench.push(root))
    (root / "d1" / "00001.jpg").unlink()
    result = bench.push(root)
    assert result.sent_bytes == 0
    check(bench, result, as_bytes(files))


ODD = {
    b"sp ace/and  more .txt": b"1",
    b"quote'\"`$(x)/a.txt": b"2",
    "emoji \N{GRINNING FACE}/\N{SNOWMAN}.png".encode(): b"3",
    b"not utf-8 \xff\xfe/\x80.bin": b"4",
    b"x" * 250 + b".t": b"5",
    b"new\nline\t.txt": b"6",
    b"-rf.txt": b"7",
    b"back\\slash.txt": b"8",
    b".hidden": b"",
    b"empty.txt": b"",
    b"a/b/c/d/e/f/g/h.txt": b"9",
    b"CON": b"10",
    b"percent%20.txt": b"11",
}


@pytest.mark.skipif(sys.platform != "linux", reason="other systems refuse some of these names")
def test_odd_names_arrive_byte_for_byte(bench: Bench, tmp_path: Path) -> None:
    root = os.fsencode(tmp_path / "odd")
    for path, content in ODD.items():
        file = os.path.join(root, path)
        os.makedirs(os.path.dirname(file), exist_ok=True)
        with open(file, "wb") as stream:
            stream.write(content)
    result = bench.push(Path(os.fsdecode(root)))
    check(bench, result, ODD)
    assert done(bench.push(Path(os.fsdecode(root)))).sent_bytes == 0


def test_a_file_larger_than_a_part_has_a_part_of_its_own(bench: Bench, make_tree: MakeTree) -> None:
    files = {"a.txt": b"small", "big.bin": random.Random(1).randbytes(900 * KIB), "z.txt": b"small, too"}
    result = bench.push(make_tree(files))
    check(bench, result, as_bytes(files))
    assert result.parts == 3


def test_files_of_one_sample_stay_together(bench: Bench, make_tree: MakeTree) -> None:
    rng = random.Random(3)
    files = {f"{number:03d}.{end}": rng.randbytes(700) for number in range(60) for end in ("jpg", "json", "mask.png")}
    result = bench.push(make_tree(files), part_size=10 * KIB)
    check(bench, result, as_bytes(files))
    assert (result.samples, result.files) == (60, 180)
    for data in bench.parts(result).values():
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            keys = [name.partition(".")[0] for name in archive.namelist()]
        assert all(keys.count(key) == 3 for key in keys)


def test_one_and_two_workers_make_the_same_bytes(emulator: Emulator, tmp_path: Path, make_tree: MakeTree) -> None:
    root = make_tree(tree(120))
    made = []
    for name, workers, engine in (("a", 1, "serial"), ("b", 2, "threads"), ("c", 2, "processes")):
        bench = Bench(emulator, tmp_path / name)
        result = done(bench.push(root, name=f"same-{name}", workers=workers, engine=engine))
        made.append([data for _, data in sorted(bench.parts(result).items())])
    assert made[0] == made[1] == made[2]


# -- other sources -------------------------------------------------------------------------------------------------

SOURCES = """
    from driveshard.core.model import Sample

    def sample(index):
        return Sample(f"{index % 5}/{index:04d}", {"txt": "x" * (index * 7 % 900), "json": {"index": index}})

    class Indexed:
        def __init__(self, length):
            self.length = length
        def __len__(self):
            return self.length
        def __getitem__(self, index):
            return sample(index)

    def indexed():
        return Indexed(150)

    def more():
        return Indexed(170)

    def endless():
        return (sample(index) for index in range(150))

    def broken():
        for index in range(150):
            if index == 100:
                raise RuntimeError("no more")
            yield sample(index)
"""


REPEATS = """
from driveshard import Sample
class repeats:
    def __len__(self): return 20
    def __getitem__(self, i): return Sample(f"k/{i % 5}", {"txt": "x" * 40})
def repeated_stream():
    for i in range(20): yield Sample(f"k/{i % 5}", {"txt": "x" * 40})
"""

PAIRS = """
from driveshard import Sample
def pairs():
    for i in range(10): yield Sample(f"k/{i}", {"a": "x", "b": "y"})
"""


@pytest.fixture
def code(tmp_path: Path) -> Path:
    file = tmp_path / "code.py"
    file.write_text(textwrap.dedent(SOURCES))
    return file


@pytest.mark.parametrize("kind", ["repeats", "repeated_stream"])
@pytest.mark.parametrize("part_size", [400, 10**6])
def test_keys_that_come_again_count_once_whatever_the_parts(
    bench: Bench, tmp_path: Path, kind: str, part_size: int
) -> None:
    file = tmp_path / "again.py"
    file.write_text(REPEATS)
    result = done(bench.push(PythonSource(f"{file}:{kind}"), part_size=part_size))
    assert (result.samples, result.files, bool(result.failed)) == (5, 5, True)
    assert len(bench.members(result)) == 5
    assert done(bench.push(PythonSource(f"{file}:{kind}"), part_size=part_size)).samples == 5


def test_an_iterables_part_has_no_more_members_than_any_zip_tool_reads(
    bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("driveshard.upload.pack.build.MOST_MEMBERS", 7)
    file = tmp_path / "pairs.py"
    file.write_text(PAIRS)
    result = done(bench.push(PythonSource(f"{file}:pairs"), part_size=10**6))
    counts = [len(zipfile.ZipFile(io.BytesIO(data)).infolist()) for data in bench.parts(result).values()]
    assert counts == [6, 6, 6, 2]


@pytest.mark.parametrize("kind", ["indexed", "endless"])
def test_a_python_sources_samples_arrive(bench: Bench, code: Path, kind: str) -> None:
    result = done(bench.push(PythonSource(f"{code}:{kind}"), part_size=10 * KIB))

    members = bench.members(result)
    assert result.parts > 3
    assert (result.samples, result.files, len(members)) == (150, 300, 300)
    for index in range(150):
        key = f"{index % 5}/{index:04d}"
        assert members[f"{key}.txt".encode()] == b"x" * (index * 7 % 900)
        assert json.loads(members[f"{key}.json".encode()]) == {"index": index}
    again = done(bench.push(PythonSource(f"{code}:{kind}"), part_size=10 * KIB))
    assert (again.sent_bytes, again.samples) == (0, 150)


def test_an_iterable_that_breaks_is_wrong_usage_and_goes_on_when_mended(bench: Bench, code: Path) -> None:
    broken = bench.push(PythonSource(f"{code}:broken"), part_size=10 * KIB)
    assert isinstance(broken.error, UsageError)
    assert broken.state == "incomplete"
    code.write_text(code.read_text().replace("index == 100", "index == 1000"))
    result = done(bench.push(PythonSource(f"{code}:broken"), part_size=10 * KIB))
    assert (result.samples, len(bench.members(result))) == (150, 300)


def test_composed_images_arrive_with_their_masks(bench: Bench, tmp_path: Path) -> None:
    for name, count, mode in (("bg", 2, "RGB"), ("fg", 2, "RGBA")):
        (tmp_path / name).mkdir()
        for number in range(count):
            image = Image.new(mode, (60, 40), (number * 90, 100, 200, 160)[: len(mode)])
            image.save(tmp_path / name / f"{number}.png")
    source = CompositeSource(backgrounds=tmp_path / "bg", foregrounds=tmp_path / "fg", size=32, placements=3)

    result = done(bench.push(source, part_size=10 * KIB))

    members = bench.members(result)
    assert result.samples == 2 * 2 * 2 * 3
    assert result.files == len(members) == 3 * result.samples
    assert {path.partition(b".")[2] for path in members} == {b"image.jpg", b"mask.jpg", b"json"}
    assert "preview.jpg" in bench.files(result)
    assert done(bench.push(source, part_size=10 * KIB)).sent_bytes == 0


# -- bad input -----------------------------------------------------------------------------------------------------


class Vanishing(FolderSource):
    """A folder one file of which goes between planning and packing."""

    def pack(self, selection: Any, writer: Any, part_size: int) -> Any:
        (self.root / "d1" / "00001.jpg").unlink(missing_ok=True)
        return super().pack(selection, writer, part_size)


def test_a_file_that_vanished_is_listed_and_the_rest_goes_up(bench: Bench, make_tree: MakeTree) -> None:
    files = tree(40)
    root = make_tree(files)
    result = bench.push(Vanishing(root))

    assert [(one.path, one.why) for one in result.failed] == [("d1/00001.jpg", "it is no longer there")]
    del files["d1/00001.jpg"]
    check(bench, result, as_bytes(files))
    make_tree({"d1/00001.jpg": b"back"})
    result = bench.push(FolderSource(root))
    assert result.failed == []
    check(bench, result, as_bytes({**files, "d1/00001.jpg": b"back"}))


class Growing(FolderSource):
    """A folder in which one file grows between the look at it and its packing."""

    def pack(self, selection: Any, writer: Any, part_size: int) -> Any:
        (self.root / "log").write_bytes(bytes(300 * KIB))
        return super().pack(selection, writer, part_size)


def test_a_file_that_outgrows_the_temp_folder_is_named_and_blocks_nothing(bench: Bench, make_tree: MakeTree) -> None:
    root = make_tree({"log": b"x", "other": b"y"})
    result = bench.push(Growing(root), temp_limit=200 * KIB, engine="serial")
    assert [one.path for one in result.failed] == ["log"]
    assert "grew" in result.failed[0].why
    result = bench.push(root, temp_limit=200 * KIB)
    assert (result.state, [one.path for one in result.failed]) == ("complete", ["log"])
    assert set(bench.members(result)) == {b"other"}
    (root / "log").write_bytes(b"short again")
    result = done(bench.push(root, temp_limit=200 * KIB))
    assert set(bench.members(result)) == {b"log", b"other"}


def test_parts_are_no_larger_than_the_temp_limit(bench: Bench, make_tree: MakeTree) -> None:
    root = make_tree({f"{number}.bin": bytes(30 * KIB) for number in range(10)})
    result = done(bench.push(root, temp_limit=100 * KIB, part_size=512 * KIB))
    assert result.parts > 1
    assert len(bench.members(result)) == 10


def test_a_changed_file_that_cannot_be_packed_replaces_nothing(bench: Bench, make_tree: MakeTree) -> None:
    root = make_tree({"d1/00001.jpg": b"old"})
    done(bench.push(root))
    make_tree({"d1/00001.jpg": b"changed", "d1/00002.jpg": b"new"})
    result = bench.push(Vanishing(root))
    assert (result.samples, result.files) == (2, 2)
    check(bench, result, {b"d1/00001.jpg": b"old", b"d1/00002.jpg": b"new"})


def test_a_label_added_later_makes_no_second_sample(bench: Bench, make_tree: MakeTree) -> None:
    root = make_tree({f"{number}.jpg": b"x" for number in range(10)})
    done(bench.push(root))
    make_tree({f"{number}.json": b"{}" for number in range(10)})
    result = done(bench.push(root))
    assert (result.samples, result.files) == (10, 20)
    assert Manifest.decode(bench.read(bench.files(result)["manifest.json"][0])).samples == 10


def test_a_file_that_became_a_folder_is_told_and_in_the_card(bench: Bench, make_tree: MakeTree) -> None:
    root = make_tree({"a": b"old", "z": b"z"})
    done(bench.push(root))
    (root / "a").unlink()
    make_tree({"a/b.txt": b"new", "con": b"reserved"})
    result = done(bench.push(root))
    assert result.names == {"folders": 1, "windows": 1}
    card = bench.read(bench.files(result)["README.md"][0]).decode()
    for line in ("1 name of a file and of a folder at once", "(such as a)", "1 name that Windows", "(such as con)"):
        assert line in card
        assert line in bench.notices()
    assert done(bench.push(root)).names == result.names  # also when nothing is new


@pytest.mark.skipif(os.name == "nt", reason="needs a name that is not UTF-8")
def test_a_name_that_is_not_utf8_is_told(bench: Bench, make_tree: MakeTree) -> None:
    root = make_tree({"a": b"a"})
    Path(os.fsdecode(os.fsencode(root) + b"/caf\xe9")).write_bytes(b"b")
    assert done(bench.push(root)).names == {"encoding": 1}
    assert "in another encoding than UTF-8: Java" in bench.notices()
    assert "caf\\xe9" in bench.notices()


@pytest.mark.skipif(os.name == "nt" or os.geteuid() == 0, reason="needs a file that may not be read")
def test_an_unreadable_file_is_listed_and_tried_again(bench: Bench, make_tree: MakeTree) -> None:
    files = tree(10)
    root = make_tree(files)
    (root / "d1" / "00001.jpg").chmod(0)
    for _ in range(2):
        result = done(bench.push(root))
        assert [one.path for one in result.failed] == ["d1/00001.jpg"]
    (root / "d1" / "00001.jpg").chmod(0o600)
    result = bench.push(root)
    assert result.failed == []
    check(bench, result, as_bytes(files))


def test_a_part_of_which_nothing_can_be_read_is_left_out(bench: Bench, make_tree: MakeTree) -> None:
    @dataclass(frozen=True)
    class Going(FolderSource):
        def pack(self, selection: Any, writer: Any, part_size: int) -> Any:
            for file in (self.root / "z").glob("*"):
                file.unlink(missing_ok=True)  # two parts may be packed at once
            return super().pack(selection, writer, part_size)

    files = {f"a/{number}.txt": bytes(3 * KIB) for number in range(12)}
    doomed = {f"z/{number}.txt": bytes(3 * KIB) for number in range(24)}
    root = make_tree({**files, **doomed})
    result = bench.push(Going(root), part_size=38 * KIB)
    assert len(result.failed) == len(doomed)
    assert any(isinstance(event, PartDropped) for event in bench.heard)
    check(bench, result, as_bytes(files))
    result = bench.push(FolderSource(root), part_size=38 * KIB)
    assert (result.failed, result.sent_bytes) == ([], 0)


def test_a_missing_source_makes_nothing_on_drive(bench: Bench, tmp_path: Path) -> None:
    result = bench.push(tmp_path / "nowhere")
    assert isinstance(result.error, SourceMissing)
    assert str(tmp_path / "nowhere") in str(result.error)
    assert bench.emulator.stats()["folders"] == 0


@pytest.mark.parametrize("options", [{}, {"exclude": ("*",)}])
def test_an_empty_source_makes_nothing_on_drive(bench: Bench, make_tree: MakeTree, options: dict[str, Any]) -> None:
    root = make_tree({"a.txt": b"1"} if options else {})
    result = bench.push(FolderSource(root, **options))
    assert isinstance(result.error, SourceMissing)
    assert bench.emulator.stats()["folders"] == 0


def test_two_datasets_do_not_get_one_name(bench: Bench, make_tree: MakeTree) -> None:
    done(bench.push(make_tree({"a.txt": b"1"}, "one")))
    writes = bench.writes()
    for other in (
        FolderSource(make_tree({"b.txt": b"2"}, "two")),
        FolderSource(make_tree({}, "one"), exclude=("*.tmp",)),
    ):
        result = bench.push(other)
        assert isinstance(result.error, UsageError)
        assert "--name" in result.error.advice
    assert bench.writes() == writes


def test_two_datasets_do_not_get_one_name_from_two_homes(bench: Bench, make_tree: MakeTree, tmp_path: Path) -> None:
    done(bench.push(make_tree({"a.txt": b"1"}, "one")))
    other = Bench(bench.emulator, tmp_path / "home2")
    result = other.push(FolderSource(make_tree({"b.txt": b"2"}, "two"), exclude=("*.tmp",)))
    assert isinstance(result.error, UsageError)


@pytest.mark.parametrize("name", ["a/b", "..", ".x", "x" * 101, "tab\t", "what?", " x", "c:d"])
def test_a_name_that_cannot_be_a_file_name_is_refused(bench: Bench, make_tree: MakeTree, name: str) -> None:
    with pytest.raises(UsageError):
        bench.push(make_tree({"a": b""}), name=name)


def test_a_temp_limit_smaller_than_a_part_is_said(bench: Bench, make_tree: MakeTree) -> None:
    result = bench.push(make_tree({"a": bytes(100 * KIB)}), temp_limit=50 * KIB)
    assert isinstance(result.error, TempFull)
    assert "--temp-limit" in result.error.advice


def test_a_temp_folder_that_cannot_be_written_is_said(bench: Bench, make_tree: MakeTree, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    result = bench.push(make_tree({"a": b"1"}), temp=tmp_path / "file")
    assert isinstance(result.error, TempFull)


def test_a_run_that_is_under_way_is_not_joined(bench: Bench, make_tree: MakeTree) -> None:
    root = make_tree({"a": b"1"})

    class Twice(FolderSource):
        def pack(self, selection: Any, writer: Any, part_size: int) -> Any:
            seen.append(bench.push(root))
            return super().pack(selection, writer, part_size)

    seen: list[PushResult] = []
    done(bench.push(Twice(root)))
    assert isinstance(seen[0].error, Busy)


# -- what goes wrong between runs ----------------------------------------------------------------------------------


def lose_ledger(home: Path) -> None:
    for file in (home / "ledgers").glob("*"):
        file.unlink()


def test_a_lost_ledger_is_rebuilt_without_sending_anything(bench: Bench, make_tree: MakeTree) -> None:
    files = tree(80)
    root = make_tree(files)
    first = done(bench.push(root))
    manifest = bench.read(bench.files(first)["manifest.json"][0])
    lose_ledger(bench.home)

    result = bench.push(root)

    assert result.sent_bytes == 0
    assert (result.parts, result.files, result.samples, result.bytes) == (80 and first.parts, 80, 80, first.bytes)
    check(bench, result, as_bytes(files))
    assert bench.read(bench.files(result)["manifest.json"][0]) == manifest
    new = {"new.txt": b"1"}
    make_tree(new)
    check(bench, bench.push(root), as_bytes({**files, **new}))


def test_a_lost_ledger_is_rebuilt_with_what_was_replaced(bench: Bench, make_tree: MakeTree) -> None:
    files = tree(30)
    root = make_tree(files)
    done(bench.push(root))
    changed = {"d1/00001.jpg": b"newer", "d2/00002.jpg": b"newer, too"}
    make_tree(changed)
    second = done(bench.push(root))
    lose_ledger(bench.home)

    result = bench.push(root)

    assert result.sent_bytes == 0
    assert (result.files, result.samples) == (second.files, second.samples) == (30, 30)
    check(bench, result, as_bytes({**files, **changed}))


def test_a_lost_ledger_is_rebuilt_while_checksums_are_late(
    bench: Bench, make_tree: MakeTree, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("driveshard.config.settings.Patience", lambda: _quick())
    files = tree(40)
    root = make_tree(files)
    first = done(bench.push(root))
    for (one,) in bench.files(first).values():
        bench.emulator.drive.delay_checksums(one.id)
    lose_ledger(bench.home)
    result = bench.push(root)
    assert result.sent_bytes == 0
    check(bench, result, as_bytes(files))


@pytest.mark.parametrize("kind", ["indexed", "endless"])
def test_a_lost_ledger_of_a_python_source_is_rebuilt(bench: Bench, code: Path, kind: str) -> None:
    source = PythonSource(f"{code}:{kind}")
    first = done(bench.push(source, part_size=10 * KIB))
    lose_ledger(bench.home)
    result = done(bench.push(source, part_size=10 * KIB))
    assert result.sent_bytes == 0
    assert (result.parts, result.samples, result.files) == (first.parts, 150, 300)


def test_a_damaged_ledger_is_kept_aside_and_rebuilt(bench: Bench, make_tree: MakeTree) -> None:
    files = tree(30)
    root = make_tree(files)
    done(bench.push(root))
    (ledger,) = (bench.home / "ledgers").glob("*.sqlite")
    ledger.write_bytes(b"what is this?" * 500)

    result = bench.push(root)

    assert result.sent_bytes == 0
    check(bench, result, as_bytes(files))
    (aside,) = [one for one in ledger.parent.iterdir() if "damaged" in one.name]
    assert aside.read_bytes() == b"what is this?" * 500
    assert aside.name in bench.notices()


def test_a_recovery_that_was_cut_short_begins_again(bench: Bench, make_tree: MakeTree) -> None:
    files = tree(60)
    root = make_tree(files)
    done(bench.push(root))
    lose_ledger(bench.home)
    bench.emulator.set_faults("403-storageFull:download@3")
    assert isinstance(bench.push(root).error, Refused)
    bench.emulator.set_faults("")
    result = bench.push(root)
    assert result.sent_bytes == 0
    check(bench, result, as_bytes(files))


def test_a_part_deleted_on_drive_is_restored(bench: Bench, make_tree: MakeTree) -> None:
    files = tree(60)
    root = make_tree(files)
    first = done(bench.push(root))
    before = bench.parts(first)
    destination = bench.destination()
    destination.remove(bench.files(first)["d-00001.zip"][0].id)

    result = bench.push(root)

    check(bench, result, as_bytes(files))
    assert bench.parts(result) == before
    assert result.sent_bytes == len(before["d-00001.zip"])
    destination.close()  # type: ignore[attr-defined]


def test_a_part_changed_on_drive_is_restored(bench: Bench, make_tree: MakeTree) -> None:
    files = tree(60)
    root = make_tree(files)
    first = done(bench.push(root))
    change_part(bench, first, b"something else")
    check(bench, bench.push(root), as_bytes(files), allowed=("same-name",))  # until the new one is proved


def change_part(bench: Bench, result: PushResult, suffix: bytes) -> list[bytes]:
    """Somebody adds to part 1 on the Drive, which stays a zip; returns its members' paths."""
    destination = bench.destination()
    one = bench.files(result)["d-00001.zip"][0]
    data = bench.read(one)
    destination.put(one.id, result.folder_id or "", one.name, data + suffix, "application/zip", replace=True)
    destination.close()  # type: ignore[attr-defined]
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        return [member_path(info) for info in archive.infolist()]


@pytest.mark.parametrize("kept", [0, 3])
def test_a_changed_part_that_cannot_be_packed_again_is_not_removed(
    bench: Bench, make_tree: MakeTree, kept: int
) -> None:
    """It may hold the only copy: the user has freed the room at home."""
    root = make_tree(tree(60))
    first = done(bench.push(root))
    paths = change_part(bench, first, b"something else")
    for path in paths[kept:]:
        (root / path.decode()).unlink()
    for _ in range(2):
        result = done(bench.push(root))
        copies = [bench.read(one) for one in bench.files(result)["d-00001.zip"]]
        found = set()
        for data in copies:
            with zipfile.ZipFile(io.BytesIO(data)) as archive:
                found |= {member_path(info) for info in archive.infolist()}
        assert found == set(paths)
        assert len(copies) == (2 if kept else 1)


def test_a_part_that_was_moved_away_is_told(bench: Bench, make_tree: MakeTree) -> None:
    root = make_tree(tree(60))
    first = done(bench.push(root))
    one = bench.files(first)["d-00001.zip"][0]
    assert one.parent == first.folder_id
    query = f"addParents=root&removeParents={one.parent}"
    request = urllib.request.Request(f"{bench.emulator.url}/drive/v3/files/{one.id}?{query}", b"{}", method="PATCH")
    request.add_header("Authorization", "Bearer emulator")
    request.add_header("Content-Type", "application/json")
    urllib.request.urlopen(request).close()

    assert done(bench.push(root)).sent_bytes == 0
    assert "d-00001.zip was moved out of the dataset's folder" in bench.notices()
    assert bench.notices().count("moved out") == 1


def test_what_driveshard_keeps_itself_is_not_pushed(bench: Bench, make_tree: MakeTree, tmp_path: Path) -> None:
    """The home with the login in it, parts that wait in the temp folder, and what lies in a plain folder."""
    files = tree(60)
    root = make_tree(files)
    inside = Bench(bench.emulator, root / "home")
    (root / "home").mkdir()
    (root / "home" / "token.json").write_bytes(b"secret")
    (root / "tmp").mkdir()
    (root / "tmp" / "mine.txt").write_bytes(b"a sample")
    mine = as_bytes(files) | {b"tmp/mine.txt": b"a sample"}
    stopped = inside.push(root, temp=root / "tmp", max_transfer=1)  # leaves parts in the temp folder
    assert isinstance(stopped.error, ComeBackLater)
    assert list((root / "tmp").rglob("*.zip"))
    check(inside, inside.push(root, temp=root / "tmp"), mine)

    for _ in range(2):
        assert done(inside.push(root, to=f"file:{root / 'out'}")).files == len(mine)
    with pytest.raises(UsageError, match="its own files"):
        inside.push(root / "home")


@pytest.mark.parametrize("name", ["manifest.json", "README.md", "d-00000.zip"])
def test_whatever_is_deleted_on_drive_is_restored(bench: Bench, make_tree: MakeTree, name: str) -> None:
    files = tree(20)
    root = make_tree(files)
    first = done(bench.push(root))
    before = set(bench.files(first))
    destination = bench.destination()
    destination.remove(bench.files(first)[name][0].id)
    destination.close()  # type: ignore[attr-defined]

    result = bench.push(root)

    check(bench, result, as_bytes(files))
    assert set(bench.files(result)) == before


# -- faults on the way ---------------------------------------------------------------------------------------------

FAULTS = [
    "503@2*3",
    "502-html@3",
    "408@2",
    "reset@1",
    "reset-before-reply@1",
    "503-after-256K@1",
    "308-short@1",
    "308-no-range@2",
    "lost-final@1",
    "lost-final@1*3",
    "final-201*",
    "session-404@2",
    "session-410@1",
    "wrong-md5@2",
    "md5-late@1",
    "list-lag*",
    "409-id-in-use@2",
    "409-id-in-use@1",
    "401-expired@3",
    "403-rateLimit@3",
    "reset@2,503@9,lost-final@2",
]


@pytest.mark.parametrize("faults", FAULTS)
def test_whatever_happens_on_the_way_everything_arrives_once(
    bench: Bench, make_tree: MakeTree, monkeypatch: pytest.MonkeyPatch, faults: str
) -> None:
    monkeypatch.setattr("driveshard.config.settings.Patience", lambda: _quick())
    rng = random.Random(5)
    files = {f"{number}.bin": rng.randbytes(300 * KIB) for number in range(6)}
    bench.emulator.set_faults(faults, seed=1)

    result = bench.push(make_tree(files), part_size=700 * KIB)

    bench.emulator.set_faults("")
    for _ in range(4):  # lists that lag behind have caught up then
        bench.files(done(result))
    check(bench, result, as_bytes(files))


def _quick() -> Any:
    from driveshard.storage.retry import Patience

    return Patience(first=0.01, longest=0.05)


def test_wrong_bytes_again_and_again_are_a_mismatch_and_nothing_is_released(
    bench: Bench, make_tree: MakeTree, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("driveshard.config.settings.Patience", lambda: _quick())
    files = {"a.bin": random.Random(1).randbytes(300 * KIB)}
    bench.emulator.set_faults("wrong-md5*")
    result = bench.push(make_tree(files), part_size=700 * KIB)
    assert isinstance(result.error, Mismatch)
    assert list((bench.home / "spool").rglob("*.zip"))
    bench.emulator.set_faults("")
    check(bench, bench.push(tmp_root(make_tree)), as_bytes(files))


def tmp_root(make_tree: MakeTree) -> Path:
    return make_tree({})


def test_a_preview_that_cannot_be_read_does_not_fail_the_upload(bench: Bench, make_tree: MakeTree) -> None:
    files = tree(10)
    bench.emulator.set_faults("download-quota*")
    result = bench.push(make_tree(files))
    bench.emulator.set_faults("")
    check(bench, result, as_bytes(files))


def test_sharing_that_is_refused_does_not_fail_the_upload(bench: Bench, make_tree: MakeTree) -> None:
    files = tree(10)
    bench.emulator.set_faults("publish-refused*")
    result = bench.push(make_tree(files), share="anyone")
    assert "Not shared" in bench.notices()
    check(bench, result, as_bytes(files))


def test_writes_are_paced(bench: Bench, make_tree: MakeTree) -> None:
    done(bench.push(make_tree(tree(40)), part_size=15 * KIB, writes_per_second=2.5, uploads=3))
    assert bench.writes() >= 8
    assert bench.emulator.stats()["max_writes_in_any_second"] <= 3


# -- a plain folder ------------------------------------------------------------------------------------------------


def test_a_plain_folder_gets_the_same_parts(bench: Bench, make_tree: MakeTree, tmp_path: Path) -> None:
    root = make_tree(tree(100))
    there = bench.parts(done(bench.push(root)))
    nas = tmp_path / "nas"

    here = done(bench.push(root, to=f"file:{nas}"))

    folder = nas / "d"
    assert {one.name: one.read_bytes() for one in folder.glob("*.zip")} == there
    assert {one.name for one in folder.iterdir()} - set(there) <= {
        *("manifest.json", "index.npz", "README.md", "preview.jpg"),
        ".driveshard",
    }
    assert not list(folder.rglob("*.partial"))
    assert here.link == folder.as_uri()
    again = done(bench.push(root, to=f"file:{nas}"))
    assert (again.sent_bytes, again.parts) == (0, here.parts)
    lose_ledger(bench.home)
    assert done(bench.push(root, to=f"file:{nas}")).sent_bytes == 0
