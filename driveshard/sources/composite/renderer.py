"""Where composites are made: pictures stay decoded and scaled, one canvas is painted over and over."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Generic, NamedTuple, TypeVar

from PIL import Image

from driveshard.core.errors import BrokenPicture
from driveshard.sources.composite.images import Picture, broken, fitted, load_background, load_foreground
from driveshard.sources.composite.jpeg import JpegEncoder

T = TypeVar("T")

SCALE_STEPS = 9  # even steps, so that a scaled foreground is used again and again: scaling costs as much as encoding

_MIB = 1024 * 1024
_BACKGROUND_BYTES = 4 * _MIB  # samples come background by background: a few are enough
_FOREGROUND_BYTES = 24 * _MIB
_PATCH_BYTES = 64 * _MIB  # 100 square foregrounds at 200 pixels, all steps, take 48 MiB
_FLIPPED_BYTES = 2 * _MIB


class Shot(NamedTuple):
    """One composite: both JPEGs, the patch's box in pixels, and its longer edge as a fraction of the image's."""

    image: bytes
    mask: bytes
    x: int
    y: int
    width: int
    height: int
    scale: float


class Patch(NamedTuple):
    """A foreground ready to paste: RGB pixels and their alpha (L), of one size."""

    pixels: Image.Image
    alpha: Image.Image


class Studio:
    """Makes composites of ``size`` x ``size`` pixels. One thread at a time; memory is bounded by the caches above."""

    def __init__(self, size: int, quality: int, optimize: bool, min_scale: float, max_scale: float) -> None:
        self._size = size
        span = (max_scale - min_scale) / (SCALE_STEPS - 1)
        self._edges = [max(1, round(size * (min_scale + span * step))) for step in range(SCALE_STEPS)]
        self._canvas = Image.new("RGB", (size, size))
        self._mask = Image.new("L", (size, size))
        self._image_jpeg = JpegEncoder("RGB", self._canvas.size, quality, optimize)
        self._mask_jpeg = JpegEncoder("L", self._mask.size, quality, optimize)
        self._broken: dict[Picture, str] = {}
        self._backgrounds = _Cache[Image.Image](_BACKGROUND_BYTES, _picture_bytes)
        self._foregrounds = _Cache[Image.Image](_FOREGROUND_BYTES, _picture_bytes)
        self._patches = _Cache[Patch](_PATCH_BYTES, _patch_bytes)
        self._flipped = _Cache[Patch](_FLIPPED_BYTES, _patch_bytes)

    def shoot(
        self, background: Picture, foreground: Picture, flipped: bool, step: int, x_draw: int, y_draw: int
    ) -> Shot:
        """Paste ``foreground`` at scale ``step``; the draws are large random numbers that decide where.

        Raises BrokenPicture.
        """
        ground = self._backgrounds.get(background, lambda: self._load(load_background, background, self._size))
        patch = self._patch(foreground, flipped, step)
        width, height = patch.alpha.size
        x, y = x_draw % (self._size - width + 1), y_draw % (self._size - height + 1)
        self._canvas.paste(ground)
        self._canvas.paste(patch.pixels, (x, y), patch.alpha)
        self._mask.paste(0, (0, 0, self._size, self._size))
        self._mask.paste(patch.alpha, (x, y))
        scale = round(self._edges[step] / self._size, 4)
        image, mask = self._image_jpeg.encode(self._canvas), self._mask_jpeg.encode(self._mask)
        return Shot(image, mask, x, y, width, height, scale)

    def _patch(self, foreground: Picture, flipped: bool, step: int) -> Patch:
        if flipped:
            return self._flipped.get(
                (foreground, step), lambda: Patch(*map(_mirrored, self._patch(foreground, False, step)))
            )
        return self._patches.get((foreground, step), lambda: self._cut(foreground, self._edges[step]))

    def _cut(self, foreground: Picture, edge: int) -> Patch:
        # Every step is scaled from a copy no larger than twice the largest, so that a huge picture is kept small.
        largest = 2 * self._edges[-1]
        whole = self._foregrounds.get(foreground, lambda: self._load(load_foreground, foreground, largest))
        scaled = fitted(whole, edge)
        return Patch(scaled.convert("RGB"), scaled.getchannel("A"))

    def _load(self, load: Callable[[Picture, int], Image.Image], picture: Picture, edge: int) -> Image.Image:
        """Decode once; a picture that failed fails again without another try, for it has thousands of samples."""
        if picture in self._broken:
            raise broken(picture, self._broken[picture])
        try:
            return load(picture, edge)
        except BrokenPicture as error:
            self._broken[picture] = error.why
            raise


class _Cache(Generic[T]):
    """The last used values of up to ``limit`` bytes in all, and always at least one."""

    def __init__(self, limit: int, weigh: Callable[[T], int]) -> None:
        self._limit = limit
        self._weigh = weigh
        self._held: OrderedDict[Hashable, T] = OrderedDict()
        self._bytes = 0

    def get(self, key: Hashable, make: Callable[[], T]) -> T:
        """What is held under ``key``, else what ``make`` makes; the longest unused go when it is too much."""
        found = self._held.get(key)
        if found is not None:
            self._held.move_to_end(key)
            return found
        made = self._held[key] = make()
        self._bytes += self._weigh(made)
        while self._bytes > self._limit and len(self._held) > 1:
            self._bytes -= self._weigh(self._held.popitem(last=False)[1])
        return made


def _picture_bytes(image: Image.Image) -> int:
    return image.width * image.height * 4  # Pillow keeps RGB in four bytes a pixel, too


def _patch_bytes(patch: Patch) -> int:
    return patch.alpha.width * patch.alpha.height * 5


def _mirrored(image: Image.Image) -> Image.Image:
    return image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
