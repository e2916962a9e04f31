"""From a SOURCE argument to a source."""

from __future__ import annotations

import os
from pathlib import Path

from driveshard.config.job_file import _similar, is_job_file, read_job_file
from driveshard.core.errors import SourceMissing, UsageError
from driveshard.core.paths import path_of
from driveshard.sources.base import Source
from driveshard.sources.folder import FolderSource

_FORMS = "A source is a directory, package.module:callable, file.py:callable, or a job file (*.toml)."


def open_source(text: str, include: tuple[str, ...] = (), exclude: tuple[str, ...] = ()) -> Source:
    """The source that ``text`` names; globs are for a folder. Opens and imports nothing yet.

    Raises SourceMissing when there is nothing of that name, and whatever is wrong in a job file.
    """
    if is_job_file(text):
        job = read_job_file(path_of(text))
        return job.source(include or job.options.get("include", ()), exclude or job.options.get("exclude", ()))
    path = path_of(text)
    if os.path.isdir(path):  # noqa: PTH112
        return FolderSource(path, include, exclude)
    if os.path.lexists(path):
        raise _not_a_source(path)
    from driveshard.sources.python.source import PythonSource
    from driveshard.sources.python.target import Target

    try:
        Target.parse(text)
    except UsageError:
        raise SourceMissing(f"there is no folder {text}", advice=_similar(path) or _FORMS) from None
    return PythonSource(text)


def _not_a_source(path: Path) -> SourceMissing:
    if path.suffix.lower() == ".py":
        return SourceMissing(f"{path} is a Python file", advice=f"Name the callable in it, too: {path}:CALLABLE")
    if path.suffix.lower() == ".zip":
        return SourceMissing(f"{path} is a zip file, not a folder", advice="Unpack it and name the folder.")
    if not path.exists():
        return SourceMissing(f"{path} is a link that leads nowhere", advice="Is the disk it is on connected?")
    return SourceMissing(f"{path} is a file, not a folder", advice=f"Name the folder it is in, {path.parent}. {_FORMS}")
