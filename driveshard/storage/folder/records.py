"""What a folder destination keeps beside the files: one record a file, and how far its upload has come.

Whoever may write to the folder may write records, too. So they are believed no further than the folder: a name that
leads out of it, a value of another kind than it should be, or a link in a file's place makes a record none.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import re
import stat
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from driveshard.core.errors import DriveshardError, Refused, StorageFull, Unavailable
from driveshard.core.files import sync_directory, write_whole
from driveshard.core.model import UploadSession

STATE = ".driveshard"
FOLDER = "folder.json"
ARTIFACT = {"driveshard": "artifact"}
"""Properties of the small files beside the parts, which are made anew at any time."""
_ID = re.compile(r"[A-Za-z0-9_-]{1,100}")
_LOCKED = 10.0  # seconds that a change of a folder's record may wait for others
_LARGEST = 1 << 20  # bytes of a record that are read
_OWN = getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0) | getattr(os, "O_CLOEXEC", 0)
_FULL = {errno.ENOSPC, getattr(errno, "EDQUOT", errno.ENOSPC)}
_NEVER = {errno.ENOTDIR, errno.EINVAL, errno.ENAMETOOLONG, errno.ELOOP, errno.ENOTSUP, errno.ENOSYS}
_FORBIDDEN = {errno.EACCES, errno.EPERM, errno.EROFS}
_NO_SUCH_PATH = {errno.ENAMETOOLONG, errno.ENOTDIR, errno.ELOOP, errno.EEXIST}


@dataclass(frozen=True, slots=True)
class Record:
    """One file's JSON. ``token`` tells its latest session from older ones; ``sums`` are [size, mtime_ns, md5, sha256]
    as last read from the disk."""

    name: str
    size: int
    token: str
    properties: Mapping[str, str] = field(default_factory=dict)
    stored: bool = False
    sums: tuple[int, int, str, str] | None = None

    @classmethod
    def read(cls, path: Path) -> Record | None:
        """None when there is none, or one that cannot be."""
        document = read_json(path)
        with contextlib.suppress(KeyError, TypeError, ValueError):
            record = cls(**{**document, "sums": _sums(document.get("sums"))})
            if _is_sound(record):
                return record
        return None

    def write(self, path: Path) -> None:
        write_whole(path, json.dumps(asdict(self)).encode())


@dataclass(frozen=True, slots=True)
class FolderRecord:
    """The JSON of a dataset's folder."""

    id: str
    properties: Mapping[str, str]

    @classmethod
    def read(cls, place: Path) -> FolderRecord | None:
        """None when ``place`` is no dataset's folder."""
        if (place / STATE).is_symlink():
            return None
        document = read_json(place / STATE / FOLDER)
        found = cls(document.get("id", ""), document.get("properties", {}))  # of whatever kind they are
        return found if is_id(found.id) and _are_texts(found.properties) else None

    def write(self, place: Path) -> None:
        write_whole(place / STATE / FOLDER, json.dumps(asdict(self)).encode())


def changed_folder(place: Path, properties: Mapping[str, str | None]) -> FolderRecord:
    """The record of a dataset's folder after some of its properties were set or, given as None, taken away. Raises
    Unavailable when it is no more, or when somebody else is changing it all the time."""
    try:
        with FileLock(place / STATE / f"{FOLDER}.lock", timeout=_LOCKED):
            record = FolderRecord.read(place)
            if record is None:
                raise Unavailable(f"the dataset's folder {place} is no longer there; is the disk still connected?")
            merged = {**record.properties, **properties}
            record = FolderRecord(record.id, {key: value for key, value in merged.items() if value is not None})
            record.write(place)
            return record
    except Timeout as error:
        raise Unavailable(f"the record of {place} is being changed by somebody else") from error


def make_directory(directory: Path) -> None:
    """Raises Refused where no folder can ever be: that its parent is there, and it cannot be, will not pass."""
    try:
        directory.mkdir(exist_ok=True)
    except (FileNotFoundError, FileExistsError) as error:
        if not directory.parent.is_dir():
            raise
        raise Refused(
            f"no folder can be made at {directory} ({error.strerror})", advice="Name another one: --to file:DIR."
        ) from error


def is_damaged(place: Path) -> bool:
    """Whether there is the record of a dataset's folder, but none that tells which."""
    return os.path.lexists(place / STATE / FOLDER) and FolderRecord.read(place) is None


def _sums(value: Any) -> tuple[int, int, str, str] | None:
    """Raises ValueError or TypeError when they are not [size, mtime_ns, md5, sha256]."""
    if value is None:
        return None
    size, mtime, md5, sha256 = value
    if (type(size), type(mtime), type(md5), type(sha256)) != (int, int, str, str):
        raise TypeError("a checksum of another kind")
    return size, mtime, md5, sha256


def _is_sound(record: Record) -> bool:
    kinds = (type(record.name), type(record.size), type(record.token), type(record.stored))
    return (
        kinds == (str, int, str, bool) and is_plain(record.name) and record.size >= 0 and _are_texts(record.properties)
    )


def _are_texts(properties: Any) -> bool:
    return isinstance(properties, dict) and all(isinstance(one, str) for one in properties.values())


def is_id(text: Any) -> bool:
    return isinstance(text, str) and _ID.fullmatch(text) is not None


def is_plain(name: str) -> bool:
    """Whether it is the name of a file, and not a path, on any system."""
    return name not in ("", ".", "..", STATE) and not any(mark in name for mark in "/\\:\0")


