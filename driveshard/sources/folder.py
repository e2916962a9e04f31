"""The files below a directory, as they are: what is packed is what is read at packing time."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from driveshard.core.errors import Defect, SourceChanged, SourceMissing, UsageError
from driveshard.core.formatting import printable
from driveshard.core.model import Failure, FileList, Selection
from driveshard.sources.base import MemberWriter, Packed
from driveshard.sources.descent import HAS_DIR_FD, OPEN_FILE, Contents, Descent
from driveshard.sources.globs import Globs, normal
from driveshard.sources.mounts import OTHER, borders
from driveshard.sources.stamps import MASK, Stamps, folded

Row = tuple[bytes, int, int, int]
"""(path relative to the root, size in bytes, mtime in nanoseconds, change stamp), the last two in 64 bits."""

_BLOCK_ROWS = 8192
_SLASH = ord("/")
_LARGE = 8 << 20  # from here on a file is copied in blocks rather than held in memory


_HAS_DIR_FD = HAS_DIR_FD


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

    - ``./`` before it, the root's own path (whole, or its last steps: ``src/raw`` for the root ``.../src``) and any
      Unicode form mean what they seem to mean.

    A file is taken when it matches any of ``include`` (or there is none) and none of ``exclude``. Directories that
    are excluded are not even listed, nor are those in ``apart`` (see ``apart_from``). What is mounted below the root
    is left out, unless ``other_file_systems``; what the system only tells of itself (``/proc``, ``/sys``) always is.
    """

    root: Path
    include: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    apart: tuple[Path, ...] = ()
    other_file_systems: bool = False

    @property
    def kind(self) -> str:
        return "folder"

    def describe(self) -> str:
        return str(self.root)

    def settings(self) -> Mapping[str, Any]:
        return {
            "include": [normal(pattern, self.root) for pattern in self.include],
            "exclude": [normal(pattern, self.root) for pattern in self.exclude],
        }

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
        on_idle: Callable[[str, str], None] | None = None,
    ) -> Iterator[list[Row]]:
        """Yield all files' rows in blocks of at most 8,192, in path order: the order of the whole paths' bytes.

        What cannot be listed goes to ``on_failure``, links and special files to ``on_skipped``, and the scan goes on;
        at its end each pattern that matched nothing goes to ``on_idle`` as (``include`` or ``exclude``, pattern).
        Memory holds the names of one directory a level. Raises SourceMissing when the root is not a directory, and
        UsageError when it holds no files but what the system tells of itself.
        """
        _require_directory(self.root)
        scan = _Scan(self, on_failure or _ignore, on_skipped or _ignore)
        return scan.blocks(on_idle or _ignore)

    def contents(self, check: Callable[[], None]) -> Contents:
        """A reader of the files for their checksums; ``check`` is called for every block and may raise."""
        return Contents(_base(self.root), check, _HAS_DIR_FD)

    def grown(self, selection: Selection) -> tuple[Failure, ...]:
        """Which of the files are larger now than they were when they were listed."""
        if not isinstance(selection, FileList):
            raise Defect("A folder source has lists of files only.")
        found = []
        for path, size, _ in selection:
            with suppress(OSError):
                now = os.lstat(_base(self.root) + path).st_size
                if now > size:
                    found.append(
                        Failure(printable(path), f"it grew to {now:,} bytes, which do not fit the temp folder")
                    )
        return tuple(found)

    def pack(self, selection: Selection, writer: MemberWriter, part_size: int) -> Packed:
        """Read the selection's files as they are now into ``writer``.

        In the selection returned each file has the CRC-32 of what was packed. One whose size changed since it was
        listed has the size that was packed and its present times; one that cannot be read is left out and listed as a
        Failure. Raises SourceMissing when the root itself is gone.
        """
        if not isinstance(selection, FileList):
            raise Defect("A folder source packs lists of files only.")
        _require_directory(self.root)
        run = _PackRun(self.root, writer)
        try:
            run.pack(selection)
        finally:
            run.close()
        if run.failures:
            _require_directory(self.root)  # with the disk unplugged, every file seems to have vanished
        failed = tuple(run.failures.values())
        return Packed(run.result(selection), run.samples, len(selection) - len(failed), failed)


