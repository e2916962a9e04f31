"""What is known of a composite, as JSON beside it or as a row of its part's table."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping
from typing import Any

from driveshard.sources.composite.renderer import Scene

Label = Mapping[str, Any]

_JSON = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"), sort_keys=True)


def label_of(scene: Scene, flipped: bool, *, tight: bool) -> Label:
    """Names of both pictures, ``flip``, the box of the whole pasted picture in pixels (``x``, ``y``, ``width``,
    ``height``) and its ``scale``; with ``tight`` also ``box_x`` and so on, the box of what is to be seen of it."""
    label = {
        "background": scene.background.name,
        "flip": flipped,
        "foreground": scene.foreground.name,
        "height": scene.height,
        "scale": scene.scale,
        "width": scene.width,
        "x": scene.x,
        "y": scene.y,
    }
    if tight:
        left, top, right, bottom = scene.patch.box
        label |= {
            "box_height": bottom - top,
            "box_width": right - left,
            "box_x": scene.x + left,
            "box_y": scene.y + top,
        }
    return label


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
        names = sorted(label)
        if not self.last:
            self._writer.writerow(["key", *names])
        self.last = key
        self._writer.writerow([key, *(_cell(label[name]) for name in names)])

    def encode(self) -> bytes:
        return self._text.getvalue().encode(errors="replace")


def _cell(value: Any) -> Any:
    return str(value).lower() if isinstance(value, bool) else value
