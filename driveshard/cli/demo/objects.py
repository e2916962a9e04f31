"""Draws the demo's input: landscapes to put things on, and things with transparent surroundings to put there."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Sequence
from pathlib import Path

from PIL import Image, ImageChops, ImageDraw, ImageFilter, ImageOps

from driveshard.cli.demo.landscapes import Box, Colour, Point, city, desert, meadow, mix, mountains, rgb, sea

_SHAPES = ((400, 300), (420, 280), (360, 360), (300, 400))
_FINER = 2  # backgrounds are drawn this much larger and reduced, for smooth edges
_UNIT = 7  # pixels a unit of the 100 x 100 units that an object is drawn in
_OBJECT_EDGE = 240

_ACCENTS = ("#e4572e", "#2e86ab", "#f2a541", "#5f9e4f", "#a23e8c", "#d7263d", "#1b998b", "#6a4c93")


def draw_backgrounds(folder: Path, count: int, seed: int) -> list[Path]:
    """Write ``count`` landscapes as JPEG files of some 400 x 300 pixels, in several shapes; returns their paths.

    The same count and seed give the same pictures.
    """
    scenes = (mountains, sea, meadow, desert, city)
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for number in range(count):
        rng = random.Random(f"background {seed} {number}")
        width, height = _SHAPES[number % len(_SHAPES)]
        scene = scenes[number % len(scenes)]
        picture = scene(rng, width * _FINER, height * _FINER).reduce(_FINER)
        paths.append(folder / f"{number:03}_{scene.__name__}.jpg")
        picture.save(paths[-1], quality=90)
    return paths


def draw_foregrounds(folder: Path, count: int, seed: int) -> list[Path]:
    """Write ``count`` objects as PNG files with transparency, cut to their outline; returns their paths.

    The same count and seed give the same pictures.
    """
    things = (_balloon, _fish, _mug, _boat, _penguin, _mushroom, _car, _rocket)
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for number in range(count):
        rng = random.Random(f"foreground {seed} {number}")
        pen = _Pen()
        things[number % len(things)](pen, rng)
        paths.append(folder / f"{number:03}_{things[number % len(things)].__name__[1:]}.png")
        pen.finish().save(paths[-1])
    return paths


# Objects


class _Pen:
    """Draws in units: 0,0 is the top left of a square of 100 x 100."""

    def __init__(self) -> None:
        self.image = Image.new("RGBA", (100 * _UNIT, 100 * _UNIT))
        self._draw = ImageDraw.Draw(self.image)

    def oval(self, box: Box, colour: str | Colour) -> None:
        self._draw.ellipse([edge * _UNIT for edge in box], fill=colour)

    def block(self, box: Box, colour: str | Colour, radius: float = 0) -> None:
        self._draw.rounded_rectangle([edge * _UNIT for edge in box], radius * _UNIT, fill=colour)

    def shape(self, points: Sequence[Point], colour: str | Colour) -> None:
        self._draw.polygon([(x * _UNIT, y * _UNIT) for x, y in points], fill=colour)

    def line(self, points: Sequence[Point], colour: str | Colour, width: float) -> None:
        self._draw.line(
            [(x * _UNIT, y * _UNIT) for x, y in points], fill=colour, width=round(width * _UNIT), joint="curve"
        )

    def arc(self, box: Box, start: float, end: float, colour: str | Colour, width: float) -> None:
        self._draw.arc([edge * _UNIT for edge in box], start, end, fill=colour, width=round(width * _UNIT))

    def half(self, box: Box, start: float, end: float, colour: str | Colour) -> None:
        self._draw.pieslice([edge * _UNIT for edge in box], start, end, fill=colour)

    def within(self, outline: Callable[[_Pen], None], pattern: Callable[[_Pen], None]) -> None:
        """Draw ``pattern``, kept inside what ``outline`` draws."""
        stencil, layer = _Pen(), _Pen()
        outline(stencil)
        pattern(layer)
        cut = ImageChops.multiply(stencil.image.getchannel("A"), layer.image.getchannel("A"))
        layer.image.putalpha(cut)
        self._lay(self.image, layer.image)

    def soft(self, draw: Callable[[_Pen], None], colour: str, blur: float, strength: float) -> None:
        """Lay ``colour`` below what is there, where ``draw`` draws; it fades out at the edges."""
        layer = _Pen()
        draw(layer)
        alpha = layer.image.getchannel("A").filter(ImageFilter.GaussianBlur(blur * _UNIT))
        veil = Image.new("RGBA", self.image.size, colour)
        veil.putalpha(alpha.point([int(value * strength) for value in range(256)]))
        self._lay(veil, self.image)

    def _lay(self, below: Image.Image, above: Image.Image) -> None:
        self.image = Image.alpha_composite(below, above)
        self._draw = ImageDraw.Draw(self.image)

    def finish(self) -> Image.Image:
        """Light from the upper left, cut to the outline, reduced to its size."""
        alpha = self.image.getchannel("A")
        ramp = Image.linear_gradient("L").rotate(35, resample=Image.Resampling.BICUBIC).crop((52, 52, 204, 204))
        lit = ImageOps.colorize(ramp.resize(self.image.size), (255, 255, 255), (150, 150, 178), mid=(238, 238, 240))
        shaded = ImageChops.multiply(self.image.convert("RGB"), lit)
        shaded.putalpha(alpha)
        cut = shaded.crop(alpha.getbbox())
        factor = _OBJECT_EDGE / max(cut.size)
        return cut.resize((round(cut.width * factor), round(cut.height * factor)), Image.Resampling.LANCZOS)


def _balloon(pen: _Pen, rng: random.Random) -> None:
    first, second = rng.sample(_ACCENTS, 2)
    for x in (41, 47, 53, 59):
        pen.line([(x, 70), (44 + (x - 41) * 0.66, 88)], "#6d543c", 0.7)
    for half_width, colour in ((34, first), (25, "#fff4dc"), (15, second), (6, "#fff4dc")):
        pen.oval((50 - half_width, 2, 50 + half_width, 70), colour)
        taper = half_width * 0.33
        pen.shape(
            [(50 - half_width * 0.93, 48), (50 + half_width * 0.93, 48), (50 + taper, 76), (50 - taper, 76)], colour
        )
    pen.block((42, 86, 58, 98), "#8a5a34", 2)
    pen.block((41, 85, 59, 88.5), "#b07a48", 1.5)


def _fish(pen: _Pen, rng: random.Random) -> None:
    colour = rng.choice(("#f08a24", "#2e86ab", "#d7466a", "#3fa66b"))
    dark = mix(rgb(colour), (40, 20, 20), 0.25)
    pen.shape([(74, 50), (96, 28), (91, 50), (96, 72)], dark)
    pen.shape([(34, 32), (58, 14), (68, 34)], dark)
    pen.shape([(42, 66), (58, 84), (64, 64)], dark)
    body = (8, 26, 82, 74)
    pen.oval(body, colour)

    def bands(layer: _Pen) -> None:
        for left in (30, 58):
            layer.oval((left, 18, left + 13, 82), "#fff8ec")
        layer.oval((0, 56, 90, 100), "#ffffff30")

    pen.within(lambda outline: outline.oval(body, "black"), bands)
    pen.oval((17, 39, 27, 49), "white")
    pen.oval((19, 41, 25, 47), "#1d1d28")
    pen.oval((20.4, 42, 22.4, 44), "white")
    pen.arc((8, 48, 26, 62), 20, 95, dark, 1.2)
    pen.shape([(48, 50), (64, 58), (50, 64)], dark)


def _mug(pen: _Pen, rng: random.Random) -> None:
    colour = rng.choice(_ACCENTS)
    dark = mix(rgb(colour), (20, 20, 40), 0.3)
    pen.arc((54, 42, 92, 82), 260, 110, dark, 7)
    pen.block((14, 40, 70, 96), colour, 9)
    pen.block((14, 40, 70, 60), colour)
    pen.oval((14, 31, 70, 49), mix(rgb(colour), (255, 255, 255), 0.35))
    pen.oval((18, 33.5, 66, 47), "#4a2c1a")
    pen.oval((22, 36, 54, 44.5), "#6f4527")
    pen.oval((30, 60, 44, 74), "#fff4dc")
    pen.oval((41, 60, 55, 74), "#fff4dc")
    pen.shape([(31.2, 70.4), (53.8, 70.4), (42.5, 85)], "#fff4dc")

    def steam(layer: _Pen) -> None:
        for left in (28, 41, 54):
            curve = [(left + 3.5 * math.sin(step / 2.2 + left), 34 - step * 1.5) for step in range(20)]
            layer.line(curve, "black", 4)

    pen.soft(steam, "white", 1.4, 0.8)


def _boat(pen: _Pen, rng: random.Random) -> None:
    sail, hull = rng.sample(_ACCENTS, 2)
    pen.block((48.6, 4, 51.4, 78), "#6d4a2f", 1)
    pen.shape([(54, 10), (54, 70), (90, 70), (74, 38)], sail)
    pen.shape([(46, 18), (46, 70), (16, 70)], "#fff4dc")
    pen.shape([(51, 4), (64, 7.5), (51, 11)], "#d7263d")
    pen.shape([(6, 76), (96, 76), (82, 96), (20, 96)], hull)
    pen.shape([(6, 76), (96, 76), (93, 80.5), (9.4, 80.5)], "#fff4dc")
    for x in (34, 50, 66):
        pen.oval((x - 3, 84, x + 3, 90), "#24364a")


def _penguin(pen: _Pen, rng: random.Random) -> None:
    scarf = rng.choice(_ACCENTS)
    pen.oval((28, 89, 50, 98), "#f2a541")
    pen.oval((50, 89, 72, 98), "#f2a541")
    pen.shape([(27, 44), (12, 70), (17, 74), (33, 62)], "#1f2a3c")
    pen.shape([(73, 44), (88, 70), (83, 74), (67, 62)], "#1f2a3c")
    pen.oval((22, 28, 78, 95), "#27344a")
    pen.oval((31, 42, 69, 93), "#fbfaf4")
    pen.oval((29, 3, 71, 46), "#27344a")
    pen.oval((33, 14, 52, 42), "#fbfaf4")
    pen.oval((48, 14, 67, 42), "#fbfaf4")
    for x in (40, 55):
        pen.oval((x, 20, x + 5.5, 27), "#1d1d28")
        pen.oval((x + 1.2, 21, x + 3.2, 23.2), "white")
    pen.shape([(43.5, 29), (56.5, 29), (50, 37)], "#f2a541")
    pen.block((28, 41, 72, 49), scarf, 4)
    pen.shape([(57, 46), (67, 46), (69, 66), (60, 67)], mix(rgb(scarf), (20, 20, 40), 0.18))


def _mushroom(pen: _Pen, rng: random.Random) -> None:
    cap = rng.choice(("#d7263d", "#c8553d", "#a23e8c", "#e08a2b"))
    pen.shape([(40, 52), (60, 52), (68, 94), (32, 94)], "#f6ead2")
    pen.oval((31, 86, 69, 99), "#f6ead2")
    pen.oval((34, 52, 66, 62), "#d9c6a3")
    dome = (5, 8, 95, 104)
    pen.half(dome, 180, 360, cap)
    pen.oval((5, 50, 95, 63), mix(rgb(cap), (60, 10, 30), 0.35))
    pen.oval((32, 52, 68, 61), "#e8d8b8")

    def dots(layer: _Pen) -> None:
        for x, y, size in ((30, 24, 8), (54, 17, 6.5), (70, 35, 9), (46, 40, 7.5), (17, 44, 6.5), (88, 50, 5)):
            layer.oval((x - size, y - size * 0.85, x + size, y + size * 0.85), "#fff6e4")

    pen.within(lambda outline: outline.half(dome, 180, 360, "black"), dots)


def _car(pen: _Pen, rng: random.Random) -> None:
    colour = rng.choice(_ACCENTS)
    pen.soft(lambda layer: layer.oval((8, 76, 92, 84), "black"), "#101018", 1.6, 0.55)
    pen.shape([(24, 50), (36, 29), (68, 29), (80, 50)], colour)
    pen.shape([(30, 49), (39, 33.5), (51, 33.5), (51, 49)], "#cfe8f2")
    pen.shape([(54, 33.5), (65.5, 33.5), (74, 49), (54, 49)], "#cfe8f2")
    pen.shape([(41, 33.5), (46, 33.5), (37.5, 49), (32, 49)], "#eef8fb")
    pen.block((5, 47, 95, 74), colour, 8)
    pen.block((5, 62, 95, 74), mix(rgb(colour), (20, 20, 40), 0.25), 5)
    pen.oval((88, 52, 95, 60), "#ffe9a8")
    pen.block((5, 52, 9, 59), "#ff6a55", 1.5)
    pen.block((57, 53.5, 63, 55.5), "#f4f4f0", 1)
    for x in (26, 74):
        pen.oval((x - 11, 62, x + 11, 84), "#1f1f29")
        pen.oval((x - 6, 67, x + 6, 79), "#d6d9de")
        pen.oval((x - 2.2, 70.8, x + 2.2, 75.2), "#70757e")


def _rocket(pen: _Pen, rng: random.Random) -> None:
    colour = rng.choice(_ACCENTS)
    pen.shape([(36, 48), (16, 76), (20, 82), (40, 74)], colour)
    pen.shape([(64, 48), (84, 76), (80, 82), (60, 74)], colour)
    body = (32, 2, 68, 112)
    stencil = [(20, 0), (80, 0), (80, 77), (20, 77)]
    pen.within(lambda outline: outline.oval(body, "black"), lambda layer: layer.shape(stencil, "#f4f2ec"))
    nose = [(20, 0), (80, 0), (80, 24), (20, 24)]
    pen.within(lambda outline: outline.oval(body, "black"), lambda layer: layer.shape(nose, colour))
    pen.block((38, 75, 62, 81), "#4c5362", 2)
    pen.oval((40, 32, 60, 52), "#4c5362")
    pen.oval((43, 35, 57, 49), "#8fd0e8")
    pen.oval((45, 37, 51, 42), "#e4f6fb")
    pen.soft(lambda layer: layer.shape([(43, 78), (57, 78), (50, 98)], "black"), "#ffe27a", 0.8, 1.0)
    pen.soft(lambda layer: layer.shape([(38, 77), (62, 77), (50, 99.5)], "black"), "#ff8a2b", 1.6, 1.0)
