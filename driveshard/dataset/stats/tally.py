"""What has been counted in some members: plain numbers that can be added up, kept, and read again.

Sums over pixels are whole numbers however many there are, so that the figures do not depend on the order in which
parts were looked at, nor on how often a run was ended.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

BINS = 256
MOST_SIZES = 4096  # distinct sizes of images that are told apart in a field
MOST_VALUES = 1000  # distinct values that are told apart at one place of a label
MOST_PLACES = 200  # places, such as "objects[].class", that are looked at in the labels of a field
MOST_BROKEN = 100  # members that are named
OTHERS = ""  # the name under which what is not told apart is counted


@dataclass
class Channel:
    """The values of one channel. ``white`` is the value that stands for 1.0: 255, 65535, or 1 for floats; ``levels``
    counts values from 0 to ``white`` in 256 even steps."""

    white: int
    pixels: int = 0
    total: float = 0
    squares: float = 0
    low: float | None = None
    high: float | None = None
    levels: list[int] = field(default_factory=lambda: [0] * BINS)

    @classmethod
    def of_levels(cls, levels: Sequence[int]) -> Channel:
        """From how often each of 256 values is there."""
        met = [value for value, count in enumerate(levels) if count]
        if not met:
            return cls(BINS - 1)
        total = sum(value * count for value, count in enumerate(levels))
        squares = sum(value * value * count for value, count in enumerate(levels))
        return cls(BINS - 1, sum(levels), total, squares, met[0], met[-1], list(levels))

    def add(self, other: Channel) -> None:
        self.pixels += other.pixels
        self.total += other.total
        self.squares += other.squares
        self.low, self.high = _least(self.low, other.low), _most(self.high, other.high)
        self.levels = [one + more for one, more in zip(self.levels, other.levels, strict=True)]


@dataclass
class Pictures:
    """The images of a field. ``sizes`` are ``"200x100"`` (width, height), ``modes`` Pillow's."""

    count: int = 0
    broken: int = 0
    sizes: dict[str, int] = field(default_factory=dict)
    modes: dict[str, int] = field(default_factory=dict)
    channels: dict[str, Channel] = field(default_factory=dict)

    def add(self, other: Pictures) -> None:
        self.count += other.count
        self.broken += other.broken
        _count(self.sizes, other.sizes, MOST_SIZES)
        _count(self.modes, other.modes, BINS)
        for name, channel in other.channels.items():
            self.channels.setdefault(name, Channel(channel.white)).add(channel)


@dataclass
class Arrays:
    """The numeric arrays of a field. ``shapes`` are ``"480x640x3"``, ``types`` numpy's; ``mean`` is of all ``numbers``,
    ``spread`` the sum of the squares of their distances from it; ``left_out`` are no finite numbers."""

    count: int = 0
    broken: int = 0
    shapes: dict[str, int] = field(default_factory=dict)
    types: dict[str, int] = field(default_factory=dict)
    numbers: int = 0
    left_out: int = 0
    mean: float = 0
    spread: float = 0
    low: float | None = None
    high: float | None = None

    def add(self, other: Arrays) -> None:
        self.count += other.count
        self.broken += other.broken
        _count(self.shapes, other.shapes, MOST_SIZES)
        _count(self.types, other.types, BINS)
        self.add_numbers(other)

    def add_numbers(self, other: Arrays) -> None:
        """By the distance of the means, which loses no digits where sums of squares would."""
        self.left_out += other.left_out
        if other.numbers:
            both, apart = self.numbers + other.numbers, other.mean - self.mean
            self.spread += other.spread + apart * apart * (self.numbers * other.numbers / both)
            self.mean += apart * (other.numbers / both)
            self.numbers = both
        self.low, self.high = _least(self.low, other.low), _most(self.high, other.high)


