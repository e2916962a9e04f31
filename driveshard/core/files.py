"""Files that are there whole or not at all, also after a power cut."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import secrets
import stat
from pathlib import Path

# What a file system answers that cannot sync a directory, or not open one: some FUSE, 9p and SMB mounts. Whatever it
# does with a rename, it does without us; an error of the disk itself (EIO, ENOSPC) is none of these.
_CANNOT = {
    getattr(errno, name)
    for name in ("EINVAL", "ENOTSUP", "EOPNOTSUPP", "ENOSYS", "EBADF", "EISDIR", "ENOTTY", "EACCES", "EPERM")
    if hasattr(errno, name)
}


def write_whole(path: Path, data: bytes, *, private: bool = True) -> None:
    """Write ``path`` in one step: a temporary file beside it, fsync, rename. Readable by its owner only, or if not
    ``private`` by whoever may read new files here. Raises OSError."""
    temporary = path.with_name(f".new-{secrets.token_hex(8)}")
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0)
    handle = os.open(temporary, flags, 0o600 if private else 0o666)
    try:
        with os.fdopen(handle, "wb") as stream:
            stream.write(data)
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(temporary, path)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        raise
    sync_directory(path.parent)


def create_private(path: Path) -> int:
    """A new, empty file for its owner only, opened for writing; returns its descriptor. What stood under that name is
    removed and never written through, a link least of all. Raises OSError."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL
    for name in ("O_NOFOLLOW", "O_BINARY", "O_NOINHERIT"):
        flags |= getattr(os, name, 0)
    try:
        return os.open(path, flags, 0o600)
    except FileExistsError:
        kind = path.lstat().st_mode
        if not (stat.S_ISREG(kind) or stat.S_ISLNK(kind)):
            raise
        path.unlink()
        return os.open(path, flags, 0o600)


def sync_directory(directory: Path) -> None:
    """Make renames in a directory last, where the file system can do that. Raises OSError when its disk fails."""
    if os.name == "nt":  # Windows cannot open a directory for fsync; NTFS journals the rename itself
        return
    try:
        handle = os.open(directory, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
    except OSError as error:
        if error.errno not in _CANNOT:
            raise


def md5_of(path: Path) -> str | None:
    """Hex md5 of a file, None when it is not there."""
    try:
        with path.open("rb") as stream:
            return hashlib.file_digest(stream, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()
    except FileNotFoundError:
        return None
