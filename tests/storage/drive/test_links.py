"""What people paste for a folder on Drive."""

from __future__ import annotations

import pytest

from driveshard.core.errors import UsageError
from driveshard.storage.drive.links import Link, folder_link, is_drive_link, parse_link

ID = "1AbC_def-1234567890"


@pytest.mark.parametrize(
    ("text", "kind", "key"),
    [
        (ID, "unknown", ""),
        (f" {ID}\n", "unknown", ""),
        (f"https://drive.google.com/drive/folders/{ID}", "folder", ""),
        (f"https://drive.google.com/drive/folders/{ID}/", "folder", ""),
        (f"<https://drive.google.com/drive/folders/{ID}?usp=sharing>", "folder", ""),
        (f"drive.google.com/drive/folders/{ID}?usp=drive_link", "folder", ""),
        (f"https://drive.google.com/drive/u/0/folders/{ID}", "folder", ""),
        (f"https://drive.google.com/drive/u/12/mobile/folders/{ID}?usp=sharing&sort=13", "folder", ""),
        (f"https://drive.google.com/a/example.org/drive/folders/{ID}", "folder", ""),
        (f"https://drive.google.com/drive/folders/{ID}?resourcekey=0-x_Y&usp=sharing", "folder", "0-x_Y"),
        (f"https://drive.google.com/drive/folders/{ID}\\?usp=sharing\\&resourcekey\\=0-x", "folder", "0-x"),
        (f"https://drive.google.com/open?id={ID}&usp=drive_fs", "unknown", ""),
        (f"https://drive.google.com/folderview?id={ID}", "folder", ""),
        (f"https://drive.google.com/embeddedfolderview?id={ID}#grid", "folder", ""),
        (f"https://drive.google.com/file/d/{ID}/view?usp=drivesdk", "file", ""),
        (f"https://drive.google.com/file/u/1/d/{ID}/view?usp=drive_web&resourcekey=0-k", "file", "0-k"),
        (f"https://drive.google.com/u/0/uc?id={ID}&export=download", "file", ""),
        (f"https://drive.usercontent.google.com/download?id={ID}&confirm=t", "file", ""),
        (f"https://docs.google.com/spreadsheets/d/{ID}/edit?usp=drive_web#gid=0", "doc", ""),
        (f"https://docs.google.com/document/u/0/d/{ID}/edit", "doc", ""),
        (f"https://www.google.com/url?q=https://drive.google.com/drive/folders/{ID}&sa=D", "folder", ""),
        (f"http://127.0.0.1:8000/drive/folders/{ID}?usp=sharing", "folder", ""),
    ],
)
def test_every_form_of_link(text: str, kind: str, key: str) -> None:
    assert parse_link(text) == Link(ID, kind, key)  # type: ignore[arg-type]
    if "/" in text:
        assert is_drive_link(text)


@pytest.mark.parametrize(
    "text",
    [
        *(
            "",
            "x",
            "https://drive.google.com/",
            "https://drive.google.com/drive/folders/",
            "../..",
            "http://[::1",
            "a/b",
        ),
        f"https://www.google.com/url?q=https://example.org/drive/folders/{ID}",
    ],
)
def test_what_is_none(text: str) -> None:
    assert parse_link(text) is None


def test_a_key_that_could_be_more_than_a_key_is_left_out() -> None:
    assert parse_link(f"https://drive.google.com/drive/folders/{ID}?resourcekey=a%0d%0ab") == Link(ID, "folder")


def test_hosts_that_only_look_like_google() -> None:
    for host in ("drive.google.com.example.org", "example.org", "xdrive.google.com"):
        assert not is_drive_link(f"https://{host}/drive/folders/{ID}")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (f"https://drive.google.com/file/d/{ID}/view", "it is a link to a file"),
        (f"https://docs.google.com/document/d/{ID}/edit", "it is a link to a Google Doc"),
        ("https://example.org/x", "is not a Drive folder"),
    ],
)
def test_where_a_folder_is_meant(text: str, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        folder_link(text)
