"""Uploads that come in one request (media, multipart), and what every finished upload has in common."""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from driveshard.emulator.calls import Call, parse_metadata
from driveshard.emulator.errors import ApiError, id_in_use, invalid
from driveshard.emulator.files import BINARY, add_file, change_record, new_record, refuse_service_account
from driveshard.emulator.multipart import parse_multipart
from driveshard.emulator.record import Content, FileRecord
from driveshard.emulator.sessions import OPEN, describe
from driveshard.emulator.wire import Reply


@dataclass(frozen=True)
class Upload:
    """What an upload is to become: a new file (its id may be given) or new content of an existing one."""

    file_id: str | None
    update: bool
    metadata: dict[str, Any]
    params: dict[str, str]
    content_type: str


def simple(call: Call) -> Reply:
    """`POST|PATCH upload/.../files` with uploadType=media or multipart."""
    kind = call.query.get("uploadType", "")
    if kind not in ("media", "multipart"):
        raise invalid("uploadType", f"Invalid upload type: {kind}")
    call.file_mask(call.query.get("fields"))
    file_id = call.ids[0] if call.ids else None
    path = call.drive.store.blobs / secrets.token_hex(20)
    kept = False
    half = call.cut
    try:
        if kind == "media":
            metadata: dict[str, Any] = {}
            content_type = call.request.headers.get("content-type", "")
            with path.open("wb", buffering=0) as blob:
                for block in call.request.body.blocks(half):
                    blob.write(block)
        elif half is not None:
            for _ in call.request.body.blocks(half):
                pass
        else:
            metadata, content_type, content = _related(call)
            path.write_bytes(content)
        if half is not None:
            return Reply(0, drop=True)
        upload = Upload(file_id, file_id is not None, metadata, call.query, content_type)
        check_start(call, upload)
        if call.fault == "wrong-md5":
            spoil(path)
        reply = finish(call, upload, describe(path))
        kept = True
        return reply
    finally:
        if not kept:
            path.unlink(missing_ok=True)


def _related(call: Call) -> tuple[dict[str, Any], str, bytes]:
    parts = parse_multipart(call.request.headers.get("content-type", ""), call.request.body.read())
    if len(parts) != 2:
        raise ApiError(400, "badContent", "A multipart upload has two parts: metadata and media.")
    return parse_metadata(parts[0].content), parts[1].headers.get("content-type", ""), parts[1].content


def spoil(path: Path) -> None:
    """Flip one bit in the middle of a blob; an empty one stays as it is."""
    size = path.stat().st_size
    if size:
        with path.open("r+b") as blob:
            blob.seek(size // 2)
            byte = blob.read(1)[0]
            blob.seek(size // 2)
            blob.write(bytes([byte ^ 1]))


def check_start(call: Call, upload: Upload) -> None:
    """Refuse at once what could not be finished: unknown target, taken id, bad parent or properties, no quota."""
    if upload.update:
        call.visible(upload.file_id or "")
        return
    note_reuse(call, upload)
    new_record(call.drive, upload.metadata, BINARY)
    refuse_service_account(call)


def note_reuse(call: Call, upload: Upload) -> None:
    """An id that is being uploaded, or was, and is uploaded again: a client that did not ask first."""
    file_id = upload.metadata.get("id")
    if not isinstance(file_id, str):
        return
    if call.drive.store.find(file_id):
        call.drive.journal.violation("id-uploaded-twice", f"{file_id} exists already")
    elif any(s.state == OPEN and s.held for s in call.drive.sessions.of_file(file_id)):
        call.drive.journal.violation("id-uploaded-twice", f"{file_id} has an unfinished session that holds bytes")


def finish(call: Call, upload: Upload, content: Content) -> Reply:
    """Make the file exist (or its content new) and build the reply that the upload's parameters ask for."""
    record = complete(call, upload, content)
    if call.fault == "md5-late":
        call.drive.delay_checksums(record.id)
    status = 201 if call.fault == "final-201" else 200
    return call.file_reply(record, upload.params.get("fields"), status)


def complete(call: Call, upload: Upload, content: Content) -> FileRecord:
    """Store the finished content. Raises ApiError: 409 for an id taken meanwhile, 404 for a target gone meanwhile."""
    drive = call.drive
    mime_type = upload.content_type.split(";")[0].strip() or BINARY
    if not upload.update:
        metadata = upload.metadata
        if "id" not in metadata:
            record = new_record(drive, metadata, mime_type)
            record.id = upload.file_id or record.id
        else:
            if drive.store.find(metadata["id"]):
                raise id_in_use()
            record = new_record(drive, metadata, mime_type)
        record.content = content
        add_file(call, record)
        return record
    record = drive.store.require(upload.file_id or "")
    if record.is_folder:
        raise ApiError(403, "fileNotDownloadable", "A folder has no content.")
    kept_type = mime_type if upload.content_type else record.mime_type
    changed = change_record(drive, record, upload.metadata, upload.params, (content, kept_type))
    if record.content:
        drive.store.path_of(record.content).unlink(missing_ok=True)
    return changed
