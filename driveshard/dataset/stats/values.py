"""Looks through labels (JSON, the rows of CSV tables, the numbers of ``.cls`` members, the boxes of YOLO) for values
that repeat."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Callable, Iterator
from typing import Any

from driveshard.dataset.stats.tally import MOST_VALUES, Labels, Values, count_value

_NUMBER = re.compile(r"-?(0|[1-9]\d{0,18})(\.\d+)?([eE][+-]?\d{1,3})?", re.ASCII)  # as JSON writes it
_LARGEST = 64 << 20  # bytes of a label that is looked at
_DEEPEST = 8
_LONG_NUMBER = 1e150  # whose square is still a number
_LONGEST = 100  # characters of a text that may be a label
_CLASSLIKE = re.compile(
    r"(.*[_\- ])?(class(es)?|label|categor(y|ies)|cls|target|species|tag|split)([_\- ]?(id|idx|index|name|no))?s?",
    re.IGNORECASE,
)

_MEASURED = re.compile(
    r"(.*[_\- ])?(x|y|z|w|h|width|height|depth|left|top|right|bottom|size|scale|area|length|angle|count|score)(_?\d)?",
    re.IGNORECASE,
)


def is_measure(place: str) -> bool:
    """Whether what stands there is a number that was measured by its name, however few there are: ``width``."""
    return _MEASURED.fullmatch(place.rpartition(".")[2]) is not None


def is_classlike(place: str) -> bool:
    """Whether what stands there is a label by its name: ``class``, ``objects[].category_id``, ``tags[]``."""
    return _CLASSLIKE.fullmatch(place.rpartition(".")[2].rstrip("[]")) is not None


def count_label(labels: Labels, data: bytes, parse: Callable[[bytes], Any]) -> None:
    """One more label; ``parse`` makes lists, objects and values of it. Raises ValueError for bytes that are none."""
    _check_size(data)
    try:
        document = parse(data)
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error
    labels.count += 1
    for place, value in _scalars(document, "", 0):
        found = labels.at(place)
        if found is not None:
            _add(found, value)


def _check_size(data: bytes) -> None:
    if len(data) > _LARGEST:
        raise ValueError(f"its {len(data):,} bytes are too many to be looked through for labels")


def count_table(labels: Labels, data: bytes) -> None:
    """A label for each row of a CSV table, whose first row names the columns. Raises ValueError for bytes that are
    none; then nothing was counted."""
    _check_size(data)
    found = Labels()
    try:
        rows = csv.reader(io.StringIO(data.decode("utf-8-sig"), newline=""), strict=True)
        columns = [name[:_LONGEST] for name in next(rows, [])]
        for row in rows:
            found.count += bool(row)
            for column, cell in zip(columns, row, strict=False):
                values = found.at(column) if cell else None
                if values is not None:
                    _add(values, _cell(cell))
    except csv.Error as error:
        raise ValueError(f"it is no table: {error}") from error
    labels.add(found)


def _cell(text: str) -> bool | int | float | str:
    """What a cell means, as JSON would have it."""
    if text in ("true", "false"):
        return text == "true"
    if _NUMBER.fullmatch(text):
        return int(text) if text.lstrip("-").isdecimal() else float(text)
    return text


def boxes(data: bytes) -> Any:
    """The lines of a YOLO label, ``class x y width height``, as objects. Raises ValueError for bytes that are none."""
    return {"objects": [{"class": int(line.split()[0])} for line in data.decode().splitlines() if line.strip()]}


def _scalars(value: Any, place: str, depth: int) -> Iterator[tuple[str, Any]]:
    """(place, value) of everything in a document that is neither a list nor an object: ``objects[].class``."""
    if depth > _DEEPEST:
        return
    if isinstance(value, dict):
        for key, below in value.items():
            yield from _scalars(below, f"{place}.{key[:_LONGEST]}" if place else key[:_LONGEST], depth + 1)
    elif isinstance(value, list):
        measures = value and isinstance(value[0], int | float) and not is_classlike(place)
        for below in () if measures else value:  # a box's corners are no labels, and an outline's are very many
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
    elif isinstance(value, float) and abs(value) < _LONG_NUMBER:
        kind, text = "fractions", repr(value)
        _add_number(found, value)
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
