"""Paths as they are typed."""

from __future__ import annotations

import os
from pathlib import Path


def expanded(text: str | os.PathLike[str]) -> Path:
    """The path, a leading ``~/`` being the home folder. Whatever there is under the name as it stands wins, and nothing
    else is expanded: ``~`` and ``~name`` are names that a folder can have. Without a home folder it stays as it is."""
    path = os.fspath(text)
    if not path.startswith(("~/", f"~{os.sep}")) or os.path.lexists(path):
        return Path(path)
    try:
        return Path.home() / path[2:].lstrip("/" + os.sep)
    except RuntimeError:  # nobody knows it
        return Path(path)


def is_folder(path: str | os.PathLike[str]) -> bool:
    """Whether a folder is there; a name that no file can have, being too long for instance, is one of nothing."""
    return os.path.isdir(path)  # noqa: PTH112 - a Path's own method raises then


def is_file(path: str | os.PathLike[str]) -> bool:
    """Whether a file is there, as ``is_folder``."""
    return os.path.isfile(path)  # noqa: PTH113
