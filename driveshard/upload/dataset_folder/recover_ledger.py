"""Rebuilds a lost ledger from the dataset's own records on the destination, before anything is uploaded.

A part carries its job, number, checksum and counts in its properties; which files it holds is in its zip directory,
read by ranges. A source file counts as packed only when its present content has the CRC recorded there. What cannot be
taken over, because somebody changed it, is told and stays: without a ledger nobody knows what it is worth.
"""

from __future__ import annotations

import os
import re
import zlib
from array import array
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from driveshard.archive import names as member_names
from driveshard.archive.manifest import NAME as MANIFEST
from driveshard.archive.manifest import Manifest, ManifestPage, missing
from driveshard.archive.zip_reader import DAMAGED, directory_of
from driveshard.core.errors import Mismatch, NotFound, Unavailable, UsageError
from driveshard.core.events import Notice
from driveshard.core.formatting import plural, printable
from driveshard.core.model import FileList, Part, RemoteFile, SampleRange, Selection
from driveshard.sources.base import Source
from driveshard.sources.folder import FolderSource
from driveshard.sources.stamps import folded
from driveshard.upload.naming import settings_digest
from driveshard.upload.surroundings import Surroundings

_BLOCK = 1024 * 1024
_UNKNOWN = -1  # an mtime that no file has: the file counts as changed


@dataclass(frozen=True, slots=True)
class Facts:
    """What a part's properties say. ``replaces`` is (files, samples)."""

    number: int
    sha256: str
    samples: int
    files: int
    range: tuple[int, int] | None
    replaces: tuple[int, int]


def facts_of(remote: RemoteFile, job: str) -> Facts | None:
    """None when it is no part of that job, or does not say what a part says: others may write properties, too."""
    said = remote.properties
    if said.get("job") != job:
        return None
    try:
        limits = _two(said["range"]) if said.get("range") else None
        samples, files = _whole(said.get("samples", "0")), _whole(said.get("files", "0"))
        replaces = _two(said.get("replaces", "0-0"))
        return Facts(_whole(said["part"]), said["sha256"], samples, files, limits, replaces)
    except (KeyError, ValueError):
        return None


def _two(text: str) -> tuple[int, int]:
    first, second = text.split("-")
    return _whole(first), _whole(second)


def _whole(text: str) -> int:
    if not re.fullmatch(r"[0-9]{1,15}", text):
        raise ValueError(text)
    return int(text)


