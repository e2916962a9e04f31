"""The image generator: every background x foreground x (flipped, plain) x N seeded placements, with mask and label."""

from __future__ import annotations

import json
import struct
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields
from hashlib import blake2b
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

from driveshard.core.errors import BrokenPicture, ConfigError, SourceMissing
from driveshard.core.model import Failure, SampleRange, Selection
from driveshard.sources.base import MemberWriter, Packed
from driveshard.sources.composite.images import (
    Picture,
    any_special,
    digest,
    find_broken,
    list_pictures,
    look_through,
)
from driveshard.sources.composite.remarks import listed, none_is_good, remarks
from driveshard.sources.composite.renderer import SCALE_STEPS, Studio

_GENERATOR = 1  # raised whenever the same settings would give other bytes
_SPECIAL_GENERATOR = 2  # the same for images whose levels or colours are put right (ICC profiles, deep grey)
_FOLDERS = ("backgrounds", "foregrounds")
_THREE_DRAWS = struct.Struct("<QQQ")
_LABEL = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"), sort_keys=True)
_BOUNDS: Mapping[str, tuple[int, int]] = {
    "size": (8, 8192),
    "placements": (1, 1_000_000),
    "quality": (1, 100),
    "seed": (0, 2**63 - 1),
}


class Place(NamedTuple):
    """Which sample an index is: positions in the sorted folders, flipped or not, and the placement's number."""

    background: int
    foreground: int
    flipped: bool
    placement: int


@dataclass(frozen=True)
class CompositeSource:
    """Foregrounds pasted on backgrounds. Sample ``i`` depends on ``i``, the settings and the images only.

    ``backgrounds`` and ``foregrounds`` are folders of images; file names in byte order give the numbers in a key. A
    background is cropped to its centred square and resized to ``size`` pixels. A foreground keeps its shape; its
    longer edge becomes a seeded one of nine even steps from ``min_scale`` to ``max_scale`` of ``size``, and it lies at
    a seeded place fully inside. A foreground without transparency counts as a whole rectangle. Images are taken from
    subfolders, too; one that cannot be decoded, or a foreground on which there is nothing to see, keeps its number and
    costs its own samples.

    Index order is path order, so that a part is any run of indices: flipped (``f``) comes before original (``o``).
    """

    kind: ClassVar[str] = "composite"

    backgrounds: Path
    foregrounds: Path
    size: int = 200
    placements: int = 20
    flip: bool = True
    quality: int = 30
    optimize: bool = True
    seed: int = 1
    min_scale: float = 0.3
    max_scale: float = 0.7

    def __post_init__(self) -> None:
        """Raises ConfigError for a setting of the wrong type or out of range."""
        for name, (low, high) in _BOUNDS.items():
            value = getattr(self, name)
            if type(value) is not int or not low <= value <= high:
                raise ConfigError(f"composite: {name} must be a whole number from {low} to {high}, not {value!r}")
        for name in ("flip", "optimize"):
            if not isinstance(getattr(self, name), bool):
                raise ConfigError(f"composite: {name} must be true or false, not {getattr(self, name)!r}")
        for name in ("min_scale", "max_scale"):
            if isinstance(getattr(self, name), bool) or not isinstance(getattr(self, name), int | float):
                raise ConfigError(f"composite: {name} must be a number, not {getattr(self, name)!r}")
        if not 0 < self.min_scale <= self.max_scale <= 1:
            raise ConfigError(
                "composite: the scales must satisfy 0 < min_scale <= max_scale <= 1, "
                f"not {self.min_scale} and {self.max_scale}"
            )

    def __len__(self) -> int:
        """Samples in all. Lists both folders, so it raises SourceMissing as ``list_pictures`` does."""
        return len(self._list_backgrounds()) * len(self._list_foregrounds()) * self._per_pair

    @property
    def _per_pair(self) -> int:
        return (2 if self.flip else 1) * self.placements

    def _list_backgrounds(self) -> tuple[Picture, ...]:
        return list_pictures(self.backgrounds, "backgrounds", self.foregrounds)

    def _list_foregrounds(self) -> tuple[Picture, ...]:
        return list_pictures(self.foregrounds, "foregrounds", self.backgrounds)

    def describe(self) -> str:
        return f"images of {self.foregrounds} on {self.backgrounds}"

    def settings(self) -> Mapping[str, Any]:
        """The numbers, and what the images are by content: no path. Reads every image; raises as ``check``."""
        numbers = {item.name: getattr(self, item.name) for item in fields(self) if item.name not in _FOLDERS}
        backgrounds, foregrounds = self._list_backgrounds(), self._list_foregrounds()
        special = any_special(backgrounds) or any_special(foregrounds)
        return {
            "kind": self.kind,
            "generator": _SPECIAL_GENERATOR if special else _GENERATOR,
            **numbers,
            "backgrounds": _identity(backgrounds),
            "foregrounds": _identity(foregrounds),
        }

    def check(self) -> None:
        """Raise SourceMissing for a missing or empty folder, and BrokenPicture when none of its files is an image.

        Reads headers and checksums, not pixels: a picture cut off half way may still come to light in ``pack``.
        """
        for pictures in (self._list_backgrounds(), self._list_foregrounds()):
            bad = find_broken(pictures)
            if len(bad) == len(pictures):
                raise bad[0] if len(bad) == 1 else none_is_good(bad)

    def survey(self) -> tuple[list[Failure], Iterator[str]]:
        """(the pictures that cannot be read, as ``pack`` names them; what else is to be told of the folders, which is
        found while it is asked for). Raises SourceMissing."""
        stage = self._stage()
        bad = (*find_broken(stage.backgrounds), *find_broken(stage.foregrounds))
        return [stage.failure(error.path, error.why) for error in bad], self._remarks(stage)

    def _remarks(self, stage: _Stage) -> Iterator[str]:
        for role, folder, other in (
            ("backgrounds", self.backgrounds, self.foregrounds),
            ("foregrounds", self.foregrounds, self.backgrounds),
        ):
            skipped = look_through(folder, role, other).skipped
            if skipped:
                yield f"left out: {len(skipped):,} of the {role}' files, hidden or no image ({listed(skipped)})"
        yield from remarks(stage.foregrounds, max(1, round(self.max_scale * self.size)))

    def members(self, index: int) -> list[tuple[bytes, bytes]]:
        """Sample ``index`` as (path, data) pairs in path order. Raises BrokenPicture, and IndexError past the end."""
        return self._stage().members(index)

    def pack(self, selection: Selection, writer: MemberWriter, part_size: int) -> Packed:
        """Write samples ``start`` up to ``stop``. The samples of a picture that cannot be decoded are left out, and
        the picture is one Failure. Raises SourceMissing when pictures went away since the parts were planned."""
        assert isinstance(selection, SampleRange)
        stage = self._stage()
        stop = len(stage) if selection.stop is None else selection.stop
        if stop > len(stage):
            raise SourceMissing(
                f"Images were taken out of {self.backgrounds} or {self.foregrounds} since the parts were planned.",
                advice="Put them back and run the same command again.",
            )
        broken: dict[tuple[str, str], None] = {}
        samples = files = 0
        for index in range(selection.start, stop):
            try:
                members = stage.members(index)
            except BrokenPicture as error:
                broken[error.path, error.why] = None
                continue
            for path, data in members:
                writer.add(path, data)
            samples += 1
            files += len(members)
        failed = tuple(stage.failure(path, why) for path, why in broken)
        return Packed(SampleRange(selection.start, stop), samples, files, failed)

    def _stage(self) -> _Stage:
        """This thread's stage; made anew when a setting or a file has changed."""
        wanted = (self, self._list_backgrounds(), self._list_foregrounds())
        kept: _Stage | None = getattr(_kept, "stage", None)
        if kept is None or kept.made_for != wanted:
            kept = _kept.stage = _Stage(*wanted)
        return kept


