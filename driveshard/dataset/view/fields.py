"""What a browser shows of a field: the picture as it is or as a PNG, text, or how large it is."""

from __future__ import annotations

import io
import json
import struct
from dataclasses import dataclass
from typing import Any

from PIL import Image

from driveshard.archive.contact_sheet import IMAGES as _ENDINGS
from driveshard.core.decoding import strict
from driveshard.core.errors import Mismatch
from driveshard.core.formatting import shown
from driveshard.core.pixels import in_srgb, is_deep, upright
from driveshard.dataset.decode import IMAGES, extension

IMAGE, JSON, TEXT, OTHER = "image", "json", "text", "other"
MOST_TEXT = 256 * 1024  # characters that are shown
_SNIPPET = 300
_PARSED = 16 * 1024  # bytes of JSON that are read for the beginning of it

_PICTURES = IMAGES | {ending.removeprefix(".") for ending in _ENDINGS}
_JSON = frozenset(["json", "geojson", "ipynb"])
_TEXTS = frozenset(
    ["txt", "text", "cls", "caption", "label", "labels", "md", "csv", "tsv", "xml", "svg", "html", "htm", "log", "py"]
) | {"yaml", "yml", "toml", "ini", "jsonl", "ndjson", "srt", "vtt"}
_SIGNS = (
    (b"\xff\xd8\xff", "image/jpeg"),
    (b"\x89PNG\r\n\x1a\n", "image/png"),
    (b"GIF8", "image/gif"),
    (b"BM", "image/bmp"),
)
_MODES = {"1": "1 bit", "L": "grey", "LA": "grey, alpha", "P": "palette", "RGB": "RGB", "RGBA": "RGB, alpha"}
_MODES |= {"F": "float", "I": "32 bit", "I;16": "16 bit", "I;16B": "16 bit", "I;16L": "16 bit"}
_DARK = 40  # level below which nobody sees anything of a picture that has none above
_PNG_HEAD = struct.Struct(">8x4x4sIIBB")


def kind_of(field: str) -> str:
    """What a field is by its name: ``image``, ``json``, ``text`` or ``other``."""
    ending = extension(field)
    for kind, endings in ((IMAGE, _PICTURES), (JSON, _JSON), (TEXT, _TEXTS)):
        if ending in endings:
            return kind
    return OTHER


@dataclass(frozen=True, slots=True)
class Picture:
    """An image for a browser: its media type and bytes, and what there is to know of it (``640 x 480, 16 bit``)."""

    media: str
    data: bytes
    note: str = ""


def picture(data: bytes) -> Picture:
    """The image as a browser can show it: most as they are; greys of more than 8 bits, and those that would be all
    black (numbers of classes), stretched from their darkest to their brightest pixel; what browsers do not know as PNG.
    Raises Mismatch when it cannot be decoded."""
    media = _media_of(data)
    depth = _depth_of_grey(data) if media == "image/png" else 0
    if media and depth < 8:
        return Picture(media, data)
    try:
        with strict, Image.open(io.BytesIO(data)) as image:
            if depth == 8 and not (image.mode == "L" and 0 < _extremes(_floats(image))[1] < _DARK):
                return Picture(media, data)
            made = upright(image)
            return Picture("image/png", _as_png(_stretched(made) if depth == 8 or is_deep(made) else in_srgb(made)))
    except MemoryError:
        raise
    except Exception as error:  # Pillow's decoders raise nearly anything on bad bytes
        raise _undecodable(error) from error


def note_on(data: bytes) -> str:
    """``640 x 480, RGB``, and of greys the lowest and highest value. Raises Mismatch as ``picture``."""
    try:
        with strict, Image.open(io.BytesIO(data)) as image:
            size = f"{image.width} x {image.height}"
            kind = f"{size}, {_MODES.get(image.mode, image.mode)}"
            if image.mode != "L" and not is_deep(image):
                return kind
            low, high = _extremes(_floats(image))
            return f"{kind}, {low:g} to {high:g}"
    except MemoryError:
        raise
    except Exception as error:
        raise _undecodable(error) from error


def _undecodable(error: Exception) -> Mismatch:
    return Mismatch(f"it cannot be decoded: {shown(str(error))}", advice="Download it, and look what it is.")


def _media_of(data: bytes) -> str:
    """The media type of an image that every browser shows, by its first bytes; empty for any other."""
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "image/webp"
    if data[4:12] in (b"ftypavif", b"ftypavis"):
        return "image/avif"
    return next((media for sign, media in _SIGNS if data.startswith(sign)), "")


def _depth_of_grey(png: bytes) -> int:
    """Bits of a level of a grey PNG; 0 for one with colours."""
    if len(png) < _PNG_HEAD.size:
        return 0
    _, _, _, depth, colours = _PNG_HEAD.unpack_from(png)
    return int(depth) if colours in (0, 4) else 0


def _floats(image: Image.Image) -> Any:
    import numpy as np

    return np.asarray(image.convert("I") if image.mode.startswith("I;16") else image).astype(np.float64)


def _extremes(values: Any) -> tuple[float, float]:
    import numpy as np

    finite = values[np.isfinite(values)]
    return (float(finite.min()), float(finite.max())) if finite.size else (0.0, 0.0)


def _stretched(image: Image.Image) -> Image.Image:
    """Levels from the lowest value that there is, black, to the highest; what is no number is black, too."""
    import numpy as np

    values = _floats(image)
    low, high = _extremes(values)
    with np.errstate(invalid="ignore", over="ignore"):
        levels = (values - low) * (255.0 / ((high - low) or 1.0))
    whole = np.nan_to_num(levels, nan=0.0, posinf=255.0, neginf=0.0).round().clip(0, 255)
    return Image.fromarray(whole.astype(np.uint8))


def _as_png(image: Image.Image) -> bytes:
    buffer = io.BytesIO()
    fitting = image if image.mode in ("1", "L", "LA", "P", "RGB", "RGBA") else image.convert("RGBA")
    fitting.save(buffer, "PNG", compress_level=1)  # it goes no further than this machine
    return buffer.getvalue()


@dataclass(frozen=True, slots=True)
class Text:
    """A field as text; ``whole`` is False when more than MOST_TEXT characters were cut."""

    text: str
    whole: bool


def text_of(data: bytes, kind: str) -> Text | None:
    """The field as text, JSON with a line for each value; None when it is not text."""
    try:
        text = data.decode("utf-8-sig" if kind != OTHER else "utf-8")
    except UnicodeDecodeError:
        if kind == OTHER:
            return None
        text = data.decode("utf-8", "replace")
    if kind == OTHER and not all(one.isprintable() or one in "\r\n\t" for one in text):
        return None
    if kind == JSON:
        text = _pretty(text)
    return Text(text[:MOST_TEXT], len(text) <= MOST_TEXT)


def _pretty(text: str, indent: int | None = 2) -> str:
    try:
        return json.dumps(json.loads(text), indent=indent, ensure_ascii=False)
    except (ValueError, RecursionError):
        return text


def snippet(data: bytes, kind: str) -> str:
    """The beginning of a text on one line."""
    if kind == JSON and len(data) <= _PARSED:
        text = _pretty(data.decode("utf-8-sig", "replace"), None)
    else:
        text = data[: 4 * _SNIPPET].decode("utf-8", "ignore")
    return " ".join(text[: 4 * _SNIPPET].split())[:_SNIPPET]
