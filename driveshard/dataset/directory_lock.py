"""One pull at a time into a directory: the operating system's lock on the directory itself, which leaves no file."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator
from pathlib import Path

from driveshard.core.errors import Busy

if sys.platform != "win32":
    import fcntl


@contextlib.contextmanager
def hold_directory(directory: Path) -> Iterator[None]:
    """Hold it, until the end or the process's end. Raises Busy when somebody else does. Where the system cannot lock a
    directory (Windows, some mounts) there is no lock, and each file still gets its name only when it is proved."""
    if sys.platform == "win32":
        yield
        return
    try:
        handle = os.open(directory, os.O_RDONLY)
    except OSError:  # one that may be written and not read
        yield
        return
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise Busy(
                f"another pull into {directory} is under way", advice="Wait for it to end, or name another directory."
            ) from None
        except OSError:
            pass  # a file system without locks
        yield
    finally:
        os.close(handle)
