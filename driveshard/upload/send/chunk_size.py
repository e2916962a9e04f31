"""How large the next chunk is."""

from __future__ import annotations

FIRST_CHUNK = 256 * 1024


LARGEST_CHUNK = 16 * 1024 * 1024  # in the memory of every upload under way


_QUICK, _SLOW = 1.0, 8.0  # seconds a chunk may take before the next one is made larger, smaller


class ChunkSizer:
    """Chunks sized to the line: large enough that requests do not matter, small enough to see a stall soon.

    Sizes are bytes and multiples of ``unit``. No chunk holds more than an eighth of the upload's ``size``, so that one
    that is lost costs little of it, nor more than ``largest``.
    """

    def __init__(self, unit: int, size: int, largest: int | None = None) -> None:
        self._unit = unit
        most = min(size // 8, LARGEST_CHUNK, LARGEST_CHUNK if largest is None else largest)
        self._largest = max(unit, most // unit * unit)
        self.size = min(self._largest, max(unit, FIRST_CHUNK // unit * unit))

    def took(self, length: int, seconds: float) -> None:
        """Note that a chunk of ``length`` bytes took ``seconds``."""
        if length < self.size:
            return
        if seconds < _QUICK:
            self.size = min(self._largest, self.size * 2)
        elif seconds > _SLOW:
            self.failed()

    def failed(self) -> None:
        """A chunk was lost: risk less next time."""
        self.size = max(self._unit, self.size // 2 // self._unit * self._unit)
