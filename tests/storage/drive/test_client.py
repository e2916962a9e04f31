"""Each send is one request on the wire, whatever happens to it; nothing secret is logged; logins go to Google only.

The server here is a bare socket that does what it is told, request by request.
"""

from __future__ import annotations

import contextlib
import logging
import multiprocessing
import os
import socket
import struct
import threading
import time
from collections.abc import Callable
from typing import Any

import google.auth.credentials
import pytest

from driveshard.config.settings import Settings
from driveshard.core.errors import AuthError, ConfigError, Interrupted, Unavailable
from driveshard.core.urls import is_loopback
from driveshard.storage.drive import credentials as auth
from driveshard.storage.drive.client import GOOGLE, DriveClient
from driveshard.storage.drive.credentials import EMULATOR_TOKEN
from driveshard.storage.drive.resumable import Request
from tests.fakes import FakeClock
from tests.wires import OK, UNAUTHORIZED, Wire


def reset(connection: socket.socket) -> None:
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()


def stall(connection: socket.socket) -> None:
    connection.recv(1)


def put(url: str, body: bytes | memoryview = b"x" * 1000) -> Request:
    return Request("PUT", f"{url}upload/drive/v3/files?upload_id=SECRET-SESSION", {"Content-Range": "bytes"}, body)


