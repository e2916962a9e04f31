"""`POST /batch/drive/v3`: several calls in one multipart/mixed request."""

from __future__ import annotations

import io
import secrets
from collections.abc import Callable
from http import HTTPStatus

from driveshard.emulator.errors import ApiError
from driveshard.emulator.multipart import Part, parse_multipart
from driveshard.emulator.wire import BadRequestError, Body, Reply, Request

MAX_CALLS = 100


def serve_batch(request: Request, answer: Callable[[Request], Reply]) -> Reply:
    """Answer each inner call by itself; the outer reply is 200 whatever they say. Raises ApiError 400."""
    parts = parse_multipart(request.headers.get("content-type", ""), request.body.read())
    if len(parts) > MAX_CALLS:
        text = f"The batch request contains {len(parts)} calls, more than the limit of {MAX_CALLS}."
        raise ApiError(400, "badRequest", text)
    boundary = "batch_" + secrets.token_urlsafe(24)
    pieces = [_piece(part, _answer(part, request, answer)) for part in parts]
    body = b"".join(f"--{boundary}\r\n".encode() + piece + b"\r\n" for piece in pieces)
    headers = {"Content-Type": f"multipart/mixed; boundary={boundary}"}
    return Reply(200, body + f"--{boundary}--\r\n".encode(), headers)


def _answer(part: Part, outer: Request, answer: Callable[[Request], Reply]) -> Reply:
    try:
        inner = _inner_request(part.content, outer)
    except BadRequestError as error:
        return ApiError(400, "badRequest", str(error)).reply()
    if inner.path.startswith(("/upload/", "/batch")) or inner.query.get("alt") == "media":
        return ApiError(400, "badRequest", "Media uploads and downloads cannot be batched.").reply()
    return answer(inner)


def _inner_request(content: bytes, outer: Request) -> Request:
    stream = io.BytesIO(content)
    words = stream.readline().decode("latin-1").split()
    if len(words) not in (2, 3):
        raise BadRequestError("a part of the batch is no HTTP request")
    # The outer request's authorization holds for inner ones that bring none.
    headers: dict[str, str] = {name: outer.headers[name] for name in ("authorization", "host") if name in outer.headers}
    for line in iter(stream.readline, b""):
        if not line.strip():
            break
        name, _, value = line.decode("latin-1").partition(":")
        headers[name.strip().lower()] = value.strip()
    headers["host"] = outer.headers.get("host", "127.0.0.1")
    return Request(words[0].upper(), words[1], headers, Body.of(stream.read()))


def _piece(part: Part, reply: Reply) -> bytes:
    content = reply.body if isinstance(reply.body, bytes) else b""
    phrase = HTTPStatus(reply.status).phrase
    lines = ["Content-Type: application/http"]
    if "content-id" in part.headers:
        lines.append(f"Content-ID: <response-{part.headers['content-id'].strip().lstrip('<')}")
    lines += ["", f"HTTP/1.1 {reply.status} {phrase}", *(f"{name}: {value}" for name, value in reply.headers.items())]
    lines += [f"Content-Length: {len(content)}", "", ""]
    return "\r\n".join(lines).encode() + content
