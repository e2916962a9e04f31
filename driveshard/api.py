"""What ``import driveshard`` offers to Python code, beside the command line: the same doings with typed results.

An error is a ``driveshard.errors.DriveshardError``; its text is the sentence that the command would print, and what to
do next.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from concurrent.futures import Executor
from contextlib import closing
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from driveshard.config.options import COMPACT, COMPACT_SIZES, DERIVE, KEYWORDS, PUSH, WITH, read_values
from driveshard.config.settings import settings_from
from driveshard.core.events import Emit, ignore
from driveshard.dataset.reader import Member, Reading, open_reading
from driveshard.dataset.verify import Proof
from driveshard.upload.ledger.reader import Record
from driveshard.upload.push import Task, prepare, prepare_object
from driveshard.upload.result import PushResult

if TYPE_CHECKING:  # its own use is rare, and it loads much
    from driveshard.upload.compact import Compacted


@dataclass(frozen=True, slots=True)
class Shared:
    """Who may read a dataset's folder now: ``shared`` is ``anyone``, ``nobody``, ``domain:D`` or ``user:EMAIL``."""

    name: str
    folder_id: str
    link: str | None
    shared: str


def push(
    source: Any,
    *,
    to: str | None = None,
    name: str | None = None,
    part_size: int | str | None = None,
    part_samples: int | None = None,
    temp: str | os.PathLike[str] | None = None,
    temp_limit: int | str | None = None,
    workers: int | None = None,
    uploads: int | None = None,
    share: str | None = None,
    card: str | os.PathLike[str] | None = None,
    include: str | Iterable[str] | None = None,
    exclude: str | Iterable[str] | None = None,
    bwlimit: int | str | None = None,
    max_transfer: int | str | None = None,
    max_duration: float | str | None = None,
    writes_per_second: float | None = None,
    engine: str | Executor | None = None,
    recreate: bool | None = None,
    checksum: bool | None = None,
    changed: str | None = None,
    deleted: str | None = None,
    other_file_systems: bool | None = None,
    yes: bool | None = None,
    dry_run: bool | None = None,
    wait: bool | None = None,
    progress: bool | None = None,
    on_event: Emit = ignore,
) -> PushResult:
    """Pack ``source`` and upload it; the same call again finishes the job, or adds what is new.

    Sizes are bytes or text (``"64MiB"``). What is left out comes from the environment (``DRIVESHARD_PART_SIZE``), the
    job file and ``config.toml``, else it is the default.

    Args:
        source: A directory; ``"package.module:callable"`` or ``"file.py:callable"``; a job file (``*.toml``); or an
            object that gives samples: a class or function that is called, or an object with ``__len__`` and
            ``__getitem__``. Samples are ``driveshard.Sample(key, {"image.jpg": ..., "json": ...})``. Worker processes
            get an object by cloudpickle; one that cannot go there is used by threads, and a notice says why.
        to: Where to: ``"drive:"`` (a new folder made by driveshard; the default), ``"drive:FOLDER_ID"`` or a folder
            link (a parent to put it in), or ``"file:DIR"`` (a plain directory).
        name: The dataset's name (default: the source's).
        part_size: Size of a zip part (default 512 MiB).
        part_samples: At most this many samples in a part.
        temp: The folder where parts wait for their upload (default: in the home folder).
        temp_limit: Most bytes there at any time (default: room for the parts under way).
        workers: Processes that pack (default: one for each CPU).
        uploads: Parts uploaded side by side (default 3).
        share: Who may read: ``"anyone"``, ``"domain:D"``, ``"user:EMAIL"`` or ``"nobody"`` (default: as it is, at
            first nobody).
        card: A file with your own words for the card in the folder, Markdown or text.
        include: Only files that match one of these globs, such as ``"*.jpg"`` or ``"raw/**"``.
        exclude: No files that match one of these globs.
        bwlimit: Upload no faster: ``"2M"``, or by the time of day ``"08:00,512K 18:00,10M 23:00,off"``.
        max_transfer: End the run when it has sent this much (one chunk at least); the next one goes on.
        max_duration: End the run after so long (seconds, or ``"6h"``); the next one goes on.
        writes_per_second: Pace of new files (default 2.5; Drive takes about 3).
        engine: What packs: ``"processes"`` (default), ``"threads"``, ``"serial"``, ``"dask"`` (a cluster on this
            machine), ``"dask:ADDRESS"``, or any ``concurrent.futures.Executor``, which is used and not shut down.
        recreate: If the dataset's folder was deleted, begin anew in a new one.
        checksum: Read every file again and pack those whose content changed, also where size and dates say it did not.
        changed: What becomes of files that changed since they were packed: ``"add"`` packs them again, into a new part
            that readers prefer (default), ``"ignore"`` leaves the dataset as it is; ``result.ignored`` counts them.
        deleted: What becomes of files that the source has no more: ``"keep"`` (default; ``result.gone`` counts them) or
            ``"drop"``: readers see them no more. Most of a dataset is dropped only with ``yes``.
        other_file_systems: Pack also what is mounted below the folder (without it: one file system).
        yes: Push also a home folder, the whole system, or a folder with mounts below it; else that raises.
        dry_run: Say what would be packed (``state`` is then ``"planned"``), and send nothing.
        wait: If another run has this dataset, wait for it.
        progress: Show how far it is. None: in a terminal (on stderr) and in a notebook. True: as log lines elsewhere,
            too. False: never.
        on_event: Called with the values of ``driveshard.events``, from any thread; it must be quick.

    Returns:
        What was achieved: ``link``, ``state``, counts, and in ``failed`` the files or samples that could not be read.

    Raises:
        driveshard.errors.DriveshardError: The dataset is not complete; the text says why, and what to do next.
    """
    arguments = dict(locals())
    given = {option.name: _plain(arguments[option.field]) for option in PUSH if arguments[option.field] is not None}
    options = read_values(given, PUSH, KEYWORDS)
    named = isinstance(source, str | os.PathLike)
    task = prepare(os.fspath(source), options) if named else prepare_object(source, options)
    return _run(task, task.source, progress, on_event)


