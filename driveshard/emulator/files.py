"""files.*: metadata create, get, update, copy, delete, generateIds; and about.get."""

from __future__ import annotations

import os
import secrets
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

from driveshard.emulator.auth import PUBLIC
from driveshard.emulator.calls import Call, Drive
from driveshard.emulator.downloads import download
from driveshard.emulator.errors import ApiError, download_quota_exceeded, invalid
from driveshard.emulator.fields import ABOUT, IDS, apply_mask, compile_mask
from driveshard.emulator.query import parse_time
from driveshard.emulator.record import GOOGLE_TYPE, SHORTCUT, Content, FileRecord
from driveshard.emulator.resource import OWNER
from driveshard.emulator.sessions import describe
from driveshard.emulator.store import new_id
from driveshard.emulator.tokens import SERVICE
from driveshard.emulator.wire import Reply

PROPERTY_BYTES = 124
PROPERTIES_EACH = 30
PROPERTY_TOO_LONG = (
    f"Properties and app properties are limited to {PROPERTY_BYTES} bytes in UTF-8 encoding,"
    " counting both the key and the value."
)
EXTRA_FIELDS = ("folderColorRgb", "copyRequiresWriterPermission", "writersCanShare", "contentRestrictions")
BINARY = "application/octet-stream"
MAX_IDS = 1000
STORAGE_LIMIT = 15 << 30
NO_QUOTA = (
    "Service Accounts do not have storage quota. Leverage shared drives"
    " (https://developers.google.com/workspace/drive/api/guides/about-shareddrives), or use OAuth delegation"
    " (http://support.google.com/a/answer/7281227) instead."
)


def create(call: Call) -> Reply:
    """`POST files`: a folder, a shortcut, or a file without content."""
    mask = call.file_mask(call.query.get("fields"))
    record = new_record(call.drive, call.metadata, BINARY)
    if not record.mime_type.startswith(GOOGLE_TYPE):
        refuse_service_account(call)
        record.content = empty_content(call.drive)
    add_file(call, record)
    return Reply.json(apply_mask(mask, call.resource(record)))


def get(call: Call) -> Reply:
    """`GET files/{id}`, content with alt=media."""
    record = call.visible(call.ids[0])
    if call.query.get("alt") == "media":
        if call.caller == PUBLIC and not call.admit_download(record):
            raise download_quota_exceeded()
        return download(call, record)
    mask = call.file_mask(call.query.get("fields"))
    return Reply.json(apply_mask(mask, call.resource(record, count=True)))


def update(call: Call) -> Reply:
    """`PATCH files/{id}`: metadata, trash, move."""
    mask = call.file_mask(call.query.get("fields"))
    with call.drive.store.database.lock:  # properties of two updates at once are merged, as on Drive
        record = call.visible(call.ids[0])
        changed = change_record(call.drive, record, call.metadata, call.query)
    return Reply.json(apply_mask(mask, call.resource(changed)))


def copy(call: Call) -> Reply:
    """`POST files/{id}/copy`: same bytes, new id; the metadata given wins over the source's."""
    mask = call.file_mask(call.query.get("fields"))
    source = call.visible(call.ids[0])
    if source.content is None:
        raise ApiError(403, "cannotCopyFile", "This file cannot be copied by the user.")
    refuse_service_account(call)
    given = {name: value for name, value in call.metadata.items() if value is not None}
    inherited = {
        "name": f"Copy of {source.name}",
        "mimeType": source.mime_type,
        "parents": [source.parent],
        "description": source.description,
        "properties": source.properties,
        "appProperties": source.app_properties,
    }
    record = new_record(call.drive, inherited | given, source.mime_type)
    blob = secrets.token_hex(20)
    _link(call.drive.store.path_of(source.content), call.drive.store.blobs / blob)
    held = source.content
    record.content = Content(blob, held.size, held.md5, held.sha1, held.sha256, "0B" + secrets.token_urlsafe(36))
    add_file(call, record)
    return Reply.json(apply_mask(mask, call.resource(record)))


def _link(there: Path, here: Path) -> None:
    """The same bytes under another name; a copy of them where the disk has no links, as FAT has none."""
    try:
        os.link(there, here)
    except OSError:
        shutil.copyfile(there, here)


def delete(call: Call) -> Reply:
    """`DELETE files/{id}`: gone at once, without the trash; a folder takes its contents along."""
    record = call.visible(call.ids[0])
    refuse_root(call.drive, record)
    call.drive.store.delete(record)
    return no_content()


