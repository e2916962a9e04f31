"""Other file systems below a folder, and what makes a folder one that hardly anybody means to push as a whole.

Linux tells all mounts in a file, so nothing has to be touched: a network disk that is gone would hang whoever looks.
Elsewhere a folder on another device shows itself during the walk.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from driveshard.core.errors import UsageError

OTHER = "another file system"
NOT_FILES = "not files, but what the system tells of itself"
_TABLE = Path("/proc/self/mountinfo")
# Their "files" are made up as they are read, have no end, or do something.
_NOT_FILES = frozenset(
    {
        *("proc", "sysfs", "devtmpfs", "devpts", "cgroup", "cgroup2", "debugfs", "tracefs", "securityfs", "pstore"),
        *("bpf", "configfs", "mqueue", "hugetlbfs", "fusectl", "binfmt_misc", "efivarfs", "autofs", "nsfs"),
        *("rpc_pipefs", "selinuxfs"),
    }
)
_SHOWN = 3


@dataclass(frozen=True, slots=True)
class Mount:
    """Where a file system is mounted (an absolute path), its kind (``ext4``) and device (``254:0``)."""

    path: bytes
    kind: str
    device: str

    @property
    def is_files(self) -> bool:
        return self.kind not in _NOT_FILES


def read_mounts(table: Path = _TABLE) -> list[Mount] | None:
    """All mounts, a later one over an earlier one at the same place; None where the system does not tell."""
    try:
        lines = table.read_bytes().splitlines()
    except OSError:
        return None
    found: dict[bytes, Mount] = {}
    for line in lines:
        before, _, after = line.partition(b" - ")
        fields, kind = before.split(b" "), after.partition(b" ")[0].decode("ascii", "replace")
        if len(fields) > 4 and kind:
            path = re.sub(rb"\\([0-7]{3})", lambda match: bytes([int(match[1], 8)]), fields[4])
            found.pop(path, None)
            found[path] = Mount(path, kind, fields[2].decode("ascii", "replace"))
    return list(found.values())


def mount_of(root: Path, mounts: list[Mount]) -> Mount | None:
    """The mount that ``root``, a path without links, lies on."""
    place = os.fsencode(root)
    above = [one for one in mounts if place == one.path or place.startswith(one.path.rstrip(b"/") + b"/")]
    return max(above, key=lambda one: len(one.path), default=None)


def mounts_below(root: Path, mounts: list[Mount]) -> dict[bytes, Mount]:
    """Mounts of another device than ``root``'s, by their path relative to it; and those that hold no files."""
    own = mount_of(root, mounts)
    start = os.fsencode(root).rstrip(b"/") + b"/"
    below = {one.path[len(start) :]: one for one in mounts if one.path.startswith(start) and one.path != start}
    return {path: one for path, one in below.items() if not one.is_files or own is None or one.device != own.device}


@dataclass(frozen=True, slots=True)
class Borders:
    """Where a walk stops: ``paths`` relative to its root, with why; and, where nobody tells the mounts, all that is not
    on ``device``."""

    paths: Mapping[bytes, str]
    device: int | None = None

    def crossed(self, place: bytes | int) -> bool:
        """Whether a folder, or its descriptor, is beyond."""
        return self.device is not None and os.stat(place).st_dev != self.device


def borders(root: Path, *, all_of_them: bool) -> Borders:
    """Those of a walk below ``root``, a path without links; ``all_of_them`` packs other file systems, too.

    Raises UsageError when the root itself has no files.
    """
    mounts = read_mounts()
    if mounts is None:
        return Borders({}, None if all_of_them else os.stat(root).st_dev)
    own = mount_of(root, mounts)
    if own is not None and not own.is_files:
        raise UsageError(f"{root} holds {NOT_FILES}", advice="Name a folder with files of yours.")
    below = mounts_below(root, mounts)
    why = {path: OTHER if one.is_files else NOT_FILES for path, one in below.items()}
    return Borders({path: said for path, said in why.items() if not (all_of_them and said == OTHER)})


def doubt(root: Path, *, other_file_systems: bool, mounts: list[Mount] | None = None) -> str | None:
    """What somebody should be asked before all of ``root`` is pushed; None where there is no doubt."""
    here = root.resolve()
    known = (read_mounts() if mounts is None else mounts) or []
    others = [os.fsdecode(path) for path, one in mounts_below(here, known).items() if one.is_files]
    what = _what(here)
    if not what and not others:
        return None
    said = [f"it is {what}"] if what else []
    if others:
        shown = ", ".join(str(here / one) for one in sorted(others)[:_SHOWN])
        shown += f" and {len(others) - _SHOWN} more" if len(others) > _SHOWN else ""
        verb = "are packed, too" if other_file_systems else "are left out"
        said.append(f"other file systems below it {verb} ({shown})")
    return f"Push all of {here}: {'; '.join(said)}"


def _what(here: Path) -> str:
    if here.parent == here:
        return "the whole system"
    try:
        home = Path.home().resolve()
    except RuntimeError:
        home = None
    if home == here or here in _homes():
        return "a home folder, with its passwords and keys"
    return "the folder of all homes" if home is not None and here in home.parents else ""


def _homes() -> set[Path]:
    """The homes of people, not of services."""
    try:
        import pwd
    except ImportError:
        return set()
    return {Path(one.pw_dir) for one in pwd.getpwall() if 1000 <= one.pw_uid < 60_000} - {Path("/")}
