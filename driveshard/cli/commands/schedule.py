"""The ``schedule`` command."""

from __future__ import annotations

import itertools
import os
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path

import click

from driveshard.cli.console import put, put_json, tell
from driveshard.cli.flags import common, examples, given_flags, manner
from driveshard.cli.service import TO_BE_MENDED
from driveshard.cli.units import crontab_at_boot, crontab_line, rhythm, service, staying_service, timer, unit_name
from driveshard.config.job_file import is_job_file, read_job_file
from driveshard.config.options import FLAGS, PUSH, RUN, Option, read_values
from driveshard.config.settings import home_folder
from driveshard.config.source_argument import open_source
from driveshard.config.values import duration
from driveshard.core.errors import UsageError
from driveshard.core.paths import path_of

_HANDED_ON: tuple[str, ...] = (
    "DRIVESHARD_DRIVE_URL",
    "DRIVESHARD_PROFILE",
    "DRIVESHARD_SERVICE_ACCOUNT",
    "DRIVESHARD_SUBJECT",
    "HTTPS_PROXY",
    "https_proxy",
    "NO_PROXY",
    "no_proxy",
    "SSL_CERT_FILE",
)
_EVERY = (Option("every", duration, "", ""),)


@click.command(
    "schedule",
    short_help="Print a crontab line and a systemd timer for a push.",
    context_settings={"ignore_unknown_options": True},
    epilog=examples(
        """
driveshard schedule job.toml
driveshard schedule photos/ --at 02:30 --name photos --share anyone
driveshard schedule job.toml --every 15m --json
"""
    ),
)
@click.argument("source")
@click.argument("options", nargs=-1, type=click.UNPROCESSED)
@click.option("--every", metavar="TIME", help="How often: 5m to 30m, 1h to 12h, or 1d (default).")
@click.option("--at", metavar="HH:MM", help="Once a day at this time.")
@common
def command(source: str, options: tuple[str, ...], every: str | None, at: str | None) -> int:
    """Print what has SOURCE pushed again and again: a line for `crontab -e`, and a systemd service with its timer.

    Nothing is installed. Further options are those of push. The lines name everything in full, so they need no HOME,
    no PATH and no terminal; each run says one line, and waits for one that is still going on.

    A job file that has `every` stays by itself: for it there is one service that does, and no timer.
    """
    stays = _stays(source)
    if stays and (every or at):
        raise UsageError(f"{source} has `every`, so it stays by itself", advice="Leave --every and --at out.")
    seconds = read_values({"every": every}, _EVERY, FLAGS)["every"] if every else None
    when = rhythm(seconds, at)
    _check(options)
    open_source(source)
    what, name = _named(source, options)
    line = [*starter(), "push", what, *options, "--summary", "--wait"]
    environment = _environment()
    folder = os.getcwd()  # noqa: PTH109
    unit = unit_name(name)
    nicely = [*line, "--nice"]
    printed: dict[str, str | None] = {
        "crontab": crontab_line(when, name, nicely, folder, environment),
        "service": service(name, line, folder, environment),
        "timer": timer(name, when),
    }
    if stays:
        printed = {
            "crontab": crontab_at_boot(nicely, folder, environment),
            "service": staying_service(name, line, folder, environment, TO_BE_MENDED),
            "timer": None,
        }
    if manner.as_json:
        put_json({"unit": unit, **printed})
    else:
        _show(unit, printed)
    return 0


def _show(unit: str, printed: Mapping[str, str | None]) -> None:
    put(f"# For `crontab -e`, one line:\n{printed['crontab']}\n")
    kinds = [kind for kind in ("service", "timer") if printed[kind] is not None]
    for kind in kinds:
        put(f"# ~/.config/systemd/user/{unit}.{kind}:\n{printed[kind]}")
    put(f"# Then: systemctl --user daemon-reload && systemctl --user enable --now {unit}.{kinds[-1]}")
    put("# (`loginctl enable-linger` has it run while you are not logged in.)")


def _stays(source: str) -> bool:
    """Whether the job file says how often it pushes by itself."""
    return is_job_file(source) and bool(read_job_file(path_of(source)).run.get("every"))


def _check(options: tuple[str, ...]) -> None:
    """The options are those of push. Raises UsageError."""
    from driveshard.cli.commands.push import command as push

    try:
        typed = push.make_context("push", ["-", *options]).params
        for table in (PUSH, RUN):
            given_flags(typed, table)
    except click.exceptions.Exit as error:
        raise UsageError("--help and --version cannot be scheduled") from error


def _named(source: str, options: tuple[str, ...]) -> tuple[str, str]:
    """The source as it is found from anywhere, and the dataset's name."""
    given = [value for flag, value in itertools.pairwise(options) if flag == "--name"]
    given += [one.partition("=")[2] for one in options if one.startswith("--name=")]
    path = path_of(source)
    if is_job_file(source):
        return str(path.absolute()), (given or [str(read_job_file(path).options["name"])])[-1]
    if path.is_dir():
        return str(path.absolute()), (given or [path.absolute().name])[-1]
    return source, (given or [source.rpartition(":")[2]])[-1]


def starter() -> list[str]:
    """The command that starts driveshard from anywhere."""
    script = Path(sys.argv[0])
    found = shutil.which("driveshard", path=str(Path(sys.executable).parent))
    if script.name == "driveshard" and script.is_file():
        return [str(script.absolute())]
    return [found] if found else [sys.executable, "-m", "driveshard"]


def _environment() -> dict[str, str]:
    """What a run needs to know that is in the environment now."""
    kept = {name: os.environ[name] for name in _HANDED_ON if os.environ.get(name)}
    for name in [name for name, value in kept.items() if "@" in value and name != "DRIVESHARD_SUBJECT"]:
        del kept[name]
        tell(f"{name} holds a password, which is not printed: set it for the job yourself.")
    return {"DRIVESHARD_HOME": str(home_folder(os.environ)), **kept}
