"""What Drive answers, row by row of its guide "Resolve errors" and of what users report, and the kind it becomes."""

from __future__ import annotations

import email.utils
import json
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

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
from driveshard.storage.drive.errors import read_answer, translate

JSON = {"content-type": "application/json; charset=UTF-8"}
HTML = {"content-type": "text/html; charset=UTF-8"}
SORRY = b"<html><head><title>Sorry...</title></head><body><h1>We're sorry...</h1>automated queries</body></html>"
BAD_GATEWAY = b"<!DOCTYPE html><html lang=en><title>Error 502 (Server Error)!!1</title><p><b>502.</b></html>"


def body(status: int, reason: str, message: str = "") -> bytes:
    error = {"domain": "global", "reason": reason, "message": message}
    return json.dumps({"error": {"errors": [error], "code": status, "message": message}}).encode()


NO_QUOTA = "Service Accounts do not have storage quota. Leverage shared drives, or use OAuth delegation instead."

ROWS = [
    (407, "", "Proxy Authentication Required", ConfigError),
    (400, "badRequest", "Bad Request", BadRequest),
    (400, "invalid", "Invalid Value", BadRequest),
    (400, "required", "The permission type field is required.", BadRequest),
    (400, "badRequest", "API key not valid. Please pass a valid API key.", ConfigError),
    (400, "keyInvalid", "Bad Request", ConfigError),
    (400, "keyExpired", "API key expired. Please renew the API key.", ConfigError),
    (403, "dailyLimitExceededUnreg", "Daily Limit for Unauthenticated Use Exceeded.", AuthError),
    (403, "propertyLengthLimitExceeded", "Properties and app properties are limited to 124 bytes", Refused),
    (403, "generatedIdNotSupported", "Generated IDs are not supported for Docs Editors formats", Refused),
    (403, "abuse", "This file has been identified as malware or spam", Refused),
    (400, "invalidSharingRequest", 'Bad Request. User message: "no"', ShareRefused),
    (401, "authError", "Invalid Credentials", AuthError),
    (401, "required", "Login Required.", AuthError),
    (403, "userRateLimitExceeded", "User Rate Limit Exceeded. Rate of requests...", Throttled),
    (403, "userRateLimitExceeded", "User rate limit exceeded.", Throttled),
    (403, "rateLimitExceeded", "Rate Limit Exceeded", Throttled),
    (429, "rateLimitExceeded", "Rate Limit Exceeded", Throttled),
    (403, "dailyLimitExceeded", "Daily Limit Exceeded", DailyCap),
    (403, "sharingRateLimitExceeded", "Rate limit exceeded. User message: ...", Throttled),
    (403, "storageQuotaExceeded", "The user's Drive storage quota has been exceeded.", StorageFull),
    (403, "storageQuotaExceeded", NO_QUOTA, StorageFull),
    (403, "quotaExceeded", "The user has exceeded their Drive storage quota", StorageFull),
    (403, "teamDriveFileLimitExceeded", "", Refused),
    (403, "teamDriveHierarchyTooDeep", "", Refused),
    (403, "numChildrenInNonRootLimitExceeded", "", Refused),
    (403, "activeItemCreationLimitExceeded", "", Refused),
    (403, "myDriveHierarchyDepthLimitExceeded", "", Refused),
    (403, "insufficientFilePermissions", "The user does not have sufficient permissions for file x.", Refused),
    (403, "insufficientParentPermissions", "Insufficient permissions for the specified parent.", Refused),
    (403, "appNotAuthorizedToFile", "The user has not granted the app 1 write access to the file x.", Refused),
    (403, "domainPolicy", "The domain administrators have disabled Drive apps.", Refused),
    (403, "teamDriveMembershipRequired", "The attempted action requires shared drive membership.", Refused),
    (403, "insufficientPermissions", "Insufficient Permission", AuthError),
    (403, "accessNotConfigured", "Drive API has not been used in project", ConfigError),
    (403, "downloadQuotaExceeded", "The download quota for this file has been exceeded.", DailyCap),
    (403, "cannotDownloadAbusiveFile", "", Refused),
    (403, "fileNotDownloadable", "", Refused),
    (403, "cannotDownloadFile", "", Refused),
    (403, "publishOutNotPermitted", "", ShareRefused),
    (400, "publishOutNotPermitted", "", ShareRefused),
    (403, "shareOutNotPermitted", "", ShareRefused),
    (403, "cannotShareTeamDriveTopFolderWithAnyoneOrDomains", "", ShareRefused),
    (403, "teamDrivesSharingRestrictionNotAllowed", "", ShareRefused),
    (403, "somethingNewOfGoogles", "Something new", Refused),
    (404, "notFound", "File not found: x.", NotFound),
    (409, "fileIdInUse", "A file already exists with the provided ID.", IdInUse),
    (409, "duplicate", "A file already exists with the provided ID.", IdInUse),
    (410, "deleted", "", NotFound),
    (500, "backendError", "Backend Error", Unavailable),
    (500, "internalError", "Internal Error", Unavailable),
    (502, "backendError", "", Unavailable),
    (503, "backendError", "Service Unavailable", Unavailable),
    (503, "rateLimitExceeded", "", Unavailable),
    (504, "", "", Unavailable),
    (408, "", "", Unavailable),
    (412, "conditionNotMet", "Precondition Failed", BadRequest),
    (413, "uploadTooLarge", "Request Too Large", BadRequest),
    (416, "requestedRangeNotSatisfiable", "Request range not satisfiable", BadRequest),
    (418, "teapot", "", BadRequest),
    (499, "", "", BadRequest),
]


