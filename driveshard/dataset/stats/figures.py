"""What is told of a dataset: from its index and a tally to figures that people and scripts read."""

from __future__ import annotations

import math
from collections.abc import Mapping
from fractions import Fraction
from typing import Any

import numpy as np

from driveshard.archive.index import Index
from driveshard.dataset.stats.pieces import Fields
from driveshard.dataset.stats.tally import MOST_VALUES, OTHERS, Arrays, Channel, Pictures, Tally, Values
from driveshard.dataset.stats.values import is_classlike, is_measure

Figures = dict[str, Any]

_MOST_SIZES = 50  # sizes of images that are told of a field, the most frequent ones
_REPEATED = 2  # times that values are met on average, of texts that are labels
_FEW, _OFTEN = 100, 10  # whole numbers are labels when there are so few, so often each, and no measures


def fields_of(index: Index, fields: Fields, tally: Tally) -> dict[str, Figures]:
    """For each field how many there are, how large, and what its images are like."""
    number = fields.which[index.arrays["field"]] if len(fields.which) else np.empty(0, np.int64)
    sizes = index.arrays["size"]
    found = {}
    for which, name in enumerate(fields.names):
        some = sizes[number == which].astype(np.int64)
        if not len(some):
            continue
        found[name] = _sizes(some)
        if name in tally.pictures:
            found[name]["images"] = _images(tally.pictures[name])
        if name in tally.arrays:
            found[name]["arrays"] = _arrays(tally.arrays[name])
    return found


def _sizes(sizes: Any) -> Figures:
    """``histogram`` counts members of up to so many bytes, in powers of two."""
    # Exact for whole numbers below 2**53: the exponent of size - 1, so that 1024 itself is "up to 1024".
    steps = np.frexp(np.maximum(sizes - 1, 0).astype(np.float64))[1]
    counts = np.bincount(steps)
    return {
        "count": len(sizes),
        "bytes": int(sizes.sum()),
        "smallest": int(sizes.min()),
        "largest": int(sizes.max()),
        "mean": int(sizes.sum()) / len(sizes),
        "histogram": {str(1 << step): int(counts[step]) for step in np.flatnonzero(counts).tolist()},
    }


def _images(pictures: Pictures) -> Figures:
    sizes = _by_count(pictures.sizes)
    edges = [tuple(map(int, size.split("x"))) for size in sizes if size != OTHERS]
    return {
        "count": pictures.count,
        "broken": pictures.broken,
        "width": _range([width for width, _ in edges]),
        "height": _range([height for _, height in edges]),
        "sizes": dict(list(sizes.items())[:_MOST_SIZES]),
        "modes": _by_count(pictures.modes),
        "channels": {name: channel_figures(one) for name, one in pictures.channels.items()},
    }


def _arrays(arrays: Arrays) -> Figures:
    """Over all their values together, as these are: what an axis means is not in the file."""
    return {
        "count": arrays.count,
        "broken": arrays.broken,
        "shapes": dict(list(_by_count(arrays.shapes).items())[:_MOST_SIZES]),
        "types": _by_count(arrays.types),
        "values": arrays.numbers,
        "left_out": arrays.left_out,
        "mean": arrays.mean if arrays.numbers else None,
        "std": math.sqrt(arrays.spread / arrays.numbers) if arrays.numbers else None,
        "min": arrays.low,
        "max": arrays.high,
    }


def _range(values: list[int]) -> list[int] | None:
    return [min(values), max(values)] if values else None


def channel_figures(channel: Channel) -> Figures:
    """Mean and standard deviation over all pixels, and the extremes, in parts of white."""
    mean, deviation = _moments(channel.pixels, channel.total, channel.squares)
    white = channel.white
    low, high = channel.low or 0, channel.high or 0
    return {
        "mean": mean / white,
        "std": deviation / white,
        "min": low / white,
        "max": high / white,
        "pixels": channel.pixels,
        "levels": channel.levels,
    }


def _moments(count: int, total: float, squares: float) -> tuple[float, float]:
    """(mean, standard deviation), with no digit lost on the way."""
    if not count:
        return 0.0, 0.0
    mean = Fraction(total) / count
    variance = Fraction(squares) / count - mean * mean
    return float(mean), math.sqrt(max(0.0, float(variance)))


def labels_of(tally: Tally) -> tuple[dict[str, dict[str, dict[str, int]]], dict[str, dict[str, Figures]]]:
    """(labels, numbers): by field and place, how often each value is there, where values repeat; and what the numbers
    are like. Text or whole numbers that are hardly ever the same twice are no labels, unless their name says so."""
    labels: dict[str, dict[str, dict[str, int]]] = {}
    numbers: dict[str, dict[str, Figures]] = {}
    for name, found in tally.labels.items():
        for place, values in found.places.items():
            where = place or name
            if _are_labels(where, values):
                labels.setdefault(name, {})[where] = _by_count(values.values)
            if values.numbers and not place.endswith("[]"):  # of a list of numbers each may mean something else
                numbers.setdefault(name, {})[where] = _number_figures(values)
    return labels, numbers


def _are_labels(place: str, values: Values) -> bool:
    kinds, distinct, count = set(values.kinds), len(values.values), sum(values.values.values())
    if not count or OTHERS in values.values or distinct > MOST_VALUES or "fractions" in kinds:
        return False
    if kinds == {"flags"} or is_classlike(place):
        return True
    if "integers" in kinds:
        return distinct <= _FEW and count >= _OFTEN * distinct and not is_measure(place)
    return count >= _REPEATED * distinct


def _number_figures(values: Values) -> Figures:
    mean, deviation = _moments(values.numbers, values.total, values.squares)
    return {"count": values.numbers, "mean": mean, "std": deviation, "min": values.low, "max": values.high}


def _by_count(counts: Mapping[str, int]) -> dict[str, int]:
    """The most frequent ones first."""
    return dict(sorted(counts.items(), key=lambda one: (-one[1], one[0])))
