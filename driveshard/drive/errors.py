"""The one table from what Drive answers to the kind of error that the rest of driveshard knows.

Sources: the Drive guides "Resolve errors" and "Usage limits" (2026), and replies reported by users where the guide
is silent. Drive's body need not be JSON (proxies and abuse blocks answer in HTML), and one reason,
``userRateLimitExceeded``, means both "slow down" and "that was all for today".
"""

from __future__ import annotations

import email.utils
import json
import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from driveshard.errors import (
    AuthError,
    Blocked,
    ConfigError,
    DailyCap,
    Defect,
    DriveshardError,
    IdInUse,
    NotFound,
    Refused,
    ShareRefused,
    StorageFull,
    Throttled,
    Unavailable,
)

_HOUR = 3600.0
_PAGE = 8192  # characters of an HTML page that are looked at


@dataclass(frozen=True, slots=True)
class Answer:
    """A failed reply, read: ``reason`` and ``message`` are empty when the body was not Drive's JSON."""

    status: int
    reason: str
    message: str
    retry_after: float | None
    html: bool


def read_answer(status: int, headers: Mapping[str, str], body: bytes) -> Answer:
    """Pick reason and message out of a reply of any form. ``headers`` have lower-case names."""
    text = body[:65_536].decode("utf-8", "replace")
    reason = message = ""
    try:
        error = json.loads(text)["error"]
        message = str(error.get("message") or "")
        reason = str((error.get("errors") or [{}])[0].get("reason") or "")
    except (ValueError, KeyError, TypeError, AttributeError, IndexError, RecursionError):
        markup = r"<style.*?</style>|<[^<>]+>"
        message = re.sub(r"\s+", " ", re.sub(markup, " ", text[:_PAGE], flags=re.S)).strip()[:200]
    html = "<html" in text.lower() or "text/html" in headers.get("content-type", "").lower()
    return Answer(status, reason, message, _retry_after(headers.get("retry-after")), html)


def _retry_after(value: str | None) -> float | None:
    """Seconds from a Retry-After header, which names seconds or a date; at most an hour is believed."""
    if not value:
        return None
    try:
        seconds = float(value)
    except ValueError:
        try:
            seconds = email.utils.parsedate_to_datetime(value).timestamp() - time.time()
        except (ValueError, OverflowError, OSError):
            return None
    return min(max(0.0, seconds), _HOUR) if seconds == seconds else None


def translate(status: int, headers: Mapping[str, str], body: bytes) -> DriveshardError:
    """The error that a failed reply stands for. Never raises, whatever the reply holds."""
    answer = read_answer(status, headers, body)
    by_reason = _BY_REASON.get(answer.reason)
    if by_reason is not None and 400 <= status < 500:
        return by_reason(answer)
    if status == 429 and answer.html:
        return _blocked(answer)
    by_status = _BY_STATUS.get(status)
    if by_status is not None:
        return by_status(answer)
    if status >= 500:
        return Unavailable(f"Drive answered {status}{_tail(answer)}", retry_after=answer.retry_after)
    if status == 403 and answer.html:
        return _blocked(answer)
    if status == 403:
        return Refused(
            f"Drive refused: {answer.message or 'no reason given'}",
            advice="Look the message up; it will not pass by itself.",
        )
    return Defect(f"Drive answered {status}{_tail(answer)}, which driveshard did not expect")


def _tail(answer: Answer) -> str:
    said = answer.message or answer.reason
    return f" ({said})" if said else ""


def _slow_down(answer: Answer) -> DriveshardError:
    # The lower-case text with a full stop is what the 750 GB cap is seen to answer; short bursts give it too.
    perhaps_daily = answer.message.startswith("User rate limit exceeded.")
    return Throttled("Drive asks to slow down", retry_after=answer.retry_after, perhaps_daily=perhaps_daily)


def _daily(answer: Answer) -> DriveshardError:
    return DailyCap("Drive's limit for today is used up", resume_after=time.time() + 24 * _HOUR)


def _blocked(answer: Answer) -> DriveshardError:
    return Blocked(
        "Drive takes this machine's requests for automated traffic and has blocked them for now",
        resume_after=time.time() + _HOUR,
    )


def _storage_full(answer: Answer) -> DriveshardError:
    if "service account" in answer.message.lower():
        return StorageFull(
            "service accounts have no storage of their own on Drive",
            advice="Log in as a person (`driveshard login`), or push into a shared drive: --to drive:FOLDER_ID.",
        )
    return StorageFull("the Drive storage is full")


