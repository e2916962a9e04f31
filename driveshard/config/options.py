"""The one table of what can be set: it serves the flags, the job file, the config file and the environment."""

from __future__ import annotations

import dataclasses
import difflib
import math
import re
import shlex
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from driveshard.core.errors import ConfigError, DriveshardError, UsageError
from driveshard.core.paths import path_of
from driveshard.core.units import parse_size
from driveshard.sources.globs import matcher
from driveshard.storage.rate_limits import DEFAULT_WRITES_PER_SECOND, parse_bwlimit

_LARGEST = 2**60  # bytes; more than any disk, and well within what SQLite counts
_LEAST, _MOST = 0.001, 1_000_000_000  # what clocks and sockets can wait, in seconds, and its inverse
_SIDE_BY_SIDE = 1024
MIB = 1024 * 1024
ENGINES = ("processes", "threads", "serial")
WHAT, WHERE_TO, HOW_FAST, OUTPUT = GROUPS = ("What", "Where", "How fast", "Output")
"""Headings of the help."""


@dataclass(frozen=True, slots=True)
class Option:
    """One option by its long name. ``parse`` takes a text or a TOML value and raises ValueError or UsageError; ``many``
    are given several times; ``rebase`` says which path a value means, relative to the folder of the file it was written
    in (None: to the current one); ``group`` is the heading it stands under in the help."""

    name: str
    parse: Callable[[Any], Any]
    metavar: str
    help: str
    many: bool = False
    rebase: Callable[[Any, Path | None], Any] | None = None
    group: str = ""

    @property
    def field(self) -> str:
        """The name in Python."""
        return self.name.replace("-", "_")

    @property
    def variable(self) -> str:
        """The name in the environment."""
        return "DRIVESHARD_" + self.field.upper()

    @property
    def switch(self) -> bool:
        """Given without a value."""
        return self.parse is switch


@dataclass(frozen=True, slots=True)
class Origin:
    """Where values were written: the error to raise, how an option is spelled there, and the folder that relative
    paths start from."""

    error: type[DriveshardError]
    spell: Callable[[str], str]
    base: Path | None = None


FLAGS = Origin(UsageError, lambda name: f"--{name}")
ENVIRONMENT = Origin(ConfigError, lambda name: "DRIVESHARD_" + name.replace("-", "_").upper())
WITH = Origin(UsageError, lambda _: "--with")
KEYWORDS = Origin(UsageError, lambda name: name.replace("-", "_"))


def in_file(path: Path) -> Origin:
    """Values of a config or job file."""
    return Origin(ConfigError, lambda name: f"{path}: {name}", path.parent)


def read_values(given: Mapping[str, Any], table: Iterable[Option], origin: Origin) -> dict[str, Any]:
    """``given`` parsed, by field name. Raises the origin's error for a key that is not in ``table``, with the nearest
    one that is, and for a bad value."""
    known = {option.name: option for option in table}
    values = {}
    for key, value in given.items():
        option = known.get(key.replace("_", "-"))
        if option is None:
            raise origin.error(f"{origin.spell(key)} is not an option", advice=nearest(key, known))
        values[option.field] = _read(option, value, origin)
    return values


def read_environment(environment: Mapping[str, str], table: Iterable[Option]) -> dict[str, Any]:
    """What the environment says about the options of ``table``; an empty variable counts as unset."""
    given: dict[str, Any] = {}
    for option in table:
        text = environment.get(option.variable)
        if text:
            given[option.name] = _split(text, option) if option.many else text
    return read_values(given, table, ENVIRONMENT)


def _split(text: str, option: Option) -> list[str]:
    try:
        return shlex.split(text)
    except ValueError as error:
        raise ConfigError(f"{option.variable}: {text!r} cannot be split into words ({error})") from error


def _read(option: Option, value: Any, origin: Origin) -> Any:
    try:
        parsed = option.parse(value)
    except UsageError as error:
        raise origin.error(f"{origin.spell(option.name)}: {error}", advice=error.advice) from error
    except ValueError as error:
        raise origin.error(f"{origin.spell(option.name)}: {repr(value)[:80]} is not {error}") from error
    return option.rebase(parsed, origin.base) if option.rebase else parsed


