"""A dataset as a notebook shows it: a few samples on a contact sheet."""

from __future__ import annotations

import base64
import html
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from driveshard.archive.contact_sheet import Tile, contact_sheet
from driveshard.core.errors import DriveshardError
from driveshard.core.formatting import plural
from driveshard.dataset.decode import IMAGES, extension

Samples = Callable[[Sequence[int]], Sequence[Mapping[str, Any]]]
"""Numbers -> samples, their fields as bytes."""

_SHOWN = 12


def as_html(name: str, count: int, fields: Sequence[str], samples: Samples) -> str:
    """A line about the dataset and a sheet of samples from all over it, when they are pictures."""
    shown = ", ".join(fields[:20]) or "none"
    line = f"<p><b>{html.escape(name)}</b>: {html.escape(plural(count, 'sample'))}, fields {html.escape(shown)}</p>"
    try:
        tiles = _tiles(samples(sorted({at * count // _SHOWN for at in range(_SHOWN)} & set(range(count)))))
    except DriveshardError as error:
        return f"<div>{line}<p>{html.escape(str(error))}</p></div>"
    if not tiles:
        return f"<div>{line}</div>"
    sheet = base64.b64encode(contact_sheet(tiles, tile=96)).decode("ascii")
    return f'<div>{line}<img alt="samples" src="data:image/jpeg;base64,{sheet}"></div>'


def _tiles(samples: Sequence[Mapping[str, Any]]) -> list[Tile]:
    found = []
    for sample in samples:
        pictures = [field for field in sample if field != "__key__" and extension(field) in IMAGES]
        masks = [field for field in pictures if "mask" in field]
        images = [field for field in pictures if field not in masks] or masks
        if images:
            mask = sample[masks[0]] if masks and masks[0] != images[0] else None
            found.append(Tile(sample["__key__"], sample[images[0]], mask))
    return found
