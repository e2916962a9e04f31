"""What ``status`` says of each Drive account: how much of the day's cap all runs of this machine have used."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from driveshard.cli.error_messages import moment
from driveshard.config.settings import Settings, push_options, read_config
from driveshard.core.errors import DriveshardError
from driveshard.core.formatting import human_seconds, human_size
from driveshard.storage.account_usage import read_usage
from driveshard.storage.rate_limits import DEFAULT_WRITES_PER_SECOND, DRIVE_BYTES_A_DAY
from driveshard.upload.ledger.reader import GOOGLE, Record

_LEAST = 256 * 1024  # bytes; with less room than this no request goes


@dataclass(frozen=True, slots=True)
class Allowed:
    """``sent`` and ``cap`` are bytes of a rolling 24 hours; ``resume_after`` is when room comes back (POSIX seconds),
    None while there is some."""

    url: str
    profile: str | None
    sent: int
    cap: int
    writes_per_second: float
    resume_after: float | None

    def as_json(self) -> dict[str, Any]:
        """As ``status --json`` has it: bytes of the last 24 hours, ``resume_after`` a POSIX time."""
        return {
            "drive": self.url,
            "profile": self.profile,
            "sent_bytes_24h": self.sent,
            "cap_bytes_24h": self.cap,
            "writes_per_second": self.writes_per_second,
            "resume_after": self.resume_after,
        }

    def line(self, now: float) -> str:
        """For people."""
        where = "Google Drive" if self.url == GOOGLE else f"Drive at {self.url.rstrip('/')}"
        who = f"{where}, profile {self.profile}" if self.profile else where
        said = f"{who}: {human_size(self.sent)} of {human_size(self.cap)} sent in 24 hours by all runs from here"
        pace = f"at most {self.writes_per_second:g} writes a second"
        if self.resume_after is None:
            return f"{said}; {pace}"
        again = f"{moment(self.resume_after)} (in {human_seconds(max(0.0, self.resume_after - now))})"
        return f"{said}; {pace}; the day's cap is reached, there is room again from {again}"


def accounts_of(records: Iterable[Record], settings: Settings, now: float) -> list[Allowed]:
    """One for each account that the records are on, by address and profile."""
    used = {one.account: one for one in read_usage(settings.account_file, now)}
    pace = _writes_per_second(settings)
    places = {(one.drive_url, one.profile or "") for one in records if one.drive_url is not None}
    found = []
    for url, profile in sorted((str(url), profile) for url, profile in places):
        use = used.get(f"drive {url} {profile}".rstrip())
        sent = use.sent if use else 0
        full = use is not None and sent + _LEAST > DRIVE_BYTES_A_DAY
        found.append(Allowed(url, profile or None, sent, DRIVE_BYTES_A_DAY, pace, use.again if use and full else None))
    return found


def _writes_per_second(settings: Settings) -> float:
    """What pushes are set to; the pace is kept by all runs together."""
    try:
        return push_options("", {}, {}, read_config(settings.home)[0], os.environ).writes_per_second
    except DriveshardError:  # a broken setting is told by those who need it
        return DEFAULT_WRITES_PER_SECOND
