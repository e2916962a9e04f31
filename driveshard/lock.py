"""One run at a time for a dataset: an OS lock beside its ledger, and a note of who holds it."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import time
from collections.abc import Iterator
from pathlib import Path

from filelock import FileLock, Timeout

from driveshard.clock import Clock
from driveshard.errors import Busy, TempFull
from driveshard.events import Emit, Waiting

_LOOK_EVERY = 1.0


@contextlib.contextmanager
def hold(path: Path, name: str, clock: Clock, emit: Emit, *, wait: bool) -> Iterator[None]:
    """Hold the lock of dataset ``name`` at ``path``. Raises Busy when another run has it, unless ``wait``, and TempFull
    when its folder is not writable.

    The lock is the operating system's, so it ends with its process, however that ends.
    """
    lock = FileLock(path, timeout=0)
    holder = path.with_suffix(".holder")
    told = False
    while True:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            lock.acquire()
            break
        except Timeout:
            who = _describe(holder)
            if not wait:
                raise Busy(f"{name} is being pushed by {who}") from None
            if not told:
                emit(Waiting(f"{name} is being pushed by {who}", 0.0))
                told = True
            clock.sleep(_LOOK_EVERY)
        except OSError as error:
            raise TempFull(
                f"{path.parent} cannot be written ({error.strerror or error})",
                advice="Mend that, or name another folder with DRIVESHARD_HOME, then run the same command again.",
            ) from error
    try:
        note = {"pid": os.getpid(), "host": socket.gethostname(), "since": time.strftime("%Y-%m-%d %H:%M:%S")}
        with contextlib.suppress(OSError):  # only for the message that others get
            holder.write_text(json.dumps(note), encoding="utf-8")
        yield
    finally:
        with contextlib.suppress(OSError):
            holder.unlink()
        lock.release()


def _describe(holder: Path) -> str:
    try:
        note = json.loads(holder.read_text(encoding="utf-8"))
        return f"process {note['pid']} on {note['host']} since {note['since']}"
    except (OSError, ValueError, KeyError, TypeError):
        return "another process"
