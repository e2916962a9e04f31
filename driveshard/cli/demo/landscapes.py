"""Five kinds of landscape, drawn with gradients, skylines and a little noise. For drawing.py."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from itertools import pairwise

from PIL import Image, ImageChops, ImageColor, ImageDraw, ImageFilter, ImageOps

Colour = tuple[int, int, int]
Point = tuple[float, float]
Box = tuple[float, float, float, float]

_SKIES = (
    ("#2b3a67", "#c8553d", "#ffd9a0"),
    ("#1f6fb2", "#7cc0ea", "#eaf6fb"),
    ("#3c2a5e", "#b04a7a", "#ffc27a"),
    ("#0f2f4f", "#3f8fa8", "#f3e3b3"),
    ("#4a7fb5", "#a9cbe0", "#fdf1dc"),
)
_GROUNDS = ("#274b3f", "#3d5a2b", "#5a3d4f", "#23404f", "#6b4a2b", "#37506b")


def mountains(rng: random.Random, width: int, height: int) -> Image.Image:
    """Ridges below a sun."""
    sky = rng.choice(_SKIES)
    picture = _sky(sky, width, height)
    _sun(picture, rng, height * 0.45)
    near = rgb(rng.choice(_GROUNDS))
    for layer in range(5):
        share = layer / 4
        ridge = _ridge(rng, width, height * (0.45 + 0.13 * layer), height * (0.30 - 0.05 * layer), 0.52)
        _fill_below(picture, ridge, mix(rgb(sky[2]), near, 0.25 + 0.75 * share), fade=0.25)
    return _grain(picture)


def sea(rng: random.Random, width: int, height: int) -> Image.Image:
    """Water with glints, the sun above its horizon."""
    sky = rng.choice(_SKIES)
    picture = _sky(sky, width, height)
    horizon = int(height * rng.uniform(0.45, 0.58))
    centre = _sun(picture, rng, horizon - height * 0.12)
    _fill_below(picture, _ridge(rng, width, horizon, height * 0.08, 0.5), mix(rgb(sky[0]), rgb(sky[2]), 0.45))
    water = _gradient((mix(rgb(sky[2]), rgb(sky[1]), 0.55), rgb(sky[1]), rgb(sky[0])), width, height - horizon)
    picture.paste(water, (0, horizon))
    glints = ImageDraw.Draw(picture, "RGBA")
    for _ in range(420):
        depth = rng.random() ** 1.6
        y = horizon + depth * (height - horizon)
        spread = width * (0.04 + 0.30 * depth)
        x = rng.gauss(centre, spread) if rng.random() < 0.6 else rng.uniform(0, width)
        half = 4 + 30 * depth * rng.random()
        light = (255, 244, 214, int(40 + 110 * rng.random()))
        glints.ellipse((x - half, y, x + half, y + 1.5 + 3 * depth), fill=light)
    return _grain(picture)


def meadow(rng: random.Random, width: int, height: int) -> Image.Image:
    """Green hills with trees and flowers."""
    sky = _SKIES[rng.choice((1, 4))]
    picture = _sky(sky, width, height)
    _clouds(picture, rng)
    greens = ("#9fc28a", "#7fae62", "#5d9448", "#3f7a38")
    for layer, green in enumerate(greens):
        ridge = _ridge(rng, width, height * (0.56 + 0.12 * layer), height * 0.10, 0.36)
        _fill_below(picture, ridge, rgb(green), fade=0.18)
        if layer in (1, 2):
            for _ in range(rng.randint(3, 6)):
                _tree(picture, ridge[rng.randrange(8, len(ridge) - 8)], height * (0.05 + 0.035 * layer), rng)
    petals = ImageDraw.Draw(picture)
    for _ in range(170):
        y = height * (0.93 + 0.07 * rng.random())
        size = 2 + 4 * (y / height - 0.92) * 12
        x, colour = rng.uniform(0, width), rng.choice(("#fff6d8", "#f7c548", "#e86a92", "#ffffff"))
        petals.ellipse((x, y, x + size, y + size), fill=colour)
    return _grain(picture)


def desert(rng: random.Random, width: int, height: int) -> Image.Image:
    """Dunes below a sun."""
    sky = _SKIES[rng.choice((0, 2, 4))]
    picture = _sky(sky, width, height)
    _sun(picture, rng, height * 0.3)
    sands = ("#d9a878", "#cf9460", "#c07f4c", "#a8683c")
    for layer, sand in enumerate(sands):
        wave = _dune(rng, width, height * (0.52 + 0.13 * layer), height * (0.05 + 0.02 * layer))
        _fill_below(picture, wave, mix(rgb(sky[2]), rgb(sand), 0.45 + 0.18 * layer), fade=0.3)
    return _grain(picture)


def city(rng: random.Random, width: int, height: int) -> Image.Image:
    """A skyline at night, its nearer rows with windows."""
    picture = _gradient(tuple(map(rgb, ("#0d1533", "#34306b", "#d0698a"))), width, height)
    draw = ImageDraw.Draw(picture, "RGBA")
    for _ in range(110):
        x, y, glow = rng.uniform(0, width), rng.uniform(0, height * 0.5), rng.randint(60, 200)
        draw.ellipse((x, y, x + 2.4, y + 2.4), fill=(255, 255, 240, glow))
    for layer in range(3):
        wall = mix(rgb("#8a5a8c"), rgb("#12122a"), 0.35 + 0.3 * layer)
        x = -rng.uniform(0, 40)
        while x < width:
            wide = rng.uniform(0.07, 0.14) * width
            top = height * (rng.uniform(0.30, 0.62) + 0.12 * layer)
            draw.rectangle((x, top, x + wide, height), fill=wall)
            if layer:
                _windows(draw, rng, (x, top, x + wide, height))
            x += wide + rng.uniform(0, 0.02) * width
    return _grain(picture)


def _windows(draw: ImageDraw.ImageDraw, rng: random.Random, house: Box) -> None:
    left, top, right, bottom = house
    step = 15
    for row in range(int((bottom - top) / step) - 1):
        for column in range(int((right - left) / step) - 1):
            if rng.random() < 0.36:
                x, y = left + step * (column + 0.8), top + step * (row + 0.9)
                draw.rectangle((x, y, x + 6, y + 8), fill=(255, rng.randint(196, 232), 130, rng.randint(150, 255)))


def _sky(colours: Sequence[str], width: int, height: int) -> Image.Image:
    return _gradient(tuple(map(rgb, colours)), width, height)


def _gradient(colours: Sequence[Colour], width: int, height: int) -> Image.Image:
    ramp = Image.linear_gradient("L").resize((width, height))
    return ImageOps.colorize(ramp, colours[0], colours[2], mid=colours[1])


def _sun(picture: Image.Image, rng: random.Random, lowest: float) -> float:
    """A soft disc somewhere above ``lowest``; returns its x."""
    width, height = picture.size
    x, y = rng.uniform(0.2, 0.8) * width, rng.uniform(0.35, 1.0) * lowest
    radius = min(width, height) * rng.uniform(0.05, 0.08)
    for reach, strength in ((4.5, 70), (2.2, 90), (1.0, 235)):
        glow = Image.new("L", (width // 4, height // 4))
        ring = (x - radius * reach, y - radius * reach, x + radius * reach, y + radius * reach)
        ImageDraw.Draw(glow).ellipse(tuple(edge / 4 for edge in ring), fill=strength)
        glow = glow.filter(ImageFilter.GaussianBlur(radius * (reach - 0.9) / 9)).resize((width, height))
        picture.paste(Image.new("RGB", picture.size, "#fff3d6"), (0, 0), glow)
    return x


def _clouds(picture: Image.Image, rng: random.Random) -> None:
    width, height = picture.size
    veil = Image.new("L", (width // 2, height // 2))
    draw = ImageDraw.Draw(veil)
    for _ in range(4):
        x, y = rng.uniform(0, width / 2), rng.uniform(0.06, 0.36) * height / 2
        for _ in range(11):
            dx, dy, size = rng.gauss(0, 28), rng.uniform(-7, 5), rng.uniform(8, 20)
            draw.ellipse((x + dx - size, y + dy - size * 0.7, x + dx + size, y + dy + size * 0.7), fill=210)
    soft = veil.filter(ImageFilter.GaussianBlur(5)).resize(picture.size)
    picture.paste(Image.new("RGB", picture.size, "white"), (0, 0), soft)


def _ridge(rng: random.Random, width: int, level: float, height: float, rough: float) -> list[Point]:
    """A skyline by halving: each new point lies between two, moved by ever less."""
    line = [rng.uniform(-1, 1), rng.uniform(-1, 1)]
    reach = 1.0
    while len(line) < 200:
        middles = [(a + b) / 2 + rng.uniform(-reach, reach) for a, b in pairwise(line)]
        line = [value for pair in zip(line, middles, strict=False) for value in pair] + line[-1:]
        reach *= rough
    return [(width * i / (len(line) - 1), level + height * value * 0.6) for i, value in enumerate(line)]


def _dune(rng: random.Random, width: int, level: float, height: float) -> list[Point]:
    waves = [(rng.uniform(0.6, 2.2), rng.uniform(0, 6.28), rng.uniform(0.4, 1.0)) for _ in range(3)]
    return [
        (width * i / 120, level + height * sum(a * math.sin(f * i / 120 * 6.28 + p) for f, p, a in waves) / 1.5)
        for i in range(121)
    ]


def _fill_below(picture: Image.Image, line: list[Point], colour: Colour, fade: float = 0.0) -> None:
    """Fill under a skyline; ``fade`` lets the colour grow darker, by this share, to the picture's bottom."""
    width, height = picture.size
    stencil = Image.new("L", picture.size)
    ImageDraw.Draw(stencil).polygon([(0, height), *line, (width, height)], fill=255)
    light, dark = mix(colour, (255, 244, 226), fade * 0.5), mix(colour, (12, 16, 30), fade)
    picture.paste(_gradient((light, colour, dark), width, height), (0, 0), stencil)


