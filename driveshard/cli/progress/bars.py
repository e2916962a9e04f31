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

from driveshard.cli.progress.log_lines import failure_line, started_line
from driveshard.cli.progress.tally import Tally
from driveshard.core.events import Event, Notice, SourceFailed, Started
from driveshard.core.formatting import countdown, human_share, human_size, plural, shown

_A_SECOND = 8  # pictures


class Bars:
    """Draws a Tally until it is closed; the last picture stays."""

    def __init__(self, stream: TextIO, tally: Tally) -> None:
        self.tally = tally
        self._console = Console(file=stream, highlight=False)
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
        """As ``report.Report.emit``; what is said stands above the bars."""
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
                self._console.print(shown(text), markup=False)

    def close(self) -> None:
        with self._lock, contextlib.suppress(OSError, ValueError):
            if self._started:
                self._live.stop()

    # -- the picture ---------------------------------------------------------------------------------------------

    def _picture(self) -> RenderableType:
        tally = self.tally
        rows: list[RenderableType] = []
        if tally.name:
            rows += [self._table(), Text(_pace(tally), style="dim")]
        for why, left in tally.waiting():
            ahead = "waiting: " if left is None else f"waiting {countdown(left)}: "
            rows.append(Text(shown(ahead + why), style="yellow", overflow="ellipsis", no_wrap=True))
        if tally.failures:
            rows.append(Text(f"{plural(tally.failures, 'file')} could not be read", style="yellow"))
        return Group(*rows)

    def _table(self) -> Table:
        """All bars begin and end in the same columns; names give way when it is narrow."""
        tally = self.tally
        width = self._console.width
        table = Table.grid(padding=(0, 2, 0, 0))
        table.add_column(no_wrap=True, max_width=max(10, width // 3))
        table.add_column(width=max(5, min(40, width // 2 - 12)))
        table.add_column(no_wrap=True, justify="right")
        more = "" if tally.scanned else "+"
        total = f"{tally.parts_total:,}{more} parts"
        if tally.fetching:
            _add_bar(table, "Fetching", tally.bytes_up, tally.bytes_total, f"{tally.parts_up:,}/{total}")
        else:
            self._add_totals(table, total)
        for upload in tally.active():
            done = human_share(upload.offset, upload.size)
            _add_bar(table, shortened(f"  {upload.file_name}", width // 3), upload.offset, upload.size, done)
        return table

    def _add_totals(self, table: Table, total: str) -> None:
        tally = self.tally
        _add_bar(table, "Packing", tally.bytes_packed, tally.bytes_total, f"{tally.parts_packed:,}/{total}")
        _add_bar(table, "Uploading", tally.bytes_up, tally.bytes_total, f"{tally.parts_up:,}/{total}")


def _add_bar(table: Table, label: str, done: int, total: int, words: str) -> None:
    total = max(1, total)
    # The theme's own colour for a finished bar becomes that of an empty one on a terminal of 16 colours.
    bar = ProgressBar(total=total, completed=min(done, total), finished_style="green")
    table.add_row(Text(label), bar, Text(words))


def _pace(tally: Tally) -> str:
    """What is up of all bytes, how fast, how long still."""
    if tally.scanned and tally.parts_up == tally.parts_total and tally.parts_total:
        return "writing the manifest" if tally.fetching else "writing card, preview and manifest"
    words = [f"{human_share(tally.bytes_up, tally.bytes_total)} {'here' if tally.fetching else 'up'}"]
    rate, left = tally.rate(), tally.seconds_left()
    words += [f"{human_size(rate)}/s"] if rate else []
    words += [f"{countdown(left)} left"] if left else []
    return ", ".join(words)


def shortened(label: str, width: int) -> str:
    """Cut in front, since names differ at their end."""
    return label if len(label) <= width else f"  …{label[3 - width :]}"
