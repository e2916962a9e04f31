"""Asks Google's login service, by the way to the network that is prescribed here. Sends forms, never shows them.

RFC 6749 (codes and tokens), RFC 7636 (the proof that goes with a code), RFC 7009 (taking a token back), RFC 8628
(devices).
"""

from __future__ import annotations

import datetime
import json
import socket
import ssl
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlencode, urlsplit

import httplib2

from driveshard.core.clock import Clock
from driveshard.core.errors import AuthError, ConfigError, DriveshardError, Unavailable
from driveshard.core.formatting import shown
from driveshard.core.urls import is_loopback
from driveshard.storage.drive.credentials import StoredCredentials, naive_utc
from driveshard.storage.drive.network import certificates, proxy_for_https
from driveshard.storage.drive.oauth_client import HOW, OAuthClient

ACCESS = "https://myaccount.google.com/permissions"
_TRIES, _FIRST_WAIT = 3, 1.0
_AGAIN = "Run `driveshard login` again."


class TokenService:
    """``timeout`` in seconds bounds each wait for the network."""

    def __init__(self, client: OAuthClient, clock: Clock, timeout: float) -> None:
        self.client = client
        self._clock = clock
        self._timeout = timeout

    def redeem(self, form: Mapping[str, str], asked: str) -> StoredCredentials:
        """The login for a code. Raises AuthError when it is not the one that was asked for, ConfigError for a client
        that Google does not know, Unavailable when the service is down."""
        status, answer = self._patiently(form)
        if status != 200:
            raise self.refusal(answer)
        return self.login_from(answer, asked)

    def _patiently(self, form: Mapping[str, str]) -> tuple[int, dict[str, Any]]:
        """A code is good for minutes, so a service that is down for seconds costs nobody a second consent."""
        for attempt in range(_TRIES - 1):
            try:
                return self.post(self.client.token_uri, form)
            except Unavailable:
                self._clock.sleep(_FIRST_WAIT * 2**attempt)
        return self.post(self.client.token_uri, form)

    def login_from(self, answer: Mapping[str, Any], asked: str) -> StoredCredentials:
        """The login in the service's answer. Raises AuthError when something of what was asked for is missing."""
        token, refresh, seconds = answer.get("access_token"), answer.get("refresh_token"), answer.get("expires_in")
        granted = str(answer.get("scope") or asked).split()
        if not isinstance(token, str) or not token:
            raise Unavailable("what answered is not Google's login service", advice=_AGAIN)
        if asked not in granted:
            raise AuthError(
                f"the login came without the right that was asked for, {asked}",
                advice="Run `driveshard login` again, and tick the box for Google Drive on Google's page.",
            )
        if not isinstance(refresh, str) or not refresh:
            raise AuthError(
                "Google gave a login that ends within the hour (no refresh token)",
                advice=f"Take the access of your app back at {ACCESS}, then run `driveshard login` again.",
            )
        lasts = seconds if isinstance(seconds, int) and 0 < seconds < 10**6 else 3600
        now = self._clock.now()
        return StoredCredentials(  # type: ignore[no-untyped-call]
            token=token,
            refresh_token=refresh,
            token_uri=self.client.token_uri,
            client_id=self.client.client_id,
            client_secret=self.client.secret,
            scopes=granted,
            expiry=naive_utc(now + lasts),
        ).begun(datetime.datetime.fromtimestamp(now, datetime.UTC))

    def revoke(self, token: str) -> None:
        """Take a login back; one that is over already is fine. Raises Unavailable, and AuthError with the service's
        own words."""
        status, answer = self.post(self.client.base + "revoke", {"token": token})
        if status != 200 and answer.get("error") != "invalid_token":
            raise self.refusal(answer)

    def refusal(self, answer: Mapping[str, Any]) -> DriveshardError:
        """The error that an OAuth refusal stands for."""
        error = shown(str(answer.get("error") or "no reason"))[:100]
        said = shown(str(answer.get("error_description") or error))[:300]
        if error in ("invalid_client", "unauthorized_client", "deleted_client"):
            return ConfigError(f"Google does not take this OAuth client ({said})", advice=HOW)
        if error == "access_denied":
            return AuthError("the login was denied", advice=f"To allow it: {_AGAIN}")
        return AuthError(f"Google did not grant the login ({said})", advice=_AGAIN)

    def post(self, url: str, form: Mapping[str, str]) -> tuple[int, dict[str, Any]]:
        """Status and JSON of a reply below 500. Raises Unavailable, and ConfigError for what is wrong with the way."""
        own = is_loopback(url)
        http = httplib2.Http(
            timeout=self._timeout,
            proxy_info=None if own else proxy_for_https(),
            ca_certs=None if own else certificates(),
        )
        http.follow_redirects = False
        headers = {"content-type": "application/x-www-form-urlencoded", "accept": "application/json"}
        try:
            response, body = http.request(url, "POST", urlencode(form), headers)
        except ssl.SSLCertVerificationError as error:
            raise ConfigError(
                f"the certificate of {_host(url)} is not trusted ({error.verify_message})",
                advice="Check the clock of this machine, and any proxy. SSL_CERT_FILE names a company's certificates.",
            ) from error
        except (httplib2.HttpLib2Error, OSError) as error:
            raise Unavailable(f"Google's login service {_host(url)} cannot be reached ({_why(error)})") from error
        finally:
            http.close()
        if response.status >= 500 or response.status == 429:
            raise Unavailable(f"Google's login service does not work at the moment ({response.status})", advice=_AGAIN)
        return response.status, _object(body)


def _object(body: bytes) -> dict[str, Any]:
    try:
        found = json.loads(body)
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        raise Unavailable("what answered is not Google's login service", advice=_AGAIN)
    return found


def _host(url: str) -> str:
    return urlsplit(url).netloc


def _why(error: BaseException) -> str:
    if isinstance(error, TimeoutError):
        return "no answer in time"
    if isinstance(error, httplib2.ServerNotFoundError | socket.gaierror):
        return "its address cannot be found; is the network up?"
    return shown(getattr(error, "strerror", None) or str(error) or type(error).__name__)[:200]
