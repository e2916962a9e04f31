"""The end of a push: card, preview and manifest side by side, and the folder's permission. Never fails the upload."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial

from driveshard.archive import manifest as manifests
from driveshard.archive.manifest import Manifest, ManifestPage, ManifestPart
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
from driveshard.core.events import Notice
from driveshard.core.model import RemoteFile
from driveshard.upload.dataset_folder.card import CARD, PREVIEW, card_of
from driveshard.upload.dataset_folder.contents import is_known, note_contents
from driveshard.upload.dataset_folder.preview import preview, spread
from driveshard.upload.dataset_folder.settling import kinds_in
from driveshard.upload.ledger.ledger import Ledger
from driveshard.upload.ledger.rows import LedgerPart
from driveshard.upload.result import not_shared
from driveshard.upload.send.uploader import HEAD, HEADS
from driveshard.upload.side_by_side import Later
from driveshard.upload.surroundings import Surroundings

Sha256s = tuple[str, ...]
"""Of parts, in the order of their numbers; and of what is deleted."""

_Pages = Sequence[tuple[ManifestPage, bytes]]
_JSON = "application/json"
_SMALL_PARTS = 24
_TRIES = 3
_PAGES_AT_ONCE = 4


@dataclass(frozen=True, slots=True)
class Written:
    """Index and preview of these ``parts`` are there, the preview if the samples are images."""

    parts: Sha256s = ()
    has_preview: bool = False


class Publisher:
    """Puts the small files beside the parts and sets who may read. All steps can be repeated without harm. ``at_hand``
    gives what need not be asked for: of a part's number and file name a range, as far as it is still known here."""

    def __init__(
        self,
        around: Surroundings,
        folder_id: str,
        at_hand: Callable[[int, str, int, int], bytes] = lambda *_: b"",
    ) -> None:
        self._around = around
        self._destination = around.destination
        self._ledger = around.ledger
        self._emit = around.emit
        self._folder_id = folder_id
        self._at_hand = at_hand
        self._ahead = False  # then what fails is met again at the end, when all parts are there

    def write_ahead(self, manifest: Manifest, readers: str) -> Written:
        """Index and preview alone, before the rest; with the card, where no manifest is that it would run ahead of.
        Raises what reading a part raises that is neither here any more nor there yet."""
        self._ahead = True
        first = self._ledger.artifact(manifests.NAME) is None
        shown = self._around.later(lambda: self._put_preview(manifest, readers if first else None))
        try:
            self._put_index(manifest)
        finally:
            shown.wait()  # or it would be written twice
        return Written(_sha256s(manifest), shown.result())

    def publish(self, manifest: Manifest, readers: str = "nobody", ahead: Callable[[], Written] = Written) -> None:
        """Card, preview, index and manifest, each only if it changed; ``readers`` is who may read in the end, for the
        card. ``ahead`` waits for what need not be written any more."""
        pages = manifests.split(manifest)
        if self._is_published(manifest, pages) and not self._ledger.get("publishing"):
            return
        self._around.hold()
        self._ledger.note(publishing=True)  # the manifest may be there before what goes beside it
        begun = [self._around.later(lambda: self._put_manifest(manifest, pages))]
        written = ahead()
        if written.parts == _sha256s(manifest):
            self._put_card(manifest, readers, has_preview=written.has_preview)
        else:
            begun.append(self._around.later(lambda: self._put_index(manifest)))
            self._put_preview(manifest, readers)
        for one in begun:
            one.result()
        for name, file_id in self._old_pages(pages).items():
            self._trash(name, file_id)
        self._ledger.note(publishing=None)

    def _is_published(self, manifest: Manifest, pages: _Pages) -> bool:
        listed = self._stored(pages)
        if len(listed) < len(pages) or self._old_pages(pages):
            return False
        known = self._ledger.artifact(manifests.NAME)
        return known is not None and known[1] == _md5(manifest.encode(listed))

    def _put_manifest(self, manifest: Manifest, pages: _Pages) -> None:
        """The pages first, those that are not there yet: none is ever changed, so until the manifest is replaced
        everybody reads the dataset as it was, and from then on as it is."""
        for begin in range(0, len(pages), _PAGES_AT_ONCE):
            some = pages[begin : begin + _PAGES_AT_ONCE]
            under_way = [self._around.later(partial(self._put, page.name, data, _JSON)) for page, data in some]
            for one in under_way:
                one.result()
        self._put(manifests.NAME, manifest.encode(self._stored(pages)), _JSON)

    def _stored(self, pages: _Pages) -> list[ManifestPage]:
        """Those of the pages that are there, with their ids."""
        known = ((page, data, self._ledger.artifact(page.name)) for page, data in pages)
        return [replace(page, id=there[0]) for page, data, there in known if there and there[1] == _md5(data)]

    def _old_pages(self, pages: _Pages) -> dict[str, str]:
        """Ids of pages that a manifest listed once, or was to list, by their names."""
        names = {page.name for page, _ in pages}
        known = self._ledger.artifacts().items()
        return {name: file_id for name, (file_id, _) in known if manifests.is_page(name) and name not in names}

    def _trash(self, name: str, file_id: str) -> None:
        """Take away a small file that nobody needs, and then forget it: until then the next run knows of it, too, and
        does not count on it."""
        self._ledger.note_artifact(name, file_id, None)
        self._around.write(lambda: self._destination.trash(file_id), doing=f"moving {name} to the trash")
        self._ledger.forget_artifact(name)

    def _put_preview(self, manifest: Manifest, card_for: str | None) -> bool:
        """The preview, if the samples are images; and beside it the card, if it is told for which readers."""
        picture = self._looked_at(manifest)
        shown = None if picture is None else self._around.later(lambda: self._put(PREVIEW, picture, "image/jpeg"))
        if card_for is not None:
            self._put_card(manifest, card_for, has_preview=picture is not None)
        if shown is not None:
            shown.result()
        return picture is not None

    def _looked_at(self, manifest: Manifest) -> bytes | None:
        """The preview, if the samples are images; what was seen is noted for the card."""
        picture, seen = self._samples_if_readable(manifest)
        note_contents(self._ledger, seen)
        return picture

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
                self._put_card(manifest_of(ledger), readers)
            except (Refused, ComeBackLater, Unreachable) as error:
                self._emit(Notice(f"The card was not written again: {error}"))

    def _put_card(self, manifest: Manifest, readers: str, has_preview: bool | None = None) -> None:
        card = card_of(self._ledger, manifest, readers, has_preview=has_preview)
        self._put(CARD, card, "text/markdown")
        self._ledger.note(card={"readers": readers, "words": self._ledger.get("words")})

    def _put_index(self, manifest: Manifest) -> None:
        """The index of all members, so that a reader need not open the parts for it."""
        # with numpy, of which a push has no other need
        from driveshard.upload.dataset_folder.index import index_of, too_large

        why = too_large(manifest)
        if why is not None:
            self._emit(Notice(f"No index was made, so that each reader makes one: {why}"))
            return

        def read(part: ManifestPart, start: int, length: int) -> bytes:
            return self._around.ask(
                lambda: self._destination.read(part.id, start, length), doing=f"reading the directory of {part.name}"
            )

        try:
            data = index_of(manifest, self._ledger, read)
        except (Refused, DailyCap, Unreachable) as error:
            if self._ahead:
                raise
            self._emit(Notice(f"No index was made: {error}"))
            return
        if data is not None:
            self._put(manifests.INDEX, data, "application/zip")

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
        shared = self._around.ask(
            lambda: self._destination.share(self._folder_id, who, self._around.throttle.write),
            doing="sharing the folder",
        )
        self._note_shared(shared)
        return shared

    def asked_for_readers(self) -> str | None:
        """Who may read now; None where that cannot be asked."""
        look = getattr(self._destination, "readers", None)
        try:
            return None if look is None else str(look(self._folder_id))
        except (Unreachable, Refused, ComeBackLater, AuthError):  # the push itself is done
            return None

    def readers(self, early: Later[str | None] | None = None) -> str:
        """Who may read now, without setting it; what was set last where that cannot be asked. ``early`` is that
        question, asked a moment ago."""
        shared = self.asked_for_readers() if early is None else early.result()
        if shared is None:
            return str(self._ledger.get("shared") or "nobody")
        self._note_shared(shared)
        return shared

    def _note_shared(self, shared: str) -> None:
        if (self._ledger.get("shared") or "nobody") != shared:
            self._ledger.note(shared=shared)

    def _put(self, name: str, data: bytes, mime_type: str) -> None:
        """Create or replace one small file, so that it exists once whatever happens in between."""
        md5 = _md5(data)
        again = False
        for _ in range(_TRIES):
            known = self._ledger.artifact(name)
            if known is None:
                file_id = self._around.reserve_id()
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
                file_id = self._around.reserve_id()
                self._ledger.note_artifact(name, file_id, None)
                continue
            if (remote.md5 or "").lower() == md5:
                self._ledger.note_artifact(name, file_id, md5)
                return
            self._ledger.note_artifact(name, file_id, remote.md5)
        raise Mismatch(f"{name} has other bytes on Drive than were sent", advice="Run the same command again.")

    def _put_once(self, file_id: str, name: str, data: bytes, mime_type: str, *, replace: bool) -> RemoteFile:
        """Write it, unless it turns out that an earlier try got through although its reply did not."""
        md5 = _md5(data)
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
            self._around.throttle.write()
            try:
                return self._destination.put(file_id, self._folder_id, name, data, mime_type, replace=replace)
            except IdInUse:  # a run that was killed may have written it
                there = self._with_checksum(file_id)
                if (there.md5 or "").lower() == md5:
                    return there
                self._around.throttle.write()
                return self._destination.put(file_id, self._folder_id, name, data, mime_type, replace=True)

        remote = self._around.ask(step, doing=f"writing {name}")
        if remote.md5 is None:
            remote = self._around.ask(lambda: self._with_checksum(file_id), doing=f"looking for {name}")
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

    def _samples_if_readable(self, manifest: Manifest) -> tuple[bytes | None, list[bytes]]:
        """(the preview, if the samples are images; what was looked at of the parts)."""
        try:
            return self._samples(manifest)
        except (Refused, DailyCap, Unreachable) as error:  # all parts are up, and what is written may well get through
            if self._ahead:
                raise
            self._emit(Notice(f"No preview was made: {error}"))
            return None, []

    def _samples(self, manifest: Manifest) -> tuple[bytes | None, list[bytes]]:
        seen: list[bytes] = []

        def read(part: ManifestPart, start: int, length: int) -> bytes:
            """From what is still known of the part, where that is enough."""
            data = self._at_hand(part.number, part.name, start, length)
            if len(data) < length:
                data = self._around.ask(
                    lambda: self._destination.read(part.id, start, length), doing="reading samples for the preview"
                )
            seen.append(data)
            return data

        kinds = kinds_in(self._ledger)
        picture = preview(manifest, kinds, read)
        if not seen and not is_known(self._ledger, kinds):  # no images; their labels are worth a look all the same
            small = manifest.size <= HEADS * HEAD  # then what the card counts is counted whole
            for part in spread(manifest.parts, _SMALL_PARTS if small else HEADS):
                read(part, 0, min(part.size, HEAD))
        return picture, seen


def _md5(data: bytes) -> str:
    return hashlib.md5(data, usedforsecurity=False).hexdigest()


def _sha256s(manifest: Manifest) -> Sha256s:
    return (*(part.sha256 for part in manifest.parts), manifest.hidden)


def manifest_of(ledger: Ledger) -> Manifest:
    """The manifest of a dataset whose parts are all released."""
    totals = ledger.totals()
    parts = tuple(manifest_part(part) for part in ledger.parts())
    return Manifest(
        name=ledger.get("name"),
        job=ledger.get("job"),
        source=ledger.get("settings", {}),
        samples=totals.samples,
        files=totals.files,
        parts=parts,
        deleted=tuple(path.decode("utf-8", "surrogateescape") for path in sorted(ledger.dropped_files())),
    )


def manifest_part(part: LedgerPart) -> ManifestPart:
    """A released part as the manifest tells of it."""
    return ManifestPart(
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
