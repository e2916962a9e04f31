"""Places that hold one dataset's files, as their readers see them: a folder on Drive, on Google's site for visitors
without a login, or on this machine."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Protocol
from urllib.request import url2pathname

from driveshard.archive import manifest as manifests
from driveshard.archive.manifest import ManifestPage, ManifestPart
from driveshard.core.errors import ConfigError, NotFound, SourceMissing
from driveshard.core.events import ignore
from driveshard.core.model import RemoteFile
from driveshard.storage.base import Destination, folder_gone
from driveshard.storage.drive.links import Link
from driveshard.storage.retry import Retry

if TYPE_CHECKING:  # Google's client takes a third of a second to load
    from driveshard.storage.drive.loan import DriveLoan
    from driveshard.storage.drive.site import Site

_BLOCK = 1024 * 1024  # bytes in memory at a time


@dataclass(frozen=True, slots=True)
class Lent:
    """The way to a shelf for a process that has neither this machine's login nor its ledgers. Picklable; ``open`` takes
    the settings over there. ``ends`` says that it is good for an hour at most."""

    open: Callable[[Any], Shelf] = field(repr=False)
    ends: bool = False


class Shelf(Protocol):
    """A place that holds one dataset's files."""

    def describe(self) -> str:
        """A few words for the user."""

    def files(self) -> list[RemoteFile]:
        """All files there. Raises NotFound when there is no such place."""

    def find(self, file_id: str, name: str) -> RemoteFile | None:
        """A file as it is now, whatever ``files`` shows: a list may lag behind."""

    def read(self, file_id: str, start: int, length: int) -> bytes:
        """Bytes of one of the files; fewer at its end."""

    def stream(
        self, file_id: str, start: int, length: int, write: Callable[[bytes], None], on_total: Callable[[int], None]
    ) -> None:
        """Bytes of one of the files, to ``write`` as they come; the file's size to ``on_total`` before them, where it
        is told. Tries once; either function may raise to end it."""

    def patiently(self, step: Callable[[], None], doing: str) -> None:
        """``step()``, again while its failures are of the kinds that pass; ``doing`` names it for the user."""

    def inside(self, folder: RemoteFile) -> list[RemoteFile]:
        """All that is in one of the folders there."""

    def id_of(self, part: ManifestPart | ManifestPage) -> str:
        """What ``read`` knows the part, or the page, by."""

    @property
    def at_once(self) -> int:
        """Files that are best fetched side by side."""

    @property
    def way(self) -> str:
        """How it is read and why, for the user; empty when there is nothing to say."""

    def lend(self, *, renew: bool = False) -> Lent:
        """The way to it for a worker elsewhere, with an access token where one is needed, good for half an hour at
        least; another one with ``renew``."""

    def abort(self) -> None:
        """Break all requests under way."""

    def close(self) -> None:
        """Let go of connections."""


