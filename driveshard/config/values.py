"""Kinds of value that an option can have: each takes a text or a TOML value, and raises UsageError, or ValueError with
what it should be ("a size above 0")."""

from __future__ import annotations

import importlib.util
import math
import re
from collections.abc import Callable
from concurrent.futures import Executor
from pathlib import Path
from typing import Any

from driveshard.core.errors import UsageError
from driveshard.core.similar import near
from driveshard.core.units import parse_size
from driveshard.sources.globs import matcher
from driveshard.storage.rate_limits import parse_bwlimit

ENGINES = ("processes", "threads", "serial", "dask")
_LARGEST = 2**60  # bytes; more than any disk, and well within what SQLite counts
_LEAST, _MOST = 0.001, 1_000_000_000  # what clocks and sockets can wait, in seconds, and its inverse
_SIDE_BY_SIDE = 1024
_OTHER_WORDS = {
    **dict.fromkeys(("all", "everyone", "everybody", "public", "world", "link"), "anyone"),
    **dict.fromkeys(("none", "noone", "no-one", "private", "me", "myself"), "nobody"),
}


def text(value: Any) -> str:
    """Words that are not empty."""
    if not isinstance(value, str) or not value or "\0" in value:
        raise ValueError("a text")
    return value


def size(value: Any) -> int:
    """Bytes."""
    number = value if type(value) is int else parse_size(text(value))
    if number < 1:
        raise ValueError("a size above 0")
    if number > _LARGEST:
        raise ValueError("a size of at most 1 EiB")
    return number


def count(value: Any) -> int:
    """A whole number from 1 on."""
    number = value if type(value) is int else int(value) if isinstance(value, str) and value.isdecimal() else 0
    if not 1 <= number <= 2**31:
        raise ValueError("a whole number above 0")
    return number


def some(value: Any) -> int:
    """A whole number of things that are done side by side."""
    number = count(value)
    if number > _SIDE_BY_SIDE:
        raise ValueError(f"a whole number from 1 to {_SIDE_BY_SIDE:,}")
    return number


def number(value: Any) -> float:
    """A number above 0."""
    try:
        parsed = math.nan if isinstance(value, bool) else float(value)
    except (TypeError, ValueError):
        parsed = math.nan
    if not 0 < parsed < math.inf:
        raise ValueError("a number above 0")
    if not _LEAST <= parsed <= _MOST:
        raise ValueError(f"a number from {_LEAST} to {_MOST:,}")
    return parsed


def duration(value: Any) -> float:
    """Seconds, from ``90``, ``15m``, ``2h``, ``1h30m`` or ``1d``."""
    given = str(value).strip().lower() if type(value) in (int, float, str) else ""
    match = re.fullmatch(r"(?:(\d{1,9})d)?(?:(\d{1,9})h)?(?:(\d{1,9})m(?:in)?)?(?:(\d{1,9}(?:\.\d{1,9})?)s?)?", given)
    if not given or match is None:
        raise ValueError("a time such as 90s, 15m or 2h")
    days, hours, minutes, seconds = (float(one or 0) for one in match.groups())
    return number(days * 86_400 + hours * 3600 + minutes * 60 + seconds)


def switch(value: Any) -> bool:
    """Yes or no."""
    if isinstance(value, bool):
        return value
    known = {"1": True, "true": True, "yes": True, "on": True, "0": False, "false": False, "no": False, "off": False}
    if not isinstance(value, str) or value.lower() not in known:
        raise ValueError("yes or no")
    return known[value.lower()]


def globs(value: Any) -> tuple[str, ...]:
    """One glob or several."""
    found = (value,) if isinstance(value, str) else tuple(value) if isinstance(value, list | tuple) else (None,)
    if any(isinstance(one, str) and not one.strip() for one in found):
        raise UsageError(
            "an empty glob matches nothing", advice="Is a variable in the command not set? Or leave it out."
        )
    if not all(isinstance(one, str) for one in found):
        raise ValueError("a glob or a list of globs")
    try:
        matcher(found)
    except re.error as error:
        raise ValueError(f"a glob ({error.msg})") from error
    return found


def folder(value: Any) -> str:
    """A path, as it is written: ``rebase`` says which one it means."""
    return text(str(value) if isinstance(value, Path) else value)


def profile(value: Any) -> str:
    """A name that becomes a part of file names."""
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.@-]{0,63}", text(value), re.ASCII):
        raise ValueError("a name of letters, digits and _ . @ -")
    return str(value)


def who(value: Any) -> str:
    """Who may read."""
    given = text(value)
    if given in ("anyone", "nobody") or re.fullmatch(r"domain:[^\s:@]+\.[^\s:@]+|user:[^\s@]+@[^\s@]+", given):
        return given
    raise UsageError(f"{given!r} is not anyone, domain:D, user:EMAIL or nobody", advice=_perhaps(given))


def _perhaps(given: str) -> str | None:
    """Who was probably meant."""
    name = given.rpartition(":")[2].strip()
    if re.fullmatch(r"[^\s@]+@[^\s@]+\.[^\s@]+", name):
        return f"Did you mean user:{name}?"
    if re.fullmatch(r"@?[^\s@.]+(\.[^\s@.]+)+", name):
        return f"Did you mean domain:{name.removeprefix('@')}?"
    close = _OTHER_WORDS.get(given.lower()) or near(given, ("anyone", "nobody"))
    return f"Did you mean {close}?" if close else None


def rate(value: Any) -> str:
    """A rate or a timetable, checked and kept as it is written."""
    written = str(value) if type(value) is int else text(value)
    parse_bwlimit(written)
    return written


def engine(value: Any) -> str | Executor:
    """An engine by its name, or any executor."""
    if isinstance(value, Executor):
        return value
    if not isinstance(value, str) or value.partition(":")[0] not in ENGINES:
        raise ValueError(f"one of {', '.join(ENGINES)} or dask:ADDRESS")
    name, colon, address = value.partition(":")
    if colon and (name != "dask" or not address):
        raise ValueError("the name of an engine (only dask has an address: dask:ADDRESS)")
    if name == "dask" and not all(map(importlib.util.find_spec, ("distributed", "cryptography"))):
        raise UsageError("dask is not installed", advice="Install it beside driveshard: pip install 'driveshard[dask]'")
    return value


def one_of(*names: str) -> Callable[[Any], str]:
    """A parser of one of these words."""

    def parse(value: Any) -> str:
        if value not in names:
            raise ValueError(f"one of {', '.join(names)}")
        return str(value)

    return parse


def where(value: Any) -> str:
    """A destination, by its form."""
    from driveshard.storage.registry import split_where

    split_where(text(value))
    return str(value)
