"""The `fields` mask: parsed, checked against the resource's own fields, applied.

Grammar: `mask = selector {"," selector}`; `selector = name ["/" selector] | name "(" mask ")" | "*"`.
"""

from __future__ import annotations

import re
from typing import Any

from driveshard.emulator.errors import ApiError

Mask = dict[str, "Mask"]

_FILE_NAMES = (
    "appProperties capabilities clientEncryptionDetails contentHints contentRestrictions "
    "copyRequiresWriterPermission createdTime description downloadRestrictions driveId explicitlyTrashed "
    "exportLinks fileExtension folderColorRgb fullFileExtension hasAugmentedPermissions hasThumbnail "
    "headRevisionId iconLink id imageMediaMetadata inheritedPermissionsDisabled isAppAuthorized kind "
    "labelInfo lastModifyingUser linkShareMetadata md5Checksum mimeType modifiedByMe modifiedByMeTime "
    "modifiedTime name originalFilename ownedByMe owners parents permissionIds permissions properties "
    "quotaBytesUsed resourceKey sha1Checksum sha256Checksum shared sharedWithMeTime sharingUser "
    "shortcutDetails size spaces starred teamDriveId thumbnailLink thumbnailVersion trashed trashedTime "
    "trashingUser version videoMediaMetadata viewedByMe viewedByMeTime viewersCanCopyContent "
    "webContentLink webViewLink writersCanShare"
)
FILE = frozenset(_FILE_NAMES.split())
FILE_LIST = frozenset({"kind", "nextPageToken", "incompleteSearch", "files"})
_PERMISSION_NAMES = (
    "kind id type role emailAddress domain allowFileDiscovery displayName photoLink expirationTime "
    "deleted view pendingOwner permissionDetails teamDrivePermissionDetails inheritedPermissionsDisabled"
)
PERMISSION = frozenset(_PERMISSION_NAMES.split())
PERMISSION_LIST = frozenset({"kind", "nextPageToken", "permissions"})
_ABOUT_NAMES = (
    "kind user storageQuota importFormats exportFormats maxImportSizes maxUploadSize appInstalled "
    "folderColorPalette driveThemes teamDriveThemes canCreateDrives canCreateTeamDrives"
)
ABOUT = frozenset(_ABOUT_NAMES.split())
START_TOKEN = frozenset({"kind", "startPageToken"})
CHANGE_LIST = frozenset({"kind", "nextPageToken", "newStartPageToken", "changes"})
CHANGE = frozenset(
    ["kind", "type", "changeType", "time", "removed", "fileId", "file", "driveId", "drive", "teamDriveId", "teamDrive"]
)
IDS = frozenset({"kind", "space", "ids"})
_INNER = {"files": FILE, "file": FILE, "permissions": PERMISSION, "changes": CHANGE}

DEFAULT_FILE = "kind,id,name,mimeType"
DEFAULT_LIST = "kind,incompleteSearch,nextPageToken,files(kind,id,name,mimeType)"
DEFAULT_CHANGES = (
    "kind,nextPageToken,newStartPageToken,changes(kind,type,changeType,time,removed,fileId,file(kind,id,name,mimeType))"
)
DEFAULT_PERMISSION = "kind,id,type,role,allowFileDiscovery,emailAddress,domain"

_TOKEN = re.compile(r"\s*([A-Za-z_][A-Za-z0-9_.-]*|\*|[(),/])")


def _bad(text: str) -> ApiError:
    return ApiError(400, "invalidParameter", f"Invalid field selection {text}", location="fields")


def parse_mask(text: str) -> Mask:
    """Parse a mask into nested dicts; an empty dict means "all of it". Raises ApiError 400."""
    tokens: list[str] = []
    position = 0
    while position < len(text.rstrip()):
        match = _TOKEN.match(text, position)
        if not match:
            raise _bad(text[position:].strip())
        tokens.append(match[1])
        position = match.end()
    mask = _mask(tokens, text)
    if tokens:
        raise _bad(text)
    return mask


def _mask(tokens: list[str], text: str) -> Mask:
    mask: Mask = {}
    while True:
        name, inner = _selector(tokens, text)
        # `a,a/b` asks for all of a: an empty inner mask is the wider one.
        mask[name] = _merge(mask[name], inner) if name in mask else inner
        if not tokens or tokens[0] != ",":
            return mask
        tokens.pop(0)


def _selector(tokens: list[str], text: str) -> tuple[str, Mask]:
    if not tokens or tokens[0] in "(),/":
        raise _bad(text)
    name = tokens.pop(0)
    if tokens and tokens[0] == "/":
        tokens.pop(0)
        inner_name, inner = _selector(tokens, text)
        return name, {inner_name: inner}
    if tokens and tokens[0] == "(":
        tokens.pop(0)
        mask = _mask(tokens, text)
        if not tokens or tokens.pop(0) != ")":
            raise _bad(text)
        return name, mask
    return name, {}


def _merge(left: Mask, right: Mask) -> Mask:
    if not left or not right:
        return {}
    merged = dict(left)
    for name, inner in right.items():
        merged[name] = _merge(merged[name], inner) if name in merged else inner
    return merged


def check_mask(mask: Mask, known: frozenset[str]) -> None:
    """Raise ApiError 400 for a field that the resource does not have (`etag` in v3, for one)."""
    for name, inner in mask.items():
        if name == "*":
            continue
        if name not in known:
            raise _bad(name)
        if inner and name in _INNER:
            check_mask(inner, _INNER[name])


def compile_mask(text: str | None, default: str, known: frozenset[str]) -> Mask:
    """Parse and check the `fields` parameter; an absent or empty one means `default`."""
    mask = parse_mask(text or default)
    check_mask(mask, known)
    return mask


def apply_mask(mask: Mask, document: Any) -> Any:
    """The part of a JSON document that the mask selects. Lists are masked element by element."""
    if not mask or ("*" in mask and not mask["*"]):
        return document
    if isinstance(document, list):
        return [apply_mask(mask, item) for item in document]
    if not isinstance(document, dict):
        return document
    wild = mask.get("*")
    chosen: dict[str, Any] = {}
    for name, value in document.items():
        inner = mask.get(name, wild)
        if inner is not None:
            chosen[name] = apply_mask(inner, value)
    return chosen
