"""Google's site for visitors without a login: its listing, and each page that comes instead of a file."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from driveshard.core.clock import Clock
from driveshard.core.errors import AuthError, Blocked, DailyCap, DriveshardError, NotFound, Refused, Unavailable
from driveshard.storage.drive.links import Link
from driveshard.storage.drive.site import Site
from driveshard.storage.drive.site_pages import read_listing, read_page
from tests.wires import Wire

ID = "1AbC_def-1234567890"
INNER = "1Inner_folder-123"
ENTRY = (
    '<div class="flip-entry" id="entry-{id}" tabindex="0" role="link"><div class="flip-entry-info"><a href="{href}"'
    ' target="_blank"><div class="flip-entry-visual"><img src="x"/></div><div class="flip-entry-title">{name}</div></a>'
    '</div><div class="flip-entry-last-modified"><div>3. Nov 2026</div></div></div>'
)


def page(title: str, body: str = "", status: str = "200 OK", more: str = "") -> bytes:
    text = f"<!DOCTYPE html><html><head><title>{title}</title></head><body>{body}</body></html>".encode()
    head = f"HTTP/1.1 {status}\r\nContent-Type: text/html; charset=utf-8\r\nContent-Length: {len(text)}\r\n{more}\r\n"
    return head.encode() + text


def content(data: bytes, start: int = 0, total: int | None = None) -> bytes:
    total = len(data) if total is None else total
    return (
        f"HTTP/1.1 206 Partial Content\r\nContent-Type: application/octet-stream\r\nContent-Length: {len(data)}\r\n"
        f"Content-Range: bytes {start}-{start + len(data) - 1}/{total}\r\n"
        "Content-Disposition: attachment; filename=\"a.zip\"; filename*=UTF-8''a.zip\r\n\r\n"
    ).encode() + data


def redirect(location: str, status: str = "302 Found") -> bytes:
    return f"HTTP/1.1 {status}\r\nLocation: {location}\r\nContent-Length: 0\r\n\r\n".encode()


@pytest.fixture
def site(wire: Callable[..., Wire]) -> Iterator[Callable[..., tuple[Site, Wire]]]:
    made: list[Site] = []

    def start(*scripts: bytes) -> tuple[Site, Wire]:
        server = wire(*scripts, keep=True)
        made.append(Site(server.url, Clock(), timeout=2.0))
        return made[-1], server

    yield start
    for one in made:
        one.close()


def test_a_listing_of_every_kind() -> None:
    rows = [
        (ID, f"https://drive.google.com/file/d/{ID}/view?usp=drive_web", "it&#39;s &lt;b&gt; &amp;.zip"),
        (INNER, f"https://drive.google.com/drive/u/1/folders/{INNER}?resourcekey=0-k", "inner"),
        ("1Doc_1234567", "https://docs.google.com/document/d/1Doc_1234567/edit?usp=drive_web", "notes"),
        ("1Old_1234567", "https://drive.google.com/file/u/0/d/1Old_1234567/view?resourcekey=0-o", "ä.bin"),
    ]
    entries = "".join(ENTRY.format(id=one, href=href, name=name) for one, href, name in rows)
    text = f'<html><head><title>set &amp; more</title></head><body class="flip-embedded">{entries}</body></html>'
    found = read_listing(text)
    assert found is not None and found.name == "set & more"
    assert [(one.name, one.kind, one.link.id, one.link.resource_key) for one in found.entries] == [
        ("it's <b> &.zip", "file", ID, ""),
        ("inner", "folder", INNER, "0-k"),
        ("notes", "doc", "1Doc_1234567", ""),
        ("ä.bin", "file", "1Old_1234567", "0-o"),
    ]
    assert read_listing('<body><div class="flip-empty">No files</div></body>') is not None
    assert read_listing("<html><title>Sign in</title><form></form></html>") is None


def test_a_listing_asks_with_the_key_and_as_a_browser(site: Callable[..., tuple[Site, Wire]]) -> None:
    here, server = site(page("set", '<div class="flip-entries"></div>'))
    assert here.listing(Link(ID, "folder", "0-key")).name == "set"
    assert server.requests[0].startswith(f"GET /embeddedfolderview?id={ID}&hl=en&resourcekey=0-key ".encode())
    assert b"Mozilla/5.0" in server.requests[0] and b"authorization" not in server.requests[0].lower()


@pytest.mark.parametrize(
    ("reply", "kind"),
    [
        (page("You need access", "private", "403 Forbidden"), AuthError),
        (page("Google Drive", "nothing in it"), AuthError),
        (redirect("https://accounts.google.com/ServiceLogin?continue=x"), AuthError),
        (redirect("https://example.org/x"), AuthError),
        (page("Page Not Found", "", "404 Not Found"), NotFound),
        (page("Sorry...", "We're sorry... automated queries", "429 Too Many"), Blocked),
        (page("Sorry...", "We're sorry... automated queries", "403 Forbidden"), Blocked),
        (page("Error 502 (Server Error)!!1", "", "502 Bad Gateway"), Unavailable),
    ],
)
def test_pages_instead_of_a_folder(
    site: Callable[..., tuple[Site, Wire]], reply: bytes, kind: type[DriveshardError]
) -> None:
    here, server = site(reply)
    with pytest.raises(kind) as raised:
        here.listing(Link(ID))
    assert type(raised.value) is kind and len(server.requests) == 1
    if kind is AuthError:
        assert "Ask whoever sent you the link" in raised.value.advice


SCAN = (
    '<p>{name} is too large</p><form id="download-form" action="{action}" method="get"><input type="submit" value="x">'
    '<input type="hidden" name="id" value="{id}"><input type="hidden" name="confirm" value="t">'
    '<input type="hidden" name="uuid" value="a&amp;b"></form>'
)


@pytest.mark.parametrize(
    ("reply", "kind"),
    [
        (redirect("https://accounts.google.com/ServiceLogin?continue=x"), AuthError),
        (redirect("/ServiceLogin?continue=x"), AuthError),
        (page("Sign in - Google Accounts", "<form>accounts.google.com</form>"), AuthError),
        (page("Google Drive - Quota exceeded", '<p class="uc-error-caption">Sorry</p>'), DailyCap),
        (page("Page Not Found", "", "404 Not Found"), NotFound),
        (page("Sorry...", "We're sorry... automated queries", "403 Forbidden"), Blocked),
        (page("Welcome to our hotel"), Unavailable),
        (page("Error", "", "500 Oops"), Unavailable),
        (content(b"abc", start=7, total=20), Unavailable),
        (page("Virus scan", SCAN.format(name="a", id="1Another_file", action="/download")), Refused),
        (page("Virus scan", SCAN.format(name="a", id=ID, action="https://example.org/download")), Refused),
    ],
)
def test_pages_instead_of_a_file(
    site: Callable[..., tuple[Site, Wire]], reply: bytes, kind: type[DriveshardError]
) -> None:
    here, server = site(reply)
    saved: list[bytes] = []
    with pytest.raises(kind) as raised:
        here.stream(ID, 0, 10, saved.append, lambda _: None)
    assert type(raised.value) is kind
    assert saved == [] and len(server.requests) == 1
    if kind is DailyCap:
        assert raised.value.exit_code == 75 and "--api-key" in raised.value.advice


def test_the_question_about_viruses_is_answered_once_for_a_file(site: Callable[..., tuple[Site, Wire]]) -> None:
    asked = page("Google Drive - Virus scan warning", SCAN.format(name="quota exceeded", id=ID, action="/download?x=1"))
    here, server = site(asked, content(b"abc", total=6), content(b"def", start=3, total=6))
    totals: list[int] = []
    saved: list[bytes] = []
    here.stream(ID, 0, 3, saved.append, totals.append)
    here.stream(ID, 3, 3, saved.append, totals.append)
    assert (b"".join(saved), totals) == (b"abcdef", [6, 6])
    first, *others = [request.partition(b" HTTP")[0] for request in server.requests]
    assert first == f"GET /download?id={ID}&export=download&confirm=t".encode()
    assert others == [f"GET /download?x=1&id={ID}&confirm=t&uuid=a%26b".encode()] * 2


def test_it_asks_for_ever(site: Callable[..., tuple[Site, Wire]]) -> None:
    here, server = site(page("Virus scan", SCAN.format(name="a", id=ID, action="/download")))
    with pytest.raises(Unavailable, match="again and again"):
        here.read(ID, 0, 3)
    assert len(server.requests) == 3


def test_a_page_that_is_the_file_itself_is_taken(site: Callable[..., tuple[Site, Wire]]) -> None:
    here, _ = site(page("my page", more='Content-Disposition: attachment; filename="a.html"\r\n'))
    assert here.read(ID, 0, 1000).startswith(b"<!DOCTYPE html>")


def test_a_redirection_on_the_same_host_is_followed(site: Callable[..., tuple[Site, Wire]]) -> None:
    here, server = site(redirect(f"/download?id={ID}&x=2", "303 See Other"), content(b"abc"))
    assert here.read(ID, 0, 3) == b"abc"
    assert len(server.requests) == 2


def test_a_form_is_known_whatever_the_page_says() -> None:
    assert read_page(SCAN.format(name="automated queries", id=ID, action="/x")).kind == "scan"
