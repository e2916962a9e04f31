"""The ``logout`` command."""

from __future__ import annotations

import os

import click

from driveshard.cli.console import put_result, tell
from driveshard.cli.flags import common, examples, manner
from driveshard.config.settings import Settings, settings_from
from driveshard.core.errors import AuthError, ConfigError, DriveshardError


@click.command(
    "logout",
    short_help="Take the login back at Google, and forget it here.",
    epilog=examples(
        """
driveshard logout
driveshard logout --profile work --client
"""
    ),
)
@click.option("--client", is_flag=True, help="Forget the OAuth client's file, too.")
@common
def command(client: bool) -> int:
    """Take the login back at Google, and delete it here; what was uploaded stays as it is."""
    settings = settings_from()
    there = settings.token_file.exists()
    account, problem = _revoke(settings) if there else (None, None)
    forgotten = [path for path in (settings.token_file, settings.kept_client_file if client else None) if path]
    for path in forgotten:
        try:
            if os.path.lexists(path):  # a disk that is read-only refuses to delete what is not there
                path.unlink(missing_ok=True)
        except OSError as error:
            raise ConfigError(
                f"{path} cannot be deleted: {error.strerror or error}", advice="Mend that, then delete it by hand."
            ) from error
    if manner.as_json:
        put_result({"logged_out": there, "revoked": there and problem is None, "account": account})
    elif not manner.quiet:
        who = f" {account}" if account else ""
        tell(f"Logged out{who}." if there else "Nobody was logged in.")
    if problem is not None:
        raise problem
    return 0


def _revoke(settings: Settings) -> tuple[str | None, DriveshardError | None]:
    """Whose login it was, and what kept Google from being told."""
    from driveshard.storage.drive.credentials import read_token
    from driveshard.storage.drive.login import log_out
    from driveshard.storage.drive.token_service import ACCESS

    try:
        found = read_token(settings.token_file)
    except AuthError:
        return None, None  # a file that is no login: there is nothing in it that Google could be told
    try:
        log_out(found, settings.clock, settings.timeout)
    except DriveshardError as error:
        said = f"the login is deleted here, but could not be taken back at Google: {error}"
        return found.account or None, type(error)(said, advice=f"Take it back at {ACCESS}.")
    return found.account or None, None
