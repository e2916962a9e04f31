"""The bounded temp directory in which finished parts wait for their upload.

Room is reserved before a part is built and given back when it is released, so that the bytes on disk never exceed the
limit. A part is built under a hidden name and renamed when it is whole and on disk.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import shutil
import stat
import threading
import time
from collections.abc import Callable, Iterable
from pathlib import Path

from driveshard.core.clock import Clock
from driveshard.core.errors import Interrupted, TempFull, TempLost
from driveshard.core.files import create_private, md5_of, sync_directory
from driveshard.core.formatting import human_size
from driveshard.upload.send.load import FileLoad, Load

BUILDING = ".building-"
_KEEP_FREE = 64 * 2**20  # bytes left to everybody else on the disk
_PATIENCE = 3.0  # seconds for which somebody else may have a file open that is to be removed
_NO_FOLDER = (FileExistsError, NotADirectoryError)
_POLL = 0.5  # seconds between looks at the stop event and at a disk that others fill


def make_private(directory: Path) -> None:
    """Make ``directory``, closed to everybody else, or close the one that is there. The folder it lies in may be open
    to all, as /tmp is: what stands there under its name and is not ours is not touched.

    Raises TempFull when it is somebody else's, OSError when it cannot be made.
    """
    directory.parent.mkdir(parents=True, exist_ok=True)
    with contextlib.suppress(FileExistsError):
        directory.mkdir(mode=0o700)
    found = directory.lstat()
    if not stat.S_ISDIR(found.st_mode):
        raise NotADirectoryError(errno.ENOTDIR, "it is a link or a file", str(directory))
    if not hasattr(os, "geteuid"):  # Windows, where the folders of a user are closed to others
        return
    if found.st_uid not in (os.geteuid(), _owner_of_new(directory)):
        raise TempFull(
            f"the temp folder {directory} belongs to somebody else", advice="Name another folder with --temp."
        )
    if stat.S_IMODE(found.st_mode) & 0o077:
        with contextlib.suppress(OSError):  # some file systems have no modes
            directory.chmod(0o700)


def _owner_of_new(directory: Path) -> int:
    """Whose a file is that we make there: on a network disk perhaps not ours, though we may do all with it."""
    probe = directory / f"{BUILDING}owner"
    handle = create_private(probe)
    try:
        return os.fstat(handle).st_uid
    finally:
        os.close(handle)
        probe.unlink()


class Spool:
    """``directory`` is this dataset's and this user's alone; ``limit`` is in bytes. Raises TempFull when it is not, or
    cannot be written.

    ``left`` is when the newest file that an earlier run left here was written (POSIX time), None when there is none.
    ``elastic`` says that nobody asked for the limit: one part that is larger may then be here, alone. ``parts`` is how
    many may be here at a time, whatever their size; None for as many as there is room for.
    """

    near = True
    """Whether parts are built into the folder itself."""

    def __init__(
        self, directory: Path, limit: int, clock: Clock, *, elastic: bool = False, parts: int | None = None
    ) -> None:
        self.directory = directory
        self.limit = limit
        self._parts = parts
        self._elastic = elastic
        self._clock = clock
        self._room = threading.Condition()
        self._halted = False
        self._held: dict[int, int] = {}
        self._unwritten: set[int] = set()  # parts whose room is promised, but that the disk may not show yet
        self.peak = 0
        self.left = self._newest()
        try:
            make_private(directory)
            probe = directory / f"{BUILDING}probe"
            with os.fdopen(create_private(probe), "wb") as stream:
                stream.write(b"x")
            probe.unlink()
        except OSError as error:
            # A file or a dead link in the place of a folder: room is not what is missing.
            advice = "Name another folder with --temp." if isinstance(error, _NO_FOLDER) else None
            raise TempFull(
                f"the temp folder {directory} cannot be written: {error.strerror or error}", advice=advice
            ) from error

    def _newest(self) -> float | None:
        try:
            entries = list(os.scandir(self.directory))
            return max((entry.stat(follow_symlinks=False).st_mtime for entry in entries), default=None)
        except OSError:
            return None

    @property
    def most(self) -> int:
        """Bytes that one part can have here at all; where nobody asked for a limit, what the disk has free counts."""
        if not self._elastic:
            return self.limit
        try:
            free = shutil.disk_usage(self.directory).free
        except OSError:
            return self.limit
        return max(self.limit, free + self.used - _KEEP_FREE)

    @property
    def share(self) -> int:
        """Bytes for each of the parts that may be here at a time, when there is a number of them; else 0. Half of what
        the disk has free is left aside."""
        if self._parts is None:
            return 0
        try:
            free = shutil.disk_usage(self.directory).free
        except OSError:
            return 0
        return min(self.limit, free // 2) // self._parts

    def sweep(self, keep: Iterable[str]) -> int:
        """Remove what a crash left: unfinished builds and parts nobody waits for. Returns how many files went."""
        wanted = set(keep)
        removed = 0
        try:
            entries = list(os.scandir(self.directory))
        except FileNotFoundError:
            return 0
        for entry in entries:
            ours = entry.is_file(follow_symlinks=False) or entry.is_symlink()
            if ours and (entry.name not in wanted or entry.is_symlink()):
                removed += self._delete(Path(entry.path))
        self._remove_folders()
        return removed

    def _remove_folders(self) -> None:
        """Those of workers that are no more."""
        for path in self.directory.glob(f"{BUILDING}*/"):
            shutil.rmtree(path, ignore_errors=True)

    def adopt(self, number: int, file_name: str) -> bool:
        """Count a finished part that an earlier run left here; False when it is not here."""
        try:
            size = (self.directory / file_name).lstat().st_size
        except FileNotFoundError:
            return False
        with self._room:
            self._held[number] = size
            self.peak = max(self.peak, self.used)
        return True

    def reserve(self, number: int, size: int, on_wait: Callable[[], None] | None = None) -> int:
        """Wait until ``size`` bytes are free for the part; returns the bytes it may use.

        A part whose reservation turned out too small is given the whole limit once nothing else is held: call again
        with ``size`` equal to ``limit``. Raises TempFull when it can never fit, Interrupted on a stop or
        after ``halt``.
        """
        self._check_limit(number, size)
        told = False
        with self._room:
            while True:
                others = sum(held for other, held in self._held.items() if other != number)
                fits = others + size <= self.limit or (self._elastic and not others)
                if self._parts is not None:
                    fits = fits and len(self._held.keys() - {number}) < self._parts
                if fits and self._disk_has_room(number, size, idle=others == 0):
                    self._held[number] = size
                    self._unwritten.add(number)
                    self.peak = max(self.peak, self.used)
                    return size
                if on_wait and not told:
                    on_wait()
                    told = True
                self._clock.check()
                if self._halted:
                    raise Interrupted("the run ends before there was room")
                self._room.wait(_POLL)

    def _check_limit(self, number: int, size: int) -> None:
        if size > self.limit and not self._elastic:
            raise TempFull(
                f"part {number} needs {human_size(size)}, but the temp limit is {human_size(self.limit)}",
                advice="Give a larger --temp-limit, or a smaller --part-size for a new dataset.",
            )

    def halt(self) -> None:
        """The run ends: nobody gives room back any more, so whoever waits for some is let go."""
        with self._room:
            self._halted = True
            self._room.notify_all()

    def _disk_has_room(self, number: int, size: int, *, idle: bool) -> bool:
        promised = sum(self._held[other] for other in self._unwritten if other != number)
        try:
            make_private(self.directory)  # somebody may have cleaned up too much
            free = shutil.disk_usage(self.directory).free
        except FileNotFoundError:
            return False
        except OSError as error:
            raise TempFull(f"the temp folder {self.directory} cannot be used: {error.strerror or error}") from error
        if free >= size + promised + _KEEP_FREE:
            return True
        if idle:
            raise TempFull(
                f"{self.directory} has {human_size(free)} free; a part needs {human_size(size)}, and"
                f" {human_size(_KEEP_FREE)} stay free for everybody else"
            )
        return False

    @property
    def used(self) -> int:
        """Bytes reserved or on disk."""
        return sum(self._held.values())

    def building(self, number: int) -> Path:
        """Where the part is written until it is whole."""
        return self.directory / f"{BUILDING}{number:05d}"

    def path(self, file_name: str) -> Path:
        return self.directory / file_name

    def open(self, number: int, file_name: str) -> Load:
        """A finished part, to be sent. Raises TempLost when it is not here."""
        return FileLoad(self.directory / file_name)

    def holds(self, number: int, file_name: str) -> bool:
        """Whether a finished part is there."""
        return self.path(file_name).exists()

    def is_intact(self, number: int, file_name: str, md5: str | None) -> bool:
        """Whether it is there with the very bytes it was packed with."""
        return md5_of(self.path(file_name)) == md5

    def commit(self, number: int, file_name: str, size: int, place: str | None = None) -> Path:
        """Give a whole, fsynced part its final name, durably, and keep only the room it really takes. ``place`` is its
        name until now, where it was written under one that begins with ``building``'s.

        Raises TempLost when it is not there any more.
        """
        final = self.directory / file_name
        built = self.building(number)
        try:
            os.replace(built if place is None else self.directory / place, final)
            sync_directory(self.directory)
        except FileNotFoundError as error:
            raise TempLost(f"{file_name} vanished from the temp folder before it was whole") from error
        except OSError as error:
            raise TempFull(f"{final} cannot be written: {error.strerror or error}") from error
        if place is not None:
            self._delete_tries(number)
        with self._room:
            self._held[number] = size
            self._unwritten.discard(number)
            self._room.notify_all()
        return final

    def cancel(self, number: int) -> None:
        """Give back the room of a part that was not built."""
        self._delete_tries(number)
        self._give_back(number)

    def _delete_tries(self, number: int) -> None:
        """All that was written of a part and did not become it: a lost worker's file may have another name."""
        for path in self.directory.glob(f"{self.building(number).name}*"):
            self._delete(path)

    def release(self, number: int, file_name: str) -> None:
        """Delete a part that the destination has proved to hold."""
        self._delete(self.directory / file_name)
        self._give_back(number)

    def _delete(self, path: Path) -> bool:
        """Remove a file; False when it was not there. Raises TempFull when it cannot be removed."""
        patience = _PATIENCE
        while True:
            try:
                path.unlink()
                return True
            except FileNotFoundError:
                return False
            except OSError as error:
                # On Windows nobody can remove a file that a virus scanner or an indexer just looks at.
                if patience <= 0 or not isinstance(error, PermissionError):
                    raise TempFull(f"{path} cannot be removed: {error.strerror or error}") from error
            time.sleep(_POLL)
            patience -= _POLL

    def _give_back(self, number: int) -> None:
        with self._room:
            self._held.pop(number, None)
            self._unwritten.discard(number)
            self._room.notify_all()

    def remove_if_empty(self) -> None:
        """Leave no trace of a finished dataset, nor of workers that went on after they had been given up."""
        self._remove_folders()
        for path in self.directory.glob(f"{BUILDING}*"):
            with contextlib.suppress(OSError):
                path.unlink()
        with contextlib.suppress(OSError):
            self.directory.rmdir()


def spool_directory(temp: Path | None, default: Path, stem: str) -> Path:
    """A folder of the dataset's own, so that sweeping never meets other people's files, nor those of the same dataset
    pushed from another home (``default`` lies in it), whose lock nobody here sees."""
    if temp is None:
        return default / f"driveshard-{stem}"
    return temp / f"driveshard-{stem}-{hashlib.sha256(os.fsencode(default)).hexdigest()[:6]}"
