"""What a path that somebody wrote means: the one rule for every option, variable and job-file key that takes one."""

from __future__ import annotations

import os
from pathlib import Path


def path_of(text: str | os.PathLike[str], base: Path | None = None) -> Path:
    """The path, relative to ``base`` (None: to the current folder).

    A leading ``~/``, or ``~`` alone, is the home folder, unless something of that very name is there. Nothing else is
    expanded: ``./~`` is a folder called ``~``. Such a one comes back absolute, so that nobody can take it for home.
    """
    raw = os.fspath(text)
    here = Path(raw) if base is None else base / raw
    steps = raw.replace(os.sep, "/")
    if (steps == "~" or steps.startswith("~/")) and not os.path.lexists(here):
        return Path(os.path.expanduser(raw))  # noqa: PTH111  (the other one raises where there is no home)
    return here.absolute() if Path(raw).parts[:1] == ("~",) else here
