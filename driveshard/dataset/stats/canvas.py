"""Cards, words and small charts on one sheet, drawn twice as large as they are shown, for smooth edges."""

from __future__ import annotations

import io
from collections.abc import Sequence
from functools import lru_cache

from PIL import Image, ImageDraw, ImageFont

PAPER, CARD, RIM = "#f3f4f6", "#ffffff", "#d8dce3"
INK, FAINT, BAR = "#2b3340", "#7a8494", "#7f9cc7"
_FINER = 2
_ROUND = 8

Box = tuple[float, float, float, float]
"""Left, top, right, bottom; in pixels as shown."""


class Canvas:
    """A sheet of so many pixels."""

    def __init__(self, width: int, height: int) -> None:
        self._image = Image.new("RGB", (width * _FINER, height * _FINER), PAPER)
        self._draw = ImageDraw.Draw(self._image)

    def card(self, box: Box) -> None:
        self._draw.rounded_rectangle(_finer(box), _ROUND * _FINER, CARD, RIM, _FINER)

    def words(
        self, x: float, y: float, text: str, size: int = 13, ink: str = INK, *, anchor: str = "ls", width: float = 0
    ) -> None:
        """Text on the line at ``y``, cut at its end where it is wider than ``width``."""
        shown = "".join(mark if mark.isprintable() else "?" for mark in text[:200])
        font = _font(size * _FINER)
        cut = shown
        while width and len(cut) > 1 and self._draw.textlength(cut, font) > width * _FINER:
            cut = cut.removesuffix("…")[:-1] + "…"
        self._draw.text((x * _FINER, y * _FINER), cut, fill=ink, font=font, anchor=anchor)

    def bar(self, box: Box, ink: str = BAR) -> None:
        left, top, right, bottom = _finer(box)
        self._draw.rectangle((left, top, max(left, right - 1), max(top, bottom - 1)), ink)

    def line(self, x: float, y: float, to_x: float, to_y: float, ink: str = RIM) -> None:
        self._draw.line((x * _FINER, y * _FINER, to_x * _FINER, to_y * _FINER), ink, _FINER)

    def hill(self, box: Box, heights: Sequence[float], ink: str, strength: int = 110) -> None:
        """Heights from 0 to 1, side by side, filled so that what lies behind shines through."""
        left, top, right, bottom = _finer(box)
        step = (right - left) / len(heights)
        points = [(left, bottom)]
        for number, height in enumerate(heights):
            y = bottom - height * (bottom - top)
            points += [(left + number * step, y), (left + (number + 1) * step, y)]
        points.append((right, bottom))
        mask = Image.new("L", self._image.size)
        ImageDraw.Draw(mask).polygon(points, fill=strength)
        self._image.paste(ink, (0, 0), mask)
        self._draw.line(points[1:-1], ink, _FINER)

    def encoded(self, format: str) -> bytes:  # noqa: A002
        """As ``JPEG`` or ``PNG``."""
        buffer = io.BytesIO()
        self._image.reduce(_FINER).save(buffer, format, quality=90, optimize=True)
        return buffer.getvalue()


def _finer(box: Box) -> Box:
    left, top, right, bottom = (edge * _FINER for edge in box)
    return left, top, right, bottom


@lru_cache(maxsize=8)
def _font(size: int) -> ImageFont.ImageFont | ImageFont.FreeTypeFont:
    return ImageFont.load_default(size)
