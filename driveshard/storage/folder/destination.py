"""A plain directory as a destination: a NAS, a disk, or a test's temporary folder.

    DIR/NAME/                      the dataset's folder
        NAME-00000.zip ...         what was stored, under its own name
        .driveshard/folder.json    the folder's id and properties
        .driveshard/ID.json        what is known of a file: name, properties, session, checksums once computed
        .driveshard/trash/         parts that others replaced, for 30 days
        .driveshard/ID.partial     an unfinished upload; its length is what is held

A file counts as stored when its record says so, its partial file is gone and the file itself is there. The record is
written before the partial file gets its final name, so that a kill between the two leaves a full upload that the next
``query`` finishes. Unlike on Drive a name is there once: who stores a file under a name that is taken has the other
one kept beside it, as ``NAME-00000.kept-1.zip``.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path

from driveshard.core.errors import Defect, IdInUse, NotFound, Refused, SessionGone, ShareRefused, Unavailable
from driveshard.core.files import sync_directory
from driveshard.core.model import RemoteFile, UploadSession
from driveshard.storage.base import Held, Piece, Progress, Stored
from driveshard.storage.folder.records import (
    ARTIFACT,
    FOLDER,
    STATE,
    FolderRecord,
    Record,
    began,
    changed_folder,
    checksums_of,
    create_own,
    is_damaged,
    is_id,
    is_stored,
    kind_of,
    make_directory,
    make_room,
    open_own,
    partial_path,
    plain,
    record_path,
    records,
    write_all,
    write_public,
)
from driveshard.storage.folder.taking_away import delete, delete_folder, put_in_trash

_STRIPES = 64


class FolderDestination:
    """Dataset folders below ``directory``, which is made when its parent is there."""

    chunk_unit = 256 * 1024

    def __init__(self, directory: Path) -> None:
        # Not Path.resolve(), which raises a RuntimeError for a loop of links before Python 3.13.
        self._root = Path(os.path.realpath(directory))
        self._places: dict[str, Path] = {}  # id -> the dataset's folder it was last seen in, or is
        self._stripes = [threading.RLock() for _ in range(_STRIPES)]
        self._naming = threading.RLock()
        self._counting = threading.Lock()
        self._requests = 0

    @property
    def identity(self) -> str:
        return f"file {self._root}"

    @property
    def requests(self) -> int:
        return self._requests

    def describe(self) -> str:
        return f"the folder {self._root}"

    # -- ids and folders -----------------------------------------------------------------------------------------

    def reserve_ids(self, count: int) -> list[str]:
        with self._request():
            return [secrets.token_hex(16) for _ in range(count)]

    def find_folders(self, name: str) -> list[RemoteFile]:
        """As ``destination.Destination``. Raises NotFound when the folder above is not there."""
        with self._request():
            self._require_parent()
            return [self._folder(place, record) for place, record in self._datasets() if place.name == name]

    def make_folder(self, file_id: str, name: str, properties: Mapping[str, str]) -> RemoteFile:
        """As ``destination.Destination``. Raises Refused when something else has that name."""
        with self._request(), self._naming:
            self._require_parent()
            if self._find_folder(file_id) is not None:
                raise IdInUse(f"{self._root} has a dataset with that id")
            place = self._root / plain(name)
            if is_damaged(place):
                raise Refused(
                    f"{place} holds a dataset, but its record {place / STATE / FOLDER} is damaged",
                    advice="Restore that file from a backup, or push under another --name.",
                )
            if place.exists() and any(one.name != STATE for one in place.iterdir()):
                raise Refused(f"{place} is there already and is not empty", advice="Give another --name.")
            if (place / STATE / FOLDER).exists():
                raise Refused(f"{place} is another dataset's folder", advice="Give another --name.")
            for directory in (self._root, place, place / STATE):
                make_directory(directory)
            record = FolderRecord(file_id, dict(properties))
            record.write(place)
            sync_directory(self._root)
            self._places[file_id] = place
            return self._folder(place, record)

    def _folder(self, place: Path, record: FolderRecord) -> RemoteFile:
        return RemoteFile(record.id, place.name, 0, None, None, place.as_uri(), dict(record.properties), folder=True)

    def set_properties(self, folder_id: str, properties: Mapping[str, str | None]) -> RemoteFile:
        with self._request():
            place = self._require_folder(folder_id)
            return self._folder(place, changed_folder(place, properties))

    def time(self) -> float:
        return time.time()

    def _require_parent(self) -> None:
        if not self._root.parent.is_dir():
            raise NotFound(
                f"there is no folder {self._root.parent}", advice="Check the path; is the disk it is on connected?"
            )

    # -- uploads -------------------------------------------------------------------------------------------------

    def begin(self, file_id: str, folder_id: str, name: str, size: int, properties: Mapping[str, str]) -> UploadSession:
        """As ``destination.Destination``: a record and an empty partial file."""
        with self._request(), self._holding(file_id):
            place = self._new_place(file_id, folder_id)
            record = Record(plain(name), size, secrets.token_hex(8), dict(properties))
            record.write(record_path(place, file_id))
            os.close(create_own(partial_path(place, file_id)))
            self._places[file_id] = place
            return UploadSession(file_id, f"{folder_id}/{file_id}/{record.token}", time.time())

    def send(self, session: UploadSession, offset: int, data: bytes | memoryview | Piece, size: int) -> Progress:
        """As ``destination.Destination``; bytes held already are skipped. Raises IdInUse, SessionGone, Defect."""
        with self._request(), self._holding(session.file_id):
            place, record = self._session(session)
            if not began(session, record) and is_stored(place, session.file_id, record):
                raise IdInUse(f"{record.name} was stored through another session")
            piece = Piece.of(data)
            if not piece.length or offset + piece.length > size:
                raise Defect(f"a chunk of {piece.length} bytes at {offset} of {size} cannot be")
            progress = self._progress(session, place, record, size)
            if isinstance(progress, Stored) or not offset <= progress.offset < offset + piece.length:
                return progress
            with os.fdopen(open_own(partial_path(place, session.file_id)), "r+b", buffering=0) as partial:
                partial.seek(progress.offset)
                skip = progress.offset - offset
                for block in piece.blocks:
                    write_all(partial, memoryview(block)[min(skip, len(block)) :])
                    skip -= min(skip, len(block))
            return self._progress(session, place, record, size)

    def query(self, session: UploadSession, size: int) -> Progress:
        with self._request(), self._holding(session.file_id):
            place, record = self._session(session)
            return self._progress(session, place, record, size)

    def _session(self, session: UploadSession) -> tuple[Path, Record]:
        place = self._find_folder(session.uri.partition("/")[0])
        if place is None:
            raise Unavailable(f"the dataset's folder is no longer in {self._root}; is the disk still connected?")
        record = Record.read(record_path(place, session.file_id))
        if record is None:
            raise SessionGone("the upload's record is gone from the folder")
        return place, record

    def _progress(self, session: UploadSession, place: Path, record: Record, size: int) -> Progress:
        """What is held; an upload that is whole is finished on the way."""
        if not began(session, record) or record.size != size:
            raise SessionGone("another upload of that file was begun")
        partial = partial_path(place, session.file_id)
        if is_stored(place, session.file_id, record):
            return Stored(self._describe(place, session.file_id, record, checksums=False))
        if not partial.exists():
            raise SessionGone("the upload's partial file is gone from the folder")
        held = partial.stat().st_size
        if held > record.size:
            raise SessionGone("the upload's partial file is longer than the upload")
        if held < record.size:
            return Held(held)
        with os.fdopen(open_own(partial), "rb+") as whole:
            os.fsync(whole.fileno())
        record = self._finish(place, session.file_id, record)
        return Stored(self._describe(place, session.file_id, record, checksums=False))

    def _finish(self, place: Path, file_id: str, record: Record) -> Record:
        """Give a whole partial file its name."""
        with self._naming:
            make_room(place, record.name, file_id, record.properties)
            record = replace(record, stored=True)
            record.write(record_path(place, file_id))
            os.replace(partial_path(place, file_id), place / record.name)
            sync_directory(place)
        return record

    # -- files ---------------------------------------------------------------------------------------------------

    def get(self, file_id: str) -> RemoteFile:
        """As ``destination.Destination``. Raises NotFound."""
        with self._request(), self._holding(file_id):
            folder = self._find_folder(file_id)
            record = FolderRecord.read(folder) if folder else None
            if folder is not None and record is not None:
                return self._folder(folder, record)
            found = self._find(file_id)
            if found is None:
                raise NotFound(f"no file of that id is in {self._root}", advice="It was deleted or moved.")
            return self._describe(*found)

    def children(self, folder_id: str) -> list[RemoteFile]:
        """As ``destination.Destination``; never lags."""
        with self._request():
            place = self._require_folder(folder_id)
            known = sorted(records(place), key=lambda one: one[1].name)
        found = []
        for file_id, record in known:
            with self._request(count=False), self._holding(file_id):
                if is_stored(place, file_id, record):
                    found.append(self._describe(place, file_id, record))
        return found

    def put(self, file_id: str, folder_id: str, name: str, data: bytes, mime_type: str, *, replace: bool) -> RemoteFile:
        """As ``destination.Destination``: written beside, then renamed. Raises NotFound if nothing is replaced."""
        with self._request(), self._holding(file_id):
            if replace:
                found = self._find(file_id)
                if found is None:
                    raise NotFound(f"no file of that id is in {self._root}", advice="It was deleted or moved.")
                place, _, record = found
                write_public(place, file_id, place / record.name, data)
                return self._describe(place, file_id, record)
            place = self._new_place(file_id, folder_id)
            record = Record(plain(name), len(data), "", ARTIFACT)
            write_public(place, file_id, partial_path(place, file_id), data)
            record = self._finish(place, file_id, record)
            self._places[file_id] = place
            return self._describe(place, file_id, record)

    def read(self, file_id: str, start: int, length: int) -> bytes:
        """As ``destination.Destination``; fewer bytes at the file's end. Raises NotFound."""
        with self._request():
            found = self._find(file_id)
            if found is None:
                raise NotFound(f"no file of that id is in {self._root}", advice="It was deleted or moved.")
            place, _, record = found
            with (place / record.name).open("rb") as stream:
                stream.seek(start)
                return stream.read(max(0, length))

    def remove(self, file_id: str) -> None:
        """As ``destination.Destination``; what is gone already is no error."""
        with self._request(), self._holding(file_id):
            folder = self._find_folder(file_id)
            if folder is not None:
                with self._naming:
                    delete_folder(folder)
                    self._places.pop(file_id, None)
                return
            place = self._locate(file_id)
            if place is None:
                return
            delete(place, file_id)
            self._places.pop(file_id, None)

    def trash(self, file_id: str) -> None:
        with self._request(), self._holding(file_id):
            place = self._locate(file_id)
            if place is not None:
                put_in_trash(place, file_id)
                self._places.pop(file_id, None)

    def share(self, folder_id: str, who: str, before_write: Callable[[], None] = lambda: None) -> str:
        """A plain folder has no permissions: ``nobody`` is fine, all else raises ShareRefused."""
        with self._request():
            self._require_folder(folder_id)
        if who != "nobody":
            raise ShareRefused(
                "a plain folder is shared by whoever can see it",
                advice=f"Give others access to {self._root} itself.",
            )
        return who

    # -- finding -------------------------------------------------------------------------------------------------

    def _find_folder(self, folder_id: str) -> Path | None:
        place = self._places.get(folder_id)
        if place is not None and (record := FolderRecord.read(place)) is not None and record.id == folder_id:
            return place
        for place, record in self._datasets():
            if record.id == folder_id:
                self._places[folder_id] = place
                return place
        return None

    def _require_folder(self, folder_id: str) -> Path:
        known = folder_id in self._places
        place = self._find_folder(folder_id)
        if place is not None:
            return place
        if known or not self._root.is_dir():
            raise Unavailable(f"the dataset's folder is no longer in {self._root}; is the disk still connected?")
        raise NotFound(f"no dataset of that id is in {self._root}", advice="It was deleted or moved.")

    def _new_place(self, file_id: str, folder_id: str) -> Path:
        """The folder a new file goes into. Raises IdInUse when its id is taken."""
        if not is_id(file_id):
            raise Refused(f"{file_id!r} is not an id of a file in a folder")
        place = self._require_folder(folder_id)
        if self._find(file_id) is not None:
            raise IdInUse(f"{self._root} has a file with that id")
        return place

    def _locate(self, file_id: str) -> Path | None:
        """The dataset's folder that has a record of the file."""
        if not is_id(file_id):
            return None
        known = self._places.get(file_id)
        for place in [known] if known else []:
            if record_path(place, file_id).exists():
                return place
        for place, _ in self._datasets():
            if record_path(place, file_id).exists():
                self._places[file_id] = place
                return place
        return None

    def _find(self, file_id: str) -> tuple[Path, str, Record] | None:
        """A stored file; None when it is not stored, or not yet."""
        place = self._locate(file_id)
        record = Record.read(record_path(place, file_id)) if place else None
        if place is None or record is None or not is_stored(place, file_id, record):
            return None
        return place, file_id, record

    def _datasets(self) -> Iterator[tuple[Path, FolderRecord]]:
        with contextlib.suppress(FileNotFoundError):
            for one in list(self._root.iterdir()):
                if (record := FolderRecord.read(one)) is not None:
                    yield one, record

    def _describe(self, place: Path, file_id: str, record: Record, *, checksums: bool = True) -> RemoteFile:
        path = place / record.name
        status = path.stat()
        described = RemoteFile(
            file_id, record.name, status.st_size, link=path.as_uri(), properties=dict(record.properties)
        )
        if not checksums:
            return described
        seen = (status.st_size, status.st_mtime_ns)
        if record.sums is None or record.sums[:2] != seen:
            record = replace(record, sums=(*seen, *checksums_of(path)))
            record.write(record_path(place, file_id))
        assert record.sums is not None
        return replace(described, md5=record.sums[2], sha256=record.sums[3])

    # -- common --------------------------------------------------------------------------------------------------

    def _holding(self, file_id: str) -> threading.RLock:
        return self._stripes[hash(file_id) % _STRIPES]

    @contextlib.contextmanager
    def _request(self, *, count: bool = True) -> Iterator[None]:
        """Count a request and turn the system's errors into ours."""
        if count:
            with self._counting:
                self._requests += 1
        try:
            yield
        except OSError as error:
            raise kind_of(error, self._root) from error
