"""stdout is data, stderr is talk; and how much a command talks."""

from __future__ import annotations

import contextlib
import json
import os
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NoReturn

from driveshard.errors import TempFull
from driveshard.text import shown


@dataclass
class Manner:
    """How a command talks: the options that are the same everywhere."""

    as_json: bool = False
    log_format: str = "text"
    quiet: bool = False
    verbose: bool = False

    def reset(self) -> None:
        """As it is before any option was read."""
        vars(self).update(vars(Manner()))


def tell(text: str) -> None:
    """A line on stderr. Nobody listening is no reason to fail."""
    with contextlib.suppress(OSError, ValueError, AttributeError):
        sys.stderr.write(shown(text) + "\n")
        sys.stderr.flush()


def put(text: str) -> None:
    """A line on stdout; text that stands for bytes of a path goes out as those bytes."""
    put_bytes(text.encode("utf-8", "surrogateescape") + b"\n")


def leave(code: int) -> NoReturn:
    """End the process without waiting for threads that a stop left in the middle of something."""
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError, AttributeError):
            stream.flush()
    os._exit(code)


def tell_event(kind: str, document: Mapping[str, Any]) -> None:
    """A line of ``--log-format json`` on stderr."""
    tell(json.dumps({"time": round(time.time(), 3), "event": kind, **document}))


class ReaderGone(Exception):
    """Whoever read stdout has seen enough (``| head``)."""


def put_bytes(data: bytes | memoryview) -> None:
    """Bytes on stdout, as they are. Raises ReaderGone, and TempFull when there is no room for them."""
    if sys.stdout is None:
        return
    try:
        sys.stdout.flush()
        sys.stdout.buffer.write(data)
        sys.stdout.buffer.flush()
    except BrokenPipeError as error:
        raise ReaderGone from error
    except OSError as error:
        raise TempFull(
            f"the output cannot be written: {error.strerror or error}", advice="Free some room, or write elsewhere."
        ) from error


def put_result(result: str | Mapping[str, Any]) -> None:
    """The line, or JSON object, that tells on stdout how a command ended. Whether anybody takes it changes nothing of
    what was done, so it never raises: that nobody reads is fine, and that there is no room is said once."""
    try:
        put(result if isinstance(result, str) else json.dumps(result))
    except (ReaderGone, TempFull) as error:
        if isinstance(error, TempFull):
            tell(f"driveshard: {error}. {error.advice}")
        silence_stdout()


def silence_stdout() -> None:
    """Nobody takes what goes there: let it go nowhere, also what Python would still write at its end."""
    with contextlib.suppress(OSError, ValueError, AttributeError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def is_terminal(stream: Any) -> bool:
    """Whether somebody looks at it; a stream that was closed is None."""
    return stream is not None and bool(stream.isatty())


def put_json(document: Mapping[str, Any]) -> None:
    """The result object: the last line of stdout."""
    put(json.dumps(document))
