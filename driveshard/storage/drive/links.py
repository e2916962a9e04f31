"""What people paste for a thing on Drive: every form of link, and bare ids, read in one place.

https://drive.google.com/drive/folders/ID?usp=sharing&resourcekey=K     .../drive/u/1/folders/ID
https://drive.google.com/open?id=ID     .../folderview?id=ID     .../embeddedfolderview?id=ID#grid
https://drive.google.com/file/d/ID/view     .../uc?export=download&id=ID     .../file/u/1/d/ID/view
https://docs.google.com/document/d/ID/edit     https://www.google.com/url?q=LINK
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal
from urllib.parse import SplitResult, parse_qs, urlsplit

from driveshard.core.errors import UsageError
from driveshard.core.formatting import shown
from driveshard.core.urls import is_loopback
from driveshard.storage.drive.answers import ID

Kind = Literal["folder", "file", "doc", "unknown"]

HOSTS = ("drive.google.com", "docs.google.com", "drive.usercontent.google.com")
_FOLDER = re.compile(r"/folders/([A-Za-z0-9_-]+)")
_FILE = re.compile(r"/file/(?:u/\d+/)?d/([A-Za-z0-9_-]+)")
_DOC = re.compile(r"^/(?:a/[^/]+/)?(document|spreadsheets|presentation|forms?|drawings)/(?:u/\d+/)?d/([A-Za-z0-9_-]+)")
_VIEWS = ("/folderview", "/embeddedfolderview")
_CONTENT = ("/uc", "/download")
_KEY = re.compile(r"[A-Za-z0-9_-]{1,100}")


@dataclass(frozen=True, slots=True)
class Link:
    """What a link says: the ``id``, the ``kind`` of thing as far as its form tells, and the key that older items ask
    of visitors (empty: none)."""

    id: str
    kind: Kind = "unknown"
    resource_key: str = ""


def parse_link(text: str) -> Link | None:
    """A link, or a bare id, as it was pasted; None for what is neither. The host is not looked at."""
    text = _bare(text)
    if "/" not in text:
        return Link(text) if ID.fullmatch(text) else None
    try:
        parts = urlsplit(text)
        query = {name: values[0] for name, values in parse_qs(parts.query).items()}
    except ValueError:
        return None
    if re.fullmatch(r"(www\.)?google\.[a-z.]+", parts.hostname or "") and parts.path == "/url":
        inner = query.get("q") or query.get("url") or ""
        return parse_link(inner) if is_drive_link(inner) else None
    kind, found = _read(parts, query)
    if not ID.fullmatch(found):
        return None
    key = query.get("resourcekey", "")
    return Link(found, kind, key if _KEY.fullmatch(key) else "")


def _bare(text: str) -> str:
    """Without what comes along when a link is copied out of a text."""
    text = text.strip().strip("<>\"'").replace("\\?", "?").replace("\\=", "=").replace("\\&", "&")
    if re.match(r"(drive|docs)\.google\.com/", text):
        return f"https://{text}"
    return text


def _read(parts: SplitResult, query: dict[str, str]) -> tuple[Kind, str]:
    """(kind, id); the id is empty when there is none."""
    if found := _FOLDER.search(parts.path):
        return "folder", found[1]
    if found := _FILE.search(parts.path):
        return "file", found[1]
    if found := _DOC.search(parts.path):
        return "doc", found[2]
    last = "/" + parts.path.rstrip("/").rpartition("/")[2]
    kind: Kind = "folder" if last in _VIEWS else "file" if last in _CONTENT else "unknown"
    return kind, query.get("id", "")


def is_drive_link(text: str) -> bool:
    """Whether a text is a link to Google's Drive, or to one on this machine."""
    try:
        parts = urlsplit(_bare(text))
    except ValueError:
        return False
    host = parts.hostname or ""
    if host in HOSTS and parts.scheme in ("http", "https"):
        return True
    return is_loopback(_bare(text)) or bool(re.fullmatch(r"(www\.)?google\.[a-z.]+", host) and parts.path == "/url")


def folder_link(text: str) -> Link:
    """The folder that a link or an id names. Raises UsageError, which says so when it names something else."""
    link = parse_link(text)
    if link is None:
        raise UsageError(
            f"{shown(text)!r} is not a Drive folder", advice="Give its id or its link (.../drive/folders/ID)."
        )
    if link.kind in ("file", "doc"):
        what = "a file" if link.kind == "file" else "a Google Doc"
        raise UsageError(
            f"{shown(text)!r} is not a Drive folder: it is a link to {what}",
            advice="Give the link of the folder that it is in (.../drive/folders/ID).",
        )
    return link
