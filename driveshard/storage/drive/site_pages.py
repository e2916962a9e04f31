"""The HTML of Google's site for visitors without a login, read: a folder's items, and the pages that come instead of
a file. Pure: text in, values out.

Nothing of it is documented; it is read by what people have recorded of it, and with as little of its form as will do.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from html.parser import HTMLParser
from typing import Literal

from driveshard.storage.drive.links import Kind, Link, parse_link

PageKind = Literal["scan", "quota", "sign-in", "robot", "missing", "other"]


@dataclass(frozen=True, slots=True)
class Entry:
    """An item of a folder. ``link`` has its id, its kind and its resource key."""

    name: str
    link: Link

    @property
    def kind(self) -> Kind:
        """What it is."""
        return self.link.kind


@dataclass(frozen=True, slots=True)
class Listing:
    """A folder's name and items."""

    name: str
    entries: tuple[Entry, ...]


@dataclass(frozen=True, slots=True)
class Form:
    """The question before a download: where its answer goes, and its fields."""

    action: str
    fields: tuple[tuple[str, str], ...]


class _FolderParser(HTMLParser):
    """Collects ``div.flip-entry`` with the address and the title in it."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.title = ""
        self.is_folder = False
        self.rows: list[dict[str, str]] = []
        self._into: str | None = None  # what text belongs to
        self._depth = 0

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        classes = given.get("class", "").split()
        if {"flip-embedded", "flip-entries", "flip-empty"} & set(classes):
            self.is_folder = True
        if "flip-entry" in classes and given.get("id", "").startswith("entry-"):
            self.is_folder = True
            self.rows.append({"id": given["id"].removeprefix("entry-"), "name": "", "href": ""})
        elif tag == "a" and self.rows and not self.rows[-1]["href"]:
            self.rows[-1]["href"] = given.get("href", "")
        if tag == "title" and not self.rows:
            self._into = "title"
        elif "flip-entry-title" in classes and self.rows:
            self._into, self._depth = "name", 0
        elif self._into == "name" and tag == "div":
            self._depth += 1

    def handle_endtag(self, tag: str) -> None:
        if self._into == "title" and tag == "title":
            self._into = None
        elif self._into == "name" and tag == "div":
            self._depth -= 1
            if self._depth < 0:
                self._into = None

    def handle_data(self, data: str) -> None:
        if self._into == "title":
            self.title += data
        elif self._into == "name" and self.rows:
            self.rows[-1]["name"] += data


def read_listing(page: str) -> Listing | None:
    """A folder's items; None when the page is not a folder's."""
    parser = _FolderParser()
    parser.feed(page)
    parser.close()
    if not parser.is_folder:
        return None
    entries = []
    for row in parser.rows:
        link = parse_link(row["href"]) or parse_link(row["id"])
        if link is not None and row["name"]:
            entries.append(Entry(row["name"], link))
    return Listing(parser.title.strip(), tuple(entries))


class _FormParser(HTMLParser):
    """The hidden fields of ``#download-form``."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.action: str | None = None
        self.fields: list[tuple[str, str]] = []
        self._inside = False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        if tag == "form" and given.get("id") == "download-form":
            self._inside, self.action = True, given.get("action", "")
        elif tag == "input" and self._inside and given.get("type") == "hidden" and given.get("name"):
            self.fields.append((given["name"], given.get("value", "")))

    def handle_endtag(self, tag: str) -> None:
        if tag == "form":
            self._inside = False


@dataclass(frozen=True, slots=True)
class Page:
    """What a page that came instead of a file is, and its form when it asks something."""

    kind: PageKind
    title: str = ""
    form: Form | None = field(default=None)


_SIGNS: tuple[tuple[PageKind, re.Pattern[str]], ...] = (
    ("quota", re.compile(r"quota exceeded|too many users have viewed or downloaded|uc-error-caption", re.I)),
    ("robot", re.compile(r"automated queries|unusual traffic|we're sorry\.\.\.", re.I)),
    ("sign-in", re.compile(r"accounts\.google\.com|ServiceLogin|<title>\s*sign in|you need access", re.I)),
    ("missing", re.compile(r"page not found|error 404|file does not exist|item you requested", re.I)),
)


def read_page(text: str) -> Page:
    """What an HTML page of the site means. A question about viruses is known by its form, whatever its words."""
    title = re.search(r"<title>(.*?)</title>", text, re.I | re.S)
    words = " ".join(title[1].split())[:200] if title else ""
    parser = _FormParser()
    parser.feed(text)
    parser.close()
    if parser.action is not None:
        return Page("scan", words, Form(parser.action, tuple(parser.fields)))
    kind: PageKind = next((kind for kind, sign in _SIGNS if sign.search(text)), "other")
    return Page(kind, words)
