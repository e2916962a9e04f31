"""The ``config`` command."""

from __future__ import annotations

import importlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click

from driveshard.cli.console import put, put_json, tell
from driveshard.cli.flags import AnyPath, common, examples, manner
from driveshard.config.effective import DEFAULT, Effective, effective, unknown_variables
from driveshard.config.settings import config_file, home_folder
from driveshard.core.errors import ConfigError
from driveshard.core.formatting import human_size, shown

_SIZES = frozenset({"part-size", "temp-limit", "max-transfer"})


@click.command(
    "config",
    short_help="Show every value that counts, and where it was set.",
    epilog=examples(
        """
driveshard config
driveshard config job.toml --json
"""
    ),
)
@click.argument("job", required=False, type=AnyPath())
@common
def command(job: Path | None) -> int:
    """Show every value that counts, and where it was set: default, config.toml, JOB (a job file), or the environment.

    Flags of a command come over all of these. With -q only what was set is shown. A key or a DRIVESHARD_ variable that
    is not known is an error, with the one that was probably meant.
    """
    home = home_folder(os.environ)
    values = effective(home, os.environ, job)
    strange = unknown_variables(os.environ, _variables())
    if manner.as_json:
        rows = [{"name": one.name, "value": one.shown, "from": one.source} for one in values]
        put_json({"home": str(home), "config": str(config_file(home)), "values": rows, "unknown": sorted(strange)})
    else:
        for line in _lines(home, values):
            put(line)
    if strange:
        raise _unknown(strange)
    return 0


def _lines(home: Path, values: list[Effective]) -> Iterator[str]:
    """A line for each value, aligned."""
    there = "" if config_file(home).exists() else " (not there)"
    rows = [("home", str(home), "DRIVESHARD_HOME" if os.environ.get("DRIVESHARD_HOME") else DEFAULT)]
    rows += [("config file", f"{config_file(home)}{there}", DEFAULT)]
    rows += [(name, os.environ[name], name) for name in ("DRIVESHARD_DRIVE_URL",) if os.environ.get(name)]
    rows += [(one.name, _text(one), one.source) for one in values if not manner.quiet or one.source != DEFAULT]
    width = max(len(name) for name, *_ in rows)
    room = max(len(value) for _, value, _ in rows[2:] or rows)
    for name, value, source in rows:
        yield f"{name:<{width}}  {shown(value):<{min(room, 40)}}  {shown(source)}"


def _text(one: Effective) -> str:
    value: Any = one.shown
    if value is None or value == []:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list):
        return " ".join(map(str, value))
    return human_size(value) if one.name in _SIZES else str(value)


def _variables() -> Iterator[str]:
    """The variables that stand for flags of single commands."""
    from driveshard.cli.main import COMMANDS, driveshard

    for name in COMMANDS:
        command = importlib.import_module(f"driveshard.cli.commands.{name}").command
        for parameter in (*command.params, *driveshard.params):
            if isinstance(parameter.envvar, str):
                yield parameter.envvar


def _unknown(strange: dict[str, str]) -> ConfigError:
    name, meant = next(iter(strange.items()))
    if len(strange) > 1:
        tell(f"not known: {', '.join(strange)}")
    return ConfigError(
        f"{name} is not a setting of driveshard",
        advice=f"Did you mean {meant}?" if meant else "Unset it; `driveshard config` names what there is.",
    )
