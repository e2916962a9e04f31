"""The edge between the commands and the outside: errors become sentences and exit codes, signals become a stop.

Whatever happens after a signal, the process is gone within five seconds: every step of a run is safe to be cut off.
"""

from __future__ import annotations

import os
import re
import sys
import tempfile
import time
import traceback
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from driveshard.core.errors import ComeBackLater, Defect, DriveshardError
from driveshard.core.formatting import error_text

# A session URI is a secret as a whole: whoever has it can write into the upload.
_SESSION = re.compile(
    r"(https?://[^\s\"'<>?]*)\?[^\s\"'<>]*(?:upload_id|session_crd|uploadType)[^\s\"'<>]*", re.IGNORECASE
)
_WORDS = "upload_id|session_crd|access_token|refresh_token|id_token|client_secret|code_verifier|device_code|password"
_SECRETS = re.compile(
    rf"((?:{_WORDS}|key)(?:=|%3D)|(?:{_WORDS})[\"']\s*:\s*[\"']|Bearer )[^\s&\"']+"
    r"|ya29\.[\w.-]+|1//[\w.-]+|GOCSPX-[\w-]+|\b4/[\w-]{20,}|AIza[\w-]{20,}|(://[^\s/:@]*:)[^\s/@]+(?=@)",
    re.IGNORECASE,
)


def explain(error: DriveshardError, home: Path, *, verbose: bool) -> str:
    """What the user reads about an error: a sentence, what to do next and, with ``verbose``, the cause."""
    lines = [f"driveshard: {sentence(error.message)}"]
    if isinstance(error, ComeBackLater) and error.resume_after and error.resume_after > time.time():
        lines.append(f"It can go on from {moment(error.resume_after)}.")
    if error.advice:
        lines.append(sentence(error.advice))
    if isinstance(error, Defect):
        saved = save_traceback(error.__cause__ or error, home)
        lines += [f"The details are in {saved}."] if saved else []
    cause = error.__cause__
    if verbose and cause is not None:
        lines.append(f"cause: {type(cause).__name__}: {redacted(getattr(cause, 'message', None) or str(cause))}")
    return "\n".join(lines)


def error_as_json(error: DriveshardError) -> dict[str, Any]:
    """An error for those who read events."""
    return {
        "error": type(error).__name__,
        "message": redacted(error.message),
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
    from driveshard.config.settings import home_folder

    try:
        return home_folder(os.environ if environment is None else environment)
    except DriveshardError:
        return Path(tempfile.gettempdir())
