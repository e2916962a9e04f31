"""The bandwidth limit may be changed while a run goes on: SIGUSR1 has the config and job file read again."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Callable, Iterator

from driveshard.core.errors import DriveshardError
from driveshard.storage.rate_limits import parse_bwlimit
from driveshard.upload.push import Task

_SIGNAL = getattr(signal, "SIGUSR1", None)  # Windows has none


@contextlib.contextmanager
def rereading(task: Task, say: Callable[[str], None]) -> Iterator[None]:
    """Meanwhile the signal changes the limit. Only the main thread can be told of signals."""
    if _SIGNAL is None or task.reread is None or threading.current_thread() is not threading.main_thread():
        yield
        return

    def heard(*_: object) -> None:  # whoever was interrupted may hold the lock of the screen
        threading.Thread(target=read_again, args=(task, say), name="reread", daemon=True).start()

    before = signal.signal(_SIGNAL, heard)
    try:
        yield
    finally:
        signal.signal(_SIGNAL, before)


def read_again(task: Task, say: Callable[[str], None]) -> None:
    """Take the limit that the files, the environment and the flags give now, and say which it is."""
    try:
        assert task.reread is not None
        limit = task.reread().bwlimit
        task.settings.bandwidth.timetable = parse_bwlimit(limit) if limit else None
    except DriveshardError as error:
        say(f"the bandwidth limit stays as it is: {error}")
    else:
        say(f"the bandwidth limit is now {limit or 'off'}")
