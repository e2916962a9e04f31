"""Plain backgrounds, masks without loss and of two values, one scale a foreground, tight boxes, trees, tables."""

from __future__ import annotations

import csv
import io
import json
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import driveshard
from driveshard.archive.zip_writer import ZipWriter
from driveshard.cli.demo.objects import draw_backgrounds, draw_foregrounds
from driveshard.core.model import SampleRange
from driveshard.sources.base import Packed
from driveshard.sources.composite.images import list_pictures, load_background
from driveshard.sources.composite.jpeg import JpegEncoder
from driveshard.sources.composite.remarks import remarks
from driveshard.sources.composite.source import CompositeSource

ALL = {"background": True, "mask": "png", "mask_threshold": 0, "box": "tight", "labels": "both"}


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("drawn")
    draw_backgrounds(root / "bg", 2, seed=1)
    draw_foregrounds(root / "fg", 8, seed=1)
    return root


def source_of(root: Path, **settings: Any) -> CompositeSource:
    return CompositeSource(root / "bg", root / "fg", **{"size": 96, "placements": 2, **settings})


def pack(source: CompositeSource, path: Path, start: int = 0, stop: int | None = None) -> Packed:
    with ZipWriter(path) as writer:
        packed = source.pack(SampleRange(start, len(source) if stop is None else stop), writer, 0)
        writer.close()
    return packed


def pixels(data: bytes) -> np.ndarray[Any, Any]:
    with Image.open(io.BytesIO(data)) as image:
        return np.array(image)


def label(data: bytes) -> dict[str, Any]:
    return json.loads(data)  # type: ignore[no-any-return]


def alpha_of(root: Path, label: dict[str, Any]) -> np.ndarray[Any, Any]:
    """The foreground's alpha where the label says that it lies, scaled by Pillow alone."""
    with Image.open(root / "fg" / label["foreground"]) as file:
        patch = file.resize((label["width"], label["height"]), Image.Resampling.BICUBIC).getchannel("A")
    if label["flip"]:
        patch = patch.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    whole = Image.new("L", (200, 200))
    whole.paste(patch, (label["x"], label["y"]))
    return np.array(whole)


def box_in(shown: np.ndarray[Any, Any]) -> tuple[int, int, int, int]:
    """(x, y, width, height) around what is not 0."""
    rows, columns = np.flatnonzero(shown.any(1)), np.flatnonzero(shown.any(0))
    return columns[0], rows[0], columns[-1] - columns[0] + 1, rows[-1] - rows[0] + 1


def said_box(label: dict[str, Any]) -> tuple[int, int, int, int]:
    return label["box_x"], label["box_y"], label["box_width"], label["box_height"]