@pytest.mark.parametrize(("status", "reason", "message", "kind"), ROWS)
def test_every_row_of_the_table(status: int, reason: str, message: str, kind: type[DriveshardError]) -> None:
    error = translate(status, JSON, body(status, reason, message))
    assert type(error) is kind
    assert error.message


@pytest.mark.parametrize(
    ("status", "headers", "content", "kind"),
    [
        (502, HTML, BAD_GATEWAY, Unavailable),
        (408, HTML, b"<html>Error 408 (Request Timeout)!!1</html>", Unavailable),
        (429, HTML, SORRY, Blocked),
        (403, HTML, SORRY, Blocked),
        (429, {}, b"", Throttled),
        (403, {}, b"", Refused),
        (401, {}, b"", AuthError),
        (404, HTML, b"<html>Not Found</html>", NotFound),
        (409, {}, b"not json", IdInUse),
        (503, {"content-type": "text/plain"}, b"Invalid request.  According to the Content-Range header,", Unavailable),
        (400, {}, b"Failed to parse Content-Range header.", BadRequest),
        (302, {"location": "http://portal.example/login"}, b"", Unavailable),
        (307, {"location": "http://[::1"}, b"", Unavailable),
        (304, {}, b"", Unavailable),
        (206, {}, b"", Unavailable),
        (407, HTML, b"<html>proxy</html>", ConfigError),
    ],
)
def test_replies_that_are_not_drives_json(
    status: int, headers: dict[str, str], content: bytes, kind: type[DriveshardError]
) -> None:
    assert type(translate(status, headers, content)) is kind


def newer(status: int, word: str, message: str, *reasons: str) -> bytes:
    """The form without ``errors``."""
    details = [{"@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": one} for one in reasons]
    return json.dumps({"error": {"code": status, "message": message, "status": word, "details": details}}).encode()


UNREGISTERED = "Method doesn't allow unregistered callers (callers without established identity)."
METRIC = "Quota exceeded for quota metric 'Queries' and limit 'Queries per minute' of service 'drive.googleapis.com'"

