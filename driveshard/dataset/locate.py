"""Where a finished dataset lies, for reading: a folder on Drive, or a directory with its parts and manifest."""

from __future__ import annotations

import os
import re
import zipfile
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from urllib.parse import urlsplit

from driveshard.archive import manifest as manifests
from driveshard.archive.manifest import Manifest, ManifestPage, ManifestPart
from driveshard.archive.zip_reader import DAMAGED, damage_in_words, open_zip
from driveshard.config.settings import Settings
from driveshard.core.errors import Mismatch, NotFound, SourceMissing, UsageError
from driveshard.core.events import Emit
from driveshard.core.formatting import human_size, shown
from driveshard.core.model import RemoteFile
from driveshard.core.paths import path_of
from driveshard.dataset.shelf import DirectoryShelf, FolderShelf, Shelf
from driveshard.storage.registry import open_destination
from driveshard.storage.retry import Retry
from driveshard.upload.ledger.reader import find_record, find_records, settings_for

__all__ = ["DirectoryShelf", "FolderShelf", "Shelf", "damage_told", "find_manifest", "open_part", "open_shelf"]

_MOST_OF_MANIFEST = 256 * 1024 * 1024  # bytes; a million parts
_GROWTH = 4 * 1024 * 1024  # bytes that it may have grown by since the list that tells its size was true


def open_shelf(what: str, settings: Settings, emit: Emit) -> Shelf:
    """The place that WHAT names: a folder's link or id, a dataset's name, or a directory that holds one.

    Needs no login for what is shared. Raises SourceMissing when nothing is called so, UsageError for a name that
    several datasets have.
    """
    settings = replace(settings, anonymous=True)
    directory = path_of(what.removeprefix("file:"))
    if os.path.isfile(directory / manifests.NAME):  # noqa: PTH113
        return DirectoryShelf(directory)
    if (text := link_in(what)) is not None:
        return _on_drive(text, _reaching(text, settings), emit)
    return _named(what, settings, emit)


def link_in(what: str) -> str | None:
    """The link, or the id behind ``drive:``, that WHAT is; None when it is a name or a path."""
    text = what.strip().strip("<>\"'")
    if re.match(r"(drive|docs)\.google\.com/", text):
        text = f"https://{text}"
    return text.removeprefix("drive:") if text.startswith(("http://", "https://", "drive:")) else None


def open_place(what: str, settings: Settings, emit: Emit) -> Shelf:
    """As ``open_shelf``, and ``file:DIR`` may be any directory."""
    directory = path_of(what.removeprefix("file:"))
    if what.startswith("file:"):
        if not directory.is_dir():
            raise SourceMissing(f"there is no directory {directory}", advice="Check the path; is its disk connected?")
        return DirectoryShelf(directory)
    return open_shelf(what, settings, emit)


def _named(what: str, settings: Settings, emit: Emit) -> Shelf:
    try:
        find_records(settings, what)
    except SourceMissing as missing:
        if len(what) >= 15 and what.replace("-", "").replace("_", "").isalnum() and what.isascii():
            return _on_drive(what, settings, emit)
        # Only now: the folder that was packed often lies here under the dataset's name.
        if os.path.isdir(path_of(what.removeprefix("file:"))):  # noqa: PTH112
            raise SourceMissing(
                f"{what} has no {manifests.NAME}, so it is no dataset", advice="Check the path."
            ) from missing
        raise SourceMissing(
            f"there is no dataset, directory or Drive folder {what}",
            advice=missing.advice
            if "mean" in missing.advice
            else "Give a folder's link or id, a name, or a directory.",
        ) from missing
    record = find_record(settings, what)
    if record.folder_id is None:
        raise SourceMissing(f"{what} has no folder yet", advice="Push it first.")
    settings = settings_for(record, settings)
    retry = Retry(settings.clock, settings.patience, emit)
    return FolderShelf(open_destination(record.to, settings), record.folder_id, retry, record.name, record.manifest_id)


