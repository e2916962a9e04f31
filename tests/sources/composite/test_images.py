"""The generator's inputs: what counts as a picture, how it is seen, and what is told of odd ones."""

from __future__ import annotations

import io
import json
import os
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, features

from driveshard.core.errors import BrokenPicture, SourceMissing
from driveshard.sources.composite.images import list_pictures, load_background, load_foreground, look_through
from driveshard.sources.composite.remarks import remarks
from driveshard.sources.composite.source import CompositeSource
from tests.core.test_pixels import SRGB, as_stored, looks_like_corners, other_profile


def drawn(
    path: Path, colour: object = (200, 30, 30), mode: str = "RGB", form: str | None = None, **options: object
) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new(mode, (60, 60), colour).save(path, form, **options)  # type: ignore[arg-type]
    return path


def names(folder: Path) -> list[str]:
    return [picture.name for picture in list_pictures(folder, "backgrounds")]


SUFFIXES = [
    "jpg",
    "JPE",
    "jfif",
    "png",
    "apng",
    "webp",
    "bmp",
    "dib",
    "gif",
    "tif",
    "tiff",
    "jp2",
    "j2k",
    "tga",
    "ppm",
    "pgm",
    "pcx",
    "sgi",
    "qoi",
    "ico",
    "dds",
    "avif",
]


def test_every_kind_that_pillow_opens_is_taken(tmp_path: Path) -> None:
    wanted = [one for one in SUFFIXES if one not in ("avif", "qoi") or (one == "avif" and features.check("avif"))]
    for suffix in wanted:
        drawn(tmp_path / f"a.{suffix}", 120, "L") if suffix == "pgm" else drawn(tmp_path / f"a.{suffix}")
    listing = look_through(tmp_path, "backgrounds")
    assert (len(listing.pictures), listing.skipped) == (len(wanted), ())
    for picture in listing.pictures:
        red, green, _ = load_background(picture, 16).getpixel((8, 8))  # type: ignore[misc]
        assert red == green == 120 if picture.name.endswith("pgm") else red > 150 > 90 > green, picture.name


