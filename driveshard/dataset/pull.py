"""``driveshard.pull``: a published dataset, or any folder that is shared, onto this disk, each file proved."""

from __future__ import annotations

import os
import re
import threading
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from driveshard.archive import manifest as manifests
from driveshard.archive.manifest import Manifest, ManifestPart, manifest_in
from driveshard.archive.zip_reader import member_path
from driveshard.config.settings import Settings, settings_from
from driveshard.core.errors import (
    DriveshardError,
    Interrupted,
    Mismatch,
    NotFound,
    SourceMissing,
    UsageError,
    defect_of,
)
from driveshard.core.events import Emit, Notice, PartReleased, Planned, Published, Scanned, Started, ignore
from driveshard.core.files import sync_directory
from driveshard.core.formatting import plural, shown
from driveshard.core.model import RemoteFile
from driveshard.core.paths import path_of
from driveshard.dataset.directory_lock import hold_directory
from driveshard.dataset.fetch import Wanted, Ways, fetch, is_whole, require_room, temp_path, unwritable
from driveshard.dataset.foreign import foreign, told_left_out, unfinished
from driveshard.dataset.locate import damage_told, find_manifest, open_part, open_place
from driveshard.dataset.selection import Selection, of_parts, parse_parts, places_of, sound, wanted_of
from driveshard.dataset.shelf import DirectoryShelf, Shelf
from driveshard.sources.globs import matcher
from driveshard.storage.retry import Retry

_CHECKERS = 2


@dataclass(frozen=True, slots=True)
class PullResult:
    """What is in ``directory`` now of what was asked for: ``parts`` files of ``bytes`` bytes, of which
    ``fetched_bytes`` came over the line in this run. ``verified`` says that all were proved by checksums."""

    name: str
    parts: int
    bytes: int
    fetched_bytes: int
    verified: bool
    directory: str

    def as_json(self) -> dict[str, Any]:
        """The fields that scripts rely on, in their order."""
        return asdict(self)


def pull(
    link: str,
    directory: str | os.PathLike[str],
    *,
    parts: str | Iterable[int] | None = None,
    only: str | Iterable[str] = (),
    api_key: str | None = None,
    on_event: Emit = ignore,
) -> PullResult:
    """Fetch a dataset to ``directory``; the same call again fetches what is missing, damaged or changed.

    ``link`` is a shared folder's link or id, the name of a dataset pushed from here, or ``file:DIR``. ``parts`` are
    numbers (``"0-3"`` or an iterable); with ``only``, globs of member paths, the parts that hold such members are
    fetched, whole. ``api_key`` reads what is shared with anyone; without it a login is used that sees the folder, else
    none. ``on_event`` is called with the values of ``driveshard.events``, from any thread.

    Raises a DriveshardError when not all of it is there, proved; its ``advice`` says what to do.
    """
    settings = settings_from()
    if api_key:
        settings = replace(settings, api_key=api_key)
    numbers = parse_parts(parts) if isinstance(parts, str) else None if parts is None else frozenset(parts)
    globs = (only,) if isinstance(only, str) else tuple(only)
    return pull_into(link, path_of(directory), Selection(numbers, globs), settings, on_event)


def pull_into(what: str, directory: Path, selection: Selection, settings: Settings, emit: Emit) -> PullResult:
    """As ``pull``, with settings."""
    if directory.exists() and not directory.is_dir():
        raise UsageError(f"{directory} is not a directory", advice="Name a directory, which may be a new one.")
    try:
        match = matcher(selection.only)
    except re.error as error:
        raise UsageError(f"--only: {selection.only[0]!r} is not a glob ({error})") from error
    with closing(open_place(what, settings, emit)) as shelf:
        if shelf.way:
            emit(Notice(shelf.way))
        if isinstance(shelf, DirectoryShelf) and directory.exists() and directory.samefile(shelf.directory):
            raise UsageError("a directory cannot be pulled into itself", advice="Name another directory.")
        ways = Ways(settings.clock, Retry(settings.clock, settings.patience, emit), emit)
        return _Pull(shelf, directory, selection, match, ways).run()