def _ignore(*_: object) -> None:
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
        self._included = Globs(source.include, source.root) if source.include else None
        self._excluded = Globs(source.exclude, source.root) if source.exclude else None
        self._descent = Descent(self._base, listing=True, by_descriptor=_HAS_DIR_FD)
        self._stamps = Stamps(os.stat(source.root).st_dev)
        root = source.root.resolve()
        self._apart = {os.fsencode(place.relative_to(root).as_posix()) + b"/" for place in source.apart}
        self._borders = borders(root, all_of_them=source.other_file_systems)
        self._filtered = bool(source.include or source.exclude or self._borders.paths)

    def blocks(self, on_idle: Callable[[str, str], None]) -> Iterator[list[Row]]:
        """Yield rows of at most 8,192 files in path order, then tell of the patterns that matched nothing."""
        with self._descent:
            yield from self._blocks()
        for word, globs in (("include", self._included), ("exclude", self._excluded)):
            for pattern in globs.idle() if globs else ():
                on_idle(word, pattern)

    def _blocks(self) -> Iterator[list[Row]]:
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
        if not names or names[-1][-1] == _SLASH:
            return
        try:
            directory_fd = self._descent.enter(prefix[:-1])
        except OSError as error:
            self._on_failure(Failure(printable(prefix) or ".", in_words(error)))
            names.clear()
            return
        self._take(prefix, names, min(len(names), _BLOCK_ROWS - len(block)), directory_fd, block)

    def _take(self, prefix: bytes, names: list[bytes], count: int, directory_fd: int | None, block: list[Row]) -> None:
        base, lstat, filtered = self._base, os.lstat, self._filtered
        factor, horizon = self._stamps.factor, self._stamps.horizon()
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
            if not stat.S_ISREG(status.st_mode):
                self._on_skipped(Failure(printable(path), _kind_in_words(status.st_mode)))
                continue
            mtime, change = status.st_mtime_ns, status.st_ctime_ns
            # What nearly all files are: old enough, and dated in a time that 64 bits hold.
            if 0 <= mtime <= change <= horizon:
                block.append(
                    (path, status.st_size, mtime, (change + factor * status.st_ino) & MASK if factor else change)
                )
            else:
                block.append((path, status.st_size, folded(mtime), self._stamps.of(status, horizon)))

    def _list(self, directory: bytes) -> list[bytes]:
        """Names in reverse path order; a directory's name ends in ``/``, which is how whole paths compare."""
        names: list[bytes] = []
        try:
            fd = self._descent.enter(directory[:-1])
            if self._borders.crossed(self._base + directory if fd is None else fd):
                self._on_skipped(Failure(printable(directory[:-1]), OTHER))
                return []
            names = self._descent.names()
        except OSError as error:
            self._on_failure(Failure(printable(directory) or ".", in_words(error)))
            return []
        names.sort(reverse=True)
        return names

    def _takes(self, path: bytes) -> bool:
        if self._is_elsewhere(path):
            return False
        # Excluded first, so that a pattern counts as used also where nothing was to be included.
        if self._excluded is not None and self._excluded.match(path):
            return False
        return self._included is None or self._included.match(path)

    def _is_elsewhere(self, path: bytes) -> bool:
        why = self._borders.paths.get(path)
        if why is not None:
            self._on_skipped(Failure(printable(path), why))
        return why is not None

    def _prunes(self, directory: bytes) -> bool:
        if directory in self._apart or self._is_elsewhere(directory[:-1]):
            return True
        return self._excluded is not None and self._excluded.match(directory)


class _PackRun:
    """Packs one selection. Open are the folders on the way to one file, and that file."""

    def __init__(self, root: Path, writer: MemberWriter) -> None:
        self.failures: dict[int, Failure] = {}  # by index in the selection
        self.samples = 0
        self._changed: dict[int, tuple[int, int, int]] = {}  # index -> size, mtime, change
        self._base = _base(root)
        self._writer = writer
        self._before = len(writer.crcs)
        self._descent = Descent(self._base, by_descriptor=_HAS_DIR_FD)
        self._stamps = Stamps(os.stat(root).st_dev)

    def close(self) -> None:
        self._descent.close()

    def pack(self, selection: FileList) -> None:
        """Write the selection's files; what cannot be read is noted in ``failures``."""
        add, opened, read, close = self._writer.add, os.open, os.read, os.close
        directory_fd = entered = last_directory = last_stem = None
        for index, (path, size, mtime) in enumerate(selection):
            directory, _, name = path.rpartition(b"/")
            try:
                if directory != entered:
                    entered = None
                    directory_fd = self._descent.enter(directory)
                    entered = directory
                place = self._base + path if directory_fd is None else name
                fd = opened(place, OPEN_FILE, dir_fd=directory_fd)
                try:
                    if directory_fd is None:
                        self._descent.prove(fd, path)
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

    def result(self, selection: FileList) -> FileList:
        """The selection as it was really packed."""
        crcs = self._writer.crcs[self._before :]
        if not self.failures and not self._changed:
            return FileList(selection.paths, selection.sizes, selection.mtimes, selection.changes, crcs)
        return FileList.of(
            [
                (row[0], *self._changed.get(index, row[1:]))
                for index, row in enumerate(selection.rows())
                if index not in self.failures
            ],
            crcs,
        )

    def _read_anew(self, fd: int, index: int, path: bytes, planned: tuple[int, int]) -> bytes | None:
        """The bytes of a file that is empty, large, or not as it was listed; None when it is large and now packed."""
        # Asked before reading: a write that comes later leaves newer times, so the next run sees it.
        horizon = self._stamps.horizon()
        status = os.fstat(fd)
        if not stat.S_ISREG(status.st_mode):
            raise _NotRegularError(status.st_mode)
        data: bytes | None = None
        if status.st_size > _LARGE:
            size = self._writer.add_file(path, fd)
        else:
            os.lseek(fd, 0, os.SEEK_SET)
            data = b""
            while len(data) < status.st_size and (more := os.read(fd, status.st_size - len(data))):
                data += more
            size = len(data)
        mtime = folded(status.st_mtime_ns)
        if (size, mtime) != planned:
            self._changed[index] = size, mtime, self._stamps.of(status, horizon)
        return data


class _NotRegularError(OSError):
    def __init__(self, mode: int) -> None:
        super().__init__(errno.EINVAL, f"it is {_kind_in_words(mode)} now")


_WORDS = {
    errno.ENOENT: "it is no longer there",
    errno.ENOTDIR: "a folder on the way to it is none any more",
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
