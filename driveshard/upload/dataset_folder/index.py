"""The published index: made from the directories that the ledger kept, or that are read where the parts lie."""

from __future__ import annotations

import io
import os
import zlib
from collections.abc import Callable, Iterator

from driveshard.archive.directory import BrokenDirectory, Directory, read_directory
from driveshard.archive.index import IndexedPart, save_arrays
from driveshard.archive.index_builder import build_index
from driveshard.archive.manifest import Manifest, ManifestPart
from driveshard.core.formatting import human_size
from driveshard.upload.ledger.ledger import Ledger

Read = Callable[[ManifestPart, int, int], bytes]
"""(part, start, length) -> bytes of the stored part."""

_MEMORY_A_FILE = 120
"""Bytes that it takes to build an index, at most, with names of some 20 bytes; 75 where two files are one sample."""


def too_large(manifest: Manifest) -> str | None:
    """Why this machine cannot build an index of that many files, in words: it would end the whole run, each time. None
    when it can, or when it does not tell what memory it has."""
    needed = sum(part.files for part in manifest.parts) * _MEMORY_A_FILE
    try:
        memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):
        return None
    if needed <= memory:
        return None
    return f"it takes some {human_size(needed)} of memory, and this machine has {human_size(memory)}"


def index_of(manifest: Manifest, ledger: Ledger, read: Read) -> bytes | None:
    """The index of all parts as it is published; None when a part's directory cannot be understood or its places are
    not all told by it, so that it takes a reader who has the part."""

    def directories() -> Iterator[tuple[IndexedPart, Directory]]:
        for part in sorted(manifest.parts, key=lambda part: part.number):
            directory = directory_of(part, ledger, read)
            if (directory.begins < 0).any():
                raise BrokenDirectory("it does not tell all places")
            yield IndexedPart(part.name, part.size, part.sha256), directory

    stream = io.BytesIO()
    try:
        save_arrays(build_index(directories(), manifest.deleted_paths, manifest.hidden).arrays, stream)
    except (BrokenDirectory, zlib.error):
        return None
    return stream.getvalue()


def directory_of(part: ManifestPart, ledger: Ledger, read: Read) -> Directory:
    """The part's directory: as the ledger kept it, else from where the part lies. Raises BrokenDirectory."""
    packed = ledger.end(part.number, part.sha256)
    if packed is None:
        return read_directory(lambda start, length: read(part, start, length), part.size)
    end = zlib.decompress(packed)

    def from_end(start: int, length: int) -> bytes:
        """What lies before the directory is not looked at, so it may be anything."""
        missing = max(0, part.size - len(end) - start)
        begin = max(0, start - (part.size - len(end)))
        return bytes(min(length, missing)) + end[begin : begin + max(0, length - missing)]

    return read_directory(from_end, part.size)