def nearest(word: str, known: Iterable[str]) -> str:
    """Advice that names the known word that was probably meant, or all of them."""
    words = sorted(known)
    close = difflib.get_close_matches(word.replace("_", "-"), words, 1)
    return f"Did you mean {close[0]}?" if close else f"Known are: {', '.join(words)}."


# -- kinds of value --------------------------------------------------------------------------------------------------


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
    found = (value,) if isinstance(value, str) else tuple(value) if isinstance(value, list | tuple) else ("",)
    if not all(isinstance(one, str) and one for one in found):
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
    raise ValueError("anyone, domain:D, user:EMAIL or nobody")


def rate(value: Any) -> str:
    """A rate or a timetable, checked and kept as it is written."""
    written = str(value) if type(value) is int else text(value)
    parse_bwlimit(written)
    return written


def engine(value: Any) -> str:
    """The name of an engine."""

    if value not in ENGINES:
        raise ValueError(f"one of {', '.join(ENGINES)}")
    return str(value)


def where(value: Any) -> str:
    """A destination, by its form."""
    from driveshard.storage.registry import split_where

    split_where(text(value))
    return str(value)


def _rebase_where(value: str, base: Path | None) -> str:
    scheme, colon, rest = value.partition(":")
    return f"{scheme}{colon}{path_of(rest, base)}" if scheme == "file" and rest else value


def _set(
    default: Any,
    parse: Callable[[Any], Any],
    metavar: str,
    group: str,
    text: str,
    *,
    many: bool = False,
    rebase: Callable[[Any, Path | None], Any] | None = None,
) -> Any:
    """A field of PushOptions, with all that flags, files, environment and help know of it."""
    about = {"parse": parse, "metavar": metavar, "help": text, "many": many, "rebase": rebase, "group": group}
    return dataclasses.field(default=default, metadata=about)


@dataclass
class PushOptions:
    """Options of ``push``, as in its help; each stands here and nowhere else. Sizes in bytes."""

    source: str
    to: str = _set(
        "drive:",
        where,
        "WHERE",
        WHERE_TO,
        "Where to: drive: (a new folder made by driveshard; the default), drive:FOLDER_ID or a folder link (a parent to"
        " put it in), or file:DIR (a plain directory)",
        rebase=_rebase_where,
    )
    name: str | None = _set(None, text, "NAME", WHAT, "The dataset's name (default: the source's)")
    part_size: int = _set(512 * MIB, size, "SIZE", WHAT, "Size of a zip part (default 512MiB)")
    part_samples: int | None = _set(None, count, "N", WHAT, "At most this many samples in a part")
    temp: Path | None = _set(None, folder, "DIR", WHERE_TO, "Where parts wait for their upload", rebase=path_of)  # noqa: RUF009
    temp_limit: int | None = _set(
        None, size, "SIZE", WHERE_TO, "Most bytes there at any time (default: room for the parts under way)"
    )
    workers: int | None = _set(None, some, "N", HOW_FAST, "Processes that pack (default: one for each CPU)")
    uploads: int = _set(3, some, "N", HOW_FAST, "Parts uploaded side by side (default 3)")
    share: str | None = _set(
        None,
        who,
        "WHO",
        WHERE_TO,
        "Who may read: anyone, domain:D, user:EMAIL or nobody (default: as it is, at first nobody)",
    )
    include: tuple[str, ...] = _set(
        (), globs, "GLOB", WHAT, "Only files that match, such as '*.jpg' or 'raw/**' (may be repeated)", many=True
    )
    exclude: tuple[str, ...] = _set((), globs, "GLOB", WHAT, "No files that match (may be repeated)", many=True)
    bwlimit: str | None = _set(
        None,
        rate,
        "RATE|TIMETABLE",
        HOW_FAST,
        "Upload no faster: 2M, or by the time of day '08:00,512K 18:00,10M 23:00,off'",
    )
    max_transfer: int | None = _set(
        None,
        size,
        "SIZE",
        HOW_FAST,
        "End the run when it has sent this much (one chunk at least); the next one goes on",
    )
    max_duration: float | None = _set(
        None, duration, "TIME", HOW_FAST, "End the run after so long, such as 6h; the next one goes on"
    )
    writes_per_second: float = _set(
        DEFAULT_WRITES_PER_SECOND, number, "R", HOW_FAST, "Pace of new files (default 2.5; Drive takes about 3)"
    )
    engine: str = _set("processes", engine, "NAME", HOW_FAST, "What packs: processes (default), threads or serial")
    recreate: bool = _set(
        False,
        switch,
        "",
        WHERE_TO,
        "If the dataset's folder was deleted: begin anew, in a new folder (kept if it is there)",
    )
    checksum: bool = _set(
        False,
        switch,
        "",
        WHAT,
        "Read every file again and pack those whose content changed, also where size and dates say it did not",
    )
    dry_run: bool = _set(False, switch, "", OUTPUT, "Say what would be packed, and send nothing")
    wait: bool = _set(False, switch, "", OUTPUT, "If another run has this dataset, wait for it")


