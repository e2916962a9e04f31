"""``driveshard compact``: many small parts become few large ones.

The order is what keeps every reader well: the large parts go up under new numbers and are proved, as those of a push;
then one transaction of the ledger puts them in the small ones' place; then the manifest says so; and only then do the
small ones go to the trash. Until that transaction the dataset is untouched, and what was done lies in a ledger of its
own, from which the next run goes on. After it any run, a push too, does what is left.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager
from dataclasses import asdict, dataclass
from typing import Any

from driveshard.config.options import COMPACT, COMPACT_SIZES, read_environment
from driveshard.config.settings import MIB, PushOptions, Settings, only, push_options, read_settings
from driveshard.core.errors import ComeBackLater, NotFound, SourceMissing, UsageError
from driveshard.core.events import Doing, Emit, Published
from driveshard.core.formatting import plural
from driveshard.core.model import RemoteFile
from driveshard.storage.base import Destination, folder_gone
from driveshard.storage.registry import open_destination
from driveshard.storage.retry import Retry
from driveshard.upload.dataset_folder.publish import Publisher, manifest_of
from driveshard.upload.dataset_folder.reconcile import Reconciler
from driveshard.upload.dataset_folder.retiring import forget_absent, trash_retired
from driveshard.upload.dataset_folder.settling import settle
from driveshard.upload.lease import Lease, lease_for
from driveshard.upload.ledger.ledger import Ledger
from driveshard.upload.ledger.lock import hold
from driveshard.upload.ledger.reader import Record, find_record, settings_for
from driveshard.upload.merge.choose import Choice, choose
from driveshard.upload.merge.directories import KeptDirectories
from driveshard.upload.merge.work import Work
from driveshard.upload.merge.workshop import Workshop
from driveshard.upload.pace import throttle_for
from driveshard.upload.spool import Spool, spool_directory
from driveshard.upload.surroundings import Surroundings

_USUAL = 512 * MIB
_PARTS_IN_TEMP = 4  # what is fetched for one takes as much as two; one that is built, one that is sent


@dataclass
class Compacted:
    """What ``compact --json`` prints: ``state`` is complete, or planned after a dry run; ``merged`` small parts became
    ``made`` large ones, or would; ``parts`` and ``bytes`` are the dataset's as it now is, the other figures this
    run's."""

    name: str
    state: str = "complete"
    folder_id: str | None = None
    link: str | None = None
    parts: int = 0
    bytes: int = 0
    merged: int = 0
    made: int = 0
    fetched_bytes: int = 0
    sent_bytes: int = 0
    requests: int = 0
    seconds: float = 0.0

    def as_json(self) -> dict[str, Any]:
        """The fields that scripts rely on, in their order."""
        return asdict(self) | {"seconds": round(self.seconds, 3)}


@dataclass(frozen=True, slots=True)
class Sizes:
    """How large merged parts may be in bytes, and ``below`` which parts are small; None: as the dataset was cut, and
    half of that."""

    part_size: int | None = None
    below: int | None = None


@dataclass(frozen=True, slots=True)
class Merging:
    """One compaction, ready to run: what the command and ``driveshard.compact`` share."""

    name: str
    sizes: Sizes
    options: PushOptions
    settings: Settings

    def run(self, emit: Emit) -> Compacted:
        """As ``compact``."""
        return compact(self.name, self.sizes, self.options, self.settings, emit)


def prepare(name: str, given: Mapping[str, Any]) -> Merging:
    """Read config file and environment. ``given`` are sizes and options of ``COMPACT``, parsed, by field name. Raises
    ConfigError."""
    settings, config = read_settings()
    sizes = Sizes(**(read_environment(os.environ, COMPACT_SIZES) | only(COMPACT_SIZES, given)))
    return Merging(name, sizes, push_options(name, only(COMPACT, given), {}, config, os.environ), settings)


def compact(name: str, sizes: Sizes, options: PushOptions, settings: Settings, emit: Emit) -> Compacted:
    """Merge the small parts of a dataset pushed from here; the same call again goes on. Of the options those count that
    say where parts wait, how fast the line may be used, whether it is a dry run, and whether to wait for another run.

    Raises SourceMissing, Busy, ComeBackLater when the dataset is not complete, and what a push raises.
    """
    began = time.monotonic()
    record = find_record(settings, name)
    if record.folder_id is None:
        raise SourceMissing(f"{record.name} has no folder yet", advice="Push it first.")
    settings = settings_for(record, settings)
    destination = open_destination(record.to, settings)
    result = Compacted(record.name, folder_id=record.folder_id, link=record.link)
    lock = record.path.with_suffix(".lock")
    try:
        with hold(lock, record.name, settings.clock, emit, wait=options.wait), ExitStack() as stack:
            ledger = stack.enter_context(closing(Ledger(record.path)))
            retry = Retry(settings.clock, settings.patience, emit)
            throttle = stack.enter_context(throttle_for(options, settings, destination, retry, emit))
            lease = lease_for(destination, record.name, settings, retry, throttle, emit, wait=options.wait)
            around = Surroundings(destination, ledger, retry, throttle, settings.clock, emit, lease=lease)
            with _settled(around):
                _Compaction(around, record, sizes, options, settings, result).run()
            totals = ledger.totals()
            result.parts, result.bytes, result.sent_bytes = totals.parts, totals.bytes, throttle.sent
    finally:
        getattr(destination, "close", lambda: None)()
    result.seconds, result.requests = time.monotonic() - began, destination.requests
    return result


