"""The figures of a dataset wherever it lies: on a Drive, in a folder, by its name."""

from __future__ import annotations

import io
import json
import random
import re
import shutil
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

import driveshard
from driveshard.core.errors import Mismatch
from driveshard.core.events import ignore
from driveshard.dataset.link import LinkReader
from driveshard.dataset.stats.stats import stats_of
from driveshard.emulator import Emulator
from tests.cli.test_main import Shell

SAMPLES = 40


@pytest.fixture(scope="module")
def emulator(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Emulator]:
    with Emulator(tmp_path_factory.mktemp("drive")) as running:
        yield running


@pytest.fixture(scope="module")
def shell(tmp_path_factory: pytest.TempPathFactory, emulator: Emulator) -> Shell:
    return Shell(tmp_path_factory.mktemp("stats"), emulator.url)


@pytest.fixture(scope="module")
def link(shell: Shell) -> str:
    """Forty samples in eight parts of half a megabyte, shared; one image is none, and most bytes are neither image nor
    label."""
    folder = shell.work / "scenes"
    folder.mkdir()
    dice = random.Random(1)
    for number in range(SAMPLES):
        buffer = io.BytesIO()
        Image.new("RGB", (32, 24), (number, 255, 0)).save(buffer, "PNG")
        (folder / f"{number:03d}.image.png").write_bytes(buffer.getvalue() if number != 7 else b"none")
        (folder / f"{number:03d}.json").write_text(json.dumps({"class": "cat" if number % 4 else "dog"}))
        (folder / f"{number:03d}.raw").write_bytes(dice.randbytes(100_000))
    return str(
        shell.json("push", "scenes", "--share", "anyone", "--part-size", "512K", "--writes-per-second", "1000")["link"]
    )


@pytest.fixture
def stranger(shell: Shell, tmp_path: Path) -> Iterator[Shell]:
    """Somebody else, with nothing but the link."""
    before = shell.environment
    shell.environment = {**before, "DRIVESHARD_HOME": str(tmp_path / "stranger")}
    yield shell
    shell.environment = before


def is_right(found: dict[str, Any]) -> bool:
    red = found["fields"]["image.png"]["images"]["channels"]["R"]
    counted = (found["samples"], found["files"], found["broken_count"], red["pixels"])
    mean = (sum(range(SAMPLES)) - 7) / (SAMPLES - 1) / 255
    return counted == (SAMPLES, 3 * SAMPLES, 1, (SAMPLES - 1) * 32 * 24) and abs(red["mean"] - mean) < 1e-12


def sent_by(emulator: Emulator) -> int:
    """Bytes of files that the Drive was asked for by ranges so far."""
    told = [re.match(r"bytes (\d+)-(\d+)/", str(one["range"])) for one in emulator.log() if one["method"] == "GET"]
    return sum(int(one[2]) - int(one[1]) + 1 for one in told if one)


def test_parts_of_a_link_pass_through(stranger: Shell, link: str, emulator: Emulator) -> None:
    before = sent_by(emulator)
    found = stranger.json("stats", link, "--workers", "2")
    assert is_right(found) and found["parts"] == 8 and found["labels"]["json"] == {"class": {"cat": 30, "dog": 10}}
    assert found["broken"] == [{"path": "007.image.png", "why": "it is no image of a known format"}]
    fetched = sent_by(emulator) - before
    assert fetched > SAMPLES * 100_000
    home = Path(stranger.environment["DRIVESHARD_HOME"])
    assert not list(home.rglob("*.zip")) and not list(home.rglob("passing"))
    assert stranger.json("stats", link) == found
    assert sent_by(emulator) - before - fetched < 100_000  # the manifest alone: all results were kept
    stranger.run("pull", link, "pulled")
    assert stranger.json("stats", "pulled") == {**found, "name": "pulled"}


def test_of_a_sample_little_is_fetched(stranger: Shell, link: str, emulator: Emulator) -> None:
    before = sent_by(emulator)
    found = stranger.json("stats", link, "--sample", "3", "--seed", "2")
    assert found["looked_at"] == 3 and found["fields"]["image.png"]["count"] == SAMPLES
    assert found["fields"]["image.png"]["images"]["count"] + found["broken_count"] == 3
    assert sent_by(emulator) - before < SAMPLES * 100_000 // 4


