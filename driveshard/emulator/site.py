"""The pages' routes: what a browser gets from a share link. Always anonymous; what programs read is in `nologin`."""

from __future__ import annotations

from urllib.parse import urlencode

from driveshard.emulator.calls import Call
from driveshard.emulator.pages import (
    Item,
    file_page,
    folder_page,
    home_page,
    private_page,
)
from driveshard.emulator.record import FileRecord
from driveshard.emulator.resource import links, rfc3339
from driveshard.emulator.wire import Reply

README_LIMIT = 256 * 1024
IMAGES = ("image/jpeg", "image/png", "image/webp", "image/gif")
IMAGE_NAMES = (".jpg", ".jpeg", ".png", ".webp", ".gif")


def home(call: Call) -> Reply:
    """`/`."""
    return Reply.html(home_page())


def folder(call: Call) -> Reply:
    """`/drive/folders/ID`: the share page."""
    record = _public(call, call.ids[0])
    if record is None:
        return Reply.html(private_page(), 403)
    if not record.is_folder:
        return Reply(302, headers={"Location": links(record, call.base_url)["webViewLink"]})
    children = _children(call, record)
    preview = next((c for c in children if c.content and c.name == "preview.jpg"), None)
    readme = next((c for c in children if c.content and c.name == "README.md" and c.content.size <= README_LIMIT), None)
    above = _public(call, record.parent) if record.parent else None
    text = folder_page(
        record.name,
        [_item(call, child) for child in children],
        preview_url=_inline_url(call, preview) if preview else None,
        readme=_text(call, readme) if readme else None,
        parent_url=links(above, call.base_url)["webViewLink"] if above else None,
        images={child.name: url for child in children if (url := _inline_url(call, child))},
    )
    return Reply.html(text)


def file_view(call: Call) -> Reply:
    """`/file/d/ID/view`."""
    record = _public(call, call.ids[0])
    if record is None or record.content is None:
        return Reply.html(private_page(), 403)
    facts = {"id": record.id, "type": record.mime_type, "md5": record.content.md5, "sha256": record.content.sha256}
    return Reply.html(file_page(_item(call, record), image_url=_inline_url(call, record), facts=facts))


def open_link(call: Call) -> Reply:
    """`/open?id=ID`: the old form of a share link, sent on to the page of the file or folder."""
    record = _public(call, call.query.get("id", ""))
    if record is None:
        return Reply.html(private_page(), 403)
    return Reply(302, headers={"Location": links(record, call.base_url)["webViewLink"]})


def _public(call: Call, file_id: str) -> FileRecord | None:
    record = call.drive.store.find(file_id)
    if record is None or call.drive.store.is_trashed(record):
        return None
    return record if call.stranger_sees(record, call.query.get("resourcekey")) else None


def _children(call: Call, record: FileRecord) -> list[FileRecord]:
    children = [child for child in call.drive.store.children(record.id) if not child.trashed]
    return sorted(children, key=lambda child: (not child.is_folder, child.name.casefold()))


def _item(call: Call, record: FileRecord) -> Item:
    found = links(record, call.base_url)
    modified = rfc3339(record.modified)
    return Item(
        id=record.id,
        name=record.name,
        is_folder=record.is_folder,
        size=record.content.size if record.content else None,
        modified=f"{modified[:10]} {modified[11:16]} UTC",
        view_url=found["webViewLink"],
        download_url=found.get("webContentLink"),
    )


def _inline_url(call: Call, record: FileRecord) -> str | None:
    if record.mime_type not in IMAGES or not record.name.lower().endswith(IMAGE_NAMES):
        return None
    return f"{call.base_url}/uc?{urlencode({'id': record.id, 'export': 'view'})}"


def _text(call: Call, record: FileRecord) -> str:
    if record.content is None:
        return ""
    return call.drive.store.path_of(record.content).read_text("utf-8", "replace")
