"""What happens during a run, as values. The pipeline says them; ``report`` draws bars, log lines or JSON from them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Doing:
    """What a run does outside of packing and uploading, such as looking through the folder: a few words."""

    what: str


@dataclass(frozen=True, slots=True)
class Started:
    """A run begins. ``parts_done``, ``bytes_done`` and ``files_done`` are what earlier runs finished; ``temp`` is the
    folder in which its parts wait. ``fetching`` says that parts come here: what is then "sent" is received, and no part
    is packed."""

    name: str
    source: str
    destination: str
    parts_done: int
    bytes_done: int
    files_done: int = 0
    temp: str | None = None
    fetching: bool = False


@dataclass(frozen=True, slots=True)
class Scanned:
    """How much of the source has been looked at so far. ``complete`` on the last one."""

    files: int
    bytes: int
    complete: bool


@dataclass(frozen=True, slots=True)
class Planned:
    """A part was planned, or taken over from an earlier run; ``files`` is 0 when nobody knows yet."""

    number: int
    bytes: int
    files: int = 0


@dataclass(frozen=True, slots=True)
class PackStarted:
    number: int


@dataclass(frozen=True, slots=True)
class PartDropped:
    """Nothing of a planned part could be read, so there is none."""

    number: int


@dataclass(frozen=True, slots=True)
class PartPacked:
    number: int
    file_name: str
    bytes: int
    samples: int
    files: int


@dataclass(frozen=True, slots=True)
class UploadStarted:
    """``offset`` bytes are already there from an earlier session."""

    number: int
    file_name: str
    bytes: int
    offset: int


@dataclass(frozen=True, slots=True)
class BytesSent:
    """The server holds ``offset`` bytes of the part, or has them on their way; ``sent`` were sent since the last
    event."""

    number: int
    offset: int
    sent: int


@dataclass(frozen=True, slots=True)
class PartReleased:
    """Drive proved the part; its temp file is gone."""

    number: int
    file_name: str
    bytes: int


@dataclass(frozen=True, slots=True)
class Waiting:
    """Somebody waits ``seconds`` because of ``why``; ``number`` is the part, if one. ``calm`` says that all is well:
    packing waits for the line, for instance."""

    why: str
    seconds: float
    number: int | None = None
    calm: bool = False


@dataclass(frozen=True, slots=True)
class Notice:
    """A sentence the user should see: a part started afresh, a session replaced, a ledger rebuilt."""

    text: str


@dataclass(frozen=True, slots=True)
class SourceFailed:
    path: str
    why: str


@dataclass(frozen=True, slots=True)
class Published:
    """Manifest, card and preview are up."""

    link: str | None


Event = (
    Doing
    | Started
    | Scanned
    | Planned
    | PackStarted
    | PartDropped
    | PartPacked
    | UploadStarted
    | BytesSent
    | PartReleased
    | Waiting
    | Notice
    | SourceFailed
    | Published
)
Emit = Callable[[Event], None]
"""Called from any thread; must be quick and must not raise."""


def ignore(event: Event) -> None:
    """An Emit for callers that do not watch."""
