"""Where composites are made: pictures stay decoded and scaled, one canvas is painted over and over."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Generic, NamedTuple, Protocol, TypeVar

from PIL import Image

from driveshard.core.errors import BrokenPicture
from driveshard.sources.composite.images import (
    Picture,
    broken,
    fitted,
    load_background,
    load_foreground,
    visible_box,
)
from driveshard.sources.composite.jpeg import JpegEncoder
from driveshard.sources.composite.png import PngEncoder

T = TypeVar("T")

SCALE_STEPS = 9  # even steps, so that a scaled foreground is used again and again: scaling costs as much as encoding

_MIB = 1024 * 1024
_BACKGROUND_BYTES = 4 * _MIB  # samples come background by background: a few are enough
_FOREGROUND_BYTES = 24 * _MIB
_PATCH_BYTES = 64 * _MIB  # 100 square foregrounds at 200 pixels, all steps, take 48 MiB
_FLIPPED_BYTES = 2 * _MIB
_ENCODED_BYTES = _MIB

Box = tuple[int, int, int, int]
"""Left, top, right and bottom edge in pixels."""


class Patch(NamedTuple):
    """A foreground ready to paste: RGB pixels, their alpha (L), and what of that the mask shows (L), of one size.

    ``box`` is around what is to be seen: all that the mask shows when it has a threshold; 0 wide when nothing is."""

    pixels: Image.Image
    alpha: Image.Image
    shape: Image.Image
    box: Box


class Scene(NamedTuple):
    """One composite before it is painted: what lies where, in pixels, and the patch's longer edge as a fraction of the
    image's."""

    background: Picture
    foreground: Picture
    ground: Image.Image
    patch: Patch
    x: int
    y: int
    width: int
    height: int
    scale: float


class Encoder(Protocol):
    """Makes a file of an image."""

    def encode(self, image: Image.Image) -> bytes: ...


class Studio:
    """Makes composites of ``size`` x ``size`` pixels. One thread at a time; memory is bounded by the caches above.

    A ``threshold`` makes masks of two values: 255 where alpha is above it, else 0. ``mask`` is "jpg" or "png"."""

    def __init__(
        self,
        size: int,
        quality: int,
        optimize: bool,
        min_scale: float,
        max_scale: float,
        mask: str = "jpg",
        threshold: int | None = None,
    ) -> None:
        self._size = size
        span = (max_scale - min_scale) / (SCALE_STEPS - 1)
        self._edges = [max(1, round(size * (min_scale + span * step))) for step in range(SCALE_STEPS)]
        self._canvas = Image.new("RGB", (size, size))
        self._mask = Image.new("L", (size, size))
        self._shown = None if threshold is None else [0] * (threshold + 1) + [255] * (255 - threshold)
        self._image_jpeg = JpegEncoder("RGB", self._canvas.size, quality, optimize)
        self._mask_encoder: Encoder = (
            PngEncoder() if mask == "png" else JpegEncoder("L", self._mask.size, quality, optimize)
        )
        self._broken: dict[Picture, str] = {}
        self._backgrounds = _Cache[Image.Image](_BACKGROUND_BYTES, _picture_bytes)
        self._foregrounds = _Cache[Image.Image](_FOREGROUND_BYTES, _picture_bytes)
        self._patches = _Cache[Patch](_PATCH_BYTES, _patch_bytes)
        self._flipped = _Cache[Patch](_FLIPPED_BYTES, _patch_bytes)
        self._encoded = _Cache[bytes](_ENCODED_BYTES, len)

    def arrange(
        self, background: Picture, foreground: Picture, flipped: bool, step: int, x_draw: int, y_draw: int
    ) -> Scene:
        """Lay ``foreground`` on ``background`` at scale ``step``; the draws are large random numbers that decide where.

        Raises BrokenPicture.
        """
        ground = self._backgrounds.get(background, lambda: self._load(load_background, background, self._size))
        patch = self._patch(foreground, flipped, step)
        width, height = patch.alpha.size
        x, y = x_draw % (self._size - width + 1), y_draw % (self._size - height + 1)
        scale = round(self._edges[step] / self._size, 4)
        return Scene(background, foreground, ground, patch, x, y, width, height, scale)

    def image(self, scene: Scene) -> bytes:
        """The composed image as a file."""
        self._canvas.paste(scene.ground)
        self._canvas.paste(scene.patch.pixels, (scene.x, scene.y), scene.patch.alpha)
        return self._image_jpeg.encode(self._canvas)

    def mask(self, scene: Scene) -> bytes:
        """Its mask as a file: 255 where the foreground covers all."""
        self._mask.paste(0, (0, 0, self._size, self._size))
        self._mask.paste(scene.patch.shape, (scene.x, scene.y))
        return self._mask_encoder.encode(self._mask)

    def plain(self, scene: Scene) -> bytes:
        """The background alone as a file: encoded once, for thousands of samples share it."""
        return self._encoded.get(scene.background, lambda: self._image_jpeg.encode(scene.ground))

    def _patch(self, foreground: Picture, flipped: bool, step: int) -> Patch:
        if flipped:
            return self._flipped.get((foreground, step), lambda: _mirrored(self._patch(foreground, False, step)))
        return self._patches.get((foreground, step), lambda: self._cut(foreground, self._edges[step]))

    def _cut(self, foreground: Picture, edge: int) -> Patch:
        # Every step is scaled from a copy no larger than twice the largest, so that a huge picture is kept small.
        largest = 2 * self._edges[-1]
        whole = self._foregrounds.get(foreground, lambda: self._load(load_foreground, foreground, largest))
        scaled = fitted(whole, edge)
        alpha = scaled.getchannel("A")
        shape = alpha if self._shown is None else alpha.point(self._shown)
        box = visible_box(scaled) if self._shown is None else shape.getbbox()
        return Patch(scaled.convert("RGB"), alpha, shape, box or (0, 0, 0, 0))

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
    return patch.alpha.width * patch.alpha.height * (5 if patch.shape is patch.alpha else 6)


def _mirrored(patch: Patch) -> Patch:
    pixels, alpha = _turned(patch.pixels), _turned(patch.alpha)
    shape = alpha if patch.shape is patch.alpha else _turned(patch.shape)
    left, top, right, bottom = patch.box
    width = alpha.width if right else 0  # of nothing the box stays what it is
    return Patch(pixels, alpha, shape, (width - right, top, width - left, bottom))


def _turned(image: Image.Image) -> Image.Image:
    return image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
