"""The ``push`` command: runs a push under a report and a stopper, and tells how it ended."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Mapping
from typing import Any

import click

from driveshard.cli.completion import complete_source
from driveshard.cli.console import (
    Manner,
    is_terminal,
    leave,
    put_result,
    standard,
    streams_kept,
    tell,
    tell_event,
    tell_timed,
)
from driveshard.cli.error_messages import defect, error_as_json, explain, home_for_crashes
from driveshard.cli.flags import Grouped, common, examples, given_flags, manner, option, push_flags
from driveshard.cli.progress.live import left_for_status
from driveshard.cli.progress.log_lines import LISTED
from driveshard.cli.progress.report import opened_report
from driveshard.cli.progress.tally import Tally
from driveshard.cli.reread import rereading
from driveshard.cli.service import Service
from driveshard.cli.signals import Stopper
from driveshard.cli.watch import Watch, summary_line
from driveshard.config.job_file import is_job_file, read_job_file
from driveshard.config.options import OUTPUT, RUN
from driveshard.config.settings import RunOptions, home_folder, run_options
from driveshard.core.errors import DriveshardError, Interrupted
from driveshard.core.events import Event
from driveshard.core.formatting import human_seconds, human_size, plural
from driveshard.core.paths import path_of
from driveshard.storage.rate_limits import parse_bwlimit
from driveshard.upload.dataset_folder.publish import not_shared
from driveshard.upload.forecast import Forecast, forecast
from driveshard.upload.pack.engine import default_workers
from driveshard.upload.push import Task, prepare
from driveshard.upload.result import PushResult

UNREADABLE = 65
PARTS_IN_TEMP = 2  # beyond those being packed and uploaded
PRINTABLE = {"link": "link", "folder-id": "folder_id", "name": "name"}
_LAST_WORK = 2.0  # seconds for threads of the source's own, once all is told


@click.command(
    "push",
    short_help="Pack a folder or a generator into zip parts and upload them.",
    epilog=examples(
        """
