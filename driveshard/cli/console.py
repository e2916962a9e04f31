"""stdout is data, stderr is talk; and how much a command talks."""

from __future__ import annotations

import contextlib
import json
import os
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, NoReturn

from driveshard.core.errors import TempFull
from driveshard.core.formatting import iso_time, log_time, shown


@dataclass
class Manner:
    """How a command talks: the options that are the same everywhere."""

    as_json: bool = False
    log_format: str = "text"
    quiet: bool = False
    verbose: bool = False
    answered: bool = False  # the result object was printed

    def reset(self) -> None:
        """As it is before any option was read."""
        vars(self).update(vars(Manner()))


manner = Manner()
"""Of the command that runs; set while its options are read."""


@contextlib.contextmanager
def streams_kept() -> Iterator[None]:
    """Meanwhile what goes to stdout and stderr goes where they led before, whatever a source's code does to them:
    closes them, sets others in their place, or closes the files below."""
    before = dict(_kept)
    copies = {name: _copy_of(getattr(sys, name)) for name in ("stdout", "stderr")}
    _kept.update(copies)
    try:
        yield
    finally:
        _kept.clear()
        _kept.update(before)
        for name, copy in copies.items():
            _end(copy, getattr(sys, name))


gives_way: list[Callable[[bytes | None], None]] = []
"""What moves on the screen; called before something else is written, with the bytes that go to a terminal, too."""

_kept: dict[str, Any] = {}


def _copy_of(stream: Any) -> Any:
    """A stream to the same place as that one, or itself where it leads to no file (in a test, in a notebook)."""
    try:
        stream.flush()
        number = os.dup(stream.fileno())
    except (OSError, ValueError, AttributeError):
        return stream
    return open(number, "w", encoding=stream.encoding, errors=stream.errors)


def _end(copy: Any, stream: Any) -> None:
    if copy is not stream:
        with contextlib.suppress(OSError, ValueError, AttributeError):
            copy.close()


def standard(name: str) -> Any:
    """``stdout`` or ``stderr``, or what ``streams_kept`` keeps of it."""
    return _kept.get(name) or getattr(sys, name)


def tell(text: str) -> None:
    """A line on stderr. Nobody listening is no reason to fail."""
    for give_way in gives_way:
        give_way(None)
    with contextlib.suppress(OSError, ValueError, AttributeError):
        stream = standard("stderr")
        stream.write(shown(text) + "\n")
        stream.flush()


def tell_timed(text: str) -> None:
    """As ``tell``; in a log, where nobody looks at it as it comes, each line with its time."""
    seen = is_terminal(standard("stderr"))
    for line in [text] if seen else text.splitlines():
        tell(line if seen else f"{log_time()} {line}")


def put(text: str) -> None:
    """A line on stdout; text that stands for bytes of a path goes out as those bytes."""
    put_bytes(text.encode("utf-8", "surrogateescape") + b"\n")


def leave(code: int) -> NoReturn:
    """End the process without waiting for threads that a stop left in the middle of something."""
    for stream in (standard("stdout"), standard("stderr")):
        with contextlib.suppress(OSError, ValueError, AttributeError):
            stream.flush()
    os._exit(code)


def tell_event(kind: str, document: Mapping[str, Any]) -> None:
    """A line of ``--log-format json`` on stderr."""
    tell(json.dumps({"time": iso_time(), "event": kind, **document}))


class ReaderGone(Exception):
    """Whoever read stdout has seen enough (``| head``)."""


def put_bytes(data: bytes | memoryview) -> None:
    """Bytes on stdout, as they are. Raises ReaderGone, and TempFull when there is no room for them."""
    stream = standard("stdout")
    if stream is None:
        return
    for give_way in list(gives_way) if is_terminal(stream) else ():
        give_way(bytes(data[-1:]))
    try:
        with contextlib.suppress(OSError, ValueError, AttributeError):
            sys.stdout.flush()  # a source's own words come before
        stream.flush()
        stream.buffer.write(data)
        stream.buffer.flush()
    except BrokenPipeError as error:
        raise ReaderGone from error
    except OSError as error:
        raise TempFull(
            f"the output cannot be written: {error.strerror or error}", advice="Free some room, or write elsewhere."
        ) from error


def put_result(result: str | Mapping[str, Any]) -> None:
    """The line, or JSON object, that tells on stdout how a command ended. Whether anybody takes it changes nothing of
    what was done, so it never raises: that nobody reads is fine, and that there is no room is said once."""
    _note_answer(result)
    try:
        put(result if isinstance(result, str) else json.dumps(result))
    except (ReaderGone, TempFull) as error:
        if isinstance(error, TempFull):
            tell(f"driveshard: {error}. {error.advice}")
        silence_stdout()


def _note_answer(result: str | Mapping[str, Any]) -> None:
    """Whether a command has given its one object; an error that ends it adds no second one."""
    manner.answered = manner.answered or not isinstance(result, str)


def silence_stdout() -> None:
    """Nobody takes what goes there: let it go nowhere, also what Python would still write at its end."""
    with contextlib.suppress(OSError, ValueError, AttributeError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def is_terminal(stream: Any) -> bool:
    """Whether somebody looks at it; a stream that was closed is None."""
    return stream is not None and bool(stream.isatty())


def put_json(document: Mapping[str, Any]) -> None:
    """The result object: the last line of stdout."""
    _note_answer(document)
    put(json.dumps(document))


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
