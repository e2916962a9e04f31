"""``push --every``: stays, and pushes what is new each time. Nothing is kept between two runs but the time, so a
service that is killed and started again goes on as if nothing had been.

systemd is told over its own small protocol (sd_notify(3)): that it is ready, what it does, and that it is alive.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator

from driveshard.cli.console import tell
from driveshard.cli.error_messages import moment
from driveshard.cli.signals import Stopper

TO_BE_MENDED = frozenset({64, 70, 77, 78, 79})
"""Exit codes that no waiting helps against: the service ends with them, so that somebody looks."""
Resting = Callable[[float], contextlib.AbstractContextManager[None]]
_HANGUP = getattr(signal, "SIGHUP", None)


def notify(*words: str) -> None:
    """Tell systemd, if it started us and wants to know."""
    address = os.environ.get("NOTIFY_SOCKET", "")
    if not address or not hasattr(socket, "AF_UNIX"):
        return
    with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as line:
        line.settimeout(0.5)  # who does not listen holds up nothing
        line.connect("\0" + address[1:] if address.startswith("@") else address)
        line.sendall("\n".join(words).encode())


class Service:
    """Runs ``once`` every ``seconds``, counted from start to start. ``once`` returns the exit code, and whether a
    signal ended it. ``resting`` surrounds the wait for the next one, which begins at the POSIX time it is given."""

    def __init__(self, seconds: float, resting: Resting, *, quiet: bool) -> None:
        self._seconds = seconds
        self._quiet = quiet
        self._resting = resting
        self._again = threading.Event()

    def run(self, once: Callable[[], tuple[int, bool]]) -> tuple[int, bool]:
        """Until a signal comes or there is something to be mended."""
        with self._heard_again(), _alive():
            notify("READY=1", "STATUS=pushing")
            while True:
                began = time.monotonic()
                self._again.clear()
                code, stopped = once()
                if stopped or code in TO_BE_MENDED:
                    break
                left = max(1.0, began + self._seconds - time.monotonic())
                then = time.time() + left
                said = f"next push at {moment(then)}"
                notify(f"STATUS={'waiting' if not code else f'the last push ended with {code}'}; {said}")
                if not self._quiet:
                    tell(said)
                with self._resting(then):
                    stop = self._rest(left)
                if stop is not None:
                    code, stopped = stop, True
                    break
                notify("STATUS=pushing")
            notify("STOPPING=1")
            return code, stopped

    def _rest(self, seconds: float) -> int | None:
        """Wait; the exit code when a signal ended it. 0 as nothing was under way that could be left unfinished."""
        stop = threading.Event()
        until = time.monotonic() + seconds
        with Stopper(stop, lambda _: None, hangup=False):
            while not self._again.is_set() and (left := until - time.monotonic()) > 0:
                if stop.wait(min(left, 0.5)):
                    return 0
        return None

    @contextlib.contextmanager
    def _heard_again(self) -> Iterator[None]:
        """SIGHUP has the next push, which reads the job file anew, begin at once."""
        if _HANGUP is None or threading.current_thread() is not threading.main_thread():
            yield
            return
        before = signal.signal(_HANGUP, lambda *_: self._again.set())
        try:
            yield
        finally:
            signal.signal(_HANGUP, before)


@contextlib.contextmanager
def _alive() -> Iterator[None]:
    """Meanwhile systemd's watchdog hears twice as often as it asks for."""
    every = os.environ.get("WATCHDOG_USEC", "")
    ended = threading.Event()
    if every.isdecimal() and int(every):

        def beat() -> None:
            while not ended.wait(int(every) / 2e6):
                notify("WATCHDOG=1")

        threading.Thread(target=beat, name="watchdog", daemon=True).start()
    try:
        yield
    finally:
        ended.set()
