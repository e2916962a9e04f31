"""Which way is up, which level is white, which colours: one rule, whatever the mode."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image, ImageCms

from driveshard.core.pixels import eight_bit, in_srgb, sixteen_bit, upright

RED, GREEN, BLUE, WHITE = (220, 20, 20), (20, 200, 20), (20, 20, 220), (240, 240, 240)


def corners() -> Image.Image:
    """Four colours, so that each of the eight orientations looks different."""
    image = Image.new("RGB", (48, 32))
    for number, colour in enumerate((RED, GREEN, BLUE, WHITE)):
        image.paste(colour, (24 * (number % 2), 16 * (number // 2), 24 * (number % 2) + 24, 16 * (number // 2) + 16))
    return image


def looks_like_corners(image: Image.Image, least: int = 40) -> bool:
    seen = image.convert("RGB")
    places = ((12, 8), (36, 8), (12, 24), (36, 24))
    found = [seen.getpixel(place) for place in places]
    return seen.size == (48, 32) and all(
        max(abs(a - b) for a, b in zip(one, wanted, strict=True)) < least  # type: ignore[arg-type]
        for one, wanted in zip(found, (RED, GREEN, BLUE, WHITE), strict=True)
    )


BACK = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_90,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_270,
}
"""How a camera stores a picture that is to be seen as it is: what the orientation undoes."""


def as_stored(orientation: int, form: str) -> bytes:
    image = corners()
    if orientation in BACK:
        image = image.transpose(BACK[orientation])
    exif = Image.Exif()
    exif[0x0112] = orientation
    buffer = io.BytesIO()
    image.save(buffer, form, exif=exif, **({"quality": 95} if form in ("JPEG", "WEBP") else {}))
    return buffer.getvalue()


@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP", "TIFF"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_every_orientation_of_every_format_is_turned_once(orientation: int, form: str) -> None:
    turned = upright(Image.open(io.BytesIO(as_stored(orientation, form))))
    assert looks_like_corners(turned)
    assert looks_like_corners(upright(turned))
    assert looks_like_corners(upright(turned.convert("RGB")))


@pytest.mark.parametrize("said", [b"broken", b"Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x63\0\0"])
def test_nonsense_in_exif_leaves_the_picture(said: bytes) -> None:
    image = corners()
    image.info["exif"] = said
    assert upright(image) is image


@pytest.mark.parametrize(
    ("mode", "levels", "expected"),
    [
        ("I;16", (0, 65535, 32896), (0, 255, 128)),
        ("I;16", (0, 4095, 2048), (0, 255, 128)),
        ("I;16B", (0, 4000, 2000), (0, 249, 125)),
        ("I;16", (0, 1023, 0), (0, 255, 0)),
        ("I;16", (0, 16383, 0), (0, 255, 0)),
        ("I;16", (0, 200, 100), (0, 200, 100)),
        ("I;16", (40000, 40000, 40000), (156, 156, 156)),
        ("I;16", (200, 200, 200), (1, 1, 1)),
        ("I", (0, 255, 7), (0, 255, 7)),
        ("I", (0, 4095, 2048), (0, 255, 128)),
        ("I", (-1000, 1000, 0), (0, 255, 128)),
        ("I", (0, 1_000_000, 500_000), (0, 255, 128)),
        ("F", (0.0, 1.0, 0.5), (0, 255, 128)),
        ("F", (0.0, 0.5, 0.25), (0, 128, 64)),
        ("F", (0.0, 1.02, 0.51), (0, 255, 128)),
        ("F", (0.0, 255.0, 99.6), (0, 255, 100)),
        ("F", (0.0, 65535.0, 257.0), (0, 255, 1)),
        ("F", (-1.0, 1.0, 0.0), (0, 255, 128)),
        ("F", (0.0, 0.0, 0.0), (0, 0, 0)),
    ],
)
def test_deep_grey_is_scaled_by_the_depth_it_was_taken_with(
    mode: str, levels: tuple[float, ...], expected: tuple[int, ...]
) -> None:
    image = Image.new(mode, (3, 1))
    for x, level in enumerate(levels):
        image.putpixel((x, 0), level)
    scaled = eight_bit(image)
    assert scaled.mode == "L"
    assert max(abs(a - b) for a, b in zip(scaled.tobytes(), expected, strict=True)) <= 1
    assert image.getpixel((1, 0)) == pytest.approx(levels[1])


@pytest.mark.parametrize("level", [float("nan"), float("inf"), float("-inf")])
def test_what_is_no_number_has_no_level(level: float) -> None:
    pixels = np.full((4, 4), 0.5, np.float32)
    pixels[2, 3] = level
    with pytest.raises(ValueError, match="no number"):
        eight_bit(Image.fromarray(pixels))


def test_sixteen_bits_hold_what_fits_and_nothing_else() -> None:
    image = Image.new("I", (2, 1), 65535)
    assert (sixteen_bit(image).mode, sixteen_bit(image).getpixel((0, 0))) == ("I;16", 65535)
    for level in (-1, 65536):
        image.putpixel((1, 0), level)
        with pytest.raises(ValueError, match=str(level)):
            sixteen_bit(image)


def other_profile() -> bytes:
    """A profile of RGB whose red and blue are changed round: its primaries, read as others."""
    profile = bytearray(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    red, blue = profile.index(b"rXYZ"), profile.index(b"bXYZ")
    profile[red : red + 4], profile[blue : blue + 4] = b"bXYZ", b"rXYZ"
    return bytes(profile)


SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


def with_profile(image: Image.Image, profile: bytes) -> Image.Image:
    image.info["icc_profile"] = profile
    return image


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "RGBX", "P", "RGBa", "PA", "YCbCr"])
def test_the_colours_of_a_profile_become_srgb(mode: str) -> None:
    image = Image.new("RGB", (4, 4), (250, 10, 10)).convert(
        "PA" if mode == "PA" else "RGBA" if mode == "RGBa" else mode
    )
    made = in_srgb(with_profile(image.convert(mode) if mode == "RGBa" else image, other_profile()))
    seen = made.convert("RGB").getpixel((1, 1))
    assert isinstance(seen, tuple)
    assert seen[2] > 230 > 60 > max(seen[:2])
    assert "icc_profile" not in made.info
    assert made.mode in ("RGB", "RGBA")


def test_alpha_is_kept_and_hidden_colours_with_it() -> None:
    image = Image.new("RGBA", (2, 1), (250, 10, 10, 0))
    image.putpixel((1, 0), (250, 10, 10, 77))
    made = in_srgb(with_profile(image, other_profile()))
    assert made.getchannel("A").tobytes() == b"\0\x4d"
    assert made.getpixel((0, 0))[:3] == made.getpixel((1, 0))[:3]  # type: ignore[index]


@pytest.mark.parametrize("mode", ["L", "LA"])
def test_greys_stay_grey(mode: str) -> None:
    image = with_profile(Image.linear_gradient("L").convert(mode), other_profile())
    made = in_srgb(image)
    assert made.mode == mode
    assert max(abs(a - b) for a, b in zip(made.tobytes(), image.tobytes(), strict=True)) <= 3


@pytest.mark.parametrize("profile", [SRGB, b"nonsense", SRGB[:200], b""])
@pytest.mark.parametrize("mode", ["RGB", "L", "RGBA", "P", "CMYK", "1", "HSV"])
def test_a_profile_that_says_nothing_new_or_nothing_at_all_changes_nothing(mode: str, profile: bytes) -> None:
    image = with_profile(Image.new("RGB", (4, 4), (200, 90, 10)).convert(mode), profile)
    assert in_srgb(image) is image


def test_lab_becomes_rgb() -> None:
    lab = ImageCms.buildTransform(ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB"), "RGB", "LAB")
    made = in_srgb(lab.apply(Image.new("RGB", (4, 4), (200, 90, 10))))
    seen = made.getpixel((1, 1))
    assert isinstance(seen, tuple)
    assert max(abs(a - b) for a, b in zip(seen, (200, 90, 10), strict=True)) <= 3
