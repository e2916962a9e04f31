"""The protocol of a source, and the writer it writes a part's members into."""

from __future__ import annotations

from array import array
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from driveshard.core.model import Failure, Selection


class MemberWriter(Protocol):
    """The packing end of a part: one call a member, in path order. Implemented by ``zipwriter.ZipWriter``.

    ``crcs`` are the CRC-32s of the members so far."""

    crcs: array[int]

    @property
    def size(self) -> int:
        """Bytes the finished zip would have if it were closed now, central directory included."""

    def add(self, path: bytes, data: bytes | bytearray | memoryview) -> None:
        """Append one stored member held in memory. ``path`` is the member's name in the zip."""

    def add_file(self, path: bytes, file: Path | int) -> int:
        """Append one stored member of any size from a file, in constant memory, and return its size in bytes.

        ``file`` is a path or an open descriptor, which stays open. Raises OSError when it cannot be read, and
        SourceChanged when it changed while it was read; in both cases the zip is as it was before the call.
        """


@dataclass(frozen=True, slots=True)
class Packed:
    """What a source put into a part: the selection without what failed, and counts of samples and files."""

    selection: Selection
    samples: int
    files: int
    failed: tuple[Failure, ...] = ()
    exhausted: bool = False


@runtime_checkable
class Source(Protocol):
    """Where samples come from. A frozen, picklable value: a worker process gets its own copy, so a source opens
    nothing before it is used and caches what is dear (decoded images) per process."""

    @property
    def kind(self) -> str:
        """``folder``, ``composite`` or ``python``."""

    def describe(self) -> str:
        """A few words for the user: the path, or the target."""

    def settings(self) -> Mapping[str, Any]:
        """What decides which bytes come out, as JSON values without machine paths. Kept in the ledger and on the
        destination; a rerun with other settings is refused, since it would cut other parts."""

    def pack(self, selection: Selection, writer: MemberWriter, part_size: int) -> Packed:
        """Write the selection's members into ``writer`` in order. One file or sample that cannot be read is noted
        as a Failure and left out; an error of the writer (disk full, limit) passes through."""
