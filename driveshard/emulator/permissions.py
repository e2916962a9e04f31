"""permissions.*: who may read what."""

from __future__ import annotations

import hashlib
from typing import Any

from driveshard.emulator.calls import Call
from driveshard.emulator.errors import ApiError, invalid, required
from driveshard.emulator.fields import DEFAULT_PERMISSION, PERMISSION, PERMISSION_LIST, apply_mask, compile_mask
from driveshard.emulator.files import no_content
from driveshard.emulator.record import FileRecord
from driveshard.emulator.wire import Reply

TYPES = ("user", "group", "domain", "anyone")
ROLES = ("owner", "organizer", "fileOrganizer", "writer", "commenter", "reader")


def create(call: Call) -> Reply:
    """`POST files/{id}/permissions`. The id of an `anyone` permission is fixed, so a repeat changes nothing."""
    record = call.visible(call.ids[0])
    permission = _permission(call)
    with call.drive.store.database.lock:
        record.permissions = {**record.permissions, permission["id"]: permission}
        _save(call, record)
    return _reply(call, permission)


def list_all(call: Call) -> Reply:
    """`GET files/{id}/permissions`: its own and the inherited ones."""
    record = call.visible(call.ids[0])
    default = f"kind,nextPageToken,permissions({DEFAULT_PERMISSION})"
    mask = compile_mask(call.query.get("fields"), default, PERMISSION_LIST)
    held = list(call.drive.store.permissions(record).values())
    return Reply.json(apply_mask(mask, {"kind": "drive#permissionList", "permissions": held}))


def get(call: Call) -> Reply:
    """`GET files/{id}/permissions/{permissionId}`."""
    return _reply(call, _find(call, call.visible(call.ids[0])))


def update(call: Call) -> Reply:
    """`PATCH files/{id}/permissions/{permissionId}`: the role."""
    record = call.visible(call.ids[0])
    held = _find(call, record)
    if call.metadata.get("role", held["role"]) not in ROLES:
        raise invalid("permission.role")
    changed = {**held, "role": call.metadata.get("role", held["role"])}
    with call.drive.store.database.lock:
        record.permissions = {**record.permissions, changed["id"]: changed}
        _save(call, record)
    return _reply(call, changed)


def delete(call: Call) -> Reply:
    """`DELETE files/{id}/permissions/{permissionId}`. An inherited one must be removed where it was given."""
    record = call.visible(call.ids[0])
    held = _find(call, record)
    if held["role"] == "owner" or held["id"] not in record.permissions:
        text = f"The user does not have sufficient permissions for file {record.id}."
        raise ApiError(403, "insufficientFilePermissions", text)
    with call.drive.store.database.lock:
        record.permissions = {key: value for key, value in record.permissions.items() if key != held["id"]}
        _save(call, record)
    return no_content()


def _save(call: Call, record: FileRecord) -> None:
    record.version += 1
    call.drive.store.save(record)


def _reply(call: Call, permission: dict[str, Any]) -> Reply:
    mask = compile_mask(call.query.get("fields"), DEFAULT_PERMISSION, PERMISSION)
    return Reply.json(apply_mask(mask, permission))


def _find(call: Call, record: FileRecord) -> dict[str, Any]:
    held = call.drive.store.permissions(record).get(call.ids[1])
    if held is None:
        raise ApiError(404, "notFound", f"Permission not found: {call.ids[1]}.", location="permissionId")
    return held


def _permission(call: Call) -> dict[str, Any]:
    given = call.metadata
    kind, role = given.get("type"), given.get("role")
    if kind is None:
        raise required("permission.type", "The permission type field is required.")
    if role is None:
        raise required("permission.role", "The permission role field is required.")
    if kind not in TYPES or role not in ROLES:
        raise invalid("permission.type" if kind not in TYPES else "permission.role")
    permission = {"kind": "drive#permission", "type": kind, "role": role}
    if kind == "anyone":
        if role not in ("writer", "commenter", "reader"):
            raise invalid("permission.role", "The specified role is not valid for the type anyone.")
        if call.query.get("sendNotificationEmail") == "true" or call.query.get("emailMessage"):
            raise invalid("sendNotificationEmail", "Notifications cannot be sent for the type anyone.")
        open_to_search = bool(given.get("allowFileDiscovery", False))
        key = "anyone" if open_to_search else "anyoneWithLink"
        return permission | {"id": key, "allowFileDiscovery": open_to_search}
    name = "domain" if kind == "domain" else "emailAddress"
    value = given.get(name)
    if not isinstance(value, str) or not value:
        raise invalid(f"permission.{name}", f"The {name} field is required for this permission type.")
    number = int(hashlib.sha256(f"{kind}:{value}".encode()).hexdigest()[:16], 16)
    return permission | {"id": f"{number:020d}", name: value}
