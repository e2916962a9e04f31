"""Replies that would lead astray: addresses elsewhere, redirects, more bytes than were asked for, pages of others."""

from __future__ import annotations

import socket
from collections.abc import Callable
from urllib.parse import urlsplit

import google.auth.credentials
import pytest

from driveshard.core.clock import Clock
from driveshard.core.errors import AuthError, ConfigError, NotFound, SessionGone, Unavailable
from driveshard.core.model import UploadSession
from driveshard.storage.base import Held
from driveshard.storage.drive import connection
from driveshard.storage.drive.client import DriveClient
from driveshard.storage.drive.destination import DriveDestination
from driveshard.storage.drive.resumable import Request
from tests.wires import OK, UNAUTHORIZED, Wire

UNREGISTERED = b'{"error": {"code": 403, "message": "Method doesn\'t allow unregistered callers"}}'


def put(url: str) -> Request:
    return Request("PUT", f"{url}upload/drive/v3/files", {}, b"x" * 1000)


ELSEWHERE = [
    "http://localhost:{port}/upload?upload_id=1",
    "http://127.0.0.1:{other}/upload?upload_id=1",
    "https://127.0.0.1:{port}/upload?upload_id=1",
    "http://evil.example/upload?upload_id=1",
    "https://www.googleapis.com/upload?upload_id=1",
    "http://127.0.0.1:{port}@evil.example/upload",
    "http://user@127.0.0.1:{port}/upload",
    "//evil.example/upload",
    "http://evil.example\\@127.0.0.1:{port}/upload",
    "http://127.0.0.1:{port}\\.evil.example/upload",
    "http://127.0.0.1:{port}/a b",
    "http://[::1",
    "file:///etc/passwd",
    "http://127.0.0.1:99999/",
]


@pytest.mark.parametrize("address", ELSEWHERE)
def test_no_other_address_is_told_the_login(
    wire: Callable[..., Wire], client: Callable[..., DriveClient], address: str
) -> None:
    """Neither one that a reply names for the bytes nor one that comes out of a ledger."""
    thief = wire(OK)
    port = urlsplit(thief.url).port
    server = wire(b"")
    target = address.format(port=urlsplit(server.url).port, other=port)
    server._scripts = (f"HTTP/1.1 200 OK\r\nLocation: {target}\r\nContent-Length: 0\r\n\r\n".encode(),)
    drive = DriveDestination(client(server.url), Clock())

    with pytest.raises(ConfigError, match="elsewhere") as caught:
        drive.begin("ID123456", "FOLDER1", "x.zip", 10, {})
    assert "upload_id" not in str(caught.value)
    before = len(server.requests)
    for ask in (lambda one: drive.query(one, 10), lambda one: drive.send(one, 0, b"0123456789", 10)):
        with pytest.raises(SessionGone):
            ask(UploadSession("ID123456", target, 0.0))
    with pytest.raises(ConfigError):
        drive._client.send(Request("PUT", target, {}, b""))

    assert thief.requests == []
    assert len(server.requests) == before == 1


@pytest.mark.parametrize("location", ["{base}upload/x?upload_id=1", "/upload/x?upload_id=1", "x?upload_id=1"])
def test_an_address_at_the_same_drive_is_followed(
    wire: Callable[..., Wire], client: Callable[..., DriveClient], location: str
) -> None:
    server = wire(b"")
    target = location.format(base=server.url)
    server._scripts = (f"HTTP/1.1 200 OK\r\nLocation: {target}\r\nContent-Length: 0\r\n\r\n".encode(),)
    session = DriveDestination(client(server.url), Clock()).begin("ID123456", "FOLDER1", "x.zip", 10, {})
    assert session.uri.startswith(server.url)
    assert session.uri.endswith("?upload_id=1")


def test_a_location_on_a_308_is_not_followed(wire: Callable[..., Wire], client: Callable[..., DriveClient]) -> None:
    thief = wire(OK)
    moved = f"HTTP/1.1 308 Resume Incomplete\r\nLocation: {thief.url}\r\nContent-Length: 0\r\n\r\n".encode()
    server = wire(moved, keep=True)
    drive = DriveDestination(client(server.url), Clock())
    session = UploadSession("ID123456", f"{server.url}upload?upload_id=1", 0.0)
    for _ in range(2):
        assert drive.query(session, 10) == Held(0)
    assert (len(server.requests), thief.requests) == (2, [])


@pytest.mark.parametrize("status", [301, 302, 303, 307])
@pytest.mark.parametrize("call", ["get", "begin", "make_folder", "read"])
def test_a_redirect_is_followed_nowhere_and_is_no_bug(
    wire: Callable[..., Wire], client: Callable[..., DriveClient], status: int, call: str
) -> None:
    thief = wire(OK)
    server = wire(f"HTTP/1.1 {status} Moved\r\nLocation: {thief.url}\r\nContent-Length: 0\r\n\r\n".encode())
    drive = DriveDestination(client(server.url), Clock())
    calls: dict[str, Callable[[], object]] = {
        "get": lambda: drive.get("ID123456"),
        "begin": lambda: drive.begin("ID123456", "F", "x.zip", 10, {}),
        "make_folder": lambda: drive.make_folder("ID123456", "n", {}),
        "read": lambda: drive.read("ID123456", 0, 10),
    }
    with pytest.raises(Unavailable, match=r"127\.0\.0\.1"):
        calls[call]()
    assert thief.requests == []