class FolderShelf:
    """A folder on a destination; ``name`` is the dataset's and ``manifest_id`` its manifest's, when this machine pushed
    it."""

    at_once = 4

    def __init__(
        self,
        destination: Destination,
        folder_id: str,
        retry: Retry,
        name: str | None = None,
        manifest_id: str | None = None,
    ) -> None:
        self._destination = destination
        self._folder_id = folder_id
        self._retry = retry
        self._name = name
        self._manifest_id = manifest_id
        self.way = ""
        self._seen: list[RemoteFile] | None = None

    def describe(self) -> str:
        return f"folder {self._folder_id} on {self._destination.describe()}"

    def look(self) -> None:
        """List the folder now, for the next call of ``files``. Raises NotFound when it is not there or not shown."""
        self._seen = self.files()

    def files(self) -> list[RemoteFile]:
        """As ``Shelf``. Raises NotFound, by the dataset's name when it is known."""
        if self._seen is not None:
            found, self._seen = self._seen, None
            return found
        try:
            found = self._retry.call(lambda: self._destination.children(self._folder_id), doing="listing the folder")
            if not found:  # a folder that is not there may list as empty, too
                there = self._retry.call(lambda: self._destination.get(self._folder_id), doing="looking for the folder")
                if not there.folder:
                    raise SourceMissing(
                        f"{there.name} is a file, and a folder is meant",
                        advice="Give the link of the folder that it is in.",
                    )
        except NotFound as error:
            if self._name is None:
                raise
            raise folder_gone(self._name, self._destination, trashed=error.trashed) from error
        return found + self._not_listed(found)

    def _not_listed(self, found: list[RemoteFile]) -> list[RemoteFile]:
        """The manifest, when it is known and the list does not show it yet."""
        if self._manifest_id is None or any(one.name == manifests.NAME for one in found):
            return []
        manifest_id = self._manifest_id
        try:
            return [self._retry.call(lambda: self._destination.get(manifest_id), doing="looking for the manifest")]
        except NotFound:
            return []

    def find(self, file_id: str, name: str) -> RemoteFile | None:
        try:
            return self._retry.call(lambda: self._destination.get(file_id), doing=f"looking for {name}")
        except NotFound:
            return None

    def read(self, file_id: str, start: int, length: int) -> bytes:
        return self._retry.call(lambda: self._destination.read(file_id, start, length), doing="reading")

    def stream(
        self, file_id: str, start: int, length: int, write: Callable[[bytes], None], on_total: Callable[[int], None]
    ) -> None:
        streamed = getattr(self._destination, "stream", None)
        if streamed is not None:
            streamed(file_id, start, length, write, on_total)
            return
        while length > 0 and (block := self._destination.read(file_id, start, min(length, _BLOCK))):
            write(block)
            start, length = start + len(block), length - len(block)

    def patiently(self, step: Callable[[], None], doing: str) -> None:
        self._retry.call(step, doing=doing)

    def inside(self, folder: RemoteFile) -> list[RemoteFile]:
        return self._retry.call(lambda: self._destination.children(folder.id), doing="listing a folder")

    def id_of(self, part: ManifestPart | ManifestPage) -> str:
        return part.id

    def lend(self, *, renew: bool = False) -> Lent:
        lend = getattr(self._destination, "lend_reading", None)
        if lend is None:  # a folder on a disk
            there = self._destination.get(self._folder_id)
            return DirectoryShelf(Path(url2pathname((there.link or "").removeprefix("file:")))).lend()
        loan: DriveLoan = self._retry.call(partial(lend, renew=renew), doing="lending the login")
        return Lent(partial(_lent_folder, loan, self._folder_id), ends=loan.token is not None)

    def abort(self) -> None:
        getattr(self._destination, "abort", lambda: None)()

    def close(self) -> None:
        getattr(self._destination, "close", lambda: None)()


class SiteShelf:
    """A shared folder on Google's site for visitors without a login: one thing at a time, and no checksums."""

    at_once = 1

    def __init__(self, site: Site, folder: Link, retry: Retry, way: str = "") -> None:
        self._site = site
        self._folder = folder
        self._retry = retry
        self.way = way
        self._seen: list[RemoteFile] | None = None
        site.show_key(folder.id, folder.resource_key)

    def describe(self) -> str:
        return f"folder {self._folder.id} on {self._site.describe()}"

    def look(self) -> None:
        """As ``FolderShelf.look``. Raises AuthError when the folder is not shown to strangers."""
        self._seen = self.files()

    def files(self) -> list[RemoteFile]:
        """As ``Shelf.files``; sizes are not told."""
        if self._seen is not None:
            found, self._seen = self._seen, None
            return found
        return self._retry.call(lambda: self._site.files(self._folder), doing="listing the folder")

    def find(self, file_id: str, name: str) -> RemoteFile | None:
        """As ``Shelf.find``: its size is asked for."""
        try:
            size = self._retry.call(lambda: self._site.size(file_id), doing=f"looking for {name}")
        except NotFound:
            return None
        return RemoteFile(file_id, name, size)

    def read(self, file_id: str, start: int, length: int) -> bytes:
        return self._retry.call(lambda: self._site.read(file_id, start, length), doing="reading")

    def stream(
        self, file_id: str, start: int, length: int, write: Callable[[bytes], None], on_total: Callable[[int], None]
    ) -> None:
        self._site.stream(file_id, start, length, write, on_total)

    def patiently(self, step: Callable[[], None], doing: str) -> None:
        self._retry.call(step, doing=doing)

    def inside(self, folder: RemoteFile) -> list[RemoteFile]:
        link = self._site.link_to(folder.id)
        return self._retry.call(lambda: self._site.files(link), doing="listing a folder")

    def id_of(self, part: ManifestPart | ManifestPage) -> str:
        return part.id

    def lend(self, *, renew: bool = False) -> Lent:
        return Lent(partial(_lent_site, self._site.base_url, self._folder, self._site.keys))

    def abort(self) -> None:
        self._site.abort()

    def close(self) -> None:
        self._site.close()


