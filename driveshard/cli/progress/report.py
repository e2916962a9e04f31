"""Shows a run: bars on a terminal, log lines elsewhere, or one JSON object a line; and its result at the end.

Everything here is talk and goes to stderr. A report never fails a run: a stream that is gone is written to no more.
"""

from __future__ import annotations

import contextlib
import logging
import os
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Protocol

from driveshard.cli.console import Manner, is_terminal, standard, tell
from driveshard.cli.progress.json_lines import JsonLines
from driveshard.cli.progress.log_lines import EVERY, Lines
from driveshard.cli.progress.stream import Stream
from driveshard.cli.progress.tally import Tally
from driveshard.core.events import Emit, Event, Notice, Waiting
from driveshard.core.formatting import countdown

_LOOK = 0.5  # seconds between looks at whether something is due


class Report(Protocol):
    """Where events go during a run. ``emit`` may be called from any thread and never raises."""

    def emit(self, event: Event) -> None:
        """Show one event."""

    def say(self, text: str) -> None:
        """Show a line of its own."""

    def beat(self) -> None:
        """Half a minute has passed, or a second: say how far it is, if that is due."""

    def close(self) -> None:
        """Take down what moves."""


class Quiet:
    """Only errors, which others print."""

    def emit(self, event: Event) -> None:
        """Nothing."""

    def say(self, text: str) -> None:
        """Nothing."""

    def beat(self) -> None:
        """Nothing."""

    def close(self) -> None:
        """Nothing to take down."""


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
    every = EVERY if isinstance(report, JsonLines) else _LOOK
    with logs_said(report.say, verbose=verbose), beating(report.beat, every):
        try:
            yield report
        finally:
            report.close()


@contextlib.contextmanager
def beating(beat: Callable[[], None], every: float) -> Iterator[None]:
    """Call ``beat`` every so many seconds, whatever else happens."""
    ended = threading.Event()

    def go_on() -> None:
        while not ended.wait(every):
            beat()

    thread = threading.Thread(target=go_on, name="beat", daemon=True)
    with contextlib.suppress(RuntimeError):  # no more threads: then it is told when something happens
        thread.start()
    try:
        yield
    finally:
        ended.set()
        if thread.is_alive():
            thread.join()


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
        return JsonLines(Stream(standard("stderr")), tally)
    if is_terminal(standard("stderr")) and os.environ.get("TERM") != "dumb":
        from driveshard.cli.progress.bars import Bars

        return Bars(standard("stderr"), tally)
    return Lines(Stream(standard("stderr")), tally)


@contextmanager
def told(manner: Manner) -> Iterator[Emit]:
    """An Emit for commands that show no progress: it tells why one takes longer. Requests, with ``-v``, too."""
    lines = JsonLines(Stream(sys.stderr))

    def emit(event: Event) -> None:
        if manner.log_format == "json":
            lines.emit(event)
        elif isinstance(event, Waiting) and not manner.quiet:
            tell(f"waiting {countdown(event.seconds)}: {event.why}")
        elif isinstance(event, Notice) and not manner.quiet:
            tell(event.text)

    with logs_said(lines.say if manner.log_format == "json" else tell, verbose=manner.verbose):
        yield emit
