"""Numbers as people read them, and text from elsewhere as a screen may show it."""

from __future__ import annotations

import re
import time
from datetime import datetime

_LONGEST = 1000  # characters of an error's own words
_LONG, _HEAD = 400, 80  # characters of a value that is not shown whole, and of what is shown of it
_VALUES = re.compile(rf"(?<![^\s(])(['\"])(.{{{_LONG},}}?)\1(?![^\s.,;:)])|\S{{{_LONG},}}", re.DOTALL)


def error_text(error: BaseException) -> str:
    """``ValueError: what it says``, at most a few lines long, whatever its class makes of ``str``."""
    name = type(error).__name__
    try:
        said = str.__str__(str(error)).strip()
    except BaseException as second:  # somebody else's __str__ may raise anything
        return f"{name} (and {type(second).__name__} when asked for its words)"
    if len(said) > _LONGEST:
        said = f"{said[:_LONGEST]}..."
    return f"{name}: {said}" if said else name


def shown(text: str) -> str:
    """Text that may hold a stranger's names: what would move the cursor or colour the screen stands as ``\\x..``
    escapes. Line ends and tabs stay."""
    if text.isprintable():
        return text
    return "".join(one if one.isprintable() or one in "\n\t" else one.encode("unicode_escape").decode() for one in text)


def shortened(text: str) -> str:
    """A sentence in which quoted values and words that are very long are cut: what somebody typed, or had in
    a variable, is not to fill the screen. Only beginnings stay, so that of a secret no end is left."""
    if len(text) < _LONG:
        return text

    def cut(match: re.Match[str]) -> str:
        quote, value = match[1] or "", match[2] or match[0]
        return f"{quote}{value[:_HEAD]}{quote}... ({len(value):,} characters)"

    return _VALUES.sub(cut, text)


def human_size(size: float) -> str:
    """``1536`` -> ``1.5 KiB``."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if size < 1024:
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1024
    return f"{size:.1f} TiB"


def human_share(done: float, total: float) -> str:
    """``1.5/40.0 MiB``: both in the unit of the larger."""
    unit = human_size(total).partition(" ")[2]
    step = 1024.0 ** ("B", "KiB", "MiB", "GiB", "TiB").index(unit)
    digits = 0 if unit == "B" else 1
    return f"{done / step:.{digits}f}/{total / step:.{digits}f} {unit}"


def human_seconds(seconds: float) -> str:
    """``95`` -> ``1 min 35 s``."""
    whole = round(seconds)
    if whole < 60:
        return f"{seconds:.1f} s" if seconds < 10 else f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    if whole < 86_400:
        return f"{whole // 3600} h {whole % 3600 // 60} min"
    return f"{whole // 86_400} d {whole % 86_400 // 3600} h"


def countdown(seconds: float) -> str:
    """``12 s``, ``1 min 35 s``: for what changes every second."""
    whole = max(1, round(seconds))
    return f"{whole} s" if whole < 60 else human_seconds(whole)


def iso_time(when: float | None = None) -> str:
    """``2026-11-25T18:54:57.123+01:00``: a POSIX time, or now, for machines."""
    moment = datetime.fromtimestamp(time.time() if when is None else when).astimezone()
    return moment.isoformat(timespec="milliseconds")


def log_time() -> str:
    """``2026-11-25 18:54:57``: now, in front of a log line."""
    return time.strftime("%Y-%m-%d %H:%M:%S")


def plural(count: int, noun: str) -> str:
    """``1 part``, ``2,000 parts``."""
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"


def printable(path: bytes) -> str:
    """A path for the user and for JSON: what is not UTF-8, or would move the cursor, stands as ``\\x..`` escapes."""
    text = path.decode("utf-8", "backslashreplace")
    if text.isprintable():
        return text
    return "".join(one if one.isprintable() else one.encode("unicode_escape").decode() for one in text)
