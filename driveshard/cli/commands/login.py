"""The ``login`` command."""

from __future__ import annotations

import contextlib
import sys
from pathlib import Path

import click

from driveshard.cli.console import Manner, put_result, tell
from driveshard.cli.flags import AnyPath, common, examples, manner, option
from driveshard.config.settings import Settings, settings_from


@click.command(
    "login",
    short_help="Allow driveshard to use your Drive.",
    epilog=examples(
        """
driveshard login
driveshard login --credentials ~/Downloads/client_secret.json
driveshard login --no-browser --port 8085
"""
    ),
)
@click.option(
    "--credentials",
    type=AnyPath(),
    metavar="FILE",
    help="The OAuth client's file (default: credentials.json in the home folder).",
)
@option(
    "--scope",
    type=click.Choice(["drive.file", "drive", "drive.readonly"]),
    default="drive.file",
    show_default=True,
    help="drive.file sees only what driveshard made; drive is needed to push into a folder you made.",
)
@option(
    "--port",
    type=click.IntRange(0, 65535),
    default=0,
    metavar="P",
    help="Port on this machine for Google's answer (default: a free one).",
)
@option("--no-browser", is_flag=True, help="Print the address instead of opening it.")
@common
def command(credentials: Path | None, scope: str, port: int, no_browser: bool) -> int:
    """Allow driveshard to use your Drive, in the browser; needed once.

    On a machine without a browser: give --no-browser and --port P, run `ssh -L P:localhost:P THAT-MACHINE` where your
    browser is, and open the address there. The token is kept in the home folder, readable by you only.
    """
    return run_login(settings_from(), manner, client=credentials, scope=scope, port=port, browser=not no_browser)


def run_login(settings: Settings, manner: Manner, *, client: Path | None, scope: str, port: int, browser: bool) -> int:
    """Authorise in the browser and keep the token. Raises ConfigError, AuthError."""
    from driveshard.storage.drive.login import login

    with contextlib.redirect_stdout(sys.stderr):  # Google's library prints the address there
        kept = login(client or settings.client_file, settings.token_file, scope=scope, port=port, open_browser=browser)
    if manner.as_json:
        put_result({"token_file": str(kept), "scope": scope})
    elif not manner.quiet:
        tell(f"Logged in. The token is in {kept}, readable by you only. Now: driveshard push DIRECTORY")
    return 0
