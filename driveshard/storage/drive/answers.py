"""Drive's answers, read into types: whatever comes, a caller gets what it can use or Unavailable.

A proxy, a portal or a cut line may change any answer; what then has another form than Drive's is asked for again, as
any request is whose reply was lost. Numbers may come as numbers or as the strings that Drive makes of them.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, Any, Required, TypedDict, TypeVar

import msgspec

from driveshard.core.errors import Unavailable
from driveshard.core.model import RemoteFile

FOLDER = "application/vnd.google-apps.folder"
_WITHOUT_BYTES = "application/vnd.google-apps."
ID = re.compile(r"[A-Za-z0-9_-]{6,200}")
_Id = Annotated[str, msgspec.Meta(pattern=f"^{ID.pattern}$")]
_Size = Annotated[int, msgspec.Meta(ge=0, le=2**53)]
T = TypeVar("T")


class File(msgspec.Struct):
    """A file's description, the fields that we ask for."""

    id: Annotated[str, msgspec.Meta(min_length=1, max_length=1000)]
    name: str
    mimeType: str  # noqa: N815 - Drive's spelling, as below
    size: _Size | None = None
    md5Checksum: str | None = None  # noqa: N815
    sha256Checksum: str | None = None  # noqa: N815
    webViewLink: str | None = None  # noqa: N815
    trashed: bool | None = None
    appProperties: dict[str, str | int | float | bool | None] | None = None  # noqa: N815
    parents: list[str] | None = None
    resourceKey: str | None = None  # noqa: N815

    def __post_init__(self) -> None:
        """A file without a size would be taken for one of other bytes, and removed. Only what has no content of its
        own (folders, shortcuts, Docs) has none."""
        if self.size is None and not self.mimeType.startswith(_WITHOUT_BYTES):
            raise ValueError("a file without a size")

    def as_remote(self) -> RemoteFile:
        """The file as the rest of driveshard knows it."""
        return RemoteFile(
            id=self.id,
            name=self.name,
            size=self.size or 0,
            md5=self.md5Checksum,
            sha256=self.sha256Checksum,
            link=_address(self.webViewLink),
            properties={key: str(value) for key, value in (self.appProperties or {}).items() if value is not None},
            folder=self.mimeType == FOLDER,
            parent=next(iter(self.parents or ()), None),
            document=self.size is None and self.mimeType != FOLDER,
        )


class Page(msgspec.Struct):
    """A page of a list of files; ``files`` is always there, if only as an empty list."""

    files: list[File]
    nextPageToken: str | None = None  # noqa: N815


class Ids(msgspec.Struct):
    """Ids for files that are to be made."""

    ids: Annotated[list[_Id], msgspec.Meta(min_length=1)]


def _address(link: str | None) -> str | None:
    """A link for people: what is not one is none."""
    return link if link and link.startswith(("https://", "http://")) and link.isprintable() else None


def read(answer: Mapping[str, Any], kind: type[T]) -> T:
    """``answer`` as a ``kind``. Raises Unavailable when it has not that form."""
    try:
        return msgspec.convert(answer, kind, strict=False)
    except (msgspec.ValidationError, RecursionError) as error:
        raise Unavailable(f"Drive's answer is not of the form it should have ({error})") from error


def next_page(token: str | None, seen: set[str]) -> str | None:
    """The token of a list's next page; None at its end. Raises Unavailable when it was ``seen``: such a list has no
    end."""
    if not token:
        return None
    if token in seen:
        raise Unavailable("Drive's list does not go on")
    seen.add(token)
    return token


def read_file(answer: Mapping[str, Any], file_id: str) -> File:
    """The file with that id. Raises Unavailable when the answer is of another one, too."""
    file = read(answer, File)
    if file.id != file_id:
        raise Unavailable("Drive's answer is about another file than was asked for")
    return file


class Detail(TypedDict, total=False):
    """Where a permission comes from."""

    permissionType: str | None
    inherited: bool | None
    inheritedFrom: str | None
    role: str | None


class Permission(TypedDict, total=False):
    """Who may do what, as Drive lists it; only ``id`` is always there."""

    id: Required[str]
    type: str | None
    role: str | None
    emailAddress: str | None
    domain: str | None
    deleted: bool | None
    permissionDetails: list[Detail] | None


class PermissionPage(msgspec.Struct):
    """A page of a list of permissions."""

    permissions: list[Permission]
    nextPageToken: str | None = None  # noqa: N815
