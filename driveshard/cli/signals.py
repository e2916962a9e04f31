"""Signals become a stop."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import sys
import threading
from collections.abc import Callable
from types import TracebackType
from typing import NoReturn

_PATIENCE = 4.5  # seconds from the first signal to the end, whatever hangs


# SIGHUP comes when the terminal is closed or the connection to it breaks; Windows has none.
_SIGNALS = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name))


_HANGUP = getattr(signal, "SIGHUP", None)


class Stopper:
    """Turns the first SIGINT, SIGTERM or SIGHUP into ``stop`` and the second into the end; counts down from the first.

    Signals are read from a socket by a thread, so that they are heard even while the main thread is stuck in a call.
    """

    def __init__(self, stop: threading.Event, say: Callable[[str], None], *, hangup: bool = True) -> None:
        """``hangup`` False leaves SIGHUP to whoever listens for it already."""
        self._signals = tuple(one for one in _SIGNALS if hangup or one != _HANGUP)
        self._stop = stop
        self._say = say
        self._first: int | None = None
        self._before: dict[int, object] = {}

    @property
    def exit_code(self) -> int | None:
        """128 and the signal's number, once one came."""
        return None if self._first is None else 128 + self._first

    def __enter__(self) -> Stopper:
        self._ear, self._mouth = socket.socketpair()
        self._mouth.setblocking(False)
        self._wakeup = signal.set_wakeup_fd(self._mouth.fileno(), warn_on_full_buffer=False)
        for number in self._signals:
            if number != _HANGUP or signal.getsignal(number) is not signal.SIG_IGN:  # else nohup asked to go on
                self._before[number] = signal.signal(number, lambda *_: None)
        self._thread = threading.Thread(target=self._listen, name="signals", daemon=True)
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        if self._first is not None:
            return  # the countdown goes on until the process ends
        signal.set_wakeup_fd(self._wakeup)
        for number, handler in self._before.items():
            signal.signal(number, handler)  # type: ignore[arg-type]
        self._mouth.close()
        self._thread.join()
        self._ear.close()

    def _listen(self) -> None:
        while True:
            try:
                heard = self._ear.recv(1)
            except TimeoutError:
                cut_off(self.exit_code or 130)
            except OSError:
                return
            if not heard:
                return
            if heard[0] in self._signals:
                self._heard(heard[0])

    def _heard(self, number: int) -> None:
        if self._first is not None:
            cut_off(128 + self._first)
        self._first = number
        self._ear.settimeout(_PATIENCE)
        self._stop.set()
        # In a thread of its own: whoever holds the screen may be what hangs.
        threading.Thread(target=self._tell, name="stopping", daemon=True).start()

    def _tell(self) -> None:
        self._say("stopping: finishing requests under way; once more stops at once")


def cut_off(code: int) -> NoReturn:
    """Leave in the middle of everything; the cursor that bars had hidden is shown again."""
    with contextlib.suppress(OSError, ValueError, AttributeError):
        if sys.stderr.isatty():
            os.write(sys.stderr.fileno(), b"\x1b[?25h\r\n")
    os._exit(code)
