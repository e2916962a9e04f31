"""The image generator: order, keys, masks, labels, determinism, and what bad input gets."""

from __future__ import annotations

import io
import json
import multiprocessing
import pickle
import re
import shutil
import zipfile
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import pytest
from PIL import Image, ImageChops, ImageStat

from driveshard.archive.zip_writer import ZipWriter
from driveshard.cli.demo.objects import draw_backgrounds, draw_foregrounds
from driveshard.core.errors import BrokenPicture, ConfigError, SourceMissing
from driveshard.core.model import PartSpec, SampleRange
from driveshard.sources.base import Source
from driveshard.sources.composite import renderer as studio
from driveshard.sources.composite.images import list_pictures, load_background, load_foreground
from driveshard.sources.composite.jpeg import JpegEncoder
from driveshard.sources.composite.source import CompositeSource
from driveshard.sources.estimate import estimate_sample_bytes
from driveshard.upload.pack.build import build_part


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("drawn")
    draw_backgrounds(root / "bg", 2, seed=1)
    draw_foregrounds(root / "fg", 3, seed=1)
    return root


@pytest.fixture
def inputs(drawn: Path, tmp_path: Path) -> Path:
    """A copy that a test may spoil."""
    shutil.copytree(drawn, tmp_path / "in")
    return tmp_path / "in"


def source_of(root: Path, **settings: object) -> CompositeSource:
    return CompositeSource(root / "bg", root / "fg", **{"placements": 2, **settings})  # type: ignore[arg-type]


def decoded(data: bytes) -> Image.Image:
    return Image.open(io.BytesIO(data))


def worst(first: Image.Image, second: Image.Image) -> int:
    """The largest difference of any channel of any pixel."""
    return max(high for _, high in ImageStat.Stat(ImageChops.difference(first, second)).extrema)


def mean(first: Image.Image, second: Image.Image) -> float:
    return max(ImageStat.Stat(ImageChops.difference(first, second)).mean)


def pack(source: Source, chosen: SampleRange, path: Path) -> tuple[bytes, object]:
    with ZipWriter(path) as writer:
        packed = source.pack(chosen, writer, 0)
        writer.close()
    return path.read_bytes(), packed


def tiny(folder: Path, *names: str, mode: str = "RGB", size: tuple[int, int] = (4, 4)) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        Image.new(mode, size, 90).save(folder / name)
    return folder


def test_the_original_job_has_400_000_samples(tmp_path: Path) -> None:
    names = [f"{number}.bmp" for number in range(100)]
    source = CompositeSource(tiny(tmp_path / "bg", *names), tiny(tmp_path / "fg", *names))
    assert len(source) == 400_000
    assert len(CompositeSource(source.backgrounds, source.foregrounds, flip=False, placements=3)) == 30_000


def test_index_order_is_the_order_of_paths_in_the_zip(drawn: Path) -> None:
    source = source_of(drawn, size=32)
    paths = [path for index in range(len(source)) for path, _ in source.members(index)]
    assert paths == sorted(paths)
    assert len(set(paths)) == 3 * 2 * 3 * 2 * 2
    assert paths[:3] == [b"bg_000/fg_000_f_00.image.jpg", b"bg_000/fg_000_f_00.json", b"bg_000/fg_000_f_00.mask.jpg"]
    assert all(re.fullmatch(rb"bg_00[01]/fg_00[0-2]_[fo]_0[01]\.(image\.jpg|json|mask\.jpg)", path) for path in paths)
    with pytest.raises(IndexError):
        source.members(len(source))


def test_key_numbers_grow_wider_with_more_images(tmp_path: Path) -> None:
    names = [f"{number:05}.bmp" for number in range(1001)]
    source = CompositeSource(tiny(tmp_path / "bg", "a.bmp"), tiny(tmp_path / "fg", *names), size=8, placements=101)
    assert source.members(0)[0][0] == b"bg_000/fg_0000_f_000.image.jpg"
    assert source.members(len(source) - 1)[0][0] == b"bg_000/fg_1000_o_100.image.jpg"


def test_numbers_follow_the_sorted_file_names_of_images_only(inputs: Path) -> None:
    tiny(inputs / "fg", "A first.PNG", "zz last.webp")
    (inputs / "fg" / "notes.txt").write_text("no image")
    (inputs / "fg" / "._000_balloon.png").write_bytes(b"what macOS leaves behind")
    (inputs / "fg" / "folder.png").mkdir()
    source = source_of(inputs, size=32, placements=1, flip=False)
    names = [json.loads(source.members(index)[1][1])["foreground"] for index in range(5)]
    assert names == ["000_balloon.png", "001_fish.png", "002_mug.png", "A first.PNG", "zz last.webp"]
    assert len(source) == 10


