"""``driveshard cat``."""

from __future__ import annotations

import base64
import os

import click

from driveshard.cli.commands.ls import _as_json
from driveshard.cli.completion import complete_what
from driveshard.cli.console import Manner, put_bytes, put_json
from driveshard.cli.flags import common, examples, manner
from driveshard.cli.progress.report import told
from driveshard.config.settings import Settings, settings_from
from driveshard.dataset.reader import open_reading


@click.command(
    "cat",
    short_help="Write one member of a dataset to stdout.",
    epilog=examples(
        """
driveshard cat photos a/0007.jpg > 0007.jpg
driveshard cat https://drive.google.com/drive/folders/ID bg_000/fg_000_o_00.json
"""
    ),
)
@click.argument("what", shell_complete=complete_what)
@click.argument("member")
@common
def command(what: str, member: str) -> int:
    """Write one MEMBER of a dataset to stdout; little more than its own bytes is fetched.

    WHAT is a folder's link or id, the name of a dataset pushed from here, or a directory with its parts.
    """
    return show_member(what, member, settings_from(), manner)


def show_member(what: str, path: str, settings: Settings, manner: Manner) -> int:
    """The member's bytes; with ``--json`` an object that has them as base64."""
    with told(manner, "looking for the member") as emit, open_reading(what, settings, emit) as reading:
        wanted = os.fsencode(path)
        if not manner.as_json:
            reading.cat(wanted, put_bytes)
            return 0
        blocks: list[bytes] = []
        member = reading.cat(wanted, blocks.append)
    put_json({**_as_json(member), "base64": base64.b64encode(b"".join(blocks)).decode()})
    return 0
