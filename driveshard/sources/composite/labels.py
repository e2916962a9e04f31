"""What is known of a composite, as JSON beside it or as a row of its part's table."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping
from typing import Any

from driveshard.sources.composite.renderer import Scene

Label = Mapping[str, Any]

_JSON = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"), check_circular=False)


def label_of(scene: Scene, flipped: bool, *, tight: bool) -> Label:
    """Names of both pictures, ``flip``, the box of the whole pasted picture in pixels (``x``, ``y``, ``width``,
    ``height``) and its ``scale``; with ``tight`` also ``box_x`` and so on, the box of what is to be seen of it.

    Its keys are sorted, which is cheaper to see to here than where they are encoded."""
    return {
        "background": scene.background.name,
        **(_box_of(scene) if tight else {}),
        "flip": flipped,
        "foreground": scene.foreground.name,
        "height": scene.height,
        "scale": scene.scale,
        "width": scene.width,
        "x": scene.x,
        "y": scene.y,
    }


def _box_of(scene: Scene) -> Label:
    left, top, right, bottom = scene.patch.box
    return {
        "box_height": bottom - top,
        "box_width": right - left,
        "box_x": scene.x + left,
        "box_y": scene.y + top,
    }


def as_json(label: Label) -> bytes:
    return _JSON.encode(label).encode(errors="replace")


class Table:
    """Labels as CSV: the sample's key, then what its JSON has, in the same order; ``true`` and ``false``, no quotes
    where none are needed, lines that end in ``\\n``."""

    def __init__(self) -> None:
        self._text = io.StringIO()
        self._writer = csv.writer(self._text, lineterminator="\n")
        self.last = ""
        """The key of the last row, empty without one."""

    def add(self, key: str, label: Label) -> None:
        """One more row."""
        if not self.last:
            self._writer.writerow(["key", *label])
        self.last = key
        self._writer.writerow([key, *map(_cell, label.values())])

    def encode(self) -> bytes:
        return self._text.getvalue().encode(errors="replace")


def _cell(value: Any) -> Any:
    return str(value).lower() if isinstance(value, bool) else value
