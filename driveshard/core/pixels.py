"""What a picture's numbers mean: which way is up, which level is white, which colours they are.

One rule for every picture that comes in, whatever is made of it: fields of samples, the generator's inputs, previews.
A picture that has nothing of this to put right is given back as it is.
"""

from __future__ import annotations

import io
import math
from collections.abc import Callable
from functools import lru_cache

from PIL import Image, ImageCms, features

_ORIENTATION = 0x0112
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_SAYS_ORIENTATION = ("exif", "Raw profile type exif", "xmp", "XML:com.adobe.xmp")

_WHITES = (255.0, 1023.0, 4095.0, 16383.0, 65535.0)  # 8, 10, 12, 14 and 16 bits: sensors have all of them
_FRACTIONS = 8.0  # a float picture whose largest value is below this was not made for levels up to 255

_STRAIGHT = {"La": "LA", "RGBa": "RGBA", "PA": "RGBA"}  # alpha that is multiplied in, or beside a palette
_OF_SPACE = {"RGB": "RGB", "GRAY": "L", "CMYK": "CMYK", "Lab": "LAB"}
_GREY = ("L", "LA")
_ALIKE = 2  # levels that a profile may differ from sRGB before a picture is converted

Convert = Callable[[Image.Image], Image.Image]


def upright(image: Image.Image) -> Image.Image:
    """The picture as its EXIF or XMP orientation (1 to 8) says it is to be seen."""
    image.load()  # Pillow itself turns a TIFF when it is loaded
    method = _TURNS.get(_orientation(image))
    if method is None:
        return image
    turned = image.transpose(method)
    for key in _SAYS_ORIENTATION:  # or the next who looks turns it again
        turned.info.pop(key, None)
    return turned


def _orientation(image: Image.Image) -> int:
    try:
        said = image.getexif().get(_ORIENTATION, 1)
    except Exception:  # broken EXIF makes Pillow raise nearly anything, and the pixels are good without it
        return 1
    return said if isinstance(said, int) else 1


def is_deep(image: Image.Image) -> bool:
    """Whether it is grey with more than 8 bits: integers of 16 or 32, or floats."""
    return image.mode.startswith(("I", "F"))


def eight_bit(image: Image.Image) -> Image.Image:
    """Grey deeper than 8 bits scaled to 0..255 (mode L); every other picture as it is.

    Black is 0 and white the smallest of 255, 1023, 4095, 16383 and 65535 that the brightest pixel does not exceed, so
    that a camera's 12 bits in a file of 16 are not almost black; for floats it is 1 when none is above. Values outside
    of 0..65535 are stretched from the lowest to the highest. Raises ValueError for values that are no numbers.
    """
    if not is_deep(image):
        return image
    deep = _as_floats(image)
    black, white = _black_and_white(image.mode, *_extremes(deep))
    factor = 255.0 / ((white - black) or 1.0)
    scaled = deep.point(lambda value: value * factor + (0.5 - black * factor)).convert("L")
    scaled.info.pop("transparency", None)  # a level of the deep picture
    return scaled


def _as_floats(image: Image.Image) -> Image.Image:
    return (image.convert("I") if image.mode.startswith("I;16") else image).convert("F")


def _was_scaled_otherwise(image: Image.Image) -> bool:
    """Whether the first rule there was (16 bits, 8 bits, or stretched) made other levels of it."""
    try:
        low, high = _extremes(_as_floats(image))
    except ValueError:
        return True
    before = (low, high)
    if image.mode.startswith("I;16") or (low >= 0 and _WHITES[0] < high <= _WHITES[-1]):
        before = (0.0, _WHITES[-1])
    elif low >= 0 and high <= _WHITES[0]:
        before = (0.0, _WHITES[0])
    return _black_and_white(image.mode, low, high) != before


def _extremes(deep: Image.Image) -> tuple[float, float]:
    low, high = deep.getextrema()
    assert isinstance(low, float)
    assert isinstance(high, float)
    # The sum is no number as soon as one pixel is not; the extremes alone pass over some.
    if not math.isfinite(low + high) or not math.isfinite(_sum(deep)):
        raise ValueError("it has pixels whose value is no number, or infinite")
    return low, high


def _sum(deep: Image.Image) -> float:
    import numpy as np  # deep pictures are rare, and numpy takes a while to load

    return float(np.asarray(deep).sum(dtype=np.float64))


def _black_and_white(mode: str, low: float, high: float) -> tuple[float, float]:
    if low < 0 or high > _WHITES[-1]:
        return low, high
    if mode == "F" and high < _FRACTIONS:
        return 0.0, max(1.0, high)
    if mode.startswith("I;16") and low == high <= _WHITES[0]:
        return 0.0, _WHITES[-1]  # one dark level says nothing of the depth it was taken with: dark it stays
    return 0.0, next(white for white in _WHITES if high <= white)


