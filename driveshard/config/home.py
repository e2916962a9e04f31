"""Where driveshard keeps its own things. Light, since the help says it, too."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import platformdirs

from driveshard.core.errors import ConfigError
from driveshard.core.paths import path_of

CONFIG_FILE = "config.toml"


def home_folder(environment: Mapping[str, str]) -> Path:
    """Where config, token, ledgers and cache are kept. Raises ConfigError when nobody knows."""
    home = environment.get("DRIVESHARD_HOME")
    if home:
        return path_of(home).absolute()
    try:
        return Path(platformdirs.user_data_dir("driveshard", appauthor=False))
    except (RuntimeError, KeyError) as error:
        raise ConfigError(
            "this user has no home folder: neither HOME nor the system names one",
            advice="Name a folder for driveshard's own files in DRIVESHARD_HOME.",
        ) from error
