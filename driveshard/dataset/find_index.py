"""The index of a directory's parts: the one that lies there when it fits, else one built from the zips and kept."""

from __future__ import annotations

import contextlib
import hashlib
import os
import threading
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path

from driveshard.archive import manifest as manifests
from driveshard.archive.directory import BrokenDirectory, Directory, map_directory
from driveshard.archive.index import BrokenIndex, Index, IndexedPart, open_index, save_index
from driveshard.archive.index_builder import build_index
from driveshard.archive.manifest import Manifest, manifest_in
from driveshard.core.errors import Mismatch, SourceMissing


def parts_in(directory: Path) -> list[IndexedPart]:
    """The parts that lie there, oldest first: those of the manifest, without one every zip by name.

    Raises SourceMissing when there are none, Mismatch when a part is not of the size that the manifest gives.
    """
    if (directory / manifests.NAME).is_file():
        return _described(directory, manifest_in(directory))
    found = sorted(path for path in directory.glob("*.zip") if path.is_file() and not path.name.startswith("."))
    if not found:
        raise SourceMissing(
            f"{directory} has neither a {manifests.NAME} nor zips, so it is no dataset", advice="Check the path."
        )
    return [IndexedPart(path.name, path.stat().st_size) for path in found]


def _described(directory: Path, manifest: Manifest) -> list[IndexedPart]:
    found, missing = [], []
    for part in sorted(manifest.parts, key=lambda part: part.number):
        try:
            size = (directory / part.name).stat().st_size
        except FileNotFoundError:
            missing.append(part.name)
            continue
        if size != part.size:
            raise Mismatch(
                f"{part.name} has {size:,} bytes instead of {part.size:,}", advice="Fetch the dataset again."
            )
        found.append(IndexedPart(part.name, part.size, part.sha256))
    if missing and not found:
        raise Mismatch(f"{missing[0]} is missing, and so are all parts", advice="Fetch the dataset again.")
    if missing:
        warnings.warn(
            f"{len(missing)} of {len(manifest.parts)} parts are not in {directory}, {missing[0]} the first: only what "
            "is there is read",
            stacklevel=5,
        )
    return found


def index_in(directory: Path, parts: Sequence[IndexedPart], cache: Path) -> tuple[Index, Path | None]:
    """The index of these parts and the file it is mapped from, None when it could be kept nowhere.

    Raises Mismatch when a zip is damaged."""
    places = [directory / manifests.INDEX, cache / f"{_digest(directory)}.npz"]
    deleted, hidden = _deleted_in(directory)
    for place in places:
        found = fitting(place, parts, _newest(directory, parts), hidden)
        if found is not None:
            return found, place
    built = build_index(((part, _directory(directory, part)) for part in parts), deleted, hidden)
    for place in places:
        with contextlib.suppress(OSError, BrokenIndex):
            keep(built, place)
            return open_index(place), place  # mapped, it is shared by all processes
    return built, None


def _deleted_in(directory: Path) -> tuple[frozenset[bytes], str]:
    """The paths that are deleted by the manifest there, and what tells them from others."""
    if not (directory / manifests.NAME).is_file():
        return frozenset(), ""
    manifest = manifest_in(directory)
    return manifest.deleted_paths, manifest.hidden


def fitting(file: Path, parts: Sequence[IndexedPart], newest: float = 0.0, hidden: str = "") -> Index | None:
    """The index in ``file`` if it is one of these parts without what is ``hidden``, and not older than ``newest``
    (POSIX seconds)."""
    try:
        if file.stat().st_mtime < newest:
            return None
        found = open_index(file)
    except (OSError, BrokenIndex):
        return None
    same = [(part.name, part.size) for part in found.parts] == [(part.name, part.size) for part in parts]
    return found if same and found.hidden == hidden else None


def keep(index: Index, file: Path) -> None:
    """Save it there in one step, readable by whoever may read the folder's files. Raises OSError."""
    file.parent.mkdir(parents=True, exist_ok=True)
    temporary = file.with_name(f".new-{os.getpid()}-{threading.get_ident()}-{file.name}")
    try:
        with temporary.open("wb") as stream:
            save_index(index, stream)
        os.replace(temporary, file)
    except BaseException:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise


def _newest(directory: Path, parts: Sequence[IndexedPart]) -> float:
    """When the parts changed last. A file that was moved into place keeps its own time, so its place's time counts."""
    return max(_times(directory, parts), default=0.0)


def _times(directory: Path, parts: Sequence[IndexedPart]) -> Iterator[float]:
    for part in parts:
        status = (directory / part.name).stat()
        yield status.st_mtime
        if os.name != "nt":  # where it is the time of creation
            yield status.st_ctime


def _directory(directory: Path, part: IndexedPart) -> Directory:
    try:
        return map_directory(directory / part.name)
    except (BrokenDirectory, OSError) as error:
        raise Mismatch(
            f"{part.name} cannot be read: {error}", advice="Run `driveshard verify` on it, and fetch it again."
        ) from error


def _digest(directory: Path) -> str:
    return hashlib.sha256(os.fsencode(directory.resolve())).hexdigest()[:24]
