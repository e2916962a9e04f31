"""What can be set, and where it comes from: defaults < config file < job file < environment < flags."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import platformdirs

from driveshard.clock import Clock
from driveshard.pacing import DEFAULT_WRITES_PER_SECOND
from driveshard.retry import Patience

MIB = 1024 * 1024


@dataclass
class Settings:
    """The surroundings of a run: where things are kept and which Drive is talked to."""

    home: Path
    drive_url: str | None = None
    clock: Clock = field(default_factory=Clock)
    patience: Patience = field(default_factory=Patience)
    timeout: float = 60.0
    credentials: Path | None = None
    service_account: Path | None = None
    subject: str | None = None
    api_key: str | None = None
    anonymous: bool = False

    @property
    def token_file(self) -> Path:
        return self.home / "token.json"

    @property
    def client_file(self) -> Path:
        return self.credentials or self.home / "credentials.json"

    @property
    def ledgers(self) -> Path:
        return self.home / "ledgers"

    @property
    def spools(self) -> Path:
        return self.home / "spool"


@dataclass
class PushOptions:
    """Options of ``push``, as in its help. Sizes in bytes."""

    source: str
    to: str = "drive:"
    name: str | None = None
    part_size: int = 512 * MIB
    part_samples: int | None = None
    temp: Path | None = None
    temp_limit: int | None = None
    workers: int | None = None
    uploads: int = 3
    share: str | None = None
    include: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    bwlimit: str | None = None
    max_transfer: int | None = None
    writes_per_second: float = DEFAULT_WRITES_PER_SECOND
    engine: str = "processes"
    dry_run: bool = False
    wait: bool = False


def settings_from(environment: Mapping[str, str] | None = None) -> Settings:
    """Settings from ``DRIVESHARD_*`` variables; the home folder is the platform's own unless DRIVESHARD_HOME is set."""
    given = os.environ if environment is None else environment
    home = given.get("DRIVESHARD_HOME")
    url = given.get("DRIVESHARD_DRIVE_URL") or None
    return Settings(
        home=Path(home) if home else Path(platformdirs.user_data_dir("driveshard", appauthor=False)),
        drive_url=url if url is None or url.endswith("/") else url + "/",
    )
