"""Runs a push under a report, a watch and a stopper, and tells how it ended."""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from typing import Any

from driveshard.cli.console import Manner, confirmed, leave, streams_kept
from driveshard.cli.ending import Ending, tell_end
from driveshard.cli.error_messages import defect
from driveshard.cli.progress.live import left_for_status, next_for_status
from driveshard.cli.progress.report import opened_report
from driveshard.cli.progress.tally import Tally
from driveshard.cli.reread import rereading
from driveshard.cli.service import Service
from driveshard.cli.signals import Stopper
from driveshard.cli.watch import Watch
from driveshard.config.home import home_folder
from driveshard.config.job_file import is_job_file, read_job_file
from driveshard.config.options import RunOptions
from driveshard.config.settings import Settings, run_options
from driveshard.core.errors import DriveshardError, Interrupted
from driveshard.core.events import Event
from driveshard.core.paths import path_of
from driveshard.storage.rate_limits import parse_bwlimit
from driveshard.storage.registry import split_where
from driveshard.upload.forecast import Forecast, forecast
from driveshard.upload.pack.engine import default_workers
from driveshard.upload.push import Task, prepare
from driveshard.upload.result import PushResult

UNREADABLE = 65
PARTS_IN_TEMP = 2  # beyond those being packed and uploaded
_PATIENCE = 5.0  # seconds; a plan must not hang on an answer it can do without
_LAST_WORK = 2.0  # seconds for threads of the source's own, once all is told


def run_push(
    source: str,
    flags: Mapping[str, Any],
    manner: Manner,
    watching: Mapping[str, Any] | None = None,
    wanted: str | None = None,
    prepared: Callable[[], Task] | None = None,
) -> int:
    """The whole command; returns its exit code. ``watching`` are the flags of how the run is watched, ``wanted`` is the
    one thing to print; ``prepared`` makes the task of what is no SOURCE, each time that it is pushed."""
    before = set(threading.enumerate())
    prepared = prepared or partial(prepare, source, flags)
    with streams_kept():
        code, stopped = _push_often(source, flags, manner, watching or {}, wanted, prepared)
        if stopped or _goes_on(set(threading.enumerate()) - before):
            leave(code)
    return code


def _push_often(
    source: str,
    flags: Mapping[str, Any],
    manner: Manner,
    watching: Mapping[str, Any],
    wanted: str | None,
    prepared: Callable[[], Task],
) -> tuple[int, bool]:
    """Once, or every so often; the last exit code, and whether a signal came."""
    try:
        options = options_for(source, watching)
    except DriveshardError:
        options = RunOptions()  # the run itself says what is wrong

    name = ""

    def once() -> tuple[int, bool]:
        nonlocal name
        code, stopped, name = _push_and_tell(source, flags, manner, watching, wanted, prepared)
        return code, stopped

    def resting(until: float) -> contextlib.AbstractContextManager[None]:
        return next_for_status(home_folder(os.environ), name, until)

    if options.every is None:
        return once()
    return Service(options.every, resting, quiet=manner.quiet or options.summary).run(once)


def _as_ours(error: BaseException) -> DriveshardError:
    if isinstance(error, KeyboardInterrupt):
        return Interrupted("interrupted")
    return error if isinstance(error, DriveshardError) else defect(error)


def _goes_on(threads: set[threading.Thread]) -> bool:
    """Whether a thread that the source started, and that Python would wait for, does not end by itself soon."""
    until = time.monotonic() + _LAST_WORK
    for thread in threads:
        if not thread.daemon:
            thread.join(max(0.0, until - time.monotonic()))
    return any(thread.is_alive() for thread in threads if not thread.daemon)


