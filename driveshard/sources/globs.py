"""Globs on relative paths, compiled to one regular expression a list. See FolderSource for what a pattern means."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable

_CLASS = re.compile(r"\[(!?)(\]?[^\]]*)\]")


def matcher(patterns: Iterable[str]) -> Callable[[str], object]:
    """A function that says whether a path (a directory's ends in ``/``) is meant by one of the patterns."""
    return re.compile("|".join(_expression(pattern) for pattern in patterns), re.DOTALL).fullmatch


def _expression(pattern: str) -> str:
    """A pattern that matches a directory also means everything below it."""
    below = "/.*" if pattern.endswith("/") else "(?:/.*)?"
    steps = pattern.strip("/")
    anchored = "/" in pattern.rstrip("/")
    return ("" if anchored else "(?:.*/)?") + _translate(steps) + below


def _translate(steps: str) -> str:
    out = []
    at = 0
    while at < len(steps):
        if steps.startswith("**/", at) and (at == 0 or steps[at - 1] == "/"):
            out.append("(?:.*/)?")
            at += 3
        elif steps.startswith("**", at):
            out.append(".*")
            at += 2
        elif found := _CLASS.match(steps, at):
            out.append(_character_class(*found.groups()))
            at = found.end()
        else:
            out.append({"*": "[^/]*", "?": "[^/]"}.get(steps[at]) or re.escape(steps[at]))
            at += 1
    return "".join(out)


def _character_class(negated: str, members: str) -> str:
    safe = re.sub(r"([\\\[\]^&~|])", r"\\\1", members)
    return f"(?!/)[{'^' if negated else ''}{safe}]"
