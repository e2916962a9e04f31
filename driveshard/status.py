"""The ``status`` command: what each dataset's parts are doing, what is left, and when it can go on."""

from __future__ import annotations

import time
from typing import Any

from driveshard.config import Settings
from driveshard.console import Manner, put, put_json
from driveshard.edge import moment, sentence
from driveshard.records import Record, find_records
from driveshard.text import human_seconds, human_size, plural


def show_status(name: str | None, settings: Settings, manner: Manner) -> int:
    """Print it; returns the exit code."""
    records = find_records(settings, name)
    if manner.as_json:
        put_json({"datasets": [as_json(record) for record in records]})
    elif not records:
        put("Nothing was pushed from here yet. Begin with: driveshard push DIRECTORY")
    for record in () if manner.as_json else records:
        put("\n".join(lines_of(record, time.time())))
    return 0


def as_json(record: Record) -> dict[str, Any]:
    """The record for scripts; bytes and POSIX seconds."""
    return {
        "name": record.name,
        "state": record.state,
        "to": record.to,
        "drive": record.drive_url,
        "source": record.source,
        "folder_id": record.folder_id,
        "link": record.link,
        "shared": record.shared,
        "parts": dict(record.states),
        "bytes": record.bytes,
        "bytes_left": record.bytes_left,
        "uploads": [{"part": one.file_name, "offset": one.offset, "bytes": one.size} for one in record.uploads],
        "last_error": record.last_error,
        "last_advice": record.last_advice,
        "resume_after": record.resume_after,
        "held_by": dict(record.holder) if record.holder else None,
    }


def lines_of(record: Record, now: float) -> list[str]:
    """The record for people."""
    total = sum(record.states.values())
    lines = [f"{record.name}: {record.state}", f"  from       {record.source}", f"  to         {_place(record)}"]
    parts = f"{record.states['released']:,} of {plural(total, 'part')} up, {human_size(record.bytes)}"
    if record.bytes_left:
        parts += f", {human_size(record.bytes_left)} left"
    lines.append(f"  parts      {parts}")
    others = [f"{count:,} {state}" for state, count in record.states.items() if count and state != "released"]
    lines += [f"             {', '.join(others)}"] if others else []
    lines += [f"  uploading  {_upload(one.file_name, one.offset, one.size)}" for one in record.uploads]
    lines += [f"  shared     {record.shared}"] if record.shared else []
    lines += [f"  link       {record.link}"] if record.link else []
    if record.holder:
        note = record.holder
        lines.append(f"  run by     process {note['pid']} on {note['host']} since {note['since']}")
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
