"""The image generator: every background x foreground x (flipped, plain) x N seeded placements, with mask and label."""

from __future__ import annotations

import struct
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields
from hashlib import blake2b
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

from driveshard.core.errors import BrokenPicture, SourceMissing
from driveshard.core.model import Failure, SampleRange, Selection
from driveshard.sources.base import MemberWriter, Packed
from driveshard.sources.composite.checks import check_settings
from driveshard.sources.composite.images import (
    Picture,
    any_special,
    digest,
    find_broken,
    list_pictures,
    look_through,
)
from driveshard.sources.composite.labels import Label, Table, as_json, label_of
from driveshard.sources.composite.layouts import Member, members_of
from driveshard.sources.composite.remarks import listed, none_is_good, remarks
from driveshard.sources.composite.renderer import SCALE_STEPS, Scene, Studio

_GENERATOR = 1  # raised whenever the same settings would give other bytes
_SPECIAL_GENERATOR = 2  # the same for images whose levels or colours are put right (ICC profiles, deep grey)
_FOLDERS = ("backgrounds", "foregrounds")
# Settings that came later: while they have their default nothing is said of them, so that datasets begun before go on.
_LATER = ("background", "mask", "mask_threshold", "scale_per", "box", "layout", "labels")
_THREE_DRAWS = struct.Struct("<QQQ")


class Place(NamedTuple):
    """Which sample an index is: positions in the sorted folders, flipped or not, and the placement's number."""

    background: int
    foreground: int
    flipped: bool
    placement: int


class Shot(NamedTuple):
    """A sample before it is painted: its key, whether its foreground is flipped, what lies where."""

    key: str
    flipped: bool
    scene: Scene


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

    With ``background`` a sample has the plain background, too. Masks are the alpha as it is, as JPEG; ``mask`` "png"
    keeps it without loss, and a ``mask_threshold`` makes it 255 where alpha is above it and 0 elsewhere. ``scale_per``
    "foreground" gives each foreground one scale for all its placements. ``box`` "tight" adds to the label the box of
    what is to be seen of the object (alpha above the threshold; without one, of 8 and more). ``layout`` "trees" gives
    each field a folder of its own (see ``layouts``). ``labels`` "table" makes one CSV a part, a field of its last
    sample, instead of JSON files, "both" beside them.
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
    background: bool = False
    mask: str = "jpg"
    mask_threshold: int | None = None
    scale_per: str = "placement"
    box: str = "picture"
    layout: str = "sample"
    labels: str = "json"

    def __post_init__(self) -> None:
        """Raises ConfigError for a setting of the wrong type or out of range."""
        check_settings(vars(self))

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
        numbers = {
            item.name: getattr(self, item.name)
            for item in fields(self)
            if item.name not in _FOLDERS and (item.name not in _LATER or getattr(self, item.name) != item.default)
        }
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
        yield from remarks(stage.foregrounds, max(1, round(self.max_scale * self.size)), self.mask_threshold)

    def members(self, index: int) -> list[tuple[bytes, bytes]]:
        """Sample ``index`` as (path, data) pairs in path order, without the table, which is its part's. Raises
        BrokenPicture, and IndexError past the end."""
        stage = self._stage()
        return list(stage.members(stage.shot(index), stage.fields))

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
        run = _PartRun(stage, range(selection.start, stop), writer)
        for fields_together in stage.passes:
            run.write(fields_together)
        run.write_table()
        failed = tuple(stage.failure(path, why) for path, why in run.broken)
        return Packed(SampleRange(selection.start, stop), run.samples, run.files, failed)

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
        studio = self._studio = Studio(
            source.size,
            source.quality,
            source.optimize,
            source.min_scale,
            source.max_scale,
            source.mask,
            source.mask_threshold,
        )
        self._make = {"background": studio.plain, "image": studio.image, "mask": studio.mask}
        wanted = ["image", "mask"] + ["background"] * source.background + ["label"] * (source.labels != "table")
        self.fields = members_of(source.layout, wanted, source.mask)
        self.passes = [[one] for one in self.fields] if source.layout == "trees" else [self.fields]
        self.table = None if source.labels == "json" else members_of(source.layout, ["table"], source.mask)[0]
        once = source.scale_per == "foreground"
        self._steps = [_step(source.seed, number) for number in range(len(foregrounds))] if once else None
        self._length = len(backgrounds) * len(foregrounds) * source._per_pair
        self._digits = tuple(
            max(least, len(str(count - 1)))
            for least, count in ((3, len(backgrounds)), (3, len(foregrounds)), (2, source.placements))
        )

    def __len__(self) -> int:
        return self._length

    def place(self, index: int) -> Place:
        """Which pictures sample ``index`` is made of. Raises IndexError."""
        if not 0 <= index < self._length:
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

    def shot(self, index: int) -> Shot:
        """Sample ``index`` before it is painted. Raises BrokenPicture, and IndexError past the end."""
        place = self.place(index)
        scale_draw, x_draw, y_draw = _draws(self._source.seed, index)
        step = scale_draw % SCALE_STEPS if self._steps is None else self._steps[place.foreground]
        background, foreground = self.backgrounds[place.background], self.foregrounds[place.foreground]
        scene = self._studio.arrange(background, foreground, place.flipped, step, x_draw, y_draw)
        return Shot(self.key(place), place.flipped, scene)

    def label(self, shot: Shot) -> Label:
        return label_of(shot.scene, shot.flipped, tight=self._source.box == "tight")

    def members(self, shot: Shot, fields: list[Member]) -> Iterator[tuple[bytes, bytes]]:
        """(path, bytes) of these fields of a sample."""
        key = shot.key.encode()
        for field, before, after in fields:
            data = as_json(self.label(shot)) if field == "label" else self._make[field](shot.scene)
            yield before + key + after, data


