"""The published index is the one that the published parts give, whatever a push knew of them."""

from __future__ import annotations

import io
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image

from driveshard.archive.directory import read_directory
from driveshard.archive.index import IndexedPart, save_index
from driveshard.archive.index_builder import build_index
from driveshard.archive.manifest import Manifest
from driveshard.archive.zip_writer import ZipWriter
from driveshard.config.settings import PushOptions, Settings
from driveshard.core.events import Notice
from driveshard.core.model import RemoteFile
from driveshard.emulator import Emulator
from driveshard.sources.folder import FolderSource
from driveshard.storage.registry import open_destination
from driveshard.storage.retry import Patience
from driveshard.upload.dataset_folder.index import index_of
from driveshard.upload.ledger.ledger import Ledger
from driveshard.upload.result import PushResult
from driveshard.upload.run import push
from driveshard.upload.send.uploader import Uploader
from tests.fakes import Heard


class Bench:
    """A directory that is pushed to a Drive of its own."""

    def __init__(self, work: Path, emulator: Emulator) -> None:
        self.source = work / "src"
        self.home = work / "home"
        patience = Patience(attempts=3, first=0.01, longest=0.05)
        self.settings = Settings(home=self.home, drive_url=f"{emulator.url}/", patience=patience, list_lag=0.3)
        self.emulator = emulator
        self.heard = Heard()

    def push(self, files: dict[str, bytes]) -> dict[str, bytes]:
        """Add these files, push, and give all that lies in the folder."""
        for path, content in files.items():
            (self.source / path).parent.mkdir(parents=True, exist_ok=True)
            (self.source / path).write_bytes(content)
        options = PushOptions("src", name="set", part_size=9000, writes_per_second=0.0, engine="threads")
        result = push(options, FolderSource(self.source), self.settings, self.heard)
        assert result.error is None
        return self.stored(result)

    def stored(self, result: PushResult) -> dict[str, bytes]:
        self.emulator.drive.line.set_bandwidth(None)
        destination = open_destination("drive:", self.settings)
        listed: list[RemoteFile] = destination.children(result.folder_id or "")
        found = {one.name: destination.read(one.id, 0, one.size) for one in listed}
        destination.close()  # type: ignore[attr-defined]
        assert len(found) == len(listed)
        return found

    def downloads(self) -> int:
        return sum("alt=media" in str(entry["path"]) for entry in self.emulator.log())

    def ledger(self) -> Path:
        return next((self.home / "ledgers").glob("*.sqlite"))


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    with Emulator(tmp_path / "drive") as emulator:
        yield Bench(tmp_path, emulator)


def expected(stored: dict[str, bytes]) -> bytes:
    """The index of the parts that lie there."""
    manifest = Manifest.decode(stored["manifest.json"])
    parts = []
    for part in manifest.parts:
        data = stored[part.name]
        directory = read_directory(lambda start, length, data=data: data[start : start + length], len(data))  # type: ignore[misc]
        parts.append((IndexedPart(part.name, part.size, part.sha256), directory))
    stream = io.BytesIO()
    save_index(build_index(parts), stream)
    return stream.getvalue()


FILES = {f"d/{number:03d}.bin": bytes([number]) * 800 for number in range(40)}


def test_it_is_published_and_follows_each_push(bench: Bench) -> None:
    first = bench.push(FILES)
    assert first["index.npz"] == expected(first)
    second = bench.push({"d/007.bin": b"newer", "e.txt": b"more"})
    assert second["index.npz"] == expected(second) != first["index.npz"]
    before = bench.downloads()
    assert bench.push({}) == second
    assert bench.downloads() == before + len(second)  # those of this test


def test_of_files_without_images_or_labels_nothing_is_read_back(bench: Bench) -> None:
    there = bench.push({f"{number}.bin": bytes([number]) * 5000 for number in range(30)})
    assert bench.downloads() == len(there), "by this test itself, each file once"
    again = bench.push({"more.json": b"{}"})
    assert bench.downloads() > len(there) + len(again)


def test_all_but_the_manifest_is_written_while_the_last_part_is_on_its_way(bench: Bench) -> None:
    """So that the end of a run, which waits for its places among the writes, has one. The preview is made of what
    still lies here: no part is read back."""
    bench.emulator.drive.line.set_bandwidth(50_000)
    stored = bench.push({**{f"d/{number}.png": picture(number) for number in range(8)}, "last": bytes(80_000)})
    log = bench.emulator.log()
    last_part = max(entry["time"] for entry in log if "final" in entry["kinds"] and "session" in entry["kinds"])
    small = sorted(entry["time"] - entry["seconds"] for entry in log if "uploadType=multipart" in entry["path"])
    assert len(small) == 4
    assert small[2] < last_part < small[3]
    assert bench.downloads() == len(stored)  # those of this test
    assert stored["index.npz"] == expected(stored)
    assert "preview.jpg" in stored["README.md"].decode()