def test_image_mask_and_label_say_the_same(drawn: Path) -> None:
    """Rebuild each sample from its label and the input files alone, and compare."""
    source = source_of(drawn, quality=95)
    for index in range(len(source)):
        image, text, mask = (data for _, data in source.members(index))
        label = json.loads(text)
        with Image.open(drawn / "bg" / label["background"]) as file:
            edge = min(file.size)
            left, top = (file.width - edge) // 2, (file.height - edge) // 2
            square = file.convert("RGB").crop((left, top, left + edge, top + edge))
            expected = square.resize((200, 200), Image.Resampling.LANCZOS)
        with Image.open(drawn / "fg" / label["foreground"]) as file:
            patch = file.resize((label["width"], label["height"]), Image.Resampling.BICUBIC)
        if label["flip"]:
            patch = patch.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        place = (label["x"], label["y"])
        plain = expected.copy()
        expected.paste(patch, place, patch)
        alpha = Image.new("L", (200, 200))
        alpha.paste(patch.getchannel("A"), place)

        assert decoded(image).size == decoded(mask).size == (200, 200)
        assert (decoded(image).mode, decoded(mask).mode) == ("RGB", "L")
        assert mean(decoded(image), expected) < 4
        assert worst(decoded(mask), alpha) <= 24
        # Where the mask is dark the image is the background's; and the object is really there.
        outside = decoded(mask).point(lambda value: 255 if value < 16 else 0)
        inside = alpha.point(lambda value: 255 if value == 255 else 0)
        change = ImageChops.difference(decoded(image), plain)
        assert max(ImageStat.Stat(change, outside).mean) < 4
        assert max(ImageStat.Stat(change, inside).mean) > 15
        assert label["scale"] == round(max(patch.size) / 200, 4)


def test_the_label_is_compact_json_with_sorted_keys(drawn: Path) -> None:
    text = source_of(drawn).members(0)[1][1].decode()
    label = json.loads(text)
    assert text == json.dumps(label, separators=(",", ":"), sort_keys=True, ensure_ascii=False)
    assert list(label) == ["background", "flip", "foreground", "height", "scale", "width", "x", "y"]
    assert label["flip"] is True


@pytest.mark.parametrize("shape", [(1, 1), (300, 2), (2, 300), (31, 30), (500, 500)])
def test_the_patch_lies_fully_inside(tmp_path: Path, shape: tuple[int, int]) -> None:
    tiny(tmp_path / "fg", "a.png", mode="RGBA", size=shape)
    source = CompositeSource(tiny(tmp_path / "bg", "a.png"), tmp_path / "fg", size=48, max_scale=1.0, placements=60)
    labels = [json.loads(source.members(index)[1][1]) for index in range(len(source))]
    assert all(0 <= one["x"] <= 48 - one["width"] and 0 <= one["y"] <= 48 - one["height"] for one in labels)
    assert {max(one["width"], one["height"]) for one in labels} <= set(range(14, 49))
    assert len({one["scale"] for one in labels}) == 9
    assert len({(one["x"], one["y"]) for one in labels}) > 40


def test_an_opaque_foreground_counts_as_a_rectangle(tmp_path: Path) -> None:
    tiny(tmp_path / "fg", "a.png", size=(40, 20))
    source = CompositeSource(tiny(tmp_path / "bg", "a.png"), tmp_path / "fg", quality=95)
    _, text, mask = (data for _, data in source.members(0))
    label = json.loads(text)
    expected = Image.new("L", (200, 200))
    expected.paste(255, (label["x"], label["y"], label["x"] + label["width"], label["y"] + label["height"]))
    assert worst(decoded(mask), expected) <= 40


def test_a_sample_depends_on_its_index_and_the_seed_only(drawn: Path) -> None:
    source = source_of(drawn)
    forwards = [source.members(index) for index in range(len(source))]
    again = CompositeSource(source.backgrounds, source.foregrounds, placements=2)
    backwards = [again.members(index) for index in reversed(range(len(again)))]
    assert forwards == backwards[::-1]
    assert pickle.loads(pickle.dumps(source)) == source
    other = source_of(drawn, seed=2)
    assert [other.members(index)[1] for index in range(4)] != [one[1] for one in forwards[:4]]


def test_parts_are_the_same_from_one_process_and_from_two(drawn: Path, tmp_path: Path) -> None:
    source = source_of(drawn)
    specs = [
        PartSpec(number, f"{number}.zip", SampleRange(first, first + 6), 0)
        for number, first in enumerate(range(0, len(source), 6))
    ]
    here = [build_part(spec, source, tmp_path / spec.file_name, 1 << 30) for spec in specs]
    with ProcessPoolExecutor(2, mp_context=multiprocessing.get_context("spawn")) as pool:
        tasks = [pool.submit(build_part, spec, source, tmp_path / f"w{spec.file_name}", 1 << 30) for spec in specs]
        there = [task.result() for task in tasks]
    assert [part.sha256 for part in here] == [part.sha256 for part in there]
    assert (here[0].samples, here[0].files, here[0].failed) == (6, 18, ())
    with zipfile.ZipFile(tmp_path / "1.zip") as archive:
        assert archive.testzip() is None
        assert archive.read("bg_000/fg_001_o_00.json") == source.members(6)[1][1]


