"""Logging in: in the browser of this machine or of another one, or on another device; and taking it back.

Each way ends with a login that was looked at: the right that was asked for, one that lasts, and whose it is.
"""

from __future__ import annotations

import base64
import hashlib
import secrets
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from urllib.parse import urlencode, urljoin

from driveshard.core.clock import Clock
from driveshard.core.errors import AuthError, ConfigError, DriveshardError, Unavailable, UsageError
from driveshard.core.formatting import countdown, shown
from driveshard.core.urls import is_loopback
from driveshard.storage.drive.client import GOOGLE, DriveClient
from driveshard.storage.drive.credentials import SCOPES, StoredCredentials
from driveshard.storage.drive.login_server import HOST, LoginServer
from driveshard.storage.drive.oauth_client import OAuthClient
from driveshard.storage.drive.token_service import TokenService

_TELL_EVERY = 30.0  # seconds between two words on how long is left
_AGAIN = "Run `driveshard login` again."
_DEVICE_GRANT = "urn:ietf:params:oauth:grant-type:device_code"
_DEVICE_CLIENT = (
    "A login on another device needs an OAuth client of the type TVs and Limited Input devices: make one at"
    " https://console.cloud.google.com/apis/credentials and name its file with --credentials."
)


@dataclass(frozen=True, slots=True)
class Login:
    """A way to log in. ``say`` shows a line to the person; ``timeout`` in seconds bounds each wait for the network,
    ``patience`` the wait for the person."""

    client: OAuthClient
    clock: Clock
    say: Callable[[str], None]
    timeout: float = 60.0
    patience: float = 300.0

    def in_browser(self, scope: str, *, port: int = 0, browser: bool = True) -> StoredCredentials:
        """A login by the consent page. Raises UsageError for a scope that is none, ConfigError for a port that cannot
        be had or a client that Google does not take, AuthError when it was not granted or nobody answered, and
        Unavailable when Google's login service is down."""
        right = right_of(scope)
        verifier = secrets.token_urlsafe(64)
        with LoginServer(port) as server:
            address = consent_address(self.client, server, right, verifier)
            if browser:
                self.say(
                    f"Allow driveshard to use your Drive in the browser that opens now, or at this address:\n{address}"
                )
                self._open(address, server.port)
            else:
                self.say(f"{recipe(server.port)}\n{address}")
            try:
                found = self._answered(server, right, verifier)
            except DriveshardError as error:
                server.tell_failure(error)
                raise
            server.tell(found.account)
            return found

    def _answered(self, server: LoginServer, right: str, verifier: str) -> StoredCredentials:
        answer = self._wait(server)
        if "code" not in answer:
            raise TokenService(self.client, self.clock, self.timeout).refusal(answer)
        self.say("Your browser has answered; asking Google for the login.")
        form = {
            "grant_type": "authorization_code",
            "code": answer["code"],
            "code_verifier": verifier,
            "redirect_uri": server.address,
        }
        return self._redeemed(form, right)

    def _redeemed(self, form: Mapping[str, str], right: str) -> StoredCredentials:
        service = TokenService(self.client, self.clock, self.timeout)
        who = {"client_id": self.client.client_id, "client_secret": self.client.secret}
        return self.known(service.redeem({**form, **who}, right))

    def known(self, login: StoredCredentials) -> StoredCredentials:
        """The login with the account's name in it, where Drive tells it; what keeps it from telling is said."""
        try:
            login.named(account_of(login, self.clock, self.timeout))
        except DriveshardError as error:
            self.say(f"The login is good, but Drive did not say whose it is: {error}. {error.advice}")
        return login

    def _wait(self, server: LoginServer) -> dict[str, str]:
        until = self.clock.monotonic() + self.patience
        while (left := until - self.clock.monotonic()) > 0:
            self.say(f"Waiting for your browser's answer, {countdown(left)} more. Ctrl-C ends it.")
            answer = self._listen(server, min(left, _TELL_EVERY))
            if answer is not None:
                return answer
        raise AuthError(
            f"nobody answered on Google's page within {countdown(self.patience)}",
            advice=f"{_AGAIN} On a machine without a browser: driveshard login --no-browser.",
        )

    def _listen(self, server: LoginServer, seconds: float) -> dict[str, str] | None:
        until = self.clock.monotonic() + seconds
        while (left := until - self.clock.monotonic()) > 0:
            self.clock.check()
            answer = server.wait(min(left, 0.2))  # in small steps, so that a stop is heard
            if answer is not None:
                return answer
        return None

    def _open(self, address: str, port: int) -> None:
        """In a process of its own, as browsers write to whatever stdout is, and some hold on until they are closed."""
        code = "import sys, webbrowser; sys.exit(not webbrowser.open(sys.argv[1]))"

        def run() -> None:
            null = subprocess.DEVNULL
            try:
                command = [sys.executable, "-c", code, address]
                ended = subprocess.run(command, stdin=null, stdout=null, stderr=null, check=False).returncode  # noqa: S603
            except OSError:
                ended = 1
            if ended:
                self.say(f"No browser could be opened here. {recipe(port)}\n{address}")

        threading.Thread(target=run, name="browser", daemon=True).start()

    def on_device(self, scope: str) -> StoredCredentials:
        """A login by a code that is typed on another device. Raises as ``in_browser``."""
        if scope != "drive.file":
            raise UsageError(
                f"a login on another device cannot have the scope {scope!r}",
                advice="Google gives such a login drive.file only. Leave --scope out, or log in with --no-browser.",
            )
        right = right_of(scope)
        service = TokenService(self.client, self.clock, self.timeout)
        form = {"client_id": self.client.client_id, "scope": right}
        status, begun = service.post(urljoin(self.client.base, "device/code"), form)
        words = [begun.get(key) for key in ("device_code", "user_code")]
        page = begun.get("verification_url") or begun.get("verification_uri")
        if status != 200 or not page or not all(isinstance(one, str) and one for one in words):
            raise _of_device(service.refusal(begun))
        lasts = min(_seconds(begun.get("expires_in"), 1800.0), max(self.patience, 1.0))
        self.say(f"On any device, open {shown(str(page))} and type this code:\n\n    {shown(str(words[1]))}\n")
        form = {"grant_type": _DEVICE_GRANT, "device_code": str(words[0])}
        return self._poll(service, form, right, lasts, _seconds(begun.get("interval"), 5.0))

    def _poll(
        self, service: TokenService, form: dict[str, str], right: str, lasts: float, interval: float
    ) -> StoredCredentials:
        form = {**form, "client_id": self.client.client_id, "client_secret": self.client.secret}
        until = self.clock.monotonic() + lasts
        told = until + 1
        while (left := until - self.clock.monotonic()) > 0:
            if told - left >= _TELL_EVERY or told > until:
                self.say(f"Waiting for the code to be typed, {countdown(left)} more. Ctrl-C ends it.")
                told = left
            self.clock.sleep(min(interval, left))
            try:
                status, answer = service.post(self.client.token_uri, form)
            except Unavailable:
                interval *= 2  # RFC 8628: back off, and go on
                continue
            if status == 200:
                return self.known(service.login_from(answer, right))
            error = answer.get("error")
            if error == "slow_down":
                interval += 5.0
            elif error == "expired_token":
                break
            elif error != "authorization_pending":
                raise _of_device(service.refusal(answer))
        raise AuthError("nobody typed the code in time", advice=_AGAIN)


