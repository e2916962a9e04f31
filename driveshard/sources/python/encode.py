"""A sample's field as the bytes of its member: the field's extension says how."""

from __future__ import annotations

import io
import json
import operator
from typing import Any, NoReturn

from PIL import Image

from driveshard.core.pixels import eight_bit, in_srgb, is_deep, sixteen_bit, unmultiplied, upright

_JPEG_QUALITY = 90
_FORMATS = {"jpg": "JPEG", "jpeg": "JPEG", "png": "PNG", "webp": "WEBP"}
_WHOLE_NUMBERS = frozenset({"cls", "cls2", "class", "count", "index", "inx", "id"})  # WebDataset's

_AS_THEY_ARE = {
    "JPEG": frozenset({"L", "RGB", "YCbCr"}),
    "PNG": frozenset({"1", "L", "LA", "P", "RGB", "RGBA", "I;16", "I;16B"}),
    "WEBP": frozenset({"1", "L", "LA", "P", "RGB", "RGBA"}),
}
"""Modes that the encoder is given unchanged; all others become RGB, or RGBA when they have transparency."""

_INSTEAD = {
    "f": "scale it, as in (array * 255).astype('uint8'), or name the field npy, which keeps it as it is",
    "b": "a mask is (array * 255).astype('uint8'); npy keeps it as it is",
    "u": "only a png of one channel keeps uint16; scale it, or name the field npy, which keeps it as it is",
}
_OTHERWISE = "convert it, or name the field npy, which keeps it as it is"


def encode_field(name: str, value: Any) -> bytes:
    """The bytes of the member ``key.name``.

    Bytes-like values and text (as UTF-8) go in as they are; text under ``json`` must be JSON. A PIL image, or a numpy
    array under an image's extension, becomes a JPEG (quality 90), PNG or WebP, see ``_encode_image``; an array under
    ``.npy`` keeps type and shape; under ``.json`` anything JSON can hold, numpy values among it, becomes compact UTF-8
    with sorted keys; a whole number under ``cls`` (or another of WebDataset's names for one) its digits.

    Raises TypeError or ValueError, with a sentence for the user, when value and extension do not go together.
    """
    if isinstance(value, bytes):
        return value
    if isinstance(value, bytearray | memoryview):
        return bytes(value)
    extension = name.rpartition(".")[2].lower()
    if isinstance(value, str):
        return _encode_text(name, extension, value)
    if isinstance(value, Image.Image):
        return _encode_image(name, extension, value)
    if extension == "json":
        return _encode_json(value)
    if extension in _WHOLE_NUMBERS and hasattr(type(value), "__index__") and type(value) is not bool:
        return _encode_whole_number(name, value)
    if type(value).__module__.partition(".")[0] == "numpy":
        return _encode_array(name, extension, value)
    raise TypeError(
        f"field {name!r} holds a value of type {type(value).__name__}; give bytes, text, a PIL image, a numpy array, "
        "a whole number in a field named cls, or a field named json for anything that JSON can hold"
    )


# -- text and numbers ------------------------------------------------------------------------------------------------


def _encode_text(name: str, extension: str, text: str) -> bytes:
    if extension == "json":
        try:
            json.loads(text, parse_constant=_no_constant)
        except (ValueError, RecursionError) as error:
            raise ValueError(
                f"field {name!r} holds text that is not JSON ({error}); give the value itself, or json.dumps(value)"
            ) from error
    try:
        return text.encode()
    except UnicodeEncodeError as error:
        raise ValueError(
            f"field {name!r} holds text with half a character ({text[error.start]!r} at {error.start}), which is no"
            " UTF-8; give bytes"
        ) from error


def _no_constant(word: str) -> NoReturn:
    raise ValueError(f"JSON has no {word}")


def _encode_whole_number(name: str, value: Any) -> bytes:
    try:
        return b"%d" % operator.index(value)
    except TypeError as error:
        raise TypeError(f"field {name!r} takes one whole number; this is {_in_short(value)}") from error


def _in_short(value: Any) -> str:
    shape, kind = getattr(value, "shape", None), getattr(value, "dtype", type(value).__name__)
    return f"{kind} of the shape {tuple(shape)}" if shape else f"of type {kind}"


