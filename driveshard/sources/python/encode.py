"""A sample's field as the bytes of its member: the field's extension says how."""

from __future__ import annotations

import io
import json
from typing import Any

from PIL import Image

_JPEG_QUALITY = 90
_FORMATS = {"jpg": "JPEG", "jpeg": "JPEG", "png": "PNG", "webp": "WEBP"}


def encode_field(name: str, value: Any) -> bytes:
    """The bytes of the member ``key.name``.

    Bytes-like values and text (as UTF-8) go in as they are. A PIL image, or a numpy array under an image's
    extension, becomes a JPEG (quality 90), PNG or WebP; an array under ``.npy`` keeps type and shape; under ``.json``
    anything JSON can hold, numpy values among it, becomes compact UTF-8 with sorted keys.

    Raises TypeError or ValueError, with a sentence for the user, when value and extension do not go together.
    """
    if isinstance(value, bytes):
        return value
    if isinstance(value, bytearray | memoryview):
        return bytes(value)
    if isinstance(value, str):
        return value.encode()
    extension = name.rpartition(".")[2].lower()
    if isinstance(value, Image.Image):
        return _encode_image(name, extension, value)
    if extension == "json":
        return _encode_json(value)
    if type(value).__module__.partition(".")[0] == "numpy":
        return _encode_array(name, extension, value)
    raise TypeError(
        f"field {name!r} holds a value of type {type(value).__name__}; give bytes, text, a PIL image, a numpy array, "
        "or a field named json for anything that JSON can hold"
    )


def _encode_image(name: str, extension: str, image: Image.Image) -> bytes:
    if extension not in _FORMATS:
        raise ValueError(f"field {name!r} holds an image; its name must end in {', '.join(_FORMATS)}")
    if extension in ("jpg", "jpeg") and image.has_transparency_data:
        raise ValueError(f"field {name!r}: a JPEG holds no transparency; use png or webp, or convert the image to RGB")
    if extension in ("jpg", "jpeg") and image.mode in ("P", "1"):
        image = image.convert("RGB")
    buffer = io.BytesIO()
    if extension in ("jpg", "jpeg"):
        image.save(buffer, "JPEG", quality=_JPEG_QUALITY)
    else:
        image.save(buffer, _FORMATS[extension])
    return buffer.getvalue()


def _encode_array(name: str, extension: str, value: Any) -> bytes:
    import numpy as np  # only a caller that has numpy values pays for its import

    array = np.asarray(value)
    if extension == "npy":
        buffer = io.BytesIO()
        np.save(buffer, array, allow_pickle=False)
        return buffer.getvalue()
    if extension not in _FORMATS:
        raise ValueError(f"field {name!r} holds a numpy array; its name must end in npy, json, {', '.join(_FORMATS)}")
    if array.dtype != np.uint8:
        raise ValueError(f"field {name!r}: an image's array must be of uint8, not {array.dtype}")
    return _encode_image(name, extension, Image.fromarray(array))


def _encode_json(value: Any) -> bytes:
    text = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"), sort_keys=True, default=_plain)
    return text.encode()


def _plain(value: Any) -> Any:
    """numpy scalars and arrays inside a label, without importing numpy."""
    if hasattr(value, "tolist"):
        return value.tolist()
    raise TypeError(f"a value of type {type(value).__name__} cannot stand in JSON")