NEWER = [
    (400, "INVALID_ARGUMENT", "API key not valid. Please pass a valid API key.", ("API_KEY_INVALID",), ConfigError, 78),
    (400, "INVALID_ARGUMENT", "API key expired. Please renew the API key.", (), ConfigError, 78),
    (400, "INVALID_ARGUMENT", "Invalid value", (), BadRequest, 79),
    (400, "FAILED_PRECONDITION", "Not now", (), BadRequest, 79),
    (401, "UNAUTHENTICATED", "Request had invalid authentication credentials.", (), AuthError, 77),
    (401, "UNAUTHENTICATED", "Missing", ("CREDENTIALS_MISSING",), AuthError, 77),
    (403, "PERMISSION_DENIED", UNREGISTERED, (), AuthError, 77),
    (403, "PERMISSION_DENIED", "Requests to this API are blocked.", ("API_KEY_SERVICE_BLOCKED",), ConfigError, 78),
    (403, "PERMISSION_DENIED", "Requests from this IP", ("API_KEY_IP_ADDRESS_BLOCKED",), ConfigError, 78),
    (403, "PERMISSION_DENIED", "The API is disabled", ("SERVICE_DISABLED",), ConfigError, 78),
    (403, "PERMISSION_DENIED", "Consumer suspended", ("CONSUMER_SUSPENDED",), ConfigError, 78),
    (403, "PERMISSION_DENIED", "Scopes", ("ACCESS_TOKEN_SCOPE_INSUFFICIENT",), AuthError, 77),
    (403, "PERMISSION_DENIED", "Request had insufficient authentication scopes.", (), AuthError, 77),
    (403, "PERMISSION_DENIED", METRIC, ("RATE_LIMIT_EXCEEDED",), Throttled, 69),
    (403, "PERMISSION_DENIED", METRIC, (), Throttled, 69),
    (403, "PERMISSION_DENIED", "User rate limit exceeded.", ("userRateLimitExceeded",), Throttled, 69),
    (429, "RESOURCE_EXHAUSTED", "Resource has been exhausted", (), Throttled, 69),
    (403, "RESOURCE_EXHAUSTED", "The user's Drive storage quota has been exceeded.", (), StorageFull, 79),
    (403, "PERMISSION_DENIED", "The caller does not have permission", (), Refused, 79),
    (404, "NOT_FOUND", "File not found: x.", (), NotFound, 66),
    (409, "ALREADY_EXISTS", "Requested entity already exists", (), IdInUse, 69),
    (500, "INTERNAL", "Internal error encountered.", (), Unavailable, 69),
    (503, "UNAVAILABLE", "The service is currently unavailable.", (), Unavailable, 69),
]


@pytest.mark.parametrize(("status", "word", "message", "reasons", "kind", "code"), NEWER)
def test_the_newer_form_is_read_by_its_details_and_status(
    status: int, word: str, message: str, reasons: tuple[str, ...], kind: type[DriveshardError], code: int
) -> None:
    error = translate(status, JSON, newer(status, word, message, *reasons))
    assert (type(error), error.exit_code) == (kind, code)
    assert error.advice or isinstance(error, Throttled | Unavailable | IdInUse)


def test_a_detail_says_more_than_the_older_word_beside_it() -> None:
    both = json.loads(newer(403, "PERMISSION_DENIED", "Blocked", "API_KEY_SERVICE_BLOCKED"))
    both["error"]["errors"] = [{"reason": "forbidden", "message": "Blocked", "domain": "global"}]
    assert type(translate(403, JSON, json.dumps(both).encode())) is ConfigError


@pytest.mark.parametrize("status", [one for one in range(300, 600) if one != 308])
def test_no_reply_is_a_bug_of_ours(status: int) -> None:
    error = translate(status, {}, b"")
    assert error.exit_code != 70
    assert "bug" not in error.advice


def test_an_unknown_refusal_says_what_drive_said() -> None:
    error = translate(400, JSON, body(400, "invalid", "Invalid Value"))
    assert error.message == "Drive refused the request: 400 (Invalid Value)"
    assert error.exit_code == 79


def test_the_parameter_that_drive_found_wanting_is_kept() -> None:
    document = json.loads(body(400, "invalid", "Invalid Value"))
    document["error"]["errors"][0] |= {"locationType": "other", "location": "fileId"}
    error = translate(400, JSON, json.dumps(document).encode())
    assert isinstance(error, BadRequest)
    assert (error.status, error.reason, error.parameter) == (400, "invalid", "fileId")


def test_a_redirect_names_the_host_it_leads_to() -> None:
    error = translate(302, {"location": "https://portal.example/login?secret=1"}, b"")
    assert "portal.example" in error.message
    assert "secret" not in error.message


@pytest.mark.parametrize("words", ["\x1b]0;owned\x07x", "\x9b2J", "a\nb\rc", "\u202eabc"])
def test_what_drive_says_cannot_move_the_cursor(words: str) -> None:
    for content in (body(400, "invalid", words), words.encode(), newer(403, words, words, words)):
        assert translate(400, {}, content).message.isprintable()


@pytest.mark.parametrize(("status", "reason", "message", "kind"), ROWS)
def test_who_must_do_something_is_told_what(
    status: int, reason: str, message: str, kind: type[DriveshardError]
) -> None:
    error = translate(status, JSON, body(status, reason, message))
    if not isinstance(error, Throttled | Unavailable | IdInUse):
        assert error.advice
        assert error.advice.endswith((".", ")"))


