"""The one table of what can be set: it serves the flags, the job file, the config file and the environment."""

from __future__ import annotations

import dataclasses
import json
import shlex
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import Executor
from dataclasses import dataclass
from datetime import date, time
from pathlib import Path
from typing import Any

from driveshard.config.card_words import CardWords
from driveshard.config.values import (
    count,
    duration,
    engine,
    folder,
    globs,
    number,
    one_of,
    profile,
    rate,
    size,
    some,
    switch,
    text,
    where,
    who,
)
from driveshard.core.errors import ConfigError, DriveshardError, UsageError
from driveshard.core.paths import path_of
from driveshard.core.similar import nearest
from driveshard.storage.rate_limits import DEFAULT_WRITES_PER_SECOND

MIB = 1024 * 1024
WHAT, WHERE_TO, HOW_FAST, OUTPUT, ALONE = GROUPS = ("What", "Where", "How fast", "Output", "Runs nobody looks at")
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
    paths start from. ``quote`` gives a value as it is written there."""

    error: type[DriveshardError]
    spell: Callable[[str], str]
    base: Path | None = None
    quote: Callable[[Any], str] = repr


FLAGS = Origin(UsageError, lambda name: f"--{name}")
ENVIRONMENT = Origin(ConfigError, lambda name: "DRIVESHARD_" + name.replace("-", "_").upper())
WITH = Origin(UsageError, lambda _: "--with")
KEYWORDS = Origin(UsageError, lambda name: name.replace("-", "_"))


def in_file(path: Path) -> Origin:
    """Values of a config or job file."""
    return Origin(ConfigError, lambda name: f"{path}: {name}", path.parent, as_toml)


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
        raise origin.error(f"{origin.spell(option.name)}: {origin.quote(value)[:80]} is not {error}") from error
    return option.rebase(parsed, origin.base) if option.rebase else parsed


def as_toml(value: Any) -> str:
    """A value of a TOML file as it is written there."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False)
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(as_toml, value))}]"
    if isinstance(value, Mapping):
        return f"{{ {', '.join(f'{key} = {as_toml(one)}' for key, one in value.items())} }}" if value else "{}"
    return value.isoformat() if isinstance(value, date | time) else str(value)


# -- the tables -------------------------------------------------------------------------------------------------------


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
    """A field of one of the dataclasses below, with all that flags, files, environment and help know of it."""
    about = {"parse": parse, "metavar": metavar, "help": text, "many": many, "rebase": rebase, "group": group}
    return dataclasses.field(default=default, metadata=about)


@dataclass
class PushOptions:
    """Options of ``push``, as in its help; each stands here and nowhere else. Sizes in bytes. ``words`` are the owner's
    for the card: from ``card``, or a job file's table."""

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
    card: Path | None = _set(  # noqa: RUF009
        None,
        folder,
        "FILE",
        WHAT,
        "Your own words for the card in the folder: Markdown or text (a job file may have a table [card] with text,"
        " licence and contact)",
        rebase=path_of,
    )
    words: CardWords | None = None
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
    engine: str | Executor = _set(  # noqa: RUF009
        "processes",
        engine,
        "NAME",
        HOW_FAST,
        "What packs: processes (default), threads, serial, dask (a cluster on this machine) or dask:ADDRESS",
    )
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
    changed: str = _set(
        "add",
        one_of("add", "ignore"),
        "HOW",
        WHAT,
        "Files that changed since they were packed: add them again, in a new part that readers prefer (the default), or"
        " ignore them, which leaves the dataset as it is and tells how many",
    )
    deleted: str = _set(
        "keep",
        one_of("keep", "drop"),
        "HOW",
        WHAT,
        "Files that the source has no more: keep them in the dataset and tell how many (the default), or drop them:"
        " readers see them no more, and parts of nothing else go to the trash",
    )
    other_file_systems: bool = _set(
        False,
        switch,
        "",
        WHAT,
        "Pack also what is mounted below the folder (without it: one file system; /proc, /sys and devices never)",
    )
    yes: bool = _set(
        False,
        switch,
        "",
        OUTPUT,
        "Do not ask, also where SOURCE is a home folder, the whole system or has mounts below it",
    )
    dry_run: bool = _set(False, switch, "", OUTPUT, "Say what would be packed, and send nothing")
    wait: bool = _set(False, switch, "", OUTPUT, "If another run has this dataset, wait for it")


@dataclass
class RunOptions:
    """How a run of the command is watched by those who are not there."""

    summary: bool = _set(
        False, switch, "", ALONE, "Say nothing but one line at the end, fit for the mail of a cron job"
    )
    log_file: Path | None = _set(  # noqa: RUF009
        None,
        folder,
        "FILE",
        ALONE,
        "Write events to this file, a JSON object a line; five old ones are kept",
        rebase=path_of,
    )
    on_success: str | None = _set(
        None, text, "CMD", ALONE, "Run this command after a run that ended well; the result is on its stdin"
    )
    on_failure: str | None = _set(None, text, "CMD", ALONE, "Run this command after one that did not")
    stall_after: float | None = _set(
        None, duration, "TIME", ALONE, "End the run when nothing has happened for so long, such as 2h"
    )
    every: float | None = _set(
        None, duration, "TIME", ALONE, "Stay, and push what is new so often, such as 15m; SIGTERM ends it"
    )
    at: str | None = _set(
        None, rate, "RATE", OUTPUT, "With --dry-run: how long it takes on such a line, such as 20Mbit/s"
    )
    nice: bool = _set(False, switch, "", ALONE, "Leave CPU and disk to others who want them")


def _table(kind: type[PushOptions | RunOptions]) -> tuple[Option, ...]:
    return tuple(Option(one.name.replace("_", "-"), **one.metadata) for one in dataclasses.fields(kind) if one.metadata)


PUSH = _table(PushOptions)
"""The options of ``push``, from its dataclass: the one table."""

_OF_A_SOURCE = frozenset(("part_size", "part_samples", "include", "exclude", "checksum", "other_file_systems", "yes"))

DERIVE = tuple(option for option in PUSH if option.field not in _OF_A_SOURCE)
"""Those of ``derive``, whose parts are cut, and whose samples are chosen, where the dataset was made."""

COMPACT_SIZES = (
    Option("part-size", size, "SIZE", "Size of the large parts (default: as the dataset was cut)", group=WHAT),
    Option("below", size, "SIZE", "Which parts are small (default: those of less than half of that)", group=WHAT),
)
_OF_COMPACT = ("temp", "temp_limit", "max_transfer", "max_duration", "writes_per_second", "wait")

COMPACT = (
    *(option for option in PUSH if option.field in _OF_COMPACT),
    Option(
        "bwlimit",
        rate,
        "RATE|TIMETABLE",
        "Fetch and send together no faster: 2M, or by the time of day '08:00,512K 18:00,10M 23:00,off'",
        group=HOW_FAST,
    ),
    Option("dry-run", switch, "", "Say what would be merged, and change nothing", group=OUTPUT),
)
"""Those of ``compact`` beside its sizes: where parts wait and how fast it may go."""

RUN = _table(RunOptions)
"""Those of the command alone."""

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
    (
        "DRIVESHARD_SITE_URL",
        "Google's; a local Drive's own",
        "Base address of the site where link-shared folders are read without a login",
    ),
)
"""(variable, default, meaning) of what can stand in the environment alone."""