def _tree(picture: Image.Image, foot: Point, tall: float, rng: random.Random) -> None:
    draw = ImageDraw.Draw(picture)
    x, y = foot
    draw.rectangle((x - tall * 0.05, y - tall * 0.4, x + tall * 0.05, y + 3), fill="#5b4030")
    green = mix(rgb("#2f6b3c"), rgb("#6fa044"), rng.random())
    for dx, dy, size in ((0, -0.85, 0.34), (-0.2, -0.6, 0.28), (0.2, -0.6, 0.28)):
        cx, cy, radius = x + dx * tall, y + dy * tall, size * tall
        draw.ellipse((cx - radius, cy - radius, cx + radius, cy + radius), fill=green)
    draw.ellipse(
        (x - tall * 0.2, y - tall * 1.1, x + tall * 0.1, y - tall * 0.8), fill=mix(green, (255, 255, 210), 0.2)
    )


def _grain(picture: Image.Image) -> Image.Image:
    """A little tooth, so that flat areas look painted. The noise is a fixed tile: Pillow's own is never the same."""
    rng = random.Random(11)
    tile = Image.frombytes("L", (128, 128), bytes(rng.randrange(120, 137) for _ in range(128 * 128)))
    width, height = picture.size
    cover = Image.new("L", picture.size)
    for x in range(0, width, 128):
        for y in range(0, height, 128):
            cover.paste(tile, (x, y))
    return ImageChops.add(picture, Image.merge("RGB", (cover, cover, cover)), 1, -128)


def rgb(colour: str) -> Colour:
    red, green, blue = ImageColor.getrgb(colour)[:3]
    return red, green, blue


def mix(first: Colour, second: Colour, share: float) -> Colour:
    """``first`` at share 0, ``second`` at share 1."""
    red, green, blue = (round(a + (b - a) * share) for a, b in zip(first, second, strict=True))
    return red, green, blue
