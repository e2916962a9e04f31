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
from typing import Any
from urllib.parse import urlsplit

from driveshard.core.errors import (
    AuthError,
    BadRequest,
    Blocked,
    ConfigError,
    DailyCap,
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
_MESSAGE = 500  # characters of Drive's own words that are shown


@dataclass(frozen=True, slots=True)
class Answer:
    """A failed reply, read. ``reasons`` are all the words that Drive names its refusal by, the most telling first;
    ``parameter`` is the one it found wanting. They are empty when the body was not Drive's JSON: ``html`` says that it
    was a page, ``cut`` that it began as JSON and is none."""

    status: int
    reasons: tuple[str, ...]
    message: str
    retry_after: float | None
    html: bool
    parameter: str = ""
    location: str = ""
    cut: bool = False

    @property
    def reason(self) -> str:
        """The most telling one, or empty."""
        return next(iter(self.reasons), "")


def read_answer(status: int, headers: Mapping[str, str], body: bytes) -> Answer:
    """Pick reasons and message out of a reply of any form. ``headers`` have lower-case names."""
    text = body[:65_536].decode("utf-8", "replace")
    error = _error_of(text)
    retry_after = _retry_after(headers.get("retry-after"), headers.get("date"))
    location = headers.get("location", "")
    if error is None:
        if text.lstrip().startswith("{"):  # cut short; what is left of it may still tell
            said = tuple(re.findall(r'"reason"\s*:\s*"(\w{1,80})"', text[:_PAGE], re.ASCII))
            return Answer(
                status, said, _one_line(text[:_PAGE])[:200], retry_after, html=False, location=location, cut=True
            )
        html = "<html" in text.lower() or "text/html" in headers.get("content-type", "").lower()
        markup = r"<style.*?</style>|<[^<>]+>"
        message = re.sub(markup, " ", text[:_PAGE], flags=re.S)
        return Answer(status, (), _one_line(message)[:200], retry_after, html, location=location)
    message = _one_line(str(error.get("message") or ""))[:_MESSAGE]
    parameter = next((str(one["location"]) for one in _dicts(error, "errors") if one.get("location")), "")
    return Answer(status, _reasons(error), message, retry_after, False, parameter, location)


def _error_of(text: str) -> dict[str, Any] | None:
    """The ``error`` object of Drive's JSON; None when there is none."""
    try:
        document = json.loads(text)
    except (ValueError, RecursionError):
        return None
    error = document.get("error") if isinstance(document, dict) else None
    return error if isinstance(error, dict) else None


def _reasons(error: Mapping[str, Any]) -> tuple[str, ...]:
    """The older form's ``errors[].reason``, the newer form's ``details[].reason`` and its ``status``. A detail is the
    most telling: beside API_KEY_INVALID the older word is just "badRequest"."""
    found = [one.get("reason") for key in ("details", "errors") for one in _dicts(error, key)]
    return tuple(one for one in (*found, error.get("status")) if isinstance(one, str) and one)


def _dicts(error: Mapping[str, Any], key: str) -> list[dict[str, Any]]:
    found = error.get(key)
    return [one for one in found if isinstance(one, dict)] if isinstance(found, list) else []


def _one_line(text: str) -> str:
    """Without what would move a cursor: this comes from outside and goes to a screen."""
    return " ".join("".join(one if one.isprintable() else " " for one in text).split())


def _retry_after(value: str | None, date: str | None) -> float | None:
    """Seconds from a Retry-After header, which names seconds or a date; at most an hour is believed.

    A date is measured by the reply's own Date: this machine's clock may be wrong by any amount.
    """
    if not value:
        return None
    try:
        seconds = float(value)
    except ValueError:
        until, sent = _moment(value), _moment(date or "")
        if until is None:
            return None
        seconds = until - (time.time() if sent is None else sent)
    return min(max(0.0, seconds), _HOUR) if seconds == seconds else None


def _moment(value: str) -> float | None:
    """POSIX seconds of an HTTP date; None when it is none."""
    try:
        return email.utils.parsedate_to_datetime(value).timestamp()
    except (ValueError, TypeError, OverflowError, OSError):
        return None


def translate(status: int, headers: Mapping[str, str], body: bytes) -> DriveshardError:
    """The error that a failed reply stands for. Never raises, whatever the reply holds, and never calls a reply a bug
    of ours: what is not known here is said in Drive's own words."""
    answer = read_answer(status, headers, body)
    if 400 <= status < 500:
        return _kind_of(answer)(answer)
    if 300 <= status < 400:
        return _redirected(answer)
    return _passing(answer)


def _kind_of(answer: Answer) -> Callable[[Answer], DriveshardError]:
    """What a 4xx is, by the most telling thing that it says."""
    found = next((_BY_REASON[one] for one in answer.reasons if one in _BY_REASON), None)
    if found is None and not answer.html:
        found = next((kind for words, kind in _BY_MESSAGE if words in answer.message.lower()), None)
    if found is None:
        found = next((_BY_WORD[one] for one in answer.reasons if one in _BY_WORD), None)
    if found is None and answer.html and answer.status in (403, 429):
        found = _blocked
    if found is None and answer.cut and (answer.status == 403 or answer.status not in _BY_STATUS):
        found = _passing  # what it was about is lost, so it is asked again
    return found or _BY_STATUS.get(answer.status, _unknown)


def _unknown(answer: Answer) -> DriveshardError:
    return BadRequest(
        f"Drive refused the request: {answer.status}{_tail(answer)}",
        advice="It will not pass by itself; look up these words, which are Drive's own.",
        status=answer.status,
        reason=answer.reason,
        parameter=answer.parameter,
    )


def _proxy_login(answer: Answer) -> DriveshardError:
    """Never Drive's own answer."""
    return ConfigError(
        "a proxy on the way to Drive wants a name and a password" + _tail(answer),
        advice="Give them in HTTPS_PROXY: http://NAME:PASSWORD@HOST:PORT.",
    )


def _forbidden(answer: Answer) -> DriveshardError:
    said = answer.message or answer.reason or "no reason given"
    return Refused(f"Drive refused: {said}", advice="Look the message up; it will not pass by itself.")


def _redirected(answer: Answer) -> DriveshardError:
    try:
        host = _one_line(urlsplit(answer.location).hostname or "")[:100]
    except ValueError:
        host = ""
    return Unavailable(
        f"what answered is not Drive: it sends us elsewhere ({answer.status}{', ' + host if host else ''})",
        advice="Sign in to the network if it asks for that, or check the proxy; then run the same command again.",
    )


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


def _nobody(answer: Answer) -> DriveshardError:
    return AuthError(
        "Drive wants to know who asks" + _tail(answer),
        advice="Run `driveshard login`, or give an API key (--api-key KEY) for what is shared with anyone.",
    )


def _bad_key(answer: Answer) -> DriveshardError:
    return ConfigError(
        "Google does not accept the API key" + _tail(answer),
        advice="Check --api-key (DRIVESHARD_API_KEY): a key of a project with the Drive API, not restricted to others.",
    )


def _bad_project(answer: Answer) -> DriveshardError:
    return ConfigError(
        "the Google Cloud project of these credentials cannot be used" + _tail(answer),
        advice="Look at it in https://console.cloud.google.com/, or use credentials of another project.",
    )


def _too_long(answer: Answer) -> DriveshardError:
    return Refused(
        "Drive takes no property of more than 124 bytes" + _tail(answer),
        advice="Give a shorter --name; if that does not help, please report it.",
    )


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
    "RATE_LIMIT_EXCEEDED": _slow_down,
    "dailyLimitExceeded": _daily,
    "storageQuotaExceeded": _storage_full,
    "quotaExceeded": _storage_full,
    "teamDriveFileLimitExceeded": _folder_limit,
    "teamDriveHierarchyTooDeep": _folder_limit,
    "numChildrenInNonRootLimitExceeded": _folder_limit,
    "activeItemCreationLimitExceeded": _folder_limit,
    "myDriveHierarchyDepthLimitExceeded": _folder_limit,
    "propertyLengthLimitExceeded": _too_long,
    "insufficientParentPermissions": _parent_refused,
    "insufficientFilePermissions": _parent_refused,
    "appNotAuthorizedToFile": _parent_refused,
    "teamDriveMembershipRequired": _refused(
        "this login is not a member of that shared drive", "Ask its manager for access."
    ),
    "domainPolicy": _refused("the administrator has disabled Drive apps", "Ask the administrator to allow this app."),
    "insufficientPermissions": _wrong_scope,
    "ACCESS_TOKEN_SCOPE_INSUFFICIENT": _wrong_scope,
    "accessNotConfigured": _api_off,
    "SERVICE_DISABLED": _api_off,
    "authError": _log_in,
    "ACCESS_TOKEN_EXPIRED": _log_in,
    "ACCOUNT_STATE_INVALID": _log_in,
    "required": lambda answer: (_nobody if answer.status == 401 else _unknown)(answer),
    "CREDENTIALS_MISSING": _nobody,
    "dailyLimitExceededUnreg": _nobody,
    "keyInvalid": _bad_key,
    "keyExpired": _bad_key,
    "API_KEY_INVALID": _bad_key,
    "API_KEY_EXPIRED": _bad_key,
    "API_KEY_SERVICE_BLOCKED": _bad_key,
    "API_KEY_HTTP_REFERRER_BLOCKED": _bad_key,
    "API_KEY_IP_ADDRESS_BLOCKED": _bad_key,
    "API_KEY_ANDROID_APP_BLOCKED": _bad_key,
    "API_KEY_IOS_APP_BLOCKED": _bad_key,
    "BILLING_DISABLED": _bad_project,
    "CONSUMER_SUSPENDED": _bad_project,
    "CONSUMER_INVALID": _bad_project,
    "USER_PROJECT_DENIED": _bad_project,
    "notFound": _not_found,
    "fileIdInUse": _id_in_use,
    "publishOutNotPermitted": _share_refused,
    "shareOutNotPermitted": _share_refused,
    "invalidSharingRequest": _address_refused,
    "cannotShareTeamDriveTopFolderWithAnyoneOrDomains": _share_refused,
    "teamDrivesSharingRestrictionNotAllowed": _share_refused,
    "downloadQuotaExceeded": _download_cap,
    "cannotDownloadAbusiveFile": _refused("Drive holds this file for harmful", "Only its owner can download it."),
    "abuse": _refused("Drive holds this file for harmful", "Only its owner can download it."),
    "fileNotDownloadable": _refused("Drive does not let this file be downloaded", "Ask its owner."),
    "cannotDownloadFile": _refused("Drive does not let this file be downloaded", "Ask its owner."),
}

# Where the reasons are silent or say only "forbidden" and "badRequest": words of the message, in lower case.
_BY_MESSAGE: tuple[tuple[str, Callable[[Answer], DriveshardError]], ...] = (
    ("unregistered callers", _nobody),
    ("api key not valid", _bad_key),
    ("api key expired", _bad_key),
    ("insufficient authentication scopes", _wrong_scope),
    ("has not been used in project", _api_off),
    ("storage quota", _storage_full),
    ("quota exceeded for quota metric", _slow_down),
    ("rate limit exceeded", _slow_down),
)

# The newer form's ``status``, which says less than any reason.
_BY_WORD: dict[str, Callable[[Answer], DriveshardError]] = {
    "RESOURCE_EXHAUSTED": _slow_down,
    "UNAUTHENTICATED": _log_in,
    "NOT_FOUND": _not_found,
    "ALREADY_EXISTS": _id_in_use,
}

_BY_STATUS: dict[int, Callable[[Answer], DriveshardError]] = {
    401: _log_in,
    403: _forbidden,
    404: _not_found,
    407: _proxy_login,
    408: _passing,
    409: _id_in_use,  # the reason's name is not certain, the status is
    410: _not_found,
    429: _slow_down,
}