def _push_and_tell(
    source: str,
    flags: Mapping[str, Any],
    manner: Manner,
    watching: Mapping[str, Any],
    wanted: str | None,
    prepared: Callable[[], Task],
) -> tuple[int, bool, str]:
    """The exit code, whether a signal came, and the dataset's name."""
    tally = Tally()
    stopped = None
    planned: Forecast | None = None
    dry = False
    options, watch = RunOptions(), None
    try:
        options = options_for(source, watching)
        watch = Watch(options, home_folder(os.environ), verbose=manner.verbose)
        task = prepared()
        dry = task.options.dry_run
        _ask(task)
        quiet = manner.quiet or options.summary
        result, stopped = _run(task, tally, manner, watch, quiet=quiet, stays=options.every is not None)
        planned = forecast_of(task, result, options.at) if dry and result.error is None else None
    except BaseException as error:  # the result comes out whatever happens
        result = PushResult(str(flags.get("name") or ""), error=_as_ours(error))
    if watch is not None and watch.stalled:
        result.error, stopped = watch.why_stalled(), None
    code = _exit_code(result, stopped)
    tell_end(Ending(result, code, tally, planned, dry), manner, wanted, summary=options.summary)
    if watch is not None and not dry:
        watch.over(result, code, stopped)
    return code, stopped is not None, result.name


def _ask(task: Task) -> None:
    """What should be asked before it runs. Raises Interrupted for a no, UsageError where nobody can answer."""
    question = task.question()
    if question:
        if not confirmed(question, yes=False):
            raise Interrupted("nothing was pushed")
        task.options.yes = True


def options_for(source: str, flags: Mapping[str, Any]) -> RunOptions:
    """How the run is watched. Raises ConfigError, and SourceMissing for a job file that is none."""
    job = read_job_file(path_of(source)).run if is_job_file(source) else {}
    return run_options(flags, job, home_folder(os.environ), os.environ)


def forecast_of(task: Task, result: PushResult, at: str | None) -> Forecast:
    """What the push will cost; the line's rate is ``at``, or the limit that it keeps to."""
    options = task.options
    limit = parse_bwlimit(at or options.bwlimit or "off")
    now = time.localtime()
    busy = (options.workers or default_workers()) + options.uploads + PARTS_IN_TEMP
    return forecast(
        result.parts,
        result.bytes,
        temp=options.temp_limit or options.part_size * busy,
        writes_per_second=options.writes_per_second,
        bytes_a_second=limit.rate_at(now.tm_hour * 3600 + now.tm_min * 60) if limit else None,
        storage_left=storage_left(options.to, task.settings) if result.parts else None,
        uploads=options.uploads,
    )


def storage_left(to: str, settings: Settings) -> int | None:
    """Bytes left on the account that a push there would fill; None without a login or an answer, without a limit, and
    on a shared drive, whose room is not the account's."""
    kind, rest = split_where(to)
    if kind != "drive" or not (settings.service_account or settings.token_file.exists()):
        return None
    from driveshard.storage.drive.checkup import Checkup

    try:
        with contextlib.closing(Checkup(replace(settings, timeout=min(settings.timeout, _PATIENCE)), rest)) as checkup:
            place = checkup.place()
            return None if place is not None and place.shared_drive else checkup.account().left
    except DriveshardError:  # a dry run needs nobody to be logged in
        return None


def _run(
    task: Task, tally: Tally, manner: Manner, watch: Watch, *, quiet: bool, stays: bool
) -> tuple[PushResult, int | None]:
    """The result, and 128 and its number when a signal came."""

    def emit(event: Event) -> None:
        tally.take(event)
        watch.take(event)
        report.emit(event)

    with (
        opened_report(tally, quiet=quiet, verbose=manner.verbose, log_format=manner.log_format) as report,
        left_for_status(tally, task.settings.home),
        Stopper(task.settings.clock.stop, report.say, hangup=not stays) as stopper,
        rereading(task, report.say),
        watch.on(task.settings.clock.stop),
    ):
        result = task.run(emit)
        return result, stopper.exit_code


def _exit_code(result: PushResult, stopped: int | None) -> int:
    if isinstance(result.error, Interrupted):
        return stopped or result.error.exit_code
    if result.error is not None:
        return result.error.exit_code
    return UNREADABLE if result.failed else 0
