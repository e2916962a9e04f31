"""The end of a push: card and preview, then the manifest, then the folder's permission. Never fails the upload."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Sequence
from typing import TypeVar

from driveshard import manifest as manifests
from driveshard.budget import Budget
from driveshard.contact_sheet import Tile, contact_sheet
from driveshard.destination import Destination
from driveshard.errors import (
    AuthError,
    ComeBackLater,
    DailyCap,
    DriveshardError,
    IdInUse,
    IdRefused,
    Mismatch,
    NotFound,
    Refused,
    Unavailable,
    Unreachable,
)
from driveshard.events import Emit, Notice
from driveshard.ledger import Ledger
from driveshard.manifest import Manifest, ManifestPart
from driveshard.model import RemoteFile, sample_key
from driveshard.remote_zip import leading_members
from driveshard.retry import Retry
from driveshard.settling import sentences
from driveshard.text import human_size, plural

T = TypeVar("T")

CARD, PREVIEW = "README.md", "preview.jpg"
_IMAGES = (".jpg", ".jpeg", ".png", ".webp")
_TILES = 24
_PREVIEW_BYTES = 512 * 1024  # read from the head of a part
_PREVIEW_PARTS = 6
_TRIES = 3


class Publisher:
    """Puts the small files beside the parts and sets who may read. All steps can be repeated without harm."""

    def __init__(
        self, destination: Destination, folder_id: str, ledger: Ledger, budget: Budget, retry: Retry, emit: Emit
    ) -> None:
        self._destination = destination
        self._folder_id = folder_id
        self._ledger = ledger
        self._budget = budget
        self._retry = retry
        self._emit = emit

    def publish(self) -> Manifest:
        """Card and preview, then the manifest, each only if it changed. Returns the manifest."""
        manifest = manifests.manifest_of(self._ledger)
        data = manifest.encode()
        known = self._ledger.artifact(manifests.NAME)
        if known is not None and known[1] == hashlib.md5(data, usedforsecurity=False).hexdigest():
            return manifest
        preview = self._preview_if_readable(manifest)
        if preview is not None:
            self._put(PREVIEW, preview, "image/jpeg")
        self._put(CARD, card(manifest, preview is not None, sentences(self._ledger)), "text/markdown")
        self._put(manifests.NAME, data, "application/json")
        return manifest

    def share(self, who: str) -> str | DriveshardError:
        """Set who may read the folder. Returns who may read now; or, with a notice, why the destination refuses."""
        try:
            return self.grant(who)
        except (Refused, DailyCap) as error:
            self._emit(Notice(not_shared(error)))
            self.readers()  # some of it may have been done
            return error

    def grant(self, who: str) -> str:
        """Set who may read the folder, whatever an earlier run set: somebody may have changed it by hand. Returns who
        may read now. Raises ShareRefused and the like."""
        shared = self._retry.call(
            lambda: self._destination.share(self._folder_id, who, self._budget.write), doing="sharing the folder"
        )
        self._note_shared(shared)
        return shared

    def readers(self) -> str:
        """Who may read now, without setting it; what was set last where that cannot be asked."""
        look = getattr(self._destination, "readers", None)
        try:
            shared = None if look is None else str(look(self._folder_id))
        except (Unreachable, Refused, ComeBackLater, AuthError):  # the push itself is done
            shared = None
        if shared is None:
            return str(self._ledger.get("shared") or "nobody")
        self._note_shared(shared)
        return shared

    def _note_shared(self, shared: str) -> None:
        if (self._ledger.get("shared") or "nobody") != shared:
            self._ledger.note(shared=shared)

    def _put(self, name: str, data: bytes, mime_type: str) -> None:
        """Create or replace one small file, so that it exists once whatever happens in between."""
        md5 = hashlib.md5(data, usedforsecurity=False).hexdigest()
        again = False
        for _ in range(_TRIES):
            known = self._ledger.artifact(name)
            if known is None:
                file_id = self._retry.call(lambda: self._destination.reserve_ids(1), doing="reserving a file id")[0]
                self._ledger.note_artifact(name, file_id, None)
                known = (file_id, None)
            file_id, stored = known
            if stored == md5:
                return
            try:
                remote = self._put_once(file_id, name, data, mime_type, replace=stored is not None)
            except (NotFound, IdRefused):  # somebody deleted it; or, if that is the answer again, the whole folder
                if again:
                    raise
                again = True
                file_id = self._retry.call(lambda: self._destination.reserve_ids(1), doing="reserving a file id")[0]
                self._ledger.note_artifact(name, file_id, None)
                continue
            if (remote.md5 or "").lower() == md5:
                self._ledger.note_artifact(name, file_id, md5)
                return
            self._ledger.note_artifact(name, file_id, remote.md5)
        raise Mismatch(f"{name} has other bytes on Drive than were sent", advice="Run the same command again.")

    def _put_once(self, file_id: str, name: str, data: bytes, mime_type: str, *, replace: bool) -> RemoteFile:
        """Write it, unless it turns out that an earlier try got through although its reply did not."""
        md5 = hashlib.md5(data, usedforsecurity=False).hexdigest()
        unsure = False

        def step() -> RemoteFile:
            """Look first when an earlier try may have got through, then write."""
            nonlocal unsure, replace
            if unsure:
                there = self._there(file_id)
                if there is not None and (there.md5 or "").lower() == md5:
                    return there
                replace = there is not None
            unsure = True
            self._budget.write()
            try:
                return self._destination.put(file_id, self._folder_id, name, data, mime_type, replace=replace)
            except IdInUse:  # a run that was killed may have written it
                there = self._with_checksum(file_id)
                if (there.md5 or "").lower() == md5:
                    return there
                self._budget.write()
                return self._destination.put(file_id, self._folder_id, name, data, mime_type, replace=True)

        remote = self._retry.call(step, doing=f"writing {name}")
        if remote.md5 is None:
            remote = self._retry.call(lambda: self._with_checksum(file_id), doing=f"looking for {name}")
        return remote

    def _there(self, file_id: str) -> RemoteFile | None:
        try:
            return self._with_checksum(file_id)
        except NotFound:
            return None

    def _with_checksum(self, file_id: str) -> RemoteFile:
        remote = self._destination.get(file_id)
        if remote.md5 is None:
            raise Unavailable("Drive has not computed the checksum yet")
        return remote

    def _preview_if_readable(self, manifest: Manifest) -> bytes | None:
        try:
            return self._preview(manifest)
        except (Refused, DailyCap) as error:
            self._emit(Notice(f"No preview was made: {error}"))
            return None

    def _preview(self, manifest: Manifest) -> bytes | None:
        """A contact sheet from the heads of a few parts; None when the samples are not images."""
        tiles: list[Tile] = []
        chosen = _spread(manifest.parts, _PREVIEW_PARTS)
        for part in chosen:
            head = self._retry.call(
                lambda part=part: self._destination.read(part.id, 0, min(part.size, _PREVIEW_BYTES)),  # type: ignore[misc]
                doing="reading samples for the preview",
            )
            tiles += _spread(list(tiles_of(head)), -(-_TILES // len(chosen)))
        return contact_sheet(tiles[:_TILES]) if tiles else None


def not_shared(error: DriveshardError) -> str:
    """The sentence about a refusal to share."""
    return f"Not shared: {error}. {error.advice}"


def tiles_of(head: bytes) -> list[Tile]:
    """The image samples at the head of a part."""
    images: dict[str, bytes] = {}
    masks: dict[str, bytes] = {}
    for path, content in leading_members(head):
        name = path.decode("utf-8", "replace")
        if not name.lower().endswith(_IMAGES):
            continue
        is_mask = "mask" in name[len(sample_key(name)) :].lower()
        (masks if is_mask else images).setdefault(sample_key(name), content)
    return [Tile(key, image, masks.get(key)) for key, image in images.items()]


def _spread(items: Sequence[T], count: int) -> list[T]:
    """Up to ``count`` items, evenly from first to last."""
    if len(items) <= count:
        return list(items)
    return [items[round(index * (len(items) - 1) / max(1, count - 1))] for index in range(count)]


def card(manifest: Manifest, has_preview: bool, names: Sequence[str] = ()) -> bytes:
    """The dataset card: what this is and how to get it, with and without driveshard, and which ``names`` of members
    make trouble, a sentence a kind."""
    out = io.StringIO()
    out.write(f"# {manifest.name}\n\n")
    out.write(
        f"{manifest.samples:,} samples ({manifest.files:,} files, {human_size(manifest.size)}) in"
        f" {plural(len(manifest.parts), 'zip part')}, packed by driveshard.\n\n"
    )
    if has_preview:
        out.write(f"![samples]({PREVIEW})\n\n")
    out.write("## Use it\n\n")
    out.write("Every part is a plain zip: download the parts and open them with any zip tool, in the order of their\n")
    out.write("numbers (a member in a later part replaces one of the same name in an earlier part).\n\n")
    out.write("".join(f"- Mind: `{line}`.\n" for line in names) + ("\n" if names else ""))
    out.write("With driveshard, LINK being this folder's link:\n\n")
    out.write("    driveshard ls LINK\n    driveshard cat LINK MEMBER > FILE\n    driveshard verify LINK\n\n")
    out.write("`manifest.json` lists the parts with their sizes, md5 and sha256 checksums.\n\n")
    out.write("## Samples\n\nFiles whose path is the same up to the first dot of the name belong to one sample.\n\n")
    out.write("| part | samples | files | size | sha256 |\n|---|---|---|---|---|\n")
    for part in manifest.parts[:200]:
        out.write(_row(part))
    if len(manifest.parts) > 200:
        out.write(f"\n... and {len(manifest.parts) - 200:,} more in `manifest.json`.\n")
    return out.getvalue().encode("utf-8", "backslashreplace")


def _row(part: ManifestPart) -> str:
    return f"| {part.name} | {part.samples:,} | {part.files:,} | {human_size(part.size)} | `{part.sha256[:16]}...` |\n"
