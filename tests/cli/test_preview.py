"""The picture of a dataset that somebody asks for, wherever it lies."""

from __future__ import annotations

import io
import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image

import driveshard
from driveshard.core.errors import TempFull
from driveshard.emulator import Emulator
from tests.cli.test_main import Shell

COLORS = {"image.png": (200, 30, 30), "mask.png": (255, 255, 255), "depth.png": (30, 30, 200)}


class Drawer(Shell):
    drive: Emulator


@pytest.fixture(scope="module")
def shell(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Drawer]:
    work = tmp_path_factory.mktemp("preview")
    with Emulator(work / "drive") as emulator:
        shell = Drawer(work, emulator.url)
        shell.drive = emulator
        yield shell


@pytest.fixture(scope="module")
def link(shell: Drawer) -> str:
    """Forty samples of three images and 100 KB each in four parts, shared; asked for by a stranger."""
    folder = shell.work / "scenes"
    folder.mkdir()
    for number in range(40):
        for field, color in COLORS.items():
            buffer = io.BytesIO()
            Image.new("RGB", (32, 24), color).save(buffer, "PNG")
            (folder / f"{number:03d}.{field}").write_bytes(buffer.getvalue())
        (folder / f"{number:03d}.raw").write_bytes(bytes([number]) * 100_000)
    found = str(
        shell.json("push", "scenes", "--share", "anyone", "--part-size", "1M", "--writes-per-second", "1000")["link"]
    )
    shell.environment["DRIVESHARD_HOME"] = str(shell.work / "stranger")
    return found


def colors_of(file: Path) -> Counter[tuple[int, int, int]]:
    with Image.open(file) as sheet:
        return Counter({color: count for count, color in sheet.convert("RGB").getcolors(1 << 24) or ()})


def test_all_images_of_a_sample_stand_side_by_side(shell: Drawer, link: str) -> None:
    made = shell.json("preview", link, "-o", "sheet.png")
    assert made["name"] == "scenes" and made["bytes"] == (shell.work / "sheet.png").stat().st_size
    counts = colors_of(shell.work / "sheet.png")
    assert counts[COLORS["image.png"]] == counts[COLORS["depth.png"]] >= 20 * 160 * 120
    with Image.open(shell.work / "sheet.png") as sheet:
        row = [sheet.convert("RGB").getpixel((20 + 166 * place + 80, 20 + 80)) for place in range(3)]
    assert row == [COLORS["image.png"], COLORS["mask.png"], COLORS["depth.png"]]


def test_ranges_are_read_and_never_all_of_it(shell: Drawer, link: str) -> None:
    out, _ = shell.run("preview", link)
    assert out.startswith("preview.jpg: ") and " of scenes were read" in out
    with Image.open(shell.work / "preview.jpg") as sheet:
        assert sheet.format == "JPEG"
    shell.run("pull", link, "here")
    assert shell.json("preview", "here", "-o", "here.jpg")["bytes"] == (shell.work / "preview.jpg").stat().st_size


def test_what_nobody_named_is_never_replaced(shell: Drawer, link: str) -> None:
    """A dataset on a disk has a preview.jpg of its own, and one often stands in it when one asks for a picture."""
    shell.run("push", "scenes", "--to", "file:disk", "--name", "mine")
    inside = Shell(shell.work, shell.environment["DRIVESHARD_DRIVE_URL"])
    inside.environment, inside.work = shell.environment, shell.work / "disk" / "mine"
    own = (inside.work / "preview.jpg").read_bytes()
    requests = len(shell.drive.log())
    _, err = inside.run("preview", link, code=64)
    assert "preview.jpg is here already" in err and "-o" in err
    assert len(shell.drive.log()) == requests and (inside.work / "preview.jpg").read_bytes() == own
    (inside.work / "linked.jpg").symlink_to("kept.jpg")
    inside.run("preview", ".", "-o", "linked.jpg")
    assert (inside.work / "linked.jpg").is_symlink() and (inside.work / "kept.jpg").stat().st_size > 0
    inside.run("preview", ".", "-o", "preview.jpg")
    (inside.work / "usual").write_text("")
    assert (inside.work / "preview.jpg").stat().st_mode == (inside.work / "usual").stat().st_mode
    assert not list(inside.work.glob(".new-*"))


def test_that_it_cannot_be_written_is_known_before_anything_is_fetched(shell: Drawer, link: str) -> None:
    requests = len(shell.drive.log())
    (shell.work / "folder.png").mkdir()
    shell.run("preview", link, "-o", "nowhere/sheet.png", code=73)
    with pytest.raises(TempFull, match=r"folder\.png cannot be written"):
        driveshard.preview(link, shell.work / "folder.png")
    assert len(shell.drive.log()) == requests


def test_from_python(shell: Drawer, link: str) -> None:
    shell.run("pull", link, "there")
    made = driveshard.preview(shell.work / "there", shell.work / "p.png")
    assert Path(made.file).stat().st_size == made.bytes and made.fetched_bytes > 0


def test_what_cannot_be_shown_is_told(shell: Drawer, link: str) -> None:
    _, err = shell.run("preview", link, "-o", "sheet.gif", code=64)
    assert "neither a JPEG nor a PNG" in err
    _, err = shell.run("preview", link, "-o", "nowhere/sheet.png", code=73)
    assert "cannot be written" in err
    _, err = shell.run("preview", "nothing", "-o", "a.jpg", code=66)
    assert "nothing" in err
    (shell.work / "words").mkdir()
    (shell.work / "words" / "a.txt").write_text("a")
    shell.run("push", "words", "--to", "file:nas")
    _, err = shell.run("preview", "nas/words", "-o", "a.jpg", code=66)
    assert "no images" in err
    document = json.loads(shell.run("preview", "nas/words", "-o", "a.jpg", "--json", code=66)[0])
    assert document["error"]
