"""The OAuth endpoints: consent in a browser, codes, tokens, devices, and who a token belongs to.

Without `consent` everything is allowed at once, as by a person who clicks very quickly, and refresh tokens that were
not issued here are good too: a test brings its own.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
import secrets
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

from driveshard.emulator.auth import bearer
from driveshard.emulator.consent_pages import consent_page, notice_page
from driveshard.emulator.devices import DEVICE_GRANT, Devices
from driveshard.emulator.record import OWNER_EMAIL, OWNER_NAME
from driveshard.emulator.tokens import OWNER, REFRESH, REFUSED, SERVICE, Tokens, refusal
from driveshard.emulator.wire import Reply, Request

CODE_SECONDS = 600.0
SCOPE = "https://www.googleapis.com/auth/drive.file"
JWT_BEARER = "urn:ietf:params:oauth:grant-type:jwt-bearer"
LOOPBACK = ("127.0.0.1", "localhost", "::1")
EXPIRED = "Token has been expired or revoked."


class OAuth:
    """Serves the addresses below; anything else is not its own."""

    def __init__(self, tokens: Tokens, *, consent: bool) -> None:
        self._tokens = tokens
        self._consent = consent
        self.devices = Devices(tokens, consent=consent)
        self._routes = {
            ("GET", "/auth"): self.authorize,
            ("GET", "/o/oauth2/auth"): self.authorize,
            ("GET", "/o/oauth2/v2/auth"): self.authorize,
            ("POST", "/consent"): self.decide,
            ("POST", "/token"): self.token,
            ("POST", "/oauth2/v4/token"): self.token,
            ("POST", "/revoke"): self.revoke,
            ("GET", "/tokeninfo"): self.token_info,
            ("GET", "/oauth2/v3/tokeninfo"): self.token_info,
            ("GET", "/v1/userinfo"): self.user_info,
            ("GET", "/oauth2/v2/userinfo"): self.user_info,
            ("GET", "/oauth2/v3/userinfo"): self.user_info,
            ("POST", "/device/code"): self.devices.begin,
            ("GET", "/device"): self.devices.show,
            ("POST", "/device"): self.devices.decide,
        }

    def serve(self, request: Request) -> Reply | None:
        """The answer to a request for one of these addresses, else None."""
        handler = self._routes.get((request.method, request.path))
        return handler(request) if handler else None

    def authorize(self, request: Request) -> Reply:
        """The consent page; a redirect with code and state once it is decided. Errors are pages, never redirects."""
        query = request.query
        target = query.get("redirect_uri")
        if not target:
            return _error_page("invalid_request", "Missing required parameter: redirect_uri")
        if urlsplit(target).scheme != "http" or urlsplit(target).hostname not in LOOPBACK:
            return _error_page("redirect_uri_mismatch", f"The redirect URI {target} is not on this machine.")
        if query.get("response_type", "code") != "code":
            return _error_page("unsupported_response_type", "Invalid response_type")
        if query.get("code_challenge_method", "S256") not in ("S256", "plain"):
            return _error_page("invalid_request", "Invalid code_challenge_method")
        wanted = query.get("scope", SCOPE).split()
        if not self._consent:
            return self._redirect(query, wanted)
        key = self._tokens.put(secrets.token_urlsafe(24), "request", CODE_SECONDS, query=query)
        return Reply.html(consent_page(key, query.get("client_id", "An application"), wanted))

    def decide(self, request: Request) -> Reply:
        """`POST /consent`: the redirect that follows a click."""
        form = parse_qs(request.body.read().decode("utf-8", "replace"))
        key = form.get("request", [""])[-1]
        held = self._tokens.good(key, "request")
        if held is None:
            return _error_page("invalid_request", "This page is too old. Begin the login again.")
        self._tokens.drop(key)
        asked = held["query"].get("scope", SCOPE).split()
        granted = [scope for scope in asked if scope in form.get("scope", [])]
        allowed = form.get("action", [""])[-1] == "allow" and bool(granted)
        return self._redirect(held["query"], granted if allowed else [])

    def _redirect(self, query: dict[str, str], granted: list[str]) -> Reply:
        answer = {"error": "access_denied"}
        if granted:
            kept = {name: query.get(name) for name in ("code_challenge", "code_challenge_method", "redirect_uri")}
            offline = query.get("access_type", "offline") != "online"
            scope = " ".join(granted)
            code = "4/" + secrets.token_urlsafe(40)
            self._tokens.put(code, "code", CODE_SECONDS, scope=scope, offline=offline, **kept)
            answer = {"code": code, "scope": scope}
        if "state" in query:
            answer["state"] = query["state"]
        joint = "&" if "?" in query["redirect_uri"] else "?"
        return Reply(302, headers={"Location": query["redirect_uri"] + joint + urlencode(answer)})

    def token(self, request: Request) -> Reply:
        """`POST /token`: codes, refresh tokens, devices and the service accounts' JWT bearer grant."""
        form = {name: values[-1] for name, values in parse_qs(request.body.read().decode("utf-8", "replace")).items()}
        grant = form.get("grant_type")
        if grant == "authorization_code":
            return self._redeem(form)
        if grant == "refresh_token":
            return self._refresh(form)
        if grant == DEVICE_GRANT:
            return self.devices.poll(form.get("device_code", ""))
        if grant == JWT_BEARER:
            claims = _claims(form.get("assertion", ""))
            if claims is None or "iss" not in claims:
                return refusal("invalid_grant", "Invalid JWT.")
            # With a subject the account acts for a person (domain-wide delegation) and may own files.
            kind = OWNER if claims.get("sub") else SERVICE
            return Reply.json(self._tokens.grant(kind, str(claims.get("scope", SCOPE))))
        return refusal("unsupported_grant_type", f"Invalid grant_type: {grant or ''}")

    def _redeem(self, form: dict[str, str]) -> Reply:
        code = form.get("code", "")
        held = self._tokens.good(code, "code")
        if held is None:
            return refusal("invalid_grant", "Malformed auth code.")
        if form.get("redirect_uri", held["redirect_uri"]) != held["redirect_uri"]:
            return refusal("redirect_uri_mismatch", "Bad Request")
        problem = _pkce_problem(held, form.get("code_verifier"))
        if problem:
            return refusal("invalid_grant", problem)
        self._tokens.drop(code)
        return Reply.json(self._tokens.grant(OWNER, held["scope"], refresh=held["offline"]))

    def _refresh(self, form: dict[str, str]) -> Reply:
        token = form.get("refresh_token", "")
        found, held = self._tokens.find(token), self._tokens.good(token, REFRESH)
        known = found is not None and found["kind"] in (REFRESH, REFUSED)
        if not token or (held is None and (known or self._consent)):
            return refusal("invalid_grant", EXPIRED)
        scope = held["scope"] if held else form.get("scope", SCOPE)
        return Reply.json(self._tokens.grant(OWNER, scope, family=held["family"] if held else None))

    def revoke(self, request: Request) -> Reply:
        """`POST /revoke`: the token, access or refresh, and all of its consent are refused from now on."""
        form = parse_qs(request.body.read().decode("utf-8", "replace"))
        token = request.query.get("token") or form.get("token", [""])[-1]
        if not token:
            return refusal("invalid_request", "Missing required parameter: token")
        if self._consent and self._tokens.good(token, OWNER, REFRESH) is None:
            return refusal("invalid_token", "Token expired or revoked")
        self._tokens.revoke(token)
        return Reply.json({})

    def token_info(self, request: Request) -> Reply:
        """`GET /tokeninfo?access_token=`: scope and e-mail of a token."""
        held = self._tokens.good(bearer(request) or "", OWNER, SERVICE)
        if held is None:
            return refusal("invalid_token", "Invalid Value")
        return Reply.json({"scope": held["scope"], "access_type": "offline", "email": OWNER_EMAIL})

    def user_info(self, request: Request) -> Reply:
        """`GET /oauth2/v3/userinfo`: whose token it is; the address needs a scope of its own."""
        held = self._tokens.good(bearer(request) or "", OWNER)
        if held is None:
            return refusal("invalid_request", "Invalid Credentials", 401)
        scopes = {name.rpartition("/")[2] for name in held["scope"].split()}
        if not scopes & {"openid", "email", "userinfo.email", "profile", "userinfo.profile"}:
            return refusal("insufficient_scope", "Request had insufficient authentication scopes.", 403)
        document: dict[str, Any] = {"sub": "100000000000000000001"}
        if scopes & {"email", "userinfo.email"}:
            document |= {"email": OWNER_EMAIL, "email_verified": True}
        if scopes & {"profile", "userinfo.profile"}:
            document |= {"name": OWNER_NAME}
        return Reply.json(document)


def _error_page(error: str, text: str) -> Reply:
    return Reply.html(notice_page(f"Error 400: {error}", text), 400)


def _pkce_problem(held: dict[str, Any], verifier: str | None) -> str | None:
    """What is wrong with the proof that whoever brings the code is who asked for it; None when it is right."""
    challenge = held.get("code_challenge")
    if challenge is None:
        return None
    if not verifier:
        return "Missing code verifier."
    if held.get("code_challenge_method") != "plain":
        digest = hashlib.sha256(verifier.encode()).digest()
        verifier = base64.urlsafe_b64encode(digest).decode().rstrip("=")
    return None if secrets.compare_digest(verifier, challenge) else "Invalid code verifier."


def _claims(assertion: str) -> dict[str, Any] | None:
    parts = assertion.split(".")
    if len(parts) != 3:
        return None
    try:
        claims = json.loads(base64.urlsafe_b64decode(parts[1] + "=" * (-len(parts[1]) % 4)))
    except (ValueError, binascii.Error):
        return None
    return claims if isinstance(claims, dict) else None
