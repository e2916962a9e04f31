"""The emulated Drive: files, folders, permissions and issued ids, in memory and on disk under one root directory."""

from __future__ import annotations

import secrets
import string
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from driveshard.emulator.database import Database
from driveshard.emulator.errors import ApiError, id_in_use, invalid, not_found
from driveshard.emulator.record import FOLDER, GOOGLE_TYPE, OWNER_EMAIL, OWNER_NAME, SHORTCUT, Content, FileRecord

ID_ALPHABET = string.ascii_letters + string.digits + "-_"
MAX_CHILDREN = 500_000
MAX_DEPTH = 100
OWNER_PERMISSION = {
    "kind": "drive#permission",
    "id": "01234567890123456789",
    "type": "user",
    "role": "owner",
    "emailAddress": OWNER_EMAIL,
    "displayName": OWNER_NAME,
}


def new_id() -> str:
    """A file id of Drive's shape: 33 characters that begin with 1."""
    return "1" + "".join(secrets.choice(ID_ALPHABET) for _ in range(32))


class Clock:
    """Wall time that tests may push forward."""

    def __init__(self) -> None:
        self.shift = 0.0

    def now(self) -> float:
        """Seconds since the epoch."""
        return time.time() + self.shift

    def now_ms(self) -> int:
        """Milliseconds since the epoch."""
        return int(self.now() * 1000)


class Store:
    """Files and folders. Every change is on disk when the method returns; all methods are thread-safe.

    Records handed out are live: change them only through `save`, inside `database.transaction()`.
    """

    def __init__(self, root: Path, clock: Clock) -> None:
        root.mkdir(parents=True, exist_ok=True)
        self.blobs = root / "blobs"
        self.blobs.mkdir(exist_ok=True)
        self.clock = clock
        self.database = Database(root / "drive.sqlite")
        self._files: dict[str, FileRecord] = {}
        self._children: dict[str, dict[str, None]] = {}
        self._order = 0
        for _, document in self.database.load("files"):
            self._index(FileRecord.from_document(document))
        self.root_id = next((f.id for f in self._files.values() if f.parent is None), "")
        if not self.root_id:
            now = clock.now_ms()
            self.root_id = "0A" + new_id()[1:15] + "Uk9PVA"
            self.save(FileRecord(self.root_id, "My Drive", FOLDER, None, now, now, permissions={"o": OWNER_PERMISSION}))

    def close(self) -> None:
        """Close the database."""
        self.database.close()

    def path_of(self, content: Content) -> Path:
        """Where the bytes of a blob are."""
        return self.blobs / content.blob

    def resolve(self, file_id: str) -> str:
        """`root` to the root folder's id; any other id as it is."""
        return self.root_id if file_id == "root" else file_id

    def find(self, file_id: str) -> FileRecord | None:
        """The file of that id, or None."""
        with self.database.lock:
            return self._files.get(self.resolve(file_id))

    def require(self, file_id: str) -> FileRecord:
        """The file of that id. Raises ApiError 404."""
        record = self.find(file_id)
        if record is None:
            raise not_found(file_id)
        return record

    def all(self) -> list[FileRecord]:
        """Every file and folder except the root."""
        with self.database.lock:
            return [record for record in self._files.values() if record.parent is not None]

    def children(self, folder_id: str) -> list[FileRecord]:
        """What lies directly in a folder, oldest first, the trash included."""
        with self.database.lock:
            return [self._files[child] for child in self._children.get(self.resolve(folder_id), ())]

    def ancestors(self, record: FileRecord) -> Iterator[FileRecord]:
        """The record itself, then the folders above it up to the root."""
        current: FileRecord | None = record
        while current is not None:
            yield current
            current = self._files.get(current.parent) if current.parent else None

    def save(self, record: FileRecord) -> None:
        """Insert or rewrite a record."""
        with self.database.lock:
            self._index(record)
            self.database.put("files", record.id, record.document())

    def insert(self, record: FileRecord) -> None:
        """Add a new record. Raises ApiError: 409 for a used id, 403 for a full folder or too deep a tree."""
        with self.database.lock:
            if record.id in self._files or self.is_foreign(record.id):
                raise id_in_use()
            if len(self._children.get(record.parent or "", ())) >= MAX_CHILDREN and record.parent != self.root_id:
                text = "The limit for this folder's number of children (files and folders) has been exceeded."
                raise ApiError(403, "numChildrenInNonRootLimitExceeded", text)
            if record.is_folder and sum(1 for _ in self.ancestors(record)) > MAX_DEPTH + 1:
                text = "The folder hierarchy depth limit has been exceeded."
                raise ApiError(403, "myDriveHierarchyDepthLimitExceeded", text)
            self.save(record)

    def move(self, record: FileRecord, parent: str) -> None:
        """Put a file or folder under another parent; the caller saves it."""
        with self.database.lock:
            self._children.get(record.parent or "", {}).pop(record.id, None)
            record.parent = parent

    def delete(self, record: FileRecord) -> None:
        """Remove a file, or a folder with everything below it, blobs included. Their ids never work again."""
        with self.database.transaction():
            doomed = list(self._subtree(record))
            for victim in doomed:
                self.database.drop("files", victim.id)
                self.database.put("ids", victim.id, {"kind": "deleted"})
        with self.database.lock:
            for victim in doomed:
                self._files.pop(victim.id, None)
                self._children.get(victim.parent or "", {}).pop(victim.id, None)
                self._children.pop(victim.id, None)
        for victim in doomed:
            if victim.content:
                self.path_of(victim.content).unlink(missing_ok=True)

    def used_blobs(self) -> set[str]:
        """Names of the blobs that files refer to."""
        return {record.content.blob for record in self._files.values() if record.content}

    def is_trashed(self, record: FileRecord) -> bool:
        """True when the file or a folder above it is in the trash."""
        with self.database.lock:
            return any(level.trashed for level in self.ancestors(record))

    def permissions(self, record: FileRecord) -> dict[str, dict[str, Any]]:
        """The permissions in force by id: its own and those inherited from the folders above."""
        with self.database.lock:
            levels = list(self.ancestors(record))
        merged: dict[str, dict[str, Any]] = {}
        for level in reversed(levels):
            merged |= {permission["id"]: permission for permission in level.permissions.values()}
        return merged

    def is_public(self, record: FileRecord) -> bool:
        """True when anyone with the link may read it."""
        return any(permission["type"] == "anyone" for permission in self.permissions(record).values())

    def issue_ids(self, count: int, kind: str) -> list[str]:
        """New ids that a create may use; kind is `files` or `shortcuts`."""
        ids = [new_id() for _ in range(count)]
        self.database.put_new("ids", ids, {"kind": kind})
        return ids

    def check_id(self, file_id: str, mime_type: str) -> None:
        """Refuse an id that a create may not use: taken (409), of a file deleted for good, not issued here or of the
        wrong kind (400, 403)."""
        if self.find(file_id) or self.is_foreign(file_id):
            raise id_in_use()
        issued = self.database.get("ids", file_id)
        if issued is not None and issued["kind"] == "deleted":
            raise invalid("fileId")
        wanted = "shortcuts" if mime_type == SHORTCUT else "files"
        if mime_type.startswith(GOOGLE_TYPE) and mime_type not in (FOLDER, SHORTCUT):
            raise ApiError(403, "forbidden", "Generated IDs are not supported for Docs Editors formats")
        if issued is None or issued["kind"] != wanted:
            raise invalid("file.id", "The provided file ID is not usable.")

    def make_foreign(self, file_id: str) -> None:
        """From now on the id belongs to a file of somebody else: creates get 409, reads 404."""
        self.database.put("ids", file_id, {"kind": "foreign"})

    def is_foreign(self, file_id: str) -> bool:
        """True for an id that belongs to somebody else's file."""
        issued = self.database.get("ids", file_id)
        return issued is not None and issued["kind"] == "foreign"

    def parent_of_new(self, parents: Any) -> str:
        """The folder a new file goes to. Raises ApiError: 404 unknown, 403 no folder, 400 several."""
        if not parents:
            return self.root_id
        if not isinstance(parents, list) or len(parents) != 1 or not isinstance(parents[0], str):
            raise invalid("parents", "A file must have exactly one parent.")
        folder = self.require(parents[0])
        if not folder.is_folder:
            raise ApiError(403, "parentNotAFolder", "The specified parent is not a folder.")
        return folder.id

    def views(self, records: list[FileRecord]) -> list[View]:
        """The records as a query sees them."""
        return [View(record, self) for record in records]

    def _subtree(self, record: FileRecord) -> Iterator[FileRecord]:
        yield record
        for child in self.children(record.id):
            yield from self._subtree(child)

    def _index(self, record: FileRecord) -> None:
        if not record.order:
            record.order = self._order + 1
        self._order = max(self._order, record.order)
        self._files[record.id] = record
        if record.parent:
            self._children.setdefault(record.parent, {})[record.id] = None


