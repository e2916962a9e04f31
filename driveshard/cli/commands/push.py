"""The ``push`` command."""

from __future__ import annotations

from typing import Any

import click

from driveshard.cli.completion import complete_source
from driveshard.cli.flags import Grouped, common, examples, given_flags, manner, option, push_flags
from driveshard.config.options import OUTPUT, RUN


@click.command(
    "push",
    short_help="Pack a folder or a generator into zip parts and upload them.",
    epilog=examples(
        """
driveshard push photos/ --share anyone
driveshard push photos/ --name cats --include '*.jpg' --exclude '.*'
driveshard push job.toml --bwlimit '08:00,512K 18:00,10M 23:00,off'
driveshard push samples.py:make --part-size 256MiB --workers 4
link=$(driveshard push photos/ --print link)
"""
    ),
)
@click.argument("source", shell_complete=complete_source)
@push_flags
@option(
    "--print",
    "wanted",
    type=click.Choice(["link", "folder-id", "name"]),
    cls=Grouped,
    group=OUTPUT,
    help="Print this alone on stdout, and nothing on stderr unless something is wrong.",
)
@common
def command(source: str, wanted: str | None, **arguments: Any) -> int:
    """Pack SOURCE into zip parts and upload them; run it again to finish, or to add what is new.

    SOURCE is a directory, a Python source (package.module:callable or file.py:callable), or a job file (*.toml).
    Every option can also stand in the environment as DRIVESHARD_<OPTION>, in the job file, and in config.toml.
    """
    from driveshard.cli.pushing import run_push  # with all that a push needs

    manner.quiet = manner.quiet or wanted is not None
    return run_push(source, given_flags(arguments), manner, given_flags(arguments, RUN), wanted)
