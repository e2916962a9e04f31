"""What a folder destination keeps beside the files: one record a file, and how far its upload has come."""

from __future__ import annotations

import errno
import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from driveshard.durable import sync_directory, write_whole
from driveshard.errors import DriveshardError, Refused, StorageFull, Unavailable
from driveshard.model import UploadSession

STATE = ".driveshard"
FOLDER = "folder.json"
_FULL = {errno.ENOSPC, getattr(errno, "EDQUOT", errno.ENOSPC)}
_FORBIDDEN = {errno.EACCES, errno.EPERM, errno.EROFS}


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
        """None when there is none, or one that cannot be read."""
        document = read_json(path)
        try:
            sums = document.pop("sums", None)
            return cls(**document, sums=tuple(sums) if sums else None)
        except TypeError:
            return None

    def write(self, path: Path) -> None:
        write_whole(path, json.dumps(asdict(self)).encode())


def record_path(place: Path, file_id: str) -> Path:
    return place / STATE / f"{file_id}.json"


def partial_path(place: Path, file_id: str) -> Path:
    return place / STATE / f"{file_id}.partial"


def began(session: UploadSession, record: Record) -> bool:
    """Whether it is this session that the record is of."""
    return bool(record.token) and record.token == session.uri.rpartition("/")[2]


def is_stored(place: Path, file_id: str, record: Record) -> bool:
    return record.stored and not partial_path(place, file_id).exists() and (place / record.name).is_file()


def records(place: Path) -> Iterator[tuple[str, Record]]:
    for path in (place / STATE).glob("*.json"):
        record = Record.read(path) if path.name != FOLDER else None
        if record is not None:
            yield path.stem, record


def read_json(path: Path) -> dict[str, Any]:
    """{} when there is no such file, or it holds no object."""
    try:
        document = json.loads(path.read_bytes())
    except (FileNotFoundError, NotADirectoryError, ValueError):
        return {}
    return document if isinstance(document, dict) else {}


def write_all(stream: Any, data: memoryview) -> None:
    """One write() may take less than it is given."""
    while data:
        data = data[stream.write(data) :]


def write_public(place: Path, file_id: str, path: Path, data: bytes) -> None:
    """Write a file that others are to read, whole or not at all."""
    new = place / STATE / f"{file_id}.new"
    with new.open("wb") as stream:
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
    if error.errno == errno.EFBIG:
        return Refused(
            f"the disk of {root} does not take files that large",
            advice="Push a new dataset with a smaller --part-size.",
        )
    return Unavailable(f"{root} cannot be used ({why}); is the disk still connected?")