@contextmanager
def _settled(around: Surroundings) -> Iterator[None]:
    """Nothing goes on beside when this ends."""
    try:
        yield
    finally:
        settled = around.settle()
        if around.lease is not None:
            around.lease.release()
        if not settled:
            getattr(around.destination, "abort", lambda: None)()


class _Compaction:
    """One run, under the dataset's lock."""

    def __init__(
        self,
        around: Surroundings,
        record: Record,
        sizes: Sizes,
        options: PushOptions,
        settings: Settings,
        result: Compacted,
    ) -> None:
        self._around = around
        self._ledger = around.ledger
        self._record = record
        self._sizes = sizes
        self._options = options
        self._settings = settings
        self._result = result
        self._folder_id = record.folder_id or ""
        self._directories = KeptDirectories(around)

    def run(self) -> None:
        """Look, choose, bring up what is merged, put it in place, tidy up."""
        if self._ledger.get("settings", {}).get("kind") == "derived":
            raise UsageError(
                f"{self._record.name} was derived: its parts have the numbers of those that they were made from",
                advice="Leave it as it is.",
            )
        self._require_complete()
        if self._options.dry_run:
            self._plan_only()
            return
        self._look()
        work = Work.kept(self._record.path, self._ledger, self._folder_id)
        if work is None:
            choice = self._choose()
            if choice.sources:
                work = Work.begun(self._record.path, self._ledger, self._folder_id, choice, self._directories)
        if work is not None:
            with closing(work):
                self._bring(work)
                work.put_in_place()
                work.remove()
            self._result.merged, self._result.made = len(work.sources), len(work.numbers)
        self._finish()

    def _look(self) -> None:
        """What is to be merged must be there as it was stored."""
        self._around.emit(Doing("looking at what is in the dataset's folder"))
        destination: Destination = self._around.destination
        try:
            folder = self._around.ask(
                lambda: destination.get(self._folder_id), doing="looking for the dataset's folder"
            )
        except NotFound as error:
            raise folder_gone(self._record.name, destination, trashed=error.trashed) from error
        if self._around.lease is not None:
            self._require_ours(self._around.lease.admit(folder), self._around.lease)
        Reconciler(self._around).reconcile(self._folder_id, self._ledger.get("job"))
        self._require_complete()

    def _require_ours(self, folder: RemoteFile, lease: Lease) -> None:
        """What another machine pushed is not in our ledger before our next push has looked at it."""
        if set(lease.others(folder)) - set(self._ledger.get("others", [])):
            raise ComeBackLater(
                f"{self._record.name} was pushed from elsewhere meanwhile", advice="Run its push here first."
            )

    def _require_complete(self) -> None:
        left = len(self._ledger.parts(unfinished=True))
        published = self._ledger.artifact("manifest.json")
        if left or published is None or published[1] is None:
            what = (
                f"{plural(left, 'part')} {'is' if left == 1 else 'are'} not up" if left else "it is not published yet"
            )
            raise ComeBackLater(f"{self._record.name} is not complete: {what}", advice="Run its push again first.")

    def _choose(self) -> Choice:
        cut = max((part.part_size for part in self._ledger.parts()), default=0)
        part_size = min(self._sizes.part_size or cut or _USUAL, self._spool().most // _PARTS_IN_TEMP)
        below = min(self._sizes.below or part_size // 2, part_size)
        return choose(self._ledger, self._directories, part_size, below)

    def _plan_only(self) -> None:
        choice = self._choose()
        self._result.state = "planned"
        self._result.merged, self._result.made = len(choice.sources), len(choice.groups)

    def _spool(self) -> Spool:
        options = self._options
        directory = spool_directory(options.temp, self._settings.spools, self._record.path.stem)
        limit = options.temp_limit or (self._sizes.part_size or _USUAL) * _PARTS_IN_TEMP
        return Spool(directory, limit, self._around.clock, elastic=options.temp_limit is None)

    def _bring(self, work: Work) -> None:
        spool = self._spool()
        self._ledger.note(spool=str(spool.directory))
        workshop = Workshop(self._around, work, self._directories, spool)
        try:
            workshop.bring_all(self._record.name)
        finally:
            self._result.fetched_bytes = workshop.fetched
        spool.remove_if_empty()

    def _finish(self) -> None:
        """The manifest of what the dataset is now; then what it needs no more goes."""
        self._around.emit(Doing("writing card, preview and manifest"))
        forget_absent(self._ledger)
        settle(self._ledger)
        publisher = Publisher(self._around, self._folder_id)
        publisher.publish(manifest_of(self._ledger), self._ledger.get("shared") or "nobody")
        trash_retired(self._around)
        self._around.emit(Published(self._result.link))
