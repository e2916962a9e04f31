"""The server behind the page: loopback only, a bounded number of connections, and no stranger's page as a client."""

from __future__ import annotations

import contextlib
import os
import socket
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from driveshard.core.errors import ConfigError
from driveshard.dataset.view.site import LOCKED, Answer, Site, refusal

HOST = "127.0.0.1"
MOST_CONNECTIONS = 32
_PATIENCE = 20.0  # seconds that a connection may be silent
_ROOM = 5.0  # seconds that one more has to wait for a free place


class Server(ThreadingHTTPServer):
    """Serves a site on 127.0.0.1 from ``start`` to ``stop``. Raises ConfigError when the port cannot be had."""

    daemon_threads = True  # a connection that says nothing keeps nobody here
    block_on_close = False
    request_queue_size = MOST_CONNECTIONS
    allow_reuse_address = os.name != "nt"  # where it would take a port that another program holds

    def __init__(self, site: Site, port: int) -> None:
        self.site = site
        self._room = threading.BoundedSemaphore(MOST_CONNECTIONS)
        try:
            super().__init__((HOST, port), _Connection)
        except (OSError, OverflowError) as error:
            why = getattr(error, "strerror", None) or str(error)
            raise ConfigError(
                f"the page cannot be served on port {port} of this machine: {why}",
                advice="Give another one with --port, or leave --port out to have a free one.",
            ) from error
        self.names = {f"{host}:{self.server_port}" for host in (HOST, "localhost")}
        if self.server_port == 80:
            self.names |= {HOST, "localhost"}

    @property
    def address(self) -> str:
        return f"http://{HOST}:{self.server_port}/"

    def start(self) -> None:
        threading.Thread(target=self.serve_forever, args=(0.05,), name="view", daemon=True).start()

    def stop(self) -> None:
        self.shutdown()
        self.server_close()

    def process_request(self, request: Any, client_address: Any) -> None:
        if not self._room.acquire(timeout=_ROOM):
            self.shutdown_request(request)
            return
        try:
            super().process_request(request, client_address)
        except BaseException:
            self._room.release()
            raise

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._room.release()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A browser that went away is no news."""


class _Connection(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    timeout = _PATIENCE
    disable_nagle_algorithm = True
    server: Server

    def do_GET(self) -> None:
        # Another site's page could reach this machine by a name of its own (DNS rebinding); the browser then says it.
        if self.headers.get("Host", "").lower() not in self.server.names or self.headers.get_all("Host", [])[1:]:
            self._send(refusal(403, "this address is served to this machine only"))
        elif self.headers.get("Sec-Fetch-Site", "none") not in ("none", "same-origin") and not self._is_followed_link():
            self._send(refusal(403, "this address is not for pages of other sites"))
        else:
            self._send(self.server.site.answer(self.path))

    def _is_followed_link(self) -> bool:
        """Somebody follows a link to the page, in a notebook say: it opens as a page of its own, which nobody reads."""
        said = self.headers.get("Sec-Fetch-Mode"), self.headers.get("Sec-Fetch-Dest")
        return said == ("navigate", "document") and self.path == "/"

    def do_HEAD(self) -> None:
        self.do_GET()

    def _send(self, answer: Answer) -> None:
        self.send_response(answer.status)
        headers = {
            "Content-Type": answer.media,
            "Content-Length": str(answer.length),
            "Content-Security-Policy": LOCKED,
            "X-Content-Type-Options": "nosniff",
            "Cross-Origin-Resource-Policy": "same-origin",
            "Cross-Origin-Opener-Policy": "same-origin",
            "Referrer-Policy": "no-referrer",
            "Cache-Control": "no-store",
            **answer.headers,
        }
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command == "HEAD":
            return
        try:
            for block in answer.body:
                self.wfile.write(block)
        except BaseException:
            self.close_connection = True  # less than was promised, so that nobody takes it for the whole
            with contextlib.suppress(OSError):
                self.connection.shutdown(socket.SHUT_RDWR)
            raise

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the library's name
        """Nothing: stdout is data, and stderr not for every picture."""
