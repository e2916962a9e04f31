"""Google's site for visitors without a login: what a shared folder holds, and the bytes of its files.

Two hosts serve it: one lists, the other one sends. Every answer that is not what was asked for (a sign-in, a question
about viruses, a page about quotas) comes as a page for people, most of them with status 200. So nothing is taken for a
file that is HTML without a file's name beside it, and no address is followed off the host that was asked.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import parse_qsl, urlencode, urljoin, urlsplit

import google.auth.credentials

from driveshard.core.errors import (
    AuthError,
    Blocked,
    DailyCap,
    DriveshardError,
    NotFound,
    Refused,
    Unavailable,
)
from driveshard.core.formatting import shown
from driveshard.core.model import RemoteFile
from driveshard.storage.drive.client import PAGE, DriveClient
from driveshard.storage.drive.links import Link
from driveshard.storage.drive.resumable import Reply, Request
from driveshard.storage.drive.sink import Sink
from driveshard.storage.drive.site_pages import Entry, Form, Listing, read_listing, read_page

PAGES, CONTENT = "https://drive.google.com/", "https://drive.usercontent.google.com/"
_DAY, _HOUR = 86_400.0, 3_600.0
_FOLLOWED = 3
_AGENT = "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/130.0.0.0 Safari/537.36"
ASK = (
    "Ask whoever sent you the link to share the folder with anyone who has the link (`driveshard share NAME --with"
    " anyone`), or read it with a login that may see it: `driveshard login --scope drive.readonly`. A link with"
    " `resourcekey=` in it must be given whole, in quotes."
)
OTHER_WAYS = (
    "Come back tomorrow; or give an API key (--api-key KEY) or log in (`driveshard login --scope drive.readonly`), for"
    " which the limits are wider; or ask the owner for a copy. What was fetched is kept: the same command goes on."
)


class Site:
    """The site below ``base_url`` (None: Google's two hosts). Threads may share it; it is asked one thing at a time."""

    def __init__(self, base_url: str | None, clock: Any, *, timeout: float) -> None:
        nobody = google.auth.credentials.AnonymousCredentials()
        self.base_url = base_url
        self._pages = DriveClient(base_url or PAGES, nobody, clock, timeout=timeout)
        self._content = self._pages if base_url else DriveClient(CONTENT, nobody, clock, timeout=timeout)
        self._answers: dict[str, str] = {}  # where a file comes from once the question about viruses was answered
        self._keys: dict[str, str] = {}
        self._one = threading.Lock()

    def describe(self) -> str:
        """A few words for the user."""
        host = urlsplit(self._pages.base_url).netloc
        return "Google Drive, read without a login" if host in PAGES else f"the site at {host}, read without a login"

    def abort(self) -> None:
        """Break all requests under way."""
        self._pages.abort()
        self._content.abort()

    def close(self) -> None:
        """Close all connections."""
        self._pages.close()
        self._content.close()

    # -- folders -------------------------------------------------------------------------------------------------

    def listing(self, folder: Link) -> Listing:
        """A folder's name and items. Raises AuthError when it is not shown to strangers, NotFound, Blocked."""
        query = {"id": folder.id, "hl": "en"}
        if folder.resource_key:
            query["resourcekey"] = folder.resource_key
        with self._one:
            reply = self._get(self._pages, f"embeddedfolderview?{urlencode(query)}")
        found = read_listing(reply.body.decode("utf-8", "replace")) if reply.status == 200 else None
        if found is None:
            raise _no_folder(reply)
        for entry in found.entries:
            self.show_key(entry.link.id, entry.link.resource_key)
        return found

    def files(self, folder: Link) -> list[RemoteFile]:
        """A folder's items; their sizes are not told."""
        return [_as_remote(entry, folder.id) for entry in self.listing(folder).entries]

    @property
    def keys(self) -> dict[str, str]:
        """The resource keys that are known, by their items' ids."""
        return dict(self._keys)

    def show_key(self, file_id: str, key: str) -> None:
        """Have an item shown that asks visitors for its resource key."""
        if key:
            self._keys[file_id] = key

    def link_to(self, folder_id: str) -> Link:
        """A folder that a list has shown."""
        return Link(folder_id, "folder", self._keys.get(folder_id, ""))

    # -- content -------------------------------------------------------------------------------------------------

    def size(self, file_id: str) -> int:
        """A file's size in bytes, by a look at its first one."""
        totals: list[int] = []
        self.stream(file_id, 0, 1, lambda _: None, totals.append)
        return totals[-1] if totals else 0

    def read(self, file_id: str, start: int, length: int) -> bytes:
        """Bytes of a file; fewer at its end."""
        blocks: list[bytes] = []
        if length > 0:
            self.stream(file_id, start, length, blocks.append, lambda _: None)
        return b"".join(blocks)

    def stream(
        self, file_id: str, start: int, length: int, write: Callable[[bytes], None], on_total: Callable[[int], None]
    ) -> None:
        """Bytes of a file, to ``write`` as they come; its size to ``on_total`` before them, when that is told.

        Raises DailyCap when strangers have had it too often, AuthError when they may not have it, NotFound, Blocked.
        """
        headers = {"range": f"bytes={start}-{start + length - 1}", "accept-encoding": "identity"}
        with self._one:
            for _ in range(_FOLLOWED):
                sink = Sink(start, write, on_total)
                reply = self._get(self._content, self._address(file_id), headers, (start, length), sink)
                if sink.taken or reply.status == 416:
                    return
                form = _form_in(reply, file_id)
                if form is None:
                    raise _no_file(reply)
                self._answers[file_id] = self._checked(form, file_id)
        raise Unavailable("Google asks again and again whether the file may be sent")

    def _address(self, file_id: str) -> str:
        if file_id in self._answers:
            return self._answers[file_id]
        key = self._keys.get(file_id)
        query = {"id": file_id, "export": "download", "confirm": "t", **({"resourcekey": key} if key else {})}
        return f"download?{urlencode(query)}"

    def _checked(self, form: Form, file_id: str) -> str:
        """The form's answer, which goes to the host of the content and nowhere else, and asks for the same file."""
        fields = dict(form.fields)
        target = urljoin(f"{self._content.base_url}download", form.action)
        if not self._content.is_here(target) or fields.get("id", file_id) != file_id:
            raise Refused("Google's question about viruses leads elsewhere", advice="Nothing was sent there.")
        parts = urlsplit(target)
        asked = {**dict(parse_qsl(parts.query)), **fields}
        return parts._replace(query=urlencode(asked), fragment="").geturl()

    # -- requests ------------------------------------------------------------------------------------------------

    def _get(
        self,
        client: DriveClient,
        target: str,
        headers: Mapping[str, str] | None = None,
        window: tuple[int, int] | None = None,
        sink: Sink | None = None,
    ) -> Reply:
        """The reply, after redirections that stay where they began. Raises AuthError for one to a sign-in."""
        uri = urljoin(client.base_url, target)
        for _ in range(_FOLLOWED):
            request = Request("GET", uri, {"user-agent": _AGENT, **(headers or {})}, None, window, sink)
            reply = client.send(request)
            if reply.status not in (301, 302, 303, 307, 308):
                return reply
            uri = urljoin(uri, reply.headers.get("location", ""))
            if not client.is_here(uri) or "servicelogin" in uri.lower():
                raise _led_elsewhere(uri)
        raise Unavailable("Google sends us from address to address")


def _as_remote(entry: Entry, parent: str) -> RemoteFile:
    is_file = entry.kind in ("file", "unknown")
    return RemoteFile(
        entry.link.id,
        entry.name,
        -1 if is_file else 0,
        folder=entry.kind == "folder",
        parent=parent,
        document=entry.kind == "doc",
    )


def _text(reply: Reply) -> str:
    return reply.body.decode("utf-8", "replace")


def _form_in(reply: Reply, file_id: str) -> Form | None:
    return read_page(_text(reply)).form if reply.status == 200 else None


def _led_elsewhere(uri: str) -> DriveshardError:
    host = urlsplit(uri).hostname or ""
    if "servicelogin" in uri.lower() or host.startswith("accounts.google."):
        return AuthError("this link is private: Google asks strangers to sign in", advice=ASK)
    return AuthError(f"this link is not open to strangers: it leads to {shown(host)[:100]}", advice=ASK)


def _no_folder(reply: Reply) -> DriveshardError:
    """What it means that a folder's page is none."""
    page = read_page(_text(reply))
    passing = _passing(reply, page.kind)
    if passing is not None:
        return passing
    if reply.status == 404 or page.kind == "missing":
        return NotFound("there is no folder at this link", advice="Check the link; or the folder was deleted.")
    return AuthError("this folder is not shared with anyone who has the link", advice=ASK)


def _no_file(reply: Reply) -> DriveshardError:
    """What it means that a page came instead of a file."""
    page = read_page(_text(reply))
    passing = _passing(reply, page.kind)
    if passing is not None:
        return passing
    if reply.status == 404 or page.kind == "missing":
        return NotFound(
            "there is no such file on Drive any more",
            advice="Ask whoever sent you the link; the owner's next push sends again what is missing.",
        )
    if page.kind == "sign-in" or reply.status in (401, 403):
        return AuthError("this file is private: Google asks strangers to sign in", advice=ASK)
    said = f": {shown(page.title)}" if page.title else ""
    return Unavailable(f"a page came instead of the file{said}" if page.title else PAGE)


def _passing(reply: Reply, kind: str) -> DriveshardError | None:
    """What passes by itself: failures of the moment, blocks, and the day's quota."""
    if reply.status >= 500 or reply.status == 408:
        return Unavailable(f"Google answered {reply.status}")
    if kind == "quota":
        return DailyCap(
            "strangers have downloaded this file too often today", advice=OTHER_WAYS, resume_after=time.time() + _DAY
        )
    if kind == "robot" or reply.status == 429:
        return Blocked(
            "Google takes this machine's requests for automated traffic and has blocked them for now",
            advice=OTHER_WAYS,
            resume_after=time.time() + _HOUR,
        )
    return None
