"""The dataset's folder on the destination: the one the ledger knows, one found again when the ledger is lost, or a new
one.

Apart from the ledger lies its anchor, a small file that names the folder. A destination's lists may lag for minutes,
so a folder that was made just before the ledger was lost could not be found by its name, and would be made twice; by
its id it is seen at once.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from driveshard.core.errors import (
    IdInUse,
    IdRefused,
    NotFound,
    Refused,
    SourceMissing,
    UsageError,
)
from driveshard.core.events import Notice, Waiting
from driveshard.core.files import write_whole
from driveshard.core.model import RemoteFile
from driveshard.sources.base import Source
from driveshard.sources.folder import FolderSource
from driveshard.storage.base import folder_gone
from driveshard.upload.dataset_folder.recover_ledger import Recovery
from driveshard.upload.naming import settings_digest
from driveshard.upload.surroundings import Surroundings

_FOLDER_IDS = 5  # tried before Drive is taken to refuse them all
_LOOKS = 6  # at a list that lags


@dataclass(frozen=True)
class Anchor:
    """What the next run needs of a ledger that is gone: the folder's id and the job whose parts are in it."""

    folder_id: str
    job: str


def read_anchor(path: Path) -> Anchor | None:
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
        return Anchor(str(document["folder_id"]), str(document["job"]))
    except (OSError, ValueError, KeyError, TypeError):
        return None


@dataclass(frozen=True)
class Traces:
    """What earlier runs left here, be their ledger gone or not. ``anchor`` is the anchor's path; ``lists_settle_at``
    the POSIX time from which lists show all that was uploaded from here; ``parts`` says that some lie in the temp
    folder."""

    anchor: Path
    lists_settle_at: float
    parts: bool