def test_settings_tell_inputs_by_content_and_hold_no_path(inputs: Path, tmp_path: Path) -> None:
    source = source_of(inputs)
    settings = source.settings()
    assert str(tmp_path) not in json.dumps(settings)
    assert (settings["kind"], settings["backgrounds"]["count"], settings["placements"]) == ("composite", 2, 2)
    moved = shutil.copytree(inputs, tmp_path / "moved")
    assert source_of(moved).settings() == settings
    with open(inputs / "fg" / "001_fish.png", "ab") as file:
        file.write(b"\0")
    assert source.settings() != settings


def test_an_image_that_was_replaced_is_read_again(inputs: Path) -> None:
    source = source_of(inputs)
    before = source.members(0)
    Image.new("RGB", (300, 300), "red").save(inputs / "bg" / "000_mountains.jpg")
    assert source.members(0)[0] != before[0]
    assert source.members(0)[1:] == before[1:]


@pytest.mark.parametrize(
    "bad",
    [
        {"size": 7},
        {"size": "200"},
        {"size": 200.0},
        {"placements": 0},
        {"quality": 101},
        {"seed": -1},
        {"seed": True},
        {"flip": 1},
        {"optimize": "yes"},
        {"min_scale": 0},
        {"min_scale": 0.8, "max_scale": 0.7},
        {"max_scale": 1.5},
        {"max_scale": "big"},
    ],
)
def test_a_wrong_setting_is_named(tmp_path: Path, bad: dict[str, object]) -> None:
    with pytest.raises(ConfigError, match="scale" if "scale" in str(bad) else next(iter(bad))):
        CompositeSource(tmp_path, tmp_path, **bad)  # type: ignore[arg-type]


def test_a_folder_that_is_missing_a_file_or_empty_is_named(inputs: Path) -> None:
    for name, words in (("gone", "not there"), ("fg/000_balloon.png", "is a file"), ("empty", "holds no image")):
        (inputs / "empty").mkdir(exist_ok=True)
        with pytest.raises(SourceMissing, match=words) as caught:
            CompositeSource(inputs / name, inputs / "fg").check()
        assert "backgrounds" in str(caught.value)
        assert caught.value.exit_code == 66


@pytest.mark.parametrize("content", [b"", b"not an image at all", b"\x89PNG\r\n\x1a\n" + b"\0" * 40])
def test_check_names_a_file_that_is_no_image(inputs: Path, content: bytes) -> None:
    (inputs / "bg" / "broken.png").write_bytes(content)
    with pytest.raises(BrokenPicture, match=r"broken\.png") as caught:
        source_of(inputs).check()
    assert caught.value.exit_code == 78
    assert pickle.loads(pickle.dumps(caught.value)).path == str(inputs / "bg" / "broken.png")


def test_check_finds_a_damaged_png(inputs: Path) -> None:
    path = inputs / "fg" / "001_fish.png"
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 0xFF
    path.write_bytes(data)
    with pytest.raises(BrokenPicture, match="001_fish"):
        source_of(inputs).check()


def test_a_cut_off_image_costs_its_own_samples_only(inputs: Path, tmp_path: Path) -> None:
    path = inputs / "bg" / "000_mountains.jpg"
    path.write_bytes(path.read_bytes()[:3000])
    source = source_of(inputs, size=64)
    source.check()
    _, packed = pack(source, SampleRange(0, len(source)), tmp_path / "part.zip")
    assert (packed.samples, packed.files, packed.selection) == (12, 36, SampleRange(0, 24))  # type: ignore[attr-defined]
    (failure,) = packed.failed  # type: ignore[attr-defined]
    assert failure.path == str(path)
    assert "12 samples left out" in failure.why
    with zipfile.ZipFile(tmp_path / "part.zip") as archive:
        assert {name[:6] for name in archive.namelist()} == {"bg_001"}


