"""The ``verify`` command's work: what is stored is compared with what the manifest promises."""

from __future__ import annotations

import hashlib
import re
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from typing import Any, BinaryIO

from driveshard.archive import manifest as manifests
from driveshard.archive.manifest import Manifest, ManifestPart
from driveshard.archive.zip_reader import DAMAGED, damage_in_words, open_zip
from driveshard.core.errors import DriveshardError, Interrupted, Mismatch, SourceMissing, TempFull, Unavailable
from driveshard.core.formatting import shown
from driveshard.core.model import RemoteFile
from driveshard.dataset.locate import find_manifest
from driveshard.dataset.shelf import DirectoryShelf, Shelf, SiteShelf

_BLOCK = 8 * 1024 * 1024
_SINGLE = (manifests.NAME, manifests.INDEX, "README.md", "preview.jpg")


@dataclass
class Proof:
    """What ``verify --json`` prints: ``bytes`` are the parts', ``problems`` sentences for the user."""

    name: str | None = None
    parts: int = 0
    bytes: int = 0
    problems: list[str] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        """Everything is as it should be."""
        return not self.problems

    def as_json(self) -> dict[str, Any]:
        """The fields that scripts rely on, in their order."""
        return {
            "name": self.name,
            "parts": self.parts,
            "bytes": self.bytes,
            "ok": self.ok,
            "problems": list(self.problems),
        }


def verify(
    shelf: Shelf,
    *,
    deep: bool = False,
    on_part: Callable[[str], None] = lambda _: None,
    on_read: Callable[[int, int], None] = lambda *_: None,
) -> Proof:
    """Compare every part with the manifest: there once, of the right size and checksums, and nothing too much.

    On a destination its own checksums are compared; ``deep`` fetches each part and computes them, and every member's
    CRC, anew, as is always done in a directory, and where strangers are told no checksums. ``on_part`` is told of each
    part before it is read, ``on_read`` of more bytes that were read, and how many there are in all. What is wrong comes
    back as problems; raises only when the place cannot be reached.
    """
    files = shelf.files()
    proof = Proof()
    try:
        manifest = find_manifest(shelf, files)
    except (SourceMissing, Mismatch) as error:
        proof.problems.append(f"{error}. {error.advice}".strip())
        return proof
    proof.name, proof.parts, proof.bytes = manifest.name, len(manifest.parts), manifest.size
    proof.problems += _strays(manifest, files, shelf)
    reading = deep or reads_all(shelf)
    by_id = {one.id: one for one in files}
    for part in manifest.parts:
        on_part(shown(part.name))
        remote = by_id.get(shelf.id_of(part))
        if remote is None or remote.size < 0:
            remote = shelf.find(shelf.id_of(part), part.name)
        wrong = _reported(part, remote)
        if reading and remote is not None and remote.size == part.size:
            wrong += content_problems(shelf, part, lambda count: on_read(count, manifest.size))
        proof.problems += [shown(f"{part.name} {what}") for what in wrong]
    return proof


def reads_all(shelf: Shelf) -> bool:
    """Whether only the bytes themselves prove anything there."""
    return isinstance(shelf, DirectoryShelf | SiteShelf)


def _strays(manifest: Manifest, files: list[RemoteFile], shelf: Shelf) -> Iterator[str]:
    """Files of ours that are there twice, or that the manifest does not know. A list may still show what went to the
    trash a moment ago, so these are asked for."""
    known = {part.name for part in manifest.parts}
    ours = re.compile(re.escape(manifest.name) + r"-\d{5,}\.zip")
    named: dict[str, list[RemoteFile]] = {}
    for one in files:
        named.setdefault(one.name, []).append(one)
    for name, those in sorted(named.items()):
        stray = name not in known and ours.fullmatch(name) is not None
        once = name in known or name in _SINGLE or manifests.is_page(name)
        if stray or (len(those) > 1 and once):
            count = sum(shelf.find(one.id, name) is not None for one in those)
            if stray and count:
                yield shown(f"{name} is not in the manifest")
            elif count > 1:
                yield shown(f"{name} is there {count} times")