def _run(task: Task, given: object, progress: bool | None, on_event: Emit) -> PushResult:
    """Run it to its end, and let go of what was ``given``. Raises the run's error."""
    from driveshard.cli.progress.python import watched
    from driveshard.sources.python.given import forget

    try:
        with watched(progress, on_event, task.settings.home) as emit:
            result = task.run(emit)
    finally:
        forget(given)
    if result.error is not None:
        raise result.error
    return result


def derive(
    what: str | os.PathLike[str],
    function: Any,
    *,
    name: str | None = None,
    batch: int = 64,
    decode: str | None = None,
    progress: bool | None = None,
    on_event: Emit = ignore,
    **options: Any,
) -> PushResult:
    """Run ``function`` over every sample of a dataset, and push what it returns as a new dataset with the same keys in
    parts of the same numbers; the same call again finishes the job, or adds what is new.

    Args:
        what: A folder's link or id, the name of a dataset pushed from here, or a directory with parts.
        function: ``"package.module:callable"``, ``"file.py:callable"`` or the callable itself. It gets a list of
            samples, ``{"__key__": "a/0007", "image.jpg": ..., ...}``, and returns a list of as many mappings of new
            fields: bytes, text, PIL images, arrays (uint16 of one channel under ``png`` is a PNG of 16 bits), or
            anything JSON can hold. A class is made once in each process, and its object is called.
        name: The new dataset's name (default: of both, ``depth-of-photos``).
        batch: Samples that the function gets at a time; fewer at the end of a part.
        decode: ``"pil"`` or ``"numpy"``, as for ``Dataset``; None for bytes.
        progress: As for ``push``.
        on_event: As for ``push``.
        options: Those of ``push``, but for what says how parts are cut and files are chosen.

    Returns:
        As ``push``; in ``failed`` are the keys of samples for which the function raised.

    Raises:
        driveshard.errors.DriveshardError: The dataset is not complete; the text says why, and what to do next.
    """
    from driveshard.dataset.derive import derived_source

    given = {key: _plain(value) for key, value in {"name": name, **options}.items() if value is not None}
    read = read_values(given, DERIVE, KEYWORDS)
    source = derived_source(what, function, batch=batch, decode=decode)
    return _run(prepare_object(source, read), source.function, progress, on_event)


def compact(
    name: str,
    *,
    part_size: int | str | None = None,
    below: int | str | None = None,
    temp: str | os.PathLike[str] | None = None,
    temp_limit: int | str | None = None,
    bwlimit: int | str | None = None,
    max_transfer: int | str | None = None,
    max_duration: float | str | None = None,
    writes_per_second: float | None = None,
    dry_run: bool | None = None,
    wait: bool | None = None,
    progress: bool | None = None,
    on_event: Emit = ignore,
) -> Compacted:
    """Merge the small parts of a dataset into large ones: fetched, packed once more, proved, and only then the small
    ones go to the trash. The same call again goes on.

    Args:
        name: A dataset pushed from here.
        part_size: Size of the large parts, in bytes or as text (default: as the dataset was cut).
        below: Which parts are small, likewise (default: those of less than half of that).
        temp: As for ``push``, like all the others; parts are fetched to it, too.
        bwlimit: How fast the line may be used, by what is fetched and what is sent together.
        dry_run: Say how many parts would be merged (``state`` is then ``"planned"``), and change nothing.

    Returns:
        ``merged`` small parts became ``made`` large ones; ``parts`` and ``bytes`` are the dataset's as it now is.

    Raises:
        driveshard.errors.SourceMissing: There is no such dataset.
        driveshard.errors.ComeBackLater: It is not complete yet, or (Busy) somebody else has it.
        driveshard.errors.DriveshardError: What a push raises.
    """
    from driveshard.cli.progress.python import watched
    from driveshard.upload.compact import prepare as prepare_merging

    arguments, table = dict(locals()), (*COMPACT_SIZES, *COMPACT)
    given = {option.name: _plain(arguments[option.field]) for option in table if arguments[option.field] is not None}
    merging = prepare_merging(name, read_values(given, table, KEYWORDS))
    with watched(progress, on_event, merging.settings.home) as emit:
        return merging.run(emit)