def _reaching(link: str, settings: Settings) -> Settings:
    """A link of an emulator is looked up at that emulator, unless the environment names one."""
    from driveshard.core.urls import is_loopback

    if settings.drive_url is None and is_loopback(link):
        return replace(settings, drive_url=f"http://{urlsplit(link).netloc}/")
    return settings


def _on_drive(text: str, settings: Settings, emit: Emit) -> Shelf:
    from driveshard.dataset.ways import shelf_on_drive
    from driveshard.storage.drive.links import folder_link, is_drive_link

    link = folder_link(text)
    if "/" in text and not is_drive_link(text):
        raise UsageError(f"{shown(text)!r} is not a Drive folder: it leads to somewhere else than Google Drive")
    return shelf_on_drive(link, settings, emit)


def find_manifest(shelf: Shelf, files: list[RemoteFile]) -> Manifest:
    """The dataset's manifest, whole. Raises SourceMissing when it is not published, Mismatch when it cannot be read."""
    try:
        return _manifest(shelf, files)
    except _PageGone:  # a push may have put others in its place just now, and a manifest that tells of them
        return _manifest(shelf, shelf.files())


class _PageGone(Mismatch):
    """A page that the manifest lists is not there."""


def _manifest(shelf: Shelf, files: list[RemoteFile]) -> Manifest:
    found = [one for one in files if one.name == manifests.NAME]
    if not found:
        raise SourceMissing(
            f"{shelf.describe()} has no {manifests.NAME}",
            advice="Either no dataset is there; or its upload is not complete: run the push again; or it is so new that"
            " Drive does not list it yet: try again in some minutes.",
        )
    told = found[0].size
    most = _MOST_OF_MANIFEST + 1 if told < 0 else told + _GROWTH
    data = b"" if told > _MOST_OF_MANIFEST else shelf.read(found[0].id, 0, most)
    size = max(told, len(data))
    if size > _MOST_OF_MANIFEST:
        raise Mismatch(f"{manifests.NAME} has {human_size(size)}, far more than one ever needs")
    return Manifest.decode(data, lambda pages: _fetched(shelf, files, pages))


def _fetched(shelf: Shelf, files: list[RemoteFile], pages: Sequence[ManifestPage]) -> Iterator[bytes]:
    """The pages' bytes, as many at a time as are fetched side by side. As with parts, an id that the folder does not
    have gives way, in a copy of a folder, to the one file of that name."""
    ids = {one.id for one in files}
    names: dict[str, list[str]] = {}
    for one in files:
        names.setdefault(one.name, []).append(one.id)

    def read(page: ManifestPage) -> bytes:
        file_id = shelf.id_of(page)
        if file_id not in ids and len(names.get(page.name, ())) == 1:
            file_id = names[page.name][0]
        try:
            return shelf.read(file_id, 0, page.size)
        except (NotFound, FileNotFoundError) as error:
            told = manifests.missing(page)
            raise _PageGone(told.message, advice=told.advice) from error

    with ThreadPoolExecutor(shelf.at_once, "pages") as pool:
        for begin in range(0, len(pages), shelf.at_once):
            yield from pool.map(read, pages[begin : begin + shelf.at_once])


def open_part(shelf: Shelf, part: ManifestPart) -> zipfile.ZipFile:
    """A part, to be read by ranges. Raises Mismatch when it is not the zip it should be."""
    file_id = shelf.id_of(part)
    with damage_told(part):
        return open_zip(lambda start, length: shelf.read(file_id, start, length), part.size)


@contextmanager
def damage_told(part: ManifestPart) -> Iterator[None]:
    """What zipfile finds wrong in a part, as a Mismatch."""
    try:
        yield
    except FileNotFoundError as error:
        raise Mismatch(f"{part.name} is missing", advice="Fetch it again.") from error
    except DAMAGED as error:
        raise Mismatch(
            f"{part.name} is damaged ({damage_in_words(error)})",
            advice="Run `driveshard verify` on it, and push again if you can.",
        ) from error
