"""What the user should hear of the generator's images although nothing is wrong with their files."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from PIL import Image

from driveshard.core.errors import BrokenPicture
from driveshard.core.formatting import plural, shown
from driveshard.sources.composite.images import Picture, load_foreground, visible_box

_NAMED = 3
_MOST = 200  # foregrounds that are decoded for this: the usual mistake is made with all of them
_BLOWN_UP = 2  # pasted at more than so many times its own size, a foreground is a blur
_FILLED = 0.25  # of its rectangle; with less, what is to be seen is pasted at less than half the scale


def remarks(foregrounds: Sequence[Picture], largest: int, threshold: int | None = None) -> Iterator[str]:
    """Sentences on foregrounds that will not look as expected when pasted with their longer edge at up to ``largest``
    pixels, and masked where alpha is above ``threshold``. Decodes up to 200 of them, spread over all, and passes over
    what cannot be decoded."""
    step = max(1, -(-len(foregrounds) // _MOST))
    found: dict[str, list[str]] = {"rectangle": [], "small": [], "margin": [], "faint": []}
    for picture in foregrounds[::step]:
        try:
            image = load_foreground(picture, max(64, _BLOWN_UP * largest))
        except BrokenPicture:
            continue
        for kind in _kinds(image, largest, threshold):
            found[kind].append(picture.name)
    if found["rectangle"]:
        yield f"{_said(found['rectangle'], 'no transparency')}: pasted, and masked, as a whole rectangle"
    if found["small"]:
        yield f"{_said(found['small'], 'few pixels')}: pasted at up to {largest} pixels, more than twice that size"
    if found["margin"]:
        yield (
            f"{_said(found['margin'], 'a large empty margin')}: scaled and placed with it, so what is to be seen is"
            " small; crop it"
        )
    if found["faint"]:
        yield f"{_said(found['faint'], f'no alpha above {threshold}')}: pasted, and their masks are empty"


def _kinds(image: Image.Image, largest: int, threshold: int | None) -> Iterator[str]:
    low, high = (int(level) for level in image.getchannel("A").getextrema())  # type: ignore[arg-type]
    if low == 255:
        yield "rectangle"
    if threshold is not None and high <= threshold:
        yield "faint"
    if max(image.size) * _BLOWN_UP < largest:
        yield "small"
    box = visible_box(image)
    if box is not None and (box[2] - box[0]) * (box[3] - box[1]) < _FILLED * image.width * image.height:
        yield "margin"


def _said(names: list[str], what: str) -> str:
    return f"{plural(len(names), 'foreground')} with {what} ({listed(names)})"


def listed(names: Sequence[str]) -> str:
    """The first few names, and how many more there are."""
    more = len(names) - _NAMED
    return ", ".join(map(shown, names[:_NAMED])) + (f" and {more:,} more" if more > 0 else "")


def none_is_good(bad: Sequence[BrokenPicture]) -> BrokenPicture:
    """The error for a folder in which every image is broken."""
    first = bad[0]
    return BrokenPicture(
        f"none of the {len(bad):,} images can be read: {first}", path=first.path, why=first.why, advice=first.advice
    )
