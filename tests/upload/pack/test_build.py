"""One part: the same bytes every time, described truly, or nothing left behind."""

from __future__ import annotations

import hashlib
import json
import os
import pickle
import subprocess
import sys
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from driveshard.archive import zip_writer as zipwriter
from driveshard.core.errors import Interrupted, PartTooLarge, SourceMissing, TempFull
from driveshard.core.model import Failure, FileList, Part, PartSpec, SampleRange, Selection
from driveshard.sources.base import MemberWriter, Packed
from driveshard.sources.folder import FolderSource
from driveshard.upload.pack.build import build_part

PLENTY = 1 << 30


@dataclass(frozen=True)
class Broken:
    """A source whose third member raises ``error``."""

    error: BaseException
    kind = "broken"

    def describe(self) -> str:
        return "broken"

    def settings(self) -> Mapping[str, Any]:
        return {}

    def pack(self, selection: Selection, writer: MemberWriter, part_size: int) -> Packed:
        writer.add(b"a", b"1")
        writer.add(b"b", bytes(3 << 20))
        raise self.error


@pytest.fixture
def folder(tmp_path: Path) -> FolderSource:
    root = tmp_path / "data"
    for number in range(20):
        place = root / f"d{number % 3}" / f"{number:03d}.image.jpg"
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(bytes([number]) * number * 10)
    return FolderSource(root)


def spec_of(source: FolderSource, number: int = 7) -> PartSpec:
    selection = FileList.of([row for block in source.scan() for row in block])
    return PartSpec(number, f"x-{number:05d}.zip", selection, 0)


def test_a_part_is_described_truly(folder: FolderSource, tmp_path: Path) -> None:
    spec, target = spec_of(folder), tmp_path / "part.building"
    part = build_part(spec, folder, target, PLENTY)
    content = target.read_bytes()
    assert part == Part(
        number=7,
        file_name="x-00007.zip",
        size=len(content),
        md5=hashlib.md5(content).hexdigest(),
        sha256=hashlib.sha256(content).hexdigest(),
        samples=20,
        files=20,
        first="d0/000.image.jpg",
        last="d2/017.image.jpg",
        selection=spec.selection,
    )
    assert pickle.loads(pickle.dumps(part)) == part
    with zipfile.ZipFile(target) as archive:
        assert archive.namelist() == [path.decode() for path in spec.selection.split_paths()]


def test_another_process_on_another_day_builds_the_same_bytes(folder: FolderSource, tmp_path: Path) -> None:
    here, there = tmp_path / "here", tmp_path / "there"
    build_part(spec_of(folder), folder, here, PLENTY)
    for path, _, _ in spec_of(folder).selection:
        os.utime(folder.root / path.decode(), (1, 1))
        (folder.root / path.decode()).chmod(0o600)
    code = (
        "import pickle, sys; from driveshard.upload.pack.build import build_part; "
        "build_part(*pickle.load(sys.stdin.buffer), 1 << 30)"
    )
    environment = {**os.environ, "TZ": "Pacific/Kiritimati", "PYTHONHASHSEED": "7", "LC_ALL": "C"}
    job = pickle.dumps((spec_of(folder), folder, there))
    subprocess.run([sys.executable, "-c", code], input=job, check=True, env=environment, cwd=Path.cwd())
    assert here.read_bytes() == there.read_bytes()


def test_a_second_thread_changes_no_byte(folder: FolderSource, tmp_path: Path) -> None:
    (folder.root / "large").write_bytes(os.urandom(6 << 20))
    alone = build_part(spec_of(folder), folder, tmp_path / "alone", PLENTY, spare_core=False)
    beside = build_part(spec_of(folder), folder, tmp_path / "beside", PLENTY, spare_core=True)
    assert beside == alone
    assert (tmp_path / "beside").read_bytes() == (tmp_path / "alone").read_bytes()


@pytest.mark.parametrize(
    "error",
    [OSError(5, "the source's own trouble"), ValueError("a defect"), SourceMissing("gone"), KeyboardInterrupt()],
)
def test_an_error_of_the_source_passes_and_leaves_nothing(tmp_path: Path, error: BaseException) -> None:
    target = tmp_path / "part"
    with pytest.raises(type(error)) as caught:
        build_part(PartSpec(0, "x.zip", SampleRange(0, None), 0), Broken(error), target, PLENTY)
    assert caught.value is error
    assert not target.exists()


def test_a_part_that_outgrows_its_room_is_removed(folder: FolderSource, tmp_path: Path) -> None:
    target = tmp_path / "part"
    with pytest.raises(PartTooLarge) as caught:
        build_part(spec_of(folder), folder, target, 500)
    assert (caught.value.exit_code, caught.value.limit) == (73, 500)
    assert caught.value.needed > 500
    assert not target.exists()
    size = build_part(spec_of(folder), folder, target, PLENTY).size
    assert build_part(spec_of(folder), folder, target, size).size == size


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")
def test_a_full_temp_disk_is_not_taken_for_the_sources_trouble(
    folder: FolderSource, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = tmp_path / "part"
    monkeypatch.setattr(zipwriter, "create_private", lambda _: os.open("/dev/full", os.O_WRONLY))
    with pytest.raises(TempFull, match="no room left"):
        build_part(spec_of(folder), folder, target, PLENTY)


def test_a_part_of_nothing_but_failures_leaves_no_file(folder: FolderSource, tmp_path: Path) -> None:
    spec, target = spec_of(folder), tmp_path / "part"
    assert isinstance(spec.selection, FileList)
    for path, _, _ in spec.selection:
        (folder.root / path.decode()).unlink()
    part = build_part(spec, folder, target, PLENTY)
    assert (part.files, part.samples, part.size, part.first, part.last) == (0, 0, 0, "", "")
    assert part.failed[0] == Failure("d0/000.image.jpg", "it is no longer there")
    assert len(part.failed) == 20
    assert part.selection == FileList()
    assert not target.exists()


def stop_at(call: int) -> Callable[[], None]:
    calls = iter(range(1, call + 1))

    def check() -> None:
        if next(calls) == call:
            raise Interrupted("stopped")

    return check


def test_it_can_be_stopped_before_any_member(folder: FolderSource, tmp_path: Path) -> None:
    target = tmp_path / "part"
    with pytest.raises(Interrupted):
        build_part(spec_of(folder), folder, target, PLENTY, stop_at(3))
    assert not target.exists()


@pytest.mark.skipif(os.name == "nt", reason="Windows refuses such names")
def test_first_and_last_fit_json_and_databases_whatever_their_bytes(tmp_path: Path) -> None:
    root = os.fsencode(tmp_path / "data")
    os.mkdir(root)
    for name in (b"\xff", "\N{GRINNING FACE}".encode()):
        with open(os.path.join(root, name), "wb") as file:
            file.write(b"x")
    source = FolderSource(tmp_path / "data")
    part = build_part(spec_of(source), source, tmp_path / "part", PLENTY)
    assert (part.first, part.last) == ("\N{GRINNING FACE}", "\\xff")
    assert json.dumps(part.last).encode() == b'"\\\\xff"'