def _reported(part: ManifestPart, remote: RemoteFile | None) -> list[str]:
    """What the place itself says of a part; checksums it does not tell are no problem here."""
    if remote is None:
        return ["is missing"]
    if remote.size != part.size:
        return [f"has {remote.size:,} bytes instead of {part.size:,}"]
    wrong = []
    for kind, found, wanted in (("md5", remote.md5, part.md5), ("sha256", remote.sha256, part.sha256)):
        if found is not None and found.lower() != wanted.lower():
            wrong.append(f"has another {kind} than the manifest")
    return wrong


def content_problems(shelf: Shelf, part: ManifestPart, on_read: Callable[[int], None] = lambda _: None) -> list[str]:
    """Both checksums over all bytes, then every member's CRC. ``on_read`` is told of bytes as they come."""
    wrong = []
    here = isinstance(shelf, DirectoryShelf)
    with _opened(shelf, part, on_read) as stream:
        md5, sha256 = hashlib.md5(usedforsecurity=False), hashlib.sha256()
        while block := stream.read(_BLOCK):
            md5.update(block)
            sha256.update(block)
            if here:
                on_read(len(block))
        if (md5.hexdigest(), sha256.hexdigest()) != (part.md5.lower(), part.sha256.lower()):
            wrong.append("has other bytes than were packed")
        try:
            with open_zip(partial(_read_at, stream), part.size) as archive:
                bad, count = archive.testzip(), len(archive.infolist())
        except DAMAGED as error:
            return [*wrong, f"is not a whole zip ({damage_in_words(error)})"]
    if bad is not None:
        wrong.append(f"has a damaged member: {shown(bad)}")
    if count != part.files:
        wrong.append(f"holds {count:,} members instead of {part.files:,}")
    return wrong


def _read_at(stream: BinaryIO, start: int, length: int) -> bytes:
    stream.seek(start)
    return stream.read(length)


def _opened(shelf: Shelf, part: ManifestPart, on_read: Callable[[int], None]) -> BinaryIO:
    """The part as a file: where it lies, or fetched into a temp file that goes when it is closed."""
    if isinstance(shelf, DirectoryShelf):
        return shelf.opened(part)
    stream: BinaryIO = tempfile.TemporaryFile(prefix="driveshard-verify-")  # noqa: SIM115
    try:
        _pour(shelf, part, stream, on_read)
        stream.seek(0)
    except OSError as error:
        stream.close()
        raise TempFull(f"{part.name} cannot be fetched into {tempfile.gettempdir()}: {error.strerror}") from error
    except BaseException:
        stream.close()
        raise
    return stream


def _pour(shelf: Shelf, part: ManifestPart, stream: BinaryIO, on_read: Callable[[int], None]) -> None:
    """All of a part into a file, as it comes; a cut costs what was on its way."""
    failures: list[OSError] = []

    def write(block: bytes) -> None:
        try:
            stream.write(block)
            on_read(len(block))
        except OSError as error:  # of our disk: the line's failures are OSErrors, too, and passing ones
            failures.append(error)
            raise Interrupted("the disk is full") from error

    def step() -> None:
        position = stream.tell()
        try:
            shelf.stream(shelf.id_of(part), position, part.size - position, write, lambda _: None)
        except Unavailable:
            if stream.tell() == position:
                raise
            return
        if stream.tell() == position:  # shorter than it says it is
            stream.seek(part.size)

    try:
        while stream.tell() < part.size:
            shelf.patiently(step, f"reading {part.name}")
    except Interrupted:
        if failures:
            raise failures[0] from None
        raise


def refusal(proof: Proof) -> DriveshardError | None:
    """The error that a failed proof stands for."""
    if proof.ok:
        return None
    count = len(proof.problems)
    return Mismatch(
        f"{shown(proof.name or 'this')} is not as it should be: {count} problem{'s' if count > 1 else ''}",
        advice="Run the push again: it uploads what is missing or damaged anew.",
    )
