"""The small files in which runs say how far they are, and which of them nobody writes any more."""

from __future__ import annotations

import contextlib
import os
import time
from pathlib import Path

_HALF_DEAD = 60.0  # seconds; what a run writes every ten seconds at most is its own no more when it is older
_A_DAY = 86_400.0  # seconds; where a process cannot be asked for, and for numbers that are another's by now


def gone_live(home: Path) -> list[Path]:
    """What runs that were killed said of themselves last: nobody writes it any more, and its process is gone."""
    found = []
    for path in (home / "live").glob("*.*"):
        with contextlib.suppress(OSError):
            age = time.time() - path.lstat().st_mtime
            if age > _A_DAY or (age > _HALF_DEAD and not _runs(path.name.partition(".")[0])):
                found.append(path)
    return found


def _runs(pid: str) -> bool:
    if os.name == "nt":
        return True  # perhaps; asking would end it there
    if not pid.isdecimal():
        return False
    try:
        os.kill(int(pid), 0)
    except (ProcessLookupError, OverflowError):
        return False
    except OSError:
        return True  # somebody else's
    return int(pid) > 0