def _plain(value: Any) -> Any:
    """Paths and iterables as the table of options reads them."""
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    return value if isinstance(value, str | int | float | Executor) else list(value)


def ls(what: str | os.PathLike[str], pattern: str | None = None) -> list[Member]:
    """The members of a dataset, part by part; nothing but the parts' directories is fetched.

    Args:
        what: A folder's link or id, the name of a dataset pushed from here, or a directory with its parts.
        pattern: Only members whose path matches this glob, such as ``"cats/*.jpg"``.

    Raises:
        driveshard.errors.DriveshardError: There is no such dataset, or it cannot be reached.
    """
    from driveshard.sources.globs import matcher

    match = matcher([pattern]) if pattern is not None else None
    with open(what) as reading:
        return [one for one in reading.members() if match is None or match(os.fsdecode(one.path))]


def cat(what: str | os.PathLike[str], member: str | bytes) -> bytes:
    """One member's bytes; little more than they are fetched.

    Args:
        what: As for ``ls``.
        member: Its path, as ``ls`` lists it.

    Raises:
        driveshard.errors.SourceMissing: There is no such dataset, or no such member in it.
        driveshard.errors.Mismatch: What is stored is damaged.
    """
    with open(what) as reading:
        return reading.read(os.fsencode(member))


def open(what: str | os.PathLike[str], *, on_event: Emit = ignore) -> Reading:  # noqa: A001
    """A dataset opened for reading, to be used in a ``with``: ``members()``, ``read(path)``, ``manifest``.

    Args:
        what: As for ``ls``.
        on_event: Called with a ``driveshard.events.Waiting`` when something has to be waited for.

    Raises:
        driveshard.errors.DriveshardError: There is no such dataset, or it cannot be reached.
    """
    return open_reading(os.fspath(what), settings_from(), on_event)


def verify(what: str | os.PathLike[str], *, deep: bool = False, on_event: Emit = ignore) -> Proof:
    """Prove that a dataset is whole: every part of its manifest once, with the right size, md5 and sha256.

    Args:
        what: As for ``ls``.
        deep: Fetch every part and check each byte, as is always done in a directory.
        on_event: As for ``open``.

    Returns:
        The proof: ``ok``, and in ``problems`` a sentence for everything that is not as it should be.

    Raises:
        driveshard.errors.DriveshardError: There is no such dataset, or it cannot be reached.
    """
    from driveshard.dataset.locate import open_shelf
    from driveshard.dataset.verify import verify as prove

    with closing(open_shelf(os.fspath(what), settings_from(), on_event)) as shelf:
        return prove(shelf, deep=deep)


def share(name: str, who: str, *, wait: bool = False, on_event: Emit = ignore) -> Shared:
    """Set who may read a dataset's folder.

    Args:
        name: A dataset pushed from here, or its link.
        who: ``"anyone"``, ``"domain:D"``, ``"user:EMAIL"``, or ``"nobody"``, which takes back what was granted before.
        wait: If a run has this dataset, wait for it.
        on_event: As for ``open``.

    Raises:
        driveshard.errors.ShareRefused: An administrator's rule, or the address, is why.
        driveshard.errors.DriveshardError: There is no such dataset, or it cannot be reached.
    """
    from driveshard.upload.dataset_folder.permissions import share as grant

    wanted = read_values({"share": who}, PUSH, WITH)["share"]
    return Shared(name, *grant(name, wanted, settings_from(), on_event, wait=wait))


def status(name: str | None = None) -> list[Record]:
    """What each dataset's parts are doing and what is left, also while a push runs; nothing is asked of Drive.

    Args:
        name: A dataset pushed from here; None for all of them.

    Raises:
        driveshard.errors.SourceMissing: There is none of that name.
    """
    from driveshard.upload.ledger.reader import find_records

    return find_records(settings_from(), name)
