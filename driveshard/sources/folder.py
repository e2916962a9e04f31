"""The files below a directory, as they are: what is packed is what is read at packing time."""

from __future__ import annotations

import errno
import operator
import os
import stat
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import reduce
from pathlib import Path
from typing import Any

from driveshard.errors import Defect, SourceChanged, SourceMissing, UsageError
from driveshard.model import Failure, FileList, Selection
from driveshard.sources.base import MemberWriter, Packed, printable
from driveshard.sources.globs import matcher

Row = tuple[bytes, int, int]
"""(path relative to the root, size in bytes, mtime in nanoseconds)."""

_BLOCK_ROWS = 8192
_SLASH = ord("/")
_LARGE = 8 << 20  # from here on a file is copied in blocks rather than held in memory


def _flags(*names: str) -> int:
    """The open() flags of these names, as far as the platform has them."""
    return reduce(operator.or_, (getattr(os, name, 0) for name in names), os.O_RDONLY)


_HAS_DIR_FD = {os.open, os.stat} <= os.supports_dir_fd
_WORTH_OPENING = 16  # names; for fewer, opening their directory costs more than the shorter look-ups save
_OPEN_DIRECTORY = _flags("O_DIRECTORY", "O_PATH", "O_CLOEXEC")
# Without O_NONBLOCK, a pipe that took a file's place would make open() wait for ever.
_OPEN_FILE = _flags("O_NOFOLLOW", "O_NONBLOCK", "O_CLOEXEC", "O_BINARY", "O_NOINHERIT")


@dataclass(frozen=True)
class FolderSource:
    """The regular files below ``root``, at any depth. Symbolic links are not followed, special files are left out.

    ``include`` and ``exclude`` are globs on the path relative to the root, with ``/`` between its steps on every
    platform, case-sensitive:

    - ``*`` is any run of characters and ``?`` one character, neither a ``/``; ``[a-z]`` and ``[!a-z]`` are one of a
      set; ``**`` is any run of characters or directories.
    - A pattern without ``/`` matches a name at any depth (``*.tmp``, ``.git``); one with ``/`` matches from the root
      (``raw/*.png``, ``/notes.txt``).
    - A pattern that matches a directory means all below it; one that ends in ``/`` matches directories only.

    A file is taken when it matches any of ``include`` (or there is none) and none of ``exclude``. Directories that
    are excluded are not even listed, nor are those in ``apart`` (see ``apart_from``).
    """

    root: Path
    include: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    apart: tuple[Path, ...] = ()

    @property
    def kind(self) -> str:
        return "folder"

    def describe(self) -> str:
        return str(self.root)

    def settings(self) -> Mapping[str, Any]:
        return {"include": list(self.include), "exclude": list(self.exclude)}

    def apart_from(self, places: Iterable[Path]) -> FolderSource:
        """The same files without those in ``places``, directories of our own that may lie below the root.

        Raises UsageError when the root itself is one of them.
        """
        root, own = self.root.resolve(), [place.resolve() for place in places]
        if root in own:
            raise UsageError(
                f"{self.root} is where driveshard keeps its own files.", advice="Name the folder your samples are in."
            )
        return replace(self, apart=tuple(place for place in own if root in place.parents))

    def scan(
        self,
        on_failure: Callable[[Failure], None] | None = None,
        on_skipped: Callable[[Failure], None] | None = None,
    ) -> Iterator[list[Row]]:
        """Yield all files' rows in blocks of at most 8,192, in path order: the order of the whole paths' bytes.

        What cannot be listed goes to ``on_failure``, links and special files to ``on_skipped``, and the scan goes on.
        Memory holds the names of one directory a level. Raises SourceMissing when the root is not a directory.
        """
        _require_directory(self.root)
        scan = _Scan(self, on_failure or _ignore, on_skipped or _ignore)
        return scan.blocks()

    def pack(self, selection: Selection, writer: MemberWriter, part_size: int) -> Packed:
        """Read the selection's files as they are now into ``writer``.

        In the selection returned, a file that changed since it was listed has the size that was packed and its
        present mtime; one that cannot be read is left out and listed as a Failure. Raises SourceMissing when the root
        itself is gone.
        """
        if not isinstance(selection, FileList):
            raise Defect("A folder source packs lists of files only.")
        _require_directory(self.root)
        run = _PackRun(self.root, writer)
        try:
            run.pack(selection)
        finally:
            run.leave_directory()
        if run.failures:
            _require_directory(self.root)  # with the disk unplugged, every file seems to have vanished
        failed = tuple(run.failures.values())
        return Packed(run.result(selection), run.samples, len(selection) - len(failed), failed)


