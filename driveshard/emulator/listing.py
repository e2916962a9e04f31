"""files.list: q, order, paging."""

from __future__ import annotations

import re
import secrets
from collections.abc import Callable
from typing import Any

from driveshard.emulator.auth import PUBLIC
from driveshard.emulator.calls import Call
from driveshard.emulator.errors import ApiError, invalid
from driveshard.emulator.fields import DEFAULT_LIST, FILE_LIST, apply_mask, compile_mask
from driveshard.emulator.query import Query, parse_query
from driveshard.emulator.record import FileRecord
from driveshard.emulator.wire import Reply

DEFAULT_PAGE = 100
MAX_PAGE = 1000
MAX_TOKENS = 1000
_NUMBERS = re.compile(r"(\d+)")


def _natural(record: FileRecord) -> Any:
    pieces = _NUMBERS.split(record.name.casefold())
    return [(int(piece), "") if number % 2 else (0, piece) for number, piece in enumerate(pieces)]


_KEYS: dict[str, Callable[[FileRecord], Any]] = {
    "createdTime": lambda record: record.created,
    "folder": lambda record: not record.is_folder,
    "modifiedByMeTime": lambda record: record.modified,
    "modifiedTime": lambda record: record.modified,
    "name": lambda record: record.name.casefold(),
    "name_natural": _natural,
    "quotaBytesUsed": lambda record: record.content.size if record.content else 0,
    "recency": lambda record: record.modified,
    "sharedWithMeTime": lambda record: record.created,
    "starred": lambda record: not record.starred,
    "viewedByMeTime": lambda record: record.modified,
}


def list_files(call: Call) -> Reply:
    """`GET files`. A page token continues the list as it was when the first page was made."""
    mask = compile_mask(call.query.get("fields"), DEFAULT_LIST, FILE_LIST)
    size = page_size(call.query.get("pageSize"))
    _check_corpora(call)
    hidden = call.drive.hidden_files()
    signature = repr([call.query.get(name) for name in ("q", "orderBy", "corpora", "spaces", "driveId")])
    token = call.query.get("pageToken")
    ids = _continue(call, token, signature) if token else _search(call, hidden)
    document: dict[str, Any] = {"kind": "drive#fileList", "incompleteSearch": False}
    if len(ids) > size:
        document["nextPageToken"] = _remember(call, signature, ids[size:])
    records = [record for record in map(call.drive.store.find, ids[:size]) if record]
    document["files"] = [call.resource(record) for record in records]
    return Reply.json(apply_mask(mask, document))


def page_size(text: str | None) -> int:
    """The `pageSize` parameter, 100 unless told, never more than 1000. Raises ApiError 400."""
    if text is None:
        return DEFAULT_PAGE
    if not re.fullmatch(r"-?\d+", text) or int(text) < 1:
        raise invalid("pageSize", f"Invalid value '{text}'. Values must be within the range: [1, {MAX_PAGE}]")
    return min(int(text), MAX_PAGE)


def _check_corpora(call: Call) -> None:
    corpora = call.query.get("corpora", "user")
    if corpora not in ("user", "domain", "drive", "allDrives"):
        raise invalid("corpora")
    drive_id = call.query.get("driveId")
    if corpora == "drive" and not drive_id:
        text = "The driveId parameter must be specified if corpora is drive."
        raise ApiError(400, "required", text, location="driveId")
    if drive_id:
        raise ApiError(404, "notFound", f"Shared drive not found: {drive_id}", location="driveId")
    spaces = set(call.query.get("spaces", "drive").split(","))
    if not spaces <= {"drive", "appDataFolder", "photos"}:
        raise invalid("spaces")
    if "drive" not in spaces:
        call.notes["elsewhere"] = True


def _search(call: Call, hidden: set[str]) -> list[str]:
    store = call.drive.store
    text = call.query.get("q", "").strip()
    query = parse_query(text) if text else Query(lambda file: True)
    if call.notes.get("elsewhere"):
        return []
    _refuse_keyless(call, query.parent)
    records = store.children(query.parent) if query.parent else store.all()
    found = [view.record for view in store.views(records) if view.record.id not in hidden and query.matches(view)]
    if call.caller == PUBLIC:
        found = [record for record in found if store.is_public(record)]
    return [record.id for record in _ordered(found, call.query.get("orderBy"))]


def _refuse_keyless(call: Call, parent: str | None) -> None:
    """Raise ApiError 404 for a stranger who lists a shared folder without the resource key it needs."""
    folder = call.drive.store.find(parent) if parent and call.caller == PUBLIC else None
    if folder and call.drive.store.is_public(folder):
        call.visible(folder.id)


def _ordered(records: list[FileRecord], order: str | None) -> list[FileRecord]:
    records.sort(key=lambda record: record.order, reverse=True)
    for term in reversed((order or "").split(",")):
        words = term.split()
        if not words and not order:
            break
        if not words or words[0] not in _KEYS or words[1:] not in ([], ["desc"], ["asc"]):
            raise invalid("orderBy")
        records.sort(key=_KEYS[words[0]], reverse=words[1:] == ["desc"])
    return records


def _remember(call: Call, signature: str, ids: list[str]) -> str:
    token = "~!!~" + secrets.token_urlsafe(30)
    tokens = call.drive.list_tokens
    tokens[token] = (signature, ids)
    while len(tokens) > MAX_TOKENS:
        tokens.pop(next(iter(tokens)), None)
    return token


def _continue(call: Call, token: str, signature: str) -> list[str]:
    held = call.drive.list_tokens.get(token)
    if held is None or held[0] != signature:
        raise invalid("pageToken")
    return held[1]
