"""The OAuth client: the file that Google's console gives for an application, read with care and kept for later."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urljoin, urlsplit

from driveshard.core.errors import ConfigError
from driveshard.core.files import write_whole
from driveshard.core.urls import is_loopback

HOW = (
    "Make one at https://console.cloud.google.com/apis/credentials (Create credentials, OAuth client ID, type Desktop"
    " app), download its JSON and name it once: driveshard login --credentials FILE."
)
_GOOGLE = "https://oauth2.googleapis.com/"


@dataclass(frozen=True, slots=True)
class OAuthClient:
    """A desktop application as Google knows it. ``secret`` is one in name only, and still shown to nobody."""

    client_id: str
    secret: str
    auth_uri: str
    token_uri: str

    @property
    def base(self) -> str:
        """Where the login service's other addresses begin: Google's own, or this machine's for an emulator."""
        return urljoin(self.token_uri, "/") if is_loopback(self.token_uri) else _GOOGLE

    def __repr__(self) -> str:
        return f"OAuthClient({self.client_id!r})"


def parse_client(document: Any, where: str) -> OAuthClient:
    """The client in the JSON of the file ``where``. Raises ConfigError that says what it is instead."""
    if not isinstance(document, dict):
        raise ConfigError(f"{where} is not a desktop OAuth client's file", advice=HOW)
    if document.get("type") == "service_account":
        raise ConfigError(
            f"{where} is a service account's key",
            advice="It needs no login: set DRIVESHARD_SERVICE_ACCOUNT to its path. For a login of your own: " + HOW,
        )
    if "web" in document:
        raise ConfigError(f"{where} is an OAuth client of type Web application", advice=HOW)
    if "refresh_token" in document:
        raise ConfigError(f"{where} is a stored login, not an OAuth client's file", advice=HOW)
    installed = document.get("installed")
    needed = ("client_id", "client_secret", "auth_uri", "token_uri")
    if not isinstance(installed, dict) or any(not _word(installed.get(key)) for key in needed):
        raise ConfigError(f"{where} is not a desktop OAuth client's file", advice=HOW)
    if "replace-me" in installed["client_id"]:
        raise ConfigError(f"{where} is the example, not your own client", advice=HOW)
    for key in ("auth_uri", "token_uri"):
        if not _safe(installed[key]):
            raise ConfigError(f"{where}: {key} is not an https address; a login is sent nowhere else", advice=HOW)
    return OAuthClient(*(installed[key] for key in needed))


def _word(value: Any) -> bool:
    return isinstance(value, str) and bool(value) and value.isprintable()


def _safe(url: str) -> bool:
    try:
        return (urlsplit(url).scheme == "https" and bool(urlsplit(url).hostname)) or is_loopback(url)
    except ValueError:
        return False


def read_client(path: Path) -> OAuthClient:
    """The OAuth client in a file. Raises ConfigError that says what is wrong with it."""
    return parse_client(_load(path), str(path))


def keep_client(given: Path, kept: Path) -> None:
    """Copy the client's file to where a later login finds it by itself, readable by its owner only. Raises
    ConfigError when it cannot be written."""
    if given.resolve() == kept.resolve():
        return
    document = _load(given)
    try:
        kept.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        write_whole(kept, json.dumps({"installed": document["installed"]}, indent=2).encode())
    except OSError as error:
        raise ConfigError(f"{kept} cannot be written: {error.strerror or error}") from error


def _load(path: Path) -> Any:
    try:
        if os.path.getsize(path) > 1 << 20:
            raise ConfigError(f"{path} is not a desktop OAuth client's file: it is far too large", advice=HOW)
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ConfigError(f"there is no OAuth client file at {path}", advice=HOW) from None
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror or error}", advice=HOW) from error
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"{path} is not a JSON file ({error})", advice=HOW) from error
