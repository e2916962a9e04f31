"""Multipart bodies: multipart/related uploads and multipart/mixed batches, written with CRLF or bare LF."""

from __future__ import annotations

import base64
import binascii
import re
from dataclasses import dataclass

from driveshard.emulator.errors import ApiError


@dataclass(frozen=True)
class Part:
    """One part: lower-case headers and the exact content."""

    headers: dict[str, str]
    content: bytes


def _malformed() -> ApiError:
    return ApiError(400, "badContent", "Malformed multipart body.")


def boundary_of(content_type: str) -> bytes:
    """The boundary parameter, quoted or not. Raises ApiError 400 when there is none."""
    match = re.search(r';\s*boundary=(?:"((?:[^"\\]|\\.)*)"|([^\s;]+))', content_type, re.IGNORECASE)
    if not match:
        raise ApiError(400, "badContent", "Missing end boundary in multipart body.")
    return (match[1] or match[2]).encode("latin-1")


def parse_multipart(content_type: str, body: bytes) -> list[Part]:
    """The parts of a body. The line end after the first boundary tells how the whole body was written.

    Raises ApiError 400 for a body without a proper start or end.
    """
    delimiter = b"--" + boundary_of(content_type)
    start = body.find(delimiter)
    if start < 0 or (start and body[start - 1 : start] != b"\n"):
        raise _malformed()
    position = start + len(delimiter)
    newline = b"\r\n" if body[position:].lstrip(b" \t")[:2] == b"\r\n" else b"\n"
    parts = []
    while body[position : position + 2] != b"--":
        line_end = body.find(newline, position)
        if line_end < 0 or body[position:line_end].strip(b" \t"):
            raise _malformed()
        begin = line_end + len(newline)
        # A part may be empty, so its closing delimiter may begin with the line end just read.
        end = body.find(newline + delimiter, line_end)
        if end < 0:
            raise _malformed()
        parts.append(_part(body[begin : max(begin, end)], newline))
        position = end + len(newline) + len(delimiter)
    return parts


def _part(raw: bytes, newline: bytes) -> Part:
    if raw.startswith(newline):
        return Part({}, raw[len(newline) :])
    head, blank, content = raw.partition(newline * 2)
    if not blank and not raw.endswith(newline):
        head, content = raw, b""
    headers: dict[str, str] = {}
    for line in head.decode("latin-1").splitlines():
        name, _, value = line.partition(":")
        headers[name.strip().lower()] = value.strip()
    if headers.get("content-transfer-encoding", "").lower() == "base64":
        try:
            content = base64.b64decode(content)
        except binascii.Error:
            raise _malformed() from None
    return Part(headers, content)
