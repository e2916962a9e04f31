"""Which samples a filter means, among a million of them, while somebody types."""

from __future__ import annotations

import re
import threading
from collections import OrderedDict

import numpy as np
from numpy.typing import NDArray

from driveshard.archive.index import Index
from driveshard.core.errors import UsageError
from driveshard.sources.globs import matcher

Numbers = NDArray[np.int64]

_WILD = re.compile(r"\*+/?|\?|\[!?\]?[^\]]*\]")
_KEPT = 8  # filters whose samples are remembered, for the pages that follow


class Keys:
    """The keys of an index, searched. Safe in threads."""

    def __init__(self, index: Index) -> None:
        self._index = index
        self._bytes = np.frombuffer(index.key_bytes, np.uint8)
        self._ends = index.arrays["key_ends"].astype(np.int64)
        self._lower: NDArray[np.uint8] | None = None
        self._found: OrderedDict[str, Numbers] = OrderedDict()
        self._lock = threading.Lock()

    def meant_by(self, text: str) -> Numbers:
        """The samples, in order, whose key has ``text`` in it in capitals or not, or that it means as a glob (with a
        ``*``, a ``?`` or ``[...]``; those of ``--include``). Nothing means all. Raises UsageError for a broken glob."""
        with self._lock:
            found = self._found.get(text)
            if found is None:
                found = self._found[text] = self._search(text)
                if len(self._found) > _KEPT:
                    self._found.popitem(last=False)
            self._found.move_to_end(text)
            return found

    def _search(self, text: str) -> Numbers:
        if not text:
            return np.arange(len(self._index))
        if _WILD.search(text):
            return self._matching(text)
        if self._lower is None:
            self._lower = np.frombuffer(bytes(self._index.key_bytes).lower(), np.uint8)
        return self._holding(self._lower, text.encode("utf-8", "surrogateescape").lower())

    def _holding(self, within: NDArray[np.uint8], text: bytes) -> Numbers:
        """The samples whose part of ``within`` has the text in it."""
        last = len(within) - len(text)
        begins = np.flatnonzero(within[: max(0, last + 1)] == text[0])
        for at in range(1, len(text)):
            begins = begins[within[begins + at] == text[at]]
        samples = np.searchsorted(self._ends, begins, side="right")
        samples = samples[begins + len(text) <= self._ends[samples]]  # else it reaches into the next key
        return samples[np.flatnonzero(np.diff(samples, prepend=-1))]

    def _matching(self, glob: str) -> Numbers:
        try:
            means = matcher([glob])
        except re.error as error:
            raise UsageError(f"{glob!r} is not a glob ({error.msg})", advice="As in cats/*0.") from error
        # Most keys are ruled out by what the glob says literally, a hundred times as fast as it would rule them out.
        literal = max(_WILD.split(glob.strip("/")), key=len).encode("utf-8", "surrogateescape")
        candidates = self._holding(self._bytes, literal) if literal else np.arange(len(self._index))
        key = self._index.key
        return np.array([one for one in candidates.tolist() if means(key(one))], np.int64)