FAILURES: dict[str, bytes | Callable[[socket.socket], None]] = {
    "closed without a reply": b"",
    "reset": reset,
    "no answer at all": stall,
    "half a status line": b"HTTP/1.1 2",
    "something else than HTTP": b"SSH-2.0-OpenSSH_9.6\r\n",
    "a bad status": b"HTTP/1.1 abc\r\n\r\n",
    "half of the headers": b"HTTP/1.1 200 OK\r\nContent-Le",
    "half of the body": b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{",
    "a broken chunked body": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
    "a broken gzip body": b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 3\r\n\r\nabc",
    "a redirect": b"HTTP/1.1 302 Found\r\nLocation: /elsewhere\r\nContent-Length: 0\r\n\r\n",
    "another redirect": b"HTTP/1.1 307 Found\r\nLocation: /elsewhere\r\nContent-Length: 0\r\n\r\n",
}


@pytest.mark.parametrize("name", FAILURES)
@pytest.mark.parametrize("method", ["PUT", "GET"])
def test_a_request_that_fails_was_sent_once(
    wire: Callable[..., Wire], client: Callable[..., DriveClient], name: str, method: str
) -> None:
    server = wire(FAILURES[name])
    drive = client(server.url)
    request = put(server.url)

    began = time.monotonic()
    try:
        reply = drive.send(request if method == "PUT" else Request("GET", request.uri, {}))
        # Python's HTTP client takes headers that end early for all there are.
        assert reply.status in (302, 307) or reply.body == b""
    except Unavailable as error:
        assert "SECRET" not in str(error)

    assert time.monotonic() - began < 3
    assert len(server.requests) == 1
    assert drive.requests == 1


@pytest.mark.parametrize("name", ["closed without a reply", "reset"])
def test_a_stale_connection_does_not_make_it_send_twice(
    wire: Callable[..., Wire], client: Callable[..., DriveClient], name: str
) -> None:
    server = wire(OK, FAILURES[name], OK, keep=True)
    drive = client(server.url)
    assert drive.send(put(server.url)).status == 200
    if name == "closed without a reply":
        for connection in server._open:
            connection.shutdown(socket.SHUT_RDWR)
    with pytest.raises(Unavailable):
        drive.send(put(server.url))
    sent = len(server.requests)
    assert sent <= 2
    assert drive.requests == 2


def test_after_a_failure_the_next_request_has_a_fresh_connection(
    wire: Callable[..., Wire], client: Callable[..., DriveClient]
) -> None:
    server = wire(stall, OK, keep=True)
    drive = client(server.url)
    with pytest.raises(Unavailable, match="no answer"):
        drive.send(put(server.url))
    assert drive.send(put(server.url)).status == 200
    assert server.connections == 2


def test_one_connection_serves_many_requests_until_it_is_old(
    wire: Callable[..., Wire], client: Callable[..., DriveClient]
) -> None:
    server = wire(OK, keep=True)
    clock = FakeClock()
    drive = client(server.url, clock=clock)
    for _ in range(3):
        drive.send(put(server.url))
    assert server.connections == 1
    clock.time += 26
    drive.send(put(server.url))
    assert server.connections == 2


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_a_forked_child_lets_go_of_a_connection_and_its_parent_keeps_it(
    wire: Callable[..., Wire], client: Callable[..., DriveClient]
) -> None:
    """As the workers of a training loop do, that have their parent's dataset."""
    server = wire(OK, keep=True)
    drive = client(server.url)
    drive.send(put(server.url))
    child = multiprocessing.get_context("fork").Process(target=drive.close)
    child.start()
    child.join(20)
    assert child.exitcode == 0
    drive.send(put(server.url))
    assert server.connections == 1


def test_a_connection_has_one_request_at_a_time_of_whichever_thread(
    wire: Callable[..., Wire], client: Callable[..., DriveClient]
) -> None:
    """Many threads have a request each; a connection of its own for each would cost its round trips every time."""
    meet = threading.Barrier(4)

    def all_at_once(connection: socket.socket) -> None:
        meet.wait(5)
        connection.sendall(OK)

    server = wire(*[all_at_once] * 4, OK, keep=True)
    drive = client(server.url)
    for count in (4, 1, 1):
        threads = [threading.Thread(target=lambda: drive.send(put(server.url))) for _ in range(count)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert (server.connections, len(server.requests), drive.requests) == (4, 6, 6)


def test_what_broke_one_connection_costs_one_request(
    wire: Callable[..., Wire], client: Callable[..., DriveClient]
) -> None:
    """Others that wait may be as broken, and are not tried one after the other."""
    meet = threading.Barrier(3)

    def all_at_once(connection: socket.socket) -> None:
        meet.wait(5)
        connection.sendall(OK)

    def send() -> None:
        replies.append(drive.send(put(server.url)).status)

    def send_three() -> None:
        threads = [threading.Thread(target=send) for _ in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    replies: list[int] = []
    server = wire(all_at_once, keep=True)
    drive = client(server.url)
    send_three()
    for connection in server._open:
        connection.shutdown(socket.SHUT_RDWR)
    with pytest.raises(Unavailable):
        drive.send(put(server.url))
    send_three()
    assert (replies, server.connections) == ([200] * 6, 6)


def test_308_is_an_answer_and_no_redirect(wire: Callable[..., Wire], client: Callable[..., DriveClient]) -> None:
    server = wire(b"HTTP/1.1 308 Resume Incomplete\r\nRange: bytes=0-262143\r\nContent-Length: 0\r\n\r\n")
    reply = client(server.url).send(put(server.url))
    assert (reply.status, reply.headers["range"]) == (308, "bytes=0-262143")
    assert len(server.requests) == 1


@pytest.mark.parametrize("body", [b"y" * 70_000, memoryview(b"y" * 70_000)])
def test_after_a_401_the_login_is_renewed_and_nothing_sent_again_by_itself(
    wire: Callable[..., Wire], client: Callable[..., DriveClient], body: bytes | memoryview
) -> None:
    server = wire(UNAUTHORIZED, OK, keep=True)
    drive = client(server.url)
    with pytest.raises(Unavailable, match="renewed"):
        drive.send(put(server.url, body))
    assert len(server.requests) == 1
    assert drive.send(put(server.url, body)).status == 200
    assert [request.partition(b"\r\n\r\n")[2] for request in server.requests] == [bytes(body)] * 2


def test_a_login_that_is_refused_again_is_said_to_be(
    wire: Callable[..., Wire], client: Callable[..., DriveClient]
) -> None:
    server = wire(UNAUTHORIZED, keep=True)
    drive = client(server.url)
    with pytest.raises(Unavailable):
        drive.execute(drive.files.get(fileId="abcdef"))
    with pytest.raises(AuthError, match="login"):
        drive.execute(drive.files.get(fileId="abcdef"))
    assert len(server.requests) == 2


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (OK, {}),
        (b"HTTP/1.1 204 No Content\r\n\r\n", {}),
        (b'HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n{"id": 1}', {"id": 1}),
    ],
)
def test_an_answers_json_is_read(
    wire: Callable[..., Wire], client: Callable[..., DriveClient], answer: bytes, expected: dict[str, Any]
) -> None:
    drive = client(wire(answer).url)
    assert drive.execute(drive.files.get(fileId="abcdef")) == expected


@pytest.mark.parametrize("body", [b"", b'{"id": ', b"<html>welcome to the hotel</html>", b"[1]", b'"x"', b"[" * 50_000])
def test_an_answer_that_is_no_object_may_be_tried_again(
    wire: Callable[..., Wire], client: Callable[..., DriveClient], body: bytes
) -> None:
    drive = client(wire(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body)).url)
    with pytest.raises(Unavailable):
        drive.execute(drive.files.get(fileId="abcdef"))


