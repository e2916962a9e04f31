"""Progress as log lines."""

from __future__ import annotations

import threading
import time

from driveshard.cli.progress.stream import Stream
from driveshard.cli.progress.tally import Tally
from driveshard.core.events import Event, Notice, Published, SourceFailed, Started, Waiting
from driveshard.core.formatting import countdown, human_size, plural

LISTED = 20  # failures that are named


_EVERY = 30.0  # seconds between progress lines


_WORTH_A_LINE = 10.0  # seconds; shorter waits are not worth a log line


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
    if event.fetching:
        return f"pulling {event.name}: {event.source} -> {event.destination}"
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
    fetched = [f"fetched {tally.parts_up:,}/{tally.parts_total:,} files"]
    sent = [
        f"packed {tally.parts_packed:,}/{tally.parts_total:,}{more} parts",
        f"uploaded {tally.parts_up:,}/{tally.parts_total:,}{more}",
    ]
    words = fetched if tally.fetching else sent
    words.append(f"{human_size(tally.bytes_up)} of {human_size(tally.bytes_total)}{more}")
    rate, left = tally.rate(), tally.seconds_left()
    if not tally.ended:
        words += [f"{human_size(rate)}/s"] if rate else []
        words += [f"{countdown(left)} left"] if left else []
    if tally.failures:
        words.append(f"{plural(tally.failures, 'file')} could not be read")
    return ", ".join(words)