def empty_trash(call: Call) -> Reply:
    """`DELETE files/trash`."""
    for record in call.drive.store.all():
        if record.trashed:
            call.drive.store.delete(record)
    return no_content()


def no_content() -> Reply:
    """204 with the headers that Drive gives it."""
    return Reply(204, headers={"Content-Type": "text/html", "Content-Length": "0"})


def generate_ids(call: Call) -> Reply:
    """`GET files/generateIds`: 1 to 1000 ids (10 unless told)."""
    mask = compile_mask(call.query.get("fields"), "*", IDS)
    count, space = call.query.get("count", "10"), call.query.get("space", "drive")
    kind = call.query.get("type", "files")
    if not count.isdigit() or not 1 <= int(count) <= MAX_IDS:
        raise invalid("count", f"Invalid value '{count}'. Values must be within the range: [1, {MAX_IDS}]")
    if space not in ("drive", "appDataFolder"):
        raise invalid("space")
    if kind not in ("files", "shortcuts"):
        raise invalid("type")
    ids = call.drive.store.issue_ids(int(count), kind)
    return Reply.json(apply_mask(mask, {"kind": "drive#generatedIds", "space": space, "ids": ids}))


def about(call: Call) -> Reply:
    """`GET about`: user and quota; `fields` is mandatory."""
    fields = call.query.get("fields")
    if not fields:
        text = "The 'fields' parameter is required for this method."
        raise ApiError(400, "required", text, location="fields")
    sizes = [(r.content.size, call.drive.store.is_trashed(r)) for r in call.drive.store.all() if r.content]
    usage = sum(size for size, _ in sizes)
    quota = {"usage": str(usage), "usageInDrive": str(usage)}
    quota["usageInDriveTrash"] = str(sum(size for size, trashed in sizes if trashed))
    quota["limit"] = "0" if call.caller == SERVICE else str(max(STORAGE_LIMIT, 1 << 42))
    document = {
        "kind": "drive#about",
        "user": OWNER,
        "storageQuota": quota,
        "maxUploadSize": "5497558138880",
        "canCreateDrives": False,
        "appInstalled": True,
        "importFormats": {},
        "exportFormats": {},
        "maxImportSizes": {},
        "folderColorPalette": [],
    }
    return Reply.json(apply_mask(compile_mask(fields, "*", ABOUT), document))


def refuse_root(drive: Drive, record: FileRecord) -> None:
    """The root folder can be neither deleted nor trashed nor moved."""
    if record.id == drive.store.root_id:
        text = f"The user does not have sufficient permissions for file {record.id}."
        raise ApiError(403, "insufficientFilePermissions", text)


def refuse_service_account(call: Call) -> None:
    """A service account by itself has no quota and cannot own content."""
    if call.caller == SERVICE:
        raise ApiError(403, "storageQuotaExceeded", NO_QUOTA)


def empty_content(drive: Drive) -> Content:
    """The content of a file that was created without any."""
    path = drive.store.blobs / secrets.token_hex(20)
    path.touch()
    return describe(path)


def new_record(drive: Drive, metadata: dict[str, Any], mime_type: str) -> FileRecord:
    """A record from a create's metadata, not yet stored. `mime_type` is used unless the metadata has one.

    Raises ApiError for a bad id, parent, property or value.
    """
    mime_type = _text(metadata, "mimeType", mime_type)
    file_id = metadata.get("id")
    if file_id is not None:
        if not isinstance(file_id, str):
            raise invalid("file.id")
        drive.store.check_id(file_id, mime_type)
    parent = drive.store.parent_of_new(metadata.get("parents"))
    now = drive.clock.now_ms()
    record = FileRecord(file_id or new_id(), "Untitled", mime_type, parent, now, now)
    created = _moment(metadata, "createdTime")
    if created is not None:
        record.created = created
    _apply(drive, record, metadata)
    if mime_type == SHORTCUT:
        target = (metadata.get("shortcutDetails") or {}).get("targetId")
        record.target = drive.store.require(str(target)).id
    return record


def add_file(call: Call, record: FileRecord) -> None:
    """Store a new record. Raises ApiError 409 when its id was taken meanwhile."""
    drive = call.drive
    note_twin(drive, record)
    if call.fault == "list-lag":
        drive.hide_from_lists(record.id, call.lasts)
    drive.store.insert(record)


