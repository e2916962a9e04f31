"""A push whose line changes Drive's replies: pages instead of answers, fields gone or of another type, cut bodies.

A relay between a push and the emulator changes the replies; what is stored in the end is looked at on the emulator.
"""

from __future__ import annotations

import http.client
import http.server
import itertools
import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from driveshard.config.settings import PushOptions, Settings
from driveshard.core.errors import ConfigError
from driveshard.core.events import ignore
from driveshard.dataset.locate import open_shelf
from driveshard.dataset.verify import verify
from driveshard.emulator import Emulator
from driveshard.sources.folder import FolderSource
from driveshard.storage.retry import Patience
from driveshard.upload.result import PushResult
from driveshard.upload.run import push
from tests.rig import fill

QUICK = Patience(attempts=12, first=0.01, longest=0.02, throttled=3.0)
PORTAL = b"<!DOCTYPE html><html><title>Welcome to the hotel</title><form action=/login></form></html>"


@dataclass
class Said:
    """One reply on its way; ``asked`` is the request's method and path."""

    asked: str
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def document(self) -> Any:
        return json.loads(self.body)

    def say(self, document: Any) -> None:
        self.body = json.dumps(document).encode()


Trick = Callable[[Said], None]


@contextmanager
def relay(target: str, trick: Trick, every: int) -> Iterator[str]:
    """The address of a relay that plays ``trick`` on every so manieth reply of 2xx."""
    host = target.removeprefix("http://").rstrip("/")
    count = itertools.count(1)

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_: Any) -> None:
            pass

        def answer(self) -> None:
            body = self.rfile.read(int(self.headers.get("content-length", 0)))
            behind = http.client.HTTPConnection(host)
            try:
                behind.putrequest(self.command, self.path, skip_host=True, skip_accept_encoding=True)
                for name, value in self.headers.items():
                    if name.lower() != "accept-encoding":
                        behind.putheader(name, value)
                behind.endheaders(body)
                reply = behind.getresponse()
                headers = {name.lower(): value for name, value in reply.getheaders()}
                said = Said(f"{self.command} {self.path.partition('?')[0]}", reply.status, headers, reply.read())
            finally:
                behind.close()
            if 200 <= said.status < 300 and next(count) % every == 0:
                trick(said)
            self.send_response(said.status)
            for name, value in said.headers.items():
                if name not in ("content-length", "transfer-encoding", "connection", "date", "server"):
                    self.send_header(name, value)
            self.send_header("Content-Length", str(len(said.body)))
            self.end_headers()
            self.wfile.write(said.body)

        do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = answer

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}/"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def portal(said: Said) -> None:
    said.status, said.body = 200, PORTAL
    said.headers = {"content-type": "text/html"}


def sent_away(said: Said) -> None:
    said.status, said.body = 302, b""
    said.headers["location"] = "http://portal.example/login"


def empty(said: Said) -> None:
    said.body = b""


