"""Datasets from strangers: zips and manifests made to harm, names made to drive the screen, and what may be shown."""

from __future__ import annotations

import gc
import hashlib
import io
import json
import random
import sqlite3
import zipfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from driveshard.archive.manifest import Manifest, ManifestPart
from driveshard.cli.error_messages import redacted
from driveshard.cli.main import main
from driveshard.cli.progress.bars import Bars
from driveshard.cli.progress.stream import Stream
from driveshard.cli.progress.tally import Tally
from driveshard.core.errors import Mismatch, SourceMissing, Unavailable
from driveshard.core.formatting import shown
from driveshard.dataset.locate import DirectoryShelf, damage_told, open_part
from driveshard.dataset.reader import Reading
from driveshard.dataset.verify import content_problems, verify
from driveshard.storage.drive.answers import FOLDER, PermissionPage, next_page, read, read_file
from driveshard.upload.ledger.reader import read_record

ESCAPES = "\x1b]0;owned\x07\x1b[2J\x9b31m\u202e"


def dataset(directory: Path, members: dict[str, bytes], name: str = "t", method: int = zipfile.ZIP_STORED) -> Path:
    """A directory with one part of these members and its manifest, made without driveshard's own writer."""
    directory.mkdir(exist_ok=True)
    part = directory / "t-00000.zip"
    with zipfile.ZipFile(part, "w", method) as archive:
        for path, content in members.items():
            archive.writestr(path, content)
    publish(directory, name, len(members))
    return directory


def publish(directory: Path, name: str, files: int) -> None:
    data = (directory / "t-00000.zip").read_bytes()
    md5, sha256 = hashlib.md5(data).hexdigest(), hashlib.sha256(data).hexdigest()
    part = ManifestPart(0, "t-00000.zip", "id", len(data), md5, sha256, files, files, "", "")
    (directory / "manifest.json").write_bytes(Manifest(name, "job", {}, files, files, (part,)).encode())


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_wrong_bytes_in_a_part_of_any_method_are_damage(tmp_path: Path, method: int) -> None:
    dice = random.Random(method)
    content = {f"d/{number}.txt": dice.randbytes(40) * 3 for number in range(4)}
    directory = dataset(tmp_path / "t", content, method=method)
    path = directory / "t-00000.zip"
    whole, shelf = path.read_bytes(), DirectoryShelf(directory)
    row = Manifest.decode((directory / "manifest.json").read_bytes()).parts[0]
    found = 0
    for _ in range(400):
        spoilt = bytearray(whole)
        for _ in range(dice.choice((1, 1, 2, 3))):
            spoilt[dice.randrange(len(spoilt))] = dice.choice((0, 255, dice.randrange(256)))
        path.write_bytes(spoilt)
        found += bool(content_problems(shelf, row))
        with suppress(Mismatch), open_part(shelf, row) as archive:
            for info in archive.infolist():
                with damage_told(row):
                    archive.read(info)
    assert found > 350, "a wrong byte anywhere is found by the part's checksum"


def test_what_a_reader_does_with_the_bytes_is_not_called_damage(tmp_path: Path) -> None:
    with Reading(DirectoryShelf(dataset(tmp_path / "t", {"a": b"A"}))) as reading:
        for error in (OSError(28, "No space left on device"), ValueError("mine")):

            def write(_: bytes, error: Exception = error) -> None:
                raise error

            with pytest.raises(type(error)) as caught:
                reading.cat(b"a", write)
            assert caught.value is error


def test_a_part_that_is_a_folder_is_no_part(tmp_path: Path) -> None:
    directory = dataset(tmp_path / "t", {"a": b"A"})
    (directory / "t-00000.zip").unlink()
    (directory / "t-00000.zip").mkdir()
    assert verify(DirectoryShelf(directory)).problems == ["t-00000.zip is missing"]
    with Reading(DirectoryShelf(directory)) as reading, pytest.raises(SourceMissing, match="cannot be read"):
        reading.read(b"a")


def run(capfd: pytest.CaptureFixture[str], *words: str) -> tuple[int, str]:
    """Exit code, and all that a terminal would have got."""
    code = main(list(words))
    out, err = capfd.readouterr()
    return code, out + err


def spoilt(directory: Path) -> None:
    path = directory / "t-00000.zip"
    data = path.read_bytes()
    path.write_bytes(data.replace(b"ZZZZ", b"ZZYZ", 1))


@pytest.mark.parametrize("spoil", [None, spoilt])
@pytest.mark.parametrize("command", [("verify",), ("cat", "no such member")])
def test_a_strangers_names_cannot_drive_the_screen(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    spoil: Callable[[Path], None] | None,
    command: tuple[str, ...],
) -> None:
    monkeypatch.setenv("DRIVESHARD_HOME", str(tmp_path / "home"))
    directory = dataset(tmp_path / "t", {f"{ESCAPES}.txt": b"Z" * 100}, name=f"n{ESCAPES}")
    if spoil is not None:
        spoil(directory)
        publish(directory, f"n{ESCAPES}", 1)
    code, said = run(capfd, command[0], str(directory), *command[1:])
    assert code == (66 if command[0] == "cat" else 76 if spoil else 0)
    assert said
    assert not set(ESCAPES) & set(said) - set("]0;owned[2J31m")


