"""Progress for ``driveshard.push`` in a script, a terminal session or a notebook."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from driveshard.cli.console import is_terminal
from driveshard.cli.progress.beat import beating
from driveshard.cli.progress.live import left_for_status
from driveshard.cli.progress.log_lines import doing_line, failure_line, progress_line
from driveshard.cli.progress.report import Quiet, Report, opened_report
from driveshard.cli.progress.stream import Stream
from driveshard.cli.progress.tally import Tally
from driveshard.core.events import Emit, Event, Notice, Published, SourceFailed
from driveshard.core.formatting import shown

_EVERY = 0.5  # seconds


@contextmanager
def watched(progress: bool | None, on_event: Emit, home: Path) -> Iterator[Emit]:
    """An Emit that shows what it is given, leaves it for ``status`` and hands it on; ``progress`` as for
    ``driveshard.push``."""
    notebook = in_notebook()
    silent = progress is False or (progress is None and not notebook and not is_terminal(sys.stderr))
    tally = Tally()
    with left_for_status(tally, home), _display(tally, silent=silent, notebook=notebook) as report:

        def emit(event: Event) -> None:
            tally.take(event)
            report.emit(event)
            on_event(event)

        yield emit


@contextmanager
def _display(tally: Tally, *, silent: bool, notebook: bool) -> Iterator[Report]:
    if silent:
        yield Quiet()
        return
    if not notebook:
        with opened_report(tally) as report:
            yield report
        return
    cell = Cell(tally)
    with beating(cell.beat, _EVERY):
        try:
            yield cell
        finally:
            cell.close()


def in_notebook() -> bool:
    """Whether this process is a notebook's kernel, whose output no terminal shows."""
    shell = getattr(sys.modules.get("IPython"), "get_ipython", lambda: None)()
    return getattr(shell, "kernel", None) is not None


class Cell:
    """One line in a notebook's cell that is written anew, with what was said above it."""

    def __init__(self, tally: Tally) -> None:
        self.tally = tally
        self._stream = Stream(sys.stdout)
        self._width = 0
        self._last = ""

    def emit(self, event: Event) -> None:
        if isinstance(event, Notice):
            self.say(event.text)
        elif isinstance(event, SourceFailed):
            self.say(failure_line(event, self.tally.failures) or "")
        elif isinstance(event, Published):
            self.beat()

    def say(self, text: str) -> None:
        if text:
            self._stream.write(f"\r{shown(text):<{self._width}}\n")
            self._last = ""

    def beat(self) -> None:
        line = progress_line(self.tally) if self.tally.name else doing_line(self.tally)
        if line != self._last:
            self._stream.write(f"\r{shown(line):<{self._width}}")
            self._width, self._last = max(self._width, len(line)), line

    def close(self) -> None:
        self.beat()
        self._stream.write("\n")
