"""Events folded into what a person wants to know: parts and bytes packed and uploaded, rate, time left, waits."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from driveshard.cli.progress.rate import RateMeter, TimeLeft
from driveshard.core.events import (
    BytesSent,
    Doing,
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


@dataclass
class Upload:
    """A part on its way; sizes in bytes."""

    file_name: str
    size: int
    offset: int


@dataclass
class Wait:
    """``until`` is on the tally's clock, None when nobody knows; ``calm`` says that all is well."""

    why: str
    until: float | None
    calm: bool = False


@dataclass
class Tally:
    """Takes events from any thread. Bytes are those of the whole dataset, earlier runs included.

    ``total`` grows while the source is scanned; ``scanned`` says that it is final.
    """

    clock: Callable[[], float] = time.monotonic
    name: str = ""
    done_before: int = 0
    bytes_before: int = 0
    files_before: int = 0
    temp: str | None = None
    doing: str = ""
    scanned: bool = False
    files_seen: int = 0
    sent: int = 0
    failures: int = 0
    ended: bool = False
    began: float | None = None
    planned: dict[int, int] = field(default_factory=dict)
    packed: set[int] = field(default_factory=set)
    packing: set[int] = field(default_factory=set)
    released: dict[int, int] = field(default_factory=dict)
    uploads: dict[int, Upload] = field(default_factory=dict)
    waits: dict[int | str, Wait] = field(default_factory=dict)
    files: dict[int, int] = field(default_factory=dict)  # of each part, as far as they are known
    meter: RateMeter = field(default_factory=RateMeter)
    _left: TimeLeft = field(default_factory=TimeLeft)
    _lock: threading.RLock = field(default_factory=threading.RLock)

    def take(self, event: Event) -> None:
        """Fold one event in."""
        with self._lock:
            if self.began is None:
                self.began = self.clock()
            if isinstance(event, Waiting):
                until = self.clock() + event.seconds if event.seconds else None
                self.waits[event.why if event.number is None else event.number] = Wait(event.why, until, event.calm)
            elif isinstance(event, Doing):
                self.doing = event.what
            elif isinstance(event, SourceFailed):
                self.failures += 1
            elif isinstance(event, Started):
                self.name, self.done_before, self.bytes_before = event.name, event.parts_done, event.bytes_done
                self.files_before, self.temp, self.doing = event.files_done, event.temp, ""
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
            self.files[event.number] = event.files
        elif isinstance(event, PackStarted):
            self.packing.add(event.number)
            # Who waited for room in the temp folder has it now; such a wait has no end of its own.
            self.waits = {key: wait for key, wait in self.waits.items() if wait.until is not None}
        elif isinstance(event, PartDropped):
            self.planned.pop(event.number, None)
            self.files.pop(event.number, None)
            self.packing.discard(event.number)
        elif isinstance(event, PartPacked):
            self.planned[event.number] = event.bytes
            self.files[event.number] = event.files
            self.packing.discard(event.number)
            self.packed.add(event.number)
        elif isinstance(event, UploadStarted):
            self.packed.add(event.number)
            self.planned[event.number] = event.bytes
            self.uploads[event.number] = Upload(event.file_name, event.bytes, event.offset)
            self.meter.begin(event.number, self.clock())
            self.waits.pop(event.number, None)
        elif isinstance(event, BytesSent):
            self._take_sent(event)
        elif isinstance(event, PartReleased):
            self.packed.add(event.number)
            self.planned[event.number] = self.released[event.number] = event.bytes
            self.uploads.pop(event.number, None)
            self.meter.end(event.number)
            self.waits.pop(event.number, None)

    def _take_sent(self, event: BytesSent) -> None:
        if event.number in self.uploads:
            self.uploads[event.number].offset = event.offset
        self.sent += event.sent
        self.meter.note(event.number, event.sent, self.clock())
        self.waits.pop(event.number, None)

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
    def files_total(self) -> int | None:
        """None while nobody knows what a planned part will hold."""
        with self._lock:
            counts = list(self.files.values())
        return self.files_before + sum(counts) if all(counts) else None

    @property
    def files_up(self) -> int:
        with self._lock:
            return self.files_before + sum(self.files.get(number, 0) for number in self.released)

    @property
    def percent(self) -> int | None:
        """Of all bytes, how much is up: 100 only for all of them. None before there is anything to go by."""
        total, up = self.bytes_total, self.bytes_up
        return None if not total else 100 if up >= total else min(99, up * 100 // total)

    @property
    def elapsed(self) -> float:
        """Seconds since the first event."""
        return 0.0 if self.began is None else self.clock() - self.began

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

    def waiting(self, *, calm: bool = False) -> list[tuple[str, float | None]]:
        """(why, seconds left or None) of every wait that is not over; of several for one reason, the longest. Those
        that are ``calm`` stand apart."""
        now = self.clock()
        groups: dict[str, list[tuple[float | None, str]]] = {}
        with self._lock:
            for wait in self.waits.values():
                seconds = None if wait.until is None else wait.until - now
                if wait.calm is calm and (seconds is None or seconds > 0):
                    groups.setdefault(_reason(wait.why), []).append((seconds, wait.why))
        return [
            (group[0][1] if len(group) == 1 else reason, max((left for left, _ in group), key=lambda left: left or 0))
            for reason, group in groups.items()
        ]

    def rate(self) -> float | None:
        """Bytes a second that left lately; None before that can be said."""
        with self._lock:
            return self.meter.rate(self.clock())

    def seconds_left(self) -> float | None:
        """Until all bytes are up at about the present rate; None when that cannot be said."""
        rate = self.rate()
        seconds = max(0, self.bytes_total - self.bytes_up) / rate if rate and self.scanned else None
        with self._lock:
            return self._left.told(seconds, self.clock())


def _reason(why: str) -> str:
    """Without the step, which stands in brackets at the end."""
    return why.rpartition(" (")[0] if why.endswith(")") and " (" in why else why
