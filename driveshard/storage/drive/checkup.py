"""What Drive itself tells about an account and a folder, for those who ask before they push."""

from __future__ import annotations

import email.utils
import json
import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from driveshard.core.errors import NotFound, Unavailable
from driveshard.core.formatting import shown
from driveshard.storage.drive.answers import FOLDER
from driveshard.storage.drive.client import GOOGLE, PAGE, DriveClient, headers_of
from driveshard.storage.drive.credentials import api_key_for, credentials_for
from driveshard.storage.drive.destination import DriveDestination, folder_id_of
from driveshard.storage.drive.errors import translate
from driveshard.storage.drive.resumable import Request

PROBE = "driveshard doctor (may be deleted)"


@dataclass(frozen=True, slots=True)
class Account:
    """Bytes; None where Drive names no limit. ``skew`` is by how many seconds this machine's clock is ahead of Drive's,
    None when that was not told."""

    address: str
    limit: int | None
    used: int
    skew: float | None

    @property
    def left(self) -> int | None:
        return None if self.limit is None else max(0, self.limit - self.used)


@dataclass(frozen=True, slots=True)
class Place:
    """A folder as this login sees it; ``shared_drive`` is the id of the shared drive it is on, if any."""

    name: str
    shared_drive: str | None
    writable: bool


class Checkup:
    """A few questions to the Drive of ``settings``; raises what an answer stands for. To be closed."""

    def __init__(self, settings: Any, rest: str = "") -> None:
        base = settings.drive_url or GOOGLE
        login = credentials_for(base, settings)
        self._clock = settings.clock
        self._parent = folder_id_of(rest) if rest else None
        self._client = DriveClient(
            base, login, self._clock, timeout=settings.timeout, api_key=api_key_for(login, settings)
        )
        self._drive = DriveDestination(self._client, self._clock, self._parent, settings.profile)

    @property
    def account_key(self) -> str:
        """What the day's tally knows this account by."""
        return self._drive.account

    def account(self) -> Account:
        """Whose Drive it is, how full, and what its clock says."""
        try:
            return self._account()
        except Unavailable:  # the login was renewed just now, or a connection broke
            return self._account()

    def _account(self) -> Account:
        built = self._client.about.get(fields="user,storageQuota")
        before = self._clock.now()
        reply = self._client.send(Request(built.method, built.uri, headers_of(built, {})))
        between = (before + self._clock.now()) / 2
        if reply.status != 200:
            raise translate(reply.status, reply.headers, reply.body)
        try:
            answer = json.loads(reply.body)
            user, quota = answer["user"], answer["storageQuota"]
            limit = int(quota["limit"]) if "limit" in quota else None
            return Account(_word(user, "emailAddress"), limit, int(quota["usage"]), _skew(reply.headers, between))
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            raise Unavailable(PAGE) from error

    def place(self) -> Place | None:
        """The folder that datasets are to go into; None for My Drive. Raises NotFound when this login does not see it,
        or when it is no folder."""
        if self._parent is None:
            return None
        fields = "name,mimeType,driveId,trashed,capabilities(canAddChildren)"
        request = self._client.files.get(fileId=self._parent, fields=fields, supportsAllDrives=True)
        answer = self._client.execute(request)
        if answer.get("trashed") or answer.get("mimeType") != FOLDER:
            what = "is in the trash" if answer.get("trashed") else "is not a folder"
            raise NotFound(f"{_word(answer, 'name')!r} {what}", advice="Name another folder.")
        may = answer.get("capabilities")
        writable = not isinstance(may, dict) or may.get("canAddChildren") is not False
        return Place(_word(answer, "name"), _word(answer, "driveId") or None, writable)

    def write(self, before_write: Callable[[], None]) -> None:
        """Make a folder where datasets would go, and delete it. ``before_write`` waits for this write's turn."""
        (folder_id,) = self._drive.reserve_ids(1)
        try:
            before_write()
            self._drive.make_folder(folder_id, PROBE, {"driveshard": "probe", "nonce": secrets.token_hex(4)})
        finally:
            before_write()
            self._drive.remove(folder_id)

    def close(self) -> None:
        self._client.close()


def _word(document: Any, key: str) -> str:
    value = document.get(key) if isinstance(document, dict) else None
    return shown(value)[:200] if isinstance(value, str) else ""


def _skew(headers: Mapping[str, str], here: float) -> float | None:
    try:
        return here - email.utils.parsedate_to_datetime(headers["date"]).timestamp()
    except (KeyError, ValueError, TypeError, OverflowError):
        return None
