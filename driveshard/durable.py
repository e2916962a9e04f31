"""Files that are there whole or not at all, also after a power cut."""

from __future__ import annotations

import contextlib
import errno
import os
import tempfile
from pathlib import Path

# What a file system answers that cannot sync a directory, or not open one: some FUSE, 9p and SMB mounts. Whatever it
# does with a rename, it does without us; an error of the disk itself (EIO, ENOSPC) is none of these.
_CANNOT = {
    getattr(errno, name)
    for name in ("EINVAL", "ENOTSUP", "EOPNOTSUPP", "ENOSYS", "EBADF", "EISDIR", "ENOTTY", "EACCES", "EPERM")
    if hasattr(errno, name)
}


def write_whole(path: Path, data: bytes) -> None:
    """Write ``path`` in one step, readable by its owner only: a temporary file beside it, fsync, rename."""
    handle, temporary = tempfile.mkstemp(prefix=".new-", dir=path.parent)
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
