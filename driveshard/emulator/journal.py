"""What the emulator saw: the request log, the totals, and the protocol slips of a strict run."""

from __future__ import annotations

import json
import threading
from collections import Counter, deque
from pathlib import Path
from typing import Any

from driveshard.emulator.database import Tally

KEPT = 20_000


class Journal:
    """Requests in memory (the last 20,000) and in `requests.jsonl` (all); totals survive a `kill -9`."""

    def __init__(self, root: Path, strict: bool) -> None:
        self.strict = strict
        self._lock = threading.Lock()
        self._file = (root / "requests.jsonl").open("a", encoding="utf-8")
        self._entries: deque[dict[str, Any]] = deque(maxlen=KEPT)
        self._number = 0
        self._violations: list[dict[str, Any]] = []
        self._statuses: Counter[str] = Counter()
        self._most_writes = 0
        self._recent_writes: deque[float] = deque()
        self.tally = Tally(root / "totals", ("requests", "writes", "received_bytes"))

    def received(self, count: int) -> None:
        """Count upload bytes as they come off the socket."""
        self.tally.add("received_bytes", count)

    def write(self, moment: float) -> None:
        """Count a write, refused ones included, at a monotonic time in seconds."""
        self.tally.add("writes")
        with self._lock:
            self._recent_writes.append(moment)
            while self._recent_writes[0] <= moment - 1.0:
                self._recent_writes.popleft()
            self._most_writes = max(self._most_writes, len(self._recent_writes))

    def record(self, entry: dict[str, Any]) -> None:
        """Append one request to the log."""
        self.tally.add("requests")
        with self._lock:
            self._number += 1
            entry = {"n": self._number, **entry}
            self._entries.append(entry)
            self._statuses[str(entry["status"])] += 1
            if not self._file.closed:
                self._file.write(json.dumps(entry) + "\n")
                self._file.flush()

    def violation(self, kind: str, detail: str) -> None:
        """Remember a protocol slip, in a strict run."""
        if self.strict:
            with self._lock:
                self._violations.append({"kind": kind, "detail": detail, "after_request": self._number})

    def entries(self, since: int) -> list[dict[str, Any]]:
        """The logged requests with a number above `since`."""
        with self._lock:
            return [entry for entry in self._entries if entry["n"] > since]

    def stats(self) -> dict[str, Any]:
        """Totals, statuses, violations and the most writes seen within any one second."""
        with self._lock:
            return {
                **self.tally.values(),
                "statuses": dict(self._statuses),
                "max_writes_in_any_second": self._most_writes,
                "violations": list(self._violations),
            }

    def reset(self) -> None:
        """Begin all counts anew; the file keeps its lines."""
        self.tally.reset()
        with self._lock:
            self._entries.clear()
            self._violations.clear()
            self._statuses.clear()
            self._recent_writes.clear()
            self._most_writes = 0

    def close(self) -> None:
        """Close the files."""
        self.tally.release()
        with self._lock:
            self._file.close()
