"""Builds one part: a pure function of its spec, its source and a place to write to, to be run anywhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from driveshard.archive.names import facts_of, paths_in
from driveshard.archive.zip_size import MOST_MEMBERS
from driveshard.archive.zip_writer import ZipSummary, ZipWriter
from driveshard.core.model import Part, PartSpec, SampleRange
from driveshard.sources.base import Packed, Source


def build_part(
    spec: PartSpec,
    source: Source,
    target: Path,
    max_bytes: int,
    check: Callable[[], None] | None = None,
    spare_core: bool = True,
) -> Part:
    """Build the part ``spec`` asks for as a zip at ``target``, forced to the disk (fsync), and describe it.

    ``target`` is a temporary name in the caller's own directory. It never has more than ``max_bytes``, and it is
    removed when anything is raised. When nothing could be packed the part has ``files`` 0 and there is no file.
    ``check`` is called before every member and may raise to stop the work. ``spare_core`` says that there are more
    cores than parts being built.

    Raises TempFull when the disk is full or not writable, PartTooLarge beyond ``max_bytes``, SourceMissing when the
    source as a whole is gone, and what ``check`` and the source raise.
    """
    began, computed = time.perf_counter(), time.thread_time()
    with ZipWriter(target, max_bytes=max_bytes, check=check, spare_core=spare_core) as writer:
        open_ended = isinstance(spec.selection, SampleRange) and spec.selection.stop is None
        packed = source.pack(spec.selection, _Ending(writer) if open_ended else writer, spec.part_size)
        summary = writer.close() if writer.members else ZipSummary(0, "", "")
    part = _describe(spec, packed, summary, writer)
    computing = time.thread_time() - computed + writer.computing_beside
    return replace(part, seconds=time.perf_counter() - began, computing=computing)


class _Ending:
    """The writer of an open-ended part: it says that it is full before it has more members than any zip tool reads.

    A source asks for the size once a sample, which tells how many members a sample has.
    """

    def __init__(self, writer: ZipWriter) -> None:
        self._writer = writer
        self.add, self.add_file, self.crcs = writer.add, writer.add_file, writer.crcs
        self._before = self._a_sample = 0

    @property
    def size(self) -> int:
        """As the writer's; beyond every limit when another sample like the largest so far is not to go in."""
        members = self._writer.members
        self._a_sample = max(self._a_sample, members - self._before)
        self._before = members
        return sys.maxsize if members + self._a_sample > MOST_MEMBERS else self._writer.size


def _describe(spec: PartSpec, packed: Packed, summary: ZipSummary, writer: ZipWriter) -> Part:
    return Part(
        number=spec.number,
        file_name=spec.file_name,
        size=summary.size,
        md5=summary.md5,
        sha256=summary.sha256,
        samples=packed.samples,
        files=packed.files,
        first=_text(writer.first),
        last=_text(writer.last),
        selection=packed.selection,
        failed=packed.failed,
        exhausted=packed.exhausted,
        names=facts_of(paths_in(writer.directory), by_key=isinstance(packed.selection, SampleRange)),
        end=writer.packed_end() if writer.members else b"",
    )


def _text(path: bytes | None) -> str:
    """A member's path as text that JSON and SQLite take, whatever bytes it has."""
    return (path or b"").decode("utf-8", "backslashreplace")
