"""Progress as one JSON object a line."""

from __future__ import annotations

import dataclasses
import json
from typing import Any, Protocol

from driveshard.cli.progress.tally import Tally
from driveshard.core.events import BytesSent, Event
from driveshard.core.formatting import iso_time


class LineSink(Protocol):
    """Where lines go; never raises."""

    def line(self, text: str) -> None:
        """Write one line."""


class JsonLines:
    """One JSON object a line: ``{"time": "2026-11-25T18:54:57.123+01:00", "event": "PartReleased", ...}``; and every
    half minute a ``Progress``, whatever happens."""

    def __init__(self, stream: LineSink, tally: Tally | None = None) -> None:
        self._stream = stream
        self._tally = tally

    def emit(self, event: Event) -> None:
        if isinstance(event, BytesSent) and not event.sent:
            return  # only says where an upload stands, which its next chunk does, too
        values = {slot.name: getattr(event, slot.name) for slot in dataclasses.fields(event)}
        self._put({"event": type(event).__name__, **values})

    def say(self, text: str) -> None:
        self._put({"event": "Said", "text": text})

    def beat(self) -> None:
        if self._tally is not None:
            self._put({"event": "Progress", **progress_as_json(self._tally)})

    def close(self) -> None:
        """Nothing to take down."""

    def _put(self, document: dict[str, Any]) -> None:
        self._stream.line(json.dumps({"time": iso_time(), **document}, ensure_ascii=False))


def progress_as_json(tally: Tally) -> dict[str, Any]:
    """How far a run is: bytes, a rate in bytes a second, seconds; None for what cannot be said."""
    rate, left = tally.rate(), tally.seconds_left()
    return {
        "doing": tally.doing or None,
        "percent": tally.percent,
        "parts": tally.parts_total,
        "parts_packed": tally.parts_packed,
        "parts_up": tally.parts_up,
        "bytes": tally.bytes_total,
        "bytes_up": tally.bytes_up,
        "files": tally.files_total,
        "files_up": tally.files_up,
        "final": tally.scanned,
        "rate": None if rate is None else round(rate),
        "seconds": round(tally.elapsed, 1),
        "seconds_left": None if left is None else round(left),
        "waiting": [{"why": why, "seconds": left and round(left)} for why, left in tally.waiting()],
        "failed": tally.failures,
    }
