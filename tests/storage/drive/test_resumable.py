"""The resumable upload's requests and every reply it can get, without a socket."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from driveshard.core.errors import (
    AuthError,
    DailyCap,
    Defect,
    DriveshardError,
    IdInUse,
    Refused,
    StorageFull,
    Throttled,
    Unavailable,
)
from driveshard.storage.drive.resumable import (
    CHUNK_UNIT,
    Done,
    Gone,
    Offset,
    Outcome,
    Reply,
    Wait,
    chunk_request,
    query_request,
    read_reply,
)

SIZE = 10 * CHUNK_UNIT + 17
URI = "https://www.googleapis.com/upload/drive/v3/files?upload_id=secret"
GAP = (
    b"Invalid request.  According to the Content-Range header, the upload offset is 524288 byte(s), which exceeds"
    b" already uploaded size of 262144 byte(s)."
)


def refusal(status: int, reason: str) -> bytes:
    return json.dumps({"error": {"errors": [{"reason": reason}], "code": status, "message": "m"}}).encode()


# -- requests ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("offset", "length", "expected"),
    [
        (0, CHUNK_UNIT, f"bytes 0-{CHUNK_UNIT - 1}/{SIZE}"),
        (CHUNK_UNIT, 4 * CHUNK_UNIT, f"bytes {CHUNK_UNIT}-{5 * CHUNK_UNIT - 1}/{SIZE}"),
        (10 * CHUNK_UNIT, 17, f"bytes {10 * CHUNK_UNIT}-{SIZE - 1}/{SIZE}"),
        (0, SIZE, f"bytes 0-{SIZE - 1}/{SIZE}"),
        (5, CHUNK_UNIT, f"bytes 5-{CHUNK_UNIT + 4}/{SIZE}"),
    ],
)
def test_a_chunk_names_its_place(offset: int, length: int, expected: str) -> None:
    request = chunk_request(URI, offset, bytes(length), SIZE)
    assert (request.method, request.uri, request.headers["Content-Range"]) == ("PUT", URI, expected)
    assert len(request.body or b"") == length


@pytest.mark.parametrize(
    ("offset", "length"), [(0, 0), (0, CHUNK_UNIT - 1), (0, CHUNK_UNIT + 1), (10 * CHUNK_UNIT, 18), (SIZE, 1)]
)
def test_a_chunk_that_drive_would_not_take_is_never_sent(offset: int, length: int) -> None:
    with pytest.raises(Defect):
        chunk_request(URI, offset, bytes(length), SIZE)


def test_a_query_has_no_bytes() -> None:
    request = query_request(URI, SIZE)
    assert (request.method, request.body, request.headers["Content-Range"]) == ("PUT", b"", f"bytes */{SIZE}")


# -- replies -------------------------------------------------------------------------------------------------------

OUTCOMES: list[tuple[int, dict[str, str], bytes, Outcome]] = [
    (308, {"range": "bytes=0-262143"}, b"", Offset(262144)),
    (308, {"range": "0-262143"}, b"", Offset(262144)),
    (308, {"range": " bytes=0-0 "}, b"", Offset(1)),
    (308, {"range": f"bytes=0-{SIZE - 1}"}, b"", Offset(SIZE)),
    (308, {"range": "bytes=0-2359295", "x-range-md5": "x"}, b"", Offset(2359296)),
    (308, {}, b"", Offset(0)),
    (308, {"range": ""}, b"", Offset(0)),
    (200, {"x-http-status-code-override": "308", "range": "bytes=0-262143"}, b"", Offset(262144)),
    (200, {"x-http-status-code-override": "308"}, b"", Offset(0)),
    (200, {}, b'{"id": "x", "size": "5"}', Done({"id": "x", "size": "5"})),
    (201, {}, b'{"id": "x"}', Done({"id": "x"})),
    (200, {}, b"", Done({})),
    (200, {}, b'{"id": "x', Done({})),
    (200, {}, b"[1]", Done({})),
    (200, {}, b"[" * 60_000, Done({})),
    (200, {}, b"\xff\xff", Done({})),
]


@pytest.mark.parametrize(("status", "headers", "body", "outcome"), OUTCOMES)
def test_what_the_server_holds_is_believed(status: int, headers: dict[str, str], body: bytes, outcome: Outcome) -> None:
    assert read_reply(Reply(status, headers, body), SIZE) == outcome


@pytest.mark.parametrize(
    ("status", "headers", "body"),
    [
        (404, {}, b"Not Found"),
        (404, {"content-type": "application/json"}, refusal(404, "notFound")),
        (410, {}, b"Gone"),
        (400, {}, b"Failed to parse Content-Range header."),
        (400, {}, b"The number of bytes uploaded is required to be equal or greater than 262144"),
        (499, {}, b""),
        (412, {}, b""),
        (308, {"range": f"bytes=0-{SIZE}"}, b""),
        (308, {"range": "bytes=5-10"}, b""),
        (308, {"range": "bytes=0--1"}, b""),
        (308, {"range": "bytes=0-" + "9" * 30}, b""),
        (308, {"range": "bytes=0-\u0663"}, b""),
        (308, {"range": "everything"}, b""),
    ],
)
def test_a_session_that_is_of_no_use_is_gone(status: int, headers: dict[str, str], body: bytes) -> None:
    assert isinstance(read_reply(Reply(status, headers, body), SIZE), Gone)


@pytest.mark.parametrize(
    ("status", "body", "kind"),
    [
        (503, GAP, Unavailable),
        (500, b"", Unavailable),
        (502, b"<html>Error 502 (Server Error)!!1</html>", Unavailable),
        (408, b"", Unavailable),
        (429, refusal(429, "rateLimitExceeded"), Throttled),
        (403, refusal(403, "userRateLimitExceeded"), Throttled),
        (403, refusal(403, "dailyLimitExceeded"), DailyCap),
        (403, refusal(403, "storageQuotaExceeded"), StorageFull),
        (403, refusal(403, "somethingNew"), Refused),
        (401, refusal(401, "authError"), AuthError),
        (409, refusal(409, "fileIdInUse"), IdInUse),
    ],
)
def test_what_is_about_account_or_pace_says_nothing_of_the_bytes(
    status: int, body: bytes, kind: type[DriveshardError]
) -> None:
    outcome = read_reply(Reply(status, {}, body), SIZE)
    assert isinstance(outcome, Wait)
    assert type(outcome.error) is kind


HEADERS = st.dictionaries(
    st.sampled_from(["range", "x-http-status-code-override", "content-type", "retry-after", "location"]),
    st.text(max_size=30)
    | st.sampled_from(
        ["308", "text/html", "bytes=0-1", "0-5", "bytes=0-99999999999999", "Mon, 1 Jan 2026 00:00:00 GMT"]
    ),
)
JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=10),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["error", "errors", "reason", "message", "id", "size"]), inner, max_size=3)
    ),
    max_leaves=10,
)
BODIES = st.binary(max_size=300) | JSON_VALUES.map(lambda value: json.dumps(value).encode())


@given(status=st.integers(0, 999), headers=HEADERS, body=BODIES, size=st.integers(1, 2**50))
def test_any_reply_is_one_of_the_named_outcomes(status: int, headers: dict[str, str], body: bytes, size: int) -> None:
    outcome = read_reply(Reply(status, headers, body), size)

    assert isinstance(outcome, Offset | Done | Gone | Wait)
    if isinstance(outcome, Offset):
        assert 0 <= outcome.value <= size
    if isinstance(outcome, Done):
        assert status in (200, 201)
    if isinstance(outcome, Wait):
        assert isinstance(outcome.error, DriveshardError)
