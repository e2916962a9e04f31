"""What happens while a body is on its way: answers that come early, lines that break or stand still, limits, TLS."""

from __future__ import annotations

import socket
import ssl
import struct
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import trustme

from driveshard.core.errors import ConfigError, Interrupted, Unavailable
from driveshard.storage.base import Piece
from driveshard.storage.drive.client import DriveClient
from driveshard.storage.drive.resumable import Request

MIB = 2**20
LARGE = 512 * MIB
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"


def answer(status: int, body: bytes = b"") -> bytes:
    return b"HTTP/1.1 %d X\r\nContent-Length: %d\r\n\r\n%s" % (status, len(body), body)


class Peer:
    """A server that reads the head of a request and then does as it is told, over plain TCP or TLS."""

    def __init__(self, script: Callable[[socket.socket], None], context: ssl.SSLContext | None = None) -> None:
        self.connections = 0
        self.bodies: list[int] = []
        self._script = script
        self._context = context
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 128 * 1024)  # what is taken in ahead of reading
        scheme = "https" if context else "http"
        self.url = f"{scheme}://127.0.0.1:{self._listener.getsockname()[1]}/"
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        try:
            while True:
                connection, _ = self._listener.accept()
                self.connections += 1
                threading.Thread(target=self._serve, args=(connection,), daemon=True).start()
        except OSError:
            return

    def _serve(self, connection: socket.socket) -> None:
        try:
            if self._context:
                connection = self._context.wrap_socket(connection, server_side=True)
            with connection:
                while read_head(connection):
                    self._script(connection)
        except OSError:
            return

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()


def read_head(connection: socket.socket) -> bytes:
    """Byte by byte, so that nothing of the body is taken."""
    head = b""
    while not head.endswith(b"\r\n\r\n"):
        more = connection.recv(1)
        if not more:
            return b""
        head += more
    return head


def read_body(connection: socket.socket, count: int) -> None:
    """Raises ConnectionError when it ends before that."""
    while count:
        taken = len(connection.recv(min(count, MIB)))
        if not taken:
            raise ConnectionError("the body ended early")
        count -= taken


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


Start = Callable[[Callable[[socket.socket], None]], DriveClient]


@pytest.fixture(params=["plain", "tls"])
def start(
    request: pytest.FixtureRequest, client: Callable[..., DriveClient], authority: trustme.CA, tmp_path: Path
) -> Iterator[Start]:
    """``start(script)`` is a client of a peer that plays the script."""
    peers: list[Peer] = []
    context = None
    bundle = tmp_path / "ca.pem"
    authority.cert_pem.write_to_path(str(bundle))
    if request.param == "tls":
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        authority.issue_cert("127.0.0.1").configure_cert(context)

    def begin(script: Callable[[socket.socket], None]) -> DriveClient:
        peers.append(Peer(script, context))
        return client(peers[-1].url, certificates=str(bundle))

    yield begin
    for one in peers:
        one.close()


class Counted:
    """Blocks of zeros, counted as they are asked for."""

    def __init__(self, length: int, pause: float = 0.0) -> None:
        self.asked = 0
        self.length = length
        self._pause = pause

    def piece(self) -> Piece:
        return Piece(self.length, self._blocks())

    def _blocks(self) -> Iterator[bytes]:
        block = bytes(256 * 1024)
        while self.asked < self.length:
            time.sleep(self._pause)
            self.asked += len(block)
            yield block


def put(drive: DriveClient, body: Piece) -> Request:
    return Request("PUT", f"{drive.base_url}upload?upload_id=x", {"content-range": "bytes"}, body)


def test_a_body_arrives_whole_and_the_connection_is_used_again(start: Start) -> None:
    def script(connection: socket.socket) -> None:
        read_body(connection, 3 * MIB)
        connection.sendall(OK)

    drive = start(script)
    for _ in range(3):
        assert drive.send(put(drive, Counted(3 * MIB).piece())).status == 200
    (wire,) = drive._wires
    assert wire.connection.sock is not None


@pytest.mark.parametrize("status", [403, 404, 503, 308])
def test_an_answer_that_comes_early_is_heeded(start: Start, status: int) -> None:
    """While the peer reads on, and when it reads no more."""
    for reads in (MIB, 0):

        def script(connection: socket.socket, reads: int = reads) -> None:
            read_body(connection, reads)
            connection.sendall(answer(status, b"why"))
            time.sleep(1)

        body = Counted(LARGE)
        drive = start(script)
        began = time.monotonic()
        reply = drive.send(put(drive, body.piece()))
        assert (reply.status, reply.body) == (status, b"why")
        assert body.asked < LARGE / 4 and time.monotonic() - began < 3
        assert drive._wires[0].connection.sock is None, "half a body has gone out on it"


def test_an_answer_before_the_connection_is_closed_is_heeded(start: Start) -> None:
    def script(connection: socket.socket) -> None:
        connection.sendall(answer(403, b"why"))
        raise OSError

    drive = start(script)
    assert drive.send(put(drive, Counted(LARGE, pause=0.05).piece())).status == 403


def test_a_line_that_breaks_in_a_body_is_said_to(start: Start) -> None:
    def script(connection: socket.socket) -> None:
        read_body(connection, MIB)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        raise OSError

    drive = start(script)
    body = Counted(LARGE)
    with pytest.raises(Unavailable):
        drive.send(put(drive, body.piece()))
    assert body.asked < LARGE / 4


def test_bytes_that_do_not_move_are_a_stall(start: Start) -> None:
    """The client of this test has 0.4 seconds of patience."""
    drive = start(lambda connection: time.sleep(5))
    began = time.monotonic()
    with pytest.raises(Unavailable, match="no answer"):
        drive.send(put(drive, Counted(LARGE).piece()))
    assert time.monotonic() - began < 3


def test_a_slow_line_is_no_stall(start: Start) -> None:
    """The request takes longer than any wait may, but something moves all the time."""

    def script(connection: socket.socket) -> None:
        for _ in range(12):
            time.sleep(0.1)
            read_body(connection, 512 * 1024)
        connection.sendall(OK)

    drive = start(script)
    assert drive.send(put(drive, Counted(6 * MIB).piece())).status == 200


def test_what_a_block_raises_passes_through_and_ends_the_connection(start: Start) -> None:
    drive = start(lambda connection: read_body(connection, LARGE))

    def blocks() -> Iterator[bytes]:
        yield bytes(MIB)
        raise Interrupted("stopped")

    with pytest.raises(Interrupted):
        drive.send(put(drive, Piece(LARGE, blocks())))
    assert drive._wires[0].connection.sock is None


def test_an_abort_ends_a_large_request_at_once(start: Start) -> None:
    drive = start(lambda connection: time.sleep(20))
    drive.timeout = 30.0
    threading.Timer(0.5, drive.abort).start()
    began = time.monotonic()
    with pytest.raises(Interrupted):
        drive.send(put(drive, Counted(LARGE).piece()))
    assert time.monotonic() - began < 5


def test_a_certificate_that_nobody_knows_is_refused(client: Callable[..., DriveClient], authority: trustme.CA) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    peer = Peer(lambda connection: None, context)
    drive = client(peer.url)
    with pytest.raises(ConfigError, match="not trusted"):
        drive.send(put(drive, Counted(MIB).piece()))
    peer.close()
