"""Drive's resumable upload without any I/O: build the next request, read the reply.

The rule throughout is to believe the server: it may keep fewer bytes than were sent, or have finished although the
reply was lost. ``read_reply`` turns any reply into one of four outcomes and never raises.

Source: the guide "Upload file data"; what it leaves open is read as every outcome it allows.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from driveshard.core.errors import BadRequest, Defect, DriveshardError, NotFound
from driveshard.storage.drive.errors import translate

CHUNK_UNIT = 256 * 1024
WEEK = 7 * 86_400.0


@dataclass(frozen=True, slots=True)
class Request:
    """``body`` is held whole, so that it can be sent again after a refreshed token. ``window`` (start, length) says
    which bytes of the reply are wanted when it is a file's content."""

    method: str
    uri: str
    headers: Mapping[str, str]
    body: bytes | memoryview | None = None
    window: tuple[int, int] | None = None


@dataclass(frozen=True, slots=True)
class Reply:
    """``headers`` have lower-case names."""

    status: int
    headers: Mapping[str, str]
    body: bytes


@dataclass(frozen=True, slots=True)
class Offset:
    """The server holds the first ``value`` bytes."""

    value: int


@dataclass(frozen=True, slots=True)
class Done:
    """The file is stored; ``fields`` is Drive's description of it (empty if the reply had none)."""

    fields: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Gone:
    """The session is no more."""

    why: str


@dataclass(frozen=True, slots=True)
class Wait:
    """Nothing is known of the bytes. ``error`` says whether it may pass; either way a query comes first."""

    error: DriveshardError


Outcome = Offset | Done | Gone | Wait


def chunk_request(uri: str, offset: int, data: bytes | memoryview, size: int) -> Request:
    """PUT ``data`` as bytes ``offset``... of ``size``. Every chunk but the last is a multiple of 256 KiB."""
    length = len(data)
    end = offset + length
    if not length or end > size or (end < size and length % CHUNK_UNIT):
        raise Defect(f"a chunk of {length} bytes at {offset} of {size} is not what Drive takes")
    headers = {"Content-Range": f"bytes {offset}-{end - 1}/{size}", "Content-Type": "application/zip"}
    return Request("PUT", uri, headers, data)


def query_request(uri: str, size: int) -> Request:
    """Ask how many bytes the session holds."""
    return Request("PUT", uri, {"Content-Range": f"bytes */{size}", "Content-Length": "0"}, b"")


def read_reply(reply: Reply, size: int) -> Outcome:
    """What a reply to a chunk or a query means, for an upload of ``size`` bytes."""
    status = reply.status
    if status == 200 and reply.headers.get("x-http-status-code-override") == "308":
        status = 308
    if status in (200, 201):
        return Done(_fields(reply.body))
    if status == 308:
        return _offset(reply, size)
    if status in (404, 410):
        return Gone(f"Drive answered {status}")
    error = translate(status, reply.headers, reply.body)
    # A 4xx that is neither about the account nor about pace is about this session: only a new one helps.
    if 400 <= status < 500 and isinstance(error, BadRequest | NotFound):
        return Gone(error.message)
    return Wait(error)


def _offset(reply: Reply, size: int) -> Outcome:
    value = reply.headers.get("range", "")
    if not value:
        return Offset(0)
    match = re.fullmatch(r"(?:bytes=)?0-(\d{1,19})", value.strip(), re.ASCII)
    if not match or int(match[1]) >= size:
        return Gone(f"Drive reports a range that cannot be: {value[:60]!r}")
    return Offset(int(match[1]) + 1)


def _fields(body: bytes) -> Mapping[str, Any]:
    try:
        fields = json.loads(body)
    except (ValueError, RecursionError):
        return {}
    return fields if isinstance(fields, dict) else {}
