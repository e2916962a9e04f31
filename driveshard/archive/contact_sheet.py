"""A picture of many small pictures: what a dataset looks like at a glance."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

from PIL import Image, ImageDraw, ImageFont

from driveshard.archive.zip_reader import whole_members
from driveshard.core.decoding import strict
from driveshard.core.model import sample_key
from driveshard.core.pixels import eight_bit, in_srgb, upright

MOST_TILES = 240
MOST_COLUMNS = 24
MOST_BESIDE = 6  # images of a sample beside its first one and its mask

_PAPER = "#f3f4f6"
_CARD = "#ffffff"
_RIM = "#d8dce3"
_INK = "#3d4655"
_PALE = "#6b7484"
_GAP = 14
_PAD = 6
_ROUND = 6
_FINER = 4  # cards and their corners are drawn this much larger, since Pillow's drawing has no smooth edges
_CAPTION = 11  # size of the caption's letters in pixels
_NAME = 16  # pixels that the line of names takes


@dataclass(frozen=True, slots=True)
class Tile:
    """One sample: its caption, its encoded image, its encoded mask if it has one, and what other images it has.
    ``names`` are what each of ``pictures`` is called; without them nothing is written below them."""

    label: str
    image: bytes
    mask: bytes | None = None
    others: tuple[bytes, ...] = ()
    names: tuple[str, ...] = ()

    @property
    def pictures(self) -> tuple[bytes | None, ...]:
        """All of them, in the order in which they are shown."""
        return (self.image, self.mask, *self.others)


def contact_sheet(tiles: Sequence[Tile], *, columns: int = 6, tile: int = 160, format: str = "JPEG") -> bytes:  # noqa: A002
    """The samples as cards on one sheet, encoded as ``format`` (``JPEG`` or ``PNG``).

    Each image is shown whole, in a square of ``tile`` pixels, with its mask and its other images beside it when any
    sample has such, and each one's name below it. What cannot be decoded is left out; at most MOST_TILES samples are
    shown. No sample gives a sheet that says so. The same tiles give the same bytes.
    """
    shown = [decoded for one in tiles[:MOST_TILES] if (decoded := _decode(one, tile)) is not None]
    masks = any(one.pictures[1] is not None for one in shown)
    if not masks:
        shown = [one.without_mask() for one in shown]
    beside = max((len(one.pictures) for one in shown), default=1)
    # One image alone needs no name.
    names = _NAME if beside > 1 and any(one.names for one in shown) else 0
    card = Image.new("RGB", (beside * (tile + _PAD) + _PAD, tile + names + 2 * _PAD + _CAPTION + 8), _PAPER)
    across = max(1, min(columns, MOST_COLUMNS, len(shown)))
    down = max(1, -(-len(shown) // across))
    sheet = Image.new("RGB", (across * (card.width + _GAP) + _GAP, down * (card.height + _GAP) + _GAP), _PAPER)
    _draw_card(card)
    for number, one in enumerate(shown):
        row, column = divmod(number, across)
        corner = (_GAP + column * (card.width + _GAP), _GAP + row * (card.height + _GAP))
        sheet.paste(_filled(card, one, tile, named=names > 0), corner)
    if not shown:
        ImageDraw.Draw(sheet).text((_GAP + _PAD, _GAP + _PAD), "no images", fill=_INK, font=_font())
    return _encode(sheet, format)


@dataclass(frozen=True, slots=True)
class _Decoded:
    """A tile with its pictures at their size on the sheet."""

    label: str
    pictures: list[Image.Image | None]
    names: tuple[str, ...]

    def without_mask(self) -> _Decoded:
        return _Decoded(self.label, [self.pictures[0], *self.pictures[2:]], self.names[:1] + self.names[2:])


def _decode(tile: Tile, edge: int) -> _Decoded | None:
    """None when its image cannot be decoded."""
    image = _open(tile.image, edge)
    if image is None:
        return None
    pictures = [image, *(None if one is None else _open(one, edge) for one in tile.pictures[1:])]
    return _Decoded(tile.label, pictures, tile.names)


def _open(data: bytes, edge: int) -> Image.Image | None:
    try:
        with strict, Image.open(io.BytesIO(data)) as image:
            image.draft(image.mode, (edge, edge))
            whole = in_srgb(eight_bit(upright(image))).convert("RGBA")
            factor = edge / max(whole.size)
            shown = (max(1, round(whole.width * factor)), max(1, round(whole.height * factor)))
            return whole.resize(shown, Image.Resampling.LANCZOS)
    except MemoryError:
        raise
    except Exception:  # Pillow's decoders raise nearly anything on bad bytes; a preview shows what it can
        return None


def _draw_card(card: Image.Image) -> None:
    """A white card with round corners and a thin rim."""
    large = Image.new("L", (card.width * _FINER, card.height * _FINER))
    box = (0, 0, large.width - 1, large.height - 1)
    ImageDraw.Draw(large).rounded_rectangle(box, _ROUND * _FINER, fill=255)
    card.paste(_RIM, (0, 0), large.reduce(_FINER))
    inner = (_FINER, _FINER, large.width - 1 - _FINER, large.height - 1 - _FINER)
    ImageDraw.Draw(large).rectangle(box, fill=0)
    ImageDraw.Draw(large).rounded_rectangle(inner, (_ROUND - 1) * _FINER, fill=255)
    card.paste(_CARD, (0, 0), large.reduce(_FINER))


def _filled(card: Image.Image, decoded: _Decoded, tile: int, *, named: bool) -> Image.Image:
    filled = card.copy()
    draw = ImageDraw.Draw(filled)
    for place, picture in enumerate(decoded.pictures):
        left = _PAD + place * (tile + _PAD)
        if picture is not None:
            corner = (left + (tile - picture.width) // 2, _PAD + (tile - picture.height) // 2)
            filled.paste(picture, corner, picture)
        if named and picture is not None and place < len(decoded.names):
            name = _shortened(decoded.names[place], tile, draw)
            draw.text((left + tile / 2, _PAD + tile + _NAME / 2), name, fill=_PALE, font=_font(), anchor="mm")
    caption = _shortened(decoded.label, filled.width - 2 * _PAD, draw)
    draw.text((filled.width / 2, filled.height - _PAD - 5), caption, fill=_INK, font=_font(), anchor="mm")
    return filled


def _shortened(label: str, width: int, draw: ImageDraw.ImageDraw) -> str:
    """The caption, cut at its front, where keys are all alike, until it fits."""
    text = "".join(mark if mark.isprintable() else "?" for mark in label[-200:])
    cut = text
    while len(cut) > 1 and draw.textlength(cut, _font()) > width:
        cut = "…" + cut.removeprefix("…")[1:]
    return cut


@lru_cache(maxsize=1)
def _font() -> ImageFont.ImageFont | ImageFont.FreeTypeFont:
    return ImageFont.load_default(_CAPTION)


def _encode(sheet: Image.Image, format: str) -> bytes:  # noqa: A002
    buffer = io.BytesIO()
    if format.upper() in ("JPEG", "JPG"):
        sheet.save(buffer, "JPEG", quality=88, optimize=True)
    else:
        sheet.save(buffer, format)
    return buffer.getvalue()


IMAGES = (".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff", ".avif")
"""What the name of a member that is an image ends in."""


def tiles_of(data: bytes, deleted: frozenset[bytes] = frozenset()) -> list[Tile]:
    """The image samples that lie whole in some bytes of a part; members of the paths ``deleted`` are not looked at."""
    samples: dict[str, dict[str, bytes]] = {}
    for path, content in whole_members(data):
        name = path.decode("utf-8", "replace")
        if name.lower().endswith(IMAGES) and path not in deleted:
            key = sample_key(name)
            samples.setdefault(key, {}).setdefault(name[len(key) :].lower(), content)
    return [tile for key, pictures in samples.items() if (tile := _tile(key, pictures)) is not None]


def _tile(key: str, pictures: Mapping[str, bytes]) -> Tile | None:
    """``pictures`` by what follows the key in their names, the one that is called an image first. A sample of masks
    alone is none."""
    masks = [field for field in pictures if "mask" in field]
    images = [field for field in sorted(pictures, key=lambda one: "image" not in one) if "mask" not in field]
    if not images:
        return None
    others = (*images[1:], *masks[1:])[:MOST_BESIDE]
    names = tuple(field.removeprefix(".") for field in (images[0], masks[0] if masks else "", *others))
    mask = pictures[masks[0]] if masks else None
    return Tile(key, pictures[images[0]], mask, tuple(pictures[field] for field in others), names)
