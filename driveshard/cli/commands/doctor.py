"""The ``doctor`` command."""

from __future__ import annotations

import sys

import click

from driveshard.cli.console import is_terminal, put, put_json
from driveshard.cli.flags import common, examples, manner
from driveshard.config.options import FLAGS, PUSH, read_values
from driveshard.config.settings import settings_from
from driveshard.core.errors import DriveshardError
from driveshard.core.formatting import shown

_WORDS = {"ok": ("ok", "green"), "warn": ("look", "yellow"), "fail": ("MEND", "red"), "skip": ("-", "bright_black")}


@click.command(
    "doctor",
    short_help="Check everything that a push needs, and say what to do.",
    epilog=examples(
        """
driveshard doctor
driveshard doctor --to drive:1AbCdEf --json
driveshard doctor --no-write --profile work
"""
    ),
)
@click.option("--to", metavar="WHERE", help="The destination to look at, as for push (default: the one of the config).")
@click.option("--no-write", is_flag=True, help="Do not make, and delete again, a folder there.")
@common
def command(to: str | None, no_write: bool) -> int:
    """Check everything that a push needs: files here, login, network, clock, storage, the destination.

    Each line is ok, worth a look, or to be mended with the one thing to do. A folder is made in the destination and
    deleted again. The exit code is that of the worst finding: what a push would end with.
    """
    from driveshard.cli import checkup

    if to:
        to = read_values({"to": to}, PUSH, FLAGS)["to"]
    findings: list[checkup.Finding] = []
    try:
        for one in checkup.everything(settings_from(), to, write=not no_write):
            findings.append(one)
            _show(one)
    except DriveshardError as error:  # what is wrong in the config file itself
        findings.append(checkup.red("config", error))
        _show(findings[-1])
    code = checkup.worst(findings)
    if manner.as_json:
        put_json({"ok": code == 0, "exit_code": code, "findings": [one.as_json() for one in findings]})
    else:
        put(checkup.summary(findings))
    return code


def _show(one: object) -> None:
    """A line for a finding as soon as it is known, and one for what to do."""
    from driveshard.cli.checkup import Finding

    assert isinstance(one, Finding)
    if manner.as_json or (manner.quiet and one.state in ("ok", "skip")):
        return
    word, colour = _WORDS[one.state]
    mark = f"{word:<4}"
    if is_terminal(sys.stdout):
        mark = click.style(mark, fg=colour, bold=one.state == "fail")
    put(f"{mark}  {one.check:<10} {shown(one.said)}")
    if one.advice:
        put(f"{'':<16} -> {shown(one.advice)}")
