"""The generator's input images: listed, checked, and decoded to 8 bits a channel, upright."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from PIL import Image, ImageOps, UnidentifiedImageError

from driveshard.core.decoding import strict
from driveshard.core.errors import BrokenPicture, SourceMissing

SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff"})

_SIXTEEN_BIT = 65535


@dataclass(frozen=True, slots=True)
class Picture:
    """An image file as it was when its folder was listed; a changed file is another value, so no cache goes stale."""

    path: Path
    size: int
    mtime_ns: int

    @property
    def name(self) -> str:
        return self.path.name


def list_pictures(folder: Path, role: str) -> tuple[Picture, ...]:
    """The image files directly in ``folder``, sorted by the bytes of their names.

    Hidden files are left out (macOS leaves ``._x.jpg`` beside ``x.jpg``). Raises SourceMissing when there is no such
    directory, it cannot be read, or it holds no image; ``role`` names it in the message.
    """
    try:
        with os.scandir(folder) as entries:
            found = [
                Picture(Path(entry.path), entry.stat().st_size, entry.stat().st_mtime_ns)
                for entry in entries
                if _is_picture(entry)
            ]
    except FileNotFoundError as error:
        raise SourceMissing(f"The folder of {role} is not there: {folder}") from error
    except NotADirectoryError as error:
        raise SourceMissing(f"The {role} must be a folder of images, and this is a file: {folder}") from error
    except OSError as error:
        raise SourceMissing(f"The folder of {role} cannot be read: {folder} ({error.strerror})") from error
    if not found:
        kinds = ", ".join(sorted(suffix[1:] for suffix in SUFFIXES))
        raise SourceMissing(f"The folder of {role} holds no image: {folder}", advice=f"Images are known by: {kinds}.")
    return tuple(sorted(found, key=lambda picture: os.fsencode(picture.name)))


def _is_picture(entry: os.DirEntry[str]) -> bool:
    suffix = os.path.splitext(entry.name)[1].lower()  # noqa: PTH122 - a Path for every file of a big folder is slow
    return suffix in SUFFIXES and not entry.name.startswith(".") and entry.is_file()


@lru_cache(maxsize=8)
def digest(pictures: tuple[Picture, ...]) -> str:
    """sha256 over every picture's name, size and content: hex, the same on every machine. Raises BrokenPicture."""
    total = hashlib.sha256()
    for picture in pictures:
        with _decoding(picture), picture.path.open("rb") as file:
            content = hashlib.file_digest(file, "sha256").digest()
        total.update(b"%s\0%d\0%s" % (os.fsencode(picture.name), picture.size, content))
    return total.hexdigest()


def check_picture(picture: Picture) -> None:
    """Raise BrokenPicture when the header is not an image's, or a PNG's checksums are wrong. Decodes no pixel."""
    with _decoding(picture), Image.open(picture.path) as image:
        image.verify()


def load_background(picture: Picture, size: int) -> Image.Image:
    """The centred square of the picture at ``size`` x ``size`` pixels, RGB; what is transparent becomes white.

    Raises BrokenPicture.
    """
    with _decoding(picture), Image.open(picture.path) as image:
        image.draft(image.mode, (2 * size, 2 * size))  # a large JPEG decodes at a fraction of its size
        upright = _eight_bit(ImageOps.exif_transpose(image))
        if upright.has_transparency_data:
            upright = Image.alpha_composite(Image.new("RGBA", upright.size, "white"), upright.convert("RGBA"))
        return ImageOps.fit(upright.convert("RGB"), (size, size), Image.Resampling.LANCZOS)


def load_foreground(picture: Picture, edge: int) -> Image.Image:
    """The whole picture as RGBA, its longer edge at most ``edge`` pixels. Raises BrokenPicture."""
    with _decoding(picture), Image.open(picture.path) as image:
        upright = _eight_bit(ImageOps.exif_transpose(image)).convert("RGBA")
        return fitted(upright, edge) if max(upright.size) > edge else upright


def fitted(image: Image.Image, edge: int) -> Image.Image:
    """The image with its longer edge at exactly ``edge`` pixels and its shape kept; no edge is less than 1 pixel."""
    longer = max(image.size)
    width, height = (max(1, round(side * edge / longer)) for side in image.size)
    # Bicubic and not Lanczos: its kernel leaves no faint second ring of alpha around an object.
    return image.resize((width, height), Image.Resampling.BICUBIC)


def _eight_bit(image: Image.Image) -> Image.Image:
    """Grey values deeper than 8 bits scaled to 0..255; every other mode as it is."""
    if not image.mode.startswith(("I", "F")):
        return image
    deep = image.convert("F")
    low, high = deep.getextrema()
    assert isinstance(low, float)
    assert isinstance(high, float)
    if image.mode.startswith("I;16") or (low >= 0 and 255 < high <= _SIXTEEN_BIT):
        low, high = 0.0, float(_SIXTEEN_BIT)
    elif low >= 0 and high <= 255:
        low, high = 0.0, 255.0
    factor = 255.0 / ((high - low) or 1.0)
    return deep.point(lambda value: value * factor + (0.5 - low * factor)).convert("L")


@contextmanager
def _decoding(picture: Picture) -> Iterator[None]:
    """Turn whatever a decoder raises on bad bytes into BrokenPicture."""
    try:
        with strict:
            yield
    except MemoryError:
        raise
    except Exception as error:  # Pillow's decoders raise nearly anything on bad bytes
        raise broken(picture, _explain(error)) from error


def broken(picture: Picture, why: str) -> BrokenPicture:
    return BrokenPicture(f"{picture.path} cannot be read as an image: {why}", path=str(picture.path), why=why)


def _explain(error: Exception) -> str:
    if isinstance(error, Image.DecompressionBombWarning | Image.DecompressionBombError):
        return "it has more pixels than is safe to decode; make it smaller"
    if isinstance(error, UnidentifiedImageError):
        return "its content is of no known image format"
    return str(error) or type(error).__name__
