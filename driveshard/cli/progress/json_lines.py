"""Progress as one JSON object a line."""

from __future__ import annotations

import dataclasses
import json
import time
from typing import Any, Protocol

from driveshard.core.events import Event


class LineSink(Protocol):
    """Where lines go; never raises."""

    def line(self, text: str) -> None:
        """Write one line."""


class JsonLines:
    """One JSON object a line: ``{"event": "PartReleased", "time": 1766000000.1, ...}``."""

    def __init__(self, stream: LineSink) -> None:
        self._stream = stream

    def emit(self, event: Event) -> None:
        values = {slot.name: getattr(event, slot.name) for slot in dataclasses.fields(event)}
        self._put({"event": type(event).__name__, **values})

    def say(self, text: str) -> None:
        self._put({"event": "Said", "text": text})

    def close(self) -> None:
        """Nothing to take down."""

    def _put(self, document: dict[str, Any]) -> None:
        self._stream.line(json.dumps({"time": round(time.time(), 3), **document}, ensure_ascii=False))
