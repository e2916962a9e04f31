"""Every value that counts, and where it was said: for people who wonder why a push does what it does."""

from __future__ import annotations

import dataclasses
import difflib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from driveshard.config.job_file import read_job_file
from driveshard.config.options import PUSH, RUN, SETTINGS, Option, in_file, read_environment, read_values
from driveshard.config.settings import PushOptions, RunOptions, Settings, config_file, read_toml
from driveshard.storage.retry import Patience

DEFAULT = "default"
ENVIRONMENT_ONLY = ("DRIVESHARD_HOME", "DRIVESHARD_DRIVE_URL", "DRIVESHARD_SITE_URL")
_PREFIX = "DRIVESHARD_"
_SECRET = frozenset({"api-key"})


@dataclass(frozen=True, slots=True)
class Effective:
    """``value`` is as the table of options reads it, None when nothing is set; ``source`` is ``default``, the name of a
    variable, or the path of a file."""

    name: str
    value: Any
    source: str

    @property
    def shown(self) -> Any:
        """For a screen and for JSON: paths and globs as text, secrets not at all."""
        if self.name in _SECRET and self.value is not None:
            return "(set, and not shown)"
        if isinstance(self.value, Path):
            return str(self.value)
        return list(self.value) if isinstance(self.value, tuple) else self.value


def effective(home: Path, environment: Mapping[str, str], job: Path | None = None) -> list[Effective]:
    """All options in the table's order. ``job`` is a job file whose values count, too. Raises ConfigError, and
    SourceMissing for a job file that is none."""
    layers: list[tuple[str, Mapping[str, Any]]] = [(DEFAULT, _defaults(home))]
    config = config_file(home)
    table = (*PUSH, *RUN, *SETTINGS)
    if config.exists():
        layers.append((str(config), read_values(read_toml(config), table, in_file(config))))
    if job is not None:
        read = read_job_file(job)
        layers.append((str(job), {**read.options, **read.run}))
    spoken = read_environment(environment, table)
    found = [_last(option, layers) for option in table]
    return [
        Effective(option.name, spoken[option.field], option.variable) if option.field in spoken else value
        for option, value in zip(table, found, strict=True)
    ]


def _last(option: Option, layers: Iterable[tuple[str, Mapping[str, Any]]]) -> Effective:
    value, source = None, DEFAULT
    for where, values in layers:
        if option.field in values:
            value, source = values[option.field], where
    return Effective(option.name, value, source)


def _defaults(home: Path) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for kind in (PushOptions, RunOptions, Settings):
        for field in dataclasses.fields(kind):
            if field.default is not dataclasses.MISSING:
                values[field.name] = field.default
    patience = Patience()
    return {
        **values,
        "retries": patience.attempts,
        "throttle_patience": patience.throttled,
        "credentials": Settings(home).client_file,
    }


def unknown_variables(environment: Mapping[str, str], known: Iterable[str]) -> dict[str, str]:
    """Variables that look like ours and mean nothing, each with the one that was probably meant ("" when none is
    near). ``known`` are variables beside those of the table."""
    names = {option.variable for option in (*PUSH, *RUN, *SETTINGS)} | set(known) | set(ENVIRONMENT_ONLY)
    strange = sorted(name for name in environment if name.startswith(_PREFIX) and name not in names)
    return {name: next(iter(difflib.get_close_matches(name, sorted(names), 1)), "") for name in strange}
