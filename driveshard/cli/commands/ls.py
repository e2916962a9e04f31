"""The ``ls``, ``cat`` and ``verify`` commands: what lies in a dataset, onto stdout."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator

import click

from driveshard.cli.completion import complete_what
from driveshard.cli.console import Manner, is_terminal, put_bytes
from driveshard.cli.flags import common, examples, manner, option
from driveshard.cli.progress.report import told
from driveshard.config.settings import Settings, settings_from
from driveshard.core.formatting import printable
from driveshard.dataset.reader import Member, Reading, open_reading

_AT_ONCE = 256  # lines written together


@click.command(
    "ls",
    short_help="List the members of a dataset.",
    epilog=examples(
        """
driveshard ls photos | head
driveshard ls --long https://drive.google.com/drive/folders/ID
"""
    ),
)
@click.argument("what", shell_complete=complete_what)
@option("-l", "--long", is_flag=True, help="Show size, CRC-32 and part, too.")
@common
def command(what: str, long: bool) -> int:
    """List the members of a dataset, part by part; nothing but the parts' directories is fetched.

    WHAT is a folder's link or id, the name of a dataset pushed from here, or a directory with its parts. Paths go out
    as the bytes they were packed from.
    """
    return show_members(what, settings_from(), manner, long=long)


# -- ls --------------------------------------------------------------------------------------------------------------


def show_members(what: str, settings: Settings, manner: Manner, *, long: bool) -> int:
    """A line for each member, as it is reached; with ``--json`` one object that lists them."""
    with told(manner, "reading the parts' directories") as emit, open_reading(what, settings, emit) as reading:
        if manner.as_json:
            _put_members_json(reading)
            return 0
        plain = not is_terminal(sys.stdout)
        for block in _blocks(_line(member, long, plain) for member in reading.members()):
            put_bytes(block)
    return 0


def _line(member: Member, long: bool, plain: bool) -> bytes:
    """The path's own bytes; on a terminal, control characters must not reach it."""
    path = member.path if plain else printable(member.path).encode()
    if not long:
        return path + b"\n"
    return b"%12d  %08x  %s  %s\n" % (member.size, member.crc, os.fsencode(member.part), path)


def _blocks(lines: Iterator[bytes]) -> Iterator[bytes]:
    held: list[bytes] = []
    for line in lines:
        held.append(line)
        if len(held) >= _AT_ONCE:
            yield b"".join(held)
            held.clear()
    yield b"".join(held)


def _put_members_json(reading: Reading) -> None:
    """One object on one line, written piece by piece: there may be millions of members."""
    put_bytes(b'{"name": %s, "members": [' % json.dumps(reading.manifest.name).encode())
    for number, member in enumerate(reading.members()):
        put_bytes((", " if number else "").encode() + json.dumps(_as_json(member)).encode())
    put_bytes(b"]}\n")


def _as_json(member: Member) -> dict[str, object]:
    path = member.path.decode("utf-8", "surrogateescape")
    return {"path": path, "bytes": member.size, "crc32": f"{member.crc:08x}", "part": member.part}


# -- cat -------------------------------------------------------------------------------------------------------------


# -- verify ----------------------------------------------------------------------------------------------------------
