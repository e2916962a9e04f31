"""One ``push`` from its options to its result: names, locks and opens everything, runs the pipeline, publishes."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import asdict, replace
from typing import TYPE_CHECKING

from driveshard.config.settings import PushOptions, Settings
from driveshard.core.errors import (
    ComeBackLater,
    Defect,
    DriveshardError,
    Interrupted,
    Mismatch,
    NotFound,
    SourceMissing,
    Unreachable,
    UsageError,
    defect_of,
)
from driveshard.core.events import Doing, Emit, Notice, Published, Started
from driveshard.core.formatting import plural
from driveshard.core.model import Failure
from driveshard.sources.base import Source
from driveshard.storage.base import Destination
from driveshard.storage.registry import lender, open_destination
from driveshard.storage.retry import Retry
from driveshard.upload.bottleneck import held_back_by
from driveshard.upload.dataset_folder.ahead import Ahead
from driveshard.upload.dataset_folder.find_or_create import DatasetFolder, Traces
from driveshard.upload.dataset_folder.publish import Publisher, manifest_of
from driveshard.upload.dataset_folder.reconcile import Reconciler
from driveshard.upload.dataset_folder.retiring import retire_unseen, trash_retired
from driveshard.upload.dataset_folder.settling import sentences, settle
from driveshard.upload.lease import lease_for
from driveshard.upload.ledger.ledger import Ledger
from driveshard.upload.ledger.lock import hold
from driveshard.upload.ledger.opening import open_ledger
from driveshard.upload.ledger.reader import read_record
from driveshard.upload.naming import dataset_name, ledger_path, ledger_stem
from driveshard.upload.pace import throttle_for
from driveshard.upload.pack.engine import Engine, by_dask, open_engine, workers_of
from driveshard.upload.pipeline import Pipeline
from driveshard.upload.plan.base import Cut, Differences
from driveshard.upload.plan.parts import CutSource
from driveshard.upload.plan.registry import goes_once, planner_for
from driveshard.upload.result import PushResult
from driveshard.upload.same_source import anchored, check_same_source, where_is, without_own
from driveshard.upload.send.uploader import Address, Uploader
from driveshard.upload.side_by_side import Later
from driveshard.upload.spool import Spool, spool_directory
from driveshard.upload.surroundings import Surroundings

if TYPE_CHECKING:  # needs what is only installed for a cluster
    from driveshard.upload.far.yard import Yard

_PASSING = (Interrupted, Unreachable, ComeBackLater, Defect)  # after these the same push goes on, as it is
_PARTS_IN_TEMP = 2  # beyond those being packed and uploaded
_FEW_PARTS = 3


def push(options: PushOptions, source: Source, settings: Settings, emit: Emit) -> PushResult:
    """Pack and upload; the same call again finishes the job, or adds what is new.

    Errors of the run come back in ``result.error`` together with what was achieved; wrong use raises UsageError.
    """
    name = dataset_name(options, source)
    if options.temp is not None:
        options = replace(options, temp=options.temp.absolute())  # a source's code may go to another folder
    destination = open_destination(options.to, settings)
    began = time.monotonic()
    result = PushResult(name)
    run = Run(name, options, source, settings, destination, emit, result)
    try:
        run.run()
    except KeyboardInterrupt:  # a script's or a notebook's Ctrl-C is for them to handle; everything has stopped
        raise
    except BaseException as error:  # the edge of a run: whatever it is becomes a kind with an exit code
        result.error = defect_of(error)
        if not isinstance(error, DriveshardError):
            result.error.__cause__ = error
        if isinstance(result.error, ComeBackLater):
            result.resume_after = result.error.resume_after
    finally:
        _let_go(source, emit)
        getattr(destination, "close", lambda: None)()
    if result.folder_id is None and (record := read_record(ledger_path(settings, run.stem))) is not None:
        result.folder_id, result.link = record.folder_id, record.link  # of an earlier run
        result.shared = record.shared or "nobody"
    result.seconds = time.monotonic() - began
    result.requests = destination.requests
    return result


def _let_go(source: Source, emit: Emit) -> None:
    """A generator that was not gone through to its end may fail as it is closed, which changes nothing any more."""
    try:
        getattr(source, "close", lambda: None)()
    except UsageError as failed:
        emit(Notice(failed.message))


class Run:
    """One run. Opens in the order of what may fail most cheaply, closes in reverse."""

    def __init__(
        self,
        name: str,
        options: PushOptions,
        source: Source,
        settings: Settings,
        destination: Destination,
        emit: Emit,
        result: PushResult,
    ) -> None:
        self.name = name
        self.options = options
        self.source = without_own(source, options, settings, name, destination.identity)
        self.settings = settings
        self.destination = destination
        self.emit = emit
        self.result = result
        self.clock = settings.clock
        self.retry = Retry(self.clock, settings.patience, emit)
        self.stem = ledger_stem(name, destination.identity)
        self._readers: Later[str | None] | None = None
        self._yard = self._find_yard()

    def run(self) -> None:
        """Everything from the lock to the link."""
        path = ledger_path(self.settings, self.stem)
        check = getattr(self.source, "check", None)
        if check is not None:
            check()
        with (
            hold(path.with_suffix(".lock"), self.name, self.clock, self.emit, wait=self.options.wait),
            ExitStack() as stack,
        ):
            ledger = stack.enter_context(open_ledger(path, self.name, self.emit))
            self.result.shared = ledger.get("shared") or "nobody"
            throttle = stack.enter_context(
                throttle_for(self.options, self.settings, self.destination, self.retry, self.emit)
            )
            lease = lease_for(
                self.destination, self.name, self.settings, self.retry, throttle, self.emit, wait=self.options.wait
            )
            around = Surroundings(self.destination, ledger, self.retry, throttle, self.clock, self.emit, lease=lease)
            spool = self._spool()
            try:
                check_same_source(ledger, self.name, self.source)
                with _noted(ledger):
                    place = self._place(around, spool)
                    with _folder_first(place), self._engine(spool) as engine:
                        if ledger.is_new and self.options.engine == "processes":
                            engine.warm_up()  # beside the first answers: a first push has parts to pack for certain
                        self._fill(around, spool, place, engine)
            finally:
                settled = around.settle()
                lease.release()
                if not settled:
                    getattr(self.destination, "abort", lambda: None)()
                self._tell(around)

    def _spool(self) -> Spool:
        options = self.options
        workers = self.workers = workers_of(options.engine, options.workers)
        limit = options.temp_limit or max(options.part_size, 1) * (workers + options.uploads + _PARTS_IN_TEMP)
        directory = spool_directory(options.temp, self.settings.spools, self.stem)
        # Of parts that are cut elsewhere nobody chose the size: one for each worker, and one on its way.
        parts = max(_FEW_PARTS, workers + 1) if isinstance(self.source, CutSource) else None
        elastic = options.temp_limit is None
        if (yard := self._yard) is not None:
            from driveshard.upload.far.spool import FarSpool

            return FarSpool(yard, directory, limit, self.clock, elastic=elastic, parts=parts)
        return Spool(directory, limit, self.clock, elastic=elastic, parts=parts)

    def _find_yard(self) -> Yard | None:
        """Where parts stay with the workers of a cluster, and are sent from there: not where a source can be gone
        through only once, or the destination is a folder."""
        if not by_dask(self.options.engine) or goes_once(self.source):
            return None
        from driveshard.upload.far.yard import Yard

        lend = lender(self.destination)
        return Yard(lend, self.clock) if lend is not None else None

    # -- the folder ----------------------------------------------------------------------------------------------

    def _place(self, around: Surroundings, spool: Spool) -> DatasetFolder:
        traces = Traces(
            anchor=self.settings.anchors / f"{self.stem}.json",
            lists_settle_at=self._last_sent(spool) + self.settings.list_lag,
            parts=spool.left is not None,
        )
        facts = {
            "settings": {"kind": self.source.kind, **self.source.settings()},
            "source": self.source.describe(),
            "where": where_is(self.source),
            "identity": self.destination.identity,
            "to": self.options.to,
        }
        return DatasetFolder(around, self.source, traces, self.name, facts)

    def _open_folder(self, place: DatasetFolder, ledger: Ledger) -> Address:
        folder = place.open(recreate=self.options.recreate)
        self.result.folder_id, self.result.link = folder.id, folder.link
        if ledger.get("link") != folder.link:
            ledger.note(link=folder.link)
        return Address(ledger.get("job"), folder.id)

    def _last_sent(self, spool: Spool) -> float:
        """When bytes last left this machine, as a POSIX time: the account's tally is written with every chunk (a new
        one just now, since nobody knows then), and parts lie in the temp folder until they are stored. A destination
        without a tally, a plain folder, has lists that do not lag: 0."""
        if getattr(self.destination, "account", None) is None:
            return 0.0
        latest = max(self.settings.account_file.stat().st_mtime, spool.left or 0.0)
        return min(latest, self.clock.now())  # a clock that was set back

    # -- the parts -----------------------------------------------------------------------------------------------

    def _engine(self, spool: Spool) -> Engine:
        return open_engine(
            "serial" if goes_once(self.source) else self.options.engine,
            self.workers,
            tell=lambda text: self.emit(Notice(text)),
            away=[folder for folder in (getattr(self.source, "root", None), spool.directory) if folder],
            spool=spool.directory,
            yard=self._yard,
        )

    def _fill(self, around: Surroundings, spool: Spool, place: DatasetFolder, engine: Engine) -> None:
        """Packing waits for Drive only where a lost ledger may have to be found again, or parts may have vanished: the
        folder of a first push is made while its first part is built."""
        ledger = around.ledger
        if ledger.get("spool") != str(spool.directory):
            ledger.note(spool=str(spool.directory))
        self.emit(Doing("looking at what is in the dataset's folder"))
        first = place.find()
        address = around.later(lambda: self._open_folder(place, ledger))
        reconciler = Reconciler(around)
        if not first:
            reconciler.begin()
            self._look_at_readers(around)
            reconciler.reconcile(address.result().folder_id, ledger.get("job"))
        parts_done, bytes_done = ledger.released_totals()
        begins = Started(self.name, self.source.describe(), self.destination.describe(), parts_done, bytes_done)
        self.emit(replace(begins, files_done=ledger.released_files(), temp=str(spool.directory)))
        uploader = Uploader(around, address.result, spool)
        if self.options.words is not None:
            ledger.note(words=asdict(self.options.words))
        ahead = Ahead(around, address.result, uploader, self._readers_in_the_end(ledger))
        self._run_pipeline(around, engine, uploader, ahead)
        folder_id = address.result().folder_id
        if ledger.totals().parts == 0:
            raise _nothing(self.source, self.result.failed)
        self.emit(Doing("writing card, preview and manifest"))
        self._finish(around, Publisher(around, folder_id, uploader.at_hand), reconciler, ahead)
        spool.remove_if_empty()
        self.emit(Published(self.result.link))

    def _finish(self, around: Surroundings, publisher: Publisher, reconciler: Reconciler, ahead: Ahead) -> None:
        """Once all parts are proved: look at the folder again, publish, share, side by side: a part that somebody took
        away meanwhile ends this run, and the next one publishes anew."""
        ledger, sent = around.ledger, around.throttle.sent
        retire_unseen(ledger)
        shared = around.later(lambda: self._share(publisher, sent=bool(sent)))
        again = settle(ledger)
        for number, count in again.items() if not isinstance(self.source, CutSource) else ():
            why = f"the keys of {plural(count, 'sample')} are in an earlier part, too; readers see the newest"
            self.result.failed.append(Failure(ledger.part(number).file_name, why))
        if sent:
            for line in sentences(ledger):
                self.emit(Notice(line))
        manifest, readers = manifest_of(ledger), self._readers_in_the_end(ledger)
        published = around.later(lambda: publisher.publish(manifest, readers, ahead.written))
        if sent:
            reconciler.reconcile(ledger.get("folder_id"), ledger.get("job"))
            if ledger.parts(unfinished=True):
                raise Mismatch("a part vanished from the folder during the run", advice="Run the same command again.")
        published.result()
        around.let_go()
        shared.result()
        trash_retired(around)
        publisher.refresh_card(self.result.shared or ledger.get("shared") or "nobody")
        self.result.state = "complete"

    def _readers_in_the_end(self, ledger: Ledger) -> str:
        return self.options.share or ledger.get("shared") or "nobody"

    def _look_at_readers(self, around: Surroundings) -> None:
        """Where there may be nothing to do, begin to ask now who may read."""
        folder_id = around.ledger.get("folder_id")
        if self.options.share is None and folder_id is not None and not around.ledger.parts(unfinished=True):
            self._readers = around.later(Publisher(around, folder_id).asked_for_readers)

    def _share(self, publisher: Publisher, *, sent: bool) -> None:
        """Set who may read, if that was asked for; and say who may."""
        if self.options.share is None:
            self.result.shared = publisher.readers(None if sent else self._readers)
            return
        outcome = publisher.share(self.options.share)
        if isinstance(outcome, DriveshardError):
            self.result.shared, self.result.share_refusal = None, outcome
        else:
            self.result.shared = outcome

    def _run_pipeline(self, around: Surroundings, engine: Engine, uploader: Uploader, ahead: Ahead) -> None:
        options = self.options
        most = uploader.spool.most
        cut = Cut(self.name, min(options.part_size, most), options.part_samples, most)
        planner = planner_for(
            self.source,
            around.ledger,
            cut,
            self.clock,
            self.emit,
            measure=lambda how: engine.measure(how, self.source),
            checksum=options.checksum,
            differences=Differences.of(options),
        )
        source = anchored(self.source) if by_dask(options.engine) else self.source
        pipeline = Pipeline(around, source, planner, engine, uploader, ahead.begin, uploads=options.uploads)
        try:
            pipeline.run(getattr(self.destination, "abort", lambda: None))
        finally:
            self.result.failed = [*getattr(planner, "failures", []), *pipeline.failed.values()]
            throttle = around.throttle
            pipeline.spent.paced, pipeline.spent.limited = throttle.seconds_paced, throttle.seconds_limited
            self.result.changed, self.result.ignored = getattr(planner, "changed", 0), getattr(planner, "ignored", 0)
            self.result.dropped = getattr(planner, "dropped", 0)
            pipeline.spent.out, pipeline.spent.slowed = self.retry.seconds_out, self.retry.seconds_slowed
            self.result.held_back_by = held_back_by(pipeline.spent)

    def _tell(self, around: Surroundings) -> None:
        ledger = around.ledger
        totals = ledger.totals()
        self.result.parts, self.result.samples = totals.parts, totals.samples
        self.result.files, self.result.bytes = totals.files, totals.bytes
        self.result.sent_bytes = around.throttle.sent
        self.result.gone = ledger.get("gone", 0)
        self.result.names = ledger.settled().get("names", {})


def _nothing(source: Source, failed: list[Failure]) -> DriveshardError:
    """Why a dataset has no part: there is nothing to pack, or nothing of it can be packed."""
    if not failed:
        what = "files" if source.kind == "folder" else "samples"
        return SourceMissing(f"{source.describe()} has no {what} to push", advice="Check the path and the globs.")
    first = f"{failed[0].path}: {failed[0].why}"
    if source.kind == "folder":
        return SourceMissing(
            f"no file of {source.describe()} could be packed; {first}", advice="Mend that, and run it again."
        )
    return SourceMissing(f"no sample of {source.describe()} can be made: {first}", advice="Mend the source's code.")


@contextmanager
def _folder_first(place: DatasetFolder) -> Iterator[None]:
    """What is not there any more may be the folder itself, deleted during the run; then that is the error. A folder
    that was never made is not gone: what is missing is the place for it."""
    try:
        yield
    except (NotFound, Mismatch):
        if place.was_made:
            place.look()
        raise


@contextmanager
def _noted(ledger: Ledger) -> Iterator[None]:
    """Leave in the ledger how the run ended, for ``status``; a run that begins or ends well clears it."""
    if ledger.get("last_error") is not None:
        ledger.note(last_error=None, resume_after=None, last_advice=None)
    try:
        yield
    except DriveshardError as error:
        with suppress(sqlite3.Error, DriveshardError):  # the error itself matters more than its note
            why = "interrupted" if isinstance(error, Interrupted) else error.message
            advice = None if isinstance(error, _PASSING) else error.advice or None
            ledger.note(last_error=why, resume_after=getattr(error, "resume_after", None), last_advice=advice)
        raise
    except KeyboardInterrupt:
        with suppress(sqlite3.Error, DriveshardError):
            ledger.note(last_error="interrupted")
        raise
