"""Progress as log lines."""

from __future__ import annotations

import threading

from driveshard.cli.progress.stream import Stream
from driveshard.cli.progress.tally import Tally
from driveshard.core.events import Event, Notice, Published, SourceFailed, Started, Waiting
from driveshard.core.formatting import countdown, human_seconds, human_share, human_size, log_time, plural

LISTED = 20  # failures that are named


EVERY = 30.0  # seconds between progress lines
_WORTH_A_LINE = 10.0  # seconds; shorter waits are not worth a log line


class Lines:
    """Log lines, each with its time: progress every 30 seconds, notices, long waits and the first failures as they
    come."""

    def __init__(self, stream: Stream, tally: Tally) -> None:
        self._stream = stream
        self._clock = clock = tally.clock
        self._lock = threading.Lock()
        self.tally = tally
        self._next = clock() + EVERY
        self._told: dict[str, float] = {}

    def emit(self, event: Event) -> None:
        line = self._line_of(event)
        if line:
            self.say(line)
        else:
            self.beat()

    def say(self, text: str) -> None:
        for line in text.splitlines():
            self._stream.line(f"{log_time()} {line}")

    def beat(self) -> None:
        if self._due():
            self.say(progress_line(self.tally) if self.tally.name else doing_line(self.tally))

    def close(self) -> None:
        """Nothing to take down."""

    def _due(self) -> bool:
        with self._lock:
            now = self._clock()
            if now < self._next:
                return False
            self._next = now + EVERY
            return True

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
            return progress_line(self.tally) if self.tally.parts_total else None
        return None

    def _wait_line(self, event: Waiting) -> str | None:
        """A wait that is long, or has no known end, and was not told of in the last half minute."""
        if event.calm:
            return None
        now = self._clock()
        with self._lock:
            if 0 < event.seconds < _WORTH_A_LINE or self._told.get(event.why, -EVERY) > now - EVERY:
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
    """``31%, 12.3/40.0 MiB, 620 of 2,000 files, packed 8/8 parts, uploaded 3/8, 2.0 MiB/s, 5 s passed, 14 s left``"""
    more = "" if tally.scanned else "+"
    packed = [f"packed {tally.parts_packed:,}/{tally.parts_total:,}{more} parts"]
    words = [
        *amounts(tally),
        *([] if tally.fetching else packed),
        f"{'fetched' if tally.fetching else 'uploaded'} {tally.parts_up:,}/{tally.parts_total:,}{more}",
        *pace(tally),
    ]
    if not tally.ended:
        words += [f"waiting: {why}" for why, _ in tally.waiting()]
        words += [why for why, _ in tally.waiting(calm=True)]
    if tally.failures:
        words.append(f"{plural(tally.failures, 'file')} could not be read")
    return ", ".join(words)


def amounts(tally: Tally) -> list[str]:
    """What is up, of how much: percent, bytes, files."""
    more = "" if tally.scanned else "+"
    percent, files = tally.percent, tally.files_total
    words = [] if percent is None or more else [f"{percent}%"]
    words.append(f"{human_share(tally.bytes_up, tally.bytes_total)}{more} {'here' if tally.fetching else 'up'}")
    if files:
        words.append(f"{tally.files_up:,} of {files:,}{more} files")
    elif tally.files_up:
        words.append(plural(tally.files_up, "file"))
    return words


def pace(tally: Tally) -> list[str]:
    """How fast, how long so far, how long still."""
    if tally.ended:
        return [f"{human_seconds(tally.elapsed)} passed"]
    rate, left = tally.rate(), tally.seconds_left()
    words = [f"{human_size(rate)}/s"] if rate else []
    words += [f"{countdown(tally.elapsed)} passed"]
    return [*words, f"{countdown(left)} left"] if left else words


def doing_line(tally: Tally) -> str:
    """What is done before the first part: ``looking at what is in the dataset's folder, 31 s passed``."""
    words = [tally.doing or "looking for the dataset", f"{countdown(tally.elapsed)} passed"]
    return ", ".join([*words, *(f"waiting: {why}" for why, _ in tally.waiting())])
