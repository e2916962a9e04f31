"""The end of a push: card and preview, then the manifest, then the folder's permission. Never fails the upload."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import TypeVar

from driveshard.archive import manifest as manifests
from driveshard.archive.contact_sheet import Tile, contact_sheet, tiles_of
from driveshard.archive.manifest import Manifest, ManifestPart
from driveshard.core.errors import (
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
from driveshard.core.events import Emit, Notice
from driveshard.core.model import RemoteFile
from driveshard.storage.base import Destination
from driveshard.storage.retry import Retry
from driveshard.storage.throttle import Budget
from driveshard.upload.dataset_folder import publish
from driveshard.upload.dataset_folder.card import CARD, PREVIEW, card_of
from driveshard.upload.dataset_folder.contents import note_contents
from driveshard.upload.ledger.ledger import Ledger

T = TypeVar("T")

_TILES = 24
_PREVIEW_BYTES = 512 * 1024  # read from the head of a part
_PREVIEW_PARTS = 6
_SMALL_PARTS = 24  # of a dataset that is no larger than what is read anyway
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

    def publish(self, readers: str = "nobody") -> Manifest:
        """Card and preview, then the manifest, each only if it changed. Returns the manifest. ``readers`` is who may
        read in the end, for the card."""
        manifest = publish.manifest_of(self._ledger)
        data = manifest.encode()
        known = self._ledger.artifact(manifests.NAME)
        if known is not None and known[1] == hashlib.md5(data, usedforsecurity=False).hexdigest():
            return manifest
        heads = self._heads_if_readable(manifest)
        preview = _preview(heads)
        if preview is not None:
            self._put(PREVIEW, preview, "image/jpeg")
        note_contents(self._ledger, heads)
        self._put_card(manifest, readers)
        self._put(manifests.NAME, data, "application/json")
        return manifest

    def refresh_card(self, readers: str) -> None:
        """Write the card again if it says other readers, or other words of the owner, than there are now. Raises
        nothing that a notice can say: the data is all there."""
        ledger = self._ledger
        published = ledger.artifact(manifests.NAME)
        noted, words = ledger.get("card"), ledger.get("words")
        if published is None or published[1] is None or (noted is None and not words):
            return
        if noted != {"readers": readers, "words": words}:
            try:
                self._put_card(publish.manifest_of(ledger), readers)
            except (Refused, ComeBackLater, Unreachable) as error:
                self._emit(Notice(f"The card was not written again: {error}"))

    def _put_card(self, manifest: Manifest, readers: str) -> None:
        self._put(CARD, card_of(self._ledger, manifest, readers), "text/markdown")
        self._ledger.note(card={"readers": readers, "words": self._ledger.get("words")})

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

    def _heads_if_readable(self, manifest: Manifest) -> list[bytes]:
        """First bytes of a few parts; of a small dataset of all of them, so that the card's counts are whole."""
        small = manifest.size <= _PREVIEW_PARTS * _PREVIEW_BYTES
        try:
            return [self._head(part) for part in _spread(manifest.parts, _SMALL_PARTS if small else _PREVIEW_PARTS)]
        except (Refused, DailyCap) as error:
            self._emit(Notice(f"No preview was made: {error}"))
            return []

    def _head(self, part: ManifestPart) -> bytes:
        return self._retry.call(
            lambda: self._destination.read(part.id, 0, min(part.size, _PREVIEW_BYTES)),
            doing="reading samples for the preview",
        )


def _preview(heads: Sequence[bytes]) -> bytes | None:
    """A contact sheet from the heads of a few parts; None when the samples are not images."""
    tiles: list[Tile] = []
    for head in heads:
        tiles += _spread(list(tiles_of(head)), -(-_TILES // len(heads)))
    return contact_sheet(tiles[:_TILES]) if tiles else None


def not_shared(error: DriveshardError) -> str:
    """The sentence about a refusal to share."""
    return f"Not shared: {error}. {error.advice}"


def _spread(items: Sequence[T], count: int) -> list[T]:
    """Up to ``count`` items, evenly from first to last."""
    if len(items) <= count:
        return list(items)
    return [items[round(index * (len(items) - 1) / max(1, count - 1))] for index in range(count)]


def manifest_of(ledger: Ledger) -> Manifest:
    """The manifest of a dataset whose parts are all released."""
    totals = ledger.totals()
    parts = tuple(
        ManifestPart(
            number=part.number,
            name=part.file_name,
            id=part.file_id or "",
            size=part.size or 0,
            md5=part.md5 or "",
            sha256=part.sha256 or "",
            samples=part.samples or 0,
            files=part.files or 0,
            first=part.first or "",
            last=part.last or "",
        )
        for part in ledger.parts()
    )
    return Manifest(
        name=ledger.get("name"),
        job=ledger.get("job"),
        source=ledger.get("settings", {}),
        samples=totals.samples,
        files=totals.files,
        parts=parts,
    )
