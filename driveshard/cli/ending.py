"""How a push ended, told on stderr and stdout."""

from __future__ import annotations

from dataclasses import dataclass

from driveshard.cli.console import Manner, is_terminal, put_result, standard, tell, tell_event, tell_timed
from driveshard.cli.error_messages import error_as_json, explain, home_for_crashes
from driveshard.cli.progress.log_lines import LISTED
from driveshard.cli.progress.tally import Tally
from driveshard.cli.watch import summary_line
from driveshard.core.errors import Interrupted
from driveshard.core.formatting import human_seconds, human_size, plural
from driveshard.upload.forecast import Forecast
from driveshard.upload.result import PushResult, dropped_line, gone_line, ignored_line, not_shared, readers_line

"""What ``--print`` prints, by the result's field."""


@dataclass(frozen=True, slots=True)
class Ending:
    """``code`` is the exit code; ``planned`` what a push will cost, if it was a dry run."""

    result: PushResult
    code: int
    tally: Tally
    planned: Forecast | None = None
    dry: bool = False


def tell_end(ending: Ending, manner: Manner, wanted: str | None, *, summary: bool) -> None:
    """All of it. ``wanted`` is the one thing to print, ``summary`` that one line is."""
    if summary and wanted is None and not manner.as_json and manner.log_format != "json":
        put_result(summary_line(ending.result, ending.code))
        return
    if manner.log_format == "json":
        _tell_json(ending.result, ending.code, manner)
    else:
        _tell(ending, manner)
    _put(ending, manner, wanted)


def _put(ending: Ending, manner: Manner, wanted: str | None) -> None:
    """The result on stdout: the object, the one thing that was asked for, or the link; with ``-q`` nothing."""
    result = ending.result
    if manner.as_json:
        planned = {"forecast": ending.planned.as_json()} if ending.planned else {}
        put_result(result.as_json() | planned | (error_as_json(result.error) if result.error is not None else {}))
    elif result.state == "complete" and (wanted is not None or not manner.quiet):
        text = getattr(result, (wanted or "link").replace("-", "_"))
        if text is not None:
            put_result(str(text))


def _tell_json(result: PushResult, code: int, manner: Manner) -> None:
    """The end as two events: what went wrong, if anything did, and the result."""
    if result.error is not None:
        tell_event("Failed", error_as_json(result.error))
    if result.share_refusal is not None:
        tell_event("NotShared", error_as_json(result.share_refusal))
    if not manner.quiet:
        tell_event("Ended", {"exit_code": code, **result.as_json()})


def _tell(ending: Ending, manner: Manner) -> None:
    """The end, on stderr: what was done, what could not be read, what went wrong."""
    result, tally, planned, dry = ending.result, ending.tally, ending.planned, ending.dry
    lines: list[str] = []
    if result.error is None and not manner.quiet:
        lines = _plan(result) if dry else _summary(result)
        lines += planned.lines() if planned and result.parts else []
        if not dry and result.share_refusal is None:
            lines.append(readers_line(result.name, result.shared, result.link))
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
        return [f"{result.name}: nothing new to pack; nothing was sent", *_differences(result)]
    samples, files = plural(result.samples, "sample"), plural(result.files, "file")
    what = f"{samples} ({files})" if 0 < result.files != result.samples else samples
    parts, size = plural(result.parts, "new part"), human_size(result.bytes)
    return [f"{result.name}: would pack {what} into {parts}, about {size}; nothing was sent", *_differences(result)]


def _summary(result: PushResult) -> list[str]:
    samples, files = plural(result.samples, "sample"), plural(result.files, "file")
    what = samples if result.samples == result.files else f"{samples} ({files})"
    lines = [f"{result.name} is complete: {what} in {plural(result.parts, 'part')}, {human_size(result.bytes)}"]
    lines += _differences(result)
    if not result.sent_bytes:
        return [*lines, "nothing to do: all of it was there already"]
    rate = human_size(result.sent_bytes / max(result.seconds, 1e-3))
    lines.append(f"sent {human_size(result.sent_bytes)} in {human_seconds(result.seconds)} ({rate}/s)")
    if result.held_back_by:
        lines.append(f"held back by {result.held_back_by}")
    return lines


def _differences(result: PushResult) -> list[str]:
    """How the dataset is another than its source is now, or was."""
    lines = [gone_line(result.gone)] if result.gone else []
    lines += [dropped_line(result.dropped)] if result.dropped else []
    lines += [ignored_line(result.ignored)] if result.ignored else []
    if result.changed:
        what = (
            "a file that changed since is"
            if result.changed == 1
            else f"{result.changed:,} files that changed since are"
        )
        lines.append(f"{what} in a newer part, which is what readers see")
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
