"""Results that a run leaves for the next one: of each part a file, named for what was looked at and in which bytes.

While a part is under way its file has the tally of each piece that is done; a part that is done, one tally. Of a part
with damaged bytes, which may be fetched again, only the other pieces are written. All in one step, by the one process
that gathers results.
"""

from __future__ import annotations

import contextlib
import json
import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from driveshard.core.files import write_whole
from driveshard.dataset.stats.pieces import PartWork
from driveshard.dataset.stats.tally import Tally, added

_EVERY = 2.0  # seconds between writes of a part that is under way
_MOST_FILES = 4000


class KeptResults:
    """The results in a directory. Where nothing can be written they are in memory alone, and a run that is ended
    begins anew."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._pieces: dict[str, dict[int, Tally]] = {}
        self._whole: dict[str, Tally] = {}
        self._written = time.monotonic()
        with contextlib.suppress(OSError):
            directory.mkdir(parents=True, exist_ok=True, mode=0o700)

    def missing(self, work: PartWork) -> list[int]:
        """The numbers of the pieces that were not looked at yet."""
        self._load(work)
        return [] if work.key in self._whole else [n for n in range(len(work.pieces)) if n not in self._of(work.key)]

    def put(self, work: PartWork, number: int, tally: Tally) -> bool:
        """Keep the result of a piece; whether it was the part's last one."""
        self._of(work.key)[number] = tally
        done = self._close(work)
        if done or time.monotonic() - self._written >= _EVERY:
            self.write(work.key)
        return done

    def whole(self, work: PartWork) -> Tally:
        """The result of a part of which nothing is missing."""
        return self._whole[work.key]

    def flush(self) -> None:
        """Write what is under way."""
        for key, pieces in self._pieces.items():
            if pieces:  # else nothing of it was looked at
                self.write(key)

    def write(self, key: str) -> None:
        """Write one part's."""
        if key in self._whole and not self._whole[key].doubtful:
            document: dict[str, Any] = {"whole": self._whole[key].as_json()}
        else:
            found = self._pieces.get(key, {}).items()
            document = {"pieces": {number: one.as_json() for number, one in found if not one.doubtful}}
        with contextlib.suppress(OSError):
            write_whole(self._file(key), json.dumps(document, separators=(",", ":")).encode())
        self._written = time.monotonic()

    def sweep(self) -> None:
        """Remove the oldest results of a great many."""
        with contextlib.suppress(OSError):
            found = sorted((path.stat().st_mtime, path) for path in self._directory.glob("*.json"))
            for _, path in found[:-_MOST_FILES]:
                path.unlink(missing_ok=True)

    def _close(self, work: PartWork) -> bool:
        """Add up a part of which nothing is missing; whether it is one."""
        pieces = self._of(work.key)
        if done := len(pieces) == len(work.pieces):
            self._whole[work.key] = added(pieces[one] for one in sorted(pieces))
            if not self._whole[work.key].doubtful:
                del self._pieces[work.key]
        return done

    def _of(self, key: str) -> dict[int, Tally]:
        return self._pieces.setdefault(key, {})

    def _file(self, key: str) -> Path:
        return self._directory / f"{key}.json"

    def _load(self, work: PartWork) -> None:
        """What an earlier run left; a file that is not as it should be counts as none."""
        try:
            document = json.loads(self._file(work.key).read_bytes())
            if "whole" in document:
                self._whole[work.key] = Tally.from_json(document["whole"])
            else:
                self._pieces[work.key] = _pieces(document["pieces"], len(work.pieces))
                self._close(work)
            os.utime(self._file(work.key))
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            return


def _pieces(document: Mapping[str, Any], count: int) -> dict[int, Tally]:
    found = {int(number): Tally.from_json(one) for number, one in document.items()}
    return {number: one for number, one in found.items() if 0 <= number < count}