def test_other_names_are_known_by_their_content(tmp_path: Path) -> None:
    for name, form in (
        ("img_0001", "JPEG"),
        ("photo.original", "PNG"),
        ("a.b.c", "WEBP"),
        ("x.txt", "TIFF"),
        ("n.1", "GIF"),
    ):
        drawn(tmp_path / name, form=form)
    for name, content in (
        ("notes.txt", b"BM is how a note may begin\n" * 20),
        ("P6", b"P6 is no picture either\n"),
        ("labels.json", b"{}"),
        ("empty", b""),
        ("run.sh", b"#!/bin/sh\n"),
        ("page.eps", b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n"),
        ("zeros", bytes(4000)),
    ):
        (tmp_path / name).write_bytes(content)
    listing = look_through(tmp_path, "backgrounds")
    assert [one.name for one in listing.pictures] == ["a.b.c", "img_0001", "n.1", "photo.original", "x.txt"]
    assert listing.skipped == ("P6", "empty", "labels.json", "notes.txt", "page.eps", "run.sh", "zeros")


def test_subfolders_are_taken_in_the_order_of_whole_names(tmp_path: Path) -> None:
    for name in ("b.png", "a/z.jpg", "a/deep/er/x.png", "a.png", "ü/1.png"):
        drawn(tmp_path / "bg" / name)
    assert names(tmp_path / "bg") == ["a.png", "a/deep/er/x.png", "a/z.jpg", "b.png", "ü/1.png"]
    drawn(tmp_path / "fg" / "one.png")
    source = CompositeSource(tmp_path / "bg", tmp_path / "fg", size=16, placements=1, flip=False)
    label = json.loads(source.members(1)[1][1])
    assert (label["background"], len(source)) == ("a/deep/er/x.png", 5)
    moved = shutil.copytree(tmp_path / "bg", tmp_path / "elsewhere")
    assert CompositeSource(moved, tmp_path / "fg", size=16, placements=1, flip=False).settings() == source.settings()
    (moved / "b.png").rename(moved / "a" / "b.png")
    assert CompositeSource(moved, tmp_path / "fg", size=16, placements=1, flip=False).settings() != source.settings()


def test_one_role_s_folder_inside_the_other_s_is_its_own(tmp_path: Path) -> None:
    drawn(tmp_path / "a.png")
    drawn(tmp_path / "objects" / "b.png")
    source = CompositeSource(tmp_path, tmp_path / "objects", placements=1, flip=False, size=16)
    assert len(source) == 1
    assert len(CompositeSource(tmp_path / "objects", tmp_path, placements=1, flip=False, size=16)) == 1
    assert len(CompositeSource(tmp_path, tmp_path, placements=1, flip=False, size=16)) == 4


@pytest.mark.skipif(sys.platform == "win32", reason="links need a right there")
def test_hidden_things_and_links_are_counted_and_litter_is_not(tmp_path: Path) -> None:
    drawn(tmp_path / "bg" / "a.png")
    for name in (".hidden.png", ".thumbs/x.png", "._a.png", ".DS_Store", "Thumbs.db"):
        drawn(tmp_path / "bg" / name, form="PNG")
    drawn(tmp_path / "other" / "b.png")
    (tmp_path / "bg" / "link.png").symlink_to(tmp_path / "other" / "b.png")
    (tmp_path / "bg" / "around").symlink_to(tmp_path / "bg")
    (tmp_path / "bg" / "nowhere.png").symlink_to(tmp_path / "gone")
    os.mkfifo(tmp_path / "bg" / "pipe.png")
    listing = look_through(tmp_path / "bg", "backgrounds")
    assert [one.name for one in listing.pictures] == ["a.png", "link.png"]
    assert listing.skipped == (".hidden.png", ".thumbs", "around", "nowhere.png", "pipe.png")


@pytest.mark.skipif(os.name == "nt" or os.geteuid() == 0, reason="root and Windows read everything")
def test_a_subfolder_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    drawn(tmp_path / "a.png")
    (tmp_path / "shut").mkdir(mode=0)
    with pytest.raises(SourceMissing, match="shut"):
        list_pictures(tmp_path, "backgrounds")


@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP", "TIFF"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_inputs_are_turned_upright(tmp_path: Path, orientation: int, form: str) -> None:
    (tmp_path / "picture").write_bytes(as_stored(orientation, form))
    (picture,) = list_pictures(tmp_path, "foregrounds")
    assert looks_like_corners(load_foreground(picture, 500))
    square = load_background(picture, 32)  # the centre of 48 x 32
    assert looks_like_corners(square.resize((48, 32)))


@pytest.mark.parametrize("suffix", ["tif", "png"])
@pytest.mark.parametrize("brightest", [1023, 4095, 16383, 65535])
def test_a_camera_s_bits_are_seen_at_their_brightness(tmp_path: Path, brightest: int, suffix: str) -> None:
    ramp = np.linspace(0, brightest, 64).astype(np.uint16)
    Image.fromarray(np.tile(ramp, (64, 1))).save(tmp_path / f"a.{suffix}")
    (picture,) = list_pictures(tmp_path, "backgrounds")
    made = np.asarray(load_background(picture, 64))[32, :, 0]
    assert abs(made.astype(int) - np.linspace(0, 255, 64)).max() <= 3


def test_a_float_tiff_of_fractions_is_not_black(tmp_path: Path) -> None:
    Image.fromarray(np.tile(np.linspace(0, 1, 64, dtype=np.float32), (64, 1))).save(tmp_path / "a.tif")
    (picture,) = list_pictures(tmp_path, "backgrounds")
    made = np.asarray(load_background(picture, 64))[32, :, 0]
    assert abs(made.astype(int) - np.linspace(0, 255, 64)).max() <= 3
    pixels = np.full((8, 8), np.nan, np.float32)
    Image.fromarray(pixels).save(tmp_path / "a.tif")
    (picture,) = list_pictures(tmp_path, "backgrounds")
    with pytest.raises(BrokenPicture, match="no number"):
        load_background(picture, 64)


def test_profiles_become_srgb_and_are_part_of_the_settings(tmp_path: Path) -> None:
    drawn(tmp_path / "fg" / "a.png")
    made = {}
    for kind, profile in (("none", None), ("same", SRGB), ("other", other_profile())):
        drawn(tmp_path / kind / "a.jpg", (250, 10, 10), quality=95, **({"icc_profile": profile} if profile else {}))
        source = CompositeSource(tmp_path / kind, tmp_path / "fg", size=32, placements=1, quality=95)
        (picture,) = list_pictures(tmp_path / kind, "backgrounds")
        made[kind] = source.settings()["generator"], load_background(picture, 32).tobytes()
    assert made["none"] == made["same"]
    assert (made["none"][0], made["other"][0]) == (1, 2)
    red, _, blue = made["other"][1][:3]
    assert blue > 220 > 60 > red


def foreground(path: Path, size: tuple[int, int], box: tuple[int, int, int, int] | None, alpha: int = 255) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.new("RGBA", size, (10, 20, 30, 0))
    if box is not None:
        image.paste((200, 30, 30, alpha), box)
    image.save(path)
    return path


@pytest.mark.parametrize(("box", "alpha"), [(None, 0), ((0, 0, 300, 300), 3), ((7, 7, 8, 8), 255)])
def test_a_foreground_on_which_nothing_is_seen_is_named(
    tmp_path: Path, box: tuple[int, int, int, int] | None, alpha: int
) -> None:
    size = (4000, 4000) if box == (7, 7, 8, 8) else (300, 300)
    foreground(tmp_path / "a.png", size, box, alpha)
    (picture,) = list_pictures(tmp_path, "foregrounds")
    with pytest.raises(BrokenPicture, match=r"a\.png .*no visible pixel"):
        load_foreground(picture, 280)


def said(folder: Path, largest: int = 140) -> str:
    return "\n".join(remarks(list_pictures(folder, "foregrounds"), largest))


def test_odd_foregrounds_are_told(tmp_path: Path) -> None:
    foreground(tmp_path / "good.png", (300, 200), (10, 10, 290, 190))
    foreground(tmp_path / "soft.png", (300, 200), (10, 10, 290, 190), 128)
    assert said(tmp_path) == ""
    foreground(tmp_path / "margin.png", (300, 300), (10, 10, 120, 120))
    foreground(tmp_path / "small.png", (40, 30), (1, 1, 39, 29))
    drawn(tmp_path / "photo.jpg").write_bytes(as_stored(1, "JPEG"))
    Image.new("RGB", (300, 300)).save(tmp_path / "other.bmp")
    (tmp_path / "broken.png").write_bytes(b"no image")
    lines = said(tmp_path).splitlines()
    assert len(lines) == 3
    assert "2 foregrounds with no transparency (other.bmp, photo.jpg)" in lines[0]
    assert "foregrounds with few pixels (photo.jpg, small.png)" in lines[1]
    assert "1 foreground with a large empty margin (margin.png)" in lines[2]
    assert "few pixels" not in said(tmp_path, 60)


def test_a_palette_or_a_colour_that_is_clear_is_transparency(tmp_path: Path) -> None:
    image = Image.new("P", (200, 200), 1)
    image.putpalette([0, 0, 0, 200, 10, 10])
    image.paste(0, (0, 0, 200, 20))
    image.save(tmp_path / "p.png", transparency=0)
    image.convert("RGB").save(tmp_path / "key.png", transparency=(0, 0, 0))
    image.save(tmp_path / "p.gif", transparency=0)
    assert said(tmp_path) == ""


def test_a_huge_folder_is_looked_at_here_and_there(tmp_path: Path) -> None:
    buffer = io.BytesIO()
    Image.new("L", (4, 4), 9).save(buffer, "PNG")
    for number in range(450):
        (tmp_path / f"{number:03d}.png").write_bytes(buffer.getvalue())
    assert said(tmp_path).startswith("150 foregrounds with no transparency (000.png, 003.png, 006.png and 147 more)")


@pytest.mark.parametrize(("brightest", "generator"), [(65535, 1), (20000, 1), (4095, 2), (90, 2)])
def test_a_dataset_goes_on_where_deep_pictures_are_as_they_were(tmp_path: Path, brightest: int, generator: int) -> None:
    drawn(tmp_path / "fg" / "a.png")
    (tmp_path / "bg").mkdir()
    Image.fromarray(np.tile(np.linspace(0, brightest, 64).astype(np.uint16), (64, 1))).save(tmp_path / "bg" / "a.png")
    assert CompositeSource(tmp_path / "bg", tmp_path / "fg", placements=1).settings()["generator"] == generator
