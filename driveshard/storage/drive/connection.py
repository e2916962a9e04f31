"""One connection to Drive: a request goes out once, block by block, and whatever is answered meanwhile is read.

``http.client`` writes the head and reads the answer; the body is sent here, since no library looks for an answer while
a body is still going out, waits for bytes that do not move, or lets a limit have its say within a request. Of a reply
no more is held than was asked for.
"""

from __future__ import annotations

import contextlib
import http.client
import os
import selectors
import socket
import ssl
import zlib
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

import httplib2
import socks

from driveshard.storage.base import Piece
from driveshard.storage.drive.network import Proxy
from driveshard.storage.drive.resumable import Reply, Request
from driveshard.storage.drive.sink import Sink

_BLOCK = 256 * 1024
_MOST_OF_ANSWER = 64 * 1024 * 1024  # bytes; a list of a thousand files has about one
_MOST_OF_ERROR = 64 * 1024
_TLS_BLOCK = 64 * 1024  # one write to TLS is all or nothing, so a slow line must get it through before its time is over
_UNSENT = 128 * 1024  # bytes the system may hold beyond what is on the line: more would look sent, and be hard to stop
_LAST_WORD = 2.0  # seconds to wait for the answer on a line that broke while the body was sent


class Response(http.client.HTTPResponse):
    """A reply of which no more is held than was asked for, whatever the other side sends.

    A ranged read may be answered by the whole file; then what comes before the window is thrown away as it comes, and
    what comes after it is not waited for.
    """

    def waits(self) -> bool:
        """Whether a reply has begun to come, on a line that does not block. Raises ConnectionResetError at its end."""
        try:
            if self.fp.peek(1):
                return True
        except (ssl.SSLWantReadError, ssl.SSLWantWriteError, BlockingIOError):
            return False  # a session ticket, or half of what TLS needs to tell
        raise ConnectionResetError("the connection was closed while the body was sent")

    def content(self, window: tuple[int, int] | None, sink: Sink | None = None) -> tuple[bytes, bool]:
        """The body, or ``window`` (start, length) of it, which goes to ``sink`` as it comes if there is one; and
        whether the connection is of no more use, since there is more. Raises HTTPException for an endless answer."""
        window = window if self.status in (200, 206) else None
        encoded = self.getheader("content-encoding", "identity") != "identity"
        if window is not None and encoded:
            raise http.client.HTTPException("the bytes of a file came in a form that was not asked for")
        body = self._held(window) if window is None or sink is None else self._taken(window, sink)
        whole = self._at_end()
        if not whole and window is None and self.status < 300:
            raise http.client.HTTPException("the answer does not end")
        return _unpacked(body) if encoded else body, not whole or self.will_close

    def _held(self, window: tuple[int, int] | None) -> bytes:
        """What was asked for, whole."""
        skip, most = (window[0] if self.status == 200 else 0, window[1]) if window else (0, _most_of(self.status))
        for _ in self._blocks(skip):
            pass
        return b"".join(self._blocks(most))

    def _taken(self, window: tuple[int, int], sink: Sink) -> bytes:
        """The content into ``sink``, each piece as soon as it is there; of anything else the beginning is held."""
        if not sink.takes(self.status, self.headers):
            return b"".join(self._blocks(_MOST_OF_ERROR))
        for _ in self._blocks(window[0] if self.status == 200 else 0):
            pass
        left = window[1]
        while left and (block := self.read1(min(left, _BLOCK))):
            left -= len(block)
            sink.write(block)
        if left and self.length:  # it said how long it would be
            raise http.client.IncompleteRead(b"", self.length)
        if self.length == 0:
            self.read(1)  # only now the connection knows that it is free
        return b""

    def _blocks(self, left: int) -> Iterator[bytes]:
        while left and (block := self.read(min(left, _BLOCK))):
            left -= len(block)
            yield block
        if left and self.length:  # it said how long it would be
            raise http.client.IncompleteRead(b"", self.length)

    def _at_end(self) -> bool:
        return self.isclosed() or self.length == 0 or (self.length is None and not self.read(1))


def _most_of(status: int) -> int:
    return _MOST_OF_ANSWER if status < 300 else _MOST_OF_ERROR


def _unpacked(body: bytes) -> bytes:
    try:
        return zlib.decompressobj(47).decompress(body, _MOST_OF_ANSWER)  # 47: gzip or zlib, as it says itself
    except zlib.error as error:
        raise http.client.HTTPException("the answer cannot be unpacked") from error


