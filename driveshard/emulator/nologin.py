"""The site that serves links to visitors without a login: a folder's list, and downloads with all their detours.

`/embeddedfolderview`, `/uc` and `/download` stand for the three addresses on two hosts of Google's; one server is
both hosts. What is private leads to a login on another host, as it does there.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime
from urllib.parse import quote, urlencode

from driveshard.emulator.calls import Call
from driveshard.emulator.downloads import download
from driveshard.emulator.errors import HTML_ERROR
from driveshard.emulator.nologin_pages import Entry, embedded_page, missing_page, quota_page, scan_page, sign_in_page
from driveshard.emulator.pages import private_page
from driveshard.emulator.record import GOOGLE_TYPE, FileRecord
from driveshard.emulator.wire import Reply

INLINE = ("image/jpeg", "image/png", "image/webp", "image/gif")
DOCS = {
    "document": "document",
    "spreadsheet": "spreadsheets",
    "presentation": "presentation",
    "form": "forms",
    "drawing": "drawings",
}


def embedded(call: Call) -> Reply:
    """`/embeddedfolderview?id=ID[&resourcekey=K][&hl=LANGUAGE]`: the items of a folder, all on one page."""
    record = _find(call)
    if record is None or not record.is_folder:
        return Reply.html(missing_page(), 404)
    if not call.stranger_sees(record, call.query.get("resourcekey")):
        return Reply.html(private_page(), 403)
    held = [child for child in call.drive.store.children(record.id) if not child.trashed]
    held.sort(key=lambda child: (not child.is_folder, child.name.casefold()))
    return Reply.html(embedded_page(record.name, [_entry(call, child) for child in held]))


def uc(call: Call) -> Reply:
    """`/uc?export=download&id=ID`: sends on to the host that downloads come from; a confirmation is lost on the way."""
    kept = {"id", "export", "resourcekey", "authuser"}
    wanted = {name: value for name, value in call.query.items() if name in kept}
    target = f"{call.base_url}/download?{urlencode({'export': 'download', **wanted})}"
    return Reply(303, headers={"Location": target, "Content-Type": "text/html; charset=UTF-8"})


def content(call: Call) -> Reply:
    """`/download?id=ID`: the file, or one of the pages that come instead of it."""
    record = _find(call)
    if record is None or record.content is None:
        return Reply.html(missing_page(), 404)
    if not call.stranger_sees(record, call.query.get("resourcekey")):
        return Reply(302, headers={"Location": _login_url(call), "Content-Type": "text/html; charset=UTF-8"})
    if call.request.method == "HEAD":
        return Reply.html("")
    if record.content.size > call.drive.virus_scan_limit and "confirm" not in call.query:
        return _scan_form(call, record, record.content.size)
    if call.fault == "download-quota" or not call.admit_download(record):
        return Reply.html(quota_page())
    reply = download(call, record)
    if reply.status == 416:
        text = HTML_ERROR.format(status=416, phrase="Requested Range Not Satisfiable", text="")
        return Reply(416, text.encode(), {**reply.headers, "Content-Type": "text/html; charset=UTF-8"})
    plain = record.name.encode("ascii", "replace").decode().replace('"', "'")
    how = "inline" if call.query.get("export") == "view" and record.mime_type in INLINE else "attachment"
    reply.headers["Content-Disposition"] = f"{how}; filename=\"{plain}\"; filename*=UTF-8''{quote(record.name)}"
    reply.headers["X-Content-Type-Options"] = "nosniff"
    return reply


def sign_in(_: Call) -> Reply:
    """`/ServiceLogin`: HTML with status 200, which is nobody's file."""
    return Reply.html(sign_in_page())


def _find(call: Call) -> FileRecord | None:
    record = call.drive.store.find(call.query.get("id", ""))
    return None if record is None or call.drive.store.is_trashed(record) else record


def _scan_form(call: Call, record: FileRecord, size: int) -> Reply:
    uuid = f"{record.id[1:9]}-{record.id[9:13]}"
    hidden = {"id": record.id, "export": "download", "confirm": "t", "uuid": uuid}
    if "resourcekey" in call.query:
        hidden["resourcekey"] = call.query["resourcekey"]
    return Reply.html(scan_page(record.name, size, f"{call.base_url}/download", hidden))


def _entry(call: Call, record: FileRecord) -> Entry:
    moment = datetime.fromtimestamp(record.modified // 1000, UTC)
    english = call.query.get("hl", "en").startswith("en")
    shown = f"{moment:%b} {moment.day}, {moment.year}" if english else f"{moment.day}.{moment.month}.{moment.year}"
    return Entry(record.id, record.name, _href(call, record), shown)


def _href(call: Call, record: FileRecord) -> str:
    kind = DOCS.get(record.mime_type.removeprefix(GOOGLE_TYPE))
    if kind and record.mime_type.startswith(GOOGLE_TYPE):
        return f"https://docs.google.com/{kind}/d/{record.id}/edit?usp=drive_web"
    key = record.extra.get("resourceKey")
    account = re.match(r"/u/\d+", call.request.path)
    seat = account[0] if account else ""
    if record.is_folder:
        return f"{call.base_url}/drive{seat}/folders/{record.id}" + (f"?resourcekey={key}" if key else "")
    return f"{call.base_url}/file{seat}/d/{record.id}/view?usp=drive_web" + (f"&resourcekey={key}" if key else "")


def _login_url(call: Call) -> str:
    """On another host than the one that was asked: Google's, or this machine's other name."""
    base = call.base_url
    query = urlencode({"service": "wise", "passive": "1209600", "continue": base + call.request.target})
    if base.startswith("https:"):
        return f"https://accounts.google.com/ServiceLogin?{query}"
    name, other = ("localhost", "127.0.0.1") if "//localhost" in base else ("127.0.0.1", "localhost")
    return f"{base.replace(name, other, 1)}/ServiceLogin?{query}"
