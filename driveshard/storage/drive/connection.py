"""Connections to Drive, one thread's each: a request goes out once, of a reply only what was asked for is held."""

from __future__ import annotations

import http.client
import re
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httplib2
import socks
from google_auth_httplib2 import AuthorizedHttp

_BLOCK = 256 * 1024
_MOST_OF_ANSWER = 64 * 1024 * 1024  # bytes; a list of a thousand files has about one
_MOST_OF_ERROR = 64 * 1024


class Sink:
    """Where a file's content goes as it comes: each block to ``write``, before them the file's whole size in bytes to
    ``on_total`` when the reply tells it. Either may raise to end it."""

    def __init__(self, start: int, write: Callable[[bytes], None], on_total: Callable[[int], None]) -> None:
        self._start = start
        self.write = write
        self._on_total = on_total
        self.taken = False

    def takes(self, status: int, headers: http.client.HTTPMessage) -> bool:
        """Whether the reply is the file, and the piece of it that was asked for; a page for people is neither."""
        page = headers.get("content-type", "").lower().startswith(("text/html", "application/xhtml"))
        if page and "content-disposition" not in headers:
            return False
        place = re.match(r"bytes (\d{1,19})-\d{1,19}/(\d{1,19})?", headers.get("content-range", ""), re.ASCII)
        if status == 206 and (place is None or int(place[1]) != self._start):
            return False
        total = place[2] if status == 206 and place is not None else headers.get("content-length", "")
        if total and re.fullmatch(r"\d{1,19}", total, re.ASCII):
            self._on_total(int(total))
        self.taken = True
        return True


class _Asked(threading.local):
    """What this thread's request wants of its reply: ``window`` (start, length) of a file's content, None for an answer
    in JSON; ``sink`` when it is not to be held. ``cut`` says that the reply had more, so that its connection is of no
    more use."""

    window: tuple[int, int] | None = None
    sink: Sink | None = None
    cut = False


asked = _Asked()


class Response(http.client.HTTPResponse):
    """A reply of which no more is held than was asked for, whatever the other side sends.

    A ranged read may be answered by the whole file; then what comes before the window is thrown away as it comes, and
    what comes after it is not waited for.
    """

    def read(self, amount: int | None = None) -> bytes:
        """As ``HTTPResponse``; without ``amount`` the window alone. Raises HTTPException for an endless answer."""
        if amount is not None:
            return super().read(amount)
        window = asked.window if self.status in (200, 206) else None
        if window is not None and self.getheader("content-encoding", "identity") != "identity":
            raise http.client.HTTPException("the bytes of a file came in a form that was not asked for")
        sink = asked.sink
        body = self._held(window) if window is None or sink is None else self._taken(window, sink)
        if not self._at_end():
            if window is None and self.status < 300:
                raise http.client.HTTPException("the answer does not end")
            self.close()
            asked.cut = True
        return body

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
            super().read(1)  # only now the connection knows that it is free
        return b""

    def _blocks(self, left: int) -> Iterator[bytes]:
        while left and (block := super().read(min(left, _BLOCK))):
            left -= len(block)
            yield block
        if left and self.length:  # it said how long it would be
            raise http.client.IncompleteRead(b"", self.length)

    def _at_end(self) -> bool:
        return self.isclosed() or self.length == 0 or (self.length is None and not super().read(1))


def _most_of(status: int) -> int:
    return _MOST_OF_ANSWER if status < 300 else _MOST_OF_ERROR


class _NoResend:
    """httplib2 sends a request again on BadStatusLine; as a reset connection it comes to us instead."""

    response_class: Any = Response

    def getresponse(self) -> http.client.HTTPResponse:
        try:
            return super().getresponse()  # type: ignore[misc, no-any-return]
        except http.client.BadStatusLine as error:
            raise ConnectionResetError("the connection was closed without a reply") from error


class PlainConnection(_NoResend, httplib2.HTTPConnectionWithTimeout):
    pass


class SecureConnection(_NoResend, httplib2.HTTPSConnectionWithTimeout):
    def __init__(self, host: str, *, ca_certs: str | None = None, **options: Any) -> None:
        """As httplib2's; ``ca_certs`` may be a folder, too."""
        folder = ca_certs is not None and Path(ca_certs).is_dir()
        super().__init__(  # type: ignore[no-untyped-call]
            host, ca_certs=None if folder else ca_certs, **options
        )
        if folder:
            self._context.load_verify_locations(capath=ca_certs)  # type: ignore[attr-defined]

    def connect(self) -> None:
        """As httplib2's, which leaves a socket open when nobody answers at its other end."""
        place, proxy = (self.host, self.port), self.proxy_info
        if proxy is not None and proxy.applies_to(self.host):
            kind, host, port, remote, name, password, _ = proxy.astuple()
            line = socks.create_connection(
                place,
                self.timeout,
                proxy_type=kind,
                proxy_addr=host,
                proxy_port=port,
                proxy_rdns=remote,
                proxy_username=name,
                proxy_password=password,
            )
        else:
            line = socket.create_connection(place, self.timeout)
        try:
            line.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self.sock = self._context.wrap_socket(line, server_hostname=self.host)  # type: ignore[attr-defined]
        except BaseException:
            line.close()
            raise


class Wire:
    """One thread's connection."""

    def __init__(self, authorized: AuthorizedHttp) -> None:
        self.authorized = authorized
        self.last_used = 0.0
        self.refusals = 0  # replies of 401 in a row

    def drop(self) -> None:
        """Close it; the next request has a fresh one."""
        for connection in list(self.authorized.http.connections.values()):
            shut(connection)
            connection.close()
        self.authorized.http.connections.clear()


def shut(connection: http.client.HTTPConnection) -> None:
    """Break a connection, whoever waits for it."""
    sock = connection.sock
    if sock is not None:
        try:
            sock.shutdown(socket.SHUT_RDWR)
        except OSError:
            return  # the other side was quicker
