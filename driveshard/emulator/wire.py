"""HTTP/1.1 as the emulator needs it: requests read from a socket, bodies in big blocks, replies written back.

The standard library's handler parses headers with the e-mail package and hides where a broken body stopped;
an emulator of resumable uploads must know that to the byte.
"""

from __future__ import annotations

import io
import json
import os
import socket
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from email.utils import formatdate
from http import HTTPStatus
from pathlib import Path
from typing import Any, BinaryIO
from urllib.parse import parse_qs, unquote, urlsplit

from driveshard.emulator.line import Line

BLOCK = 1 << 20
MAX_LINE = 1 << 16
MAX_HEADERS = 200
JSON_TYPE = "application/json; charset=UTF-8"


class BadRequestError(Exception):
    """The bytes on the connection are not an HTTP/1.x request; the connection is closed after a 400."""


class BrokenBodyError(Exception):
    """The connection ended before the announced body did. What arrived until then has been handed out."""


class Body:
    """A request body, read once, in blocks. `received` counts content bytes (chunk framing is not content).

    `meter` is called with the number of bytes of each read: accounting and throttling hang on it. `pace` tells before
    each read how many bytes it may be at most (None: 1 MiB).
    """

    def __init__(self, reader: io.BufferedIOBase, length: int, chunked: bool = False) -> None:
        self._reader = reader
        self._left = length
        self._chunked = chunked
        self._finished = length == 0 and not chunked
        self.length: int | None = None if chunked else length
        self.received = 0
        self.pace: Callable[[], int | None] = lambda: None
        self.meter: Callable[[int], None] | None = None
        self.before_read: Callable[[], None] | None = None

    @classmethod
    def of(cls, content: bytes) -> Body:
        """A body that is already in memory (the inner calls of a batch)."""
        return cls(io.BytesIO(content), len(content))

    @property
    def finished(self) -> bool:
        """True when every announced byte was read."""
        return self._finished

    def blocks(self, limit: int | None = None) -> Iterator[memoryview]:
        """Yield the rest (at most `limit` bytes) as it arrives; each view is valid until the next one is asked for.

        Nothing is held back to fill a block: what a broken connection delivered has been handed out by then.
        Raises BrokenBodyError when the connection ends early.
        """
        buffer = memoryview(bytearray(BLOCK if self.length is None else max(1, min(BLOCK, self.length))))
        while not self._finished and limit != 0:
            most = min(limit if limit is not None else BLOCK, self.pace() or BLOCK)
            count = self._read_some(buffer[:most])
            if count:
                yield buffer[:count]
            if limit is not None:
                limit -= count

    def read(self) -> bytes:
        """The whole rest of the body."""
        return b"".join(bytes(block) for block in self.blocks())

    def drain(self) -> None:
        """Read the rest and forget it, so that the connection can carry the next request."""
        for _ in self.blocks():
            pass

    def _read_some(self, view: memoryview) -> int:
        if self.before_read:
            self.before_read()
            self.before_read = None
        try:
            if self._chunked and self._left == 0 and not self._next_chunk():
                return 0
            if self._left == 0:
                return 0
            count = self._reader.readinto1(view[: self._left])
        except OSError as error:
            raise BrokenBodyError(str(error)) from error
        if not count:
            raise BrokenBodyError(f"connection closed with {self._left} bytes to come")
        self._left -= count
        self.received += count
        if self._left == 0:
            if self._chunked:
                self._reader.readline(MAX_LINE)
            else:
                self._finished = True
        if self.meter:
            self.meter(count)
        return count

    def _next_chunk(self) -> bool:
        if self._finished:
            return False
        line = self._reader.readline(MAX_LINE)
        try:
            self._left = int(line.split(b";")[0].strip(), 16)
        except ValueError:
            raise BrokenBodyError(f"bad chunk size {line!r}") from None
        if self._left == 0:
            while self._reader.readline(MAX_LINE) not in (b"\r\n", b"\n", b""):
                pass
            self._finished = True
        return self._left > 0


@dataclass
class Request:
    """One HTTP request. Header names are lower case; `path` is decoded, `target` is as sent."""

    method: str
    target: str
    headers: dict[str, str]
    body: Body
    keep_alive: bool = True
    path: str = field(init=False)
    query: dict[str, str] = field(init=False)

    def __post_init__(self) -> None:
        parts = urlsplit(self.target)
        self.path = unquote(parts.path)
        # An empty value means "not given" (some clients send `fields=`), which parse_qs drops by itself.
        self.query = {name: values[-1] for name, values in parse_qs(parts.query).items()}

    @property
    def base_url(self) -> str:
        """Scheme and host the client used, from its Host header, so that links work through a proxy."""
        host = self.headers.get("host", "127.0.0.1")
        hostname = host.rsplit(":", 1)[0]
        google = hostname.endswith((".google.com", ".googleapis.com"))
        scheme = self.headers.get("x-forwarded-proto", "https" if google else "http")
        return f"{scheme}://{host}"


@dataclass(frozen=True)
class FileSlice:
    """A reply body taken from a file: `length` bytes from `start`."""

    path: Path
    start: int
    length: int