def sixteen_bit(image: Image.Image) -> Image.Image:
    """Integers deeper than 8 bits as mode I;16, each value as it is. Raises ValueError when one does not fit."""
    if image.mode in ("I;16", "I;16B"):
        return image
    whole = image.convert("I")
    low, high = whole.getextrema()
    assert isinstance(low, int | float)
    assert isinstance(high, int | float)
    if low < 0 or high > _WHITES[-1]:
        raise ValueError(f"it has values from {low} to {high}, and 16 bits hold 0 to 65535")
    return whole.convert("I;16")


def in_srgb(image: Image.Image) -> Image.Image:
    """The colours (or greys) of an embedded ICC profile as sRGB, the alpha kept; mode L, LA, RGB or RGBA.

    A picture without a profile, or with one that says what sRGB says, or that does not fit or cannot be used, stays
    as it is.
    """
    profile, mode = _profile_of(image)
    convert = None if mode is None else _conversion(profile, mode)
    if convert is None or mode is None:
        return image
    image = unmultiplied(image)
    clear = image.convert("RGBA").getchannel("A") if image.has_transparency_data else None
    converted = convert(_opaque(image).convert(mode))
    if image.mode in _GREY:
        converted = converted.convert("L")
    converted.info.clear()  # the new profile, and a transparent colour that was one of the old
    if clear is not None:
        converted.putalpha(clear)
    return converted


def is_special(image: Image.Image) -> bool:
    """Whether ``eight_bit`` or ``in_srgb`` makes of it what older versions of driveshard did not. Decodes deep grey."""
    profile, mode = _profile_of(image)
    converts = mode is not None and _conversion(profile, mode) is not None
    return converts or (is_deep(image) and _was_scaled_otherwise(image))


def _profile_of(image: Image.Image) -> tuple[bytes | None, str | None]:
    """(the profile, the mode of the pixels that it is for); None for the mode when it is of no use."""
    profile = image.info.get("icc_profile") or None
    if not (profile or image.mode == "LAB") or image.mode in ("1", "HSV") or not features.check("littlecms2"):
        return None, None
    mode = _mode_of(profile) if isinstance(profile, bytes) else "LAB"
    fits = image.mode == mode or not {"CMYK", "LAB"} & {mode, image.mode}
    return profile, mode if fits else None


def unmultiplied(image: Image.Image) -> Image.Image:
    """Modes in which alpha is kept in an unusual way as LA or RGBA."""
    return image.convert(_STRAIGHT[image.mode]) if image.mode in _STRAIGHT else image


def _opaque(image: Image.Image) -> Image.Image:
    """Without its alpha, the colours under it unchanged."""
    if image.mode in ("LA", "RGBA"):
        return image.convert(image.mode[:-1])
    return image.convert("RGB") if image.mode in ("P", "RGBX", "YCbCr") else image


@lru_cache(maxsize=64)
def _mode_of(profile: bytes) -> str | None:
    """The mode of the pixels that a profile is for; None when it cannot be read."""
    try:
        return _OF_SPACE.get(ImageCms.ImageCmsProfile(io.BytesIO(profile)).profile.xcolor_space.strip())
    except (ImageCms.PyCMSError, OSError, ValueError, TypeError):
        return None


@lru_cache(maxsize=64)
def _conversion(profile: bytes | None, mode: str) -> Convert | None:
    """From pixels of that mode to RGB; None when the profile is of no use, or pixels would hardly change."""
    try:
        source = ImageCms.ImageCmsProfile(io.BytesIO(profile)) if profile else ImageCms.createProfile("LAB")
        transform = ImageCms.buildTransform(source, ImageCms.createProfile("sRGB"), mode, "RGB")
        if mode in ("L", "RGB") and _differs(transform.apply) <= _ALIKE:
            return None
    except (ImageCms.PyCMSError, OSError, ValueError, TypeError):
        return None
    return transform.apply


def _differs(convert: Convert, step: int = 17) -> int:
    """By how many levels at most the conversion changes a channel: of all greys, and of colours all over the cube."""
    greys = [(level, level, level) for level in range(256)]
    levels = range(0, 256, step)
    colours = [*greys, *((red, green, blue) for red in levels for green in levels for blue in levels)]
    before = Image.new("RGB", (len(colours), 1))
    before.putdata(colours)
    try:
        after = convert(before)
    except ValueError:  # a profile of greys
        after = convert(before.crop((0, 0, 256, 1)).convert("L"))
    return max(abs(a - b) for a, b in zip(before.tobytes(), after.tobytes(), strict=False))