# -- replies that are more than was asked for ------------------------------------------------------------------------


def flood(head: bytes, piece: bytes = b"\0" * 65_536) -> tuple[Callable[[socket.socket], None], list[int]]:
    """A reply that goes on as long as somebody reads, up to a GiB; and how many bytes were sent."""
    sent = [0]

    def script(connection: socket.socket) -> None:
        connection.sendall(head)
        while sent[0] < 1 << 30:
            sent[0] += connection.send(piece)

    return script, sent


GIB = b"HTTP/1.1 %d X\r\nContent-Length: 1073741824\r\n%s\r\n"


@pytest.mark.parametrize("status", [200, 206])
def test_of_a_ranged_read_no_more_is_taken_than_was_asked_for(
    wire: Callable[..., Wire], client: Callable[..., DriveClient], status: int
) -> None:
    script, sent = flood(GIB % (status, b""))
    server = wire(script, OK)
    drive = DriveDestination(client(server.url), Clock())
    assert drive.read("ID123456", 0, 100) == b"\0" * 100
    assert sent[0] < 64 << 20
    assert drive._client.send(put(server.url)).status == 200  # on a connection of its own
    assert server.connections == 2


def test_the_whole_file_in_answer_to_a_range_gives_that_range(
    wire: Callable[..., Wire], client: Callable[..., DriveClient]
) -> None:
    data = bytes(range(256)) * 40
    server = wire(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(data), data), keep=True)
    drive = DriveDestination(client(server.url), Clock())
    assert drive.read("ID123456", 5000, 300) == data[5000:5300]
    assert drive.read("ID123456", len(data) - 10, 300) == data[-10:]
    assert drive.read("ID123456", len(data) + 10, 300) == b""


@pytest.mark.parametrize(
    "reply",
    [
        b"HTTP/1.1 206 X\r\nContent-Range: bytes 7-16/99\r\nContent-Length: 10\r\n\r\n0123456789",
        b"HTTP/1.1 206 X\r\nContent-Encoding: gzip\r\nContent-Length: 10\r\n\r\n0123456789",
        b"HTTP/1.1 206 X\r\nContent-Length: 10\r\n\r\n01234",
        b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: 10\r\n\r\n<html>012",
        b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n0",
    ],
)
def test_a_range_that_is_not_what_was_asked_for_is_asked_for_again(
    wire: Callable[..., Wire], client: Callable[..., DriveClient], reply: bytes
) -> None:
    drive = DriveDestination(client(wire(reply).url), Clock())
    with pytest.raises(Unavailable):
        drive.read("ID123456", 0, 10)


def test_an_answer_that_does_not_end_is_given_up(
    wire: Callable[..., Wire], client: Callable[..., DriveClient], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection, "_MOST_OF_ANSWER", 1 << 20)
    for head in (GIB % (200, b""), b"HTTP/1.1 200 OK\r\n\r\n"):
        script, sent = flood(head, b" " * 65_536)
        drive = DriveDestination(client(wire(script).url), Clock())
        with pytest.raises(Unavailable, match="does not end"):
            drive.get("ID123456")
        assert sent[0] < 64 << 20


def test_of_a_long_refusal_the_beginning_is_read(wire: Callable[..., Wire], client: Callable[..., DriveClient]) -> None:
    script, sent = flood(GIB % (404, b""), b"no such thing " * 5000)
    drive = DriveDestination(client(wire(script).url), Clock())
    with pytest.raises(NotFound, match="no such thing"):
        drive.get("ID123456")
    assert sent[0] < 64 << 20


@pytest.mark.parametrize("status", [404, 410])
def test_a_page_that_says_not_found_is_not_believed(
    wire: Callable[..., Wire], client: Callable[..., DriveClient], status: int
) -> None:
    page = b"<html>Not Found</html>"
    server = wire(b"HTTP/1.1 %d X\r\nContent-Type: text/html\r\nContent-Length: 22\r\n\r\n%s" % (status, page))
    with pytest.raises(Unavailable, match="page"):
        DriveDestination(client(server.url), Clock()).get("ID123456")


@pytest.mark.parametrize(
    "script", [UNAUTHORIZED, b"HTTP/1.1 403 X\r\nContent-Length: %d\r\n\r\n" % len(UNREGISTERED) + UNREGISTERED]
)
def test_who_did_not_log_in_is_told_how(
    wire: Callable[..., Wire], client: Callable[..., DriveClient], script: bytes
) -> None:
    drive = client(wire(script).url, google.auth.credentials.AnonymousCredentials())
    with pytest.raises(AuthError) as caught:
        drive.execute(drive.files.get(fileId="abcdef"))
    assert "driveshard login" in caught.value.advice
