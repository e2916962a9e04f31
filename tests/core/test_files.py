"""What must be on the disk before the next step: every fsync, before and after which rename; and disks that cannot."""

from __future__ import annotations

import ast
import errno
import hashlib
import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import driveshard
from driveshard.archive.zip_writer import ZipWriter
from driveshard.core.clock import Clock
from driveshard.core.files import sync_directory, write_whole
from driveshard.emulator import Emulator
from driveshard.storage.base import Held, Stored
from driveshard.storage.folder.destination import FolderDestination
from driveshard.upload.spool import Spool
from tests.rig import Rig, Shelf, fill

pytestmark = pytest.mark.skipif(os.name == "nt", reason="Windows syncs no directory")


class Steps(list[tuple[str, str]]):
    """Every fsync and rename from now on, in order: ("sync", path) and ("rename", the new path)."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, root: Path) -> None:
        super().__init__()
        self._root = root
        fsync, rename = os.fsync, os.replace

        def synced(handle: int) -> None:
            fsync(handle)
            self.append(("sync", self._path_of(handle)))

        def renamed(source: Any, target: Any) -> None:
            rename(source, target)
            # What was synced under its first name is told by its last one.
            old, new = self._short(Path(source)), self._short(Path(target))
            self[:] = [(kind, new if path == old else path) for kind, path in self]
            self.append(("rename", new))

        monkeypatch.setattr(os, "fsync", synced)
        monkeypatch.setattr(os, "replace", renamed)

    def _short(self, path: Path) -> str:
        return path.relative_to(self._root).as_posix()

    def _path_of(self, handle: int) -> str:
        wanted = os.fstat(handle)
        found = [self._root, *self._root.rglob("*")]
        return next(self._short(one) for one in found if os.path.samestat(one.lstat(), wanted))


def test_a_small_file_is_on_the_disk_before_and_after_its_rename(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps = Steps(monkeypatch, tmp_path)
    write_whole(tmp_path / "a", b"whole")
    assert steps == [("sync", "a"), ("rename", "a"), ("sync", ".")]


def test_a_part_is_on_the_disk_before_it_has_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spool = Spool(tmp_path / "spool", 10**6, Clock())
    spool.reserve(3, 1000)
    steps = Steps(monkeypatch, tmp_path)
    writer = ZipWriter(spool.building(3))
    writer.add(b"a.txt", b"content")
    summary = writer.close()
    assert steps == [("sync", "spool/.building-00003")]
    spool.commit(3, "d-00003.zip", summary.size)
    assert steps == [("sync", "spool/d-00003.zip"), ("rename", "spool/d-00003.zip"), ("sync", "spool")]


def test_a_plain_folder_has_what_it_says_is_stored(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place = FolderDestination(tmp_path / "nas")
    folder, file_id, manifest = place.reserve_ids(3)
    steps = Steps(monkeypatch, tmp_path)
    record = f"nas/d/.driveshard/{file_id}.json"
    written = [("sync", record), ("rename", record), ("sync", "nas/d/.driveshard")]

    place.make_folder(folder, "d", {})
    document = "nas/d/.driveshard/folder.json"
    assert steps == [("sync", document), ("rename", document), ("sync", "nas/d/.driveshard"), ("sync", "nas")]

    steps.clear()
    session = place.begin(file_id, folder, "a.zip", 9, {})
    assert steps == written
    steps.clear()
    assert place.send(session, 0, b"123456", 9) == Held(6)
    assert isinstance(place.send(session, 6, b"789", 9), Stored)
    assert steps == [("sync", "nas/d/a.zip"), *written, ("rename", "nas/d/a.zip"), ("sync", "nas/d")]

    place.put(manifest, folder, "m.json", b"{}", "application/json", replace=False)
    steps.clear()
    place.put(manifest, folder, "m.json", b"{1}", "application/json", replace=True)
    assert steps[:3] == [("sync", "nas/d/m.json"), ("rename", "nas/d/m.json"), ("sync", "nas/d")]


# -- file systems that cannot sync a directory ------------------------------------------------------------------------

CANNOT = [errno.EINVAL, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EBADF, errno.EACCES, errno.EISDIR]


def refuse(monkeypatch: pytest.MonkeyPatch, code: int, where: str) -> None:
    """Directories cannot be synced, or not even opened."""
    fsync, open_file = os.fsync, os.open

    def synced(handle: int) -> None:
        if stat.S_ISDIR(os.fstat(handle).st_mode):
            raise OSError(code, os.strerror(code))
        fsync(handle)

    def opened(path: Any, flags: int, *more: Any, **named: Any) -> int:
        if flags == os.O_RDONLY and not named and os.path.isdir(path):
            raise OSError(code, os.strerror(code))
        return open_file(path, flags, *more, **named)

    monkeypatch.setattr(os, *(("fsync", synced) if where == "fsync" else ("open", opened)))


@pytest.mark.parametrize("where", ["fsync", "open"])
@pytest.mark.parametrize("code", CANNOT)
def test_a_file_system_without_directory_sync_is_good_enough(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int, where: str
) -> None:
    refuse(monkeypatch, code, where)
    write_whole(tmp_path / "a", b"whole")
    assert (tmp_path / "a").read_bytes() == b"whole"


@pytest.mark.parametrize("code", [errno.EIO, errno.ENOSPC, getattr(errno, "EDQUOT", errno.ENOSPC)])
def test_a_disk_that_fails_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int) -> None:
    refuse(monkeypatch, code, "fsync")
    with pytest.raises(OSError, match=os.strerror(code)):
        sync_directory(tmp_path)


@pytest.fixture
def rig(tmp_path: Path, emulator: Emulator) -> Rig:
    fill(tmp_path / "source", 6, 20_000)
    return Rig(tmp_path, emulator.url)


@pytest.fixture(params=["drive:", "file:"])
def to(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return str(request.param) if request.param == "drive:" else f"file:{tmp_path / 'nas'}"


def test_a_push_goes_through_without_directory_sync(rig: Rig, to: str, monkeypatch: pytest.MonkeyPatch) -> None:
    refuse(monkeypatch, errno.EINVAL, "fsync")
    result = rig.push(to=to)
    assert (result.state, result.error) == ("complete", None)


# -- systems that allow no md5 for security ---------------------------------------------------------------------------


def guarded(real: Callable[..., Any], weak: Callable[..., bool]) -> Callable[..., Any]:
    def run(*arguments: Any, usedforsecurity: bool = True, **options: Any) -> Any:
        if usedforsecurity and weak(*arguments):
            raise ValueError("[digital envelope routines] unsupported")
        return real(*arguments, usedforsecurity=usedforsecurity, **options)

    return run


def test_a_push_goes_through_where_md5_is_forbidden(rig: Rig, to: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """As under FIPS: only what is told to be no matter of security may use it."""
    for name in ("md5", "sha1"):
        monkeypatch.setattr(hashlib, name, guarded(getattr(hashlib, name), lambda *_: True))
    monkeypatch.setattr(hashlib, "new", guarded(hashlib.new, lambda name, *_: name.lower() in ("md5", "sha1")))
    for _ in range(2):  # the second run compares with what the first one stored
        result = rig.push(to=to)
        assert (result.state, result.error) == ("complete", None)
    if to == "drive:":
        monkeypatch.undo()
        assert Shelf(rig.url).problems(rig.expected()) == []


def test_no_md5_is_said_to_be_for_security() -> None:
    """Every use of it in the package, also those that a push does not come by."""
    root = Path(driveshard.__file__).parent
    found = 0
    for path in root.rglob("*.py"):
        for call in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if not isinstance(call, ast.Call) or not isinstance(call.func, ast.Attribute):
                continue
            text = ast.unparse(call)
            if call.func.attr in ("md5", "sha1", "new") and text.startswith("hashlib."):
                found += 1
                assert any(one.arg == "usedforsecurity" for one in call.keywords), f"{path.name}: {text}"
            assert not (call.func.attr == "file_digest" and "'md5'" in text), f"{path.name}: {text}"
    assert found >= 5