class _PartRun:
    """One part being filled: counts, the pictures that cannot be decoded, and the table if there is one."""

    def __init__(self, stage: _Stage, indices: range, writer: MemberWriter) -> None:
        self._stage = stage
        self._indices = indices
        self._writer = writer
        self._table = None if stage.table is None else Table()
        self._noted = False
        self.broken: dict[tuple[str, str], None] = {}
        self.samples = self.files = 0

    def write(self, fields: list[Member]) -> None:
        """Write these fields of all samples. The first time samples are counted and noted in the table."""
        for index in self._indices:
            try:
                shot = self._stage.shot(index)
            except BrokenPicture as error:
                self.broken[error.path, error.why] = None
                continue
            for path, data in self._stage.members(shot, fields):
                self._writer.add(path, data)
            self.files += len(fields)
            if not self._noted:
                self._note(shot)
        self._noted = True

    def _note(self, shot: Shot) -> None:
        self.samples += 1
        if self._table is not None:
            self._table.add(shot.key, self._stage.label(shot))

    def write_table(self) -> None:
        """As a field of the last sample, behind all its others: so a reader sees no sample that is none."""
        if self._table is not None and self._stage.table is not None and self.samples:
            self._writer.add(self._stage.table.path(self._table.last.encode()), self._table.encode())
            self.files += 1


def _draws(seed: int, index: int) -> tuple[int, int, int]:
    """Three even draws from 0..2**64-1 that depend on nothing else, on no machine and no version of Python."""
    drawn = blake2b(b"%d:%d" % (seed, index), digest_size=24).digest()
    scale, x, y = _THREE_DRAWS.unpack(drawn)
    return scale, x, y


def _step(seed: int, foreground: int) -> int:
    """The scale that a foreground keeps."""
    return int.from_bytes(blake2b(b"%d:foreground:%d" % (seed, foreground), digest_size=8).digest()) % SCALE_STEPS


def _identity(pictures: tuple[Picture, ...]) -> Mapping[str, Any]:
    return {"count": len(pictures), "sha256": digest(pictures)}