def _refused(message: str, advice: str) -> Callable[[Answer], DriveshardError]:
    return lambda answer: Refused(message + _tail(answer), advice=advice)


def _share_refused(answer: Answer) -> DriveshardError:
    return ShareRefused("the Drive administrator does not allow this sharing" + _tail(answer), by_policy=True)


def _address_refused(answer: Answer) -> DriveshardError:
    return ShareRefused("Drive cannot share with that address" + _tail(answer), advice="Check the address or domain.")


def _folder_limit(answer: Answer) -> DriveshardError:
    return Refused(
        "the Drive folder or account has reached its limit of items" + _tail(answer),
        advice="Push into another folder (--to drive:FOLDER_ID), or delete what is not needed.",
    )


def _parent_refused(answer: Answer) -> DriveshardError:
    return Refused(
        "driveshard may not write into that folder" + _tail(answer),
        advice="Leave --to out (driveshard makes its own folder), or run `driveshard login --scope drive`.",
    )


def _not_found(answer: Answer) -> DriveshardError:
    return NotFound(
        answer.message or "Drive does not know that file",
        advice="It was deleted, or this login may not see it. Check the id and the account.",
    )


def _log_in(answer: Answer) -> DriveshardError:
    return AuthError("Drive does not accept the login" + _tail(answer))


def _wrong_scope(answer: Answer) -> DriveshardError:
    return AuthError("the login does not allow this" + _tail(answer), advice="Run `driveshard login` again.")


def _api_off(answer: Answer) -> DriveshardError:
    return ConfigError(
        "the Drive API is not enabled in the Google Cloud project of these credentials",
        advice="Enable it at https://console.cloud.google.com/apis/library/drive.googleapis.com, then run again.",
    )


def _download_cap(answer: Answer) -> DriveshardError:
    return DailyCap("too many have downloaded this file from Drive today", resume_after=time.time() + 24 * _HOUR)


def _passing(answer: Answer) -> DriveshardError:
    return Unavailable(f"Drive answered {answer.status}{_tail(answer)}", retry_after=answer.retry_after)


def _id_in_use(answer: Answer) -> DriveshardError:
    return IdInUse("Drive has a file with that id")


_BY_REASON: dict[str, Callable[[Answer], DriveshardError]] = {
    "userRateLimitExceeded": _slow_down,
    "rateLimitExceeded": _slow_down,
    "sharingRateLimitExceeded": _slow_down,
    "dailyLimitExceeded": _daily,
    "storageQuotaExceeded": _storage_full,
    "quotaExceeded": _storage_full,
    "teamDriveFileLimitExceeded": _folder_limit,
    "teamDriveHierarchyTooDeep": _folder_limit,
    "numChildrenInNonRootLimitExceeded": _folder_limit,
    "activeItemCreationLimitExceeded": _folder_limit,
    "myDriveHierarchyDepthLimitExceeded": _folder_limit,
    "insufficientParentPermissions": _parent_refused,
    "insufficientFilePermissions": _parent_refused,
    "appNotAuthorizedToFile": _parent_refused,
    "teamDriveMembershipRequired": _refused(
        "this login is not a member of that shared drive", "Ask its manager for access."
    ),
    "domainPolicy": _refused("the administrator has disabled Drive apps", "Ask the administrator to allow this app."),
    "insufficientPermissions": _wrong_scope,
    "accessNotConfigured": _api_off,
    "authError": _log_in,
    "notFound": _not_found,
    "fileIdInUse": _id_in_use,
    "publishOutNotPermitted": _share_refused,
    "shareOutNotPermitted": _share_refused,
    "invalidSharingRequest": _address_refused,
    "cannotShareTeamDriveTopFolderWithAnyoneOrDomains": _share_refused,
    "teamDrivesSharingRestrictionNotAllowed": _share_refused,
    "downloadQuotaExceeded": _download_cap,
    "cannotDownloadAbusiveFile": _refused("Drive holds this file for harmful", "Only its owner can download it."),
    "fileNotDownloadable": _refused("Drive does not let this file be downloaded", "Ask its owner."),
    "cannotDownloadFile": _refused("Drive does not let this file be downloaded", "Ask its owner."),
}

_BY_STATUS: dict[int, Callable[[Answer], DriveshardError]] = {
    401: _log_in,
    404: _not_found,
    408: _passing,
    409: _id_in_use,  # the reason's name is not certain, the status is
    410: _not_found,
    429: _slow_down,
}