class Recovery:
    """Fills an empty ledger from the dataset's ``folder``. Raises UsageError when that was made from another source
    than the one whose settings are ``wanted``."""

    def __init__(self, around: Surroundings, source: Source, folder: RemoteFile, wanted: Mapping[str, Any]) -> None:
        if folder.properties.get("settings") not in (None, settings_digest(wanted)):
            raise UsageError(
                f"the dataset folder {folder.name} on Drive was made from another source, or with other settings",
                advice="Give this one another --name, or push with the same source and settings as before.",
            )
        self._around = around
        self._ledger = around.ledger
        self._source = source
        self._destination = around.destination
        self._emit = around.emit
        self._folder_id = folder.id
        self._job = folder.properties["job"]
        self._generation = 0
        self._last_path = b""
        self._matched: bool | None = None  # whether any file in the parts found is one of the source's

    def adopt(self, listed: list[RemoteFile]) -> None:
        """Take over every intact part, and the small files beside them. Raises UsageError when none of them is of this
        source, Mismatch when a part is not a zip."""
        self._ledger.forget()
        manifest = self._published(listed)
        self._adopt_parts(self._completed(listed, manifest), set(), _numbers(manifest))
        if self._matched is False:
            raise UsageError(
                f"the folder of that name on Drive holds none of the files of {self._source.describe()}",
                advice="Give another --name.",
            )
        self._adopt_artifacts(listed)
        found = len(self._ledger.parts())
        told = f"There is no ledger of it here; found and kept what is on Drive already: {plural(found, 'part')}"
        self._emit(Notice(told))

    def catch_up(self, listed: list[RemoteFile]) -> None:
        """Take over what another home pushed since this ledger was written. What this one had not finished is planned
        anew: the other may have sent the same files in other parts."""
        for part in self._ledger.parts(unfinished=True):
            self._ledger.drop(part.number)
        manifest = self._published(listed)
        listed = self._completed(listed, manifest)
        told, here = _numbers(manifest), {one.id for one in listed}
        untold = [part for part in self._ledger.parts() if told is not None and part.number not in told]
        gone = [part for part in untold if _is_old(part.number, told) or not self._is_there(part.file_id or "", here)]
        if gone:  # merged or dropped elsewhere; in the trash by now, or on their way there
            self._ledger.replace(part.number for part in gone)
            for part in gone:
                if part.file_id is not None and part.file_id not in here:
                    self._ledger.forget_retired(part.file_id)  # a write for each would only do it again
        known = self._ledger.parts()
        ids = {part.file_id for part in known} | self._ledger.retired().keys()  # which we are about to trash ourselves
        self._generation = int(self._ledger.get("generation", 0)) + 1
        self._adopt_parts([one for one in listed if one.id not in ids], {part.number for part in known}, told)
        self._adopt_artifacts(listed)
        found = len(self._ledger.parts()) - len(known)
        if found:
            self._emit(Notice(f"Another machine pushed this dataset meanwhile; {plural(found, 'part')} of it came in"))

    def _adopt_parts(self, listed: list[RemoteFile], numbers: set[int], told: frozenset[int] | None) -> None:
        """Those that are intact, and of another number than ``numbers``."""
        seen: set[int | str] = {*numbers}  # numbers and names
        parts = [(facts, one) for one in listed if (facts := facts_of(one, self._job)) is not None]
        for facts, remote in sorted(parts, key=lambda one: one[0].number):
            if _is_old(facts.number, told):
                self._emit(Notice(f"{remote.name} is left beside the parts: the manifest does not tell of it any more"))
                continue
            checked = self._with_checksum(remote)
            if facts.number in seen or remote.name in seen:
                continue
            if checked.sha256 is not None and checked.sha256.lower() != facts.sha256:
                self._emit(Notice(f"{remote.name} was changed on the destination since it was uploaded; it is kept"))
                continue
            seen |= {facts.number, remote.name}
            self._adopt_part(facts, checked)
        self._ledger.note(generation=self._generation)

    def _adopt_artifacts(self, listed: list[RemoteFile]) -> None:
        for remote in listed:
            if remote.properties.get("driveshard") == "artifact":
                self._ledger.note_artifact(remote.name, remote.id, remote.md5 or "")

    def _published(self, listed: list[RemoteFile]) -> Manifest | None:
        """The manifest as it is now, be it listed yet or known from before, and which files are deleted by it; None
        without one."""
        known = self._ledger.artifact(MANIFEST)
        ids = [one.id for one in listed if one.name == MANIFEST and one.properties.get("driveshard") == "artifact"]
        for file_id in dict.fromkeys([*ids, *([known[0]] if known is not None else [])]):
            with suppress(Mismatch, NotFound):
                remote = self._get(file_id)  # a list may tell the size that it had before
                manifest = Manifest.decode(self._read(remote.name, file_id, remote.size), self._pages)
                self._ledger.drop_files(manifest.deleted_paths)
                return manifest
        return None

    def _completed(self, listed: list[RemoteFile], manifest: Manifest | None) -> list[RemoteFile]:
        """With the parts that the manifest tells of and the list does not show yet."""
        here = {one.id for one in listed}
        found = []
        for part in () if manifest is None else manifest.parts:
            if part.id and part.id not in here:
                with suppress(NotFound):
                    found.append(self._get(part.id))
        return listed + [one for one in found if one.parent in (None, self._folder_id)]

    def _is_there(self, file_id: str, here: set[str]) -> bool:
        """A list may not show yet what this home sent a moment ago."""
        if file_id and file_id not in here:
            with suppress(NotFound):
                self._get(file_id)
                return True
        return file_id in here

    def _get(self, file_id: str) -> RemoteFile:
        return self._around.ask(lambda: self._destination.get(file_id), doing="looking at the dataset's files")

    def _pages(self, pages: Sequence[ManifestPage]) -> Iterator[bytes]:
        for page in pages:
            try:
                yield self._read(page.name, page.id, page.size)
            except NotFound as error:
                raise missing(page) from error

    def _read(self, name: str, file_id: str, length: int) -> bytes:
        return self._around.ask(lambda: self._destination.read(file_id, 0, length), doing=f"reading {name}")

    def _with_checksum(self, listed: RemoteFile) -> RemoteFile:
        """The file, once Drive has its checksum: taken for lost, it would be uploaded a second time."""

        def look() -> RemoteFile:
            remote = self._destination.get(listed.id)
            if remote.md5 is None:
                raise Unavailable("Drive has not computed the checksum yet")
            return remote

        return listed if listed.md5 is not None else self._around.ask(look, doing=f"looking at {listed.name}")

    def _adopt_part(self, facts: Facts, remote: RemoteFile) -> None:
        selection, first, last, paths = self._selection(facts, remote)
        part = Part(
            number=facts.number,
            file_name=remote.name,
            size=remote.size,
            md5=(remote.md5 or "").lower(),
            sha256=facts.sha256,
            samples=facts.samples,
            files=facts.files,
            first=first,
            last=last,
            selection=selection,
            names=member_names.facts_of(paths, by_key=isinstance(selection, SampleRange)),
        )
        self._ledger.adopt(part, remote.id, self._generation, facts.replaces)

    def _selection(self, facts: Facts, remote: RemoteFile) -> tuple[Selection, str, str, list[bytes]]:
        members = self._members(remote)
        self._count_generation(members)
        first = printable(members[0][0]) if members else ""
        last = printable(members[-1][0]) if members else ""
        paths = [path for path, _, _ in members]
        if facts.range is not None:
            return SampleRange(*facts.range), first, last, paths
        if not isinstance(self._source, FolderSource):
            raise UsageError(
                f"the folder of that name on Drive was made from another kind of source than {self._source.describe()}",
                advice="Give another --name.",
            )
        root = self._source.root
        mtimes = array("q", [_mtime_if_same(root, path, size, crc) for path, size, crc in members])
        self._matched = bool(self._matched) or any(mtime != _UNKNOWN for mtime in mtimes)
        sizes = array("q", [size for _, size, _ in members])
        return FileList(b"\0".join(paths), sizes, mtimes), first, last, paths

    def _count_generation(self, members: list[tuple[bytes, int, int]]) -> None:
        """Which runs cut which parts is not recorded; parts whose paths go on in order may share a generation."""
        if not self._generation or (members and members[0][0] <= self._last_path):
            self._generation += 1
        if members:
            self._last_path = members[-1][0]

    def _members(self, remote: RemoteFile) -> list[tuple[bytes, int, int]]:
        """(path, size, crc) of every member."""

        def read(start: int, length: int) -> bytes:
            return self._around.ask(
                lambda: self._destination.read(remote.id, start, length),
                doing=f"reading the directory of {remote.name}",
            )

        try:
            return directory_of(read, remote.size)
        except DAMAGED as error:
            raise Mismatch(
                f"{remote.name} on Drive is not a zip ({error})", advice="Delete that file, then run again."
            ) from error


def _mtime_if_same(root: Path, path: bytes, size: int, crc: int) -> int:
    """The file's mtime if its content is what the part holds, else one that makes it count as changed."""
    file = os.path.join(os.fsencode(root.absolute()), path)
    try:
        with open(file, "rb") as stream:
            status = os.fstat(stream.fileno())
            if status.st_size != size:
                return _UNKNOWN
            found = 0
            while block := stream.read(_BLOCK):
                found = zlib.crc32(block, found)
    except OSError:
        return _UNKNOWN
    return folded(status.st_mtime_ns) if found == crc else _UNKNOWN


def _numbers(manifest: Manifest | None) -> frozenset[int] | None:
    return None if manifest is None else frozenset(part.number for part in manifest.parts)


def _is_old(number: int, told: frozenset[int] | None) -> bool:
    """Whether a part was replaced: numbers only grow, so one that is older than the manifest's last and not in it has
    gone from the dataset, though perhaps not yet from the folder."""
    return told is not None and number not in told and number < max(told, default=0)
