"""What happens during a push, as the values that ``on_event`` is called with."""

from __future__ import annotations

from driveshard.core.events import (
    BytesSent,
    Doing,
    Emit,
    Event,
    Notice,
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

__all__ = [
    "BytesSent",
    "Doing",
    "Emit",
    "Event",
    "Notice",
    "PackStarted",
    "PartDropped",
    "PartPacked",
    "PartReleased",
    "Planned",
    "Published",
    "Scanned",
    "SourceFailed",
    "Started",
    "UploadStarted",
    "Waiting",
]
