"""What a push achieved."""

from __future__ import annotations

import shlex
from dataclasses import asdict, dataclass, field
from typing import Any

from driveshard.core.errors import (
    DriveshardError,
)
from driveshard.core.formatting import plural
from driveshard.core.model import Failure


def readers_said(name: str, shared: str | None, link: str | None) -> str:
    """Who may read, for the owner: ``shared`` as in the result. What is private comes with the command that changes
    it."""
    if link is not None and link.startswith("file:"):
        return "whoever can see the folder"
    if shared is None or shared == "nobody":
        return f"private; to share: driveshard share {shlex.quote(name)} --with anyone"
    return "anyone who has the link" if shared == "anyone" else shared


def readers_line(name: str, shared: str | None, link: str | None) -> str:
    """The same as a line of its own."""
    said = readers_said(name, shared, link)
    return said if said.startswith("private") else f"who can read: {said}"


def gone_line(gone: int) -> str:
    """What the dataset has and its source has no more, as a sentence."""
    return f"{plural(gone, 'file')} deleted at the source {'is' if gone == 1 else 'are'} still in it"


def ignored_line(ignored: int) -> str:
    """What changed and was not packed again, as a sentence."""
    return f"{plural(ignored, 'file')} changed at the source {'is' if ignored == 1 else 'are'} in it as before"


def dropped_line(dropped: int) -> str:
    """What left the dataset, as a sentence."""
    return f"{plural(dropped, 'file')} deleted at the source {'is' if dropped == 1 else 'are'} no longer in it"


@dataclass
class PushResult:
    """What ``push --json`` prints. Counts and bytes are the whole dataset's; ``sent_bytes``, ``requests`` and
    ``seconds`` this run's; ``resume_after`` is a POSIX time in seconds or None. ``shared`` says who may read now; it is
    None when sharing was asked for and refused, and ``share_refusal`` says why. ``names`` counts the member names that
    other tools and systems have trouble with, by kind (``member_names``). ``gone`` counts files that the source has no
    more and the dataset still has, ``dropped`` those that left the dataset in this run; ``changed`` those that this run
    packed again, ``ignored`` those that changed and are in it as they were."""

    name: str
    state: str = "incomplete"
    folder_id: str | None = None
    link: str | None = None
    parts: int = 0
    samples: int = 0
    files: int = 0
    bytes: int = 0
    sent_bytes: int = 0
    requests: int = 0
    seconds: float = 0.0
    failed: list[Failure] = field(default_factory=list)
    resume_after: float | None = None
    shared: str | None = "nobody"
    names: dict[str, int] = field(default_factory=dict)
    gone: int = 0
    changed: int = 0
    dropped: int = 0
    ignored: int = 0
    error: DriveshardError | None = None
    share_refusal: DriveshardError | None = None
    held_back_by: str | None = None

    def as_json(self) -> dict[str, Any]:
        """The fields that scripts rely on, in their order."""
        document = asdict(self)
        del document["error"], document["share_refusal"], document["held_back_by"]
        document["seconds"] = round(self.seconds, 3)
        return document


def not_shared(error: DriveshardError) -> str:
    """The sentence about a refusal to share."""
    return f"Not shared: {error}. {error.advice}"
