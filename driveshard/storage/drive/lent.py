"""What a worker elsewhere sends with, for one request: a login lent for as long as an access token lives."""

from __future__ import annotations

from dataclasses import dataclass, field

from driveshard.core.clock import Clock
from driveshard.storage.drive.client import DriveClient
from driveshard.storage.drive.destination import DriveDestination
from driveshard.storage.drive.loan import DriveLoan

_LASTING = 300.0  # seconds; a request is begun at once


@dataclass(frozen=True)
class LentDrive:
    """As ``storage.base.Sender``."""

    base_url: str
    timeout: float
    token: str | None = field(repr=False)

    def open(self) -> DriveDestination:
        clock = Clock()
        credentials = DriveLoan(self.base_url, self.token).credentials
        return DriveDestination(DriveClient(self.base_url, credentials, clock, timeout=self.timeout), clock)


def lend(client: DriveClient) -> LentDrive:
    """For one request, which counts as one of ``client``'s. Raises as a request does."""
    client.count_elsewhere()
    return LentDrive(client.base_url, client.timeout, client.access_token(_LASTING))
