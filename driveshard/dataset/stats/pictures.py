"""Counts the pixels of encoded images, exactly."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from driveshard.core.pixels import is_deep
from driveshard.dataset.stats.tally import BINS, MOST_SIZES, Channel, Pictures, count_value

_STRAIGHT = {"1": "L", "PA": "RGBA", "La": "LA", "RGBa": "RGBA", "RGBX": "RGB"}
_LONG = 65535  # white of a grey picture of more than 8 bits


class PixelCounter:
    """Counts the images of one field. Those of 8 bits are added up as histograms, which cost a tenth of decoding."""

    def __init__(self) -> None:
        self.pictures = Pictures()
        self._levels: dict[str, NDArray[np.int64]] = {}

    def count(self, data: bytes) -> None:
        """One more image. Raises whatever Pillow does for bytes that are none; then nothing was counted."""
        with Image.open(io.BytesIO(data)) as image:
            image.load()
            mode, shown = image.mode, _straight(image)
            if is_deep(shown):
                self._count_deep(shown)
            else:
                levels = np.array(shown.histogram(), np.int64)
                before = self._levels.get(shown.mode)
                self._levels[shown.mode] = levels if before is None else before + levels
        self.pictures.count += 1
        count_value(self.pictures.sizes, f"{image.width}x{image.height}", MOST_SIZES)
        count_value(self.pictures.modes, mode, BINS)

    def counted(self) -> Pictures:
        """All of them so far."""
        for mode, levels in self._levels.items():
            for band, some in zip(_bands(mode), levels.reshape(-1, BINS), strict=True):
                self._channel(band, BINS - 1).add(Channel.of_levels(some.tolist()))
        self._levels = {}
        return self.pictures

    def _channel(self, name: str, white: int) -> Channel:
        return self.pictures.channels.setdefault(name, Channel(white))

    def _count_deep(self, image: Image.Image) -> None:
        values = np.asarray(image).ravel()
        if values.dtype.kind == "f":
            self._channel("F", 1).add(_fractions(values))
        else:
            self._channel("I", _LONG).add(_whole(values))


def _bands(mode: str) -> tuple[str, ...]:
    return Image.new(mode, (1, 1)).getbands()


def _straight(image: Image.Image) -> Image.Image:
    """As channels of their own: a palette's colours instead of its numbers."""
    if image.mode == "P":
        return image.convert("RGBA" if "transparency" in image.info else "RGB")
    return image.convert(_STRAIGHT[image.mode]) if image.mode in _STRAIGHT else image


def _whole(values: NDArray[Any]) -> Channel:
    wide = values.astype(np.int64)
    low, high = int(wide.min()), int(wide.max())
    # A sum of squares of 32-bit values may not fit into 64 bits.
    squares = int(np.dot(wide, wide)) if max(-low, high) <= _LONG else sum(value * value for value in wide.tolist())
    levels = np.bincount(np.clip(wide, 0, _LONG) >> 8, minlength=BINS)
    return Channel(_LONG, len(wide), int(wide.sum()), squares, low, high, levels.tolist())


def _fractions(values: NDArray[Any]) -> Channel:
    wide = values.astype(np.float64)
    if not np.isfinite(wide).all():
        raise ValueError("it holds values that are no numbers")
    levels = np.bincount((np.clip(wide, 0, 1) * (BINS - 1) + 0.5).astype(np.int64), minlength=BINS)
    total, squares = float(wide.sum()), float(np.dot(wide, wide))
    return Channel(1, len(wide), total, squares, float(wide.min()), float(wide.max()), levels.tolist())