class _Pull:
    """One pull under way."""

    def __init__(
        self, shelf: Shelf, directory: Path, selection: Selection, match: Callable[[str], object], ways: Ways
    ) -> None:
        self._shelf = shelf
        self._directory = directory
        self._selection = selection
        self._match = match if selection.only else lambda _: True
        self._ways = ways
        self._manifest: Manifest | None = None
        self._fetched = 0
        self._counting = threading.Lock()

    def run(self) -> PullResult:
        """Plan, look at what is here, fetch the rest, and describe it. Nothing is written before the plan is sound."""
        name, wanted = self._plan(self._shelf.files())
        self._say_start(name, wanted)
        try:
            self._directory.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise unwritable(self._directory, error) from error
        with hold_directory(self._directory):
            try:
                self._bring(wanted)
            except (Mismatch, NotFound, SourceMissing) as error:
                wanted = self._planned_anew(wanted, error)
                self._bring(wanted)
        self._ways.emit(Published(None))
        return self._result(name, wanted)

    def _bring(self, wanted: list[Wanted]) -> None:
        whole = self._whole(self._everything(wanted))
        missing = [one for one in wanted if one.number not in whole]
        self._require_room(missing)
        self._report(wanted, whole)
        self._fetch(missing)
        self._publish({one.number for one in wanted} | whole)

    def _planned_anew(self, before: list[Wanted], error: DriveshardError) -> list[Wanted]:
        """After a mismatch, or when a part is gone: the dataset may have been changed or merged meanwhile, or its
        manifest come with a wrong bit. Raises the error again when nothing is planned otherwise now."""
        wanted = before if self._manifest is None else self._plan(self._shelf.files())[1]
        if wanted == before:
            raise error
        self._ways.halt.clear()
        self._ways.emit(Notice("the dataset is not what it was when this began; going on by its present manifest"))
        return wanted

    # -- what is wanted ------------------------------------------------------------------------------------------

    def _plan(self, files: list[RemoteFile]) -> tuple[str, list[Wanted]]:
        if any(one.name == manifests.NAME and not one.folder for one in files):
            self._manifest = self._read_manifest(files)
            places = places_of(self._manifest, files, self._shelf)
            return self._manifest.name, self._selected(self._manifest, places)
        if self._selection.parts is not None:
            raise SourceMissing(
                f"{self._shelf.describe()} has no {manifests.NAME}, so it has no numbered parts",
                advice="Leave --parts out to fetch all files; or its upload is not complete yet.",
            )
        if not self._selection.only and unfinished(files):
            raise SourceMissing(
                f"{self._shelf.describe()} has parts of a dataset, and no {manifests.NAME}",
                advice="Its upload is not complete, or Drive does not list all of it yet: run the same command again"
                " later. If driveshard did not make it: --only '**' fetches all files.",
            )
        if isinstance(self._shelf, DirectoryShelf):
            files = self._shelf.inside(RemoteFile("", "", 0, folder=True))
        found = foreign(self._shelf, files, self._match)
        if not found.wanted and not found.left_out:
            raise self._nothing()
        for line in told_left_out(found):
            self._ways.emit(Notice(line))
        self._ways.emit(Notice(_proof(found.wanted)))
        return self._directory.name, found.wanted

    def _nothing(self) -> SourceMissing:
        if self._selection.only:
            return SourceMissing(
                f"no file of {self._shelf.describe()} matches {' '.join(self._selection.only)}",
                advice="Leave --only out to fetch all files.",
            )
        return SourceMissing(
            f"there is nothing in {self._shelf.describe()}",
            advice="Check the link. If it was filled just now, Drive may not list that yet: try again in some minutes.",
        )

    def _read_manifest(self, files: list[RemoteFile]) -> Manifest:
        """The manifest, sound. What looks wrong is read twice: nothing else proves it."""
        try:
            return sound(find_manifest(self._shelf, files))
        except Mismatch:
            return sound(find_manifest(self._shelf, files))

    def _selected(self, manifest: Manifest, places: dict[int, str]) -> list[Wanted]:
        numbers = self._selection.parts
        known = {part.number for part in manifest.parts}
        if numbers is not None and not numbers & known:
            raise SourceMissing(
                f"{shown(manifest.name)} has no such parts",
                advice=f"It has the parts {min(known, default=0)} to {max(known, default=0)}.",
            )
        chosen = [part for part in manifest.parts if numbers is None or part.number in numbers]
        if self._selection.only:
            chosen = [part for part in chosen if self._holds(replace(part, id=places[part.number]))]
            if not chosen:
                raise SourceMissing(
                    f"no member of {shown(manifest.name)} matches {' '.join(self._selection.only)}",
                    advice="`driveshard ls` lists what there is.",
                )
        return [wanted_of(part, places[part.number]) for part in chosen]

    def _holds(self, part: ManifestPart) -> bool:
        """Whether a part holds a member that is asked for; its directory is read, by a range."""
        with damage_told(part), open_part(self._shelf, part) as archive:
            paths = (member_path(info) for info in archive.infolist())
            deleted = self._manifest.deleted_paths if self._manifest is not None else ()
            return any(self._match(os.fsdecode(path)) for path in paths if path not in deleted)

    def _everything(self, wanted: list[Wanted]) -> list[Wanted]:
        """What may be here: with a manifest all of its parts, since the one that is written tells of them, too."""
        if self._manifest is None:
            return wanted
        return [wanted_of(part, "") for part in self._manifest.parts]

    # -- what is here --------------------------------------------------------------------------------------------

    def _whole(self, candidates: list[Wanted]) -> set[int]:
        """The numbers of those that are here and are what they should be."""
        here = [one for one in candidates if os.path.lexists(self._path(one))]
        if here:
            self._ways.emit(Notice(f"checking {plural(len(here), 'file')} that are here already"))

        def check(one: Wanted) -> bool:
            if one.size is None and one.file_id:
                one = replace(one, size=self._size(one))
            return is_whole(self._path(one), one, self._ways.clock.check)

        with ThreadPoolExecutor(_CHECKERS) as pool:
            return {one.number for one, good in zip(here, pool.map(check, here), strict=True) if good}

    def _size(self, one: Wanted) -> int:
        totals: list[int] = []
        look = self._shelf.stream
        self._ways.retry.call(
            lambda: look(one.file_id, 0, 1, lambda _: None, totals.append), doing=f"looking at {one.name}"
        )
        return totals[-1] if totals else 0

    def _path(self, one: Wanted) -> Path:
        return self._directory.joinpath(*one.name.split("/"))

    def _require_room(self, missing: list[Wanted]) -> None:
        """Raises TempFull; or Mismatch when it is the manifest that is wrong about sizes."""
        held = sum(_size_of(temp_path(self._path(one))) for one in missing)
        needed = sum(one.size or 0 for one in missing) - held
        try:
            require_room(self._directory, needed)
        except DriveshardError:
            for one in missing if self._manifest is not None else []:
                told = self._size(one)
                if told != one.size:
                    raise Mismatch(f"{one.name} has {told:,} bytes where it lies instead of {one.size:,}") from None
            raise

    # -- fetching ------------------------------------------------------------------------------------------------

    def _say_start(self, name: str, wanted: list[Wanted]) -> None:
        self._ways.emit(
            Started(shown(name), self._shelf.describe(), str(self._directory), 0, 0, fetching=True),
        )
        for one in wanted:
            self._ways.emit(Planned(one.number, one.size or 0))
        self._ways.emit(Scanned(len(wanted), sum(one.size or 0 for one in wanted), complete=True))

    def _report(self, wanted: list[Wanted], whole: set[int]) -> None:
        for one in wanted:
            if one.number in whole:
                self._ways.emit(PartReleased(one.number, one.name, one.size or _size_of(self._path(one))))

    def _fetch(self, missing: list[Wanted]) -> None:
        """All of them, some side by side. A damaged one does not keep the others; any other failure ends it."""
        failures: list[DriveshardError] = []

        def one_file(one: Wanted) -> None:
            try:
                path = self._path(one)
                path.parent.mkdir(parents=True, exist_ok=True)
                count = fetch(self._shelf, one, path, self._ways)
                with self._counting:
                    self._fetched += count
            except BaseException as error:
                found = unwritable(self._directory, error) if isinstance(error, OSError) else defect_of(error)
                failures.append(found)
                if not isinstance(found, Mismatch):
                    self._ways.halt.set()

        pool = ThreadPoolExecutor(self._shelf.at_once, "pull")
        try:
            jobs = [pool.submit(one_file, one) for one in missing]
            for job in jobs:
                job.result()
                if self._ways.halt.is_set():
                    break
        except BaseException:  # Ctrl-C in a script: end the requests under way
            self._ways.halt.set()
            self._shelf.abort()
            raise
        finally:
            pool.shutdown(cancel_futures=True)
        if failures:
            raise next((one for one in failures if not isinstance(one, Mismatch | Interrupted)), failures[0])

    # -- the end -------------------------------------------------------------------------------------------------

    def _publish(self, here: set[int]) -> None:
        """Write the manifest of the parts that are here, last: from now on the directory is a dataset. It is one file,
        however many they are: a disk writes it in a moment."""
        if self._manifest is None:
            return
        data = of_parts(self._manifest, here).encode()
        path = self._directory / manifests.NAME
        temp = temp_path(path)
        try:
            if path.is_file() and path.read_bytes() == data:
                return
            with temp.open("wb") as stream:
                stream.write(data)
                stream.flush()
                os.fsync(stream.fileno())
            self._remove_replaced()
            os.replace(temp, path)
            sync_directory(self._directory)
        except OSError as error:
            raise unwritable(self._directory, error) from error

    def _remove_replaced(self) -> None:
        """Remove the parts that the manifest written by an earlier pull tells of and the dataset has no more. It is
        still there, so that a pull after a kill knows of them, too."""
        try:
            before = manifest_in(self._directory)
        except (FileNotFoundError, Mismatch):
            return
        assert self._manifest is not None
        present = {part.name for part in self._manifest.parts}
        replaced = (
            [part for part in before.parts if part.name not in present] if before.job == self._manifest.job else []
        )
        for part in replaced:
            (self._directory / part.name).unlink(missing_ok=True)
        if replaced:
            self._ways.emit(Notice(f"removed {plural(len(replaced), 'part')} that the dataset has no more"))

    def _result(self, name: str, wanted: list[Wanted]) -> PullResult:
        sizes = [_size_of(self._path(one)) if one.size is None else one.size for one in wanted]
        verified = all(one.proved for one in wanted)
        return PullResult(name, len(wanted), sum(sizes), self._fetched, verified, str(self._directory))


