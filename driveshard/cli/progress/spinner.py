"""One moving line on a terminal for commands that show no bars, once they have been silent for a second."""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TextIO

from driveshard.cli import console
from driveshard.cli.progress.beat import beating
from driveshard.core.formatting import countdown, human_share, shown

_SILENCE = 1.0  # seconds
_EVERY = 0.12  # seconds
_FRAMES = "⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏"
_PLAIN = "|/-\\"
_ERASE = "\r\x1b[K"


class Spinner:
    """``words`` say what is done; with ``total`` there is a bar of bytes."""

    def __init__(self, stream: TextIO, words: str) -> None:
        self.words = words
        self.done = self.total = 0
        self._stream = stream
        self._frames = _FRAMES if "utf" in (getattr(stream, "encoding", "") or "").lower() else _PLAIN
        self._began = self._last = time.monotonic()
        self._shown = self._ended = False
        self._turn = 0
        self._lock = threading.RLock()

    def line(self) -> str:
        """``⠹ checking photos-00001.zip, 31%, 1.2/4.0 GiB, 5 s passed``"""
        words = [f"{self._frames[self._turn % len(self._frames)]} {self.words}"]
        if self.total:
            words += [f"{min(99, 100 * self.done // self.total)}%", human_share(self.done, self.total)]
        return shown(", ".join([*words, f"{countdown(time.monotonic() - self._began)} passed"]))

    def turn(self) -> None:
        """Draw the next picture, if nothing was written for a while."""
        with self._lock, contextlib.suppress(OSError, ValueError):
            if self._ended or time.monotonic() - self._last < _SILENCE:
                return
            self._turn += 1
            width = max(10, _width() - 1)
            self._stream.write(_ERASE + self.line()[:width])
            self._stream.flush()
            self._shown = True

    def give_way(self, data: bytes | None = None) -> None:
        """Take the line away because something else is written; ``data``, when that is what goes to a terminal too. A
        line without an end must not be overwritten, so after one it stays away."""
        with self._lock, contextlib.suppress(OSError, ValueError):
            self._last = time.monotonic()
            if data is not None and not data.endswith(b"\n"):
                self._ended = True
            if self._shown:
                self._stream.write(_ERASE)
                self._stream.flush()
                self._shown = False


def _width() -> int:
    for number in (2, 1, 0):
        with contextlib.suppress(OSError):
            return os.get_terminal_size(number).columns or 80
    return 80


@contextmanager
def spinning(spinner: Spinner) -> Iterator[None]:
    """Meanwhile it turns, and gives way to whatever the console writes."""
    console.gives_way.append(spinner.give_way)
    try:
        with beating(spinner.turn, _EVERY):
            yield
    finally:
        console.gives_way.remove(spinner.give_way)
        spinner.give_way()
