"""Who is asking, and the OAuth endpoints that hand out tokens.

Any bearer token counts as the owner's unless it was issued here and has run out, or was refused by a fault. With a
fixed token only that one and those issued here are good; with a fixed key only that key is one.
"""

from __future__ import annotations

import base64
import binascii
import json
import secrets
from typing import Any
from urllib.parse import parse_qs, urlencode

from driveshard.emulator.database import Database
from driveshard.emulator.errors import bad_key, invalid_credentials, login_required, unregistered_caller
from driveshard.emulator.store import Clock
from driveshard.emulator.wire import Reply, Request

OWNER, SERVICE, PUBLIC = "owner", "service", "public"
ALWAYS_GOOD = "emulator"
TOKEN_SECONDS = 3600
CODE_SECONDS = 600
SCOPE = "https://www.googleapis.com/auth/drive.file"
JWT_BEARER = "urn:ietf:params:oauth:grant-type:jwt-bearer"


class Auth:
    """Tokens issued and refused, on disk like everything else."""

    def __init__(
        self, database: Database, clock: Clock, *, token: str | None = None, api_key: str | None = None
    ) -> None:
        self._database = database
        self._clock = clock
        self._token = token
        self._key = api_key

    def caller(self, request: Request) -> str:
        """`owner`, `service` (a service account by itself) or `public` (an API key).

        Raises ApiError: 401 for a refused token, 400 for a bad key, and when there is neither 403 (uploads: 401).
        """
        token = bearer(request)
        if token:
            return self._check(token)
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
            self._database.put("tokens", token, {"kind": "refused"})

    def _check(self, token: str) -> str:
        if token == self._token or (self._token is None and token == ALWAYS_GOOD):
            return OWNER
        held = self._database.get("tokens", token)
        if held is None and self._token is None:
            return OWNER
        if held is None:
            raise invalid_credentials()
        if held["kind"] not in (OWNER, SERVICE) or held["expires"] <= self._clock.now():
            raise invalid_credentials()
        return str(held["kind"])

    def authorize(self, request: Request) -> Reply:
        """`/auth`: consent is given at once; redirects to redirect_uri with a code and the state."""
        query = request.query
        if "redirect_uri" not in query:
            return Reply.text("Error 400: invalid_request\nMissing required parameter: redirect_uri", 400)
        code = "4/" + secrets.token_urlsafe(40)
        self._database.put("tokens", code, {"kind": "code", "expires": self._clock.now() + CODE_SECONDS})
        answer = {"code": code, "scope": query.get("scope", SCOPE)}
        if "state" in query:
            answer["state"] = query["state"]
        joint = "&" if "?" in query["redirect_uri"] else "?"
        return Reply(302, headers={"Location": query["redirect_uri"] + joint + urlencode(answer)})

    def token(self, request: Request) -> Reply:
        """`POST /token`: authorization_code, refresh_token and the service accounts' JWT bearer grant."""
        form = {name: values[-1] for name, values in parse_qs(request.body.read().decode("utf-8", "replace")).items()}
        grant = form.get("grant_type")
        if grant == "authorization_code":
            return self._redeem(form)
        if grant == "refresh_token":
            held = self._database.get("tokens", form.get("refresh_token", ""))
            if "refresh_token" not in form or (held and held["kind"] == "refused"):
                return _refusal("invalid_grant", "Token has been expired or revoked.")
            return self._issue(OWNER, form.get("scope", SCOPE))
        if grant == JWT_BEARER:
            claims = _claims(form.get("assertion", ""))
            if claims is None or "iss" not in claims:
                return _refusal("invalid_grant", "Invalid JWT.")
            # With a subject the account acts for a person (domain-wide delegation) and may own files.
            return self._issue(OWNER if claims.get("sub") else SERVICE, str(claims.get("scope", SCOPE)))
        return _refusal("unsupported_grant_type", f"Invalid grant_type: {grant or ''}")

    def revoke(self, request: Request) -> Reply:
        """`POST /revoke`: the token, access or refresh, is refused from now on."""
        form = parse_qs(request.body.read().decode("utf-8", "replace"))
        token = request.query.get("token") or form.get("token", [""])[-1]
        if not token:
            return _refusal("invalid_request", "Missing required parameter: token")
        self._database.put("tokens", token, {"kind": "refused"})
        return Reply.json({})

    def _redeem(self, form: dict[str, str]) -> Reply:
        code = form.get("code", "")
        held = self._database.get("tokens", code)
        if held is None or held["kind"] != "code" or held["expires"] <= self._clock.now():
            return _refusal("invalid_grant", "Malformed auth code.")
        self._database.drop("tokens", code)
        return self._issue(OWNER, form.get("scope", SCOPE), refresh="1//" + secrets.token_urlsafe(48))

    def _issue(self, kind: str, scope: str, refresh: str | None = None) -> Reply:
        token = "ya29." + secrets.token_urlsafe(48)
        self._database.put("tokens", token, {"kind": kind, "expires": self._clock.now() + TOKEN_SECONDS})
        document = {"access_token": token, "expires_in": TOKEN_SECONDS, "scope": scope, "token_type": "Bearer"}
        if refresh:
            document["refresh_token"] = refresh
        return Reply.json(document)


def bearer(request: Request) -> str | None:
    """The access token of a request, from its header or the old query parameter."""
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() == "bearer" and token.strip():
        return token.strip()
    return request.query.get("access_token")


def _refusal(error: str, description: str) -> Reply:
    return Reply.json({"error": error, "error_description": description}, 400)


def _claims(assertion: str) -> dict[str, Any] | None:
    parts = assertion.split(".")
    if len(parts) != 3:
        return None
    try:
        claims = json.loads(base64.urlsafe_b64decode(parts[1] + "=" * (-len(parts[1]) % 4)))
    except (ValueError, binascii.Error):
        return None
    return claims if isinstance(claims, dict) else None
