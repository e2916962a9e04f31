"""What only Drive has: links, the trash, pages of a list, and the people a folder is shared with."""

from __future__ import annotations

import json
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from driveshard.config.settings import settings_from
from driveshard.core.errors import NotFound, ShareRefused, UsageError
from driveshard.emulator import Emulator
from driveshard.storage.drive import permissions
from driveshard.storage.drive.destination import DriveDestination, folder_id_of, open_drive
from driveshard.storage.drive.permissions import Permissions


@pytest.fixture
def drive(emulator: Emulator, home: Path) -> Iterator[DriveDestination]:
    drive = open_drive("", settings_from({"DRIVESHARD_HOME": str(home), "DRIVESHARD_DRIVE_URL": emulator.url}))
    yield drive
    drive.close()


@pytest.fixture
def folder(drive: DriveDestination) -> str:
    folder_id = drive.reserve_ids(1)[0]
    drive.make_folder(folder_id, "d", {"driveshard": "folder"})
    return folder_id


def put(drive: DriveDestination, folder: str, name: str, data: bytes = b"x") -> str:
    file_id = drive.reserve_ids(1)[0]
    drive.put(file_id, folder, name, data, "text/plain", replace=False)
    return file_id


def api(emulator: Emulator, method: str, path: str, body: Any = None) -> Any:
    request = urllib.request.Request(
        f"{emulator.url}/drive/v3/{path}",
        None if body is None else json.dumps(body).encode(),
        {"Authorization": "Bearer emulator", "Content-Type": "application/json"},
        method=method,
    )
    with urllib.request.urlopen(request) as reply:
        return json.load(reply)


@pytest.mark.parametrize(
    ("text", "folder_id"),
    [
        ("1AbC_def-123", "1AbC_def-123"),
        ("https://drive.google.com/drive/folders/1AbC_def-123", "1AbC_def-123"),
        ("https://drive.google.com/drive/u/1/folders/1AbC_def-123?usp=sharing", "1AbC_def-123"),
        ("https://drive.google.com/drive/folders/1AbC_def-123?resourcekey=0-x&usp=share", "1AbC_def-123"),
        ("https://drive.google.com/open?id=1AbC_def-123", "1AbC_def-123"),
        ("http://127.0.0.1:8000/drive/folders/1AbC_def-123?usp=sharing", "1AbC_def-123"),
    ],
)
def test_a_folder_is_named_by_its_id_or_its_link(text: str, folder_id: str) -> None:
    assert folder_id_of(text) == folder_id


@pytest.mark.parametrize(
    "text", ["", "x", "https://drive.google.com/", "my folder", "a'b or 'c' in parents", "../../.."]
)
def test_what_names_no_folder_is_refused(text: str) -> None:
    with pytest.raises(UsageError):
        folder_id_of(text)


def test_what_is_in_the_trash_is_not_there(emulator: Emulator, drive: DriveDestination, folder: str) -> None:
    file_id = put(drive, folder, "a")
    api(emulator, "PATCH", f"files/{file_id}", {"trashed": True})
    with pytest.raises(NotFound, match="trash"):
        drive.get(file_id)
    assert drive.children(folder) == []
    api(emulator, "PATCH", f"files/{folder}", {"trashed": True})
    assert drive.find_folders("d") == []


def test_a_folder_that_somebody_else_made_is_none_of_ours(emulator: Emulator, drive: DriveDestination) -> None:
    api(emulator, "POST", "files", {"name": "hand-made", "mimeType": "application/vnd.google-apps.folder"})
    assert drive.find_folders("hand-made") == []


def test_datasets_can_be_put_into_another_folder(emulator: Emulator, home: Path, drive: DriveDestination) -> None:
    parent = api(emulator, "POST", "files", {"name": "all", "mimeType": "application/vnd.google-apps.folder"})["id"]
    settings = settings_from({"DRIVESHARD_HOME": str(home), "DRIVESHARD_DRIVE_URL": emulator.url})
    inside = open_drive(f"{emulator.url}/drive/folders/{parent}", settings)
    made = inside.make_folder(inside.reserve_ids(1)[0], "d", {"driveshard": "folder"})
    assert [one.id for one in inside.find_folders("d")] == [made.id]
    assert drive.find_folders("d") == []
    assert inside.identity != drive.identity
    assert inside.account == drive.account
    assert parent in inside.describe()
    inside.close()


def test_a_long_list_comes_whole(
    emulator: Emulator, drive: DriveDestination, folder: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = {put(drive, folder, f"{number}") for number in range(7)}
    page = drive._client.files.list
    monkeypatch.setattr(drive._client.files, "list", lambda **query: page(**{**query, "pageSize": 3}))
    before = drive.requests
    assert {one.id for one in drive.children(folder)} == expected
    assert drive.requests - before == 3


def people(emulator: Emulator, folder: str) -> list[tuple[str, str | None]]:
    listed = api(emulator, "GET", f"files/{folder}/permissions?fields=permissions(type,role,emailAddress,domain)")
    return sorted(
        (one["type"], one.get("emailAddress") or one.get("domain"))
        for one in listed["permissions"]
        if one["role"] != "owner"
    )


def test_a_folder_is_shared_once_with_whom_it_is_said(emulator: Emulator, drive: DriveDestination, folder: str) -> None:
    for who, expected in (
        ("anyone", ("anyone", None)),
        ("user:Ann@example.org", ("user", "Ann@example.org")),
        ("domain:example.org", ("domain", "example.org")),
    ):
        for _ in range(2):
            drive.share(folder, who)
        assert people(emulator, folder).count(expected) == 1
        drive.share(folder, "nobody")
        assert people(emulator, folder) == []
    assert drive.get(folder).folder


def test_a_permission_that_went_meanwhile_is_fine(emulator: Emulator, drive: DriveDestination, folder: str) -> None:
    drive.share(folder, "anyone")
    present = Permissions(drive._client, folder).listed()
    drive.share(folder, "nobody")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Permissions, "listed", lambda _: present)
        drive.share(folder, "nobody")
    assert people(emulator, folder) == []


@pytest.mark.parametrize("who", ["", "everyone", "user:", "user:ann", "domain:", "group:x"])
def test_who_is_nobody_is_refused_before_anything_is_sent(drive: DriveDestination, folder: str, who: str) -> None:
    before = drive.requests
    with pytest.raises(UsageError):
        drive.share(folder, who)
    assert drive.requests == before


def test_a_refusal_to_share_says_what_to_do(emulator: Emulator, drive: DriveDestination, folder: str) -> None:
    emulator.set_faults("publish-refused")
    with pytest.raises(ShareRefused) as caught:
        drive.share(folder, "anyone")
    assert "upload itself is complete" in caught.value.advice


def test_an_address_that_drive_cannot_use_is_refused_too(drive: DriveDestination, folder: str) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(permissions, "_permission", lambda who: {"type": "anyone", "role": "organizer"})  # a 400
        with pytest.raises(ShareRefused) as caught:
            drive.share(folder, "domain:gmail.com")
    assert "upload itself is complete" in caught.value.advice


def test_a_length_of_nothing_is_not_asked_for(drive: DriveDestination, folder: str) -> None:
    file_id = put(drive, folder, "a", b"abc")
    before = drive.requests
    assert drive.read(file_id, 1, 0) == b""
    assert drive.requests == before


def test_who_is_logged_in_can_be_asked(drive: DriveDestination) -> None:
    assert "user" in drive.who_am_i()