def test_what_cannot_be_read_yet_is_read_at_the_end(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """As of a part whose worker is gone when its session has begun."""
    monkeypatch.setattr(Uploader, "at_hand", lambda *_: b"")
    bench.emulator.drive.line.set_bandwidth(50_000)
    stream = io.BytesIO()
    Image.new("RGB", (100, 100)).save(stream, "PNG", compress_level=0)
    stored = bench.push({"one.png": stream.getvalue()})
    assert "preview.jpg" in stored
    assert "preview.jpg" in stored["README.md"].decode()
    assert stored["index.npz"] == expected(stored)


def test_a_card_does_not_run_ahead_of_a_manifest_that_is_there(bench: Bench) -> None:
    bench.push(FILES)
    before = len(bench.emulator.log())
    bench.emulator.drive.line.set_bandwidth(50_000)
    stored = bench.push({"last": bytes(30_000)})
    log = bench.emulator.log()[before:]
    last_part = max(entry["time"] for entry in log if "final" in entry["kinds"] and "session" in entry["kinds"])
    (card,) = [entry for entry in log if entry["bytes"] == len(stored["README.md"]) and "body" in entry["kinds"]]
    assert card["time"] - card["seconds"] > last_part


def picture(number: int) -> bytes:
    """About 900 bytes, and next to none of the preview."""
    stream = io.BytesIO()
    Image.new("RGB", (17, 17), (6 * number, 90, 0)).save(stream, "PNG", compress_level=0)
    return stream.getvalue()


@pytest.mark.parametrize(
    "spoil", ["DROP TABLE ends", "UPDATE ends SET sha256 = 'of another'", "DELETE FROM ends WHERE number = 1"]
)
def test_parts_of_an_older_ledger_are_read_where_they_lie(bench: Bench, spoil: str) -> None:
    bench.push(FILES)
    with sqlite3.connect(bench.ledger()) as ledger:
        ledger.execute(spoil)
    ledger.close()
    stored = bench.push({"e.txt": b"more"})
    assert stored["index.npz"] == expected(stored)


def test_a_lost_ledger_makes_no_other_index(bench: Bench) -> None:
    bench.push(FILES)
    bench.ledger().unlink()
    stored = bench.push({"e.txt": b"more"})
    assert stored["index.npz"] == expected(stored)


def test_an_index_that_somebody_deleted_comes_back_with_the_next_part(bench: Bench) -> None:
    bench.push(FILES)
    with sqlite3.connect(bench.ledger()) as ledger:
        file_id = ledger.execute("SELECT file_id FROM artifacts WHERE name = 'index.npz'").fetchone()[0]
    ledger.close()
    destination = open_destination("drive:", bench.settings)
    destination.remove(file_id)
    destination.close()  # type: ignore[attr-defined]
    stored = bench.push({"e.txt": b"more"})
    assert stored["index.npz"] == expected(stored)


def test_one_that_this_machine_cannot_hold_is_not_made(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """It would be killed for it at the end of each push."""
    monkeypatch.setattr("driveshard.upload.dataset_folder.index._MEMORY_A_FILE", 1 << 50)
    assert "index.npz" not in bench.push(FILES)
    (told,) = [one.text for one in bench.heard if isinstance(one, Notice) and "index" in one.text]
    assert told.startswith("No index was made, so that each reader makes one: it takes some ")


def test_a_part_that_cannot_be_understood_means_no_index(tmp_path: Path) -> None:
    from driveshard.archive.manifest import ManifestPart

    with ZipWriter(tmp_path / "a.zip") as writer:
        writer.add(b"a", b"b")
        done = writer.close()
    row = ManifestPart(0, "a.zip", "id", done.size, done.md5, done.sha256, 1, 1, "a", "a")
    manifest = Manifest("set", "job", {}, 1, 1, (row,))
    with Ledger(tmp_path / "l.sqlite") as ledger:
        data = (tmp_path / "a.zip").read_bytes()
        assert index_of(manifest, ledger, lambda part, start, length: data[start : start + length])
        assert index_of(manifest, ledger, lambda part, start, length: bytes(length)) is None
