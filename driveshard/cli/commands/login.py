"""The ``login`` command."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import click

from driveshard.cli.console import Manner, put_result, tell, tell_event
from driveshard.cli.flags import AnyPath, common, examples, manner, option
from driveshard.config.settings import Settings, require_home, settings_from
from driveshard.core.errors import ConfigError

if TYPE_CHECKING:
    from driveshard.storage.drive.credentials import StoredCredentials

_HELP = """Allow driveshard to use your Drive; needed once for each account.

    \b
    You need an OAuth client of your own; it is free and takes five minutes:
      1. https://console.cloud.google.com/projectcreate: make a project.
      2. https://console.cloud.google.com/apis/library/drive.googleapis.com: press Enable.
      3. https://console.cloud.google.com/auth/audience: choose External and press
         Publish app. While it is in Testing, every login ends after 7 days.
      4. https://console.cloud.google.com/apis/credentials: Create credentials,
         OAuth client ID, type Desktop app; download its JSON.
      5. driveshard login --credentials THAT-FILE. It is kept, so that later a plain
         `driveshard login` is enough.

    \b
    On a machine without a browser, one of these:
      driveshard login --no-browser --port 8085   and, where your browser is,
         ssh -N -L 8085:127.0.0.1:8085 THAT-MACHINE; then open the printed address there.
      driveshard login --device                   type a code on a phone (drive.file only).
      Log in elsewhere and copy token.json into the home folder (`driveshard config`
         names it); then chmod 600 it.

    The right that is asked for, drive.file, covers only what driveshard itself makes. To push into a folder that you
    made by hand, Drive needs --scope drive: with drive.file it answers that there is no such folder. Service accounts
    need no login: set DRIVESHARD_SERVICE_ACCOUNT. They own no storage, so they can write to a shared drive, or for a
    person (DRIVESHARD_SUBJECT), and nowhere else.
    """


@click.command(
    "login",
    short_help="Allow driveshard to use your Drive.",
    help=_HELP,
    epilog=examples(
        """
driveshard login --credentials ~/Downloads/client_secret.json
driveshard login
driveshard login --profile work --scope drive
driveshard login --no-browser --port 8085
driveshard login --device
"""
    ),
)
@click.option("--credentials", type=AnyPath(), metavar="FILE", help="The OAuth client's file; given once, it is kept.")
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
@option("--no-browser", is_flag=True, help="Open no browser: print the address, and how to open it elsewhere.")
@option("--device", is_flag=True, help="Print a code to be typed on any other device.")
@click.option(
    "--patience",
    type=click.FloatRange(0, 86_400, min_open=True),
    default=300,
    show_default=True,
    metavar="SECONDS",
    help="How long to wait for your answer.",
)
@common
def command(credentials: Path | None, scope: str, port: int, no_browser: bool, device: bool, patience: float) -> int:
    from driveshard.storage.drive.login import Login
    from driveshard.storage.drive.oauth_client import read_client

    settings = settings_from()
    client = read_client(credentials or settings.client_file)
    require_home(settings.home)
    way = Login(client, settings.clock, _say, settings.timeout, patience)
    if device:
        found = way.on_device(scope)
    else:
        found = way.in_browser(scope, port=port, browser=not no_browser and has_browser(os.environ))
    return _keep(found, settings, manner, credentials, scope)


def _keep(found: StoredCredentials, settings: Settings, manner: Manner, given: Path | None, scope: str) -> int:
    """Write the login, and the client's file that was given, and say so."""
    from driveshard.storage.drive.credentials import write_token
    from driveshard.storage.drive.oauth_client import keep_client

    try:
        write_token(settings.token_file, found)
    except OSError as error:
        raise ConfigError(
            f"{settings.token_file} cannot be written: {error.strerror or error}",
            advice="Mend that, or name another folder in DRIVESHARD_HOME, and log in again.",
        ) from error
    if given is not None:
        keep_client(given, settings.kept_client_file)
    if manner.as_json:
        account = found.account or None
        put_result(
            {"token_file": str(settings.token_file), "scope": scope, "account": account, "profile": settings.profile}
        )
    elif not manner.quiet:
        who = f" as {found.account}" if found.account else ""
        tell(f"Logged in{who}. The token is in {settings.token_file}, readable by you only.")
        tell("Now: driveshard pull LINK DIRECTORY" if scope == "drive.readonly" else "Now: driveshard push DIRECTORY")
    return 0


def has_browser(environment: Mapping[str, str]) -> bool:
    """Whether a browser that opens here would be seen by whoever typed the command."""
    if environment.get("BROWSER"):
        return True
    if sys.platform == "win32" or sys.platform == "darwin":
        return not environment.get("SSH_CONNECTION")
    return bool(environment.get("DISPLAY") or environment.get("WAYLAND_DISPLAY"))


def _say(text: str) -> None:
    """Said also with --quiet: without the address nobody could log in."""
    if manner.log_format == "json":
        tell_event("Login", {"text": text})
    else:
        tell(text)