def _size_of(path: Path) -> int:
    try:
        return path.lstat().st_size
    except OSError:
        return 0


def _proof(wanted: list[Wanted]) -> str:
    """What files of a folder that driveshard did not make are proved by."""
    proved = sum(one.proved for one in wanted)
    what = f"a folder that driveshard did not make: {plural(len(wanted), 'file')}"
    if proved == len(wanted):
        return f"{what}, each proved by the checksum that is told with it"
    why = "Nobody tells their checksums here, so what proves them is their size and, of a zip, its own CRCs"
    return f"{what}. {why}"


def fetch_part(shelf: Shelf, manifest: Manifest, number: int, path: Path, ways: Ways) -> int:
    """Part ``number`` of the dataset on ``shelf`` to ``path``, proved; returns the bytes fetched (0: it was there).

    Goes on behind what an earlier call left. Raises SourceMissing when there is no such part, Mismatch when it is not
    what the manifest says, TempFull, and errors of the way there.
    """
    part = next((one for one in manifest.parts if one.number == number), None)
    if part is None:
        raise SourceMissing(f"{shown(manifest.name)} has no part {number}")
    wanted = wanted_of(part, shelf.id_of(part))
    return 0 if is_whole(path, wanted) else fetch(shelf, wanted, path, ways)
