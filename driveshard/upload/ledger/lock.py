"""One run at a time for a dataset: an OS lock beside its ledger, and a note of who holds it."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from driveshard.core.clock import Clock
from driveshard.core.errors import Busy, TempFull
from driveshard.core.events import Emit, Waiting

if sys.platform != "win32":
    import fcntl

_LOOK_EVERY = 1.0
_LOOKS, _MOMENT = 3, 0.05


@contextlib.contextmanager
def hold(path: Path, name: str, clock: Clock, emit: Emit, *, wait: bool) -> Iterator[None]:
    """Hold the lock of dataset ``name`` at ``path``. Raises Busy when another run has it, unless ``wait``, and TempFull
    when its folder is not writable.

    The lock is the operating system's, so it ends with its process, however that ends.
    """
    lock = FileLock(path, timeout=0)
    holder = path.with_suffix(".holder")
    told = False
    looks = 0
    while True:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            lock.acquire()
            break
        except Timeout:
            looks += 1
            if not wait and looks < _LOOKS:  # somebody who only asks has it for a moment
                clock.sleep(_MOMENT)
                continue
            who = described(_note(holder) or {})
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


def is_held(path: Path) -> bool | None:
    """Whether a run has the lock at ``path``, on whatever host; None when that cannot be asked. The lock itself is the
    only witness: a note may be left over, and its process's number be another's by now."""
    try:
        if sys.platform == "win32":
            with FileLock(path, timeout=0):
                return False
        handle = os.open(path, os.O_RDONLY)
        try:
            fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)  # many may ask at once
            return False
        finally:
            os.close(handle)
    except FileNotFoundError:
        return False
    except (Timeout, BlockingIOError):
        return True
    except OSError:
        return None


def read_holder(path: Path) -> dict[str, Any] | None:
    """Who has the lock at ``path``: ``pid``, ``host``, ``since``, each None when it is not known; None when nobody
    has it."""
    if is_held(path) is False:
        return None
    note = _note(path.with_suffix(".holder"))
    if note is None and is_held(path) is None:
        return None
    return {key: (note or {}).get(key) for key in ("pid", "host", "since")}


def _note(holder: Path) -> dict[str, Any] | None:
    try:
        note = json.loads(holder.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return None
    return note if isinstance(note, dict) and type(note.get("pid")) is int else None


def described(holder: Mapping[str, Any]) -> str:
    """The holder in words."""
    if holder.get("pid") is None:
        return "another process"
    return f"process {holder['pid']} on {holder.get('host')} since {holder.get('since')}"
