"""A login lent to another machine for as long as an access token lives, which is an hour at most: enough to put bytes
into a session that was begun here, and nothing to keep. It is never written down, and never shown."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import google.auth.credentials

from driveshard.core.clock import Clock
from driveshard.core.errors import Unavailable
from driveshard.storage.drive.client import DriveClient
from driveshard.storage.drive.destination import DriveDestination


class LentCredentials(google.auth.credentials.Credentials):
    """Signs requests with what was lent."""

    def __init__(self, headers: Mapping[str, str]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._headers = dict(headers)

    def before_request(self, request: Any, method: str, url: str, headers: dict[str, str]) -> None:
        headers.update(self._headers)

    def refresh(self, request: Any) -> None:
        """Only who lent it can: the next request is made with a fresh one."""
        raise Unavailable("the login that was lent to a worker is over")


@dataclass(frozen=True)
class LentDrive:
    """As ``storage.base.Sender``; ``headers`` sign a request."""

    base_url: str
    timeout: float
    headers: tuple[tuple[str, str], ...] = field(repr=False)

    def open(self) -> DriveDestination:
        clock = Clock()
        client = DriveClient(self.base_url, LentCredentials(dict(self.headers)), clock, timeout=self.timeout)
        return DriveDestination(client, clock)


def lend(client: DriveClient) -> LentDrive:
    """For one request, which counts as one of ``client``'s. Raises as a request does."""
    return LentDrive(client.base_url, client.timeout, tuple(client.signed().items()))
