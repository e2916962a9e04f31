"""Looks through labels, JSON objects or the numbers of ``.cls`` members, for values that repeat."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from typing import Any

from driveshard.dataset.stats.tally import MOST_VALUES, Labels, Values, count_value

_LARGEST = 64 << 20  # bytes of a label that is looked at
_DEEPEST = 8
_MOST = 200_000  # values of one label that are looked at
_LONGEST = 100  # characters of a text that may be a label


def count_label(labels: Labels, data: bytes, *, number: bool) -> None:
    """One more label; ``number`` is for a text that is one class number. Raises ValueError for bytes that are none."""
    if len(data) > _LARGEST:
        raise ValueError(f"it has {len(data):,} bytes, far more than a label")
    try:
        document = int(data) if number else json.loads(data)
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error
    labels.count += 1
    for looked_at, (place, value) in enumerate(_scalars(document, "", 0)):
        if looked_at >= _MOST:
            break
        found = labels.at(place)
        if found is not None:
            _add(found, value)


def _scalars(value: Any, place: str, depth: int) -> Iterator[tuple[str, Any]]:
    """(place, value) of everything in a document that is neither a list nor an object: ``objects[].class``."""
    if depth > _DEEPEST:
        return
    if isinstance(value, dict):
        for key, below in value.items():
            yield from _scalars(below, f"{place}.{key[:_LONGEST]}" if place else key[:_LONGEST], depth + 1)
    elif isinstance(value, list):
        for below in value:
            yield from _scalars(below, f"{place}[]", depth + 1)
    elif value is not None:
        yield place, value


def _add(found: Values, value: Any) -> None:
    if isinstance(value, bool):
        kind, text = "flags", "true" if value else "false"
    elif isinstance(value, str):
        kind, text = "texts", value[:_LONGEST]
    elif isinstance(value, int) and abs(value) < 1 << 63:
        kind, text = "integers", str(value)
        _add_number(found, value)
    elif math.isfinite(value):
        kind, text = "fractions", repr(float(value))
        _add_number(found, float(value))
    else:
        return
    found.kinds[kind] = found.kinds.get(kind, 0) + 1
    count_value(found.values, text, MOST_VALUES)


def _add_number(found: Values, value: float) -> None:
    found.numbers += 1
    found.total += value
    found.squares += value * value
    found.low = value if found.low is None else min(found.low, value)
    found.high = value if found.high is None else max(found.high, value)
