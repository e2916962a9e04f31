"""The edge between the commands and the outside: errors become sentences and exit codes, signals become a stop.

Whatever happens after a signal, the process is gone within five seconds: every step of a run is safe to be cut off.
"""

from __future__ import annotations

import contextlib
import os
import re
import signal
import socket
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, NoReturn

from driveshard.errors import ComeBackLater, Defect, DriveshardError
from driveshard.text import error_text

_PATIENCE = 4.5  # seconds from the first signal to the end, whatever hangs
# SIGHUP comes when the terminal is closed or the connection to it breaks; Windows has none.
_SIGNALS = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name))
_HANGUP = getattr(signal, "SIGHUP", None)
# A session URI is a secret as a whole: whoever has it can write into the upload.
_SESSION = re.compile(
    r"(https?://[^\s\"'<>?]*)\?[^\s\"'<>]*(?:upload_id|session_crd|uploadType)[^\s\"'<>]*", re.IGNORECASE
)
_WORDS = "upload_id|session_crd|access_token|refresh_token|client_secret|password"
_SECRETS = re.compile(
    rf"((?:{_WORDS}|key)(?:=|%3D)|(?:{_WORDS})[\"']\s*:\s*[\"']|Bearer )[^\s&\"']+"
    r"|ya29\.[\w.-]+|1//[\w.-]+|GOCSPX-[\w-]+|AIza[\w-]{20,}|(://[^\s/:@]*:)[^\s/@]+(?=@)",
    re.IGNORECASE,
)


class Stopper:
    """Turns the first SIGINT, SIGTERM or SIGHUP into ``stop`` and the second into the end; counts down from the first.

    Signals are read from a socket by a thread, so that they are heard even while the main thread is stuck in a call.
    """

    def __init__(self, stop: threading.Event, say: Callable[[str], None]) -> None:
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
        for number in _SIGNALS:
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
            if heard[0] in _SIGNALS:
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


def close_stdout() -> None:
    """Flush it and stderr, or give them up: Python would complain at its end about what cannot be written, with an exit
    code of its own."""
    for stream in (sys.stdout, sys.stderr):
        try:
            if stream is not None:
                stream.flush()
        except (OSError, ValueError):
            with contextlib.suppress(OSError, ValueError):
                os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def explain(error: DriveshardError, home: Path, *, verbose: bool) -> str:
    """What the user reads about an error: a sentence, what to do next and, with ``verbose``, the cause."""
    lines = [f"driveshard: {sentence(str(error))}"]
    if isinstance(error, ComeBackLater) and error.resume_after and error.resume_after > time.time():
        lines.append(f"It can go on from {moment(error.resume_after)}.")
    if error.advice:
        lines.append(sentence(error.advice))
    if isinstance(error, Defect):
        saved = save_traceback(error.__cause__ or error, home)
        lines += [f"The details are in {saved}."] if saved else []
    cause = error.__cause__
    if verbose and cause is not None:
        lines.append(f"cause: {type(cause).__name__}: {redacted(str(cause))}")
    return "\n".join(lines)


def error_as_json(error: DriveshardError) -> dict[str, Any]:
    """An error for those who read events."""
    return {
        "error": type(error).__name__,
        "message": redacted(str(error)),
        "advice": error.advice,
        "resume_after": getattr(error, "resume_after", None),
        "exit_code": error.exit_code,
    }


def sentence(text: str) -> str:
    """With a full stop."""
    return text if text.endswith((".", "!", "?", ":")) else f"{text}."


def moment(when: float) -> str:
    """``2026-11-23 16:20`` in local time."""
    return time.strftime("%Y-%m-%d %H:%M", time.localtime(when))


def defect(error: BaseException) -> Defect:
    """An exception that nobody expected, for the user."""
    found = Defect(redacted(error_text(error)))
    found.__cause__ = error
    return found


def redacted(text: str) -> str:
    """Without tokens, keys and session URIs."""
    text = _SESSION.sub(r"\1?...", text)
    return _SECRETS.sub(lambda match: f"{match[1] or match[2] or ''}...", text)


def save_traceback(error: BaseException, home: Path) -> Path | None:
    """Write where it happened into the home folder, readable by the owner; None when that fails, too."""
    path = home / f"crash-{time.strftime('%Y%m%d-%H%M%S')}-{os.getpid()}.txt"
    text = redacted("".join(traceback.format_exception(error)))
    try:
        home.mkdir(parents=True, exist_ok=True)
        with os.fdopen(os.open(path, os.O_CREAT | os.O_WRONLY | os.O_TRUNC, 0o600), "w", encoding="utf-8") as stream:
            stream.write(f"driveshard {_version()} on {sys.platform}, Python {sys.version.split()[0]}\n\n{text}")
    except (OSError, UnicodeError):
        return None
    return path


def _version() -> str:
    from driveshard import __version__

    return __version__


def home_for_crashes(environment: Mapping[str, str] | None = None) -> Path:
    """The home folder, also when the configuration in it is broken; the system's temp folder when there is none."""
    from driveshard.config import home_folder

    try:
        return home_folder(os.environ if environment is None else environment)
    except DriveshardError:
        return Path(tempfile.gettempdir())
