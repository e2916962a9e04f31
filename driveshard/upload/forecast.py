"""What a push will cost, from what a dry run planned: requests, quota, room and time. Arithmetic only.

Drive's figures are those of ``storage.rate_limits``; beside them a folder, and a shared drive, holds 500,000 items
(Workspace Admin Help 7338880). What a request with a part's bytes costs is not documented and counted as an edit.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

from driveshard.core.formatting import human_seconds, human_size, plural
from driveshard.storage.rate_limits import DRIVE_BYTES_A_DAY, DRIVE_UNITS_A_MINUTE, UNITS
from driveshard.upload.lease import LIFE
from driveshard.upload.send.request_size import RequestSizer

FOLDER_ITEMS = 500_000
_USUAL_RATE = 20e6  # bytes a second
_UNIT = 256 * 1024
_PAGE = 1000  # files in a page of a list
_FILES_BESIDE = 4  # manifest, card, preview and index
_BESIDE = _FILES_BESIDE + 2  # the folder, made or claimed, and the claim let go
_LOOKS = 4  # the folder, who may read it, and ids for what is beside the parts
_IDS = 10  # reserved by one request
_PLACES = 24  # that samples for the preview are looked for in
_NEAR = 320 * 1024  # bytes between two of them that are read as one
_DAY = 86_400.0


@dataclass(frozen=True, slots=True)
class Forecast:
    """``writes`` are requests that make or change a file, the claim on the folder among them; ``temp`` is the most
    bytes in the temp folder; ``seconds`` is how long the push takes, None when the line's rate is not known; ``days``
    is how many days of Drive's daily cap it fills; ``limits`` are sentences on what will be hit; ``storage_left`` is
    the account's room before the push in bytes, None where it was not told or has no limit."""

    parts: int
    bytes: int
    requests: int
    writes: int
    quota_units: int
    temp: int
    seconds: float | None
    days: float
    limits: tuple[str, ...]
    storage_left: int | None = None

    def as_json(self) -> dict[str, Any]:
        return {**asdict(self), "limits": list(self.limits)}

    def lines(self) -> list[str]:
        """For people."""
        units = f"{self.quota_units:,} quota units (Drive takes {DRIVE_UNITS_A_MINUTE:,} a minute)"
        lines = [
            f"  requests   about {self.requests:,}, {self.writes:,} of them writes; {units}",
            f"  temp disk  at most {human_size(self.temp)}",
            f"  daily cap  {self._days()} of the {human_size(DRIVE_BYTES_A_DAY)} that Drive takes a day",
        ]
        if self.seconds is not None:
            lines.append(f"  time       about {human_seconds(self.seconds)}")
        else:
            lines.append("  time       give the line's rate: --at 20Mbit/s")
        if self.storage_left is not None:
            lines.append(f"  storage    {human_size(self.storage_left)} left on the account")
        return lines + [f"  limit      {said}" for said in self.limits]

    def _days(self) -> str:
        return f"{100 * self.days:.1f} %" if self.days <= 1 else plural(math.ceil(self.days), "day")


def forecast(
    parts: int,
    total: int,
    *,
    temp: int,
    writes_per_second: float,
    bytes_a_second: float | None,
    storage_left: int | None = None,
    uploads: int = 3,
) -> Forecast:
    """For ``parts`` new parts of ``total`` bytes together, ``uploads`` of them side by side."""
    size = total // parts if parts else 0
    bodies = parts * requests_of(size, bytes_a_second)
    seconds = None
    if bytes_a_second is not None:
        pace = Pace(writes_per_second, bytes_a_second, uploads)
        seconds = max(seconds_by(parts, total, pace).values(), default=0.0)
    # The claim on the folder is written again when half of its life is over.
    writes = parts + _BESIDE + int((seconds or 0.0) // (LIFE / 2)) if parts else 0
    lists = 2 * (1 + parts // _PAGE)
    looks = _LOOKS + parts // _IDS
    places = min(_PLACES, max(parts, total // _NEAR))
    requests = bodies + writes + lists + looks + places
    costs = {"write": bodies + writes, "list": lists, "read": looks, "download": places}
    units = sum(count * UNITS[kind] for kind, count in costs.items())
    days = total / DRIVE_BYTES_A_DAY
    limits = []
    if parts + _FILES_BESIDE > FOLDER_ITEMS:
        limits.append(f"a folder holds {FOLDER_ITEMS:,} items; make parts larger (--part-size)")
    if days > 1:
        limits.append("a run ends at the daily cap with exit code 75; the same command goes on the next day")
    if storage_left is not None and total > storage_left:
        missing = human_size(total - storage_left)
        limits.append(f"the account's storage would be full: {missing} more are needed; free some, or get more")
    return Forecast(parts, total, requests, writes, units, min(temp, total), seconds, days, tuple(limits), storage_left)


@dataclass(frozen=True, slots=True)
class Pace:
    """How fast a push may go: new files a second, the line in bytes a second, parts sent side by side, and the seconds
    that a request takes beyond its bytes."""

    writes_per_second: float
    bytes_a_second: float
    uploads: int = 3
    round_trip: float = 0.3


def seconds_by(parts: int, total: int, pace: Pace, *, building: float = 0.0) -> dict[str, float]:
    """Seconds that ``parts`` parts of ``total`` bytes together take by each limit alone; the largest is about what the
    push takes. ``building`` is how long the workers take to build them all.

    ``cores``: building; ``line``: the bytes; ``writes``: Drive's pace of new files; ``trips``: beginning each part and
    sending its requests, so many side by side; ``quota``: units a minute; ``day``: bytes a day.
    """
    if not parts:
        return {}
    bodies = parts * requests_of(total // parts, pace.bytes_a_second)
    writes, line = parts + _BESIDE, total / pace.bytes_a_second
    return {
        "cores": building,
        "line": line,
        "writes": writes / pace.writes_per_second,
        "trips": ((parts + bodies) * pace.round_trip + line) / pace.uploads,
        "quota": 60.0 * (bodies + writes) * UNITS["write"] / DRIVE_UNITS_A_MINUTE,
        "day": (math.ceil(total / DRIVE_BYTES_A_DAY) - 1) * _DAY,
    }


def requests_of(size: int, bytes_a_second: float | None = None) -> int:
    """Requests that carry a part of that size on a line of that rate (20 MB/s where nobody knows): the first one is
    small, and they grow to what the line carries in some seconds."""
    sizer = RequestSizer(_UNIT)
    sent = count = 0
    while sent < size:
        length = sizer.of(size - sent)
        sizer.took(length, length / (bytes_a_second or _USUAL_RATE))
        sent, count = sent + length, count + 1
    return max(1, count)
