"""Lists and reads members straight from the parts where they lie, by ranges: nothing is downloaded whole."""

from __future__ import annotations

import hashlib
import os
import re
import zipfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Self

from driveshard.archive.manifest import Manifest, ManifestPart
from driveshard.archive.zip_reader import member_path
from driveshard.config.settings import Settings
from driveshard.core.errors import SourceMissing, UsageError
from driveshard.core.events import Emit, ignore
from driveshard.core.formatting import printable, shown
from driveshard.dataset.locate import Shelf, damage_told, find_manifest, open_part, open_shelf
from driveshard.sources.globs import matcher

_BLOCK = 1024 * 1024
_SORTED = ("folder", "composite")  # kinds of source whose parts are in path order


@dataclass(frozen=True, slots=True)
class Member:
    """One file in a part: its path as the bytes it was packed from, its size in bytes, its CRC-32."""

    path: bytes
    size: int
    crc: int
    part: str


class Reading:
    """A dataset opened for reading: ``shelf`` is where it lies. A context manager that closes it."""

    def __init__(self, shelf: Shelf) -> None:
        self.shelf = shelf
        self.manifest: Manifest = find_manifest(shelf, shelf.files())
        self._deleted = self.manifest.deleted_paths
        self._kept: tuple[ManifestPart, zipfile.ZipFile, dict[bytes, zipfile.ZipInfo]] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the shelf."""
        self._let_go()
        self.shelf.close()

    def members(self) -> Iterator[Member]:
        """Every member, part by part in the order of their numbers. Of a path that several parts hold only the newest
        is given. Holds one part's directory at a time, and eight bytes a member when paths repeat."""
        replaced = self._replaced()
        for part in self.manifest.parts:
            old = replaced.get(part.number, frozenset())
            for member in self._part_members(part):
                if member.path not in self._deleted and (not old or _mark(member.path) not in old):
                    yield member

    def matching(self, patterns: Sequence[str]) -> Iterator[Member]:
        """As ``members``, those that one of the globs means. Raises UsageError for what is no glob, and at the end
        SourceMissing when there was none."""
        try:
            match = matcher(patterns)
        except re.error as error:
            raise UsageError(f"{patterns[0]!r} is not a glob ({error.msg})") from error
        found = False
        for member in self.members():
            if match(os.fsdecode(member.path)):
                found = True
                yield member
        if not found:
            raise SourceMissing(
                f"no member of {shown(self.manifest.name)} matches {shown(' '.join(patterns))}",
                advice="`driveshard ls` lists what there is.",
            )

    def _part_members(self, part: ManifestPart) -> Iterator[Member]:
        with open_part(self.shelf, part) as archive:
            for info in archive.infolist():
                yield Member(member_path(info), info.file_size, info.CRC, shown(part.name))

    def _replaced(self) -> dict[int, frozenset[int]]:
        """For each part the marks of its members that a newer part replaces; the manifest says if there are any."""
        parts = self.manifest.parts
        if sum(part.files for part in parts) == self.manifest.files:
            return {}
        import numpy

        newer = numpy.empty(0, numpy.uint64)
        replaced = {}
        for part in reversed(parts):
            marks = numpy.fromiter((_mark(one.path) for one in self._part_members(part)), numpy.uint64)
            replaced[part.number] = frozenset(numpy.intersect1d(marks, newer).tolist())
            newer = numpy.union1d(newer, marks)
        return replaced

    def cat(self, path: bytes, write: Callable[[bytes], Any]) -> Member:
        """Give the newest member of that path to ``write``, block by block. Raises SourceMissing, Mismatch."""
        for part in reversed(self.manifest.parts):
            if not self._may_hold(part, path):
                continue
            archive, directory = self._opened(part)
            info = directory.get(path)
            if info is not None:
                for block in _content(part, archive, info):
                    write(block)
                return Member(path, info.file_size, info.CRC, part.name)
        raise SourceMissing(
            f"{shown(self.manifest.name)} has no member {printable(path)}",
            advice="`driveshard ls` lists what there is.",
        )

    def has(self, path: bytes) -> bool:
        """Whether there is a member of exactly that path."""
        parts = [part for part in reversed(self.manifest.parts) if self._may_hold(part, path)]
        return any(path in self._opened(part)[1] for part in parts)

    def read(self, path: bytes) -> bytes:
        """One member whole."""
        blocks: list[bytes] = []
        self.cat(path, blocks.append)
        return b"".join(blocks)

    def _opened(self, part: ManifestPart) -> tuple[zipfile.ZipFile, dict[bytes, zipfile.ZipInfo]]:
        """The part and its members by path. The last one is kept: the next member is most often in it, too."""
        if self._kept is None or self._kept[0] is not part:
            self._let_go()
            archive = open_part(self.shelf, part)
            self._kept = part, archive, {member_path(info): info for info in archive.infolist()}
        return self._kept[1:]

    def _let_go(self) -> None:
        if self._kept is not None:
            self._kept[1].close()
            self._kept = None

    def _may_hold(self, part: ManifestPart, path: bytes) -> bool:
        """Whether the path can lie in the part, as far as its first and last paths tell. They stand in the manifest
        with escapes for what cannot be printed, so only plain ones can be compared. What is deleted lies in none."""
        if path in self._deleted:
            return False
        if self.manifest.source.get("kind") not in _SORTED:
            return True
        bounds = _plain(part.first, part.last)
        return bounds is None or bounds[0] <= path <= bounds[1]


def _content(part: ManifestPart, archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> Iterator[bytes]:
    """The member block by block. Only what reading it raises is told as damage, not what becomes of the blocks."""
    with damage_told(part):
        stream = archive.open(info)
    with stream:
        while True:
            with damage_told(part):
                block = stream.read(_BLOCK)
            if not block:
                return
            yield block


def _plain(first: str, last: str) -> tuple[bytes, bytes] | None:
    if not first or "\\" in first or "\\" in last:
        return None
    return first.encode("utf-8", "surrogateescape"), last.encode("utf-8", "surrogateescape")


def _mark(path: bytes) -> int:
    """Eight bytes that stand for a path."""
    return int.from_bytes(hashlib.blake2b(path, digest_size=8).digest(), "little")


def open_reading(what: str, settings: Settings, emit: Emit = ignore) -> Reading:
    """Open WHAT (see ``open_shelf``) for reading. Raises SourceMissing, Mismatch, and errors of the way to Drive."""
    shelf = open_shelf(what, settings, emit)
    try:
        return Reading(shelf)
    except BaseException:
        shelf.close()
        raise
