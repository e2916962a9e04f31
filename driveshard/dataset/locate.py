"""Where a finished dataset lies, for reading: a folder on Drive, or a directory with its parts and manifest."""

from __future__ import annotations

import os
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import BinaryIO, Protocol
from urllib.parse import urlsplit

from driveshard.archive import manifest as manifests
from driveshard.archive.manifest import Manifest, ManifestPart
from driveshard.archive.zip_reader import DAMAGED, damage_in_words, open_zip
from driveshard.config.settings import Settings
from driveshard.core.errors import Mismatch, NotFound, SourceMissing
from driveshard.core.events import Emit
from driveshard.core.formatting import human_size
from driveshard.core.model import RemoteFile
from driveshard.core.paths import path_of
from driveshard.storage.base import Destination, folder_gone
from driveshard.storage.registry import open_destination
from driveshard.storage.retry import Retry
from driveshard.upload.ledger.reader import find_record, find_records, settings_for

_MOST_OF_MANIFEST = 256 * 1024 * 1024  # bytes; a million parts


class Shelf(Protocol):
    """A place that holds one dataset's files."""

    def describe(self) -> str:
        """A few words for the user."""

    def files(self) -> list[RemoteFile]:
        """All files there. Raises NotFound when there is no such place."""

    def find(self, part: ManifestPart) -> RemoteFile | None:
        """The part's file, also when ``files`` does not show it yet."""

    def read(self, file_id: str, start: int, length: int) -> bytes:
        """Bytes of one of the files; fewer at its end."""

    def id_of(self, part: ManifestPart) -> str:
        """What ``read`` knows the part by."""

    def close(self) -> None:
        """Let go of connections."""


class FolderShelf:
    """A folder on a destination; ``name`` is the dataset's, when this machine pushed it."""

    def __init__(self, destination: Destination, folder_id: str, retry: Retry, name: str | None = None) -> None:
        self._destination = destination
        self._folder_id = folder_id
        self._retry = retry
        self._name = name

    def describe(self) -> str:
        return f"folder {self._folder_id} on {self._destination.describe()}"

    def files(self) -> list[RemoteFile]:
        """As ``Shelf``. Raises NotFound, by the dataset's name when it is known."""
        try:
            found = self._retry.call(lambda: self._destination.children(self._folder_id), doing="listing the folder")
            if not found:  # a folder that is not there may list as empty, too
                self._retry.call(lambda: self._destination.get(self._folder_id), doing="looking for the folder")
            return found
        except NotFound as error:
            if self._name is None:
                raise
            raise folder_gone(self._name, self._destination, trashed=error.trashed) from error

    def find(self, part: ManifestPart) -> RemoteFile | None:
        try:
            return self._retry.call(lambda: self._destination.get(part.id), doing=f"looking for {part.name}")
        except NotFound:
            return None

    def read(self, file_id: str, start: int, length: int) -> bytes:
        return self._retry.call(lambda: self._destination.read(file_id, start, length), doing="reading")

    def id_of(self, part: ManifestPart) -> str:
        return part.id

    def close(self) -> None:
        getattr(self._destination, "close", lambda: None)()


class DirectoryShelf:
    """A directory on this machine. Files are known by their names."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    def describe(self) -> str:
        return str(self.directory)

    def files(self) -> list[RemoteFile]:
        try:
            entries = sorted(self.directory.iterdir())
            return [RemoteFile(one.name, one.name, one.stat().st_size) for one in entries if one.is_file()]
        except OSError as error:
            raise _unreadable(self.directory, error) from error

    def find(self, part: ManifestPart) -> RemoteFile | None:
        path = self.directory / part.name
        return RemoteFile(part.name, part.name, path.stat().st_size) if path.is_file() else None

    def read(self, file_id: str, start: int, length: int) -> bytes:
        path = self.directory / file_id
        try:
            with path.open("rb") as stream:
                stream.seek(start)
                return stream.read(length)
        except FileNotFoundError:
            raise
        except OSError as error:
            raise _unreadable(path, error) from error

    def opened(self, part: ManifestPart) -> BinaryIO:
        """The part as a file. Raises SourceMissing when it cannot be read."""
        path = self.directory / part.name
        try:
            return path.open("rb")
        except OSError as error:
            raise _unreadable(path, error) from error

    def id_of(self, part: ManifestPart) -> str:
        return part.name

    def close(self) -> None:
        """Nothing is held."""


def _unreadable(path: Path, error: OSError) -> SourceMissing:
    return SourceMissing(
        f"{path} cannot be read: {error.strerror or error}", advice="Check its permissions and the disk it is on."
    )


def open_shelf(what: str, settings: Settings, emit: Emit) -> Shelf:
    """The place that WHAT names: a folder's link or id, a dataset's name, or a directory that holds one.

    Needs no login for what is shared. Raises SourceMissing when nothing is called so, UsageError for a name that
    several datasets have.
    """
    settings = replace(settings, anonymous=True)
    directory = path_of(what.removeprefix("file:"))
    if os.path.isfile(directory / manifests.NAME):  # noqa: PTH113
        return DirectoryShelf(directory)
    if what.startswith(("http://", "https://", "drive:")):
        return _on_drive(what.removeprefix("drive:"), _reaching(what, settings), emit)
    return _named(what, settings, emit)


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
    return FolderShelf(open_destination(record.to, settings), record.folder_id, retry, record.name)


def _reaching(link: str, settings: Settings) -> Settings:
    """A link of an emulator is looked up at that emulator, unless the environment names one."""
    from driveshard.core.urls import is_loopback

    if settings.drive_url is None and is_loopback(link):
        return replace(settings, drive_url=f"http://{urlsplit(link).netloc}/")
    return settings


def _on_drive(text: str, settings: Settings, emit: Emit) -> Shelf:
    from driveshard.storage.drive.destination import folder_id_of

    folder_id = folder_id_of(text)
    return FolderShelf(open_destination("drive:", settings), folder_id, Retry(settings.clock, settings.patience, emit))


def find_manifest(shelf: Shelf, files: list[RemoteFile]) -> Manifest:
    """The dataset's manifest. Raises SourceMissing when it is not published, Mismatch when it cannot be read."""
    found = [one for one in files if one.name == manifests.NAME]
    if not found:
        raise SourceMissing(
            f"{shelf.describe()} has no {manifests.NAME}",
            advice="Either no dataset is there, or its upload is not complete: run the push again.",
        )
    if found[0].size > _MOST_OF_MANIFEST:
        raise Mismatch(f"{manifests.NAME} has {human_size(found[0].size)}, far more than one ever needs")
    return Manifest.decode(shelf.read(found[0].id, 0, found[0].size))


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
