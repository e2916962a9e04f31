"""``driveshard.preview``: a contact sheet of a dataset wherever it lies, from the few ranges that it takes."""

from __future__ import annotations

import errno
import os
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

from driveshard.archive.manifest import ManifestPart
from driveshard.config.settings import Settings, settings_from
from driveshard.core.errors import SourceMissing, TempFull, UsageError
from driveshard.core.events import Emit, ignore
from driveshard.core.files import write_whole
from driveshard.core.paths import path_of
from driveshard.dataset.locate import find_manifest, open_shelf
from driveshard.upload.dataset_folder.preview import preview as sheet_of

DEFAULT = "preview.jpg"
FORMATS: Mapping[str, str] = {".jpg": "JPEG", ".jpeg": "JPEG", ".png": "PNG"}


@dataclass(frozen=True, slots=True)
class Preview:
    """The sheet in ``file``, of ``bytes`` bytes, for which ``fetched_bytes`` of the parts were read."""

    name: str
    file: str
    bytes: int
    fetched_bytes: int


def preview(
    what: str | os.PathLike[str], file: str | os.PathLike[str] | None = None, *, on_event: Emit = ignore
) -> Preview:
    """Write a labelled contact sheet of samples from all over a dataset, all images of each side by side.

    ``what`` is a folder's link or id, the name of a dataset pushed from here, or a directory with its parts. ``file``
    ends in ``.jpg`` or ``.png``, and is replaced if it exists; without one it is ``preview.jpg`` in the current folder,
    which must not be there: a dataset on a disk has one of its own.

    Raises SourceMissing when there is no such dataset or it has no images, UsageError for another ending or a file that
    is there and was not named, TempFull when it cannot be written, and errors of the way to the dataset.
    """
    return preview_into(os.fspath(what), None if file is None else path_of(file), settings_from(), on_event)


def preview_into(what: str, named: Path | None, settings: Settings, emit: Emit) -> Preview:
    """As ``preview``, with settings. Where the picture goes is looked at before anything is fetched."""
    file = _target(named)
    with closing(open_shelf(what, settings, emit)) as shelf:
        manifest = find_manifest(shelf, shelf.files())
        fetched: list[int] = []

        def read(part: ManifestPart, start: int, length: int) -> bytes:
            data = shelf.read(shelf.id_of(part), start, length)
            fetched.append(len(data))
            return data

        sheet = sheet_of(manifest, {}, read, FORMATS[file.suffix.lower()])
    if sheet is None:
        raise SourceMissing(
            f"{manifest.name} has no images that could be shown", advice=f"`driveshard ls {what}` lists what it has."
        )
    with _told(file):
        write_whole(Path(os.path.realpath(file)), sheet, private=False)
    return Preview(manifest.name, str(file), len(sheet), sum(fetched))


def _target(named: Path | None) -> Path:
    """The file to write, as far as can be known before it is written. Raises UsageError, TempFull."""
    file = Path(DEFAULT) if named is None else named
    if file.suffix.lower() not in FORMATS:
        raise UsageError(
            f"{file.name} is neither a JPEG nor a PNG by its name", advice="Name a file that ends in .jpg or .png."
        )
    if named is None and os.path.lexists(file):
        raise UsageError(
            f"{file} is here already", advice=f"Name another file with -o, or {file} itself to have it replaced."
        )
    with _told(file):
        if file.is_dir():
            raise IsADirectoryError(errno.EISDIR, "it is a folder")
        with tempfile.TemporaryFile(dir=os.path.dirname(os.path.realpath(file))):  # noqa: PTH120
            """A file can be made there."""
    return file


@contextmanager
def _told(file: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise TempFull(
            f"{file} cannot be written: {error.strerror or error}", advice="Name a file elsewhere with -o."
        ) from error
