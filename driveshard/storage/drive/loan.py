"""What somebody else's process needs to read from a Drive, and no more: an access token that ends by itself, an API key
as it was given, or neither. It goes there in memory and is written down nowhere; its text, which clusters log with what
they could not run, shows nothing of it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import google.auth.credentials

from driveshard.core.errors import LoanOver

LASTING = 1800.0
"""Seconds that a token is good for at least when it is lent; Google's are good for an hour."""


@dataclass(frozen=True)
class DriveLoan:
    """Which Drive, and what to show it; ``resource_keys`` are of items that ask for one, by id."""

    base_url: str
    token: str | None = field(default=None, repr=False)
    api_key: str | None = field(default=None, repr=False)
    resource_keys: Mapping[str, str] = field(default_factory=dict, repr=False)

    @property
    def credentials(self) -> Any:
        """To sign requests with."""
        return google.auth.credentials.AnonymousCredentials() if self.token is None else LentCredentials(self.token)


class LentCredentials(google.auth.credentials.Credentials):
    """An access token that nobody here can renew."""

    def __init__(self, token: str) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.token = token

    def refresh(self, request: Any) -> None:
        """Raises LoanOver."""
        raise LoanOver("the access that was lent to a worker has ended")