class DatasetFolder:
    """The folder of the dataset ``name``. ``facts`` are what to note in a ledger that is new, the source's
    ``settings`` among them."""

    def __init__(
        self, around: Surroundings, source: Source, traces: Traces, name: str, facts: Mapping[str, Any]
    ) -> None:
        self._around = around
        self._destination = around.destination
        self._ledger = around.ledger
        self._name = name
        self._source = source
        self._traces = traces
        self._some_traces = traces.parts or traces.anchor.exists()
        self._facts = facts

    def find(self) -> bool:
        """Begin a ledger that is new: from the folder on the destination if there is one, else for a folder that
        ``open`` makes. True when nothing was there before.

        Raises SourceMissing before anything is made when there is nothing to push, UsageError when the folder is
        another dataset's.
        """
        if not self._ledger.is_new:
            return False
        self._check_not_empty()
        ids = self._around.later(self._around.prepare_ids)
        found = self._find()
        ids.result()
        if found is not None:
            found = self._admitted(found)  # else parts that another machine still sends would be missed
        if found is None:
            self._ledger.create_job(self._name, **self._facts)
            return True
        Recovery(self._around, self._source, found, self._facts["settings"]).adopt(self._records(found.id))
        others = [] if self._around.lease is None else self._around.lease.others(found)
        self._ledger.note(**self._facts, folder_id=found.id, folder_made=True, name=self._name, others=others)
        self._ledger.note(job=found.properties["job"])  # last: without it the ledger counts as new
        return False

    def open(self, *, recreate: bool = False) -> RemoteFile:
        """Make it, or look at it as it is now. Raises NotFound when it is gone, unless it is to be made anew."""
        try:
            remote = self._caught_up(self._admitted(self.look())) if self.was_made else self._make()
        except NotFound:
            if not recreate:
                raise
            remote = self._begin_anew()
        self._write_anchor(Anchor(remote.id, self._ledger.get("job")))
        return remote

    def _admitted(self, folder: RemoteFile) -> RemoteFile:
        return folder if self._around.lease is None else self._around.lease.admit(folder)

    def _caught_up(self, folder: RemoteFile) -> RemoteFile:
        """The ledger knows what other homes did with the dataset, now that none of them pushes it."""
        others = [] if self._around.lease is None else self._around.lease.others(folder)
        if set(others) - set(self._ledger.get("others", [])):
            Recovery(self._around, self._source, folder, self._facts["settings"]).catch_up(self._listed(folder.id))
            self._ledger.note(others=others)
        return folder

    @property
    def was_made(self) -> bool:
        return bool(self._ledger.get("folder_made"))

    def look(self) -> RemoteFile:
        """The folder as it is now. Raises NotFound that says whose it was, and what to do."""
        folder_id = self._ledger.get("folder_id")
        try:
            return self._around.ask(lambda: self._destination.get(folder_id), doing="looking for the dataset's folder")
        except NotFound as error:
            raise folder_gone(self._name, self._destination, trashed=error.trashed) from error

    def _begin_anew(self) -> RemoteFile:
        self._check_not_empty()
        self._around.emit(
            Notice(
                f"The folder of {self._name} is gone, so everything is sent again, into a new folder with a new link;"
                " it is shared with nobody until you say so"
            )
        )
        self._ledger.begin_anew(self._name, **self._facts)
        return self._make()

    def _check_not_empty(self) -> None:
        if isinstance(self._source, FolderSource) and next(self._source.scan(), None) is None:
            raise SourceMissing(
                f"{self._source.describe()} has no files to push", advice="Check the path, --include and --exclude."
            )

    def _write_anchor(self, anchor: Anchor) -> None:
        path = self._traces.anchor
        if read_anchor(path) != anchor:
            path.parent.mkdir(parents=True, exist_ok=True)
            write_whole(path, json.dumps(asdict(anchor)).encode())

    # -- when the ledger was lost --------------------------------------------------------------------------------

    def _find(self) -> RemoteFile | None:
        anchor = read_anchor(self._traces.anchor)
        if anchor is not None:
            try:
                folder = self._around.ask(
                    lambda: self._destination.get(anchor.folder_id), doing="looking for the dataset's folder"
                )
                if folder.properties.get("job") == anchor.job:
                    return folder
            except NotFound:
                pass
        while True:
            found = self._as_it_is_now(find_folder(self._name, self._around))
            if found is not None or not self._some_traces or not self._waited_for_lists():
                return found

    def _as_it_is_now(self, listed: RemoteFile | None) -> RemoteFile | None:
        """A list may tell of a folder as it was minutes ago, and who pushes it may be another now."""
        if listed is None or self._around.lease is None:
            return listed
        try:
            return self._around.ask(lambda: self._destination.get(listed.id), doing="looking for the dataset's folder")
        except NotFound:
            return None

    def _records(self, folder_id: str) -> list[RemoteFile]:
        """The files in the folder, those included that the last run stored just before its ledger was lost."""
        while self._waited_for_lists():
            pass  # only the last list counts
        return self._listed(folder_id)

    def _listed(self, folder_id: str) -> list[RemoteFile]:
        return self._around.ask(lambda: self._destination.children(folder_id), doing="reading the folder's records")

    def _waited_for_lists(self) -> bool:
        """Wait some of the time that lists may lag behind; False when it is over."""
        left = self._traces.lists_settle_at - self._around.clock.now()
        if left <= 0:
            return False
        self._around.emit(
            Waiting("without a ledger Drive's lists tell what is up, and may not show yet what was uploaded last", left)
        )
        self._around.clock.sleep(max(left / _LOOKS, min(left, 0.1)))
        return True

    # -- the first run -------------------------------------------------------------------------------------------

    def _make(self) -> RemoteFile:
        """Make it under an id that is in the ledger first, so that a lost reply never makes two."""
        refused: IdRefused | None = None
        for _ in range(_FOLDER_IDS):
            folder_id = self._ledger.get("folder_id")
            if folder_id is None:
                folder_id = self._around.reserve_id("reserving a folder id")
                self._ledger.note(folder_id=folder_id)
            self._write_anchor(Anchor(folder_id, self._ledger.get("job")))
            try:
                made = self._make_once(folder_id)
                if made is not None:
                    self._ledger.note(folder_made=True)
                    if self._around.lease is not None:
                        self._around.lease.made(made)
                    return made
            except IdRefused as error:  # once it may be for the id: a folder that was made, and deleted before we knew
                if refused is not None:
                    raise
                refused = error
            self._ledger.note(folder_id=None)
        raise Refused("Drive refuses every id for the dataset's folder", advice="Run the same command again.")

    def _make_once(self, folder_id: str) -> RemoteFile | None:
        """None when the id belongs to another file."""
        settings = settings_digest(self._ledger.get("settings"))
        properties: dict[str, str] = {"driveshard": "folder", "job": self._ledger.get("job"), "settings": settings}
        if self._around.lease is not None:
            properties |= self._around.lease.of_new_folder()
        try:
            return self._around.write(
                lambda: self._destination.make_folder(folder_id, self._name, properties),
                doing="making the dataset's folder",
            )
        except IdInUse:
            pass
        try:
            there = self._around.ask(lambda: self._destination.get(folder_id), doing="looking for the dataset's folder")
        except NotFound:
            return None
        return there if there.properties.get("job") == properties["job"] else None


def find_folder(name: str, around: Surroundings) -> RemoteFile | None:
    """The dataset folder of that name, None without one; one that does not say whose it is, is none. Raises UsageError
    when several have the name."""
    found = around.ask(lambda: around.destination.find_folders(name), doing="looking for an earlier upload")
    folders = [one for one in found if one.properties.get("job")]
    if len(folders) > 1:
        raise UsageError(
            f"there are {len(folders)} dataset folders named {name}, and no ledger that says which is meant",
            advice="Delete or rename all but one of them, or give another --name.",
        )
    return folders[0] if folders else None
