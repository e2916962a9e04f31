"""What can be set, and where it comes from: defaults < config file < job file < environment < flags."""

from __future__ import annotations

import os
import re
import tempfile
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from driveshard.config.home import CONFIG_FILE, home_folder
from driveshard.config.options import (
    MIB,
    PUSH,
    RUN,
    SETTINGS,
    Option,
    PushOptions,
    RunOptions,
    in_file,
    read_environment,
    read_values,
)
from driveshard.core.clock import Clock
from driveshard.core.errors import ConfigError
from driveshard.storage.rate_limits import Bandwidth
from driveshard.storage.retry import Patience

__all__ = [
    "MIB",
    "PushOptions",
    "RunOptions",
    "Settings",
    "config_file",
    "home_folder",
    "only",
    "push_options",
    "read_config",
    "read_settings",
    "read_toml",
    "require_home",
    "run_options",
    "settings_from",
]


@dataclass
class Settings:
    """The surroundings of a run: where things are kept and which Drive is talked to."""

    home: Path
    drive_url: str | None = None
    clock: Clock = field(default_factory=Clock)
    patience: Patience = field(default_factory=Patience)
    bandwidth: Bandwidth = field(default_factory=Bandwidth)
    timeout: float = 60.0
    list_lag: float = 15.0
    credentials: Path | None = None
    service_account: Path | None = None
    subject: str | None = None
    api_key: str | None = None
    profile: str | None = None
    anonymous: bool = False
    site_url: str | None = None  # of the site for visitors without a login; None: Google's

    @property
    def token_file(self) -> Path:
        return self.home / f"token{self._suffix}.json"

    @property
    def client_file(self) -> Path:
        """The OAuth client's file: the one that is named, the profile's own, or the one for all profiles."""
        kept = self.kept_client_file
        return self.credentials or (kept if kept.exists() else self.home / "credentials.json")

    @property
    def kept_client_file(self) -> Path:
        """Where ``login`` keeps the file that it was given."""
        return self.home / f"credentials{self._suffix}.json"

    @property
    def _suffix(self) -> str:
        return f"-{self.profile}" if self.profile else ""

    @property
    def ledgers(self) -> Path:
        return self.home / "ledgers"

    @property
    def account_file(self) -> Path:
        return self.home / "account.sqlite"

    @property
    def anchors(self) -> Path:
        return self.home / "folders"

    @property
    def spools(self) -> Path:
        return self.home / "spool"


def settings_from(environment: Mapping[str, str] | None = None) -> Settings:
    """The settings alone, as ``read_settings`` finds them."""
    return read_settings(environment)[0]


def read_settings(environment: Mapping[str, str] | None = None) -> tuple[Settings, dict[str, Any]]:
    """Settings from the config file and, over it, ``DRIVESHARD_*`` variables; and the push options that stand in the
    config file, by field name. The home folder is the platform's own unless DRIVESHARD_HOME is set. Raises ConfigError.
    """
    given = os.environ if environment is None else environment
    home = home_folder(given)
    url = _address(given.get("DRIVESHARD_DRIVE_URL") or None)
    pushing, values = read_config(home)
    values |= read_environment(given, SETTINGS)
    patience = Patience()
    if "retries" in values:
        patience = replace(patience, attempts=values.pop("retries"))
    if "throttle_patience" in values:
        patience = replace(patience, throttled=values.pop("throttle_patience"))
    site = given.get("DRIVESHARD_SITE_URL") or None
    return Settings(home, _based(url), patience=patience, site_url=_based(site), **values), pushing


def _based(url: str | None) -> str | None:
    """An address that others can be built on."""
    return url if url is None or url.endswith("/") else url + "/"


def _address(url: str | None) -> str | None:
    """The Drive's base URL, if it is one. Raises ConfigError that says what was probably meant."""
    if url is None:
        return None
    try:
        parts = urlsplit(url)
        if parts.scheme in ("http", "https") and parts.hostname and not parts.query:
            return url
    except ValueError:
        parts = urlsplit("")
    bare = "//" not in url and re.match(r"(localhost|[\w.-]+\.[\w-]+|\[[\da-f:.]+\])(:\d+)?(/|$)", url, re.IGNORECASE)
    meant = f"Did you mean http://{url}?" if bare else "It looks like http://127.0.0.1:8080."
    raise ConfigError(f"DRIVESHARD_DRIVE_URL: {url!r} is not the address of a Drive", advice=meant)


def require_home(home: Path) -> None:
    """Make the home folder. Raises ConfigError when it cannot be, or cannot be written."""
    try:
        home.mkdir(mode=0o700, parents=True, exist_ok=True)
        why = ""
        if not os.access(home, os.W_OK):
            with tempfile.TemporaryFile(dir=home):  # which says why not: its rights, or a disk that is read-only
                pass
    except OSError as error:
        why = error.strerror or str(error)
    if why:
        raise ConfigError(
            f"the home folder {home} cannot be written: {why}", advice="Name another one in DRIVESHARD_HOME."
        )


def config_file(home: Path) -> Path:
    """Where the config file is, if there is one."""
    return home / CONFIG_FILE


def read_config(home: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """(push options, settings) of ``config.toml`` in the home folder, empty without one. Raises ConfigError."""
    path = config_file(home)
    document = read_toml(path) if path.exists() else {}
    found = read_values(document, (*PUSH, *SETTINGS, *RUN), in_file(path))
    return only(PUSH, found), only(SETTINGS, found)


def only(table: Iterable[Option], values: Mapping[str, Any]) -> dict[str, Any]:
    """Those values that are of the table."""
    fields = {option.field for option in table}
    return {field: value for field, value in values.items() if field in fields}


def run_options(
    flags: Mapping[str, Any], job: Mapping[str, Any], home: Path, environment: Mapping[str, str]
) -> RunOptions:
    """How a run is watched, from all five places. Raises ConfigError."""
    path = config_file(home)
    document = read_toml(path) if path.exists() else {}
    config = only(RUN, read_values(document, (*PUSH, *SETTINGS, *RUN), in_file(path)))
    return RunOptions(**(config | dict(job) | read_environment(environment, RUN) | dict(flags)))


def read_toml(path: Path) -> dict[str, Any]:
    """Raises ConfigError that says where the file is broken."""
    try:
        return tomllib.loads(path.read_bytes().decode("utf-8"))
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror or error}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} is not a TOML file: {error}") from error


def push_options(
    source: str,
    flags: Mapping[str, Any],
    job: Mapping[str, Any],
    config: Mapping[str, Any],
    environment: Mapping[str, str],
) -> PushOptions:
    """The options of one push from all five places. ``flags``, ``job`` and ``config`` are parsed, by field name; a
    source that is given with its own include or exclude has them in ``job``. Raises ConfigError."""
    return PushOptions(source, **(dict(config) | dict(job) | read_environment(environment, PUSH) | dict(flags)))