def test_what_the_cache_has_is_used(
    stranger: Shell, link: str, emulator: Emulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DRIVESHARD_HOME", stranger.environment["DRIVESHARD_HOME"])
    monkeypatch.setenv("DRIVESHARD_DRIVE_URL", emulator.url)
    list(driveshard.Dataset(link))
    before = sent_by(emulator)
    assert is_right(driveshard.stats(link, workers=1).as_json())
    assert sent_by(emulator) - before < 100_000
    assert len(list(Path(stranger.environment["DRIVESHARD_HOME"]).rglob("*.zip"))) == 8


def test_three_parts_at_most_are_here_at_a_time(
    stranger: Shell, link: str, emulator: Emulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = Path(stranger.environment["DRIVESHARD_HOME"])
    monkeypatch.setenv("DRIVESHARD_HOME", str(home))
    monkeypatch.setenv("DRIVESHARD_DRIVE_URL", emulator.url)
    fetched = driveshard.Dataset(link).parts.fetch(3)
    passing = fetched.parent / "passing"
    passing.mkdir()
    shutil.move(fetched, passing)  # as a killed run leaves one, which is used
    (passing / "0123-scenes-00099.zip").write_bytes(b"of a dataset as it was before")
    (passing / ".new-1-2-scenes-00001.zip").write_bytes(b"half")
    before, left = sent_by(emulator), set(passing.iterdir())
    seen: list[set[Path]] = []
    found = stats_of(link, None, 0, 2, None, ignore, lambda *_: seen.append({*passing.glob("[!.]*.zip")} - left))
    assert is_right(found.as_json()) and len(seen) == 1 + 8
    assert 1 <= max(map(len, seen)) <= 3 and not passing.exists()
    assert sent_by(emulator) - before < SAMPLES * 100_000 * 15 // 16


@pytest.mark.parametrize("key", ["", "a-key-of-nobody"])
def test_whoever_looks_elsewhere_reads_by_itself(
    stranger: Shell, link: str, emulator: Emulator, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, key: str
) -> None:
    """With a key by ranges; without one a part at a time, fetched whole and kept no longer than that."""
    monkeypatch.setenv("DRIVESHARD_HOME", stranger.environment["DRIVESHARD_HOME"])
    monkeypatch.setenv("DRIVESHARD_DRIVE_URL", emulator.url)
    monkeypatch.setenv("DRIVESHARD_API_KEY", key)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temp"))
    (tmp_path / "temp").mkdir()
    before = sent_by(emulator)
    with ThreadPoolExecutor(2) as pool:
        assert is_right(driveshard.stats(link, engine=pool, workers=2).as_json())
    assert (sent_by(emulator) - before > SAMPLES * 100_000) == (not key)
    assert not list(tmp_path.rglob("*.zip")) and not list((tmp_path / "temp").iterdir())
    assert not key or key.encode() not in b"".join(one.read_bytes() for one in tmp_path.rglob("*") if one.is_file())
    assert "a-key" not in repr(LinkReader(link).lent().what)


def test_a_folder_is_read_where_it_lies(shell: Shell, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DRIVESHARD_HOME", str(tmp_path / "home"))
    (tmp_path / "set").mkdir()
    Image.new("L", (3, 2), 255).save(tmp_path / "set" / "a.png")
    driveshard.push(tmp_path / "set", to=f"file:{tmp_path}/far", engine="serial")
    with ThreadPoolExecutor(1) as pool:
        by_name, by_path = driveshard.stats("set", engine=pool), driveshard.stats(tmp_path / "far" / "set", engine=pool)
        assert by_name == by_path and by_name.fields["png"]["images"]["channels"]["L"]["pixels"] == 6
        shutil.move(tmp_path / "far" / "set" / "set-00000.zip", tmp_path)
        shutil.rmtree(tmp_path / "home" / "cache")
        with pytest.raises(Mismatch, match=r"set-00000\.zip"):
            driveshard.stats("set", engine=pool)


def test_it_is_told_in_lines_and_drawn(shell: Shell, link: str) -> None:
    out, _ = shell.run("stats", "scenes", "-o", "figures.png")
    assert out.startswith("scenes: 40 samples, 120 files, 3.8 MiB in 8 parts\n")
    assert "  39 of 32x24 (RGB)\n" in out and "  G: mean 1.000000, std 0.000000\n" in out
    assert "json class: cat 30, dog 10\n" in out and "broken: 007.image.png: it is no image" in out
    with Image.open(shell.work / "figures.png") as sheet:
        assert sheet.format == "PNG" and sheet.width == 1080 and sheet.height > 400
        colors = {color for _, color in sheet.convert("RGB").getcolors(1 << 24) or ()}
    assert {(255, 255, 255), (127, 156, 199)} <= colors  # cards, and bars
    shell.run("stats", "scenes", "-o", "figures.jpg", "--sample", "2", "-q")
    with Image.open(shell.work / "figures.jpg") as sheet:
        assert sheet.format == "JPEG"


def test_what_cannot_be_done_is_told(shell: Shell, link: str) -> None:
    _, err = shell.run("stats", "scenes", "-o", "figures.gif", code=64)
    assert "neither a JPEG nor a PNG" in err
    _, err = shell.run("stats", "scenes", "--sample", "0", code=64)
    assert "--sample" in err
    _, err = shell.run("stats", "scenes", "--engine", "ray", code=64)
    assert "--engine" in err and "dask:ADDRESS" in err
    _, err = shell.run("stats", "nothing", code=66)
    assert "nothing" in err
