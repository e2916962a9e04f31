"""The contact sheet, and the drawn pictures that demo and README show on it."""

from __future__ import annotations

import io
import threading
import warnings
from pathlib import Path

import pytest
from PIL import Image

from driveshard.archive.contact_sheet import MOST_TILES, Tile, contact_sheet
from driveshard.cli.demo.objects import draw_backgrounds, draw_foregrounds
from driveshard.core.decoding import strict


def picture(colour: str, size: tuple[int, int] = (40, 40), mode: str = "RGB") -> bytes:
    buffer = io.BytesIO()
    Image.new(mode, size, colour).save(buffer, "PNG")
    return buffer.getvalue()


def sheet_of(*tiles: Tile, **options: object) -> Image.Image:
    return Image.open(io.BytesIO(contact_sheet(tiles, format="PNG", **options))).convert("RGB")  # type: ignore[arg-type]


def count(sheet: Image.Image, colour: tuple[int, int, int]) -> int:
    """Pixels of exactly this colour."""
    data = sheet.tobytes()
    return sum(data[at : at + 3] == bytes(colour) for at in range(0, len(data), 3))


RED, BLUE, GREEN = (255, 0, 0), (0, 0, 255), (0, 128, 0)


def test_images_are_shown_whole_each_in_its_square() -> None:
    sheet = sheet_of(
        Tile("a", picture("red")), Tile("b", picture("blue", (80, 40))), Tile("c", picture("green", (1, 300))), tile=80
    )
    assert count(sheet, RED) == 80 * 80
    assert count(sheet, BLUE) == 80 * 40
    assert 0 < count(sheet, GREEN) <= 80
    assert 3 * 80 < sheet.width < 3 * 130
    assert 80 < sheet.height < 160


def test_masks_stand_beside_their_images() -> None:
    pair = sheet_of(Tile("a", picture("red"), picture("blue")), tile=64)
    assert count(pair, RED) == count(pair, BLUE) == 64 * 64
    alone = sheet_of(Tile("a", picture("red")), tile=64)
    assert pair.width > alone.width + 60
    mixed = sheet_of(Tile("a", picture("red"), picture("blue")), Tile("b", picture("red"), b"broken"), tile=64)
    assert (count(mixed, RED), count(mixed, BLUE)) == (2 * 64 * 64, 64 * 64)


def test_each_image_has_its_name_below_it() -> None:
    red, blue = picture("red"), picture("blue")
    bare = sheet_of(Tile("a", red, None, (blue,)), tile=64)
    named = sheet_of(Tile("a", red, None, (blue,), ("image.png", "", "depth.png")), tile=64)
    assert (named.width, named.height) == (bare.width, bare.height + 16)
    first, second = (named.crop((14 + 6 + 70 * at, 14 + 6 + 64, 84 + 70 * at, 14 + 6 + 80)) for at in (0, 1))
    assert first.getcolors() != second.getcolors() and len(first.getcolors() or ()) > 5 < len(second.getcolors() or ())
    alone = Tile("a", red, None, (), ("image.png", ""))
    assert contact_sheet([alone], tile=64) == contact_sheet([Tile("a", red)], tile=64)


def test_what_cannot_be_decoded_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    good = [Tile("a", picture("red")), Tile("c", picture("blue"))]
    cut_off = picture("red", (400, 400))[:60]
    bad = [Tile("b", b""), Tile("b", b"no image"), Tile("b", cut_off)]
    assert contact_sheet([good[0], *bad, good[1]]) == contact_sheet(good)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 5000)
    assert contact_sheet([*good, Tile("huge", picture("red", (90, 90)))]) == contact_sheet(good)


@pytest.mark.parametrize("tiles", [[], [Tile("a", b"broken")]])
def test_a_sheet_of_nothing_is_still_a_picture(tiles: list[Tile]) -> None:
    sheet = Image.open(io.BytesIO(contact_sheet(tiles)))
    assert sheet.format == "JPEG"
    assert sheet.width > 100


def test_the_size_is_bounded() -> None:
    many = [Tile(str(number), picture("red", (4, 4))) for number in range(MOST_TILES + 40)]
    assert contact_sheet(many, tile=16) == contact_sheet(many[:MOST_TILES], tile=16)
    assert sheet_of(*many[:30], tile=16, columns=1000).width < 24 * 60


def test_columns_wrap() -> None:
    tiles = [Tile(str(number), picture("red")) for number in range(7)]
    tall, wide = sheet_of(*tiles, columns=2, tile=40), sheet_of(*tiles, columns=7, tile=40)
    assert tall.height > 4 * 40 > wide.height
    assert wide.width > 7 * 40 > 2 * 80 > tall.width


def test_captions_fit_their_card_whatever_they_are() -> None:
    for label in ("", "x" * 5000, "straße/😀\n\0bild", "ключ"):
        plain, long = sheet_of(Tile("k", picture("red")), tile=60), sheet_of(Tile(label, picture("red")), tile=60)
        assert long.size == plain.size
        assert long.crop((0, 0, 14, long.height)).tobytes() == plain.crop((0, 0, 14, plain.height)).tobytes()


def test_the_same_tiles_give_the_same_bytes() -> None:
    tiles = [Tile("a", picture("red"), picture("blue")), Tile("b", picture("green"))]
    assert contact_sheet(tiles) == contact_sheet(list(tiles))


def test_drawn_pictures_are_the_same_each_time_and_differ_by_seed(tmp_path: Path) -> None:
    for draw, number in ((draw_backgrounds, 5), (draw_foregrounds, 8)):
        first = [path.read_bytes() for path in draw(tmp_path / "a", number, 1)]
        again = [path.read_bytes() for path in draw(tmp_path / "b", number, 1)]
        other = [path.read_bytes() for path in draw(tmp_path / "c", number, 2)]
        assert first == again
        assert len({*first, *other}) > number
        assert len(set(first)) == number


def test_drawn_foregrounds_have_solid_clear_and_soft_pixels(tmp_path: Path) -> None:
    for path in draw_foregrounds(tmp_path, 8, 3):
        with Image.open(path) as image:
            alpha = image.getchannel("A")
            assert image.mode == "RGBA"
            assert max(image.size) == 240
            histogram = alpha.histogram()
            solid, clear = histogram[255], histogram[0]
            assert solid > 0.25 * image.width * image.height, path.name
            assert clear > 0.08 * image.width * image.height, path.name
            assert sum(histogram[1:255]) > 100, path.name
            assert alpha.getbbox() == (0, 0, *image.size)


def test_drawn_backgrounds_come_in_several_shapes_without_transparency(tmp_path: Path) -> None:
    shapes = set()
    for path in draw_backgrounds(tmp_path, 4, 3):
        with Image.open(path) as image:
            shapes.add(image.size)
            assert (image.format, image.mode) == ("JPEG", "RGB")
            assert len(image.getcolors(1 << 20) or ()) > 1000
    assert len(shapes) == 4


def test_pictures_decoded_side_by_side_leave_the_warnings_as_they_were() -> None:
    before = list(warnings.filters)
    barrier = threading.Barrier(2, timeout=10)

    def first() -> None:
        with strict:
            barrier.wait()
            barrier.wait()

    def second() -> None:
        barrier.wait()
        with strict:
            barrier.wait()
            thread.join(10)
            with pytest.raises(Image.DecompressionBombWarning):
                warnings.warn("too many", Image.DecompressionBombWarning, stacklevel=1)
            warnings.warn("of another kind", UserWarning, stacklevel=1)

    thread = threading.Thread(target=first)
    thread.start()
    second()
    assert list(warnings.filters) == before
