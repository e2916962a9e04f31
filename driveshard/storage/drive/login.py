"""Logging in, in the browser."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import google.auth.credentials
import google.auth.exceptions

from driveshard.core.errors import AuthError, ConfigError, UsageError
from driveshard.storage.drive.credentials import SCOPES, write_token


def read_client(path: Path) -> dict[str, Any]:
    """The OAuth client's file. Raises ConfigError that says what is wrong with it."""
    how = "Make one at https://console.cloud.google.com/apis/credentials (OAuth client ID, type Desktop app)."
    try:
        client = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ConfigError(f"there is no OAuth client file at {path}", advice=how) from None
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror or error}", advice=how) from error
    except ValueError as error:
        raise ConfigError(f"{path} is not a JSON file ({error})", advice=how) from error
    if isinstance(client, dict) and "web" in client:
        raise ConfigError(f"{path} is of type Web application", advice=how)
    if isinstance(client, dict) and client.get("type") == "service_account":
        raise ConfigError(
            f"{path} is a service account's key", advice="Set DRIVESHARD_SERVICE_ACCOUNT to its path instead."
        )
    installed = client.get("installed") if isinstance(client, dict) else None
    needed = ("client_id", "client_secret", "auth_uri", "token_uri")
    if not isinstance(installed, dict) or any(not isinstance(installed.get(key), str) for key in needed):
        raise ConfigError(f"{path} is not a desktop OAuth client's file", advice=how)
    if "replace-me" in installed["client_id"]:
        raise ConfigError(f"{path} is the example, not your own client", advice=how)
    return dict(client)


def login(client_file: Path, token_file: Path, *, scope: str, port: int, open_browser: bool) -> Path:
    """Authorise in a browser on this machine; returns the token file written. Raises ConfigError, AuthError."""
    from google_auth_oauthlib.flow import InstalledAppFlow
    from oauthlib.oauth2.rfc6749.errors import OAuth2Error

    if scope not in SCOPES:
        raise UsageError(f"{scope!r} is not a scope", advice=f"Give one of {', '.join(SCOPES)}.")
    flow = InstalledAppFlow.from_client_config(read_client(client_file), scopes=[SCOPES[scope]])
    try:
        granted = flow.run_local_server(
            host="localhost",
            port=port,
            open_browser=open_browser,
            timeout_seconds=300,
            authorization_prompt_message="Open this address to allow driveshard to use your Drive:\n{url}",
            success_message="driveshard may use your Drive now. You can close this page.",
        )
    except (OAuth2Error, google.auth.exceptions.GoogleAuthError) as error:
        raise AuthError(f"Google did not grant the login ({error})", advice="Run `driveshard login` again.") from error
    except (OSError, AttributeError) as error:  # AttributeError: the library's way to say that nobody answered in time
        raise AuthError(f"the login was not completed ({error})", advice="Run `driveshard login` again.") from error
    write_token(token_file, granted)
    return token_file