class DirectoryShelf:
    """A directory on this machine, or on a disk of the network: read by one, and in long strides. Files are known by
    their names."""

    at_once = 1
    way = ""

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

    def find(self, file_id: str, name: str) -> RemoteFile | None:
        path = self.directory / name
        return RemoteFile(name, name, path.stat().st_size) if path.is_file() else None

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

    def stream(
        self, file_id: str, start: int, length: int, write: Callable[[bytes], None], on_total: Callable[[int], None]
    ) -> None:
        path = self.directory / file_id
        try:
            with path.open("rb", buffering=0) as stream:
                on_total(os.fstat(stream.fileno()).st_size)
                stream.seek(start)
                while length > 0 and (block := stream.read(min(length, _BLOCK))):
                    write(block)
                    length -= len(block)
        except OSError as error:
            raise _unreadable(path, error) from error

    def patiently(self, step: Callable[[], None], doing: str) -> None:
        step()

    def inside(self, folder: RemoteFile) -> list[RemoteFile]:
        """As ``Shelf.inside``; what a symbolic link leads to is not looked at."""
        found = []
        try:
            for one in sorted(os.scandir(self.directory / folder.id), key=lambda one: one.name):
                path = f"{folder.id}/{one.name}" if folder.id else one.name
                if one.is_dir(follow_symlinks=False):
                    found.append(RemoteFile(path, one.name, 0, folder=True))
                elif one.is_file(follow_symlinks=False):
                    found.append(RemoteFile(path, one.name, one.stat().st_size))
        except OSError as error:
            raise _unreadable(self.directory / folder.id, error) from error
        return found

    def id_of(self, part: ManifestPart | ManifestPage) -> str:
        return part.name

    def lend(self, *, renew: bool = False) -> Lent:
        return Lent(partial(_seen_directory, self.directory.absolute()))

    def abort(self) -> None:
        """Nothing is under way for long."""

    def close(self) -> None:
        """Nothing is held."""


def require_seen(path: Path, size: int | None = None) -> None:
    """For a worker elsewhere. Raises ConfigError when it does not see a file or folder of a dataset that lies on a
    disk, or sees one of another size in bytes."""
    where = f"The worker on {socket.gethostname()}"
    advice = "Put the dataset on a disk that all workers see under that path, or give its link."
    try:
        found = path.stat().st_size
    except OSError as error:
        raise ConfigError(f"{where} does not see {path}.", advice=advice) from error
    if size is not None and size != found:
        raise ConfigError(f"{where} sees another file as {path}.", advice=advice)


def _lent_folder(loan: DriveLoan, folder_id: str, settings: Any) -> Shelf:
    from driveshard.storage.drive.lent import lent_drive

    return FolderShelf(lent_drive(loan, settings), folder_id, Retry(settings.clock, settings.patience, ignore))


def _lent_site(base_url: str | None, folder: Link, keys: Mapping[str, str], settings: Any) -> Shelf:
    from driveshard.storage.drive.site import Site

    site = Site(base_url, settings.clock, timeout=settings.timeout)
    for file_id, key in keys.items():
        site.show_key(file_id, key)
    return SiteShelf(site, folder, Retry(settings.clock, settings.patience, ignore))


def _seen_directory(directory: Path, _: Any) -> Shelf:
    require_seen(directory)
    return DirectoryShelf(directory)


def _unreadable(path: Path, error: OSError) -> SourceMissing:
    return SourceMissing(
        f"{path} cannot be read: {error.strerror or error}", advice="Check its permissions and the disk it is on."
    )
