"""Which way a folder on Drive is read, and why: an API key if one is given; else a login that sees the folder; else,
in a notebook on Colab, the notebook's own login; else none, as any visitor with the link reads it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from driveshard.config.settings import Settings
from driveshard.core.errors import AuthError, NotFound, Refused
from driveshard.core.events import Emit
from driveshard.core.urls import is_loopback
from driveshard.dataset.shelf import FolderShelf, Shelf, SiteShelf
from driveshard.storage.drive.client import GOOGLE
from driveshard.storage.drive.credentials import colab_login, credentials_for, nobody
from driveshard.storage.drive.destination import drive_with
from driveshard.storage.drive.links import Link
from driveshard.storage.drive.site import ASK, Site
from driveshard.storage.retry import Retry
from driveshard.upload.ledger.reader import find_records


def shelf_on_drive(link: Link, settings: Settings, emit: Emit) -> Shelf:
    """The folder, by the first way that shows it. Raises AuthError or NotFound when none does."""
    retry = Retry(settings.clock, settings.patience, emit)
    if settings.api_key:
        return _by_key(link, settings, retry)
    why = "nobody is logged in"
    for credentials, words in _logins(link, settings):
        shelf = _by_login(link, credentials, settings, retry)
        try:
            shelf.look()
        except (NotFound, AuthError, Refused) as error:
            shelf.close()
            why = f"{words} does not show this folder ({error})"
            continue
        except BaseException:
            shelf.close()
            raise
        shelf.way = f"reading with {words}, which shows the folder"
        return shelf
    return _by_site(link, settings, retry, f"reading without a login, one file at a time: {why}")


def _by_key(link: Link, settings: Settings, retry: Retry) -> Shelf:
    destination = drive_with(nobody(), settings, api_key=settings.api_key)
    destination.show_key(link.id, link.resource_key)
    shelf = FolderShelf(destination, link.id, retry)
    shelf.way = "reading with the API key that was given"
    try:
        shelf.look()
    except NotFound as error:
        shelf.close()
        raise NotFound(
            "there is no folder at this link, or it is not shared with anyone who has the link", advice=ASK
        ) from error
    except BaseException:
        shelf.close()
        raise
    return shelf


def _by_login(link: Link, credentials: Any, settings: Settings, retry: Retry) -> FolderShelf:
    destination = drive_with(credentials, settings)
    destination.show_key(link.id, link.resource_key)
    return FolderShelf(destination, link.id, retry)


def _logins(link: Link, settings: Settings) -> Iterator[tuple[Any, str]]:
    """(credentials, words for them) of each login there is. An emulator's is taken by whoever logged in to it, or
    pushed the folder from here; others come as strangers, as they do to Google."""
    if is_loopback(settings.drive_url or GOOGLE):
        if settings.token_file.exists() or settings.service_account or _is_ours(link, settings):
            yield credentials_for(str(settings.drive_url), settings), "the emulator's login"
        return
    if settings.drive_url or settings.service_account or settings.token_file.exists():
        try:
            found = credentials_for(settings.drive_url or GOOGLE, replace(settings, anonymous=False))
        except AuthError:
            found = None  # a token file that is damaged
        if found is not None:
            yield found, "the service account" if settings.service_account else "your login"
    found = colab_login()
    if found is not None:
        yield found, "this notebook's login"


def _is_ours(link: Link, settings: Settings) -> bool:
    return any(record.folder_id == link.id for record in find_records(settings))


def _by_site(link: Link, settings: Settings, retry: Retry, way: str) -> Shelf:
    local = is_loopback(settings.drive_url or GOOGLE)
    base = settings.site_url or (settings.drive_url if local else None)
    shelf = SiteShelf(Site(base, settings.clock, timeout=settings.timeout), link, retry, way)
    try:
        shelf.look()
    except BaseException as error:
        shelf.close()
        if not local or not isinstance(error, NotFound):
            raise
        # A Drive on this machine that has no such site still takes its fixed login.
        return _by_login(link, credentials_for(str(settings.drive_url), settings), settings, retry)
    return shelf
