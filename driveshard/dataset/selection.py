"""What of a dataset is asked for, and what its manifest, whoever wrote it, says to fetch."""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass, replace

from driveshard.archive.manifest import Manifest, ManifestPart
from driveshard.core.errors import Mismatch, UsageError
from driveshard.core.formatting import shown
from driveshard.core.model import RemoteFile
from driveshard.dataset.fetch import Wanted
from driveshard.dataset.shelf import Shelf

_LARGEST = 5_497_558_138_880  # bytes; Drive stores no larger file


@dataclass(frozen=True, slots=True)
class Selection:
    """What of a dataset is asked for: ``parts`` by their numbers (None: all), and those that hold a member whose path
    one of the globs ``only`` means (none: all)."""

    parts: frozenset[int] | None = None
    only: tuple[str, ...] = ()


def parse_parts(text: str) -> frozenset[int]:
    """Part numbers from ``0-3,7``. Raises UsageError."""
    found: set[int] = set()
    for piece in text.replace(" ", "").split(","):
        match = re.fullmatch(r"(\d{1,9})(?:-(\d{1,9}))?", piece, re.ASCII)
        first, last = (int(match[1]), int(match[2] or match[1])) if match else (1, 0)
        if not first <= last < first + 10_000_000:
            raise UsageError(f"{text!r} are not part numbers", advice="Write them like 0-3 or 0,2,5-7.")
        found.update(range(first, last + 1))
    return frozenset(found)


def wanted_of(part: ManifestPart, file_id: str) -> Wanted:
    """A part as a file to have, which is known by that id where it lies."""
    return Wanted(part.number, part.name, file_id, part.size, part.md5, part.sha256)


def sound(manifest: Manifest) -> Manifest:
    """A manifest that can be followed, whoever wrote it. Raises Mismatch."""
    names: set[str] = set()
    for part in manifest.parts:
        name = unicodedata.normalize("NFC", part.name).casefold()
        if part.size > _LARGEST:
            raise Mismatch(f"the manifest gives {shown(part.name)} {part.size:,} bytes, more than Drive takes")
        if not re.fullmatch(r"[0-9a-fA-F]{32}", part.md5) or not re.fullmatch(r"[0-9a-fA-F]{64}", part.sha256):
            raise Mismatch(f"the manifest has no checksums of {shown(part.name)}, so nothing could prove it")
        if name in names:
            raise Mismatch(f"the manifest has two parts that a disk may take for one: {shown(part.name)}")
        names.add(name)
    return manifest


def places_of(manifest: Manifest, files: list[RemoteFile], shelf: Shelf) -> dict[int, str]:
    """What each part is known by where it lies, by its number: its id if the folder has that; else, as in a copy of a
    folder, the one file of its name; else its id, since lists lag. Raises Mismatch when its size is another one."""
    ids = {one.id: one for one in files}
    names: dict[str, list[RemoteFile]] = {}
    for one in files:
        names.setdefault(one.name, []).append(one)
    found = {}
    for part in manifest.parts:
        there = ids.get(shelf.id_of(part))
        if there is None and len(names.get(part.name, ())) == 1:
            there = names[part.name][0]
        if there is not None and 0 <= there.size != part.size:
            raise Mismatch(
                f"{shown(part.name)} has {there.size:,} bytes where it lies instead of {part.size:,}",
                advice="The dataset is being changed, or is damaged: run the same command again later.",
            )
        found[part.number] = shelf.id_of(part) if there is None else there.id
    return found


def of_parts(manifest: Manifest, here: set[int]) -> Manifest:
    """The manifest of some of the parts. Members that newer parts replace are not counted one by one, so that many
    are taken off as before."""
    parts = tuple(part for part in manifest.parts if part.number in here)
    if len(parts) == len(manifest.parts):
        return manifest
    samples, files = sum(part.samples for part in parts), sum(part.files for part in parts)
    less_samples = sum(part.samples for part in manifest.parts) - manifest.samples
    less_files = sum(part.files for part in manifest.parts) - manifest.files
    return replace(manifest, samples=max(0, samples - less_samples), files=max(0, files - less_files), parts=parts)
