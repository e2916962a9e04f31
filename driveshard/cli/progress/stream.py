"""Lines to a stream that may go away."""

from __future__ import annotations

import threading
from typing import TextIO

from driveshard.core.formatting import shown


class Stream:
    """Writes lines from any thread and gives up for good when nobody reads them."""

    def __init__(self, stream: TextIO | None) -> None:
        self._stream = stream
        self._lock = threading.RLock()

    def line(self, text: str) -> None:
        """Write one line; the first failure is the last try."""
        self.write(shown(text) + "\n")

    def write(self, text: str) -> None:
        """Write it as it is."""
        with self._lock:
            if self._stream is None:
                return
            try:
                self._stream.write(text)
                self._stream.flush()
            except (OSError, ValueError):
                self._stream = None
