"""Include and exclude patterns as one regular expression a list. See FolderSource for what a pattern means."""

from __future__ import annotations

import os
import re
import unicodedata
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

_CLASS = re.compile(r"\[(!?)(\]?[^\]]*)\]")


class Globs:
    """Patterns for the files below ``root``. Notes which of them ever matched."""

    def __init__(self, patterns: Iterable[str], root: Path) -> None:
        meant = {pattern: list(_readings(pattern, root)) for pattern in patterns}
        self._match = matcher(reading for readings in meant.values() for reading in readings)
        self._unused = {pattern: matcher(readings) for pattern, readings in meant.items()}

    def match(self, path: bytes) -> bool:
        """Whether a path (a directory's ends in ``/``) is meant by one of the patterns."""
        text = os.fsdecode(path)
        if not text.isascii():
            text = unicodedata.normalize("NFC", text)
        if not self._match(text):
            return False
        if self._unused:
            self._unused = {pattern: match for pattern, match in self._unused.items() if not match(text)}
        return True

    def idle(self) -> list[str]:
        """The patterns that matched nothing so far."""
        return list(self._unused)


def matcher(patterns: Iterable[str]) -> Callable[[str], object]:
    """A function that says whether a path (a directory's ends in ``/``) is meant by one of the patterns."""
    return re.compile("|".join(_expression(pattern) for pattern in patterns), re.DOTALL).fullmatch


def normal(pattern: str, root: Path) -> str:
    """The same pattern without what names the machine or the present folder: ``./raw`` and ``/home/ada/data/raw`` for
    the root ``/home/ada/data`` are ``/raw``; in Unicode's composed form."""
    text = unicodedata.normalize("NFC", pattern)
    if os.sep != "/":
        text = text.replace(os.sep, "/")
    if text.startswith("~/"):
        text = os.path.expanduser(text)  # noqa: PTH111  (a text)
    tail = "/" if text.endswith("/") else ""
    inside = _inside(text, root)
    if inside is not None:
        return f"/{inside or '**'}{tail if inside else ''}"
    steps: list[str] = []
    for step in text.split("/"):
        if step == ".." and steps:
            steps.pop()
        elif step not in ("", ".", ".."):
            steps.append(step)
    anchored = "/" if text.startswith(("/", "./")) or ".." in text.split("/") else ""
    return anchored + "/".join(steps) + tail if steps else text


def _inside(text: str, root: Path) -> str | None:
    """What follows the root in a path that names it: a whole one, or one that climbs from the present folder."""
    steps = text.split("/")
    if not Path(text).is_absolute() and ".." not in steps:
        return None
    given = os.path.normpath(os.path.join(Path.cwd(), text))
    bases = {str(root.absolute()), str(root.resolve())}
    for base in bases:
        for path in (given, os.path.realpath(given)):
            place = unicodedata.normalize("NFC", os.path.join(base, "").replace(os.sep, "/"))
            path = unicodedata.normalize("NFC", os.path.join(path, "").replace(os.sep, "/"))
            if path.startswith(place):
                return path.removeprefix(place).strip("/")
    return None


def _readings(pattern: str, root: Path) -> Iterator[str]:
    """The pattern from the root on, and, when its first steps are the root's last ones, as it was seen from above."""
    text = normal(pattern, root)
    yield text
    if pattern.startswith("/"):
        return
    steps = text.strip("/").split("/")
    above = [unicodedata.normalize("NFC", step) for step in root.absolute().parts[1:]]
    for count in range(1, len(steps)):
        if steps[:count] == above[-count:]:
            yield "/" + "/".join(steps[count:]) + ("/" if text.endswith("/") else "")


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