_kept = threading.local()  # a stage draws on its own canvas, so two threads must not share one


class _Stage:
    """A source with its pictures listed and a studio that keeps them decoded: what makes samples, one at a time."""

    def __init__(
        self, source: CompositeSource, backgrounds: tuple[Picture, ...], foregrounds: tuple[Picture, ...]
    ) -> None:
        self.made_for = (source, backgrounds, foregrounds)
        self._source = source
        self.backgrounds = backgrounds
        self.foregrounds = foregrounds
        self._studio = Studio(source.size, source.quality, source.optimize, source.min_scale, source.max_scale)
        self._digits = tuple(
            max(least, len(str(count - 1)))
            for least, count in ((3, len(backgrounds)), (3, len(foregrounds)), (2, source.placements))
        )

    def __len__(self) -> int:
        return len(self.backgrounds) * len(self.foregrounds) * self._source._per_pair

    def place(self, index: int) -> Place:
        """Which pictures sample ``index`` is made of. Raises IndexError."""
        if not 0 <= index < len(self):
            raise IndexError(index)
        rest, placement = divmod(index, self._source.placements)
        flipped = False
        if self._source.flip:
            rest, plain = divmod(rest, 2)
            flipped = not plain
        background, foreground = divmod(rest, len(self.foregrounds))
        return Place(background, foreground, flipped, placement)

    def failure(self, path: str, why: str) -> Failure:
        """What is said of a picture, with the number of samples that it costs the whole source."""
        name = Path(path)
        costs = sum(one.path == name for one in self.backgrounds) * len(self.foregrounds)
        costs += sum(one.path == name for one in self.foregrounds) * len(self.backgrounds)
        return Failure(path, f"{why} ({costs * self._source._per_pair} samples left out)")

    def key(self, place: Place) -> str:
        wide, middle, narrow = self._digits
        turn = "f" if place.flipped else "o"
        return f"bg_{place.background:0{wide}}/fg_{place.foreground:0{middle}}_{turn}_{place.placement:0{narrow}}"

    def members(self, index: int) -> list[tuple[bytes, bytes]]:
        """(path, bytes) of the sample's image, label and mask, in path order."""
        place = self.place(index)
        background, foreground = self.backgrounds[place.background], self.foregrounds[place.foreground]
        scale_draw, x_draw, y_draw = _draws(self._source.seed, index)
        shot = self._studio.shoot(background, foreground, place.flipped, scale_draw % SCALE_STEPS, x_draw, y_draw)
        label = {
            "background": background.name,
            "flip": place.flipped,
            "foreground": foreground.name,
            "height": shot.height,
            "scale": shot.scale,
            "width": shot.width,
            "x": shot.x,
            "y": shot.y,
        }
        key = self.key(place).encode()
        return [
            (key + b".image.jpg", shot.image),
            (key + b".json", _LABEL.encode(label).encode(errors="replace")),
            (key + b".mask.jpg", shot.mask),
        ]


def _draws(seed: int, index: int) -> tuple[int, int, int]:
    """Three even draws from 0..2**64-1 that depend on nothing else, on no machine and no version of Python."""
    drawn = blake2b(b"%d:%d" % (seed, index), digest_size=24).digest()
    scale, x, y = _THREE_DRAWS.unpack(drawn)
    return scale, x, y


def _identity(pictures: tuple[Picture, ...]) -> Mapping[str, Any]:
    return {"count": len(pictures), "sha256": digest(pictures)}