def plain(name: str) -> str:
    """``name`` if it is the name of a file. Raises Refused."""
    if not is_plain(name):
        raise Refused(f"{name!r} cannot be the name of a file in a folder")
    return name


def record_path(place: Path, file_id: str) -> Path:
    return place / STATE / f"{file_id}.json"


def partial_path(place: Path, file_id: str) -> Path:
    return place / STATE / f"{file_id}.partial"


def began(session: UploadSession, record: Record) -> bool:
    """Whether it is this session that the record is of."""
    return bool(record.token) and record.token == session.uri.rpartition("/")[2]


def is_stored(place: Path, file_id: str, record: Record) -> bool:
    """Whether the file is there. A link in its place is not: it may lead to anything."""
    path = place / record.name
    return record.stored and not partial_path(place, file_id).exists() and path.is_file() and not path.is_symlink()


def records(place: Path) -> Iterator[tuple[str, Record]]:
    for path in (place / STATE).glob("*.json"):
        record = Record.read(path) if path.name != FOLDER and is_id(path.stem) else None
        if record is not None:
            yield path.stem, record


def read_json(path: Path) -> dict[str, Any]:
    """{} when there is no such file, or it holds no object, or far too much."""
    try:
        with path.open("rb") as stream:
            document = json.loads(stream.read(_LARGEST))
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError, ValueError, RecursionError):
        return {}
    return document if isinstance(document, dict) else {}


def make_room(place: Path, name: str, file_id: str, properties: Mapping[str, str]) -> None:
    """Nothing has ``name`` after this, so that the file ``file_id`` may get it. A small file gives way to the next one
    of its kind; whatever else is there, a part that somebody changed or a file of somebody else, may be the only copy
    of what it holds, so it is kept under a name beside."""
    known = [(other, record) for other, record in records(place) if other != file_id and record.name == name]
    made_anew = properties == ARTIFACT and any(record.properties == ARTIFACT for _, record in known)
    beside = None if made_anew or not os.path.lexists(place / name) else unused_name(place, name)
    for other, record in known:
        if beside is not None and is_stored(place, other, record):
            # Before the file moves: a kill in between leaves a record without a file, never one of the wrong file.
            replace(record, name=beside).write(record_path(place, other))
        else:
            partial_path(place, other).unlink(missing_ok=True)
            record_path(place, other).unlink(missing_ok=True)
    if beside is not None:
        (place / name).rename(place / beside)


def claimed(place: Path, file_id: str, name: str) -> bool:
    """Whether a record other than that of ``file_id`` says that the file of that name is its; no two of ours do."""
    return any(other != file_id and record.stored and record.name == name for other, record in records(place))


def unused_name(place: Path, name: str) -> str:
    """A name beside it that nothing has."""
    stem, dot, suffix = name.rpartition(".")
    count = 1
    while os.path.lexists(place / (found := f"{stem}.kept-{count}{dot}{suffix}")):
        count += 1
    return found


def create_own(path: Path) -> int:
    """A descriptor of a new, empty file at ``path``, whatever was there, were it a link to another file."""
    path.unlink(missing_ok=True)
    return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | _OWN, 0o666)


def open_own(path: Path) -> int:
    """A descriptor to read and write the file at ``path``, which is no link. Raises OSError."""
    handle = os.open(path, os.O_RDWR | _OWN)
    if not stat.S_ISREG(os.fstat(handle).st_mode):
        os.close(handle)
        raise OSError(errno.EINVAL, "not a regular file", str(path))
    return handle


def write_all(stream: Any, data: memoryview) -> None:
    """One write() may take less than it is given."""
    while data:
        data = data[stream.write(data) :]


def write_public(place: Path, file_id: str, path: Path, data: bytes) -> None:
    """Write a file that others are to read, whole or not at all."""
    new = place / STATE / f"{file_id}.new"
    with os.fdopen(create_own(new), "wb") as stream:
        stream.write(data)
        stream.flush()
        os.fsync(stream.fileno())
    os.replace(new, path)
    sync_directory(path.parent)


def checksums_of(path: Path) -> tuple[str, str]:
    """(md5, sha256) of the bytes on the disk, in hex."""
    md5, sha256 = hashlib.md5(usedforsecurity=False), hashlib.sha256()
    with path.open("rb", buffering=0) as stream:
        while block := stream.read(1 << 20):
            md5.update(block)
            sha256.update(block)
    return md5.hexdigest(), sha256.hexdigest()


def kind_of(error: OSError, root: Path) -> DriveshardError:
    """What the system's error means for a destination below ``root``."""
    why = error.strerror or str(error)
    if error.errno in _FULL:
        return StorageFull(
            f"the disk of {root} is full", advice="Free some space there, then run the same command again."
        )
    if error.errno in _FORBIDDEN:
        return Refused(f"{error.filename or root} may not be written ({why})", advice="Check the folder's permissions.")
    if error.errno in _NO_SUCH_PATH:  # nothing that a disk does by itself, and nothing that passes
        return Refused(f"{root} cannot be a folder for datasets ({why})", advice="Give another file:DIR, or --name.")
    if error.errno == errno.EFBIG:
        return Refused(
            f"the disk of {root} does not take files that large",
            advice="Push a new dataset with a smaller --part-size.",
        )
    if error.errno in _NEVER:
        return Refused(f"{error.filename or root} cannot be used ({why})", advice="Name another folder: --to file:DIR.")
    return Unavailable(f"{root} cannot be used ({why}); is the disk still connected?")
