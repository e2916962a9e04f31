"""The ``whoami`` command."""

from __future__ import annotations

import os
from typing import Any

import click

from driveshard.cli.console import put, put_json
from driveshard.cli.flags import common, examples, manner
from driveshard.config.settings import Settings, settings_from


@click.command(
    "whoami",
    short_help="Name the account that is used, its right and its OAuth client.",
    epilog=examples(
        """
driveshard whoami
driveshard whoami --profile work --json
"""
    ),
)
@common
def command() -> int:
    """Name the account that pushes go to, the right that driveshard has there, and the OAuth client.

    Drive itself is asked, so this also proves that the login works.
    """
    told = who_is(settings_from())
    if manner.as_json:
        put_json(told)
        return 0
    width = max(len(key) for key in told)
    for key, value in told.items():
        if value is not None:
            put(f"{key.replace('_', ' '):<{width}}  {value}")
    return 0


def who_is(settings: Settings) -> dict[str, Any]:
    """The account and what is known of its login. Raises AuthError without one, and what Drive's answer stands for."""
    from driveshard.storage.drive.client import GOOGLE
    from driveshard.storage.drive.credentials import StoredCredentials, credentials_for
    from driveshard.storage.drive.destination import open_drive

    drive = open_drive("", settings)
    try:
        user = drive.patiently_who_am_i().get("user", {})
    finally:
        drive.close()
    login = credentials_for(settings.drive_url or GOOGLE, settings)
    stored = isinstance(login, StoredCredentials)
    scopes = [str(one).rpartition("/")[2] for one in getattr(login, "scopes", None) or []]
    return {
        "account": user.get("emailAddress"),
        "name": user.get("displayName"),
        "scope": " ".join(scopes) or None,
        "client": login.client_id if stored else None,
        "service_account": getattr(login, "service_account_email", None),
        "since": login.since.isoformat(timespec="seconds") if stored and login.since else None,
        "profile": settings.profile,
        "token_file": os.fspath(settings.token_file) if stored else None,
        "drive": settings.drive_url,
    }
