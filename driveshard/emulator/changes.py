"""changes.*: what happened since a token was handed out. A token is the number of the next change."""

from __future__ import annotations

from typing import Any

from driveshard.emulator.auth import PUBLIC
from driveshard.emulator.calls import Call
from driveshard.emulator.errors import invalid, login_required, required
from driveshard.emulator.fields import CHANGE_LIST, DEFAULT_CHANGES, START_TOKEN, apply_mask, compile_mask
from driveshard.emulator.listing import page_size
from driveshard.emulator.resource import rfc3339
from driveshard.emulator.wire import Reply


def start_token(call: Call) -> Reply:
    """`GET changes/startPageToken`: the token from which on later changes are listed."""
    _refuse_strangers(call)
    mask = compile_mask(call.query.get("fields"), "*", START_TOKEN)
    document = {"kind": "drive#startPageToken", "startPageToken": str(call.drive.store.changes + 1)}
    return Reply.json(apply_mask(mask, document))


def list_changes(call: Call) -> Reply:
    """`GET changes?pageToken=N`: each file that changed since, once, as it is now, oldest change first."""
    _refuse_strangers(call)
    mask = compile_mask(call.query.get("fields"), DEFAULT_CHANGES, CHANGE_LIST)
    token = call.query.get("pageToken")
    if token is None:
        raise required("pageToken", "Required parameter: pageToken")
    if not token.isdigit():
        raise invalid("pageToken")
    size = page_size(call.query.get("pageSize"))
    newest = call.drive.store.changes
    found = [(number, change) for number, change in _changes(call, int(token)) if number <= newest]
    document: dict[str, Any] = {"kind": "drive#changeList", "changes": [change for _, change in found[:size]]}
    if len(found) > size:
        document["nextPageToken"] = str(found[size][0])
    else:
        document["newStartPageToken"] = str(newest + 1)
    return Reply.json(apply_mask(mask, document))


def _refuse_strangers(call: Call) -> None:
    if call.caller == PUBLIC:
        raise login_required()


def _changes(call: Call, since: int) -> list[tuple[int, dict[str, Any]]]:
    store = call.drive.store
    found = [
        (record.change, _change(record.id, record.modified, call.resource(record)))
        for record in store.all()
        if record.change >= since
    ]
    if call.query.get("includeRemoved", "true") == "true":
        gone = [(held["change"], _change(key, held["time"], None)) for key, held in store.deleted()]
        found += [entry for entry in gone if entry[0] >= since]
    return sorted(found, key=lambda entry: entry[0])


def _change(file_id: str, moment: int, file: dict[str, Any] | None) -> dict[str, Any]:
    document = {
        "kind": "drive#change",
        "type": "file",
        "changeType": "file",
        "time": rfc3339(moment),
        "removed": file is None,
        "fileId": file_id,
    }
    return document if file is None else document | {"file": file}
