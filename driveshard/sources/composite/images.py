"""The generator's input images: listed, checked, and decoded to 8 bits a channel, upright, in sRGB."""

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
from driveshard.core.pixels import eight_bit, in_srgb, is_special, upright

_NAMES = (
    ".jpg .jpeg .jpe .jfif .mpo .png .apng .webp .bmp .dib .gif .tif .tiff .avif .avifs .jp2 .j2k .j2c .jpc .jpf .jpx"
    " .tga .icb .vda .vst .ppm .pgm .pbm .pnm .pfm .pcx .dcx .sgi .rgb .rgba .bw .qoi .psd .dds .ico .icns .cur .ras"
    " .xbm .xpm .msp .im .fli .flc .blp .ftc .ftu"
)
SUFFIXES = frozenset(_NAMES.split())
"""A file so called is a picture, and broken when it cannot be decoded. Not those for which Pillow runs a program of the
system's (``.eps``, ``.wmf``) or has no decoder."""

_KNOWN_BY_CONTENT = ("JPEG", "MPO", "PNG", "WEBP", "GIF", "TIFF", "BMP", "AVIF", "JPEG2000", "PPM", "QOI", "PSD", "DDS")
_LITTER = frozenset({".ds_store", "thumbs.db", "desktop.ini"})
_VISIBLE = 8  # of 255; less alpha than this nobody sees


@dataclass(frozen=True, slots=True)
class Picture:
    """An image file as it was when its folder was listed; a changed file is another value, so no cache goes stale.

    ``name`` is its path below the folder, with ``/`` between the steps."""

    path: Path
    size: int
    mtime_ns: int
    name: str


@dataclass(frozen=True, slots=True)
class Listing:
    """A folder's pictures, sorted by the bytes of their names, and the names of what is left out."""

    pictures: tuple[Picture, ...]
    skipped: tuple[str, ...]


def list_pictures(folder: Path, role: str, apart: Path | None = None) -> tuple[Picture, ...]:
    """The pictures of ``look_through``, which raises SourceMissing."""
    return look_through(folder, role, apart).pictures


def look_through(folder: Path, role: str, apart: Path | None = None) -> Listing:
    """Everything below ``folder`` that is an image: by its suffix, or, with another or none, by its content.

    Hidden files and folders, links to folders and files that are no images are ``skipped``; what systems leave about
    (``._x.jpg``, ``.DS_Store``) is not even that. The folder ``apart``, the other role's, is not looked into. Raises
    SourceMissing when there is no such directory, it cannot be read, or it holds no image; ``role`` names it in the
    message.
    """
    pictures: list[Picture] = []
    skipped: list[str] = []
    elsewhere = None if apart is None or not apart.is_dir() else apart.resolve()
    try:
        for name, entry in _walk(folder, "", elsewhere, skipped):
            status = entry.stat()
            picture = Picture(Path(entry.path), status.st_size, status.st_mtime_ns, name)
            if os.path.splitext(name)[1].lower() in SUFFIXES or _opens(picture):  # noqa: PTH122 - quicker than Path
                pictures.append(picture)
            else:
                skipped.append(name)
    except FileNotFoundError as error:
        raise SourceMissing(f"The folder of {role} is not there: {error.filename or folder}") from error
    except NotADirectoryError as error:
        raise SourceMissing(f"The {role} must be a folder of images, and this is a file: {folder}") from error
    except OSError as error:
        where = error.filename or folder
        raise SourceMissing(f"The folder of {role} cannot be read: {where} ({error.strerror})") from error
    if not pictures:
        raise SourceMissing(
            f"The folder of {role} holds no image: {folder}",
            advice="JPEG, PNG, WebP, AVIF, TIFF, BMP, GIF, JPEG 2000, TGA, PPM and what else Pillow reads are images.",
        )
    pictures.sort(key=lambda picture: os.fsencode(picture.name))
    return Listing(tuple(pictures), tuple(sorted(skipped)))


def _walk(
    folder: Path | str, prefix: str, apart: Path | None, skipped: list[str]
) -> Iterator[tuple[str, os.DirEntry[str]]]:
    """(name, entry) of every file, at any depth, that is not hidden."""
    with os.scandir(folder) as entries:
        for entry in entries:
            name = prefix + entry.name
            if entry.name.startswith("._") or entry.name.lower() in _LITTER:
                continue
            if entry.name.startswith("."):
                skipped.append(name)
            elif entry.is_dir(follow_symlinks=False):
                if apart is None or Path(entry.path).resolve() != apart:
                    yield from _walk(entry.path, f"{name}/", apart, skipped)
            elif entry.is_file():
                yield name, entry
            else:
                skipped.append(name)


