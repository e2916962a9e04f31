"""The moving picture on a terminal: a bar for packing, one for uploading, a line for each part on its way."""

from __future__ import annotations

import contextlib
import threading
from typing import TextIO

from rich.console import Console, Group, RenderableType
from rich.constrain import Constrain
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.segment import Segment
from rich.spinner import Spinner
from rich.table import Table
from rich.text import Text

from driveshard.cli.progress.log_lines import amounts, doing_line, failure_line, pace, started_line
from driveshard.cli.progress.tally import Tally
from driveshard.core.events import Event, Notice, SourceFailed, Started
from driveshard.core.formatting import countdown, human_share, plural, shown

_A_SECOND = 8  # pictures
_WIDEST = 78  # columns; a window that is made narrower, and stays wider than that, has nothing to break anew


class Bars:
    """Draws a Tally until it is closed; the last picture stays."""

    def __init__(self, stream: TextIO, tally: Tally) -> None:
        self.tally = tally
        self._console = Console(file=stream, highlight=False)
        self._lengths: list[int] = []  # of the lines that are on the screen
        self._spinner = Spinner("dots")
        self._live: Live | None = None  # which asks for a picture already while it is made
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

    def beat(self) -> None:
        self._show()

    def _show(self) -> None:
        with self._lock, contextlib.suppress(OSError, ValueError):
            if not self._started and self._live is not None:
                self._started = True
                self._live.start()

    def say(self, text: str) -> None:
        if text:
            with contextlib.suppress(OSError, ValueError):
                self._console.print(shown(text), markup=False)

    def close(self) -> None:
        with self._lock, contextlib.suppress(OSError, ValueError):
            if self._started and self._live is not None:
                self._live.stop()

    # -- the picture ---------------------------------------------------------------------------------------------

    def _picture(self) -> RenderableType:
        width = self._console.width
        self._mind_reflow(width)
        picture = Constrain(Group(*self._rows()), min(width, _WIDEST))
        drawn = self._console.render_lines(picture, pad=False)
        self._lengths = [Segment.get_line_length(line) for line in drawn]
        return picture

    def _mind_reflow(self, width: int) -> None:
        """Lines that were drawn on a wider screen have been broken by the terminal: there are more of them to erase
        than were drawn."""
        drawn = getattr(self._live, "_live_render", None)
        if drawn is not None and getattr(drawn, "_shape", None) and max(self._lengths, default=0) > width:
            drawn._shape = (width, sum(max(1, -(-length // width)) for length in self._lengths))

    def _rows(self) -> list[RenderableType]:
        tally = self.tally
        rows: list[RenderableType] = [self._table()] if tally.name else []
        if tally.name:
            rows.append(Text(_pace(tally), style="dim"))
        else:
            self._spinner.update(text=Text(doing_line(tally), style="dim"))
            rows.append(self._spinner)
        for why, left in tally.waiting():
            ahead = "waiting: " if left is None else f"waiting {countdown(left)}: "
            rows.append(Text(shown(ahead + why), style="yellow", overflow="ellipsis", no_wrap=True))
        if tally.failures:
            rows.append(Text(f"{plural(tally.failures, 'file')} could not be read", style="yellow"))
        return rows

    def _table(self) -> Table:
        """All bars begin and end in the same columns; names give way when it is narrow."""
        tally = self.tally
        width = min(self._console.width, _WIDEST)
        table = Table.grid(padding=(0, 2, 0, 0))
        table.add_column(no_wrap=True, max_width=max(10, width // 3))
        table.add_column(width=max(5, min(40, width // 2 - 12)))
        table.add_column(no_wrap=True, justify="right")
        more = "" if tally.scanned else "+"
        total = f"{tally.parts_total:,}{more} parts"
        _add_bar(table, "Packing", tally.bytes_packed, tally.bytes_total, f"{tally.parts_packed:,}/{total}")
        _add_bar(table, "Uploading", tally.bytes_up, tally.bytes_total, f"{tally.parts_up:,}/{total}")
        for upload in tally.active():
            done = human_share(upload.offset, upload.size)
            _add_bar(table, shortened(f"  {upload.file_name}", width // 3), upload.offset, upload.size, done)
        return table


def _add_bar(table: Table, label: str, done: int, total: int, words: str) -> None:
    total = max(1, total)
    # The theme's own colour for a finished bar becomes that of an empty one on a terminal of 16 colours.
    bar = ProgressBar(total=total, completed=min(done, total), finished_style="green")
    table.add_row(Text(label), bar, Text(words))


def _pace(tally: Tally) -> str:
    """What is up of all, how fast, how long so far and still."""
    if tally.doing:
        return f"{tally.doing}, {countdown(tally.elapsed)} passed"
    return ", ".join([*amounts(tally), *pace(tally), *(why for why, _ in tally.waiting(calm=True))])


def shortened(label: str, width: int) -> str:
    """Cut in front, since names differ at their end."""
    return label if len(label) <= width else f"  …{label[3 - width :]}"