def test_nobody_there_is_said_clearly(client: Callable[..., DriveClient]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        url = f"http://127.0.0.1:{taken.getsockname()[1]}/"
    with pytest.raises(Unavailable, match=r"nothing answers at 127\.0\.0\.1"):
        client(url).send(put(url))


def test_an_abort_breaks_the_request_under_way(wire: Callable[..., Wire], client: Callable[..., DriveClient]) -> None:
    server = wire(stall)
    drive = client(server.url)
    drive.timeout = 30.0

    def abort_once_sent() -> None:
        while not server.requests:
            time.sleep(0.01)
        drive.abort()

    threading.Thread(target=abort_once_sent).start()
    began = time.monotonic()
    with pytest.raises(Interrupted):
        drive.send(put(server.url))
    assert time.monotonic() - began < 5
    with pytest.raises(Interrupted):
        drive.send(put(server.url))


class SecretCredentials(google.auth.credentials.Credentials):  # type: ignore[misc]
    def __init__(self) -> None:
        super().__init__()
        self.token = "SECRET-TOKEN"

    def refresh(self, request: Any) -> None:
        self.token = "SECRET-TOKEN"


def test_nothing_secret_is_logged(
    wire: Callable[..., Wire], client: Callable[..., DriveClient], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    server = wire(OK, UNAUTHORIZED, OK, stall, keep=True)
    drive = client(server.url, SecretCredentials())
    drive.send(put(server.url))
    for _ in range(2):
        with contextlib.suppress(Unavailable):
            drive.execute(drive.files.get(fileId="abcdef"))
    with pytest.raises(Unavailable) as caught:
        drive.send(put(server.url))

    assert any(b"SECRET-TOKEN" in request for request in server.requests)
    logged = "\n".join(record.getMessage() for record in caplog.records)
    assert "PUT /upload/drive/v3/files -> 200" in logged
    assert "SECRET" not in logged + str(caught.value)


# -- who is told the login -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("http://127.0.0.1:8080/", True),
        ("http://127.1.2.3/", True),
        ("http://localhost:1/", True),
        ("http://[::1]:8080/", True),
        ("https://127.0.0.1/", False),
        ("http://127.0.0.1.example.org/", False),
        ("http://127.example.org/", False),
        ("http://localhost.example.org/", False),
        ("http://example.org/127.0.0.1", False),
        ("http://127.0.0.1@example.org/", False),
        ("http://0.0.0.0/", False),
        ("http://10.0.0.1/", False),
        ("ftp://127.0.0.1/", False),
        ("127.0.0.1:80", False),
        ("", False),
        (GOOGLE, False),
    ],
)
def test_only_this_machine_is_this_machine(url: str, expected: bool) -> None:
    assert is_loopback(url) is expected


def test_an_emulator_is_never_sent_a_real_login(
    wire: Callable[..., Wire], client: Callable[..., DriveClient], tmp_path: Any
) -> None:
    server = wire(OK, keep=True)
    (tmp_path / "token.json").write_text('{"token": "SECRET-TOKEN", "refresh_token": "SECRET", "token_uri": "x"}')
    settings = Settings(tmp_path, server.url, service_account=tmp_path / "key.json", api_key="SECRET-KEY")
    credentials = auth.credentials_for(server.url, settings)
    drive = client(server.url, credentials, api_key=auth.api_key_for(credentials, settings))

    drive.send(put(server.url))
    drive.execute(drive.files.get(fileId="abcdef"))

    assert all(
        b"Bearer " + EMULATOR_TOKEN.encode() in request.replace(b"authorization", b"Authorization")
        for request in server.requests
    )
    assert not any(b"SECRET-TOKEN" in request or b"SECRET-KEY" in request for request in server.requests)


@pytest.mark.parametrize(
    "url",
    ["https://drive.example.org/", "http://10.0.0.1/", "http://127.example.org/", "https://www.googleapis.com.evil/"],
)
def test_another_address_than_this_machines_is_refused(tmp_path: Any, url: str) -> None:
    with pytest.raises(ConfigError, match="DRIVESHARD_DRIVE_URL") as caught:
        auth.credentials_for(url, Settings(tmp_path, url))
    assert "Google only" in caught.value.advice


def test_without_a_login_google_is_not_asked(tmp_path: Any) -> None:
    with pytest.raises(AuthError) as caught:
        auth.credentials_for(GOOGLE, Settings(tmp_path))
    assert "driveshard login" in caught.value.advice


def test_what_is_shared_may_be_read_without_a_login(tmp_path: Any) -> None:
    settings = Settings(tmp_path, anonymous=True, api_key="key")
    credentials = auth.credentials_for(GOOGLE, settings)
    assert auth.api_key_for(credentials, settings) == "key"
