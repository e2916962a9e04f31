"""Who is asking, and whether the token that says so is good for it.

Any bearer token counts as the owner's unless it was issued here and has run out, or was refused by a fault. With a
fixed token only that one and those issued here are good; with a fixed key only that key is one.
"""

from __future__ import annotations

from driveshard.emulator.errors import bad_key, invalid_credentials, login_required, scope_missing, unregistered_caller
from driveshard.emulator.tokens import OWNER, SERVICE, Tokens
from driveshard.emulator.wire import Request

PUBLIC = "public"
ALWAYS_GOOD = "emulator"
WRITING = ("drive", "drive.file", "drive.appdata")
READING = (*WRITING, "drive.readonly", "drive.metadata", "drive.metadata.readonly", "drive.photos.readonly")


class Auth:
    """Checks the caller of each request."""

    def __init__(self, tokens: Tokens, *, token: str | None = None, api_key: str | None = None) -> None:
        self._tokens = tokens
        self._token = token
        self._key = api_key

    def caller(self, request: Request, *, writes: bool = False) -> str:
        """`owner`, `service` (a service account by itself) or `public` (an API key).

        Raises ApiError: 401 for a refused token, 403 for one without the scope, 400 for a bad key, and when there is
        neither token nor key 403 (uploads: 401).
        """
        token = bearer(request)
        if token:
            return self._check(token, writes=writes)
        key = request.query.get("key") or request.headers.get("x-goog-api-key")
        if key and self._key not in (None, key):
            raise bad_key()
        if request.path.startswith("/upload/"):
            raise login_required()
        if key:
            return PUBLIC
        raise unregistered_caller()

    def refuse(self, request: Request) -> None:
        """From now on the token of this request is refused; the fixed token is not remembered."""
        token = bearer(request)
        if token and token not in (ALWAYS_GOOD, self._token):
            self._tokens.refuse(token)

    def _check(self, token: str, *, writes: bool) -> str:
        if token == self._token or (self._token is None and token == ALWAYS_GOOD):
            return OWNER
        held = self._tokens.find(token)
        if held is None and self._token is None:
            return OWNER
        if held is None or self._tokens.good(token, OWNER, SERVICE) is None:
            raise invalid_credentials()
        scopes = {name.rpartition("/")[2] for name in str(held.get("scope", "drive")).split()}
        if not scopes & set(WRITING if writes else READING):
            raise scope_missing()
        return str(held["kind"])


def bearer(request: Request) -> str | None:
    """The access token of a request, from its header or the old query parameter."""
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() == "bearer" and token.strip():
        return token.strip()
    return request.query.get("access_token")
