"""The ``login`` command."""

from __future__ import annotations

import contextlib
import sys
from pathlib import Path

from driveshard.config import Settings
from driveshard.console import Manner, put_result, tell


def run_login(settings: Settings, manner: Manner, *, client: Path | None, scope: str, port: int, browser: bool) -> int:
    """Authorise in the browser and keep the token. Raises ConfigError, AuthError."""
    from driveshard.drive.auth import login

    with contextlib.redirect_stdout(sys.stderr):  # Google's library prints the address there
        kept = login(client or settings.client_file, settings.token_file, scope=scope, port=port, open_browser=browser)
    if manner.as_json:
        put_result({"token_file": str(kept), "scope": scope})
    elif not manner.quiet:
        tell(f"Logged in. The token is in {kept}, readable by you only. Now: driveshard push DIRECTORY")
    return 0
