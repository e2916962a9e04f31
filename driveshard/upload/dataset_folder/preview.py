"""The picture beside the parts: samples from all over the dataset, read by ranges."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TypeVar

from driveshard.archive.contact_sheet import IMAGES, Tile, contact_sheet, tiles_of
from driveshard.archive.manifest import Manifest, ManifestPart
from driveshard.archive.names import OTHER

T = TypeVar("T")
Read = Callable[[ManifestPart, int, int], bytes]
"""(part, start, length) -> bytes; called from several threads."""

_TILES = 24
_AT_ONCE = 6
_KIB = 1024
_LEAST, _MOST = 64 * _KIB, 4096 * _KIB  # bytes read for a tile
_ALTOGETHER = 12 * 1024 * _KIB
_GAP = 256 * _KIB  # bytes that are quicker read than left out with a request more
_SAMPLES = 3  # that a window has room for: it begins somewhere within the first
_ENTRY = 46  # bytes of a member in the zip's directory, its name aside


@dataclass(frozen=True, slots=True)
class Window:
    """A range of a part to look for ``tiles`` samples in."""

    part: ManifestPart
    start: int
    length: int
    tiles: int


def preview(
    manifest: Manifest,
    kinds: Mapping[str, int],
    read: Read,
    format: str = "JPEG",  # noqa: A002
) -> bytes | None:
    """A contact sheet of samples at even steps through all the parts; None when the samples are not images. ``kinds``
    counts the members a kind, as ``names.kinds_of``, and is empty when nobody knows; ``format`` is JPEG or PNG."""
    if kinds and not any(kind == OTHER or f".{kind}".endswith(IMAGES) for kind in kinds):
        return None
    deleted = manifest.deleted_paths

    def tiles_in(window: Window) -> list[Tile]:
        return _tiles_in(window, read(window.part, window.start, window.length), deleted)

    with ThreadPoolExecutor(_AT_ONCE, "preview") as pool:
        found = pool.map(tiles_in, windows(manifest))
        tiles = [tile for some in found for tile in some]
    return contact_sheet(tiles[:_TILES], format=format) if tiles else None


def windows(manifest: Manifest) -> list[Window]:
    """Where to look: up to 24 places at even steps through the bytes of all parts, those close together as one."""
    ends = [_end_of_members(part) for part in manifest.parts]
    total = sum(ends)
    length = min(max(_LEAST, _SAMPLES * total // max(1, manifest.samples)), _MOST)
    count = max(1, min(_TILES, _ALTOGETHER // length))
    found: list[Window] = []
    before, number = 0, 0
    for part, end in zip(manifest.parts, ends, strict=True):
        while number < count and (2 * number + 1) * total < 2 * count * (before + end):
            at = (2 * number + 1) * total // (2 * count) - before
            start = max(0, min(at, end - length))
            reach = start + length if start + length < end else min(end + _LEAST, part.size)
            _add(found, part, start, reach - start)
            number += 1
        before += end
    return found


def _end_of_members(part: ManifestPart) -> int:
    """About where the zip's directory begins; the part's first name stands for all."""
    return max(1, part.size - part.files * (_ENTRY + len(part.first.encode("utf-8", "replace"))))


def _add(found: list[Window], part: ManifestPart, start: int, length: int) -> None:
    last = found[-1] if found else None
    if last is not None and last.part is part and start <= last.start + last.length + _GAP:
        reach = max(last.start + last.length, start + length)
        found[-1] = Window(part, last.start, reach - last.start, last.tiles + 1)
    else:
        found.append(Window(part, start, length, 1))


def _tiles_in(window: Window, data: bytes, deleted: frozenset[bytes]) -> list[Tile]:
    tiles = tiles_of(data, deleted)
    whole = max(map(_pictures, tiles), default=0)  # at either end of the window, a mask or another may lie beyond
    if tiles and window.start > 0 and _pictures(tiles[0]) < whole:
        del tiles[0]
    if tiles and window.start + window.length < _end_of_members(window.part) and _pictures(tiles[-1]) < whole:
        del tiles[-1]
    return spread(tiles, window.tiles)


def _pictures(tile: Tile) -> int:
    return sum(picture is not None for picture in tile.pictures)


def spread(items: Sequence[T], count: int) -> list[T]:
    """Up to ``count`` items, evenly from first to last."""
    if len(items) <= count:
        return list(items)
    return [items[round(index * (len(items) - 1) / max(1, count - 1))] for index in range(count)]
