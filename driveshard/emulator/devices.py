"""The device flow: a machine without a browser shows a code, a person types it elsewhere, the machine polls."""

from __future__ import annotations

import secrets
from urllib.parse import parse_qs

from driveshard.emulator.consent_pages import device_page, notice_page
from driveshard.emulator.tokens import OWNER, Tokens, refusal
from driveshard.emulator.wire import Reply, Request

DEVICE_GRANT = "urn:ietf:params:oauth:grant-type:device_code"
ALPHABET = "BCDFGHJKLMNPQRSTVWXZ"
LIFE_SECONDS = 1800.0
INTERVAL = 5
ALLOWED = {"drive.file", "drive.appdata", "openid", "email", "profile", "userinfo.email", "userinfo.profile"}


class Devices:
    """Codes that are waiting for a person. Without `consent` a code counts as allowed after the first poll."""

    def __init__(self, tokens: Tokens, *, consent: bool) -> None:
        self._tokens = tokens
        self._consent = consent

    def begin(self, request: Request) -> Reply:
        """`POST /device/code`: the code for the machine and the one for the person."""
        form = {name: values[-1] for name, values in parse_qs(request.body.read().decode("utf-8", "replace")).items()}
        if "client_id" not in form:
            return refusal("invalid_request", "Missing required parameter: client_id")
        scope = form.get("scope", "")
        bad = [name for name in scope.split() if name.rpartition("/")[2] not in ALLOWED]
        if bad or not scope:
            return refusal("invalid_scope", f"Invalid device flow scope: {' '.join(bad)}")
        pick = "".join(secrets.choice(ALPHABET) for _ in range(8))
        user_code, device_code = f"{pick[:4]}-{pick[4:]}", "AH-1" + secrets.token_urlsafe(60)
        self._tokens.put(device_code, "device", LIFE_SECONDS, scope=scope, state="pending")
        self._tokens.put(user_code, "user-code", LIFE_SECONDS, device=device_code)
        return Reply.json(
            {
                "device_code": device_code,
                "user_code": user_code,
                "expires_in": int(LIFE_SECONDS),
                "interval": INTERVAL,
                "verification_url": f"{request.base_url}/device",
            }
        )

    def show(self, request: Request) -> Reply:
        """`GET /device`: where the person types the code."""
        return Reply.html(device_page(request.query.get("user_code", "")))

    def decide(self, request: Request) -> Reply:
        """`POST /device`: allowed or denied."""
        form = {name: values[-1] for name, values in parse_qs(request.body.read().decode("utf-8", "replace")).items()}
        code = form.get("user_code", "").strip().upper()
        held = self._tokens.good(code, "user-code")
        if held is None:
            return Reply.html(notice_page("Wrong code", "No device waits with this code."), 400)
        self._tokens.drop(code)
        self._change(held["device"], "allowed" if form.get("action") == "allow" else "denied")
        return Reply.html(notice_page("Done", "You may go back to your device."))

    def poll(self, device_code: str) -> Reply:
        """The machine's question at the token endpoint: pending, denied, expired, or the tokens."""
        held = self._tokens.find(device_code)
        if held is None or held["kind"] != "device":
            return refusal("invalid_grant", "Malformed device code.")
        if self._tokens.good(device_code, "device") is None:
            return refusal("expired_token", "Token has been expired or revoked.")
        if held["state"] == "denied":
            return refusal("access_denied", "Forbidden", 403)
        if held["state"] == "pending":
            if not self._consent:
                self._change(device_code, "allowed")
            return refusal("authorization_pending", "Precondition Required", 428)
        self._tokens.drop(device_code)
        return Reply.json(self._tokens.grant(OWNER, held["scope"], refresh=True))

    def _change(self, device_code: str, state: str) -> None:
        held = self._tokens.good(device_code, "device")
        if held:
            self._tokens.put(device_code, "device", LIFE_SECONDS, scope=held["scope"], state=state)
