"""The ``ls``, ``cat`` and ``verify`` commands: what lies in a dataset, onto stdout."""

from __future__ import annotations

import base64
import json
import os
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager

from driveshard.config import Settings
from driveshard.console import Manner, is_terminal, put_bytes, put_json, put_result, tell
from driveshard.events import Emit, Event, Notice, Waiting
from driveshard.proof import Proof, refusal, verify
from driveshard.reading import Member, Reading, open_reading
from driveshard.report import JsonLines, Stream, logs_said
from driveshard.shelf import DirectoryShelf, open_shelf
from driveshard.sources.base import printable
from driveshard.text import countdown, human_size, plural, shown

_AT_ONCE = 256  # lines written together


@contextmanager
def told(manner: Manner) -> Iterator[Emit]:
    """An Emit for commands that show no progress: it tells why one takes longer. Requests, with ``-v``, too."""
    lines = JsonLines(Stream(sys.stderr))

    def emit(event: Event) -> None:
        if manner.log_format == "json":
            lines.emit(event)
        elif isinstance(event, Waiting) and not manner.quiet:
            tell(f"waiting {countdown(event.seconds)}: {event.why}")
        elif isinstance(event, Notice) and not manner.quiet:
            tell(event.text)

    with logs_said(lines.say if manner.log_format == "json" else tell, verbose=manner.verbose):
        yield emit


# -- ls --------------------------------------------------------------------------------------------------------------


def show_members(what: str, settings: Settings, manner: Manner, *, long: bool) -> int:
    """A line for each member, as it is reached; with ``--json`` one object that lists them."""
    with told(manner) as emit, open_reading(what, settings, emit) as reading:
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


def show_member(what: str, path: str, settings: Settings, manner: Manner) -> int:
    """The member's bytes; with ``--json`` an object that has them as base64."""
    with told(manner) as emit, open_reading(what, settings, emit) as reading:
        wanted = os.fsencode(path)
        if not manner.as_json:
            reading.cat(wanted, put_bytes)
            return 0
        blocks: list[bytes] = []
        member = reading.cat(wanted, blocks.append)
    put_json({**_as_json(member), "base64": base64.b64encode(b"".join(blocks)).decode()})
    return 0


# -- verify ----------------------------------------------------------------------------------------------------------


def show_proof(what: str, settings: Settings, manner: Manner, *, deep: bool) -> int:
    """The proof and, on stderr, what is wrong; the exit code says which."""

    def on_part(name: str) -> None:
        if manner.verbose:
            tell(f"checking {name}")

    with told(manner) as emit, closing(open_shelf(what, settings, emit)) as shelf:
        proof = verify(shelf, deep=deep, on_part=on_part)
        deep = deep or isinstance(shelf, DirectoryShelf)
    wrong = refusal(proof)
    for problem in proof.problems:
        tell(problem)
    if manner.as_json:
        put_result(proof.as_json())
    elif wrong is None and not manner.quiet:
        put_result(_sentence(proof, deep))
    if wrong is not None:
        raise wrong
    return 0


def _sentence(proof: Proof, deep: bool) -> str:
    how = "every byte was read" if deep else "there once, with the right size and checksums"
    return f"{shown(proof.name or '')} is whole: {plural(proof.parts, 'part')}, {human_size(proof.bytes)}, {how}"
