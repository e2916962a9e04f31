"""Shows a run: bars on a terminal, log lines elsewhere, or one JSON object a line; and its result at the end.

Everything here is talk and goes to stderr. A report never fails a run: a stream that is gone is written to no more.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import logging
import os
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any, Protocol, TextIO

from driveshard.console import is_terminal, standard
from driveshard.events import Event, Notice, Published, SourceFailed, Started, Waiting
from driveshard.progress import Tally
from driveshard.text import countdown, human_size, plural, shown

LISTED = 20  # failures that are named
_EVERY = 30.0  # seconds between progress lines
_WORTH_A_LINE = 10.0  # seconds; shorter waits are not worth a log line


class Report(Protocol):
    """Where events go during a run. ``emit`` may be called from any thread and never raises."""

    def emit(self, event: Event) -> None:
        """Show one event."""

    def say(self, text: str) -> None:
        """Show a line of its own."""

    def close(self) -> None:
        """Take down what moves."""


class Quiet:
    """Only errors, which others print."""

    def emit(self, event: Event) -> None:
        """Nothing."""

    def say(self, text: str) -> None:
        """Nothing."""

    def close(self) -> None:
        """Nothing to take down."""


class Stream:
    """Writes lines from any thread and gives up for good when nobody reads them."""

    def __init__(self, stream: TextIO | None) -> None:
        self._stream = stream
        self._lock = threading.RLock()

    def line(self, text: str) -> None:
        """Write one line; the first failure is the last try."""
        with self._lock:
            if self._stream is None:
                return
            try:
                self._stream.write(shown(text) + "\n")
                self._stream.flush()
            except (OSError, ValueError):
                self._stream = None


class JsonLines:
    """One JSON object a line: ``{"event": "PartReleased", "time": 1766000000.1, ...}``."""

    def __init__(self, stream: Stream) -> None:
        self._stream = stream

    def emit(self, event: Event) -> None:
        values = {slot.name: getattr(event, slot.name) for slot in dataclasses.fields(event)}
        self._put({"event": type(event).__name__, **values})

    def say(self, text: str) -> None:
        self._put({"event": "Said", "text": text})

    def close(self) -> None:
        """Nothing to take down."""

    def _put(self, document: dict[str, Any]) -> None:
        self._stream.line(json.dumps({"time": round(time.time(), 3), **document}, ensure_ascii=False))


class Lines:
    """Log lines: progress at most every 30 seconds, notices, long waits and the first failures as they come."""

    def __init__(self, stream: Stream, tally: Tally) -> None:
        self._stream = stream
        self._clock = clock = tally.clock
        self._lock = threading.Lock()
        self.tally = tally
        self._next = clock() + _EVERY
        self._told: dict[str, float] = {}

    def emit(self, event: Event) -> None:
        line = self._line_of(event)
        if line:
            self.say(line)
        elif self._due():
            self.say(progress_line(self.tally))

    def say(self, text: str) -> None:
        self._stream.line(f"{time.strftime('%H:%M:%S')} {text}")

    def close(self) -> None:
        """Nothing to take down."""

    def _due(self) -> bool:
        with self._lock:
            now = self._clock()
            if now < self._next:
                return False
            self._next = now + _EVERY
            return bool(self.tally.name)

    def _line_of(self, event: Event) -> str | None:
        if isinstance(event, Started):
            return started_line(event)
        if isinstance(event, Notice):
            return event.text
        if isinstance(event, SourceFailed):
            return failure_line(event, self.tally.failures)
        if isinstance(event, Waiting):
            return self._wait_line(event)
        if isinstance(event, Published):
            return progress_line(self.tally)
        return None

    def _wait_line(self, event: Waiting) -> str | None:
        """A wait that is long, or has no known end, and was not told of in the last half minute."""
        now = self._clock()
        with self._lock:
            if 0 < event.seconds < _WORTH_A_LINE or self._told.get(event.why, -_EVERY) > now - _EVERY:
                return None
            self._told[event.why] = now
        return f"waiting {countdown(event.seconds)}: {event.why}" if event.seconds else f"waiting: {event.why}"


def started_line(event: Started) -> str:
    """What begins."""
    there = f", {plural(event.parts_done, 'part')} up already" if event.parts_done else ""
    return f"pushing {event.name}: {event.source} -> {event.destination}{there}"


def failure_line(event: SourceFailed, count: int) -> str | None:
    """One of the first failures, the notice that more follow, or nothing."""
    if count <= LISTED:
        return f"cannot read {event.path}: {event.why}"
    return "more files cannot be read; they are counted" if count == LISTED + 1 else None


def progress_line(tally: Tally) -> str:
    """``packed 8/8 parts, uploaded 3/8 parts, 12.3 of 40.0 MiB, 2.0 MiB/s, 14 s left``"""
    more = "" if tally.scanned else "+"
    words = [
        f"packed {tally.parts_packed:,}/{tally.parts_total:,}{more} parts",
        f"uploaded {tally.parts_up:,}/{tally.parts_total:,}{more}",
        f"{human_size(tally.bytes_up)} of {human_size(tally.bytes_total)}{more}",
    ]
    rate, left = tally.rate(), tally.seconds_left()
    if not tally.ended:
        words += [f"{human_size(rate)}/s"] if rate else []
        words += [f"{countdown(left)} left"] if left else []
    if tally.failures:
        words.append(f"{plural(tally.failures, 'file')} could not be read")
    return ", ".join(words)


class _LogLines(logging.Handler):
    """What modules log, said as lines."""

    def __init__(self, say: Callable[[str], None]) -> None:
        super().__init__()
        self._say = say

    def emit(self, record: logging.LogRecord) -> None:
        self._say(record.getMessage())


@contextlib.contextmanager
def opened_report(
    tally: Tally, *, quiet: bool = False, verbose: bool = False, log_format: str = "text"
) -> Iterator[Report]:
    """The report that suits stderr and the options, taken down at the end. ``tally`` is what it shows; whoever emits
    lets it take the event first."""
    report = _choose(tally, quiet, log_format)
    with logs_said(report.say, verbose=verbose):
        try:
            yield report
        finally:
            report.close()


@contextlib.contextmanager
def logs_said(say: Callable[[str], None], *, verbose: bool) -> Iterator[None]:
    """Have warnings said and, with ``verbose``, every request: its method, path and status, never a secret."""
    handler = _LogLines(say)
    ours, requests = logging.getLogger("driveshard"), logging.getLogger("driveshard.http")
    ours.addHandler(handler)
    requests.setLevel(logging.DEBUG if verbose else logging.NOTSET)
    try:
        yield
    finally:
        ours.removeHandler(handler)
        requests.setLevel(logging.NOTSET)


def _choose(tally: Tally, quiet: bool, log_format: str) -> Report:
    if quiet:
        return Quiet()
    if log_format == "json":
        return JsonLines(Stream(standard("stderr")))
    if is_terminal(standard("stderr")) and os.environ.get("TERM") != "dumb":
        from driveshard.bars import Bars

        return Bars(standard("stderr"), tally)
    return Lines(Stream(standard("stderr")), tally)
