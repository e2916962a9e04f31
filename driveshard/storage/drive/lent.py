"""A Drive as it is lent to a process that has no login of its own: to read, or to send one request."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

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


def lent_drive(loan: DriveLoan, settings: Any) -> DriveDestination:
    """The Drive that was lent for reading, to a process that has no login of its own."""
    client = DriveClient(
        loan.base_url, loan.credentials, settings.clock, timeout=settings.timeout, api_key=loan.api_key
    )
    client.resource_keys |= loan.resource_keys
    return DriveDestination(client, settings.clock)