PUSH: tuple[Option, ...] = tuple(
    Option(one.name.replace("_", "-"), **one.metadata) for one in dataclasses.fields(PushOptions) if one.metadata
)
"""The options of ``push``, from its dataclass: the one table."""

_LOG_FILE = "Write events to this file, a JSON object a line; five old ones are kept"
_SUCCESS = "Run this command after a run that ended well; the result is on its stdin"
RUN: tuple[Option, ...] = (
    Option("summary", switch, "", "Say nothing but one line at the end, fit for the mail of a cron job", group=OUTPUT),
    Option("log-file", folder, "FILE", _LOG_FILE, rebase=path_of, group=OUTPUT),
    Option("on-success", text, "CMD", _SUCCESS, group=OUTPUT),
    Option("on-failure", text, "CMD", "Run this command after one that did not", group=OUTPUT),
    Option("stall-after", duration, "TIME", "End the run when nothing has happened for so long, as 2h", group=OUTPUT),
    Option("every", duration, "TIME", "Stay, and push what is new so often, as 15m; SIGTERM ends it", group=OUTPUT),
    Option("at", rate, "RATE", "With --dry-run: how long it takes on such a line, as 20Mbit/s", group=OUTPUT),
    Option("nice", switch, "", "Leave CPU and disk to others who want them", group=HOW_FAST),
)
"""How a run is watched by those who are not there; of the command alone."""

SETTINGS: tuple[Option, ...] = (
    Option("timeout", number, "SECONDS", "Longest wait for the network in one step (default 60)"),
    Option("retries", count, "N", "Failures in a row that are borne (default 12)"),
    Option("throttle-patience", number, "SECONDS", "How long 'slow down' is borne before it counts as the day's cap"),
    Option("list-lag", number, "SECONDS", "How far Drive's lists may lag, should the ledger be lost (default 15)"),
    Option("credentials", folder, "FILE", "The OAuth client's file for `login`", rebase=path_of),
    Option("service-account", folder, "FILE", "A service account's key file", rebase=path_of),
    Option("subject", text, "EMAIL", "The person a service account acts for"),
    Option("profile", profile, "NAME", "The login to use, of several accounts (see `driveshard login`)"),
    Option("api-key", text, "KEY", "Reads what is shared with anyone, without a login"),
)

PLACES: tuple[tuple[str, str, str], ...] = (
    ("DRIVESHARD_HOME", "the platform's own", "The home folder: config.toml, the login, ledgers, waiting parts"),
    ("DRIVESHARD_DRIVE_URL", "Google's", "Base address of the Drive to talk to, such as an emulator's on this machine"),
)
"""(variable, default, meaning) of what can stand in the environment alone."""
