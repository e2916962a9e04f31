"""The figures of a dataset as a picture: a card for each field, for each label, and one for the numbers."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

from driveshard.core.formatting import human_size, plural
from driveshard.dataset.stats.canvas import BAR, FAINT, INK, Canvas
from driveshard.dataset.stats.result import Stats

_WIDTH = 1080
_GAP, _PAD = 16, 18
_HEAD = 86
_LINE = 19
_STEP = 15  # height of a bar of the sizes of files
_PLOT = 150  # height of a chart
_MOST_FIELDS, _MOST_LABELS, _MOST_NUMBERS, _MOST_BROKEN = 8, 8, 12, 6
_MOST_VALUES = 10
_MOST_STEPS = 9  # bars of the sizes of files
_INKS = {"R": "#d64545", "G": "#3c9a5f", "B": "#3f6fd1", "A": "#9a9fa8", "C": "#2aa5b8", "M": "#c2479b", "Y": "#c9a227"}
_GREY = "#4a5261"


@dataclass(frozen=True, slots=True)
class _Card:
    """``paint`` draws it with its inside at (left, top) and so wide; ``half`` ones stand two in a row."""

    height: int
    paint: Callable[[Canvas, float, float, float], None]
    half: bool = False


def picture_of(stats: Stats, format: str) -> bytes:  # noqa: A002
    """The sheet, encoded as ``JPEG`` or ``PNG``."""
    rows = _rows(_cards(stats))
    height = _HEAD + sum(max(card.height for card in row) + 2 * _PAD + _GAP for row in rows)
    canvas = Canvas(_WIDTH, height)
    _head(canvas, stats)
    top = float(_HEAD)
    for row in rows:
        tall = max(card.height for card in row) + 2 * _PAD
        wide = (_WIDTH - 3 * _GAP) / 2 if row[0].half else _WIDTH - 2 * _GAP
        for place, card in enumerate(row):
            left = _GAP + place * (wide + _GAP)
            canvas.card((left, top, left + wide, top + tall))
            card.paint(canvas, left + _PAD, top + _PAD, wide - 2 * _PAD)
        top += tall + _GAP
    return canvas.encoded(format)


def _rows(cards: Sequence[_Card]) -> list[list[_Card]]:
    rows: list[list[_Card]] = []
    for card in cards:
        if card.half and rows and rows[-1][0].half and len(rows[-1]) == 1:
            rows[-1].append(card)
        else:
            rows.append([card])
    return rows


def _head(canvas: Canvas, stats: Stats) -> None:
    canvas.words(_GAP + 2, 38, stats.name, 24, width=_WIDTH - 2 * _GAP)
    whole = [plural(stats.samples, "sample"), plural(stats.files, "file"), human_size(stats.bytes)]
    text = ", ".join([*whole, plural(stats.parts, "part")])
    if stats.looked_at < stats.samples:
        text += f"; images and labels of {stats.looked_at:,} samples spread over them"
    canvas.words(_GAP + 2, 64, text, 14, FAINT, width=_WIDTH - 2 * _GAP)


def _cards(stats: Stats) -> list[_Card]:
    fields = sorted(stats.fields.items(), key=lambda one: "images" not in one[1])
    cards = [_field_card(name, figures) for name, figures in fields[:_MOST_FIELDS]]
    labels = [(name, place, values) for name, places in stats.labels.items() for place, values in places.items()]
    cards += [_label_card(*one) for one in labels[:_MOST_LABELS]]
    numbers = [
        (_title(name, place), figures)
        for name, places in stats.numbers.items()
        for place, figures in places.items()
        if place not in stats.labels.get(name, {})
    ]
    if numbers:
        cards.append(_numbers_card(numbers))
    if stats.broken:
        cards.append(_broken_card(stats))
    more = max(0, len(fields) - _MOST_FIELDS) + max(0, len(labels) - _MOST_LABELS)
    return [*cards, _note(f"{more:,} fields and labels more")] if more else cards


def _note(text: str) -> _Card:
    return _Card(_LINE, lambda canvas, left, top, wide: canvas.words(left, top + 14, text, 13, FAINT, width=wide))


def _title(name: str, place: str) -> str:
    return name if place == name else f"{name}: {place}"


# -- fields ----------------------------------------------------------------------------------------------------------


def _field_card(name: str, figures: Mapping[str, Any]) -> _Card:
    images = figures.get("images")
    bars = min(_MOST_STEPS, len(_filled(_steps(figures))))
    height = max(30 + bars * _STEP, 46)
    if images:
        height = max(height, _PLOT + 18, 90 + len(images["channels"]) * _LINE)

    def paint(canvas: Canvas, left: float, top: float, wide: float) -> None:
        third = (wide - 2 * _PAD) / 3
        canvas.words(left, top + 14, name or "(without an extension)", 17, width=third)
        if images:
            _image_words(canvas, left, top + 42, third, images)
            _levels(canvas, left + third + _PAD, top, third, images["channels"])
        else:
            canvas.words(left, top + 42, plural(figures["count"], "file"), 13)
            arrays = figures.get("arrays")
            if arrays and arrays["values"]:
                text = f"values: mean {arrays['mean']:g}, std {arrays['std']:g}, {arrays['min']:g} to {arrays['max']:g}"
                canvas.words(left + third + _PAD, top + 42, text, 13, width=third)
        _size_bars(canvas, left + 2 * (third + _PAD), top, third, figures)

    return _Card(height, paint)


def _image_words(canvas: Canvas, left: float, top: float, wide: float, images: Mapping[str, Any]) -> None:
    count = plural(images["count"], "image") + (f", {images['broken']:,} broken" if images["broken"] else "")
    canvas.words(left, top, count, 13, width=wide)
    sizes = list(images["sizes"])
    more = f" and {len(sizes) - 1} sizes more" if len(sizes) > 1 else ""
    if sizes:
        text = f"{sizes[0] or 'many sizes'}{more}, {', '.join(images['modes'])}"
        canvas.words(left, top + _LINE, text, 13, FAINT, width=wide)
    y = top + 2.6 * _LINE
    for x, head in ((90, "mean"), (190, "std")):
        canvas.words(left + x, y, head, 12, FAINT)
    for name, channel in images["channels"].items():
        y += _LINE
        canvas.words(left, y, name, 13, _ink(name))
        canvas.words(left + 90, y, f"{channel['mean']:.5f}", 13)
        canvas.words(left + 190, y, f"{channel['std']:.5f}", 13)


def _ink(channel: str) -> str:
    return _INKS.get(channel, _GREY)


def _levels(canvas: Canvas, left: float, top: float, wide: float, channels: Mapping[str, Any]) -> None:
    """How often each level is there, black at the left. Heights are square roots, so that a mask's two levels leave
    something to be seen of the others."""
    bottom = top + _PLOT
    most = max((max(one["levels"]) for one in channels.values()), default=0) or 1
    for name, channel in channels.items():
        heights = [math.sqrt(count / most) for count in channel["levels"]]
        canvas.hill((left, top, left + wide, bottom), heights, _ink(name))
    canvas.line(left, bottom, left + wide, bottom)
    for share, text, anchor in ((0.0, "0", "ls"), (0.5, "pixels of each value", "ms"), (1.0, "1", "rs")):
        canvas.words(left + share * wide, bottom + 16, text, 11, FAINT, anchor=anchor)


def _size_bars(canvas: Canvas, left: float, top: float, wide: float, figures: Mapping[str, Any]) -> None:
    """How many files are of up to so many bytes; of many steps the largest ones, with all below in the first."""
    steps = _filled(_steps(figures))
    shown = steps[-_MOST_STEPS:]
    shown[0] = (shown[0][0], shown[0][1] + sum(count for _, count in steps[:-_MOST_STEPS]))
    most = max(count for _, count in shown)
    least, largest = human_size(figures["smallest"]), human_size(figures["largest"])
    text = f"{human_size(figures['bytes'])}, {least if least == largest else f'{least} to {largest}'} each"
    canvas.words(left, top + 14, text, 13, width=wide)
    for place, (size, count) in enumerate(shown):
        y = top + 30 + place * _STEP
        canvas.words(left + 72, y + 10, f"to {_short(size)}", 11, FAINT, anchor="rs")
        canvas.bar((left + 80, y + 1, left + 80 + max(count and 1, (wide - 150) * count / most), y + 12))
        canvas.words(left + wide, y + 10, f"{count:,}", 11, INK if count else FAINT, anchor="rs")


def _steps(figures: Mapping[str, Any]) -> list[tuple[int, int]]:
    return [(int(size), count) for size, count in figures["histogram"].items()]


def _filled(steps: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
    """With the steps between them that have none."""
    counts = dict(steps)
    first, last = (size.bit_length() - 1 for size in (steps[0][0], steps[-1][0]))
    return [(1 << step, counts.get(1 << step, 0)) for step in range(first, last + 1)]


def _short(size: int) -> str:
    return human_size(size).replace(".0 ", " ")


# -- labels, numbers, what is broken ---------------------------------------------------------------------------------


def _label_card(name: str, place: str, values: Mapping[str, int]) -> _Card:
    shown = list(islice(values.items(), _MOST_VALUES))
    more = len(values) - len(shown)

    def paint(canvas: Canvas, left: float, top: float, wide: float) -> None:
        canvas.words(left, top + 14, _title(name, place), 15, width=wide)
        most, total = shown[0][1], sum(values.values())
        for line, (value, count) in enumerate(shown):
            y = top + 30 + line * _LINE
            canvas.words(left, y + 12, value or '""', 13, width=150)
            canvas.bar((left + 160, y + 2, left + 160 + max(1, (wide - 270) * count / most), y + 14), BAR)
            canvas.words(left + wide, y + 12, f"{count:,}  {100 * count / total:.1f}%", 12, FAINT, anchor="rs")
        if more:
            canvas.words(left, top + 42 + len(shown) * _LINE, f"{more:,} values more", 12, FAINT)

    return _Card(30 + (len(shown) + bool(more)) * _LINE, paint, half=True)


def _numbers_card(numbers: Sequence[tuple[str, Mapping[str, Any]]]) -> _Card:
    heads = ("", "count", "min", "max", "mean", "std")
    rows = [
        (name, f"{one['count']:,}", *(f"{one[head]:.5g}" for head in heads[2:]))
        for name, one in numbers[:_MOST_NUMBERS]
    ]
    more = len(numbers) - len(rows)

    def paint(canvas: Canvas, left: float, top: float, wide: float) -> None:
        step = (wide - 300) / 5
        for line, row in enumerate((heads, *rows)):
            y = top + 14 + line * _LINE
            canvas.words(left, y, row[0], 13, width=290)
            for place, text in enumerate(row[1:], 1):
                ink = INK if line else FAINT
                canvas.words(left + 300 + place * step, y, text, 13, ink, anchor="rs", width=step - 8)
        if more:
            canvas.words(left, top + 14 + (len(rows) + 1) * _LINE, f"{more:,} more", 12, FAINT)

    return _Card((len(rows) + 1 + bool(more)) * _LINE, paint)


def _broken_card(stats: Stats) -> _Card:
    shown = stats.broken[:_MOST_BROKEN]

    def paint(canvas: Canvas, left: float, top: float, wide: float) -> None:
        canvas.words(left, top + 14, f"{stats.broken_count:,} cannot be read", 15, _INKS["R"])
        for line, one in enumerate(shown, 1):
            canvas.words(left, top + 18 + line * _LINE, f"{one['path']}: {one['why']}", 13, width=wide)

    return _Card(24 + len(shown) * _LINE, paint)
