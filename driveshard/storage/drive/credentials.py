"""Who we are on Drive: the desktop login, its token file, service accounts, and what to say when any of them fails.

The scope is ``drive.file`` (files this app made) unless more is asked for. The token file is written whole or not at
all, readable by its owner only. Google's default console state "Testing" lets a login die after 7 days, and a login
dies when it was unused for six months, so every failure says how to log in again.
"""

from __future__ import annotations

import datetime
import json
import logging
import os
import sys
import threading
from pathlib import Path
from typing import Any

import google.auth.credentials
import google.auth.exceptions
from google.oauth2 import credentials as oauth2
from google.oauth2 import service_account

from driveshard.core.errors import AuthError, ConfigError
from driveshard.core.files import write_whole
from driveshard.core.urls import is_loopback

SCOPES = {
    "drive.file": "https://www.googleapis.com/auth/drive.file",
    "drive": "https://www.googleapis.com/auth/drive",
    "drive.readonly": "https://www.googleapis.com/auth/drive.readonly",
}
log = logging.getLogger("driveshard.auth")

EMULATOR_TOKEN = "emulator"  # noqa: S105 - the emulator's fixed, public token


class EmulatorCredentials(google.auth.credentials.Credentials):
    """The fixed token of an emulator on this machine. Refreshing gives the same one, so that a reply of 401 is met
    with one more try, as a real login would."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.token = EMULATOR_TOKEN

    def refresh(self, request: Any) -> None:
        self.token = EMULATOR_TOKEN


class StoredCredentials(oauth2.Credentials):
    """A login that writes its token file again whenever it is refreshed, by one thread at a time."""

    store: Path | None = None
    _refreshing = threading.Lock()

    def refresh(self, request: Any) -> None:
        """As google-auth's. One thread asks Google, the others take what it got; raises what google-auth raises."""
        stale = self.token
        with self._refreshing:
            if self.token != stale:
                return  # another thread was quicker
            super().refresh(request)  # type: ignore[no-untyped-call]
            if self.store is not None:
                try:
                    write_token(self.store, self)
                except OSError as error:  # it is good for this run, and the refresh token is the same as before
                    log.warning("the token file %s cannot be written (%s)", self.store, error.strerror or error)


def credentials_for(base_url: str, settings: Any) -> Any:
    """The credentials to use with ``base_url``. A loopback address is never sent real ones.

    Raises AuthError when nobody is logged in and ``settings.anonymous`` does not allow to go on without.
    """
    if is_loopback(base_url):
        return EmulatorCredentials()
    if settings.drive_url:
        raise ConfigError(
            "DRIVESHARD_DRIVE_URL names an address that is not on this machine",
            advice="Real credentials go to Google only. Unset it, or give a http://127.0.0.1:PORT address.",
        )
    if settings.service_account:
        return _service_account(settings.service_account, settings.subject)
    token_file: Path = settings.token_file
    if token_file.exists():
        return read_token(token_file)
    if settings.anonymous:
        return google.auth.credentials.AnonymousCredentials()
    raise AuthError("nobody is logged in to Google Drive")


def api_key_for(credentials: Any, settings: Any) -> str | None:
    """The API key, for reading what is shared without a login."""
    anonymous = isinstance(credentials, google.auth.credentials.AnonymousCredentials)
    return settings.api_key if anonymous else None


def nobody() -> Any:
    """The credentials of a stranger."""
    return google.auth.credentials.AnonymousCredentials()


def colab_login() -> Any:
    """The login of the notebook that this runs in; None outside of Colab, and while nobody has allowed it there
    (``google.colab.auth.authenticate_user()``)."""
    if "google.colab" not in sys.modules and "COLAB_RELEASE_TAG" not in os.environ:
        return None
    import google.auth

    try:
        return google.auth.default(scopes=[SCOPES["drive.readonly"]])[0]
    except google.auth.exceptions.GoogleAuthError:
        return None


def _service_account(path: Path, subject: str | None) -> Any:
    try:
        found = service_account.Credentials.from_service_account_file(str(path), scopes=[SCOPES["drive"]])
    except (OSError, ValueError) as error:
        raise ConfigError(f"{path} is not a service account's key file ({error})") from error
    return found.with_subject(subject) if subject else found


def read_token(path: Path) -> StoredCredentials:
    """The stored login. Raises AuthError when the file is damaged."""
    try:
        stored = json.loads(path.read_text(encoding="utf-8"))
        expiry = stored.get("expiry")
        found = StoredCredentials(  # type: ignore[no-untyped-call]
            token=stored.get("token"),
            refresh_token=stored["refresh_token"],
            token_uri=stored["token_uri"],
            client_id=stored["client_id"],
            client_secret=stored["client_secret"],
            scopes=stored.get("scopes"),
            # google-auth compares with naive UTC
            expiry=datetime.datetime.fromisoformat(expiry.removesuffix("Z")).replace(tzinfo=None) if expiry else None,
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise AuthError(f"the token file {path} cannot be used ({type(error).__name__}: {error})") from error
    found.store = path
    return found


def write_token(path: Path, credentials: oauth2.Credentials) -> None:
    """Write the login, mode 0600, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, credentials.to_json().encode())