@lru_cache(maxsize=1 << 16)
def _opens(picture: Picture) -> bool:
    """Whether the content is that of an image, for a file whose name does not say so."""
    Image.init()
    try:
        with strict, Image.open(picture.path, formats=[one for one in _KNOWN_BY_CONTENT if one in Image.OPEN]):
            return True
    except MemoryError:
        raise
    except Image.DecompressionBombWarning:
        return True  # and is refused by name
    except Exception:  # Pillow's decoders raise nearly anything on what is none of theirs
        return False


@lru_cache(maxsize=8)
def digest(pictures: tuple[Picture, ...]) -> str:
    """sha256 over every picture's name, size and content: hex, the same on every machine."""
    total = hashlib.sha256()
    for picture in pictures:
        total.update(b"%s\0%d\0%s" % (os.fsencode(picture.name), picture.size, _content(picture)))
    return total.hexdigest()


def _content(picture: Picture) -> bytes:
    try:
        with picture.path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").digest()
    except OSError:
        return b"unreadable"


@lru_cache(maxsize=8)
def find_broken(pictures: tuple[Picture, ...]) -> tuple[BrokenPicture, ...]:
    """Those whose header is not an image's, or that are PNGs with wrong checksums. Decodes no pixel."""
    found = []
    for picture in pictures:
        try:
            check_picture(picture)
        except BrokenPicture as error:
            found.append(error)
    return tuple(found)


def check_picture(picture: Picture) -> None:
    """Raise BrokenPicture when the header is not an image's, or a PNG's checksums are wrong. Decodes no pixel."""
    with _decoding(picture), Image.open(picture.path) as image:
        image.verify()


@lru_cache(maxsize=8)
def any_special(pictures: tuple[Picture, ...]) -> bool:
    """Whether the levels or colours of any of them are put right, which was not done once. Reads headers, and pixels
    of deep grey."""
    return any(map(_is_special, pictures))


def _is_special(picture: Picture) -> bool:
    try:
        with _decoding(picture), Image.open(picture.path) as image:
            return is_special(image)
    except BrokenPicture:
        return False


def load_background(picture: Picture, size: int) -> Image.Image:
    """The centred square of the picture at ``size`` x ``size`` pixels, RGB; what is transparent becomes white.

    Raises BrokenPicture.
    """
    with _decoding(picture), Image.open(picture.path) as image:
        image.draft(image.mode, (2 * size, 2 * size))  # a large JPEG decodes at a fraction of its size
        made = in_srgb(eight_bit(upright(image)))
        if made.has_transparency_data:
            made = Image.alpha_composite(Image.new("RGBA", made.size, "white"), made.convert("RGBA"))
        return ImageOps.fit(made.convert("RGB"), (size, size), Image.Resampling.LANCZOS)


def load_foreground(picture: Picture, edge: int) -> Image.Image:
    """The whole picture as RGBA, its longer edge at most ``edge`` pixels. Raises BrokenPicture, also when there is
    nothing to be seen on it."""
    with _decoding(picture), Image.open(picture.path) as image:
        whole = in_srgb(eight_bit(upright(image))).convert("RGBA")
        made = fitted(whole, edge) if max(whole.size) > edge else whole
    if visible_box(made) is None:
        raise broken(picture, "it has no visible pixel; all of it is transparent")
    return made


def visible_box(image: Image.Image) -> tuple[int, int, int, int] | None:
    """The smallest box around what is to be seen of an RGBA image, in pixels; None when nothing is."""
    return image.getchannel("A").point([0] * _VISIBLE + [255] * (256 - _VISIBLE)).getbbox()


def fitted(image: Image.Image, edge: int) -> Image.Image:
    """The image with its longer edge at exactly ``edge`` pixels and its shape kept; no edge is less than 1 pixel."""
    longer = max(image.size)
    width, height = (max(1, round(side * edge / longer)) for side in image.size)
    # Bicubic and not Lanczos: its kernel leaves no faint second ring of alpha around an object.
    return image.resize((width, height), Image.Resampling.BICUBIC)


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