def test_the_plain_background_lies_beside_each_composite(drawn: Path) -> None:
    source = source_of(drawn, background=True)
    grounds = [load_background(picture, 96) for picture in list_pictures(drawn / "bg", "backgrounds")]
    encoded = [JpegEncoder("RGB", (96, 96), 30, True).encode(ground) for ground in grounds]
    for index in (0, 1, len(source) - 1):
        members = source.members(index)
        assert members == sorted(members)
        path, data = members[0]
        assert path == source.members(index)[1][0].replace(b".image.", b".background.")
        assert data == encoded[index * 2 // len(source)]
        assert members[1:] == source_of(drawn).members(index)
    assert source.members(0)[0][1] is source.members(1)[0][1], "encoded once"


@pytest.mark.parametrize("threshold", [0, 127, 254])
def test_a_threshold_makes_masks_of_two_values(drawn: Path, threshold: int) -> None:
    source = source_of(drawn, size=200, placements=1, mask="png", mask_threshold=threshold, box="tight")
    for index in range(len(source)):
        _, (_, text), (path, mask) = source.members(index)
        known, shown = label(text), pixels(mask)
        assert path.endswith(b".mask.png") and shown.dtype == np.uint8
        assert set(np.unique(shown)) == {0, 255}
        assert (shown == np.where(alpha_of(drawn, known) > threshold, 255, 0)).all()
        assert said_box(known) == box_in(shown)
        assert known["box_width"] <= known["width"] and known["box_height"] <= known["height"]


def test_a_png_without_a_threshold_keeps_the_alpha(drawn: Path) -> None:
    soft, plain = (source_of(drawn, size=200, placements=1, **more) for more in ({"mask": "png", "box": "tight"}, {}))
    between = 0
    for index in range(len(soft)):
        image, (_, text), (_, mask) = soft.members(index)
        known = label(text)
        assert (pixels(mask) == alpha_of(drawn, known)).all()
        assert said_box(known) == box_in(pixels(mask) >= 8)
        assert image == plain.members(index)[0]
        assert {name: known[name] for name in known if not name.startswith("box_")} == label(plain.members(index)[1][1])
        between += int(((pixels(mask) > 0) & (pixels(mask) < 255)).sum())
    assert between > 1000


def test_a_threshold_is_applied_before_jpeg_blurs(drawn: Path) -> None:
    sharp = source_of(drawn, size=200, placements=1, mask_threshold=127, quality=95)
    for index in range(0, len(sharp), 5):
        (_, text), (path, mask) = sharp.members(index)[1:]
        assert path.endswith(b".mask.jpg")
        assert (pixels(mask) > 127).sum() == pytest.approx((alpha_of(drawn, label(text)) > 127).sum(), rel=0.03)
        assert ((pixels(mask) > 60) & (pixels(mask) < 195)).mean() < 0.002


def test_what_is_nowhere_above_the_threshold_has_an_empty_mask_and_box_and_is_told(tmp_path: Path) -> None:
    for folder in ("bg", "fg"):
        (tmp_path / folder).mkdir()
        Image.new("RGBA", (40, 40), (200, 30, 30, 100)).save(tmp_path / folder / "faint.png")
    source = source_of(tmp_path, mask="png", mask_threshold=127, box="tight")
    for index in range(len(source)):
        (_, text), (_, mask) = source.members(index)[1:]
        assert not pixels(mask).any()
        assert said_box(label(text)) == (label(text)["x"], label(text)["y"], 0, 0)
    told = list(remarks(list_pictures(tmp_path / "fg", "foregrounds"), 40, 127))
    assert told == ["1 foreground with no alpha above 127 (faint.png): pasted, and their masks are empty"]
    assert not list(remarks(list_pictures(tmp_path / "fg", "foregrounds"), 40, 99))


def test_a_foreground_keeps_its_scale_over_all_placements(drawn: Path) -> None:
    def scales(**settings: Any) -> dict[str, set[float]]:
        source = source_of(drawn, scale_per="foreground", **settings)
        found: dict[str, set[float]] = {}
        for index in range(len(source)):
            known = label(source.members(index)[1][1])
            found.setdefault(known["foreground"], set()).add(known["scale"])
        return found

    first = scales()
    assert len(first) == 8 and all(len(one) == 1 for one in first.values())
    assert len(set.union(*first.values())) >= 4
    assert scales(placements=3) == first == scales(flip=False)
    assert scales(seed=2) != first
    spots = {(known["x"], known["y"]) for known in (label(source_of(drawn).members(i)[1][1]) for i in range(8))}
    assert len(spots) > 4


def test_a_part_in_trees_is_in_path_order_and_read_as_samples(drawn: Path, tmp_path: Path) -> None:
    for layout in ("trees", "sample"):
        (tmp_path / layout).mkdir()
        packed = pack(source_of(drawn, layout=layout, **ALL), tmp_path / layout / "part.zip", 5, 60)
        assert (packed.samples, packed.files, packed.selection) == (55, 4 * 55 + 1, SampleRange(5, 60))
    with zipfile.ZipFile(tmp_path / "trees" / "part.zip") as archive:
        names = archive.namelist()
    assert names == sorted(names)
    key = "bg_000/fg_001_f_01"
    expected = [f"bg/{key}.jpg", f"fg_bg/{key}.jpg", f"fg_bg_mask/{key}_mask.png", f"labels/{key}.json"]
    assert [names[at] for at in (0, 55, 110, 165)] == expected
    assert names[-1] == "table/bg_001/fg_006_o_01.csv"

    trees = driveshard.Dataset(tmp_path / "trees", key="trees")
    samples = driveshard.Dataset(tmp_path / "sample")
    other = {"bg.jpg": "background.jpg", "fg_bg.jpg": "image.jpg", "fg_bg_mask.png": "mask.png", "labels.json": "json"}
    assert len(trees) == len(samples) == 55
    for one, two in zip(trees, samples, strict=True):
        assert {other.get(name, name): data for name, data in one.items()} == two


def test_a_broken_picture_is_left_out_of_every_tree(drawn: Path, tmp_path: Path) -> None:
    for folder in ("bg", "fg"):
        (tmp_path / folder).mkdir()
        for path in (drawn / folder).iterdir():
            (tmp_path / folder / path.name).write_bytes(path.read_bytes())
    bad = tmp_path / "bg" / "001_sea.jpg"
    bad.write_bytes(bad.read_bytes()[:2000])
    packed = pack(source_of(tmp_path, layout="trees", **ALL), tmp_path / "part.zip")
    assert (packed.samples, packed.files) == (32, 4 * 32 + 1)
    assert [failure.path for failure in packed.failed] == [str(bad)]
    with zipfile.ZipFile(tmp_path / "part.zip") as archive:
        assert {name.split("/")[1] for name in archive.namelist()} == {"bg_000"}
        assert archive.namelist()[-1] == "table/bg_000/fg_007_o_01.csv"
        assert len(archive.read("table/bg_000/fg_007_o_01.csv").splitlines()) == 33
    whole = source_of(tmp_path, layout="trees", labels="table")
    with ZipWriter(tmp_path / "none.zip") as writer:
        nothing = whole.pack(SampleRange(32, 64), writer, 0)
        assert (nothing.samples, nothing.files, writer.members) == (0, 0, 0)


@pytest.mark.parametrize("labels", ["table", "both"])
def test_a_part_has_one_table_that_says_what_the_labels_say(drawn: Path, tmp_path: Path, labels: str) -> None:
    pack(source_of(drawn, labels=labels, box="tight"), tmp_path / "part.zip", 3, 40)
    dataset = driveshard.Dataset(tmp_path)
    assert len(dataset) == 37, "the table is no sample of its own"
    assert [at for at, sample in enumerate(dataset) if "table.csv" in sample] == [36]
    assert dataset.select("*.table.csv").keys[:] == ["bg_001/fg_001_o_01"]
    assert ("json" in dataset[0]) == (labels == "both")
    rows = list(csv.DictReader(io.StringIO(dataset[-1]["table.csv"].decode())))
    plain = source_of(drawn, box="tight")
    for row, index in zip(rows, range(3, 40), strict=True):
        (path, text) = plain.members(index)[1]
        known = label(text)
        assert row.pop("key") == path.decode().removesuffix(".json")
        assert list(row) == list(known)
        assert {name: json.loads(value) for name, value in row.items() if "ground" not in name} == {
            name: value for name, value in known.items() if "ground" not in name
        }
        assert (row["background"], row["foreground"]) == (known["background"], known["foreground"])


def test_odd_file_names_go_through_a_table(tmp_path: Path) -> None:
    for folder, name in (("bg", 'a, "b".png'), ("fg", "ü.png")):
        (tmp_path / folder).mkdir()
        Image.new("RGB", (40, 40), (200, 30, 30)).save(tmp_path / folder / name)
    pack(source_of(tmp_path, labels="table"), tmp_path / "part.zip")
    (row, *_) = csv.DictReader(io.StringIO(driveshard.Dataset(tmp_path)[-1]["table.csv"].decode()))
    assert (row["background"], row["foreground"], row["flip"]) == ('a, "b".png', "ü.png", "true")


@pytest.mark.parametrize("layout", ["sample", "trees"])
def test_two_runs_make_the_same_part(drawn: Path, tmp_path: Path, layout: str) -> None:
    for name in ("a", "b"):
        pack(source_of(drawn, layout=layout, scale_per="foreground", **ALL), tmp_path / f"{name}.zip")
        pack(source_of(drawn), tmp_path / "other.zip")  # another source, so that nothing is kept
    assert (tmp_path / "a.zip").read_bytes() == (tmp_path / "b.zip").read_bytes()


def test_masks_cover_what_a_person_would_think(drawn: Path) -> None:
    """An object of 0.3 to 0.7 of the edge, about half of its rectangle: a twelfth to a sixth of the picture."""

    def mean(**settings: Any) -> float:
        source = source_of(drawn, placements=4, size=200, mask="png", **settings)
        return float(np.mean([pixels(source.members(index)[-1][1]).mean() / 255 for index in range(len(source))]))

    assert 0.08 < mean() < 0.17
    assert mean(mask_threshold=127) == pytest.approx(mean(), rel=0.02)
    assert mean(mask_threshold=0) > mean(mask_threshold=254)


def test_settings_name_only_what_is_not_as_always(drawn: Path) -> None:
    plain = source_of(drawn).settings()
    named = source_of(drawn, layout="trees", **ALL)
    assert named.settings() == plain | {"layout": "trees", **ALL}
    assert source_of(drawn, mask="jpg", labels="json", background=False).settings() == plain
