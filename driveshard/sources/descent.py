"""Ways down from a source's root on which no symbolic link is followed, whatever is swapped for one meanwhile.

Where the system can open a name from an open directory, every step is opened from the one before with O_NOFOLLOW.
Elsewhere each step is looked at before, and file and folder once more after it was opened: a guard, not a proof.
"""

from __future__ import annotations

import errno
import operator
import os
import stat
import sys
import zlib
from collections.abc import Callable
from functools import reduce
from types import TracebackType

_MOST_OPEN = 32  # descriptors of one way; deeper folders are reached anew from the root
_BLOCK = 1024 * 1024
_LINK_TAGS = (0xA0000003, 0xA000000C)  # Windows' junctions and symbolic links


def _flags(*names: str) -> int:
    """The open() flags of these names, as far as the platform has them."""
    return reduce(operator.or_, (getattr(os, name, 0) for name in names), os.O_RDONLY)


HAS_DIR_FD = {os.open, os.stat} <= os.supports_dir_fd and os.scandir in os.supports_fd
_OPEN_ROOT = _flags("O_DIRECTORY", "O_CLOEXEC")
_OPEN_STEP = _OPEN_ROOT | _flags("O_NOFOLLOW")
_REACH_ONLY = _flags("O_PATH")  # needs no permission to list; systems without it need one
# Without O_NONBLOCK, a pipe that took a file's place would make open() wait for ever.
OPEN_FILE = _flags("O_NOFOLLOW", "O_NONBLOCK", "O_CLOEXEC", "O_BINARY", "O_NOINHERIT")


class Descent:
    """The way from ``base`` (the root's path, ending in a separator) to the folder entered last.

    The root itself may be a link: somebody named it. With ``listing`` the descriptors can be listed.
    """

    def __init__(self, base: bytes, *, listing: bool = False, by_descriptor: bool = HAS_DIR_FD) -> None:
        self._base = base
        self._by_descriptor = by_descriptor
        self._more = 0 if listing else _REACH_ONLY
        self._entered: bytes | None = None
        self._steps: list[bytes] = []
        self._fds: list[int | None] = []  # the root's, and one for each step; None for one that was let go
        self._identity: tuple[int, int] | None = None

    def __enter__(self) -> Descent:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        self.close()

    def enter(self, directory: bytes) -> int | None:
        """A descriptor of that folder (relative to the root, ``b""`` being the root), good until the next call; None
        where whole paths must do. Raises OSError when a step is not there, or is no folder (any more)."""
        if directory != self._entered:
            self._entered = None
            if self._by_descriptor:
                self._go(directory.split(b"/") if directory else [])
            else:
                self._identity = self._look(directory)
            self._entered = directory
        return self._fds[-1] if self._fds else None

    def prove(self, fd: int, path: bytes) -> None:
        """After ``path`` was opened by its whole name: raise OSError unless ``fd`` is the file that lies there, in the
        folder that was entered."""
        here = os.lstat(self._base + path)
        if _is_link(here):
            raise OSError(errno.ELOOP, "a link")
        self.unchanged()
        if not os.path.samestat(here, os.fstat(fd)):
            raise OSError(errno.ENOENT, "another file")

    def unchanged(self) -> None:
        """Where whole paths must do: raise OSError when the folder that was entered is not there any more."""
        if not self._by_descriptor and self._look(self._entered or b"") != self._identity:
            raise OSError(errno.ENOTDIR, "another folder")

    def names(self) -> list[bytes]:
        """What is in the folder that was entered, by name, in no order; a folder's name ends in ``/``."""
        fd = self._fds[-1] if self._fds else None
        if fd is not None:
            return _names_in(fd)
        names = _names(os.path.join(self._base, self._entered or b""))
        self.unchanged()
        return names

    def close(self) -> None:
        self._leave(0)
        self._entered = None

    def _go(self, steps: list[bytes]) -> None:
        common = 0
        for one, other in zip(steps, self._steps, strict=False):
            if one != other:
                break
            common += 1
        while common and self._fds[common] is None:
            common -= 1
        self._leave(common + 1 if self._fds else 0)
        if not self._fds:
            self._fds.append(os.open(self._base, _OPEN_ROOT | self._more))
        for step in steps[common:]:
            self._fds.append(os.open(step, _OPEN_STEP | self._more, dir_fd=self._fds[-1]))
            self._steps.append(step)
            self._let_go(len(self._fds) - _MOST_OPEN)

    def _leave(self, count: int) -> None:
        """Keep the first ``count`` descriptors."""
        while len(self._fds) > count:
            fd = self._fds.pop()
            if fd is not None:
                os.close(fd)
        del self._steps[max(count - 1, 0) :]

    def _let_go(self, index: int) -> None:
        if index > 0 and (fd := self._fds[index]) is not None:
            os.close(fd)
            self._fds[index] = None

    def _look(self, directory: bytes) -> tuple[int, int]:
        """The folder's identity; raises OSError when a step to it is a link, or no folder."""
        found = os.stat(self._base)
        at = self._base
        for step in directory.split(b"/") if directory else []:
            at = os.path.join(at, step)
            found = os.lstat(at)
            if _is_link(found) or not stat.S_ISDIR(found.st_mode):
                raise OSError(errno.ENOTDIR, "no folder")
        return found.st_dev, found.st_ino


class Contents:
    """Reads files below a root for their checksums alone. ``check`` is called for every block and may raise."""

    def __init__(self, base: bytes, check: Callable[[], None], by_descriptor: bool = HAS_DIR_FD) -> None:
        self._base = base
        self._check = check
        self._descent = Descent(base, by_descriptor=by_descriptor)

    def crc(self, path: bytes) -> int:
        """The CRC-32 of a file's content. Raises OSError when it cannot be read."""
        directory, _, name = path.rpartition(b"/")
        fd = self._descent.enter(directory)
        file = os.open(self._base + path if fd is None else name, OPEN_FILE, dir_fd=fd)
        try:
            if fd is None:
                self._descent.prove(file, path)
            crc = 0
            while block := os.read(file, _BLOCK):
                self._check()
                crc = zlib.crc32(block, crc)
            return crc
        finally:
            os.close(file)

    def close(self) -> None:
        self._descent.close()


def _is_link(status: os.stat_result) -> bool:
    return stat.S_ISLNK(status.st_mode) or getattr(status, "st_reparse_tag", 0) in _LINK_TAGS


def _names(directory: bytes) -> list[bytes]:
    names = []
    with os.scandir(directory) as entries:
        for entry in entries:
            if not entry.is_dir(follow_symlinks=False):
                names.append(entry.name)
            elif not _is_junction(entry):
                names.append(entry.name + b"/")
    return names


def _names_in(fd: int) -> list[bytes]:
    """As ``_names``, from a descriptor. Python gives text here; encoded all at once it costs next to nothing."""
    with os.scandir(fd) as entries:
        names = [entry.name + "/" if entry.is_dir(follow_symlinks=False) else entry.name for entry in entries]
    return os.fsencode("\0".join(names)).split(b"\0") if names else []


def _is_junction(entry: os.DirEntry[bytes]) -> bool:
    """Windows' other kind of link to a directory, which may lead in a circle."""
    if sys.platform == "win32":
        return entry.stat(follow_symlinks=False).st_reparse_tag == stat.IO_REPARSE_TAG_MOUNT_POINT
    return False