def _encode_json(value: Any) -> bytes:
    text = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"), sort_keys=True, default=_plain)
    return text.encode()


def _plain(value: Any) -> Any:
    """numpy scalars and arrays inside a label, without importing numpy."""
    if hasattr(value, "tolist"):
        return value.tolist()
    raise TypeError(f"a value of type {type(value).__name__} cannot stand in JSON")


# -- images ----------------------------------------------------------------------------------------------------------


def _encode_image(name: str, extension: str, image: Image.Image) -> bytes:
    """Turned upright by its EXIF, its colours in sRGB. Integers deeper than 8 bits stay as they are in a PNG of 16;
    elsewhere they, and floats everywhere, are scaled to 8 bits (``pixels.eight_bit``)."""
    if extension not in _FORMATS:
        raise ValueError(f"field {name!r} holds an image; its name must end in {', '.join(_FORMATS)}")
    form = _FORMATS[extension]
    if form == "JPEG" and image.has_transparency_data and not is_deep(image):
        raise ValueError(f"field {name!r}: a JPEG holds no transparency; use png or webp, or convert the image to RGB")
    if not image.width or not image.height:
        raise ValueError(f"field {name!r}: an image of {image.width} x {image.height} pixels has none")
    try:
        return _saved(_fit_for(form, upright(image)), form)
    except MemoryError:
        raise
    except Exception as error:  # Pillow's codecs raise nearly anything
        why = str(error) or type(error).__name__
        raise ValueError(f"field {name!r}: this image (mode {image.mode}) cannot be a {form}: {why}") from error


def _fit_for(form: str, image: Image.Image) -> Image.Image:
    """The picture in a mode that the encoder is right with."""
    if is_deep(image):
        image = sixteen_bit(image) if form == "PNG" and image.mode != "F" else eight_bit(image)
    if not is_deep(image):
        image = unmultiplied(in_srgb(image))
    if image.mode in _AS_THEY_ARE[form]:
        return image
    return image.convert("RGBA" if image.has_transparency_data else "RGB")


def _saved(image: Image.Image, form: str) -> bytes:
    buffer = io.BytesIO()
    if form == "JPEG":
        image.save(buffer, form, quality=_JPEG_QUALITY)
    else:
        image.save(buffer, form)
    return buffer.getvalue()


def _encode_array(name: str, extension: str, value: Any) -> bytes:
    import numpy as np  # only a caller that has numpy values pays for its import

    array = np.asarray(value)
    if extension == "npy":
        if array.dtype.hasobject:
            raise ValueError(f"field {name!r}: an array of Python objects would need pickle; use json for these")
        buffer = io.BytesIO()
        np.save(buffer, array, allow_pickle=False)
        return buffer.getvalue()
    if extension not in _FORMATS:
        raise ValueError(f"field {name!r} holds a numpy array; its name must end in npy, json, {', '.join(_FORMATS)}")
    if array.ndim == 3 and array.shape[2] == 1:
        array = array[:, :, 0]
    _check_pixels(name, array, deep=extension == "png" and array.ndim == 2)
    native = array.astype("<u2") if array.dtype.itemsize == 2 else array
    return _encode_image(name, extension, Image.fromarray(np.ascontiguousarray(native)))


def _check_pixels(name: str, array: Any, *, deep: bool) -> None:
    """Raise ValueError when the array is no image's; ``deep`` when uint16 will do."""
    if array.dtype.name != "uint8" and not (deep and array.dtype.name == "uint16"):
        instead = _INSTEAD.get(array.dtype.kind, _OTHERWISE)
        raise ValueError(f"field {name!r}: an image's array must be of uint8, not {array.dtype}: {instead}")
    if array.ndim not in (2, 3) or (array.ndim == 3 and array.shape[2] not in (2, 3, 4)) or 0 in array.shape:
        last = "; channels come last" if array.ndim == 3 and array.shape[0] in (1, 3, 4) else ""
        raise ValueError(
            f"field {name!r}: an image's array has the shape (height, width) or (height, width, 1 to 4), none of them"
            f" 0, not {array.shape}{last}"
        )
