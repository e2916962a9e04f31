"""Codes and tokens that were handed out, on disk like everything else, and how long each is good."""

from __future__ import annotations

import secrets
from typing import Any

from driveshard.emulator.database import Database
from driveshard.emulator.store import Clock
from driveshard.emulator.wire import Reply

ACCESS_SECONDS = 3600.0
DAY = 24 * 3600.0
OWNER, SERVICE = "owner", "service"
REFRESH, REFUSED = "refresh", "refused"


class Tokens:
    """Documents by code or token: a kind, an end (`expires`, seconds since the epoch), a scope, a family.

    A family is one consent: its refresh token and every access token from it are revoked together. `refresh_days` is
    how long refresh tokens live (None: for ever), as those of an app in testing live seven days.
    """

    def __init__(self, database: Database, clock: Clock, refresh_days: float | None = None) -> None:
        self._database = database
        self._clock = clock
        self._refresh_days = refresh_days

    def put(self, token: str, kind: str, seconds: float | None, **more: Any) -> str:
        """Keep a token that is good for so many seconds (None: for ever) and return it."""
        expires = None if seconds is None else self._clock.now() + seconds
        self._database.put("tokens", token, {"kind": kind, "expires": expires, **more})
        return token

    def find(self, token: str) -> dict[str, Any] | None:
        """The document of a token, refused and expired ones included."""
        return self._database.get("tokens", token)

    def good(self, token: str, *kinds: str) -> dict[str, Any] | None:
        """The document of a token of one of these kinds that has not run out."""
        held = self.find(token)
        if held is None or held["kind"] not in kinds:
            return None
        expires = held.get("expires")
        return held if expires is None or expires > self._clock.now() else None

    def drop(self, token: str) -> None:
        """Forget a code that was used."""
        self._database.drop("tokens", token)

    def refuse(self, token: str) -> None:
        """This token is not good any more."""
        self._database.put("tokens", token, {"kind": REFUSED})

    def revoke(self, token: str) -> None:
        """Neither this token nor any other of its family is good any more."""
        family = (self.find(token) or {}).get("family")
        if family:
            for other, held in self._database.load("tokens"):
                if held.get("family") == family:
                    self.refuse(other)
        self.refuse(token)

    def grant(self, kind: str, scope: str, *, family: str | None = None, refresh: bool = False) -> dict[str, Any]:
        """The token endpoint's answer: a new access token, and a refresh token when asked for."""
        family = family or secrets.token_hex(8)
        token = self.put("ya29." + secrets.token_urlsafe(48), kind, ACCESS_SECONDS, scope=scope, family=family)
        document: dict[str, Any] = {"access_token": token, "expires_in": int(ACCESS_SECONDS), "scope": scope}
        if refresh:
            days = self._refresh_days
            seconds = None if days is None else days * DAY
            held = self.put("1//" + secrets.token_urlsafe(48), REFRESH, seconds, scope=scope, family=family)
            document["refresh_token"] = held
        return {**document, "token_type": "Bearer"}


def refusal(error: str, description: str, status: int = 400) -> Reply:
    """An OAuth error."""
    return Reply.json({"error": error, "error_description": description}, status)
