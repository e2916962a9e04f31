"""Who we are on Drive: the desktop login, its token file, service accounts, and what to say when any of them fails.

The scope is ``drive.file`` (files this app made) unless more is asked for. The token file is written whole or not at
all, readable by its owner only. Google's default console state "Testing" lets a login die after 7 days, and a login
dies when it was unused for six months, so every failure says how to log in again.
"""

from __future__ import annotations

import contextlib
import datetime
import json
import logging
import os
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import google.auth.credentials
import google.auth.exceptions
from filelock import FileLock
from google.oauth2 import credentials as oauth2
from google.oauth2 import service_account

from driveshard.core.errors import AuthError, ConfigError
from driveshard.core.files import write_whole
from driveshard.core.formatting import error_text, plural, shown
from driveshard.core.urls import is_loopback

SCOPES = {
    "drive.file": "https://www.googleapis.com/auth/drive.file",
    "drive": "https://www.googleapis.com/auth/drive",
    "drive.readonly": "https://www.googleapis.com/auth/drive.readonly",
}
TESTING_DAYS = 7  # how long a login lasts while its app is in the console's state "Testing"
PUBLISH = "press Publish app at https://console.cloud.google.com/auth/audience."
_LOCK_WAITS = 20.0  # seconds
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
    """A login that writes its token file again whenever it is refreshed: by one thread of one process at a time, the
    others take what it got. ``since`` is when somebody logged in, None when that is not known."""

    store: Path | None = None
    since: datetime.datetime | None = None
    _refreshing = threading.Lock()

    def begun(self, since: datetime.datetime | None) -> StoredCredentials:
        """Itself, with the time at which somebody logged in."""
        self.since = since
        return self

    def named(self, account: str) -> None:
        """Whose login it is, an e-mail address."""
        self._account = account

    def refresh(self, request: Any) -> None:
        """As google-auth's; raises what it raises, and AuthError with advice when the login is over."""
        stale = self.token
        with self._refreshing:
            if self.token != stale:
                return  # another thread was quicker
            with self._alone():
                if self._renewed_elsewhere(stale):
                    return
                self._ask(request)
                self._keep()

    def _ask(self, request: Any) -> None:
        try:
            super().refresh(request)  # type: ignore[no-untyped-call]
        except google.auth.exceptions.RefreshError as error:
            if error.retryable:
                raise
            raise over(self, error) from error

    @contextlib.contextmanager
    def _alone(self) -> Iterator[None]:
        """Keep other processes from renewing the same login. A home that cannot be written is no reason to stop."""
        lock = FileLock(f"{self.store}.lock", timeout=_LOCK_WAITS, mode=0o600) if self.store else None
        try:
            if lock:
                lock.acquire()
        except (OSError, NotImplementedError):  # its Timeout is an OSError, too
            lock = None
        try:
            yield
        finally:
            if lock:
                lock.release()

    def _renewed_elsewhere(self, stale: str | None) -> bool:
        """Take over what another process wrote meanwhile."""
        if self.store is None or not self.store.exists():
            return False
        try:
            other = read_token(self.store)
        except AuthError:
            return False
        if other.token in (None, stale) or not other.valid or other.client_id != self.client_id:
            return False
        self.token, self.expiry, self._refresh_token = other.token, other.expiry, other.refresh_token
        return True

    def _keep(self) -> None:
        if self.store is None:
            return
        try:
            write_token(self.store, self)
        except OSError as error:  # it is good for this run, and the refresh token is the same as before
            log.warning("the token file %s cannot be written (%s)", self.store, error.strerror or error)


def over(login: StoredCredentials, error: BaseException) -> AuthError:
    """The error for a login that Google does not renew any more; says whose it is and, where the time fits, why."""
    answer = error.args[1] if len(error.args) > 1 and isinstance(error.args[1], dict) else {}
    said = shown(str(answer.get("error_description") or (error.args[0] if error.args else "")))[:200]
    whose = f" of {login.account}" if login.account else ""
    advice = f"Run `driveshard login`. If logins end after {TESTING_DAYS} days, your app is in Testing: {PUBLISH}"
    if login.since is not None:
        days = (datetime.datetime.now(datetime.UTC) - login.since).days
        advice = f"It began {plural(days, 'day')} ago. {advice}"
        if 0 <= days < TESTING_DAYS - 1:
            why = "it was taken back, the password was changed, or an administrator lets logins end sooner"
            advice = f"Run `driveshard login`. It is too young to have ended by itself: {why}."
    return AuthError(f"the login{whose} is no longer valid ({said})", advice=advice)


def naive_utc(when: float) -> datetime.datetime:
    """POSIX seconds as google-auth compares them."""
    return datetime.datetime.fromtimestamp(when, datetime.UTC).replace(tzinfo=None)


def credentials_for(base_url: str, settings: Any) -> Any:
    """The credentials to use with ``base_url``. A loopback address is never sent real ones: only a login that this very
    address gave, else the emulator's own.

    Raises AuthError when nobody is logged in and ``settings.anonymous`` does not allow to go on without.
    """
    if is_loopback(base_url):
        return _login_of(base_url, settings.token_file) or EmulatorCredentials()
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


def _login_of(base_url: str, token_file: Path) -> StoredCredentials | None:
    """The stored login, if that Drive on this machine gave it."""
    if not token_file.is_file():
        return None
    try:
        found = read_token(token_file)
    except AuthError:  # a real one perhaps, and none of an emulator's business
        return None
    return found if urlsplit(found.token_uri).netloc == urlsplit(base_url).netloc else None


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
        found = StoredCredentials(  # type: ignore[no-untyped-call]
            token=stored.get("token"),
            refresh_token=stored["refresh_token"],
            token_uri=stored["token_uri"],
            client_id=stored["client_id"],
            client_secret=stored["client_secret"],
            scopes=stored.get("scopes"),
            expiry=_moment(stored.get("expiry"), naive=True),  # google-auth compares with naive UTC
            account=str(stored.get("account") or ""),
        ).begun(_moment(stored.get("since")))
        for name in ("refresh_token", "token_uri", "client_id", "client_secret"):
            if not isinstance(stored[name], str) or not stored[name]:
                raise ValueError(f"{name} is not a text")
        urlsplit(found.token_uri)
    except OSError as error:
        raise AuthError(f"the token file {path} cannot be read ({error.strerror or error})") from error
    except json.JSONDecodeError as error:
        raise AuthError(f"the token file {path} cannot be used: it is empty, cut short or damaged") from error
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise AuthError(f"the token file {path} cannot be used ({error_text(error)})") from error
    found.store = path
    return found


def _moment(text: str | None, *, naive: bool = False) -> datetime.datetime | None:
    if not text:
        return None
    found = datetime.datetime.fromisoformat(text.removesuffix("Z")).replace(tzinfo=None)
    return found if naive else found.replace(tzinfo=datetime.UTC)


def write_token(path: Path, credentials: StoredCredentials) -> None:
    """Write the login, mode 0600, whole or not at all. Raises OSError."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    document = json.loads(credentials.to_json())  # type: ignore[no-untyped-call]
    if credentials.since:
        document["since"] = credentials.since.replace(tzinfo=None).isoformat(timespec="seconds") + "Z"
    write_whole(path, json.dumps(document).encode())