def test_an_image_of_too_many_pixels_is_refused(inputs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for limit in (80_000, 1_000):  # Pillow warns above the limit, and raises above twice the limit
        monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", limit)
        with pytest.raises(BrokenPicture, match="more pixels than is safe"):
            source_of(inputs).check()


def test_images_taken_away_while_packing_are_noticed(inputs: Path, tmp_path: Path) -> None:
    source = source_of(inputs, size=32)
    length = len(source)
    (inputs / "fg" / "002_mug.png").unlink()
    with pytest.raises(SourceMissing, match="taken out"), ZipWriter(tmp_path / "part.zip") as writer:
        source.pack(SampleRange(0, length), writer, 0)


def grey(mode: str, value: int) -> Image.Image:
    return Image.new(mode, (20, 20), value)


@pytest.mark.parametrize(
    ("image", "name", "expected"),
    [
        (grey("L", 77), "a.png", (77, 77, 77)),
        (grey("1", 1), "a.tif", (255, 255, 255)),
        (grey("I;16", 0x8080), "a.png", (128, 128, 128)),
        (grey("I;16", 200), "a.tif", (1, 1, 1)),
        (Image.new("CMYK", (20, 20), (0, 255, 255, 0)), "a.jpg", (254, 0, 0)),
        (Image.new("P", (20, 20), 3), "a.gif", (0, 0, 0)),
        (Image.new("LA", (20, 20), (50, 255)), "a.png", (50, 50, 50)),
        (Image.new("RGBA", (20, 20), (9, 9, 9, 0)), "a.webp", (255, 255, 255)),
    ],
)
def test_every_kind_of_pixel_becomes_rgb(
    tmp_path: Path, image: Image.Image, name: str, expected: tuple[int, int, int]
) -> None:
    if image.mode == "P":
        image.putpalette([0, 0, 0] * 256)
    image.save(tmp_path / name)
    (picture,) = list_pictures(tmp_path, "backgrounds")
    made = load_background(picture, 16)
    assert (made.mode, made.size) == ("RGB", (16, 16))
    found = made.getpixel((8, 8))
    assert isinstance(found, tuple)
    assert max(abs(a - b) for a, b in zip(found, expected, strict=True)) <= 2


def test_a_palette_with_transparency_keeps_its_alpha(tmp_path: Path) -> None:
    image = Image.new("P", (20, 20), 1)
    image.putpalette([0, 0, 0, 200, 10, 10])
    image.paste(0, (0, 0, 10, 20))
    image.save(tmp_path / "a.png", transparency=0)
    (picture,) = list_pictures(tmp_path, "foregrounds")
    made = load_foreground(picture, 100)
    assert made.size == (20, 20)
    assert [made.getpixel((5, 5))[3], made.getpixel((15, 5))] == [0, (200, 10, 10, 255)]  # type: ignore[index]


def test_a_picture_is_turned_upright(tmp_path: Path) -> None:
    image = Image.new("RGB", (40, 20), "blue")
    image.paste("red", (0, 0, 20, 20))
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was held so that the left side is the top
    image.save(tmp_path / "a.png", exif=exif)
    (picture,) = list_pictures(tmp_path, "foregrounds")
    made = load_foreground(picture, 100)
    assert made.size == (20, 40)
    assert (made.getpixel((10, 5)), made.getpixel((10, 35))) == ((255, 0, 0, 255), (0, 0, 255, 255))


def test_small_caches_change_nothing(drawn: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = source_of(drawn)
    expected = [source.members(index) for index in range(len(source))]
    for name in ("_BACKGROUND_BYTES", "_FOREGROUND_BYTES", "_PATCH_BYTES", "_FLIPPED_BYTES"):
        monkeypatch.setattr(studio, name, 1)
    fresh = source_of(drawn, placements=2, seed=3)
    fresh.members(0)  # another source: the stage kept for this thread is made anew
    assert [source.members(index) for index in range(len(source))] == expected


@pytest.mark.parametrize("answer", ["same", "other", "too long", "raises"])
def test_the_encoder_gives_what_saving_gives_whatever_pillow_has(monkeypatch: pytest.MonkeyPatch, answer: str) -> None:
    def changed(self: JpegEncoder, image: Image.Image) -> bytes | None:
        if answer == "raises":
            raise TypeError("this Pillow takes other arguments")
        return b"another file" if answer == "other" else None

    if answer != "same":
        monkeypatch.setattr(JpegEncoder, "_encode_directly", changed)
    image = Image.radial_gradient("L").convert("RGB").resize((50, 40))
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=30, optimize=True)
    assert JpegEncoder("RGB", image.size, 30, True).encode(image) == buffer.getvalue()


def test_this_pillow_is_called_directly() -> None:
    """The fallback is right but slower: a Pillow that needs it should be noticed."""
    for mode in ("RGB", "L"):
        assert JpegEncoder(mode, (200, 200), 30, True)._direct


def test_the_estimate_is_near_the_truth_and_always_the_same(drawn: Path, tmp_path: Path) -> None:
    source = source_of(drawn, placements=10)
    data, _ = pack(source, SampleRange(0, len(source)), tmp_path / "part.zip")
    estimate = estimate_sample_bytes(source)
    assert estimate == pytest.approx(len(data) / len(source), rel=0.15)
    assert estimate == estimate_sample_bytes(source)
    assert estimate_sample_bytes(source, len(source)) == pytest.approx((len(data) - 22) / len(source), abs=1)
