"""Pictures that somebody asks for, as files: which kinds there are, and whether one can be written."""

from __future__ import annotations

import errno
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from driveshard.core.errors import TempFull, UsageError
from driveshard.core.files import write_whole

_FORMATS = {".jpg": "JPEG", ".jpeg": "JPEG", ".png": "PNG"}


def format_of(file: Path) -> str:
    """``JPEG`` or ``PNG``, by the file's name. Raises UsageError for another ending."""
    found = _FORMATS.get(file.suffix.lower())
    if found is None:
        raise UsageError(
            f"{file.name} is neither a JPEG nor a PNG by its name", advice="Name a file that ends in .jpg or .png."
        )
    return found


def target(named: Path | None, default: str) -> Path:
    """The file to write, as far as can be known before the work: ``named``, else ``default`` in the current folder,
    which must not be there. Raises UsageError, TempFull."""
    file = Path(default) if named is None else named
    format_of(file)
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


def write_picture(file: Path, data: bytes) -> None:
    """Write it in one step, over one that exists. Raises TempFull when it cannot be written."""
    with _told(file):
        write_whole(Path(os.path.realpath(file)), data, private=False)


@contextmanager
def _told(file: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise TempFull(
            f"{file} cannot be written: {error.strerror or error}", advice="Name a file elsewhere with -o."
        ) from error
