"""Shows a run: bars on a terminal, log lines elsewhere, or one JSON object a line; and its result at the end.

Everything here is talk and goes to stderr. A report never fails a run: a stream that is gone is written to no more.
"""

from __future__ import annotations

import contextlib
import logging
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Protocol

from driveshard.cli.console import Manner, is_terminal, standard, tell, tell_timed
from driveshard.cli.progress.beat import beating
from driveshard.cli.progress.json_lines import JsonLines
from driveshard.cli.progress.log_lines import EVERY, Lines
from driveshard.cli.progress.spinner import Spinner, spinning
from driveshard.cli.progress.stream import Stream
from driveshard.cli.progress.tally import Tally
from driveshard.core.events import Doing, Event, Notice, Waiting
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
    if _seen():
        from driveshard.cli.progress.bars import Bars

        return Bars(standard("stderr"), tally)
    return Lines(Stream(standard("stderr")), tally)


def _seen() -> bool:
    """Whether stderr is a screen on which something can move."""
    return is_terminal(standard("stderr")) and os.environ.get("TERM") != "dumb"


class Talk:
    """An Emit for commands that show no bars: it tells why one takes longer. ``doing`` says what is done now, and
    ``read`` that more bytes were read, of so many; shown on a terminal by a spinner, elsewhere every half minute."""

    def __init__(self, manner: Manner, words: str) -> None:
        self._manner = manner
        self.lines = JsonLines(Stream(sys.stderr))
        self.spinner = Spinner(standard("stderr"), words)

    def __call__(self, event: Event) -> None:
        if isinstance(event, Doing):
            self.spinner.words = event.what
        if self._manner.log_format == "json":
            self.lines.emit(event)
        elif isinstance(event, Waiting) and not self._manner.quiet:
            tell_timed(f"waiting {countdown(event.seconds)}: {event.why}" if event.seconds else f"waiting: {event.why}")
        elif isinstance(event, Notice) and not self._manner.quiet:
            tell_timed(event.text)

    def read(self, count: int, total: int) -> None:
        self.spinner.done, self.spinner.total = self.spinner.done + count, total

    def beat(self) -> None:
        """Half a minute without a screen: say it in a line."""
        if self._manner.log_format == "json":
            self.lines.emit(Doing(self.spinner.line()[2:]))
        else:
            tell_timed(self.spinner.line()[2:])


@contextmanager
def told(manner: Manner, words: str = "looking") -> Iterator[Talk]:
    """A Talk, at first about ``words``. Requests are told with ``-v``, too."""
    talk = Talk(manner, words)
    say = talk.lines.say if manner.log_format == "json" else tell
    with logs_said(say, verbose=manner.verbose), contextlib.ExitStack() as stack:
        if manner.log_format == "text" and not manner.quiet and _seen():
            stack.enter_context(spinning(talk.spinner))
        elif not manner.quiet:
            stack.enter_context(beating(talk.beat, EVERY))
        yield talk
