"""Members' bytes for the page: read in runs of neighbours, each once, and kept for a while."""

from __future__ import annotations

import contextlib
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, InvalidStateError, ThreadPoolExecutor

import numpy as np

from driveshard.archive.index import Index
from driveshard.core.errors import Interrupted, Mismatch
from driveshard.dataset.members import unpacked
from driveshard.dataset.parts import ADVICE

Read = Callable[[int, int, int], bytes]
"""(part's number, start, length) -> bytes of it, fewer at its end; called from several threads."""

_GAP = 64 * 1024  # bytes between two members that are sooner read than left out by a request more,
_GAP_ALONE = 512 * 1024  # and where each request waits for the one before: a third of a second is worth that much
_RUN = 4 << 20  # bytes read at once, for the first of them has to wait for the last
_KEPT = 64 << 20


class Bodies:
    """Reads members of an index by ``read``, ``at_once`` runs of them side by side. Keeps up to 64 MiB of bytes; what
    was not looked at longest is dropped first. Safe in threads."""

    def __init__(self, index: Index, read: Read, at_once: int, limit: int = _KEPT) -> None:
        self._index = index
        self._read = read
        self._limit = limit
        self._gap = _GAP if at_once > 1 else _GAP_ALONE
        self._pool = ThreadPoolExecutor(at_once, "view")
        self._lock = threading.Lock()
        self._kept: OrderedDict[int, Future[bytes]] = OrderedDict()
        self._bytes = 0

    def begin(self, members: Sequence[int]) -> dict[int, Future[bytes]]:
        """Have these read soon: those that lie together by one request, however many ask for them. Returns what will
        have the bytes of each."""
        with self._lock:
            wanted = [member for member in members if member not in self._kept]
            for member in wanted:
                self._kept[member] = Future()
                self._bytes += self._size(member)
            runs = [(run, [self._kept[member] for member in run]) for run in self._runs(wanted)]
            found = {member: self._kept[member] for member in members}
            self._make_room()
        for run, futures in runs:
            self._pool.submit(self._fill, run, futures)
        return found

    def get(self, member: int) -> bytes:
        """The member's bytes, its CRC proved. Raises Mismatch, and what the way to it raises."""
        with self._lock:
            if member in self._kept:
                self._kept.move_to_end(member)
        return self.begin([member])[member].result()

    def close(self) -> None:
        """Begin nothing more; whoever waits for bytes is told."""
        self._pool.shutdown(wait=False, cancel_futures=True)
        with self._lock:
            waiting = [(member, future) for member, future in self._kept.items() if not future.done()]
        for member, future in waiting:
            self._failed(member, future, Interrupted("the page was closed"))

    def _size(self, member: int) -> int:
        return max(int(self._index.columns[3][member]), int(self._index.columns[4][member]))

    def _make_room(self) -> None:
        while self._bytes > self._limit and len(self._kept) > 1:
            member, _ = self._kept.popitem(last=False)
            self._bytes -= self._size(member)

    def _runs(self, members: Sequence[int]) -> Iterator[list[int]]:
        """The members in the order in which they lie, cut where one request would read too much."""
        if not members:
            return
        rows = np.array(members, np.int64)
        part, begin, stored = (self._index.arrays[name][rows].astype(np.int64) for name in ("part", "begin", "stored"))
        order = np.lexsort((begin, part))
        part, begin, end, found = part[order], begin[order], (begin + stored)[order], rows[order].tolist()
        first = 0
        for at in range(1, len(found) + 1):
            if at < len(found):
                near = part[at] == part[at - 1] and 0 <= begin[at] - end[at - 1] <= self._gap
                if near and end[at] - begin[first] <= _RUN:
                    continue
            yield found[first:at]
            first = at

    def _fill(self, run: Sequence[int], futures: Sequence[Future[bytes]]) -> None:
        """Read a run, and give each future its member of it."""
        part, _, begins, stored, sizes, crcs, methods = self._index.columns
        number, first, last = part[run[0]], begins[run[0]], run[-1]
        name = self._index.parts[number].name
        try:
            data = self._read(number, first, begins[last] + stored[last] - first)
        except Exception as error:  # whatever it is, it is told to whoever asks for one of them
            for member, future in zip(run, futures, strict=True):
                self._failed(member, future, error)
            return
        for member, future in zip(run, futures, strict=True):
            at = begins[member] - first
            try:
                body = data[at : at + stored[member]]
                if len(body) != stored[member]:
                    raise Mismatch(f"{name} was cut short", advice=ADVICE)
                body = unpacked(name, body, sizes[member], methods[member], crcs[member])
            except Mismatch as error:
                self._failed(member, future, error)
                continue
            with contextlib.suppress(InvalidStateError):
                future.set_result(body)

    def _failed(self, member: int, future: Future[bytes], error: Exception) -> None:
        """Told now, and tried again when it is asked for again."""
        with self._lock:
            if self._kept.get(member) is future:
                del self._kept[member]
                self._bytes -= self._size(member)
        with contextlib.suppress(InvalidStateError):
            future.set_exception(error)