@dataclass
class Values:
    """What stands at one place of the labels: how often each value that could be a label, and the numbers together.

    ``kinds`` counts flags, whole numbers, fractions and texts."""

    kinds: dict[str, int] = field(default_factory=dict)
    values: dict[str, int] = field(default_factory=dict)
    numbers: int = 0
    total: float = 0
    squares: float = 0
    low: float | None = None
    high: float | None = None

    def add(self, other: Values) -> None:
        _count(self.kinds, other.kinds, BINS)
        _count(self.values, other.values, MOST_VALUES)
        self.numbers += other.numbers
        self.total += other.total
        self.squares += other.squares
        self.low, self.high = _least(self.low, other.low), _most(self.high, other.high)


@dataclass
class Labels:
    """The labels of a field, by their places."""

    count: int = 0
    broken: int = 0
    places: dict[str, Values] = field(default_factory=dict)

    def at(self, place: str) -> Values | None:
        """What is known of a place; None for one too many."""
        found = self.places.get(place)
        if found is None and len(self.places) < MOST_PLACES:
            found = self.places[place] = Values()
        return found

    def add(self, other: Labels) -> None:
        self.count += other.count
        self.broken += other.broken
        for place, values in other.places.items():
            if (mine := self.at(place)) is not None:
                mine.add(values)


@dataclass
class Tally:
    """All of it. ``broken`` names members that cannot be read, with why: (path, or row in the index; words).

    ``doubtful`` says that something was not read as it was published, so that another run may find it otherwise."""

    pictures: dict[str, Pictures] = field(default_factory=dict)
    labels: dict[str, Labels] = field(default_factory=dict)
    broken: list[tuple[Any, str]] = field(default_factory=list)
    doubtful: bool = False
    arrays: dict[str, Arrays] = field(default_factory=dict)

    def add(self, other: Tally) -> None:
        """Count what another one has counted, too."""
        for name, pictures in other.pictures.items():
            self.pictures.setdefault(name, Pictures()).add(pictures)
        for name, labels in other.labels.items():
            self.labels.setdefault(name, Labels()).add(labels)
        for name, arrays in other.arrays.items():
            self.arrays.setdefault(name, Arrays()).add(arrays)
        self.broken += other.broken[: MOST_BROKEN - len(self.broken)]
        self.doubtful = self.doubtful or other.doubtful

    def as_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> Tally:
        """The other way round. Raises KeyError, TypeError or ValueError for what is no tally."""
        return cls(
            {name: _pictures(one) for name, one in document["pictures"].items()},
            {name: _labels(one) for name, one in document["labels"].items()},
            [(str(path), str(why)) for path, why in document["broken"]],
            arrays={name: Arrays(**one) for name, one in document.get("arrays", {}).items()},
        )


def added(tallies: Iterable[Tally]) -> Tally:
    """All together."""
    whole = Tally()
    for one in tallies:
        whole.add(one)
    return whole


def count_value(counts: dict[str, int], value: str, most: int, times: int = 1) -> None:
    """One more of a value; of more than ``most`` distinct ones those that come later are counted as others."""
    if value not in counts and len(counts) >= most:
        value = OTHERS
    counts[value] = counts.get(value, 0) + times


def _count(counts: dict[str, int], more: Mapping[str, int], most: int) -> None:
    for value, times in more.items():
        count_value(counts, value, most, times)


def _least(one: float | None, other: float | None) -> float | None:
    return min((value for value in (one, other) if value is not None), default=None)


def _most(one: float | None, other: float | None) -> float | None:
    return max((value for value in (one, other) if value is not None), default=None)


def _pictures(document: dict[str, Any]) -> Pictures:
    channels = {name: Channel(**one) for name, one in document["channels"].items()}
    if any(len(channel.levels) != BINS for channel in channels.values()):
        raise ValueError("its levels are not what they should be")
    return Pictures(**document | {"channels": channels})


def _labels(document: dict[str, Any]) -> Labels:
    return Labels(**document | {"places": {place: Values(**one) for place, one in document["places"].items()}})
