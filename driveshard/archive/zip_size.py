"""How many bytes a zip will have, before it is written."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from struct import Struct

EMPTY_ZIP = 22
"""Bytes of a zip without members: its end record."""


MOST_MEMBERS = 65_534
"""Members a zip can have without zip64 records, which busybox and older tools do not read."""


ZIP64_END = 76
"""Bytes more at the end of a zip with 65,535 members or more, or whose directory is not all below 4 GiB."""


MAX_32 = 0xFFFFFFFF


MAX_16 = 0xFFFF


LOCATOR_64 = Struct("<4sLQL")


LOCATOR_MAGIC = b"PK\6\7"


def member_cost(path_length: int, size: int, offset: int = 0) -> int:
    """Bytes one member adds to a zip: itself and both its headers.

    ``path_length`` and ``size`` are in bytes; ``offset`` is where in the zip it begins, which matters from 4 GiB on.
    A zip's size is the sum over its members, plus EMPTY_ZIP, plus ZIP64_END where that applies (see ``misleads``).
    """
    cost = 30 + 46 + 2 * path_length + size
    if size >= MAX_32:
        cost += 20 + 20
    if offset >= MAX_32:
        cost += 8 if size >= MAX_32 else 12
    return cost


def members_cost(paths: Sequence[bytes], sizes: Sequence[int]) -> int:
    """``member_cost`` of many members that begin below 4 GiB, together."""
    large = sum(map(MAX_32.__le__, sizes))
    return (30 + 46) * len(paths) + 2 * sum(map(len, paths)) + sum(sizes) + (20 + 20) * large


def zip_size(members: Iterable[tuple[int, int]]) -> int:
    """The exact size in bytes of a zip of these (path length, size) members in order, unless its end ``misleads``."""
    offset = central = count = 0
    for path_length, size in members:
        local = 30 + path_length + size + (20 if size >= MAX_32 else 0)
        central += member_cost(path_length, size, offset) - local
        offset += local
        count += 1
    needs_64 = count >= MAX_16 or offset >= MAX_32 or central >= MAX_32
    return offset + central + EMPTY_ZIP + (ZIP64_END if needs_64 else 0)


def misleads(directory: bytes | bytearray) -> bool:
    """Whether the end of a zip's directory, most likely the last member's name, looks like zip64's locator. Python's
    zipfile would take it for one, so true zip64 records must follow it."""
    return directory[-LOCATOR_64.size :][:4] == LOCATOR_MAGIC and len(directory) >= LOCATOR_64.size
