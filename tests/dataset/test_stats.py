"""The figures of a dataset: exact on what can be added up by hand, the same however often a run was ended."""

from __future__ import annotations

import io
import json
import math
import os
import signal
import subprocess
import sys
import time
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import driveshard
from driveshard.core.errors import SourceMissing, UsageError
from driveshard.core.events import ignore
from driveshard.dataset.stats.pieces import chosen_samples
from driveshard.dataset.stats.stats import draw_into, stats_of
from driveshard.dataset.stats.tally import MOST_VALUES
from driveshard.sources.composite.labels import Table

QUARTER = round(math.sqrt(0.1875), 12)
"""The standard deviation of what is 1 in a quarter of all pixels, or in three."""


@pytest.fixture(autouse=True)
def own_home(monkeypatch: pytest.MonkeyPatch, home: Path) -> None:
    monkeypatch.setenv("DRIVESHARD_HOME", str(home))


def encoded(image: Image.Image, form: str = "PNG", **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, form, **options)
    return buffer.getvalue()


def picture(values: Any, kind: type = np.uint8) -> bytes:
    return encoded(Image.fromarray(np.array(values, kind)))


def zipped(path: Path, files: Mapping[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> Path:
    """A folder with one more zip, of another tool's making."""
    path.parent.mkdir(exist_ok=True)
    with zipfile.ZipFile(path, "w", method) as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return path.parent


def channels_of(found: driveshard.Stats, field: str) -> dict[str, tuple[float, float]]:
    channels = found.fields[field]["images"]["channels"]
    return {name: (round(one["mean"], 12), round(one["std"], 12)) for name, one in channels.items()}


def test_the_figures_are_those_that_one_adds_up(tmp_path: Path) -> None:
    files = {
        "a.image.png": picture([[(255, 0, 51), (0, 0, 51)]]),
        "a.mask.png": picture([[0, 255], [255, 255]]),
        "a.txt": b"x" * 1024,
        "b.image.png": picture([[(255, 102, 51)], [(0, 102, 51)]]),
        "b.txt": b"x" * 1025,
    }
    zipped(tmp_path / "set" / "1.zip", files)
    directory = zipped(tmp_path / "set" / "2.zip", {"c.txt": b""})
    found = driveshard.stats(directory)
    assert (found.name, found.parts, found.samples, found.looked_at, found.files) == ("set", 2, 3, 3, 6)
    assert found.bytes == sum(map(len, files.values())) and not found.broken
    assert channels_of(found, "image.png") == {"R": (0.5, 0.5), "G": (0.2, 0.2), "B": (0.2, 0.0)}
    assert channels_of(found, "mask.png") == {"L": (0.75, QUARTER)}
    images = found.fields["image.png"]["images"]
    assert images["sizes"] == {"1x2": 1, "2x1": 1} and images["modes"] == {"RGB": 2} and images["width"] == [1, 2]
    red = images["channels"]["R"]
    assert (red["pixels"], red["min"], red["max"], red["levels"][255], sum(red["levels"])) == (4, 0.0, 1.0, 2, 4)
    text = found.fields["txt"]
    assert (text["count"], text["smallest"], text["largest"], text["mean"]) == (3, 0, 1025, 683.0)
    assert text["histogram"] == {"1": 1, "1024": 1, "2048": 1} and "images" not in text


def test_every_kind_of_pixel_is_told_in_parts_of_white(tmp_path: Path) -> None:
    palette = Image.new("P", (2, 1))
    palette.putpalette([255, 0, 0, 0, 0, 255])
    palette.putdata([0, 1])
    files = {
        "a.deep.png": picture([[0, 65535, 13107, 52428]], np.uint16),
        "a.float.tif": encoded(Image.fromarray(np.array([[0.25, 0.75]], np.float32)), "TIFF"),
        "a.flags.png": encoded(Image.fromarray(np.array([[True, False, False, False]]))),
        "a.clear.png": picture([[(255, 255, 255, 0), (255, 255, 255, 255)]]),
        "a.palette.png": encoded(palette),
        "a.print.jpg": encoded(Image.new("CMYK", (8, 8), (255, 0, 0, 0)), "JPEG"),
    }
    found = driveshard.stats(zipped(tmp_path / "set" / "1.zip", files))
    assert channels_of(found, "deep.png") == {"I": (0.5, pytest.approx(math.sqrt((0.25 + 0.09) / 2)))}
    assert channels_of(found, "float.tif") == {"F": (0.5, 0.25)}
    assert channels_of(found, "flags.png") == {"L": (0.25, QUARTER)}
    assert channels_of(found, "clear.png")["A"] == (0.5, 0.5) and channels_of(found, "clear.png")["R"] == (1.0, 0.0)
    assert channels_of(found, "palette.png") == {"R": (0.5, 0.5), "G": (0.0, 0.0), "B": (0.5, 0.5)}
    assert set(channels_of(found, "print.jpg")) == set("CMYK")
    assert found.fields["palette.png"]["images"]["modes"] == {"P": 1} and not found.broken


def test_labels_are_what_repeats_or_is_called_so(tmp_path: Path) -> None:
    files = {}
    for at in range(MOST_VALUES + 100):
        label = {
            "class": "cat" if at % 4 else "dog",
            "file": f"{at}.jpg",
            "flip": at % 2 == 0,
            "huge": 10**30,
            "nothing": None,
            "tags": ["old", "small"] if at % 2 else [],
            "width": 10 + at % 2,
            "objects": [{"category_id": at % 3, "box": [at, 1, 2]}, {"category_id": 7}],
            "x": at,
            "scale": at / 2,
        }
        files[f"{at:04d}.json"] = json.dumps(label).encode()
        files[f"{at:04d}.cls"] = str(at % 2).encode()
    found = driveshard.stats(zipped(tmp_path / "set" / "1.zip", files))
    count = MOST_VALUES + 100
    assert found.labels == {
        "json": {
            "class": {"cat": count - count // 4, "dog": count // 4},
            "flip": {"false": count // 2, "true": count // 2},
            "tags[]": {"old": count // 2, "small": count // 2},
            "objects[].category_id": {"7": count, "0": 367, "1": 367, "2": 366},
        },
        "cls": {"cls": {"0": count // 2, "1": count // 2}},
    }
    x, scale = found.numbers["json"]["x"], found.numbers["json"]["scale"]
    assert (x["count"], x["mean"], x["min"], x["max"]) == (count, (count - 1) / 2, 0, count - 1)
    assert x["std"] == pytest.approx(math.sqrt((count**2 - 1) / 12), rel=1e-12) and scale["max"] == (count - 1) / 2
    assert set(found.numbers["json"]) == {"objects[].category_id", "x", "scale", "width"}


def test_what_is_broken_is_named_and_the_rest_is_counted(tmp_path: Path) -> None:
    whole = encoded(Image.effect_noise((64, 64), 90), "JPEG")
    good = picture([[255]])
    files = {
        "a.image.jpg": whole[: len(whole) // 2],
        "b.image.jpg": b"no picture",
        "c.image.png": good,
        "d.image.png": picture([[0, 0, 0, 0, 7]]),
        "e.json": b"{",
    }
    directory = zipped(tmp_path / "set" / "1.zip", files, zipfile.ZIP_STORED)
    data = bytearray((directory / "1.zip").read_bytes())
    data[data.index(b"d.image.png") + len("d.image.png") + 20] ^= 1
    (directory / "1.zip").write_bytes(data)
    for _ in range(2):  # from what the first run kept, too
        found = driveshard.stats(directory)
        why = {one["path"]: one["why"] for one in found.broken}
        assert set(why) == {"a.image.jpg", "b.image.jpg", "d.image.png", "e.json"} and found.broken_count == 4
        assert "truncated" in why["a.image.jpg"] and why["b.image.jpg"] == "it is no image of a known format"
        assert why["d.image.png"] == "its bytes are damaged"
        images = found.fields["image.png"]["images"]
        assert (images["count"], images["broken"]) == (1, 1) and channels_of(found, "image.png") == {"L": (1.0, 0.0)}
        assert found.fields["image.jpg"]["images"]["count"] == 0


def test_a_sample_is_spread_over_all_and_drawn_by_the_seed(tmp_path: Path) -> None:
    directory = tmp_path / "set"
    for part in range(5):
        zipped(directory / f"{part}.zip", {f"{at:03d}.png": picture([[at]]) for at in range(part * 20, part * 20 + 20)})
    found = driveshard.stats(directory, sample=10, seed=3)
    chosen = chosen_samples(100, 10, 3).tolist()
    assert [at // 10 for at in chosen] == list(range(10))
    assert chosen != chosen_samples(100, 10, 4).tolist()
    assert (found.samples, found.looked_at, found.fields["png"]["count"]) == (100, 10, 100)
    assert found.fields["png"]["images"]["count"] == 10
    assert channels_of(found, "png")["L"][0] == pytest.approx(sum(chosen) / 10 / 255, rel=1e-12)
    assert driveshard.stats(directory, sample=10, seed=3) == found
    assert driveshard.stats(directory, sample=1000).looked_at == 100


def test_parallel_folders_are_fields(tmp_path: Path) -> None:
    files = {"fg_bg/x.png": picture([[255]]), "fg_bg_mask/x_mask.png": picture([[0]])}
    directory = zipped(tmp_path / "set" / "1.zip", files)
    found = driveshard.stats(directory, key="trees")
    assert found.samples == 1
    assert channels_of(found, "fg_bg.png") == {"L": (1.0, 0.0)}
    assert channels_of(found, "fg_bg_mask.png") == {"L": (0.0, 0.0)}


def test_the_boxes_of_yolo_are_counted(tmp_path: Path) -> None:
    files = {
        "images/train/a.png": picture([[255]]),
        "labels/train/a.txt": b"0 0.5 0.5 0.1 0.1\n2 0.1 0.1 0.1 0.1\n0 0.2 0.2 0.1 0.1\n",
        "labels/train/b.txt": b"",
        "labels/train/c.txt": b"no box\n",
    }
    found = driveshard.stats(zipped(tmp_path / "set" / "1.zip", files), key="yolo")
    assert found.labels == {"label.txt": {"objects[].class": {"0": 2, "2": 1}}}
    assert channels_of(found, "image.png") == {"L": (1.0, 0.0)} and found.broken_count == 1


def npy(values: Any) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, values)
    return buffer.getvalue()


def test_arrays_are_told_in_their_own_units(tmp_path: Path) -> None:
    """Together as one long array, by whatever parts and blocks; far from nought no digit is lost."""
    dice = np.random.default_rng(0)
    depths = [1e8 + dice.random((n, 700, 3)).astype(np.float64) for n in (1, 500, 2)]
    first = {f"{n}.depth.npy": npy(one) for n, one in enumerate(depths[:2])}
    holes = np.array([[-3, np.nan], [np.inf, 5]], np.float32)
    files = first | {"0.holes.npy": npy(holes), "1.holes.npy": npy(np.array("words")), "0.flags.npy": npy(np.True_)}
    zipped(tmp_path / "set" / "1.zip", files | {"2.holes.npy": b"none", "3.holes.npy": npy(depths[0])[:-9]})
    found = driveshard.stats(zipped(tmp_path / "set" / "2.zip", {"2.depth.npy": npy(np.asfortranarray(depths[2]))}))
    together = np.concatenate(depths)
    depth = found.fields["depth.npy"]["arrays"]
    assert (depth["shapes"], depth["types"]) == ({"1x700x3": 1, "2x700x3": 1, "500x700x3": 1}, {"float64": 3})
    assert (depth["values"], depth["min"], depth["max"]) == (together.size, together.min(), together.max())
    assert depth["mean"] == pytest.approx(together.mean(), rel=1e-12)
    assert depth["std"] == pytest.approx(together.std(), rel=1e-8)
    told = {"count": 2, "broken": 2, "shapes": {"2x2": 1, "scalar": 1}, "types": {"<U5": 1, "float32": 1}}
    assert found.fields["holes.npy"]["arrays"] == told | {
        "values": 2,
        "left_out": 2,
        "mean": 1.0,
        "std": 4.0,
        "min": -3.0,
        "max": 5.0,
    }
    assert found.fields["flags.npy"]["arrays"]["mean"] == 1.0
    assert found.broken_count == 2 == len(found.broken) and found == driveshard.stats(tmp_path / "set", workers=1)
    draw_into(found, tmp_path / "figures.png")


def test_the_rows_of_a_table_are_labels_as_json_is(tmp_path: Path) -> None:
    rows = [
        {"background": "b,1.png", "class": "cat", "flip": n % 2 == 0, "key": f"k{n}", "scale": n / 4, "w": n - 9}
        for n in range(20)
    ]
    table, beside = Table(), {}
    for row in rows:
        table.add(f"s{row['key']}", row)
        beside[f"{row['key']}.json"] = json.dumps(row).encode()
    broken = b'key,class\nk1,"cat\n'
    files = beside | {"k19.table.csv": table.encode(), "k0.table.csv": broken, "k1.table.csv": b"key\n\xff"}
    found = driveshard.stats(zipped(tmp_path / "set" / "1.zip", files))
    assert (
        found.labels["table.csv"]
        == found.labels["json"]
        == {
            "background": {"b,1.png": 20},
            "class": {"cat": 20},
            "flip": {"false": 10, "true": 10},
        }
    )
    assert found.numbers["table.csv"] == found.numbers["json"] and found.numbers["json"]["w"]["min"] == -9
    assert sorted(one["path"] for one in found.broken) == ["k0.table.csv", "k1.table.csv"]


def test_many_odd_names_are_told_by_their_extension(tmp_path: Path) -> None:
    files = {f"v.{at}.png": picture([[at]]) for at in range(100)} | {"v.x.bin": b"1"}
    found = driveshard.stats(zipped(tmp_path / "set" / "1.zip", files))
    assert {name: one["count"] for name, one in found.fields.items()} == {"*.png": 100, "*": 1}
    assert channels_of(found, "*.png")["L"][0] == pytest.approx(49.5 / 255)


def test_wrong_usage_is_told(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="sample has to be 1 or more"):
        driveshard.stats(tmp_path, sample=0)
    with pytest.raises(SourceMissing):
        driveshard.stats(tmp_path)


# -- ended, and run again --------------------------------------------------------------------------------------------


def noise(directory: Path, parts: int) -> Path:
    """Parts that take a moment each."""
    dice = np.random.default_rng(1)
    large = encoded(Image.fromarray(dice.integers(0, 256, (1200, 1600, 3), np.uint8)), "JPEG", quality=90)
    for part in range(parts):
        small = picture(dice.integers(0, 256, (4, 4)))
        zipped(directory / f"{part}.zip", {f"{part}.png": small} | {f"{part}-{n}.jpg": large for n in range(2)})
    return directory


def test_a_killed_run_goes_on(tmp_path: Path, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    directory = noise(tmp_path / "set", 8)
    kept = home / "cache" / "stats"
    command = [sys.executable, "-m", "driveshard", "stats", str(directory), "--workers", "2", "-q"]
    with subprocess.Popen(command, start_new_session=True) as process:
        until = time.monotonic() + 60
        while not list(kept.glob("*.json")) and process.poll() is None and time.monotonic() < until:
            time.sleep(0.002)
        process.send_signal(signal.SIGKILL)
    done = [json.loads(path.read_bytes()) for path in kept.glob("*.json")]
    images = sum(one["whole"]["pictures"]["jpg"]["count"] for one in done if "whole" in one)
    assert 0 < images < 16
    looked: list[int] = []
    again = stats_of(str(directory), None, 0, 1, None, ignore, lambda count, _: looked.append(count))
    assert len(looked) == 1 + 8 - images // 2  # what was kept, and a piece of each other part
    monkeypatch.setenv("DRIVESHARD_HOME", str(tmp_path / "other"))
    assert again == driveshard.stats(directory, workers=1)
    assert again.fields["jpg"]["images"]["count"] == 16


def test_kept_results_are_of_these_bytes(tmp_path: Path, home: Path) -> None:
    directory = zipped(tmp_path / "set" / "1.zip", {"a.png": picture([[255]])})
    assert channels_of(driveshard.stats(directory), "png") == {"L": (1.0, 0.0)}
    zipped(tmp_path / "set" / "1.zip", {"a.png": picture([[0]])})
    assert channels_of(driveshard.stats(directory), "png") == {"L": (0.0, 0.0)}
    files = sorted((home / "cache" / "stats").glob("*.json"))
    assert len(files) == 2
    for broken in (b"{", b"[]", b'{"whole": {"pictures": {"png": 1}, "labels": {}, "broken": []}}'):
        for file in files:
            file.write_bytes(broken)
        assert channels_of(driveshard.stats(directory), "png") == {"L": (0.0, 0.0)}


def test_damage_is_looked_at_again(tmp_path: Path) -> None:
    """The part is the published one again, with the date that it had: only its bytes were not."""
    directory = zipped(tmp_path / "set" / "1.zip", {"a.png": picture([[255]]), "b.png": picture([[255]])})
    part = directory / "1.zip"
    whole, date = part.read_bytes(), part.stat().st_mtime_ns
    damaged = bytearray(whole)
    damaged[whole.index(b"a.png") + len("a.png") + 20] ^= 1
    for content, broken in ((bytes(damaged), 1), (whole, 0), (bytes(damaged), 0)):  # what was well is not read again
        part.write_bytes(content)
        os.utime(part, ns=(date, date))
        assert driveshard.stats(directory).broken_count == broken


def test_a_home_that_cannot_be_written_is_no_reason_to_fail(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    directory = zipped(tmp_path / "set" / "1.zip", {"a.png": picture([[255]])})
    (tmp_path / "file").write_bytes(b"")
    monkeypatch.setenv("DRIVESHARD_HOME", str(tmp_path / "file"))
    assert channels_of(driveshard.stats(directory), "png") == {"L": (1.0, 0.0)}
