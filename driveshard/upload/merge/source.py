"""Fetched parts as a source: their members, packed once more into one part."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from driveshard.archive.directory import Directory, map_directory
from driveshard.core.errors import Mismatch, TempFull
from driveshard.core.model import FileList, Selection, sample_key
from driveshard.sources.base import MemberWriter, Packed
from driveshard.upload.ledger.rows import LedgerPart
from driveshard.upload.merge.newest import Newest, names_of
from driveshard.upload.surroundings import Surroundings

_BLOCK = 8 * 1024 * 1024
_LEAST = 64 * 1024
_LARGE = 16 * 1024 * 1024  # bytes of a member that is not held in memory
_TRIES = 3
_ADVICE = "Run its push again, which sends what is damaged once more; then run this again."


@dataclass(frozen=True)
class FetchedParts:
    """A source of the members that readers see of some parts; ``files`` are these parts on this disk by number, oldest
    first or, of made samples, in the order of their source."""

    files: Mapping[int, Path]
    newest: Newest
    kind: str = "parts"

    def describe(self) -> str:
        return "small parts"

    def settings(self) -> Mapping[str, Any]:
        return {}

    def pack(self, selection: Selection, writer: MemberWriter, part_size: int) -> Packed:
        """As ``sources.base.Source``. Raises Mismatch when a member is not what it was."""
        with ExitStack() as stack:
            opened = {n: (stack.enter_context(path.open("rb")), map_directory(path)) for n, path in self.files.items()}
            places = [
                (path, number, row)
                for number, (_, directory) in opened.items()
                for row, path in enumerate(names_of(directory))
                if self.newest.seen(number, path)
            ]
            if isinstance(selection, FileList):
                places.sort()
                if [path for path, _, _ in places] != selection.split_paths():
                    raise Mismatch("the small parts do not hold what they should", advice=_ADVICE)
            samples = set()
            for path, number, row in places:
                self._add(writer, path, *opened[number], row)
                samples.add(sample_key(path.decode("latin-1")))
        return Packed(selection, len(samples), len(places))

    def _add(self, writer: MemberWriter, path: bytes, stream: BinaryIO, directory: Directory, row: int) -> None:
        stream.seek(int(directory.begins[row]))
        size = int(directory.sizes[row])
        if size < _LARGE:
            writer.add(path, stream.read(size))
        else:
            self._add_large(writer, path, stream, size)
        if writer.crcs[-1] != int(directory.crcs[row]):
            raise Mismatch("a member of a small part is damaged", advice=_ADVICE)

    def _add_large(self, writer: MemberWriter, path: bytes, stream: BinaryIO, size: int) -> None:
        whole = Path(stream.name).with_name(f"{Path(stream.name).name}.member")
        try:
            with whole.open("wb") as member:
                while size > 0 and (block := stream.read(min(size, _BLOCK))):
                    member.write(block)
                    size -= len(block)
            writer.add_file(path, whole)
        finally:
            whole.unlink(missing_ok=True)


def fetch(around: Surroundings, part: LedgerPart, target: Path, on_bytes: Callable[[int], None]) -> None:
    """Bring a part to ``target``, proved by the sha256 that it was packed with. Raises Mismatch, TempFull, and errors
    of the way to the destination."""
    for _ in range(_TRIES):
        sha256, start = hashlib.sha256(), 0
        try:
            with target.open("wb") as stream:
                while start < (part.size or 0):
                    length = _allowed(around, (part.size or 0) - start)
                    block = _read(around, part, start, length)
                    sha256.update(block)
                    stream.write(block)
                    on_bytes(len(block))
                    start += length
        except OSError as error:
            raise TempFull(f"{target.parent} cannot be written: {error.strerror or error}") from error
        if sha256.hexdigest() == part.sha256:
            return
    raise Mismatch(f"{part.file_name} comes with other bytes than were packed", advice=_ADVICE)


def _allowed(around: Surroundings, left: int) -> int:
    """How many of the bytes that are left may be read now. With --bwlimit about a second's worth of them, which are
    waited for here: what is sent meanwhile shares that limit."""
    length = min(_BLOCK, left, max(_LEAST, int(around.throttle.rate or _BLOCK)))
    around.throttle.pace(length)
    return length


def _read(around: Surroundings, part: LedgerPart, start: int, length: int) -> bytes:
    return around.ask(
        lambda: around.destination.read(part.file_id or "", start, length), doing=f"fetching {part.file_name}"
    )
