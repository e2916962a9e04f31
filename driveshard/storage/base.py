"""The protocol of a place that takes parts, and the table that finds one by its scheme.

The contract, which ``tests/contract`` runs against every implementation:

- ``begin`` may be called again for the same id as long as no file with that id is stored; the older session may die.
- ``send`` and ``query`` report what the *place* holds, never what was sent. Bytes already held are skipped.
- A finished session goes on answering ``query`` with the stored file for a while; afterwards it raises SessionGone.
- ``begin`` or ``send`` raise IdInUse when a file with the id exists. The caller gets that file and compares.
- ``begin``, ``put`` and ``make_folder`` raise IdRefused when the place does not take the id, as for a file deleted for
  good. The caller reserves another id and tries once more.
- ``get`` sees a file as soon as it is stored; ``children`` may lag behind by minutes.
- Failures that may pass raise Unavailable or Throttled and are not retried inside: the caller owns the one retry loop.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Protocol

from driveshard.core.errors import NotFound
from driveshard.core.model import RemoteFile, UploadSession


@dataclass(frozen=True, slots=True)
class Held:
    """The place holds the first ``offset`` bytes of an unfinished upload."""

    offset: int


@dataclass(frozen=True, slots=True)
class Stored:
    """The upload is finished; ``file`` is the place's own description, checksums perhaps still missing."""

    file: RemoteFile


Progress = Held | Stored


@dataclass(frozen=True, slots=True)
class Piece:
    """``length`` bytes of an upload, in blocks of which each is valid until the next is asked for; they come once."""

    length: int
    blocks: Iterable[bytes | memoryview]

    @classmethod
    def of(cls, data: bytes | memoryview | Piece) -> Piece:
        return data if isinstance(data, Piece) else cls(len(data), [data])


class Destination(Protocol):
    """A place that takes parts. All methods may be called from several threads at once."""

    @property
    def identity(self) -> str:
        """What makes it another place: two runs with equal identities write to the same one."""

    @property
    def chunk_unit(self) -> int:
        """Every request but the last carries a multiple of this many bytes."""

    @property
    def requests(self) -> int:
        """Requests made so far."""

    def describe(self) -> str:
        """A few words for the user."""

    def reserve_ids(self, count: int) -> list[str]:
        """Ids for files that are to be made; a file made twice with one id is refused the second time."""

    def find_folders(self, name: str) -> list[RemoteFile]:
        """Dataset folders of that name that driveshard made here, trashed ones left out."""

    def make_folder(self, file_id: str, name: str, properties: Mapping[str, str]) -> RemoteFile:
        """Make the dataset's folder. Raises IdInUse when it exists under that id."""

    def set_properties(self, folder_id: str, properties: Mapping[str, str | None]) -> RemoteFile:
        """Set some properties of the dataset's folder, take away those given as None, leave all others; two calls at
        once lose nothing of each other. Returns the folder as it is then. Raises NotFound."""

    def time(self) -> float:
        """Now, as a POSIX time by the place's own clock, as far as it has one: the same for all who write there."""

    def begin(self, file_id: str, folder_id: str, name: str, size: int, properties: Mapping[str, str]) -> UploadSession:
        """Begin an upload of ``size`` bytes."""

    def send(self, session: UploadSession, offset: int, data: bytes | memoryview | Piece, size: int) -> Progress:
        """Send ``data`` as bytes ``offset``... of ``size``. What a piece raises while its blocks are asked for ends the
        request and passes through; what was held by then stays."""

    def query(self, session: UploadSession, size: int) -> Progress:
        """What the place holds of that session. Raises SessionGone."""

    def get(self, file_id: str) -> RemoteFile:
        """Raises NotFound, also for a file in the trash."""

    def children(self, folder_id: str) -> list[RemoteFile]:
        """The files in a folder, trashed ones left out."""

    def put(self, file_id: str, folder_id: str, name: str, data: bytes, mime_type: str, *, replace: bool) -> RemoteFile:
        """Store a small file whole under a reserved id, or replace that file's content."""

    def read(self, file_id: str, start: int, length: int) -> bytes:
        """Bytes ``start``... of a stored file; fewer than ``length`` at its end."""

    def remove(self, file_id: str) -> None:
        """Delete a file for good; one that is not there is fine."""

    def trash(self, file_id: str) -> None:
        """Put a stored file where somebody can take it back from for 30 days; one that is not there is fine. It is not
        found any more, and its id is not used again."""

    def share(self, folder_id: str, who: str, before_write: Callable[[], None] = lambda: None) -> str:
        """Set who may read: ``anyone``, ``domain:D``, ``user:EMAIL`` or ``nobody``; what is so already costs no write.
        ``before_write`` waits for the turn of each. Returns who may read now. Raises ShareRefused."""


class Opened(Protocol):
    """What another machine sends with."""

    def send(self, session: UploadSession, offset: int, data: Piece, size: int) -> Progress:
        """As ``Destination.send``."""

    def close(self) -> None:
        """Close all connections."""


class Sender(Protocol):
    """Puts bytes into sessions from another machine, on behalf of the destination that began them. Can be pickled, and
    compared."""

    def open(self) -> Opened:
        """Ready to send."""


def folder_gone(name: str, place: Destination, *, trashed: bool) -> NotFound:
    """What is said when the folder of the dataset ``name`` is not found: whose it was, and what to do. A destination
    knows no more of it than an id."""
    anew = "to begin anew, in a new folder with a new link, push with --recreate, or under another --name"
    if trashed:
        return NotFound(
            f"the folder of the dataset {name} is in Drive's trash",
            advice=f"Restore it there, then run the same command again; {anew}.",
            trashed=True,
        )
    return NotFound(
        f"the folder of the dataset {name} is gone from {place.describe()}",
        advice=f"Is it the right login, or is the disk connected? If the folder was deleted: {anew}.",
    )
