"""A folder that driveshard did not make: its files, under names that any disk takes, as things to fetch."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import PurePosixPath

from driveshard.archive import manifest as manifests
from driveshard.core.errors import Mismatch
from driveshard.core.formatting import shown
from driveshard.core.model import RemoteFile
from driveshard.dataset.fetch import Wanted
from driveshard.dataset.shelf import Shelf

_DEEPEST, _MOST_ITEMS = 100, 500_000
_LONGEST = 200  # bytes of a step; 255 is what disks take, and the temp file's name is longer
_REFUSED = re.compile(r'[<>:"/\\|?*\x00-\x1f\x7f-\x9f]')
_PART = re.compile(r"(.+)-\d{5,}\.zip")
_BESIDE = (manifests.INDEX, "README.md", "preview.jpg")
_DEVICE = re.compile(r"(con|prn|aux|nul|com\d|lpt\d|conin\$|conout\$)(?=\.|$)", re.IGNORECASE)


@dataclass
class Foreign:
    """What is to be fetched, by paths with ``/`` as in ``Wanted.name``; ``left_out`` are Docs, with their paths."""

    wanted: list[Wanted] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)
    renamed: int = 0


def foreign(shelf: Shelf, files: list[RemoteFile], match: Callable[[str], object]) -> Foreign:
    """The files below a folder whose paths ``match``, each under a name of its own. Raises Mismatch for a folder that
    has no end."""
    found = Foreign()
    taken: set[str] = set()
    for path, one in _walk(shelf, files, "", {""}, 0):
        if one.document:
            found.left_out.append(path)
            continue
        name = _free(path, taken)
        found.renamed += name.rpartition("/")[2] != one.name
        if match(name):
            size = None if one.size < 0 else one.size
            number = len(found.wanted)
            found.wanted.append(Wanted(number, name, one.id, size, one.md5 or "", one.sha256 or ""))
    return found


def _walk(
    shelf: Shelf, files: list[RemoteFile], above: str, seen: set[str], depth: int
) -> Iterator[tuple[str, RemoteFile]]:
    """(safe path, file) of everything below; folders that two paths lead to, once."""
    if depth > _DEEPEST:
        raise Mismatch("the folders lie too deep in one another", advice="Pull one of the folders below instead.")
    names: set[str] = set()
    for one in sorted(files, key=lambda one: (one.name, one.id)):
        path = f"{above}{safe_name(one.name)}"
        if not one.folder:
            yield path, one
        elif one.id not in seen:
            seen.add(one.id)
            if len(seen) > _MOST_ITEMS:
                raise Mismatch("there are more folders than a Drive can hold")
            path = _free(path, names)
            yield from _walk(shelf, shelf.inside(one), f"{path}/", seen, depth + 1)


def safe_name(name: str) -> str:
    """A name as a file's on any system: no path, no device, nothing hidden by its end, not too long."""
    text = unicodedata.normalize("NFC", name).encode("utf-8", "replace").decode()
    text = _REFUSED.sub("_", text)
    text = "".join(one if one.isprintable() else "_" for one in text)
    text = re.sub(r"[. ]+$", lambda end: "_" * len(end[0]), text) or "_"
    if _DEVICE.match(text):
        text = f"_{text}"
    stem, suffix = PurePosixPath(text).stem, PurePosixPath(text).suffix[:20]
    while len((stem + suffix).encode()) > _LONGEST:
        stem = stem[:-1]
    return stem + suffix


def _free(path: str, taken: set[str]) -> str:
    """The path, or one beside it when a disk that minds neither case nor form has it already; or would take it for
    one of our own."""
    folder, slash, name = path.rpartition("/")
    if name.startswith(".") and name.endswith(".part"):
        name = f"_{name}"
    stem, dot, suffix = name.rpartition(".") if "." in name[1:] else (name, "", "")
    count = 1
    found = folder + slash + name
    while unicodedata.normalize("NFD", found).casefold() in taken:
        count += 1
        found = f"{folder}{slash}{stem} ({count}){dot}{suffix}"
    taken.add(unicodedata.normalize("NFD", found).casefold())
    return found


def unfinished(files: list[RemoteFile]) -> bool:
    """Whether files beside which no manifest lies are a dataset's all the same: a push is not through, or the list does
    not show all of it yet. What the parts say of themselves is told to their owner alone; others go by the names."""
    if any("job" in one.properties and "part" in one.properties for one in files):
        return True
    parts = [match[1] for one in files if not one.folder and (match := _PART.fullmatch(one.name))]
    return len(set(parts)) == 1 and all(one.name in _BESIDE or _PART.fullmatch(one.name) for one in files)


def told_left_out(found: Foreign) -> list[str]:
    """Sentences about what is not as it lies on Drive."""
    lines = []
    if found.left_out:
        some = ", ".join(shown(one) for one in found.left_out[:5]) + (", ..." if len(found.left_out) > 5 else "")
        lines.append(f"left out, since they have no content of their own (Google Docs, shortcuts): {some}")
    if found.renamed:
        lines.append(f"{found.renamed:,} names were made safe for this disk")
    return lines
