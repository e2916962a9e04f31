"""A job of composed images with odd files among them, as the user meets it."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image, ImageDraw

from driveshard.emulator import Emulator
from tests.cli.test_main import QUICK, Shell

JOB = '[source]\nkind = "composite"\nbackgrounds = "bg"\nforegrounds = "fg"\nsize = 64\nplacements = 2\n'
BACKGROUNDS, FOREGROUNDS = 6, 4


@pytest.fixture
def work(tmp_path: Path, emulator: Emulator) -> Shell:
    for folder in ("bg", "fg"):
        (tmp_path / folder).mkdir()
    for number in range(BACKGROUNDS):
        Image.new("RGB", (80, 80), (40 * number, 90, 20)).save(tmp_path / "bg" / f"{number}.png")
    for number in range(FOREGROUNDS):
        image = Image.new("RGBA", (90, 90))
        ImageDraw.Draw(image).ellipse((0, 0, 89, 89), (200, 50 * number, 0, 255))
        image.save(tmp_path / "fg" / f"{number}.png")
    (tmp_path / "job.toml").write_text(JOB)
    return Shell(tmp_path, emulator.url)


def test_good_pictures_make_no_words(work: Shell) -> None:
    _, err = work.run("push", "job.toml", *QUICK)
    for word in ("left out", "foreground", "could not be read"):
        assert word not in err


def test_broken_pictures_are_listed_and_left_out_all_in_one_run(work: Shell) -> None:
    cut = (work.work / "bg" / "0.png").read_bytes()
    (work.work / "bg" / "3.png").write_bytes(b"no image at all")
    (work.work / "bg" / "7.jpg").write_bytes(b"")
    (work.work / "fg" / "2.png").write_bytes(cut[: len(cut) // 2])
    Image.new("RGBA", (50, 50)).save(work.work / "fg" / "9.png")
    result = work.json("push", "job.toml", *QUICK, code=65)
    bad = ["bg/3.png", "bg/7.jpg", "fg/2.png", "fg/9.png"]
    assert sorted(one["path"] for one in result["failed"]) == bad
    assert result["state"] == "complete"
    assert result["samples"] == 5 * 3 * 2 * 2
    assert result["parts"] > 1
    again = work.json("push", "job.toml", *QUICK, code=65)
    assert (again["samples"], again["sent_bytes"]) == (result["samples"], 0)
    _, err = work.run("push", "job.toml", "--dry-run", *QUICK, code=65)
    for name in ("bg/3.png", "bg/7.jpg", "fg/2.png"):
        assert name in err
    work.run("verify", "job")


def test_when_no_picture_is_good_the_job_is_refused(work: Shell) -> None:
    for number in range(FOREGROUNDS):
        (work.work / "fg" / f"{number}.png").write_bytes(b"no image at all")
    _, err = work.run("push", "job.toml", *QUICK, code=78)
    assert "none of the 4 images can be read" in err


def test_what_is_left_out_or_odd_is_told(work: Shell) -> None:
    (work.work / "bg" / "notes.txt").write_text("a note")
    (work.work / "fg" / "labels.csv").write_text("a,b")
    Image.new("RGB", (90, 90)).save(work.work / "fg" / "photo.jpg")
    _, err = work.run("push", "job.toml", *QUICK)
    assert "left out: 1 of the backgrounds' files, hidden or no image (notes.txt)" in err
    assert "left out: 1 of the foregrounds' files, hidden or no image (labels.csv)" in err
    assert "1 foreground with no transparency (photo.jpg)" in err