def _ignore(_: Failure) -> None:
    """For who does not want to hear."""


def _require_directory(root: Path) -> None:
    if root.is_dir():
        return
    if root.exists():
        raise SourceMissing(f"{root} is a file, not a folder.", advice=f"Name the folder it is in: {root.parent}")
    raise SourceMissing(f"There is no folder {root}.", advice="Check the path; is the disk it is on connected?")


class _Scan:
    """One walk: a stack of directories, each with the names it still has to give, last name first."""

    def __init__(
        self, source: FolderSource, on_failure: Callable[[Failure], None], on_skipped: Callable[[Failure], None]
    ) -> None:
        self._base = _base(source.root)
        self._on_failure = on_failure
        self._on_skipped = on_skipped
        self._included = matcher(source.include) if source.include else None
        self._excluded = matcher(source.exclude) if source.exclude else None
        self._filtered = bool(source.include or source.exclude)
        root = source.root.resolve()
        self._apart = {os.fsencode(place.relative_to(root).as_posix()) + b"/" for place in source.apart}

    def blocks(self) -> Iterator[list[Row]]:
        """Yield rows of at most 8,192 files in path order."""
        block: list[Row] = []
        levels = [(b"", self._list(b""))]
        while levels:
            prefix, names = levels[-1]
            self._take_files(prefix, names, block)
            if len(block) >= _BLOCK_ROWS:
                yield block
                block = []
            elif not names:
                levels.pop()
            else:
                directory = prefix + names.pop()
                if not self._prunes(directory):
                    levels.append((directory, self._list(directory)))
        if block:
            yield block

    def _take_files(self, prefix: bytes, names: list[bytes], block: list[Row]) -> None:
        """Move names to ``block`` until it is full, the next name is a directory, or none is left."""
        count = min(len(names), _BLOCK_ROWS - len(block))
        directory_fd = self._open(prefix) if count >= _WORTH_OPENING else None
        try:
            self._take(prefix, names, count, directory_fd, block)
        finally:
            if directory_fd is not None:
                os.close(directory_fd)

    def _open(self, directory: bytes) -> int | None:
        """A descriptor to look names up from; None where there is none, and whole paths tell what is wrong."""
        if not _HAS_DIR_FD:
            return None
        try:
            return os.open(self._base + directory, _OPEN_DIRECTORY)
        except OSError:
            return None

    def _take(self, prefix: bytes, names: list[bytes], count: int, directory_fd: int | None, block: list[Row]) -> None:
        base, lstat, filtered = self._base, os.lstat, self._filtered
        for _ in range(count):
            name = names.pop()
            if name[-1] == _SLASH:
                names.append(name)
                break
            path = prefix + name
            if filtered and not self._takes(path):
                continue
            try:
                status = lstat(base + path if directory_fd is None else name, dir_fd=directory_fd)
            except FileNotFoundError:
                continue  # it went between listing and now, as if it had never been
            except OSError as error:
                self._on_failure(Failure(printable(path), in_words(error)))
                continue
            if stat.S_ISREG(status.st_mode):
                block.append((path, status.st_size, status.st_mtime_ns))
            else:
                self._on_skipped(Failure(printable(path), _kind_in_words(status.st_mode)))

    def _list(self, directory: bytes) -> list[bytes]:
        """Names in reverse path order; a directory's name ends in ``/``, which is how whole paths compare."""
        names = []
        try:
            with os.scandir(self._base + directory) as entries:
                for entry in entries:
                    if not entry.is_dir(follow_symlinks=False):
                        names.append(entry.name)
                    elif not _is_junction(entry):
                        names.append(entry.name + b"/")
        except OSError as error:
            self._on_failure(Failure(printable(directory) or ".", in_words(error)))
        names.sort(reverse=True)
        return names

    def _takes(self, path: bytes) -> bool:
        text = os.fsdecode(path)
        if self._included is not None and not self._included(text):
            return False
        return self._excluded is None or not self._excluded(text)

    def _prunes(self, directory: bytes) -> bool:
        if directory in self._apart:
            return True
        return self._excluded is not None and bool(self._excluded(os.fsdecode(directory)))


