"""Pictures that somebody asks for, as files: which kinds there are, and that one cannot be written."""

from __future__ import annotations

from pathlib import Path

from driveshard.core.errors import TempFull, UsageError

_FORMATS = {".jpg": "JPEG", ".jpeg": "JPEG", ".png": "PNG"}


def format_of(file: Path) -> str:
    """``JPEG`` or ``PNG``, by the file's name. Raises UsageError for another ending."""
    found = _FORMATS.get(file.suffix.lower())
    if found is None:
        raise UsageError(
            f"{file.name} is neither a JPEG nor a PNG by its name", advice="Name a file that ends in .jpg or .png."
        )
    return found


def write_picture(file: Path, data: bytes) -> None:
    """Write it, over one that exists. Raises TempFull when it cannot be written."""
    try:
        file.write_bytes(data)
    except OSError as error:
        raise TempFull(
            f"{file} cannot be written: {error.strerror or error}", advice="Name a file elsewhere with -o."
        ) from error
