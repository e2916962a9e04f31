"""`/_emulator/...`: what tests ask the emulator about itself, outside Drive's namespace."""

from __future__ import annotations

import json
import secrets

from driveshard.emulator.calls import Drive, parse_metadata
from driveshard.emulator.errors import ApiError
from driveshard.emulator.wire import Reply, Request


def serve_control(drive: Drive, request: Request) -> Reply:
    """stats, log?since=N, faults, clock, line, resource-key, reset-stats. Raises ApiError 404 for anything else."""
    what = (request.method, request.path.removeprefix("/_emulator/"))
    if what == ("GET", "stats"):
        return Reply.json(stats(drive))
    if what == ("GET", "log"):
        since = request.query.get("since", "0")
        lines = (json.dumps(entry) + "\n" for entry in drive.journal.entries(int(since) if since.isdigit() else 0))
        return Reply(200, "".join(lines).encode(), {"Content-Type": "application/x-ndjson"})
    if what == ("POST", "faults"):
        return _replace_faults(drive, request)
    if what == ("POST", "clock"):
        return _push_clock(drive, request)
    if what == ("POST", "line"):
        return _change_line(drive, request)
    if what == ("POST", "resource-key"):
        return _give_key(drive, request)
    if what == ("POST", "reset-stats"):
        drive.journal.reset()
        return Reply.json({})
    raise ApiError(404, "notFound", f"No such control: {request.method} {request.path}")


def stats(drive: Drive) -> dict[str, object]:
    """Totals, sessions, violations and what is stored; bytes unless a name says otherwise."""
    records = drive.store.all()
    return {
        **drive.journal.stats(),
        "stored_bytes": sum(record.content.size for record in records if record.content),
        "files": sum(record.content is not None for record in records),
        "folders": sum(record.is_folder for record in records),
        "sessions": drive.sessions.summaries(),
        "faults": drive.faults.words,
        "faults_fired": dict(drive.faults.fired),
    }


def _replace_faults(drive: Drive, request: Request) -> Reply:
    given = parse_metadata(request.body.read())
    try:
        drive.faults.replace(str(given.get("faults", "")), int(given.get("seed", 0)))
    except ValueError as error:
        raise ApiError(400, "invalid", str(error), location="faults") from error
    return Reply.json({"faults": drive.faults.words})


def _push_clock(drive: Drive, request: Request) -> Reply:
    try:
        drive.clock.shift += float(parse_metadata(request.body.read()).get("advance", 0))
    except (TypeError, ValueError) as error:
        raise ApiError(400, "invalid", "advance is a number of seconds", location="advance") from error
    return Reply.json({"shift": drive.clock.shift})


def _change_line(drive: Drive, request: Request) -> Reply:
    """`{"bandwidth": RATE or null, "factor": F, "latency_ms": N, "outage": SECONDS}`, each optional, from now on."""
    given = parse_metadata(request.body.read())
    line = drive.line
    try:
        if "bandwidth" in given:
            line.set_bandwidth(None if given["bandwidth"] is None else float(given["bandwidth"]))
        line.scale(float(given.get("factor", 1)))
        line.latency = float(given.get("latency_ms", line.latency * 1000)) / 1000
        outage = float(given.get("outage", 0))
    except (TypeError, ValueError) as error:
        raise ApiError(400, "invalid", f"bandwidth, factor, latency_ms, outage: {error}", location="line") from error
    if outage > 0:
        line.fail(outage)
    return Reply.json({"bandwidth": line.up.rate, "latency_ms": line.latency * 1000, "outage": outage})


def _give_key(drive: Drive, request: Request) -> Reply:
    """`{"id": ID, "key": KEY}`: strangers need that resource key for the item from now on, as for older links."""
    given = parse_metadata(request.body.read())
    key = str(given.get("key") or "0-" + secrets.token_urlsafe(16))
    record = drive.store.require(str(given.get("id")))
    record.extra = record.extra | {"resourceKey": key}
    drive.store.save(record)
    return Reply.json({"id": record.id, "resourceKey": key})