def test_names_are_shown_with_escapes() -> None:
    assert shown("a\x1b[2J\x9b\u202eb\r") == "a\\x1b[2J\\x9b\\u202eb\\r"
    assert shown("two\nlines\tand a tab: ü") == "two\nlines\tand a tab: ü"


SECRETS: list[tuple[str, str]] = [
    (
        "https://www.googleapis.com/upload/drive/v3/files?uploadType=resumable&upload_id=SECRET&session_crd=SECRET",
        "files",
    ),
    ("GET https://h/upload?x=1&session_crd=SECRET&fields=id failed", "failed"),
    ("('https://h/upload?session_crd=SECRET&a=SECRET', 1)", "1)"),
    ("PUT /upload?upload_id=SECRET&session_crd=SECRET", "PUT"),
    ("upload_id%3DSECRET", "upload_id"),
    ("Authorization: Bearer SECRET", "Bearer"),
    ('{"access_token": "SECRET", "refresh_token": "SECRET", "client_secret": "SECRET"}', "access_token"),
    ("https://h/files?key=SECRET", "key="),
    ("AIzaSECRETSECRETSECRETSECRETSECRET0", ""),
    ("ya29.SECRET-x and 1//SECRET and GOCSPX-SECRET", "and"),
    ("http://user:SECRET@proxy:3128 failed", "proxy:3128 failed"),
]


@pytest.mark.parametrize(("text", "left"), SECRETS)
def test_what_is_secret_is_never_shown(text: str, left: str) -> None:
    assert "SECRET" not in redacted(text)
    assert left in redacted(text)


def test_what_is_not_secret_stays() -> None:
    for text in ("https://drive.google.com/drive/folders/ID?usp=sharing", '{"key": "a/b.jpg"}', "host:80 user@host"):
        assert redacted(text) == text


def test_a_ledger_that_is_none_leaves_no_connection_open(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Python says so from 3.13 on only, so the connections are watched here."""
    opened: list[sqlite3.Connection] = []
    connect: Any = sqlite3.connect

    def watched(*words: Any, **options: Any) -> sqlite3.Connection:
        opened.append(connect(*words, **options))
        return opened[-1]

    monkeypatch.setattr(sqlite3, "connect", watched)
    for content in (b"garbage" * 1000, b"", b"SQLite format 3\0" + b"\1" * 5000):
        path = tmp_path / "ledger.sqlite"
        path.write_bytes(content)
        assert read_record(path) is None
    gc.collect()
    assert opened
    for db in opened:
        with pytest.raises(sqlite3.ProgrammingError, match="closed"):
            db.execute("SELECT 1")


def test_a_manifest_of_many_gigabytes_is_not_fetched(tmp_path: Path) -> None:
    directory = dataset(tmp_path / "t", {"a": b"A"})
    with (directory / "manifest.json").open("r+b") as stream:
        stream.truncate(1 << 40)
    with pytest.raises(Mismatch, match=r"1\.0 TiB|1024"):
        Reading(DirectoryShelf(directory))
    assert json.dumps(verify(DirectoryShelf(directory)).as_json())


@pytest.mark.parametrize("link", [f"https://drive.google.com/{ESCAPES}", "javascript:alert(1)", "", "x"])
def test_a_link_that_is_none_is_not_handed_on(link: str) -> None:
    answer = {"id": "a" * 20, "name": "n", "mimeType": FOLDER, "webViewLink": link}
    assert read_file(answer, "a" * 20).as_remote().link is None


def test_what_a_stranger_says_in_a_notice_cannot_drive_the_screen() -> None:
    out = io.StringIO()
    Stream(out).line(f"a {ESCAPES} b")
    bars = Bars(out, Tally())
    bars.say(f"a {ESCAPES} b")
    bars.close()
    assert "owned" in out.getvalue()
    assert not {"\x07", "\x9b", "\u202e"} & set(out.getvalue())
    assert "\x1b]" not in out.getvalue()


PERMISSION = {"id": "1", "type": "user", "emailAddress": "a@example.org", "role": "reader"}


@pytest.mark.parametrize(
    "found",
    [None, {}, "x", [1], [{}], [{"id": 5}], [PERMISSION | {"type": []}], [PERMISSION | {"permissionDetails": ["x"]}]],
)
def test_a_list_of_permissions_of_another_form_is_asked_for_again(found: object) -> None:
    with pytest.raises(Unavailable):
        read({"permissions": found}, PermissionPage)


def test_a_list_that_comes_back_to_a_page_has_no_end() -> None:
    seen: set[str] = set()
    assert [next_page(token, seen) for token in ("a", "b", None, "")] == ["a", "b", None, None]
    with pytest.raises(Unavailable, match="does not go on"):
        next_page("a", seen)


def test_permissions_are_read_with_what_is_known_of_them() -> None:
    inherited = PERMISSION | {"permissionDetails": [{"inherited": True, "new": 1}], "kind": "x", "domain": None}
    assert read({"permissions": [PERMISSION, inherited]}, PermissionPage).permissions == [
        PERMISSION,
        PERMISSION | {"permissionDetails": [{"inherited": True}], "domain": None},
    ]
