"""The ``status`` command: what each dataset's parts are doing, what is left, and when it can go on."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import click

from driveshard.cli.account_lines import accounts_of
from driveshard.cli.completion import complete_name
from driveshard.cli.console import Manner, put, put_json
from driveshard.cli.error_messages import moment, sentence
from driveshard.cli.flags import common, examples, manner
from driveshard.cli.progress.live import read_live, read_next
from driveshard.cli.watch import last_runs, run_line
from driveshard.config.settings import Settings, settings_from
from driveshard.core.errors import (
    DriveshardError,
    NotFound,
    ShareRefused,
    Unavailable,
)
from driveshard.core.formatting import countdown, human_seconds, human_size, plural, shown
from driveshard.storage.registry import open_destination
from driveshard.upload.ledger.lock import described
from driveshard.upload.ledger.reader import Record, find_records, settings_for
from driveshard.upload.result import gone_line, readers_said

_PATIENCE = 5.0  # seconds; a look must not hang


@click.command(
    "status",
    short_help="Show what is up, what is left, and when it can go on.",
    epilog=examples(
        """
driveshard status
driveshard status photos --json
"""
    ),
)
@click.argument("name", shell_complete=complete_name, required=False)
@common
def command(name: str | None) -> int:
    """Show what each dataset's parts are doing, what is left, and when it can go on; also while a push runs.

    NAME is a dataset pushed from here; without it, all are shown.
    """
    return show_status(name, settings_from(), manner)


def show_status(name: str | None, settings: Settings, manner: Manner) -> int:
    """Print it; returns the exit code."""
    records = find_records(settings, name)
    seen = who_reads(records, settings)
    accounts = accounts_of(records, settings, time.time())
    if manner.as_json:
        documents = [_document(one, seen.get(one.path), settings.home) for one in records]
        put_json({"datasets": documents, "accounts": [one.as_json() for one in accounts]})
    elif not records:
        put("Nothing was pushed from here yet. Begin with: driveshard push DIRECTORY")
    for record in () if manner.as_json else records:
        lines = lines_of(record, time.time(), seen.get(record.path))
        lines += _live_lines(record, settings.home)
        again = read_next(settings.home, record.name)
        lines += [] if again is None else [f"  every      next push at {moment(again)}"]
        runs = last_runs(settings.home, record.name)
        lines += [f"  {'' if number else 'last runs':<10} {run_line(run)}" for number, run in enumerate(runs)]
        put("\n".join(lines))
    for account in () if manner.as_json else accounts:
        put(account.line(time.time()))
    return 0


def who_reads(records: Iterable[Record], settings: Settings) -> dict[Path, str]:
    """Who may read each dataset now, by its ledger: somebody may have changed by hand what was set from here. Left out
    where that cannot be asked, without a login or a network for instance; a Drive that does not answer is asked once.
    """
    seen: dict[Path, str] = {}
    silent: set[str | None] = set()
    for record in records:
        if record.drive_url is None or record.drive_url in silent or record.folder_id is None:
            continue
        here = settings_for(record, settings)
        if not record.is_on(here):
            continue
        try:
            seen[record.path] = _readers(record, replace(here, timeout=min(here.timeout, _PATIENCE)))
        except (NotFound, ShareRefused):  # says nothing about the others
            continue
        except DriveshardError:
            silent.add(record.drive_url)
    return seen


def _readers(record: Record, settings: Settings) -> str:
    destination = open_destination(record.to, settings)
    try:
        look: Callable[[str | None], str] = destination.readers  # type: ignore[attr-defined]  # a Drive has it
        try:
            return look(record.folder_id)
        except Unavailable:  # the login was renewed, perhaps
            return look(record.folder_id)
    finally:
        getattr(destination, "close", lambda: None)()


def as_json(record: Record, seen: str | None, runs: Iterable[Mapping[str, Any]] = ()) -> dict[str, Any]:
    """The record for scripts; bytes and POSIX seconds. ``seen`` is who may read as the destination says, None when it
    was not asked."""
    return {
        "name": record.name,
        "state": record.state,
        "to": record.to,
        "drive": record.drive_url,
        "source": record.source,
        "folder_id": record.folder_id,
        "link": record.link,
        "shared": seen or record.shared,
        "shared_seen": seen is not None,
        "parts": dict(record.states),
        "bytes": record.bytes,
        "bytes_left": record.bytes_left,
        "uploads": [{"part": one.file_name, "offset": one.offset, "bytes": one.size} for one in record.uploads],
        "gone": record.gone,
        "last_error": record.last_error,
        "last_advice": record.last_advice,
        "resume_after": record.resume_after,
        "held_by": dict(record.holder) if record.holder else None,
        "runs": list(runs),
    }


def _document(record: Record, seen: str | None, home: Path) -> dict[str, Any]:
    """``as_json`` with what lies beside the ledger: where parts wait, how far the run is, and the last runs."""
    return {
        **as_json(record, seen, last_runs(home, record.name)),
        "where": record.where,
        "temp": str(record.spool) if record.spool else None,
        "temp_bytes": record.spool_bytes,
        "progress": _live(record, home),
        "next_push": read_next(home, record.name),
    }


def _live(record: Record, home: Path) -> dict[str, Any] | None:
    """What the run that has it now says of itself."""
    pid = (record.holder or {}).get("pid")
    return read_live(home, pid, record.name) if isinstance(pid, int) else None


def _live_lines(record: Record, home: Path) -> list[str]:
    lines = [f"  temp       {record.spool}, {human_size(record.spool_bytes)}"] if record.spool and record.holder else []
    live = _live(record, home)
    if live is None:
        return lines
    words = [f"{live['percent']}%"] if live["percent"] is not None and live["final"] else []
    words += [f"{human_size(live['rate'])}/s"] if live["rate"] else []
    words += [f"{countdown(live['seconds'])} passed"]
    words += [f"{countdown(live['seconds_left'])} left"] if live["seconds_left"] else []
    words += [live["doing"]] if live["doing"] else []
    lines.append(f"  progress   {', '.join(words)}")
    for wait in live["waiting"]:
        left = f"{countdown(wait['seconds'])}: " if wait["seconds"] else ""
        lines.append(f"  waiting    {left}{shown(wait['why'])}")
    return lines


def lines_of(record: Record, now: float, seen: str | None) -> list[str]:
    """The record for people; ``seen`` as for ``as_json``."""
    total = sum(record.states.values())
    lines = [
        f"{record.name}: {record.state}",
        f"  from       {record.where or record.source}",
        f"  to         {_place(record)}",
    ]
    parts = f"{record.states['released']:,} of {plural(total, 'part')} up, {human_size(record.bytes)}"
    if record.bytes_left:
        parts += f", {human_size(record.bytes_left)} left"
    lines.append(f"  parts      {parts}")
    lines += [f"             {gone_line(record.gone)}"] if record.gone else []
    others = [f"{count:,} {state}" for state, count in record.states.items() if count and state != "released"]
    lines += [f"             {', '.join(others)}"] if others else []
    lines += [f"  uploading  {_upload(one.file_name, one.offset, one.size)}" for one in record.uploads]
    if record.folder_id:
        unsure = "" if seen or record.drive_url is None else " (as set last; Drive was not asked)"
        lines.append(f"  shared     {readers_said(record.name, seen or record.shared, record.link)}{unsure}")
    lines += [f"  link       {record.link}"] if record.link else []
    if record.holder:
        lines.append(f"  run by     {described(record.holder)}")
    elif not record.complete:
        lines += [f"  last run   {sentence(record.last_error)}"] if record.last_error else []
        lines.append(f"  next       {_next(record, now)}")
    return lines


def _place(record: Record) -> str:
    url = record.drive_url
    return record.to if url is None or "googleapis.com" in url else f"{record.to} at {url.rstrip('/')}"


def _upload(file_name: str, offset: int, size: int) -> str:
    return f"{file_name}: {human_size(offset)} of {human_size(size)}"


def _next(record: Record, now: float) -> str:
    if record.resume_after and record.resume_after > now:
        left = human_seconds(record.resume_after - now)
        return f"run the same push again from {moment(record.resume_after)} (in {left})"
    return record.last_advice or "run the same push again to go on"