def note_twin(drive: Drive, record: FileRecord) -> None:
    """A second file of the same name in a folder is legal on Drive, and nearly always a client's slip."""
    for other in drive.store.children(record.parent or ""):
        if other.id != record.id and other.name == record.name and not other.trashed:
            drive.journal.violation("same-name", f"{record.name!r} is in folder {record.parent} already")
            return


def change_record(
    drive: Drive,
    record: FileRecord,
    metadata: dict[str, Any],
    query: dict[str, str],
    content: tuple[Content, str] | None = None,
) -> FileRecord:
    """Save and return the record as an update leaves it: metadata, addParents/removeParents, new (content, MIME type).

    Raises ApiError, and then nothing has changed.
    """
    if "parents" in metadata:
        text = (
            "The parents field is not directly writable in update requests."
            " Use the addParents and removeParents parameters instead."
        )
        raise ApiError(403, "fieldNotWritable", text)
    if "id" in metadata and metadata["id"] != record.id:
        raise ApiError(403, "fieldNotWritable", "The resource body includes fields which are not directly writable.")
    destination = _destination(drive, record, query)
    before, record = record, replace(record)
    if content:
        record.content, record.mime_type = content
    record.mime_type = _text(metadata, "mimeType", record.mime_type)
    _apply(drive, record, metadata)
    if "trashed" in metadata:
        refuse_root(drive, record)
        record.trashed = bool(metadata["trashed"])
        record.trashed_at = drive.clock.now_ms() if record.trashed else None
    if (metadata or content) and "modifiedTime" not in metadata:
        record.modified = drive.clock.now_ms()
    record.version += 1
    with drive.store.database.lock:
        if destination:
            drive.store.move(record, destination)
        drive.store.save(record)
    if destination or record.name != before.name:
        note_twin(drive, record)
    return record


def _destination(drive: Drive, record: FileRecord, query: dict[str, str]) -> str | None:
    added = [drive.store.parent_of_new([p.strip()]) for p in query.get("addParents", "").split(",") if p.strip()]
    removed = {drive.store.resolve(p.strip()) for p in query.get("removeParents", "").split(",") if p.strip()}
    if not added or added == [record.parent]:
        return None
    refuse_root(drive, record)
    if len(added) > 1 or record.parent not in removed:
        raise ApiError(403, "cannotAddParent", "Increasing the number of parents is not allowed")
    if any(level.id == record.id for level in drive.store.ancestors(drive.store.require(added[0]))):
        raise ApiError(403, "cannotMoveIntoDescendant", "A folder cannot be moved into itself.")
    return added[0]


def _apply(drive: Drive, record: FileRecord, metadata: dict[str, Any]) -> None:
    record.properties = _properties(record.properties, metadata.get("properties"), "properties")
    record.app_properties = _properties(record.app_properties, metadata.get("appProperties"), "appProperties")
    record.name = _text(metadata, "name", record.name)
    record.description = _text(metadata, "description", record.description)
    record.original_name = metadata.get("originalFilename", record.original_name)
    record.starred = bool(metadata.get("starred", record.starred))
    modified = _moment(metadata, "modifiedTime")
    if modified is not None:
        record.modified = modified
    record.extra = record.extra | {name: metadata[name] for name in EXTRA_FIELDS if name in metadata}


def _text(metadata: dict[str, Any], name: str, default: str) -> str:
    value = metadata.get(name)
    if value is None:
        return default
    if not isinstance(value, str):
        raise invalid(f"file.{name}", f"Invalid value for: {value} is not a valid value")
    return value


def _moment(metadata: dict[str, Any], name: str) -> int | None:
    value = metadata.get(name)
    if value is None:
        return None
    try:
        return parse_time(str(value))
    except ValueError:
        raise invalid(f"file.{name}", f'Invalid value for: Invalid format: "{value}"') from None


def _properties(held: dict[str, str], change: Any, where: str) -> dict[str, str]:
    """Properties after a change: given keys are set, keys given as null are removed, others stay."""
    if change is None:
        return held
    if not isinstance(change, dict) or not all(v is None or isinstance(v, str) for v in change.values()):
        raise invalid(f"file.{where}")
    merged = {key: value for key, value in {**held, **change}.items() if value is not None}
    for key, value in merged.items():
        if len(key.encode()) + len(value.encode()) > PROPERTY_BYTES:
            raise ApiError(403, "propertyLengthLimitExceeded", PROPERTY_TOO_LONG)
    if len(merged) > PROPERTIES_EACH:
        raise invalid(f"file.{where}", f"More than {PROPERTIES_EACH} properties.")
    return merged
