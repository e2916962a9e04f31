"""Fields as bytes: pictures of every mode under every encoder, arrays, whole numbers, text that must be JSON."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import pytest
from PIL import Image

from driveshard.sources.python.encode import encode_field
from tests.core.test_pixels import SRGB, as_stored, looks_like_corners, other_profile, with_profile

ENCODERS = ("jpg", "jpeg", "png", "webp")


def back(data: bytes) -> Image.Image:
    image = Image.open(io.BytesIO(data))
    image.load()
    return image


@pytest.mark.parametrize("encoder", ["image.jpg", "png", "webp"])
@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP", "TIFF"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_camera_s_picture_comes_out_as_it_is_seen(orientation: int, form: str, encoder: str) -> None:
    made = back(encode_field(encoder, Image.open(io.BytesIO(as_stored(orientation, form)))))
    assert looks_like_corners(made, 60)
    assert made.getexif().get(0x0112, 1) == 1


def test_the_user_s_picture_is_left_as_it_was() -> None:
    image = Image.open(io.BytesIO(as_stored(6, "JPEG")))
    encode_field("png", image)
    assert image.getexif()[0x0112] == 6
    assert image.size == (32, 48)


@pytest.mark.parametrize("encoder", ENCODERS)
@pytest.mark.parametrize("mode", ["L", "RGB", "RGBX", "CMYK", "YCbCr", "HSV", "P"])
def test_every_mode_under_every_encoder_is_the_same_picture(mode: str, encoder: str) -> None:
    image = Image.new("RGB", (16, 16), (200, 40, 40)).convert(mode, palette=Image.Palette.ADAPTIVE)
    made = back(encode_field(encoder, image))
    expected = (90, 90, 90) if mode == "L" else (200, 40, 40)
    seen = made.convert("RGB").getpixel((8, 8))
    assert isinstance(seen, tuple)
    assert max(abs(a - b) for a, b in zip(seen, expected, strict=True)) <= 24
    assert made.mode != "CMYK"


@pytest.mark.parametrize("encoder", ENCODERS)
def test_black_and_white_is_black_and_white(encoder: str) -> None:
    image = Image.new("1", (32, 32))
    image.paste(1, (16, 0, 32, 32))
    made = back(encode_field(encoder, image)).convert("L")
    assert made.getpixel((4, 16)) < 8  # type: ignore[operator]
    assert made.getpixel((28, 16)) > 247  # type: ignore[operator]


@pytest.mark.parametrize("encoder", ["png", "webp"])
@pytest.mark.parametrize("mode", ["LA", "La", "RGBA", "RGBa", "PA", "P"])
def test_transparency_is_kept_where_it_can_be(mode: str, encoder: str) -> None:
    if mode in ("P", "PA"):
        image = Image.new("RGB", (16, 16), (90, 90, 90)).convert("P", palette=Image.Palette.ADAPTIVE)
        image.info["transparency"] = 0
        image = image.convert("PA") if mode == "PA" else image
    else:
        image = Image.new("RGBA", (16, 16), (90, 90, 90, 0)).convert("LA" if mode[0] == "L" else "RGBA").convert(mode)
    made = back(encode_field(encoder, image)).convert("RGBA")
    assert made.getchannel("A").getextrema() == (0, 0)
    with pytest.raises(ValueError, match="holds no transparency"):
        encode_field("jpg", image)


@pytest.mark.parametrize(
    ("mode", "level", "expected"),
    [
        ("I;16", 40000, 156),
        ("I;16B", 4000, 249),
        ("I", 40000, 156),
        ("I", 3000, 187),
        ("F", 0.5, 128),
        ("F", 200.0, 200),
    ],
)
@pytest.mark.parametrize("encoder", ENCODERS)
def test_deep_pictures_are_seen_at_their_brightness(mode: str, level: float, expected: int, encoder: str) -> None:
    image = Image.new(mode, (16, 16), level)
    made = back(encode_field(encoder, image))
    if encoder == "png" and mode != "F":
        assert (made.mode, made.getpixel((3, 3))) == ("I;16", level)  # each value as it is: a depth map
    else:
        assert made.convert("L").getpixel((3, 3)) == pytest.approx(expected, abs=2)


def test_values_that_a_png_cannot_hold_are_refused_by_name() -> None:
    with pytest.raises(ValueError, match=r"'depth\.png'.*mode I.*-5 to 70000"):
        image = Image.new("I", (2, 2), 70000)
        image.putpixel((0, 0), -5)
        encode_field("depth.png", image)
    with pytest.raises(ValueError, match=r"'a\.jpg'.*mode F.*no number"):
        encode_field("a.jpg", Image.fromarray(np.full((2, 2), np.nan, np.float32)))


@pytest.mark.parametrize("encoder", ENCODERS)
def test_colours_are_srgb(encoder: str) -> None:
    image = with_profile(Image.new("RGB", (16, 16), (250, 10, 10)), other_profile())
    made = back(encode_field(encoder, image))
    red, _, blue = made.convert("RGB").getpixel((8, 8))  # type: ignore[misc]
    assert blue > 220 > 60 > red
    assert not made.info.get("icc_profile")
    plain = Image.new("RGB", (16, 16), (250, 10, 10))
    before = io.BytesIO()
    with_profile(plain, SRGB).save(
        before, back(encode_field(encoder, plain)).format, **{"quality": 90} if encoder[0] == "j" else {}
    )
    assert encode_field(encoder, plain) == before.getvalue()


# -- arrays ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["<u2", ">u2"])
@pytest.mark.parametrize("shape", [(5, 6), (5, 6, 1)])
def test_a_depth_map_is_a_png_of_16_bits(kind: str, shape: tuple[int, ...]) -> None:
    array = (np.arange(30, dtype=kind) * 2000).reshape(shape)
    data = encode_field("depth.png", array)
    assert data[24:26] == b"\x10\0"  # bits a sample, and grey
    assert (np.asarray(back(data)) == array.reshape(5, 6)).all()
    turned = encode_field("depth.png", array[::-1])  # not contiguous
    assert (np.asarray(back(turned)) == array[::-1].reshape(5, 6)).all()


@pytest.mark.parametrize(
    ("shape", "mode"), [((5, 6), "L"), ((5, 6, 1), "L"), ((5, 6, 2), "LA"), ((5, 6, 3), "RGB"), ((5, 6, 4), "RGBA")]
)
def test_every_shape_of_an_image_works(shape: tuple[int, ...], mode: str) -> None:
    array = np.arange(np.prod(shape), dtype=np.uint8).reshape(shape)
    made = back(encode_field("png", array))
    assert made.mode == mode
    assert (np.asarray(made).reshape(shape) == array).all()


@pytest.mark.parametrize(
    ("name", "array", "words"),
    [
        ("png", np.zeros((4, 4), np.float32), r"uint8, not float32: scale it, as in \(array \* 255\)"),
        ("jpg", np.ones((4, 4), bool), r"uint8, not bool: a mask is \(array \* 255\)"),
        ("jpg", np.zeros((4, 4), np.uint16), "uint8, not uint16: only a png of one channel"),
        ("webp", np.zeros((4, 4, 1), np.uint16), "only a png of one channel"),
        ("png", np.zeros((4, 4, 3), np.uint16), "only a png of one channel"),
        ("png", np.zeros((4, 4), np.int64), "uint8, not int64: convert it"),
        ("png", np.zeros((4, 4), complex), "not complex128"),
        ("png", np.array(["a"]), "not <U1"),
        ("png", np.zeros(4, np.uint8), r"not \(4,\)"),
        ("png", np.uint8(4), r"not \(\)"),
        ("png", np.zeros((2, 4, 4, 3), np.uint8), r"not \(2, 4, 4, 3\)"),
        ("png", np.zeros((4, 4, 5), np.uint8), r"not \(4, 4, 5\)"),
        ("jpg", np.zeros((3, 40, 50), np.uint8), r"not \(3, 40, 50\); channels come last"),
        ("png", np.zeros((0, 4, 3), np.uint8), r"not \(0, 4, 3\)"),
        ("npy", np.array([{}]), "pickle"),
        ("png", Image.new("RGB", (0, 4)), "0 x 4 pixels"),
        ("webp", Image.new("L", (20000, 1)), "cannot be a WEBP"),
    ],
)
def test_an_array_that_is_no_image_is_told_what_to_do(name: str, array: Any, words: str) -> None:
    with pytest.raises(ValueError, match=words) as caught:
        encode_field(name, array)
    assert f"field {name!r}" in str(caught.value)
    assert "\n" not in str(caught.value)


# -- numbers and text ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["cls", "a.cls", "CLS", "cls2", "class", "count", "index", "inx", "id"])
@pytest.mark.parametrize("value", [7, np.int64(7), np.uint8(7), np.array(7)])
def test_whole_numbers_are_written_as_webdataset_does(name: str, value: Any) -> None:
    assert encode_field(name, value) == b"7"
    assert encode_field(name, -value if not isinstance(value, np.uint8) else value) in (b"-7", b"7")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("cls", 7.0),
        ("cls", np.float32(7)),
        ("cls", True),
        ("cls", None),
        ("cls", [7]),
        ("txt", 7),
        ("cls", np.array([7, 8])),
    ],
)
def test_what_is_no_whole_number_is_said(name: str, value: Any) -> None:
    with pytest.raises((TypeError, ValueError), match=f"field '{name}'"):
        encode_field(name, value)


@pytest.mark.parametrize("text", ['{"a": 1}', "[]", "7", '"word"', "null", ' {"ü": "日本"}\n'])
def test_text_that_is_json_goes_in_as_it_is(text: str) -> None:
    assert encode_field("label.json", text) == text.encode()


@pytest.mark.parametrize(
    "text", ["", "cat", "{'a': 1}", '{"a": 1,}', "NaN", '{"a": Infinity}', "[" * 100_000, "\ufeff{}"]
)
def test_text_that_is_no_json_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"field 'label\.json' holds text that is not JSON .*json\.dumps"):
        encode_field("label.json", text)
    assert encode_field("label.json", text.encode()) == text.encode()


def test_half_a_character_is_said() -> None:
    with pytest.raises(ValueError, match="half a character"):
        encode_field("txt", "a\ud800")