class _PackRun:
    """Packs one selection. At most one directory is open, and one file."""

    def __init__(self, root: Path, writer: MemberWriter) -> None:
        self.failures: dict[int, Failure] = {}  # by index in the selection
        self.samples = 0
        self._changed: dict[int, tuple[int, int]] = {}  # index -> size, mtime
        self._base = _base(root)
        self._writer = writer
        self._directory: bytes | None = None
        self._directory_fd: int | None = None

    def pack(self, selection: FileList) -> None:
        """Write the selection's files; what cannot be read is noted in ``failures``."""
        add, opened, read, close = self._writer.add, os.open, os.read, os.close
        last_directory = last_stem = None
        for index, (path, size, mtime) in enumerate(selection):
            directory, _, name = path.rpartition(b"/")
            try:
                if directory != self._directory:
                    self._enter(directory)
                place = self._base + path if self._directory_fd is None else name
                fd = opened(place, _OPEN_FILE, dir_fd=self._directory_fd)
                try:
                    # One byte more than planned tells a file that has grown, without asking for its size.
                    data: bytes | None = read(fd, size + 1) if size <= _LARGE else None
                    if data is None or len(data) != size or not size:
                        data = self._read_anew(fd, index, path, (size, mtime))
                finally:
                    close(fd)
            except (OSError, SourceChanged) as error:
                self.failures[index] = Failure(printable(path), in_words(error))
                continue
            if data is not None:
                add(path, data)
            # model.sample_key in bytes and in two halves, which costs half.
            stem = name.partition(b".")[0] or b"." + name[1:].partition(b".")[0]
            if stem != last_stem or directory != last_directory:
                last_directory, last_stem = directory, stem
                self.samples += 1

    def leave_directory(self) -> None:
        if self._directory_fd is not None:
            os.close(self._directory_fd)
        self._directory = self._directory_fd = None

    def result(self, selection: FileList) -> FileList:
        """The selection as it was really packed."""
        if not self.failures and not self._changed:
            return selection
        return FileList.of(
            [
                (path, *self._changed.get(index, (size, mtime)))
                for index, (path, size, mtime) in enumerate(selection)
                if index not in self.failures
            ]
        )

    def _enter(self, directory: bytes) -> None:
        self.leave_directory()
        if _HAS_DIR_FD:
            self._directory_fd = os.open(self._base + directory, _OPEN_DIRECTORY)
        self._directory = directory

    def _read_anew(self, fd: int, index: int, path: bytes, planned: tuple[int, int]) -> bytes | None:
        """The bytes of a file that is empty, large, or not as it was listed; None when it is large and now packed."""
        # Asked before reading: a write that comes later leaves a newer mtime, so the next run sees it.
        status = os.fstat(fd)
        if not stat.S_ISREG(status.st_mode):
            raise _NotRegularError(status.st_mode)
        data: bytes | None = None
        if status.st_size > _LARGE:
            size = self._writer.add_file(path, Path(os.fsdecode(self._base + path)))
        else:
            os.lseek(fd, 0, os.SEEK_SET)
            data = b""
            while len(data) < status.st_size and (more := os.read(fd, status.st_size - len(data))):
                data += more
            size = len(data)
        if (size, status.st_mtime_ns) != planned:
            self._changed[index] = size, status.st_mtime_ns
        return data


class _NotRegularError(OSError):
    def __init__(self, mode: int) -> None:
        super().__init__(errno.EINVAL, f"it is {_kind_in_words(mode)} now")


_WORDS = {
    errno.ENOENT: "it is no longer there",
    errno.ENOTDIR: "its folder is no longer there",
    errno.EACCES: "permission denied",
    errno.EPERM: "permission denied",
    errno.EISDIR: "it is a folder now",
    errno.ELOOP: "it is a symbolic link now",
    errno.ENXIO: "it is a socket or a pipe now",
    errno.ENAMETOOLONG: "its path is too long for this system",
    errno.EIO: "the disk reports a read error",
}


def in_words(error: OSError | SourceChanged) -> str:
    """Why a file could not be read, for the user."""
    if isinstance(error, SourceChanged):
        return "it changed while it was read"
    return _WORDS.get(error.errno or 0) or error.strerror or str(error)


def _kind_in_words(mode: int) -> str:
    kinds = {
        stat.S_IFLNK: "a symbolic link",
        stat.S_IFDIR: "a folder",
        stat.S_IFIFO: "a pipe",
        stat.S_IFSOCK: "a socket",
    }
    return kinds.get(stat.S_IFMT(mode), "a device")


def _base(root: Path) -> bytes:
    """What to put before a relative path: a relative root must not move when the process changes its directory."""
    return os.path.join(os.fsencode(root.absolute()), b"")


def _is_junction(entry: os.DirEntry[bytes]) -> bool:
    """Windows' other kind of link to a directory, which may lead in a circle."""
    if sys.platform == "win32":
        return entry.stat(follow_symlinks=False).st_reparse_tag == stat.IO_REPARSE_TAG_MOUNT_POINT
    return False
