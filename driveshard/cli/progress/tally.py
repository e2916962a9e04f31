"""Events folded into what a person wants to know: parts and bytes packed and uploaded, rate, time left, waits."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

from driveshard.core.events import (
    BytesSent,
    Event,
    PackStarted,
    PartDropped,
    PartPacked,
    PartReleased,
    Planned,
    Published,
    Scanned,
    SourceFailed,
    Started,
    UploadStarted,
    Waiting,
)

_WINDOW = 30.0  # seconds over which the rate is taken
_STEADY = 1.0  # seconds before a rate is worth showing


@dataclass
class Upload:
    """A part on its way; sizes in bytes."""

    file_name: str
    size: int
    offset: int


@dataclass
class Wait:
    """``until`` is on the tally's clock, None when nobody knows."""

    why: str
    until: float | None


@dataclass
class Tally:
    """Takes events from any thread. Bytes are those of the whole dataset, earlier runs included.

    ``total`` grows while the source is scanned; ``scanned`` says that it is final.
    """

    clock: Callable[[], float] = time.monotonic
    name: str = ""
    done_before: int = 0
    bytes_before: int = 0
    scanned: bool = False
    files_seen: int = 0
    sent: int = 0
    failures: int = 0
    ended: bool = False
    fetching: bool = False
    began: float = 0.0
    planned: dict[int, int] = field(default_factory=dict)
    packed: set[int] = field(default_factory=set)
    packing: set[int] = field(default_factory=set)
    released: dict[int, int] = field(default_factory=dict)
    uploads: dict[int, Upload] = field(default_factory=dict)
    waits: dict[int | str, Wait] = field(default_factory=dict)
    _recent: deque[tuple[float, int]] = field(default_factory=deque)  # (when, bytes), of the last half minute
    _lock: threading.RLock = field(default_factory=threading.RLock)

    def take(self, event: Event) -> None:
        """Fold one event in."""
        with self._lock:
            if isinstance(event, Waiting):
                until = self.clock() + event.seconds if event.seconds else None
                self.waits[event.why if event.number is None else event.number] = Wait(event.why, until)
            elif isinstance(event, SourceFailed):
                self.failures += 1
            elif isinstance(event, Started):
                self.name, self.done_before, self.bytes_before = event.name, event.parts_done, event.bytes_done
                self.fetching = event.fetching
                self.began = self.clock()
                self.waits.clear()
            elif isinstance(event, Scanned):
                self.files_seen, self.scanned = event.files, event.complete
            elif isinstance(event, Published):
                self.ended = True
            else:
                self._take_part(event)

    def _take_part(self, event: Event) -> None:
        if isinstance(event, Planned):
            self.planned[event.number] = event.bytes
        elif isinstance(event, PackStarted):
            self.packing.add(event.number)
            # Who waited for room in the temp folder has it now; such a wait has no end of its own.
            self.waits = {key: wait for key, wait in self.waits.items() if wait.until is not None}
        elif isinstance(event, PartDropped):
            self.planned.pop(event.number, None)
            self.packing.discard(event.number)
        elif isinstance(event, PartPacked):
            self.planned[event.number] = event.bytes
            self.packing.discard(event.number)
            self.packed.add(event.number)
        elif isinstance(event, UploadStarted):
            self.packed.add(event.number)
            self.planned[event.number] = event.bytes
            self.uploads[event.number] = Upload(event.file_name, event.bytes, event.offset)
            self.waits.pop(event.number, None)
        elif isinstance(event, BytesSent):
            self._take_sent(event)
        elif isinstance(event, PartReleased):
            self.packed.add(event.number)
            self.planned[event.number] = self.released[event.number] = event.bytes
            self.uploads.pop(event.number, None)
            self.waits.pop(event.number, None)

    def _take_sent(self, event: BytesSent) -> None:
        if event.number in self.uploads:
            self.uploads[event.number].offset = event.offset
        self.sent += event.sent
        self._note_recent(event.sent)
        self.waits.pop(event.number, None)

    def _note_recent(self, sent: int) -> None:
        """Kept by tenths of a second and no longer than it is asked for, so that it stays small though nobody asks."""
        now = round(self.clock(), 1)
        if self._recent and self._recent[-1][0] == now:
            self._recent[-1] = (now, self._recent[-1][1] + sent)
        else:
            self._recent.append((now, sent))
        self._forget(now)

    def _forget(self, now: float) -> None:
        while self._recent and self._recent[0][0] < now - _WINDOW:
            self._recent.popleft()

    # -- what to show --------------------------------------------------------------------------------------------

    @property
    def parts_total(self) -> int:
        return self.done_before + len(self.planned)

    @property
    def parts_packed(self) -> int:
        return self.done_before + len(self.packed)

    @property
    def parts_up(self) -> int:
        return self.done_before + len(self.released)

    @property
    def bytes_total(self) -> int:
        with self._lock:
            return self.bytes_before + sum(self.planned.values())

    @property
    def bytes_packed(self) -> int:
        with self._lock:
            return self.bytes_before + sum(self.planned.get(number, 0) for number in self.packed)

    @property
    def bytes_up(self) -> int:
        with self._lock:
            under_way = sum(upload.offset for upload in self.uploads.values())
            return self.bytes_before + sum(self.released.values()) + under_way

    def active(self) -> list[Upload]:
        """Uploads under way, by part number."""
        with self._lock:
            return [Upload(one.file_name, one.size, one.offset) for _, one in sorted(self.uploads.items())]

    def waiting(self) -> list[tuple[str, float | None]]:
        """(why, seconds left or None) of every wait that is not over; of several for one reason, the longest."""
        now = self.clock()
        groups: dict[str, list[tuple[float | None, str]]] = {}
        with self._lock:
            for wait in self.waits.values():
                seconds = None if wait.until is None else wait.until - now
                if seconds is None or seconds > 0:
                    groups.setdefault(_reason(wait.why), []).append((seconds, wait.why))
        return [
            (group[0][1] if len(group) == 1 else reason, max((left for left, _ in group), key=lambda left: left or 0))
            for reason, group in groups.items()
        ]

    def rate(self) -> float | None:
        """Bytes a second that left lately; None before that can be said."""
        now = self.clock()
        with self._lock:
            self._forget(now)
            seconds = min(_WINDOW, now - self.began)
            if seconds < _STEADY or not self._recent:
                return None
            return sum(count for _, count in self._recent) / seconds

    def seconds_left(self) -> float | None:
        """Until all bytes are up at the present rate; None when that cannot be said."""
        rate = self.rate()
        if not rate or not self.scanned:
            return None
        return max(0, self.bytes_total - self.bytes_up) / rate


def _reason(why: str) -> str:
    """Without the step, which stands in brackets at the end."""
    return why.rpartition(" (")[0] if why.endswith(")") and " (" in why else why