def test_only_the_text_with_a_full_stop_may_mean_the_day() -> None:
    for message, daily in (("User rate limit exceeded.", True), ("User Rate Limit Exceeded. Rate of...", False)):
        error = translate(403, JSON, body(403, "userRateLimitExceeded", message))
        assert isinstance(error, Throttled)
        assert error.perhaps_daily is daily


def test_a_service_account_is_told_that_it_has_no_storage() -> None:
    assert "service account" in str(translate(403, JSON, body(403, "storageQuotaExceeded", NO_QUOTA)))


@pytest.mark.parametrize(
    ("reason", "status", "hours"), [("dailyLimitExceeded", 403, 24), ("downloadQuotaExceeded", 403, 24)]
)
def test_a_cap_says_when_to_come_back(reason: str, status: int, hours: int) -> None:
    error = translate(status, JSON, body(status, reason))
    assert isinstance(error, DailyCap)
    assert error.resume_after == pytest.approx(time.time() + hours * 3600, abs=5)


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        ("7", 7),
        ("0", 0),
        (" 12 ", 12),
        ("-5", 0),
        ("86400", 3600),
        ("1e99", 3600),
        ("inf", 3600),
        ("nan", None),
        ("", None),
        ("soon", None),
        ("Mon, 32 Foo 2026 99:99:99 GMT", None),
        ("Mon, ", None),
        ("Mon, 01 Jan 0001 00:00:00 GMT", 0),
        ("Fri, 31 Dec 9999 23:59:59 GMT", 3600),
        ("Fri, 31 Dec 9999 23:59:59 -2359", 3600),
        ("Mon, 01 Jan 0001 00:00:00 -0000", 0),
    ],
)
def test_retry_after_is_read_whatever_it_says(header: str, seconds: float | None) -> None:
    assert read_answer(503, {"retry-after": header}, b"").retry_after == seconds
    error = translate(503, {"retry-after": header}, b"")
    assert isinstance(error, Unavailable)


@pytest.mark.parametrize("wrong_by", [-86_400, -600, 0, 600, 86_400])
def test_a_date_to_retry_after_is_measured_by_the_replys_own(wrong_by: float) -> None:
    """This machine's clock may be wrong by any amount."""
    sent = time.time() + wrong_by
    headers = {"date": email.utils.formatdate(sent, usegmt=True)}
    headers["retry-after"] = email.utils.formatdate(sent + 30, usegmt=True)
    assert read_answer(429, headers, b"").retry_after == 30


@pytest.mark.parametrize("date", [None, "", "soon"])
def test_without_the_replys_date_this_machines_clock_measures(date: str | None) -> None:
    headers = {"retry-after": email.utils.formatdate(time.time() + 30, usegmt=True)}
    if date is not None:
        headers["date"] = date
    assert read_answer(429, headers, b"").retry_after == pytest.approx(30, abs=2)


@pytest.mark.parametrize(
    "content",
    [
        b"[" * 60_000,
        b'{"error": ' * 8000,
        b"<" * 65_536,
        b"<style" * 10_000,
        b'{"error": "invalid_grant"}',
        b'{"error": {"errors": {}, "message": 5}}',
        b'{"error": {"errors": [[]]}}',
        b'{"error": null}',
        b"null",
        b"\xff\xfe\x00",
    ],
)
def test_odd_bodies_are_read_quickly(content: bytes) -> None:
    began = time.perf_counter()
    assert isinstance(translate(403, JSON, content), DriveshardError)
    assert time.perf_counter() - began < 0.5


def test_a_page_becomes_a_short_message_without_markup() -> None:
    answer = read_answer(502, HTML, BAD_GATEWAY + b"<style>p { color: red }</style>" + b"x" * 5000)
    assert answer.message.startswith("Error 502 (Server Error)!!1")
    assert "color" not in answer.message
    assert len(answer.message) <= 200


KEYS = ["error", "errors", "reason", "message", "code", "domain"]
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(KEYS), inner, max_size=4),
    max_leaves=12,
)


@given(
    status=st.integers(100, 599),
    headers=st.dictionaries(st.sampled_from(["retry-after", "content-type", "x"]), st.text(max_size=40)),
    content=st.binary(max_size=200) | VALUES.map(lambda value: json.dumps(value).encode()),
)
def test_whatever_comes_becomes_an_error_of_ours(status: int, headers: dict[str, str], content: bytes) -> None:
    error = translate(status, headers, content)
    assert isinstance(error, DriveshardError)
    assert error.message