@dataclass
class View:
    """A record as a query sees it: the names that `query.Candidate` asks for."""

    record: FileRecord
    store: Store

    def __getattr__(self, name: str) -> Any:
        return getattr(self.record, name)

    @property
    def searched_parents(self) -> list[str]:
        """Parent ids, `root` included for what lies in the root."""
        parent = self.record.parent or ""
        return [parent, "root"] if parent == self.store.root_id else [parent]

    @property
    def searched_people(self) -> dict[str, set[str]]:
        """`owners`, `writers`, `readers` as e-mail addresses; `me` stands for the owner."""
        people: dict[str, set[str]] = {"owners": {OWNER_EMAIL, "me"}, "writers": {OWNER_EMAIL, "me"}}
        readers = set(people["writers"])
        for permission in self.store.permissions(self.record).values():
            address = permission.get("emailAddress", permission["id"])
            readers.add(address)
            if permission["role"] in ("owner", "organizer", "fileOrganizer", "writer"):
                people["writers"].add(address)
        people["readers"] = readers
        return people

    @property
    def searched_trashed(self) -> bool:
        """True when the file or a folder above it is in the trash."""
        return self.store.is_trashed(self.record)

    @property
    def visibility(self) -> str:
        """Drive's word for who may find it."""
        ids = self.store.permissions(self.record)
        if "anyone" in ids:
            return "anyoneCanFind"
        return "anyoneWithLink" if "anyoneWithLink" in ids else "limited"

    @property
    def shortcut_target(self) -> str | None:
        """The id a shortcut points at."""
        return self.record.target
