"""One ``push`` from its options to its result: names, locks and opens everything, runs the pipeline, publishes."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

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
from driveshard.core.model import Failure, RemoteFile
from driveshard.core.paths import path_of
from driveshard.sources.base import Source
from driveshard.sources.folder import FolderSource
from driveshard.storage.account_usage import AccountTally
from driveshard.storage.base import Destination
from driveshard.storage.rate_limits import parse_bwlimit
from driveshard.storage.registry import open_destination, split_where
from driveshard.storage.retry import Retry
from driveshard.storage.throttle import Budget
from driveshard.upload.bottleneck import held_back_by
from driveshard.upload.dataset_folder.find_or_create import DatasetFolder
from driveshard.upload.dataset_folder.publish import Publisher
from driveshard.upload.dataset_folder.reconcile import Reconciler
from driveshard.upload.dataset_folder.settling import sentences, settle
from driveshard.upload.ledger.ledger import Ledger
from driveshard.upload.ledger.lock import hold
from driveshard.upload.ledger.reader import read_record
from driveshard.upload.ledger.rows import LedgerDamaged
from driveshard.upload.naming import dataset_name, ledger_path, ledger_stem
from driveshard.upload.pack.engine import default_workers, open_engine
from driveshard.upload.pipeline import Pipeline
from driveshard.upload.plan.base import Cut
from driveshard.upload.plan.registry import planner_for
from driveshard.upload.result import PushResult
from driveshard.upload.send.uploader import Dataset, Uploader
from driveshard.upload.spool import Spool, spool_directory

_PASSING = (Interrupted, Unreachable, ComeBackLater, Defect)  # after these the same push goes on, as it is
_PARTS_IN_TEMP = 2  # beyond those being packed and uploaded


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
    job = Job(name, options, source, settings, destination, emit, result)
    try:
        job.run()
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
    if result.folder_id is None and (record := read_record(ledger_path(settings, job.stem))) is not None:
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


def without_own(source: Source, options: PushOptions, settings: Settings, name: str, identity: str) -> Source:
    """The source without what a push itself writes, should that lie in the very folder that is pushed: the home with
    the login in it, parts waiting in the temp folder, a dataset that goes to a plain folder. Raises UsageError."""
    if not isinstance(source, FolderSource):
        return source
    own = [settings.home, spool_directory(options.temp, settings.spools, ledger_stem(name, identity))]
    scheme, rest = split_where(options.to)
    if scheme == "file":
        own.append(path_of(rest) / name)
    return source.apart_from(own)


def check_same_source(ledger: Ledger, name: str, source: Source) -> None:
    """A name stands for one source: other settings would cut other parts, and mix two datasets in one folder. Notes
    where the source is now; raises UsageError."""
    if ledger.is_new:
        return
    known, wanted = ledger.get("settings"), {"kind": source.kind, **source.settings()}
    where, here = ledger.get("where"), _where(source)
    moved = where is not None and where != here and source.kind == "folder" and Path(where).exists()
    if known == wanted and not moved:
        ledger.note(where=here)
        return
    others = sorted(key for key in known.keys() | wanted.keys() if known.get(key) != wanted.get(key))
    raise UsageError(
        f"{name} is already the dataset of {where or ledger.get('source')}"
        + (f", made with other settings ({', '.join(others)}); before: {_before(known, others)}" if others else ""),
        advice="Give this one another --name, or push with the same source and settings as before.",
    )


def _before(known: Mapping[str, Any], others: list[str]) -> str:
    """``exclude '*.tmp', '.git'``, so that it can be given again."""
    words = []
    for key in others:
        value = known.get(key)
        said = ", ".join(map(repr, value)) or "none" if isinstance(value, list) else repr(value)
        words.append(f"{key} {said}")
    return "; ".join(words)


class Job:
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
            ledger = stack.enter_context(self._open_ledger(path))
            self.result.shared = ledger.get("shared") or "nobody"
            budget = stack.enter_context(self._budget())
            spool = self._spool()
            try:
                check_same_source(ledger, self.name, self.source)
                with _noted(ledger):
                    place = self._place(ledger, spool, budget)
                    folder = self._folder(place)
                    self.result.folder_id, self.result.link = folder.id, folder.link
                    if ledger.get("link") != folder.link:
                        ledger.note(link=folder.link)
                    with _folder_first(place):
                        self._fill(ledger, spool, budget, folder)
            finally:
                self._tell(ledger, budget)

    def _open_ledger(self, path: Path) -> Ledger:
        try:
            return Ledger(path)
        except LedgerDamaged as damage:
            aside = _unused(path.with_name(f"{path.name}.damaged-{time.strftime('%Y%m%d-%H%M%S')}"))
            for suffix in ("", "-wal", "-shm"):
                piece = path.with_name(path.name + suffix)
                if piece.exists():
                    piece.rename(aside.with_name(aside.name + suffix))
            self.emit(Notice(f"The ledger of {self.name} cannot be used ({damage}); it is kept as {aside.name}"))
            return Ledger(path)

    @contextmanager
    def _budget(self) -> Iterator[Budget]:
        account = getattr(self.destination, "account", None)
        tally = AccountTally(self.settings.account_file, account) if account else None
        bandwidth = self.settings.bandwidth
        bandwidth.timetable = parse_bwlimit(self.options.bwlimit) if self.options.bwlimit else None
        try:
            yield Budget(
                self.clock,
                self.emit,
                tally,
                writes_per_second=self.options.writes_per_second,
                bwlimit=bandwidth,
                max_transfer=self.options.max_transfer,
                max_duration=self.options.max_duration,
                heed=self.retry.heed,
            )
        finally:
            if tally is not None:
                tally.close()

    def _spool(self) -> Spool:
        options = self.options
        busy = (options.workers or default_workers()) + options.uploads + _PARTS_IN_TEMP
        limit = options.temp_limit or max(options.part_size, 1) * busy
        directory = spool_directory(options.temp, self.settings.spools, self.stem)
        return Spool(directory, limit, self.clock, elastic=options.temp_limit is None)

    # -- the folder ----------------------------------------------------------------------------------------------

    def _place(self, ledger: Ledger, spool: Spool, budget: Budget) -> DatasetFolder:
        return DatasetFolder(
            *(self.name, self.source, self.destination, ledger, self.retry, budget, self.clock, self.emit),
            anchor=self.settings.anchors / f"{self.stem}.json",
            lists_settle_at=self._last_sent(spool) + self.settings.list_lag,
            traces=spool.left is not None,
            recreate=self.options.recreate,
        )

    def _folder(self, place: DatasetFolder) -> RemoteFile:
        return place.open(
            {"kind": self.source.kind, **self.source.settings()},
            source=self.source.describe(),
            where=_where(self.source),
            identity=self.destination.identity,
            to=self.options.to,
        )

    def _last_sent(self, spool: Spool) -> float:
        """When bytes last left this machine, as a POSIX time: the account's tally is written with every chunk (a new
        one just now, since nobody knows then), and parts lie in the temp folder until they are stored. A destination
        without a tally, a plain folder, has lists that do not lag: 0."""
        if getattr(self.destination, "account", None) is None:
            return 0.0
        latest = max(self.settings.account_file.stat().st_mtime, spool.left or 0.0)
        return min(latest, self.clock.now())  # a clock that was set back

    # -- the parts -----------------------------------------------------------------------------------------------

    def _fill(self, ledger: Ledger, spool: Spool, budget: Budget, folder: RemoteFile) -> None:
        self.emit(Doing("looking at what is in the dataset's folder"))
        reconciler = Reconciler(self.destination, ledger, self.retry, budget, self.emit)
        reconciler.reconcile(folder.id, ledger.get("job"))
        parts_done, bytes_done = ledger.released_totals()
        ledger.note(temp=str(spool.directory))
        begins = Started(self.name, self.source.describe(), self.destination.describe(), parts_done, bytes_done)
        self.emit(replace(begins, files_done=ledger.released_files(), temp=str(spool.directory)))
        self._run_pipeline(ledger, spool, budget, folder)
        if ledger.totals().parts == 0:
            raise SourceMissing(
                f"{self.source.describe()} has no files to push", advice="Check the path and the globs."
            )
        if budget.sent:
            reconciler.reconcile(folder.id, ledger.get("job"))
            if ledger.parts(unfinished=True):
                raise Mismatch("a part vanished from the folder during the run", advice="Run the same command again.")
        for number, count in settle(ledger).items():
            why = f"the keys of {plural(count, 'sample')} are in an earlier part, too; readers see the newest"
            self.result.failed.append(Failure(ledger.part(number).file_name, why))
        if budget.sent:
            for line in sentences(ledger):
                self.emit(Notice(line))
        self.emit(Doing("writing card, preview and manifest"))
        publisher = Publisher(self.destination, folder.id, ledger, budget, self.retry, self.emit)
        publisher.publish()
        self._share(publisher)
        self.result.state = "complete"
        spool.remove_if_empty()
        self.emit(Published(self.result.link))

    def _share(self, publisher: Publisher) -> None:
        """Set who may read, if that was asked for; and say who may."""
        if self.options.share is None:
            self.result.shared = publisher.readers()
            return
        outcome = publisher.share(self.options.share)
        if isinstance(outcome, DriveshardError):
            self.result.shared, self.result.share_refusal = None, outcome
        else:
            self.result.shared = outcome

    def _run_pipeline(self, ledger: Ledger, spool: Spool, budget: Budget, folder: RemoteFile) -> None:
        options = self.options
        most = spool.most
        cut = Cut(self.name, min(options.part_size, most), options.part_samples, most)
        planner = planner_for(
            self.source,
            ledger,
            cut,
            self.clock,
            self.emit,
            measure=lambda how: engine.measure(how, self.source),
            checksum=options.checksum,
        )
        workers = options.workers or default_workers()
        engine = open_engine(
            "serial" if planner.sequential else options.engine,
            workers,
            tell=lambda text: self.emit(Notice(text)),
            away=[folder for folder in (getattr(self.source, "root", None), spool.directory) if folder],
        )
        dataset = Dataset(ledger.get("job"), folder.id)
        uploader = Uploader(self.destination, dataset, ledger, spool, budget, self.retry, self.clock, self.emit)
        pipeline = Pipeline(
            self.source, planner, ledger, spool, engine, uploader, self.clock, self.emit, uploads=options.uploads
        )
        try:
            pipeline.run(getattr(self.destination, "abort", lambda: None))
        finally:
            self.result.failed = [*getattr(planner, "failures", []), *pipeline.failed]
            pipeline.spent.paced, pipeline.spent.limited = budget.seconds_paced, budget.seconds_limited
            pipeline.spent.out, pipeline.spent.slowed = self.retry.seconds_out, self.retry.seconds_slowed
            self.result.held_back_by = held_back_by(pipeline.spent)

    def _tell(self, ledger: Ledger, budget: Budget) -> None:
        totals = ledger.totals()
        self.result.parts, self.result.samples = totals.parts, totals.samples
        self.result.files, self.result.bytes = totals.files, totals.bytes
        self.result.sent_bytes = budget.sent
        self.result.names = ledger.settled().get("names", {})


def _unused(path: Path) -> Path:
    """That path, or one like it, at which nothing is."""
    count = 1
    free = path
    while free.exists():
        count += 1
        free = path.with_name(f"{path.name}-{count}")
    return free


@contextmanager
def _folder_first(place: DatasetFolder) -> Iterator[None]:
    """What is not there any more may be the folder itself, deleted during the run; then that is the error."""
    try:
        yield
    except (NotFound, Mismatch):
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


def _where(source: Source) -> str | None:
    root = getattr(source, "root", None) or getattr(source, "file", None)
    return str(Path(root).resolve()) if root is not None else None
