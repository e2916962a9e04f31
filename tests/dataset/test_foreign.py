"""Folders that driveshard did not make, and manifests that mean harm."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from driveshard.config.settings import Settings
from driveshard.core.errors import DriveshardError, Mismatch, SourceMissing
from driveshard.core.events import Notice, ignore
from driveshard.dataset import foreign as folders
from driveshard.dataset.foreign import safe_name
from driveshard.dataset.pull import pull_into
from driveshard.dataset.selection import Selection
from driveshard.emulator import Emulator
from driveshard.storage.retry import Patience
from tests.emulator.client import Client
from tests.fakes import Heard

QUICK = Patience(attempts=3, first=0.01, longest=0.05)
SHEET = "application/vnd.google-apps.spreadsheet"


@pytest.fixture
def client(emulator: Emulator) -> Iterator[Client]:
    yield Client(emulator.url)
    while Client.opened:
        Client.opened.pop().connection.close()


@pytest.fixture
def who(tmp_path: Path, emulator: Emulator) -> Callable[[str], Settings]:
    nobody = Settings(home=tmp_path / "nobody", drive_url=f"{emulator.url}/", patience=QUICK)
    return {"nobody": nobody, "key": replace(nobody, api_key="k")}.__getitem__


def shared(client: Client, name: str = "their folder") -> str:
    folder = client.folder(name)
    client.share(folder)
    return folder


def zipped(data: bytes = b"x" * 1000) -> bytes:
    held = io.BytesIO()
    with zipfile.ZipFile(held, "w") as archive:
        archive.writestr("a.bin", data)
    return held.getvalue()


def tree(root: Path) -> dict[str, bytes]:
    return {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()}


@pytest.mark.parametrize("how", ["nobody", "key"])
def test_everything_below_it_comes_under_safe_names(
    tmp_path: Path, client: Client, who: Callable[[str], Settings], how: str
) -> None:
    folder = shared(client)
    inner = client.folder("sub: folder", parents=[folder])
    deep = client.folder("..", parents=[inner])
    client.folder("empty", parents=[folder])
    client.folder("sheet", parents=[folder], mimeType=SHEET)
    for parent, name, data in [
        (folder, "a.bin", b"one"),
        (folder, "A.bin", b"two"),
        (folder, "page.html", b"<html>mine</html>"),
        (folder, "none", b""),
        (folder, "../../evil", b"three"),
        (inner, "/etc/passwd", b"four"),
        (inner, "CON.txt", b"five"),
        (deep, "b\\c.\u202etxt", b"six"),
    ]:
        client.upload(data, name=name, parents=[parent])
    heard = Heard()
    result = pull_into(folder, tmp_path / "out", Selection(), who(how), heard)
    assert tree(tmp_path / "out") == {
        "A.bin": b"two",
        "a (2).bin": b"one",
        "page.html": b"<html>mine</html>",
        "none": b"",
        ".._.._evil": b"three",
        "sub_ folder/_etc_passwd": b"four",
        "sub_ folder/_CON.txt": b"five",
        "sub_ folder/__/b_c._txt": b"six",
    }
    said = " | ".join(event.text for event in heard if isinstance(event, Notice))
    assert "left out, since they have no content of their own (Google Docs, shortcuts): sheet" in said
    assert ("each proved by the checksum" in said) is (how == "key") is result.verified
    assert (result.parts, result.bytes) == (8, 39)
    again = pull_into(folder, tmp_path / "out", Selection(), who(how), ignore)
    assert (again.fetched_bytes, again.parts) == (0, 8)


def test_globs_choose_files_and_parts_mean_nothing(
    tmp_path: Path, client: Client, who: Callable[[str], Settings]
) -> None:
    folder = shared(client)
    inner = client.folder("sub", parents=[folder])
    client.upload(b"1", name="a.jpg", parents=[inner])
    client.upload(b"2", name="b.txt", parents=[inner])
    pull_into(folder, tmp_path / "out", Selection(only=("*.jpg",)), who("nobody"), ignore)
    assert tree(tmp_path / "out") == {"sub/a.jpg": b"1"}
    with pytest.raises(SourceMissing, match=r"no manifest\.json, so it has no numbered parts"):
        pull_into(folder, tmp_path / "out", Selection(frozenset({0})), who("nobody"), ignore)


def test_nothing_is_not_a_dataset(tmp_path: Path, client: Client, who: Callable[[str], Settings]) -> None:
    folder = shared(client)
    for how in ("nobody", "key"):
        with pytest.raises(SourceMissing, match="there is nothing in folder"):
            pull_into(folder, tmp_path / "out", Selection(), who(how), ignore)
    client.upload(b"1", name="a", parents=[folder])
    with pytest.raises(SourceMissing, match=r"no file of .* matches b\*"):
        pull_into(folder, tmp_path / "out", Selection(only=("b*",)), who("nobody"), ignore)


@pytest.mark.parametrize("beside", ["README.md", "notes.txt"])
def test_parts_without_a_manifest_are_no_whole_dataset(
    tmp_path: Path, client: Client, who: Callable[[str], Settings], beside: str
) -> None:
    """Its push is under way, or the list lags; unless something else lies there, which no push puts beside parts."""
    folder = shared(client)
    for name in ("cats-00000.zip", "cats-00001.zip"):
        client.upload(zipped(), name=name, parents=[folder])
    client.upload(b"words", name=beside, parents=[folder])
    if beside == "README.md":
        with pytest.raises(SourceMissing, match="has parts of a dataset") as caught:
            pull_into(folder, tmp_path / "out", Selection(), who("nobody"), ignore)
        assert "again later" in caught.value.advice
        assert not (tmp_path / "out").exists()
    chosen = Selection(only=("**",)) if beside == "README.md" else Selection()
    assert pull_into(folder, tmp_path / "out", chosen, who("nobody"), ignore).parts == 3


def test_a_changed_file_comes_again(tmp_path: Path, client: Client, who: Callable[[str], Settings]) -> None:
    folder = shared(client)
    file_id = client.upload(b"12345", name="a", parents=[folder])
    for how in ("nobody", "key"):
        out = tmp_path / how
        pull_into(folder, out, Selection(), who(how), ignore)
        (out / "a").write_bytes(b"1234")
        assert pull_into(folder, out, Selection(), who(how), ignore).fetched_bytes == 5
        (out / "a").write_bytes(b"12x45")
        result = pull_into(folder, out, Selection(), who(how), ignore)
        assert (result.fetched_bytes, result.verified) == ((5, True) if how == "key" else (0, False))
    assert file_id


def test_a_zip_is_proved_by_its_own_crcs_where_nothing_else_tells(
    tmp_path: Path, emulator: Emulator, client: Client, who: Callable[[str], Settings]
) -> None:
    folder = shared(client)
    client.upload(zipped(), name="good.zip", parents=[folder])
    bad = bytearray(zipped())
    bad[200] ^= 1
    client.upload(bytes(bad), name="bad.zip", parents=[folder])
    with pytest.raises(Mismatch, match=r"bad\.zip came with a damaged member \(a\.bin\)"):
        pull_into(folder, tmp_path / "out", Selection(), who("nobody"), ignore)
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["good.zip"]


def test_a_directory_of_files(tmp_path: Path, who: Callable[[str], Settings]) -> None:
    nas = tmp_path / "nas"
    (nas / "sub").mkdir(parents=True)
    (nas / "a").write_bytes(b"1")
    (nas / "sub" / "b").write_bytes(b"2")
    (nas / "loop").symlink_to(nas)
    (nas / "secret").symlink_to("/etc/passwd")
    pull_into(f"file:{nas}", tmp_path / "out", Selection(), who("nobody"), ignore)
    assert tree(tmp_path / "out") == {"a": b"1", "sub/b": b"2"}


def test_folders_without_an_end(
    tmp_path: Path, client: Client, who: Callable[[str], Settings], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = shared(client)
    above = folder
    for _ in range(6):
        above = client.folder("in", parents=[above])
    monkeypatch.setattr(folders, "_DEEPEST", 5)
    with pytest.raises(Mismatch, match="too deep"):
        pull_into(folder, tmp_path / "out", Selection(), who("key"), ignore)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("name", "safe"),
    [
        ("a.txt", "a.txt"),
        ("..", "__"),
        (".", "_"),
        ("", "_"),
        ("a/b", "a_b"),
        ("C:\\x", "C__x"),
        ("nul", "_nul"),
        ("Com1.tar.gz", "_Com1.tar.gz"),
        ("connect", "connect"),
        ("a. ", "a__"),
        ("x\x00\x1b[31m", "x__[31m"),
        ("\ud800", "_"),
        ("e\u0301", "\u00e9"),
        (".hidden", ".hidden"),
    ],
)
def test_names(name: str, safe: str) -> None:
    assert safe_name(name) == safe


def test_long_names_keep_their_ends() -> None:
    for name in ("x" * 300 + ".jpg", "ä" * 200 + ".jpg"):
        assert len(safe_name(name).encode()) <= 200 and safe_name(name).endswith(".jpg")


# -- manifests that mean harm ----------------------------------------------------------------------------------------


def manifest(*parts: dict[str, Any], **more: Any) -> bytes:
    usual = {
        "number": 0,
        "name": "set-00000.zip",
        "id": "",
        "size": 3,
        "md5": "0" * 32,
        "sha256": "0" * 64,
        "samples": 1,
        "files": 1,
        "first": "a",
        "last": "a",
    }
    document = {
        "format": "driveshard",
        "version": 1,
        "name": "set",
        "job": "j",
        "source": {},
        "samples": 1,
        "files": 1,
        "bytes": 3,
        "parts": [{**usual, **part} for part in parts],
        **more,
    }
    return json.dumps(document).encode()


@pytest.mark.parametrize("how", ["nobody", "key"])
@pytest.mark.parametrize(
    "data",
    [
        *[
            manifest({"name": name})
            for name in (
                *("../evil.zip", "/etc/evil.zip", "a/b.zip", "..\\evil.zip", "C:evil.zip", "con.zip", "Lpt1.zip"),
                *(".hidden.zip", "x" * 300 + ".zip", "a\x00.zip", "a\x1b[2J.zip", "evil.exe", ".zip", "", "a\n.zip"),
            )
        ],
        *[manifest({"size": size}) for size in (-1, 2**63, 10**40, 2**50, 6 * 10**12, 1.5, "3", None)],
        *[manifest({"md5": md5}) for md5 in ("", "x" * 32, "0" * 31)],
        manifest({"sha256": ""}),
        manifest({"id": "../x?alt=media#"}),
        manifest({}, {}),
        manifest({"name": "a.zip"}, {"number": 1, "name": "A.ZIP"}),
        manifest({"name": "\u00e9.zip"}, {"number": 1, "name": "e\u0301.zip"}),
        manifest({"size": 4}),  # it has three bytes where it lies
        b"",
        b"[" * 100_000,
        b"<html>sign in</html>",
    ],
)
def test_it_ends_with_76_and_nothing_is_written(
    tmp_path: Path, client: Client, who: Callable[[str], Settings], how: str, data: bytes
) -> None:
    folder = shared(client)
    client.upload(b"abc", name="set-00000.zip", parents=[folder])
    client.upload(data, name="manifest.json", parents=[folder])
    before = sorted(str(path) for path in tmp_path.rglob("*") if "drive" not in path.parts)
    out = tmp_path / "out"
    with pytest.raises(DriveshardError) as raised:
        pull_into(folder, out, Selection(), who(how), ignore)
    assert raised.value.exit_code == 76, raised.value
    assert not list(out.rglob("*")) if out.exists() else True
    assert sorted(str(path) for path in tmp_path.rglob("*") if "drive" not in path.parts and path != out) == before


def test_a_manifest_of_another_version(tmp_path: Path, client: Client, who: Callable[[str], Settings]) -> None:
    folder = shared(client)
    client.upload(manifest(version=99), name="manifest.json", parents=[folder])
    with pytest.raises(Mismatch) as raised:
        pull_into(folder, tmp_path / "out", Selection(), who("key"), ignore)
    assert "Update driveshard" in raised.value.advice
