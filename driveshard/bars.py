"""The moving picture on a terminal: a bar for packing, one for uploading, a line for each part on its way."""

from __future__ import annotations

import contextlib
import threading
from typing import TextIO

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from driveshard.events import Event, Notice, SourceFailed, Started
from driveshard.progress import Tally
from driveshard.report import failure_line, started_line
from driveshard.text import human_seconds, human_size

_A_SECOND = 8  # pictures
_NARROW = 100  # columns


class Bars:
    """Draws a Tally until it is closed; the last picture stays."""

    def __init__(self, stream: TextIO, tally: Tally) -> None:
        self.tally = tally
        self._console = Console(file=stream, highlight=False, soft_wrap=True)
        self._live = Live(
            console=self._console,
            get_renderable=self._picture,
            refresh_per_second=_A_SECOND,
            redirect_stdout=False,
            redirect_stderr=False,
            transient=True,
        )
        self._lock = threading.RLock()
        self._started = False

    def emit(self, event: Event) -> None:
        if isinstance(event, Started):
            self.say(started_line(event))
        elif isinstance(event, Notice):
            self.say(event.text)
        elif isinstance(event, SourceFailed):
            self.say(failure_line(event, self.tally.failures) or "")
        self._show()

    def _show(self) -> None:
        with self._lock, contextlib.suppress(OSError, ValueError):
            if not self._started:
                self._started = True
                self._live.start()

    def say(self, text: str) -> None:
        if text:
            with contextlib.suppress(OSError, ValueError):
                self._console.print(text, markup=False)

    def close(self) -> None:
        with self._lock, contextlib.suppress(OSError, ValueError):
            if self._started:
                self._live.stop()

    # -- the picture ---------------------------------------------------------------------------------------------

    def _picture(self) -> RenderableType:
        tally = self.tally
        rows: list[RenderableType] = []
        if tally.name:
            rows.append(self._totals())
        rows += [self._uploads()] if tally.uploads else []
        rows += [self._wait(why, left) for why, left in tally.waiting()]
        if tally.failures:
            rows.append(Text(f"{tally.failures:,} not readable, left out", style="yellow"))
        return Group(*rows)

    def _totals(self) -> Table:
        tally = self.tally
        table = _grid()
        more = "" if tally.scanned else "+"
        done = f"{tally.parts_packed:,}/{tally.parts_total:,}{more} parts"
        table.add_row("Packing", _bar(tally.bytes_packed, tally.bytes_total), done, "")
        done = f"{tally.parts_up:,}/{tally.parts_total:,}{more} parts"
        table.add_row("Uploading", _bar(tally.bytes_up, tally.bytes_total), done, self._pace())
        return table

    def _pace(self) -> str:
        tally = self.tally
        words = [f"{human_size(tally.bytes_up)} of {human_size(tally.bytes_total)}"]
        rate, left = tally.rate(), tally.seconds_left()
        words += [f"{human_size(rate)}/s"] if rate else []
        words += [f"{human_seconds(left)} left"] if left else []
        return "  ".join(words)

    def _uploads(self) -> Table:
        table = _grid()
        for upload in self.tally.active():
            done = f"{human_size(upload.offset)} of {human_size(upload.size)}"
            table.add_row(f"  {upload.file_name}", _bar(upload.offset, upload.size), done, "")
        return table

    def _wait(self, why: str, left: float | None) -> Text:
        ahead = f"  waiting {human_seconds(max(1.0, round(left)))}: " if left is not None else "  waiting: "
        return Text(ahead + why, style="yellow", overflow="ellipsis", no_wrap=True)


def _grid() -> Table:
    table = Table.grid(padding=(0, 2, 0, 0))
    table.add_column(no_wrap=True, overflow="ellipsis")
    table.add_column(width=20)
    table.add_column(no_wrap=True)
    table.add_column(no_wrap=True)
    return table


def _bar(done: int, total: int) -> ProgressBar:
    return ProgressBar(total=max(1, total), completed=min(done, max(1, total)), width=20)
