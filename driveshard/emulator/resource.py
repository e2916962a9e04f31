"""Store records as the JSON resources of Drive v3: int64 as strings, RFC 3339 times with milliseconds."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote

from driveshard.emulator.record import FOLDER, GOOGLE_TYPE, OWNER_EMAIL, OWNER_NAME, FileRecord
from driveshard.emulator.store import Store

CHECKSUMS = ("md5Checksum", "sha1Checksum", "sha256Checksum")
OWNER = {
    "kind": "drive#user",
    "displayName": OWNER_NAME,
    "me": True,
    "permissionId": "01234567890123456789",
    "emailAddress": OWNER_EMAIL,
}


def rfc3339(milliseconds: int) -> str:
    """Milliseconds since the epoch as `2026-11-22T15:00:00.000Z`."""
    moment = datetime.fromtimestamp(milliseconds // 1000, UTC)
    return f"{moment:%Y-%m-%dT%H:%M:%S}.{milliseconds % 1000:03d}Z"


def links(record: FileRecord, base_url: str) -> dict[str, str]:
    """webViewLink, and webContentLink for blobs, on the host the client asked."""
    key = record.extra.get("resourceKey")
    if record.mime_type == FOLDER:
        return {"webViewLink": f"{base_url}/drive/folders/{record.id}" + (f"?resourcekey={key}" if key else "")}
    found = {"webViewLink": f"{base_url}/file/d/{record.id}/view?usp=drivesdk" + (f"&resourcekey={key}" if key else "")}
    if record.content:
        found["webContentLink"] = f"{base_url}/uc?id={quote(record.id)}&export=download"
    return found


def file_resource(
    record: FileRecord, store: Store, base_url: str, *, owner: bool, checksums: bool = True
) -> dict[str, Any]:
    """The whole File resource; the mask is applied afterwards.

    `owner` False leaves out what an API key cannot see (appProperties, permissions); `checksums` False leaves out
    the checksums, as when Drive has not computed them yet.
    """
    document: dict[str, Any] = {
        "kind": "drive#file",
        "id": record.id,
        "name": record.name,
        "mimeType": record.mime_type,
        "starred": record.starred,
        "trashed": store.is_trashed(record),
        "explicitlyTrashed": record.trashed,
        "spaces": ["drive"],
        "version": str(record.version),
        "createdTime": rfc3339(record.created),
        "modifiedTime": rfc3339(record.modified),
        "owners": [OWNER if owner else OWNER | {"me": False}],
        "lastModifyingUser": OWNER,
        "ownedByMe": owner,
        "writersCanShare": True,
        "hasThumbnail": False,
        "quotaBytesUsed": str(record.content.size if record.content else 0),
        **links(record, base_url),
        **record.extra,
    }
    if record.parent:
        document["parents"] = [record.parent]
    if record.description:
        document["description"] = record.description
    if record.properties:
        document["properties"] = record.properties
    if "resourceKey" in record.extra:
        document["linkShareMetadata"] = {"securityUpdateEligible": True, "securityUpdateEnabled": True}
    if record.trashed_at is not None:
        document["trashedTime"] = rfc3339(record.trashed_at)
    if record.target:
        document["shortcutDetails"] = {"targetId": record.target}
        target = store.find(record.target)
        if target:
            document["shortcutDetails"]["targetMimeType"] = target.mime_type
    document |= _sharing(record, store, owner)
    document |= _content(record, checksums)
    return document


def _sharing(record: FileRecord, store: Store, owner: bool) -> dict[str, Any]:
    permissions = store.permissions(record)
    capabilities = {
        "canAddChildren": owner and record.is_folder,
        "canListChildren": record.is_folder,
        "canCopy": not record.is_folder,
        "canDelete": owner,
        "canDownload": record.content is not None,
        "canEdit": owner,
        "canRename": owner,
        "canShare": owner,
        "canTrash": owner,
    }
    document: dict[str, Any] = {"shared": len(permissions) > 1, "capabilities": capabilities}
    if owner:
        document["permissions"] = list(permissions.values())
        document["permissionIds"] = list(permissions)
        if record.app_properties:
            document["appProperties"] = record.app_properties
    return document


def _content(record: FileRecord, checksums: bool) -> dict[str, Any]:
    if record.content is None:
        return {}
    document: dict[str, Any] = {
        "size": str(record.content.size),
        "originalFilename": record.original_name or record.name,
        "headRevisionId": record.content.revision,
    }
    stem, dot, extension = record.name.rpartition(".")
    if stem and dot:
        document |= {"fileExtension": extension, "fullFileExtension": extension}
    if checksums and not record.mime_type.startswith(GOOGLE_TYPE):
        document |= zip(CHECKSUMS, (record.content.md5, record.content.sha1, record.content.sha256), strict=True)
    return document
