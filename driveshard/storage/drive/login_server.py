"""The small server on this machine to which Google sends the browser back: one answer, and a page for all else.

Browsers ask for more than the one address (an icon, the page again, connections in advance), so it goes on answering
until the one request comes that carries this login's own ``state``.
"""

from __future__ import annotations

import os
import queue
import secrets
import threading
from html import escape
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

from driveshard.core.errors import ConfigError, DriveshardError

HOST = "127.0.0.1"
_GOODBYE = 2.0  # seconds
_PAGE_WAITS = 90.0  # seconds until what came of it is known; then the page says to look at the terminal

_HTML = """<!doctype html>
<html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>driveshard: {title}</title>
<style>body{{font:1.1rem/1.5 system-ui,sans-serif;max-width:34rem;margin:15vh auto;padding:0 1rem;
color:#202124;background:#fff}}h1{{font-size:1.5rem}}@media(prefers-color-scheme:dark)
{{body{{color:#e8eaed;background:#202124}}}}</style>
<h1 id="{kind}">{title}</h1>
<p>{text}</p>
"""


def page(title: str, text: str, kind: str) -> bytes:
    """A page of one sentence; ``kind`` is its heading's id."""
    return _HTML.format(title=escape(title), text=escape(text), kind=kind).encode()


class LoginServer:
    """Listens while it is entered. ``address`` is where the browser is to be sent back to, ``state`` what it must
    bring along. Raises ConfigError when the port cannot be had."""

    def __init__(self, port: int) -> None:
        self.state = secrets.token_urlsafe(24)
        self._answers: queue.Queue[dict[str, str]] = queue.Queue()
        self._outcome: tuple[int, bytes] | None = None
        self._told = threading.Event()
        self._shown = threading.Event()
        self._asked = threading.Event()
        try:
            self._server = _Server((HOST, port), _Handler)
        except (OSError, OverflowError) as error:
            why = getattr(error, "strerror", None) or str(error)
            raise ConfigError(
                f"the login cannot listen on port {port} of this machine: {why}",
                advice="Give another one with --port, or leave --port out to have a free one.",
            ) from error
        self._server.login = self
        self.address = f"http://{HOST}:{self._server.server_port}/"
        self.port = self._server.server_port

    def __enter__(self) -> LoginServer:
        threading.Thread(target=self._server.serve_forever, args=(0.05,), name="login", daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._told.set()
        if self._asked.is_set():
            self._shown.wait(_GOODBYE)  # the page arrives before the process ends
        self._server.shutdown()
        self._server.server_close()

    def wait(self, seconds: float) -> dict[str, str] | None:
        """What the browser brought (``code``, or ``error``), None when it did not come within that time."""
        try:
            return self._answers.get(timeout=seconds)
        except queue.Empty:
            return None

    def tell(self, account: str) -> None:
        """The browser's page says that it is done."""
        whose = f"the Drive of {account}" if account else "your Drive"
        self._settle(200, page(f"driveshard may use {whose} now", "You can close this page.", "done"))

    def tell_failure(self, error: DriveshardError) -> None:
        """The browser's page says why it is not."""
        text = f"{error}. {error.advice}"
        self._settle(400, page("driveshard may not use your Drive", text, "failed"))

    def _settle(self, status: int, shown: bytes) -> None:
        self._outcome = (status, shown)
        self._told.set()

    def shown(self) -> None:
        """A page went out; the last one when the outcome is known."""
        if self._outcome is not None:
            self._shown.set()

    def answer(self, path: str) -> tuple[int, bytes]:
        """Status and page for a request."""
        parts = urlsplit(path)
        if parts.path != "/":
            return 404, page("Not here", "This address only takes the answer to a login of driveshard.", "stray")
        query = {name: values[-1] for name, values in parse_qs(parts.query).items()}
        if not query.keys() & {"code", "error"}:
            return 404, page("Nothing yet", "driveshard waits here for Google's answer to its login.", "stray")
        if not secrets.compare_digest(query.get("state", "").encode(), self.state.encode()):
            text = "This answer belongs to another login. Open the address that driveshard printed last."
            return 400, page("Another login", text, "other")
        self._asked.set()
        self._answers.put(query)
        if self._told.wait(_PAGE_WAITS) and self._outcome is not None:
            return self._outcome
        return 200, page("Look at your terminal", "driveshard says there how the login ended.", "unknown")


class _Server(ThreadingHTTPServer):
    daemon_threads = True  # a connection that says nothing keeps nobody here
    block_on_close = False
    allow_reuse_address = os.name != "nt"  # where it would take a port that another program holds
    login: LoginServer


class _Handler(BaseHTTPRequestHandler):
    timeout = 5  # seconds; a browser opens connections in advance, and says nothing on them
    server: _Server

    def do_GET(self) -> None:
        """Answer the browser with the page for what it brought; it is told nothing else, and to keep nothing."""
        status, body = self.server.login.answer(self.path)
        self.send_response(status)
        self.send_header("Content-Type", "text/html; charset=utf-8")
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Cache-Control", "no-store")
        self.send_header("Referrer-Policy", "no-referrer")
        self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(body)
        self.wfile.flush()
        self.server.login.shown()

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the library's name
        """Nothing: the request holds the code."""