def cut(said: Said) -> None:
    said.body = said.body[: len(said.body) // 2]


def created(said: Said) -> None:
    said.status = 201 if said.status == 200 else said.status


def as_page(said: Said) -> None:
    said.headers["content-type"] = "text/html; charset=UTF-8"


def as_nothing(said: Said) -> None:
    said.headers.pop("content-type", None)


def _each(said: Said, change: Callable[[dict[str, Any]], None]) -> None:
    if said.body.startswith(b"{"):
        document = said.document
        for one in [document, *document.get("files", [])]:
            change(one)
        said.say(document)


def numbers(said: Said) -> None:
    """int64 as numbers instead of strings."""
    _each(said, lambda one: one.update(size=int(one["size"])) if "size" in one else None)


def without(field: str) -> Trick:
    return lambda said: _each(said, lambda one: one.pop(field, None))


def with_(field: str, value: Any) -> Trick:
    return lambda said: _each(said, lambda one: one.update({field: value}) if field in one else None)


def a_list(said: Said) -> None:
    said.body = b"[" + said.body + b"]"


def not_a_page_of_files(said: Said) -> None:
    if said.body.startswith(b"{") and "files" in said.document:
        said.say({**said.document, "files": {"a": 1}})


def another_file(said: Said) -> None:
    with_("id", "AnotherFile0123456789")(said)


ALWAYS: dict[str, Trick] = {
    "201": created,
    "all is text/html": as_page,
    "no content type": as_nothing,
    "numbers": numbers,
    "no link": without("webViewLink"),
    "null parents": with_("parents", None),
    "no sha256": without("sha256Checksum"),
}
NOW_AND_THEN: dict[str, Trick] = {
    "portal": portal,
    "redirect": sent_away,
    "empty": empty,
    "cut": cut,
    "list": a_list,
    "no page": not_a_page_of_files,
    "another file": another_file,
    "no id": without("id"),
    "no ids": without("ids"),
    "ids of numbers": with_("ids", [1, 2]),
    "no md5": without("md5Checksum"),
    "no size": without("size"),
    "size is null": with_("size", None),
    "no type": without("mimeType"),
    "no name": without("name"),
    "size of words": with_("size", "many"),
    "size below nothing": with_("size", "-1"),
    "size is a list": with_("size", []),
    "md5 is a number": with_("md5Checksum", 5),
    "name is null": with_("name", None),
    "name is an object": with_("name", {"a": 1}),
    "properties are a list": with_("appProperties", ["driveshard"]),
    "parents are text": with_("parents", "root"),
    "trashed is a word": with_("trashed", "perhaps"),
}


def push_through(url: str, home: Path, source: Path) -> PushResult:
    settings = Settings(home=home, drive_url=url, patience=QUICK, timeout=5, list_lag=0.1)
    options = PushOptions("src", name="set", part_size=20_000, writes_per_second=1000.0, engine="serial")
    return push(options, FolderSource(source), settings, ignore)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return fill(tmp_path / "src", 12, 5000)


def assert_whole(emulator: Emulator, home: Path, result: PushResult) -> None:
    """The dataset lies on the emulator, once and whole."""
    assert result.error is None
    assert result.folder_id is not None
    settings = Settings(home=home, drive_url=f"{emulator.url}/", patience=QUICK)
    shelf = open_shelf(f"drive:{result.folder_id}", settings, ignore)
    try:
        proof = verify(shelf, deep=True)
    finally:
        shelf.close()
    assert proof.problems == []
    assert proof.parts == result.parts > 1


@pytest.mark.parametrize("name", ALWAYS)
def test_replies_of_another_form_do_no_harm(emulator: Emulator, home: Path, source: Path, name: str) -> None:
    with relay(emulator.url, ALWAYS[name], 1) as url:
        assert_whole(emulator, home, push_through(url, home, source))


@pytest.mark.parametrize("name", NOW_AND_THEN)
def test_a_reply_that_was_spoilt_is_asked_for_again(emulator: Emulator, home: Path, source: Path, name: str) -> None:
    with relay(emulator.url, NOW_AND_THEN[name], 2) as url:
        assert_whole(emulator, home, push_through(url, home, source))


@pytest.mark.parametrize("name", ["portal", "redirect", "empty", "cut", "list", "no id", "another file"])
def test_replies_that_are_all_spoilt_end_the_run_as_out_of_reach(
    emulator: Emulator, home: Path, source: Path, name: str
) -> None:
    with relay(emulator.url, NOW_AND_THEN[name], 1) as url:
        result = push_through(url, home, source)
    assert result.error is not None
    assert result.error.exit_code == 69


def elsewhere(said: Said) -> None:
    if "location" in said.headers:
        said.headers["location"] = said.headers["location"].replace("127.0.0.1", "localhost")


def test_an_upload_that_is_sent_elsewhere_ends_the_run(emulator: Emulator, home: Path, source: Path) -> None:
    with relay(emulator.url, elsewhere, 1) as url:
        result = push_through(url, home, source)
    assert isinstance(result.error, ConfigError)
    assert "elsewhere" in str(result.error)