driveshard push photos/ --share anyone
driveshard push photos/ --name cats --include '*.jpg' --exclude '.*'
driveshard push job.toml --bwlimit '08:00,512K 18:00,10M 23:00,off'
driveshard push samples.py:make --part-size 256MiB --workers 4
link=$(driveshard push photos/ --print link)
"""
    ),
)
@click.argument("source", shell_complete=complete_source)
@push_flags
@option(
    "--print",
    "wanted",
    type=click.Choice(PRINTABLE),
    cls=Grouped,
    group=OUTPUT,
    help="Print this alone on stdout, and nothing on stderr unless something is wrong.",
)
@common
def command(source: str, wanted: str | None, **arguments: Any) -> int:
    """Pack SOURCE into zip parts and upload them; run it again to finish, or to add what is new.

    SOURCE is a directory, a Python source (package.module:callable or file.py:callable), or a job file (*.toml).
    Every option can also stand in the environment as DRIVESHARD_<OPTION>, in the job file, and in config.toml.
    """
    manner.quiet = manner.quiet or wanted is not None
    return run_push(source, given_flags(arguments), manner, wanted, given_flags(arguments, RUN))


def run_push(
    source: str,
    flags: Mapping[str, Any],
    manner: Manner,
    wanted: str | None = None,
    watching: Mapping[str, Any] | None = None,
) -> int:
    """The whole command; returns its exit code. ``wanted`` is the one thing to print; ``watching`` are the flags of how
    the run is watched."""
    before = set(threading.enumerate())
    with streams_kept():
        code, stopped = _push_often(source, flags, manner, wanted, watching or {})
        if stopped or _goes_on(set(threading.enumerate()) - before):
            leave(code)
    return code


def _push_often(
    source: str, flags: Mapping[str, Any], manner: Manner, wanted: str | None, watching: Mapping[str, Any]
) -> tuple[int, bool]:
    """Once, or every so often; the last exit code, and whether a signal came."""
    try:
        options = options_for(source, watching)
    except DriveshardError:
        options = RunOptions()  # the run itself says what is wrong

    def once() -> tuple[int, bool]:
        return _push_and_tell(source, flags, manner, wanted, watching)

    if options.every is None:
        return once()
    return Service(options.every, quiet=manner.quiet or options.summary).run(once)


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
    source: str, flags: Mapping[str, Any], manner: Manner, wanted: str | None, watching: Mapping[str, Any]
) -> tuple[int, bool]:
    """The exit code, and whether a signal came."""
    tally = Tally()
    stopped = None
    planned: Forecast | None = None
    dry = False
    options, watch = RunOptions(), None
    try:
        options = options_for(source, watching)
        watch = Watch(options, home_folder(os.environ), verbose=manner.verbose)
        task = prepare(source, flags)
        dry = task.options.dry_run
        quiet = manner.quiet or options.summary
        result, stopped = _run(task, tally, manner, watch, quiet=quiet, stays=options.every is not None)
        planned = forecast_of(task, result, options.at) if dry and result.error is None else None
    except BaseException as error:  # the result comes out whatever happens
        result = PushResult(str(flags.get("name") or ""), error=_as_ours(error))
    if watch is not None and watch.stalled:
        result.error, stopped = watch.why_stalled(), None
    code = _exit_code(result, stopped)
    _say_all(result, tally, manner, code, planned, wanted, dry=dry, summary=options.summary)
    if watch is not None and not dry:
        watch.over(result, code, stopped)
    return code, stopped is not None


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
    )


def _say_all(
    result: PushResult,
    tally: Tally,
    manner: Manner,
    code: int,
    planned: Forecast | None,
    wanted: str | None,
    *,
    dry: bool,
    summary: bool,
) -> None:
    """How it ended, on stderr and stdout."""
    if summary and not manner.as_json and manner.log_format != "json":
        put_result(summary_line(result, code))
        return
    if manner.log_format == "json":
        _tell_json(result, code, manner)
    else:
        _tell(result, tally, manner, planned, dry=dry)
    _put(result, manner, wanted, planned)


def _put(result: PushResult, manner: Manner, wanted: str | None, planned: Forecast | None) -> None:
    """The result on stdout: the object, the one thing that was asked for, or the link; with ``-q`` nothing."""
    if manner.as_json:
        more = {"forecast": planned.as_json()} if planned is not None else {}
        put_result(result.as_json() | more | (error_as_json(result.error) if result.error is not None else {}))
    elif result.state == "complete" and (wanted is not None or not manner.quiet):
        text = getattr(result, PRINTABLE[wanted or "link"])
        if text is not None:
            put_result(str(text))


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


def _tell_json(result: PushResult, code: int, manner: Manner) -> None:
    """The end as two events: what went wrong, if anything did, and the result."""
    if result.error is not None:
        tell_event("Failed", error_as_json(result.error))
    if result.share_refusal is not None:
        tell_event("NotShared", error_as_json(result.share_refusal))
    if not manner.quiet:
        tell_event("Ended", {"exit_code": code, **result.as_json()})


def _tell(result: PushResult, tally: Tally, manner: Manner, planned: Forecast | None, *, dry: bool) -> None:
    """The end, on stderr: what was done, what could not be read, what went wrong."""
    lines: list[str] = []
    if result.error is None and not manner.quiet:
        lines = _plan(result) if dry else _summary(result)
        lines += planned.lines() if planned and result.parts else []
        seen = is_terminal(standard("stderr")) and not is_terminal(standard("stdout"))
        if result.link and (manner.as_json or seen):
            lines.append(result.link)
    if result.share_refusal is not None and manner.quiet:  # else it was said when it happened
        lines.append(not_shared(result.share_refusal))
    lines += _failures(result, up=result.state == "complete")
    if result.error is not None:
        if tally.name and tally.parts_total and not manner.quiet:
            lines.append(_reached(result, tally))
        if isinstance(result.error, Interrupted):
            lines.append("driveshard: stopped. Run the same command again to go on.")
        else:
            lines.append(explain(result.error, home_for_crashes(), verbose=manner.verbose))
    say = tell_timed if tally.name and not manner.quiet else tell
    for line in lines:
        say(line)


def _plan(result: PushResult) -> list[str]:
    if not result.parts:
        return [f"{result.name}: nothing new to pack; nothing was sent"]
    samples, files = plural(result.samples, "sample"), plural(result.files, "file")
    what = f"{samples} ({files})" if 0 < result.files != result.samples else samples
    parts, size = plural(result.parts, "new part"), human_size(result.bytes)
    return [f"{result.name}: would pack {what} into {parts}, about {size}; nothing was sent"]


def _summary(result: PushResult) -> list[str]:
    samples, files = plural(result.samples, "sample"), plural(result.files, "file")
    what = samples if result.samples == result.files else f"{samples} ({files})"
    lines = [f"{result.name} is complete: {what} in {plural(result.parts, 'part')}, {human_size(result.bytes)}"]
    if not result.sent_bytes:
        return [*lines, "nothing to do: all of it was there already"]
    rate = human_size(result.sent_bytes / max(result.seconds, 1e-3))
    lines.append(f"sent {human_size(result.sent_bytes)} in {human_seconds(result.seconds)} ({rate}/s)")
    if result.held_back_by:
        lines.append(f"held back by {result.held_back_by}")
    return lines


def _failures(result: PushResult, *, up: bool) -> list[str]:
    if not result.failed:
        return []
    lines = [f"{plural(len(result.failed), 'file')} could not be read{'; everything else is up' if up else ''}:"]
    lines += [f"  {failure.path}: {failure.why}" for failure in result.failed[:LISTED]]
    more = len(result.failed) - LISTED
    return [*lines, f"  and {more:,} more"] if more > 0 else lines


def _reached(result: PushResult, tally: Tally) -> str:
    more = "" if tally.scanned else " planned so far"
    return (
        f"{tally.parts_up:,} of {plural(tally.parts_total, 'part')}{more} up;"
        f" {human_size(result.sent_bytes)} sent in {human_seconds(result.seconds)}"
    )


def _exit_code(result: PushResult, stopped: int | None) -> int:
    if isinstance(result.error, Interrupted):
        return stopped or result.error.exit_code
    if result.error is not None:
        return result.error.exit_code
    return UNREADABLE if result.failed else 0