class Connection(http.client.HTTPConnection):
    """To ``host``; with ``context`` by TLS, through ``proxy`` where that applies. ``timeout`` in seconds bounds each
    wait for the line, not a request."""

    def __init__(
        self, host: str, port: int, *, timeout: float, context: ssl.SSLContext | None = None, proxy: Proxy | None = None
    ) -> None:
        self.default_port = http.client.HTTPS_PORT if context else http.client.HTTP_PORT  # left out of Host:
        super().__init__(host, port, timeout=timeout)
        self._context = context
        self._proxy = proxy
        self._patience = timeout

    def connect(self) -> None:
        """As ``HTTPConnection``; leaves no socket open when nobody answers at its other end."""
        line = self._line()
        try:
            line.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            with contextlib.suppress(OSError, AttributeError):  # where the system knows of it
                line.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, _UNSENT)
            self._process = os.getpid()
            self.sock = self._context.wrap_socket(line, server_hostname=self.host) if self._context else line
        except BaseException:
            line.close()
            raise

    def _line(self) -> socket.socket:
        place, proxy = (self.host, self.port), self._proxy
        if proxy is None or not proxy.applies_to(self.host):
            return socket.create_connection(place, self._patience)
        kind, host, port, remote, name, password, _ = proxy.astuple()  # type: ignore[no-untyped-call]
        line: socket.socket = socks.create_connection(
            place,
            self._patience,
            proxy_type=kind,
            proxy_addr=host,
            proxy_port=port,
            proxy_rdns=remote,
            proxy_username=name,
            proxy_password=password,
        )
        return line

    def exchange(self, request: Request, target: str, headers: Mapping[str, str]) -> Reply:
        """Send a request once and read its reply, which may come before the body is through. A connection that is of
        no more use is closed; after an error, by the caller. Raises OSError, HTTPException, and what the body's blocks
        raise."""
        body = Piece.of(request.body or b"")
        self.putrequest(request.method, target, skip_accept_encoding=True)
        for name, value in headers.items():
            self.putheader(name, value)
        if body.length or request.method not in ("GET", "DELETE"):
            self.putheader("content-length", str(body.length))
        self.endheaders()
        response = Response(self.sock, method=request.method)
        self.response_class = lambda *_, **__: response  # type: ignore[assignment]
        with response:
            whole = not body.length or self._send_body(body.blocks, response)
            try:
                self.getresponse()
            except http.client.BadStatusLine as error:
                raise ConnectionResetError("the connection was closed without a reply") from error
            content, spent = response.content(request.window, request.sink)
        if spent or not whole:
            self.close()
        return Reply(response.status, {key.lower(): value for key, value in response.getheaders()}, content)

    def shut(self) -> None:
        """Break it, whoever waits for it. A forked child has its parent's, which it only lets go."""
        sock = self.sock
        if sock is not None and self._process == os.getpid():
            with contextlib.suppress(OSError):  # the other side was quicker
                sock.shutdown(socket.SHUT_RDWR)

    def _send_body(self, blocks: Iterable[bytes | memoryview], response: Response) -> bool:
        """False when the reply came before all was sent."""
        self.sock.setblocking(False)
        try:
            with selectors.DefaultSelector() as line:
                line.register(self.sock, selectors.EVENT_READ | selectors.EVENT_WRITE)
                return all(self._send_block(memoryview(block), line, response) for block in blocks)
        except (BrokenPipeError, ConnectionResetError):
            self.sock.settimeout(min(_LAST_WORD, self._patience))
            if not _spoken(response):
                raise
            return False
        finally:
            self.sock.settimeout(self._patience)

    def _send_block(self, block: memoryview, line: selectors.BaseSelector, response: Response) -> bool:
        most = _TLS_BLOCK if self._context else len(block)
        while block:
            ready = line.select(self._patience)
            if not ready:
                raise TimeoutError("no byte has left for too long")
            if ready[0][1] & selectors.EVENT_READ and response.waits():
                return False
            if ready[0][1] & selectors.EVENT_WRITE:
                with contextlib.suppress(ssl.SSLWantWriteError, ssl.SSLWantReadError, BlockingIOError):
                    block = block[self.sock.send(block[:most]) :]
        return True


def _spoken(response: Response) -> bool:
    """Whether a reply came before the line broke."""
    try:
        return bool(response.fp.peek(1))
    except OSError:
        return False


def secure_context(certificates: str | None) -> ssl.SSLContext:
    """``certificates`` is a file or a folder of those to trust, None for the usual ones."""
    if certificates is not None and Path(certificates).is_dir():
        return ssl.create_default_context(capath=certificates)
    return ssl.create_default_context(cafile=certificates or httplib2.CA_CERTS)