@dataclass
class Reply:
    """One HTTP reply. `drop` means that the connection is reset instead of answering, `early` that it does not wait
    for the end of the request's body. `stop_after` is the byte at which a file breaks off, at once or after a stall;
    `spoil` makes one bit of it wrong.
    """

    status: int
    body: bytes | FileSlice = b""
    headers: dict[str, str] = field(default_factory=dict)
    drop: bool = False
    early: bool = False
    stop_after: int | None = None
    stall: bool = False
    spoil: bool = False

    @classmethod
    def json(cls, document: Any, status: int = 200) -> Reply:
        """A JSON reply with Drive's content type."""
        content = json.dumps(document, indent=1, ensure_ascii=False).encode()
        return cls(status, content, {"Content-Type": JSON_TYPE})

    @classmethod
    def text(cls, text: str, status: int) -> Reply:
        """A text/plain reply, as the upload server gives for protocol errors."""
        return cls(status, text.encode(), {"Content-Type": "text/plain; charset=utf-8"})

    @classmethod
    def html(cls, text: str, status: int = 200) -> Reply:
        """An HTML page."""
        return cls(status, text.encode(), {"Content-Type": "text/html; charset=utf-8"})


def read_request(reader: io.BufferedIOBase, connection: socket.socket) -> Request | None:
    """Read the head of the next request; None when the peer closed. The body is left on the connection.

    Raises BadRequestError for what is no HTTP.
    """
    line = reader.readline(MAX_LINE)
    while line in (b"\r\n", b"\n"):
        line = reader.readline(MAX_LINE)
    if not line:
        return None
    words = line.decode("latin-1").split()
    if len(words) != 3 or not words[2].startswith("HTTP/1."):
        raise BadRequestError(f"not a request line: {line[:80]!r}")
    headers = _read_headers(reader)
    chunked = headers.get("transfer-encoding", "").lower() == "chunked"
    length = headers.get("content-length", "0")
    if not length.isdigit():
        raise BadRequestError(f"bad Content-Length {length!r}")
    body = Body(reader, 0 if chunked else int(length), chunked)
    if headers.get("expect", "").lower() == "100-continue":
        body.before_read = lambda: connection.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")
    wants = headers.get("connection", "").lower()
    keep = wants != "close" and (words[2] != "HTTP/1.0" or wants == "keep-alive")
    return Request(words[0].upper(), words[1], headers, body, keep)


def _read_headers(reader: io.BufferedIOBase) -> dict[str, str]:
    headers: dict[str, str] = {}
    for _ in range(MAX_HEADERS):
        line = reader.readline(MAX_LINE)
        if line in (b"\r\n", b"\n", b""):
            return headers
        name, colon, value = line.decode("latin-1").partition(":")
        if not colon:
            raise BadRequestError(f"not a header: {line[:80]!r}")
        headers[name.strip().lower()] = value.strip()
    raise BadRequestError("too many headers")


def write_reply(
    connection: socket.socket, reply: Reply, *, head_only: bool, keep_alive: bool, line: Line | None = None
) -> None:
    """Send a reply. 1xx and 204 carry no body; HEAD gets the headers of the body it would have had.

    `line` is what files go through.
    """
    length = reply.body.length if isinstance(reply.body, FileSlice) else len(reply.body)
    try:
        phrase = HTTPStatus(reply.status).phrase
    except ValueError:
        phrase = "Client Closed Request" if reply.status == 499 else "Status"
    headers = {"Date": formatdate(usegmt=True), "Server": "ESF", "Cache-Control": "no-cache", **reply.headers}
    if reply.status != HTTPStatus.NO_CONTENT:
        headers.setdefault("Content-Length", str(length))
    if not keep_alive:
        headers["Connection"] = "close"
    lines = [f"HTTP/1.1 {reply.status} {phrase}", *(f"{name}: {value}" for name, value in headers.items())]
    head = ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")
    if head_only or not length:
        connection.sendall(head)
    elif isinstance(reply.body, bytes):
        connection.sendall(head + reply.body)
    else:
        connection.sendall(head)
        for piece in _pieces(reply, reply.body):
            if isinstance(piece, bytes):
                connection.sendall(piece)
            else:
                _send_file(connection, piece, line)


def _pieces(reply: Reply, body: FileSlice) -> Iterator[FileSlice | bytes]:
    """What is sent of a file: all of it, its beginning, or all of it with a wrong bit in the middle."""
    if not reply.spoil:
        yield FileSlice(body.path, body.start, body.length if reply.stop_after is None else reply.stop_after)
        return
    middle = body.length // 2
    yield FileSlice(body.path, body.start, middle)
    with body.path.open("rb") as source:
        source.seek(body.start + middle)
        yield bytes([source.read(1)[0] ^ 1])
    yield FileSlice(body.path, body.start + middle + 1, body.length - middle - 1)


def _send_file(connection: socket.socket, piece: FileSlice, line: Line | None) -> None:
    with piece.path.open("rb") as source:
        offset, left = piece.start, piece.length
        while left:
            most = (line.down.block if line else None) or BLOCK
            sent = _send_block(connection, source, offset, min(left, most))
            if sent == 0:
                raise OSError("file is shorter than announced")
            if line:
                line.down.take(sent)
            if line and line.dead:
                raise OSError("an outage")
            offset += sent
            left -= sent


def _send_block(connection: socket.socket, source: BinaryIO, offset: int, most: int) -> int:
    """Send up to `most` bytes of the file from `offset`; returns how many went, 0 at its end."""
    if hasattr(os, "sendfile"):  # the kernel's own way; Windows has none
        return os.sendfile(connection.fileno(), source.fileno(), offset, most)
    source.seek(offset)
    block = source.read(most)
    connection.sendall(block)
    return len(block)
