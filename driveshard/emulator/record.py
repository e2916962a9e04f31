"""One file or folder as the store holds it."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

FOLDER = "application/vnd.google-apps.folder"
SHORTCUT = "application/vnd.google-apps.shortcut"
GOOGLE_TYPE = "application/vnd.google-apps."
OWNER_EMAIL = "owner@emulator.invalid"
OWNER_NAME = "Emulated Owner"


@dataclass
class Content:
    """The bytes of a blob: name under `blobs/`, size in bytes, hex checksums, revision id."""

    blob: str
    size: int
    md5: str
    sha1: str
    sha256: str
    revision: str


@dataclass
class FileRecord:
    """A file, folder or shortcut. Times are milliseconds since the epoch; `parent` is None for the root only.

    `change` is the number of its latest change in the order of all changes."""

    id: str
    name: str
    mime_type: str
    parent: str | None
    created: int
    modified: int
    content: Content | None = None
    trashed: bool = False
    trashed_at: int | None = None
    starred: bool = False
    description: str = ""
    original_name: str | None = None
    properties: dict[str, str] = field(default_factory=dict)
    app_properties: dict[str, str] = field(default_factory=dict)
    permissions: dict[str, dict[str, Any]] = field(default_factory=dict)
    target: str | None = None
    extra: dict[str, Any] = field(default_factory=dict)
    version: int = 1
    order: int = 0
    change: int = 0

    @property
    def is_folder(self) -> bool:
        """True for folders, the root included."""
        return self.mime_type == FOLDER

    def document(self) -> dict[str, Any]:
        """The JSON document kept on disk."""
        return asdict(self)

    @classmethod
    def from_document(cls, document: dict[str, Any]) -> FileRecord:
        """The record of a document made by `document`."""
        content = document.pop("content")
        return cls(content=Content(**content) if content else None, **document)
