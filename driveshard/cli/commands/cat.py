"""``driveshard cat``."""

from __future__ import annotations

import base64
import os
import re
import sys
from collections.abc import Iterator

import click

from driveshard.cli.commands.ls import _as_json
from driveshard.cli.completion import complete_what
from driveshard.cli.console import Manner, is_terminal, put_bytes, put_json, tell
from driveshard.cli.flags import common, examples, manner
from driveshard.cli.progress.report import told
from driveshard.config.settings import Settings, settings_from
from driveshard.core.errors import UsageError
from driveshard.core.formatting import printable
from driveshard.dataset.reader import Reading, open_reading

_TEXT = bytes({*range(32, 127), *b"\t\n\r\f\b"})


@click.command(
    "cat",
    short_help="Write one member of a dataset to stdout.",
    epilog=examples(
        """
driveshard cat photos a/0007.jpg > 0007.jpg
driveshard cat photos 'cats/000*.json'
driveshard cat https://drive.google.com/drive/folders/ID bg_000/fg_000_o_00.json
"""
    ),
)
@click.argument("what", shell_complete=complete_what)
@click.argument("member")
@common
def command(what: str, member: str) -> int:
    """Write one MEMBER of a dataset to stdout, or all that a pattern such as 'cats/000*.json' matches, one after the
    other; little more than their own bytes is fetched.

    WHAT is a folder's link or id, the name of a dataset pushed from here, or a directory with its parts. What is not
    text is written to a terminal only after a yes.
    """
    return show_member(what, member, settings_from(), manner)


def show_member(what: str, path: str, settings: Settings, manner: Manner) -> int:
    """The members' bytes; with ``--json`` an object that has them as base64."""
    with told(manner, "looking for the member") as emit, open_reading(what, settings, emit) as reading:
        if manner.as_json:
            documents = [_document(reading, one) for one in _meant(reading, path)]
            put_json(documents[0] if os.fsencode(path) == _path_of(documents[0]) else {"members": documents})
            return 0
        asks = is_terminal(sys.stdout)
        for one in _meant(reading, path):
            if asks:
                reading.cat(one, _Screen(printable(one)))
            else:
                reading.cat(one, put_bytes)
    return 0


def _meant(reading: Reading, path: str) -> Iterator[bytes]:
    """The paths of the members that are meant: the one of that name, or else all that it matches as a pattern."""
    exact = os.fsencode(path)
    if not re.search(r"[*?\[]", path) or reading.has(exact):
        yield exact
    else:
        yield from [member.path for member in reading.matching((path,))]


def _document(reading: Reading, path: bytes) -> dict[str, object]:
    blocks: list[bytes] = []
    member = reading.cat(path, blocks.append)
    return {**_as_json(member), "base64": base64.b64encode(b"".join(blocks)).decode()}


def _path_of(document: dict[str, object]) -> bytes:
    return str(document["path"]).encode("utf-8", "surrogateescape")


class _Screen:
    """Takes a member's blocks to a terminal, where bytes that are no text would ring, colour and lock it."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._agreed: bool | None = None

    def __call__(self, block: bytes) -> None:
        """Asks once, at the first block that is not text. Raises UsageError when nobody can answer."""
        if self._agreed is None and _is_binary(block):
            self._agreed = self._ask()
        if self._agreed is not False:
            put_bytes(block)

    def _ask(self) -> bool:
        advice = "Send it elsewhere: driveshard cat ... > FILE"
        if not is_terminal(sys.stdin):
            raise UsageError(f"{self._name} is not text, and stdout is a terminal", advice=f"{advice}.")
        agreed = click.confirm(f"{self._name} is not text. Write it to this terminal?", default=False, err=True)
        if not agreed:
            tell(advice)
        return agreed


def _is_binary(block: bytes) -> bool:
    return bool(block.translate(None, _TEXT)) if block.isascii() else b"\0" in block or not _decodes(block)


def _decodes(block: bytes) -> bool:
    try:
        block.decode("utf-8")
    except UnicodeDecodeError as error:
        return error.start >= len(block) - 3  # a character that the block's end cuts
    return True
