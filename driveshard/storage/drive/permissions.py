"""Who may read a Drive folder: asked for page by page, and changed one permission at a time, each write in its turn."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from driveshard.core.errors import DriveshardError, NotFound, Refused, ShareRefused, Unavailable, UsageError
from driveshard.storage.drive.answers import PermissionPage, next_page, read
from driveshard.storage.drive.client import DriveClient

# Who loses access when it is set anew: those who could read by a wider permission than the one asked for.
_TAKEN_BACK: dict[str, tuple[str, ...]] = {
    "anyone": (),
    "domain": ("anyone",),
    "user": ("anyone", "domain"),
    "nobody": ("anyone", "domain", "group", "user"),
}
_FIELDS = "nextPageToken,permissions(id,type,role,emailAddress,domain,deleted,permissionDetails)"


class Permissions:
    """Those of one folder."""

    def __init__(self, client: DriveClient, folder_id: str) -> None:
        self._client = client
        self._folder_id = folder_id

    def set(self, who: str, before_write: Callable[[], None]) -> str:
        """Let ``who`` read, and return who may read then, as ``named`` says it. Each step may be repeated.

        Raises UsageError, and ShareRefused: also when somebody who should lose access keeps it.
        """
        wanted = _permission(who)
        try:
            present = self.listed()
        except Refused as error:
            raise _refusal(error, {}) from error
        taken_back = _TAKEN_BACK[wanted["type"] if wanted else "nobody"]
        going = [one for one in present if one.get("type") in taken_back]
        left = [one for one in present if one.get("type") not in taken_back]
        kept = [one for one in going if not self._revoke(one, before_write)]
        if wanted is not None and not any(_grants(one, wanted) for one in left):
            self._grant(wanted, before_write)
            left.append(wanted)
        if kept:
            raise ShareRefused(
                f"{named(kept)} can still read the folder: Drive does not let that be taken back here",
                advice="The upload itself is complete. Take it back on Drive's page of the folder above, or push to"
                " another place with --to.",
            )
        return named(left)

    def listed(self) -> list[dict[str, Any]]:
        """All that open the folder to somebody, from every page."""
        found: list[dict[str, Any]] = []
        token: str | None = None
        seen: set[str] = set()
        while True:
            request = self._client.permissions.list(
                fileId=self._folder_id, pageSize=100, pageToken=token, fields=_FIELDS, supportsAllDrives=True
            )
            page = read(self._client.execute(request), PermissionPage)
            found += [dict(one) for one in page.permissions if _opens(one)]
            token = next_page(page.nextPageToken, seen)
            if token is None:
                return found

    def _grant(self, wanted: Mapping[str, Any], before_write: Callable[[], None]) -> None:
        extra = {"sendNotificationEmail": False} if wanted["type"] == "user" else {}
        request = self._client.permissions.create(
            fileId=self._folder_id, body=wanted, fields="id,type,role", supportsAllDrives=True, **extra
        )
        before_write()
        try:
            self._client.execute(request)
        except Refused as error:
            raise _refusal(error, wanted) from error

    def _revoke(self, permission: Mapping[str, Any], before_write: Callable[[], None]) -> bool:
        """Take one back; False when Drive does not let it be taken back here."""
        details = permission.get("permissionDetails") or []
        if details and all(one.get("inherited") for one in details):
            return False
        request = self._client.permissions.delete(
            fileId=self._folder_id, permissionId=permission["id"], supportsAllDrives=True
        )
        before_write()
        try:
            self._client.execute(request)
        except NotFound:  # gone already
            return True
        except Refused:
            return False
        except Unavailable as error:
            error.answered_before = True  # the list was, so the next try begins with fewer to take back
            raise
        return True


def named(permissions: Iterable[Mapping[str, Any]]) -> str:
    """Who may read by them: ``anyone``, ``nobody``, or as many as there are (``domain:D, user:EMAIL``)."""
    words = set()
    for permission in permissions:
        value = permission.get("domain") or permission.get("emailAddress") or permission.get("id")
        words.add("anyone" if permission.get("type") == "anyone" else f"{permission.get('type')}:{value}")
    return "anyone" if "anyone" in words else ", ".join(sorted(words)) or "nobody"


def _opens(permission: Mapping[str, Any]) -> bool:
    """Whether it lets somebody read who is neither the owner, nor a member of the shared drive, nor deleted."""
    details = permission.get("permissionDetails") or []
    member = bool(details) and all(one.get("permissionType") == "member" for one in details)
    return permission.get("role") != "owner" and not member and not permission.get("deleted")


def _permission(who: str) -> dict[str, Any] | None:
    kind, _, value = who.partition(":")
    if who == "nobody":
        return None
    if who == "anyone":
        return {"type": "anyone", "role": "reader", "allowFileDiscovery": False}
    if kind == "domain" and value:
        return {"type": "domain", "role": "reader", "domain": value, "allowFileDiscovery": False}
    if kind == "user" and "@" in value:
        return {"type": "user", "role": "reader", "emailAddress": value}
    raise UsageError(f"{who!r} is nobody to share with", advice="Give anyone, domain:D, user:EMAIL or nobody.")


def _grants(permission: Mapping[str, Any], wanted: Mapping[str, Any]) -> bool:
    return permission.get("type") == wanted["type"] and all(
        str(permission.get(key, "")).lower() == str(wanted[key]).lower()
        for key in ("domain", "emailAddress")
        if key in wanted
    )


def _refusal(error: Refused, wanted: Mapping[str, Any]) -> DriveshardError:
    """What a permission that Drive did not give means. One that it could not give, for the address or domain, is a 400
    or has a reason of its own; only what is a matter of policy is the administrator's."""
    if isinstance(error, NotFound):  # the folder itself
        return error
    address = wanted.get("emailAddress") or wanted.get("domain")
    if type(error) is Refused or getattr(error, "by_policy", False):
        advice = error.advice
    elif address:
        advice = f"Check {address}, then run `driveshard share`; Drive shares only with accounts that it knows."
    else:
        advice = "Run `driveshard share` again later, or share the folder on Drive's own page."
    done = "The upload itself is complete."
    advice = advice if advice.startswith(done) else f"{done} {advice}"
    return ShareRefused(f"Drive refused to share the folder{_with(address)}: {error}", advice=advice)


def _with(address: str | None) -> str:
    return f" with {address}" if address else ""
