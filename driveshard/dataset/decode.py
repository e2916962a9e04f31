"""From a field's bytes to what a training loop wants: pictures, arrays, numbers, text."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from driveshard.core.errors import Mismatch, UsageError

Decoder = Callable[[bytes], Any]
Decode = str | Mapping[str, str | Decoder] | None
"""``"pil"``, ``"numpy"``, or one of these or a callable for a field (``"image.jpg"``) or its extension (``"jpg"``)."""

IMAGES = frozenset(["jpg", "jpeg", "png", "webp", "bmp", "gif", "tif", "tiff", "ppm", "pgm"])


def decoder_for(field: str, decode: Decode) -> Decoder | None:
    """What turns that field's bytes into its value, None for bytes as they are. Raises UsageError."""
    if decode is None:
        return None
    if isinstance(decode, str):
        return _named(decode, field)
    if not isinstance(decode, Mapping):
        raise UsageError("decode is 'pil', 'numpy', or a callable for each field", advice="As in decode={'jpg': f}.")
    for name in (field, extension(field)):
        if name in decode:
            chosen = decode[name]
            return _named(chosen, field) if isinstance(chosen, str) else chosen
    return None


def extension(field: str) -> str:
    """What stands behind the last dot of a field's name, in lower case."""
    return field.rpartition(".")[2].lower()


def _named(how: str, field: str) -> Decoder | None:
    if how not in ("pil", "numpy"):
        raise UsageError(f"decode cannot be {how!r}", advice="Give 'pil', 'numpy', or a callable for each field.")
    kind = extension(field)
    if kind in IMAGES:
        return partial(_told, field, _picture if how == "pil" else _pixels)
    found = _OTHERS.get(kind)
    return None if found is None else partial(_told, field, found)


def _told(field: str, decode: Decoder, data: bytes) -> Any:
    try:
        return decode(data)
    except Exception as error:  # what the libraries raise over damaged bytes has no common kind
        raise Mismatch(f"field {field} cannot be decoded: {error}", advice="Leave it out, or pack it again.") from error


def _picture(data: bytes) -> Any:
    from PIL import Image

    with Image.open(io.BytesIO(data)) as image:
        image.load()
        return image


def _pixels(data: bytes) -> Any:
    """As uint8 (or what the file holds) of shape (height, width) or (height, width, channels)."""
    import numpy as np

    return np.array(_picture(data))


def _array(data: bytes) -> Any:
    import numpy as np

    return np.load(io.BytesIO(data), allow_pickle=False)


_OTHERS: dict[str, Decoder] = {
    "json": json.loads,
    "txt": bytes.decode,
    "text": bytes.decode,
    "cls": int,
    "npy": _array,
}