def _of_device(error: DriveshardError) -> DriveshardError:
    return ConfigError(error.message, advice=_DEVICE_CLIENT) if isinstance(error, ConfigError) else error


def _seconds(value: object, otherwise: float) -> float:
    return float(value) if isinstance(value, int | float) and 0 < value < 86_400 else otherwise


def right_of(scope: str) -> str:
    """The scope's full name. Raises UsageError."""
    if scope not in SCOPES:
        raise UsageError(f"{scope!r} is not a scope", advice=f"Give one of {', '.join(SCOPES)}.")
    return SCOPES[scope]


def consent_address(client: OAuthClient, server: LoginServer, right: str, verifier: str) -> str:
    """The address of the consent page. The code that comes back is good only together with ``verifier``."""
    digest = hashlib.sha256(verifier.encode()).digest()
    query = {
        "response_type": "code",
        "client_id": client.client_id,
        "redirect_uri": server.address,
        "scope": right,
        "state": server.state,
        "code_challenge": base64.urlsafe_b64encode(digest).decode().rstrip("="),
        "code_challenge_method": "S256",
        "access_type": "offline",
        "prompt": "consent",  # without it a second login gets no refresh token
    }
    return f"{client.auth_uri}{'&' if '?' in client.auth_uri else '?'}{urlencode(query)}"


def recipe(port: int) -> str:
    """How to answer from the browser of another machine."""
    return (
        f"If your browser is on another machine, run this there first, with this machine's name, and leave it open:\n"
        f"    ssh -N -L {port}:{HOST}:{port} USER@THIS-MACHINE\n"
        "(Or log in on any machine that has a browser, and copy its token file to this one's home folder; see"
        " `driveshard login --help`.)\n"
        "Then open this address in the browser:"
    )


def base_of(login: StoredCredentials) -> str:
    """The Drive that a login is for: Google's, or the emulator on this machine that gave it."""
    return urljoin(login.token_uri, "/") if is_loopback(login.token_uri) else GOOGLE


def account_of(login: StoredCredentials, clock: Clock, timeout: float) -> str:
    """The e-mail address of whose Drive it is, as Drive says; any scope may ask. Raises what Drive's answer stands
    for."""
    client = DriveClient(base_of(login), login, clock, timeout=timeout)
    try:
        user = client.execute(client.about.get(fields="user")).get("user")
    finally:
        client.close()
    address = user.get("emailAddress") if isinstance(user, dict) else None
    return shown(address)[:200] if isinstance(address, str) else ""


def log_out(login: StoredCredentials, clock: Clock, timeout: float) -> None:
    """Take the login back at Google. Raises Unavailable when it cannot be told."""
    client = OAuthClient(login.client_id, login.client_secret, "", login.token_uri)
    TokenService(client, clock, timeout).revoke(login.refresh_token)
