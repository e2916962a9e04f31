"""Files that a dataset holds and its source has no more: counted, and dropped from the dataset where that is asked for.

A part is never changed, so a dropped file's bytes stay where they are until the part goes or is merged; the manifest
says that nobody is to see them. A file that comes back is seen again.
"""

from __future__ import annotations

from driveshard.core.events import Emit, Notice
from driveshard.core.formatting import plural
from driveshard.upload.ledger.ledger import Ledger
from driveshard.upload.plan.base import Differences


class Deleted:
    """Takes the paths that the source lacks, one by one; ``count`` is how many. ``before`` were dropped by earlier
    runs."""

    def __init__(self, ledger: Ledger, differences: Differences) -> None:
        self._ledger = ledger
        self._differences = differences
        self.before = ledger.dropped_files()
        self._paths: set[bytes] = set()
        self.count = 0

    def add(self, path: bytes) -> None:
        """A path that a part holds and the source has no more."""
        self.count += 1
        if self._differences.dropped or path in self.before:
            self._paths.add(path)

    def note(self, kept: int, *, listed: bool, emit: Emit) -> tuple[int, int]:
        """Note which are dropped now; returns (files that are gone and stay in the dataset, files dropped just now).

        New ones are dropped only when ``listed``, all folders could be looked into, and when they are not most of the
        dataset, unless somebody is sure: a disk that is not there looks like this, too. ``kept`` are the files that
        the source still has.
        """
        still = self.before & self._paths
        fresh = len(self._paths) - len(still)
        why = ""
        if fresh and not listed:
            why = "not all of the source could be looked into"
        elif len(self._paths) > kept and not self._differences.sure:
            why = "they are most of the dataset; is it the right folder, and whole? --yes drops them all the same"
        if why and fresh:
            emit(Notice(f"WARNING: {plural(fresh, 'deleted file')} not dropped: {why}"))
            self._paths, fresh = set(still), 0
        if self._paths != self.before:
            self._ledger.drop_files(self._paths)
        return self.count - len(self._paths), fresh
