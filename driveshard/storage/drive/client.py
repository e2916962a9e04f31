"""HTTP to Drive: Google's client builds the requests, google-auth signs them, and this module sends each exactly once.

Neither library is let send: httplib2 repeats a request whose connection closed without a reply, and googleapiclient
repeats a chunk with an empty body; whether to try again is ``retry``'s to say, after the server was asked what it
holds. A connection has one request at a time, of whichever thread: to open one costs two round trips.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import logging
import re
import socket
import ssl
import threading
from collections.abc import Callable, Mapping
from email.utils import parsedate_to_datetime
from functools import cached_property
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import google.auth.credentials
import google.auth.exceptions
import google_auth_httplib2
import httplib2
import socks
from googleapiclient import discovery, discovery_cache
from googleapiclient.http import HttpRequest

from driveshard.core.clock import Clock
from driveshard.core.errors import AuthError, ConfigError, Interrupted, NotFound, Unavailable
from driveshard.core.formatting import shown
from driveshard.core.urls import is_loopback
from driveshard.storage.drive.connection import Connection, secure_context
from driveshard.storage.drive.credentials import naive_utc
from driveshard.storage.drive.errors import read_answer, translate
from driveshard.storage.drive.network import Proxy, proxy_for_https
from driveshard.storage.drive.network import certificates as named_certificates
from driveshard.storage.drive.resumable import Reply, Request
from driveshard.storage.rate_limits import DRIVE_UNITS_A_MINUTE, UNITS, Pacer, TokenBucket

GOOGLE = "https://www.googleapis.com/"
# Servers drop idle connections after a minute or more; a fresh one is cheaper than a lost request.
_IDLE_SECONDS = 25.0
_AGENT = "driveshard (gzip)"  # Google packs its answers for those who say so here, too

log = logging.getLogger("driveshard.http")


Refusal = Callable[[int, Mapping[str, str], bytes], Exception]
"""(status, headers, body) of a failed reply -> the error it stands for."""


class DriveClient:
    """Sends requests to the Drive at ``base_url`` (``https://www.googleapis.com/`` or a loopback address).

    ``timeout`` in seconds bounds each wait for the network, so that a stalled connection is noticed. ``certificates``
    is a file or folder of those to trust, None for the usual ones, or what the environment names for Google's.
    """

    def __init__(
        self,
        base_url: str,
        credentials: Any,
        clock: Clock,
        *,
        timeout: float = 60.0,
        api_key: str | None = None,
        certificates: str | None = None,
    ) -> None:
        self.base_url = base_url
        self._credentials = credentials
        self.api_key = api_key
        self._clock = clock
        self.timeout = timeout
        self._local = threading.local()  # ``refusals``: replies of 401 in a row
        self._wires: list[Wire] = []
        self._free: list[Wire] = []  # the last one is the one used last
        self._lock = threading.Lock()
        self._aborted = False
        self.requests = 0
        self._date: tuple[float, float] | None = None  # POSIX time that Drive told last, and when in monotonic seconds
        self.resource_keys: dict[str, str] = {}  # of items that are shown to who has their key, by id
        # What is set for the whole machine is not for an emulator on it.
        self._proxy: Proxy | None = None if is_loopback(base_url) else proxy_for_https()
        self._certificates = certificates or (None if is_loopback(base_url) else named_certificates())
        # A tenth of a minute's units may be spent at once.
        self._units = Pacer(TokenBucket(DRIVE_UNITS_A_MINUTE / 60, DRIVE_UNITS_A_MINUTE / 10))
        self.files, self.permissions, self.about = self._resources(api_key)

    def _resources(self, api_key: str | None) -> tuple[Any, Any, Any]:
        document = json.loads(discovery_cache.get_static_doc("drive", "v3"))
        if self.base_url != GOOGLE:
            document["rootUrl"] = self.base_url
            document.pop("mtlsRootUrl", None)
        service = discovery.build_from_document(document, http=httplib2.Http(), developerKey=api_key)
        return service.files(), service.permissions(), service.about()

    def execute(self, request: HttpRequest, refusal: Refusal = translate) -> Any:
        """Send a request that Google's client built and return its JSON ({} for 204). Raises what ``refusal`` makes
        of a failed reply: the kinds of ``drive.errors``, unless told."""
        body = request.body.encode() if isinstance(request.body, str) else request.body
        reply = self.send(Request(request.method, request.uri, headers_of(request, {}), body))
        if not 200 <= reply.status < 300:
            error = refusal(reply.status, reply.headers, reply.body)
            # Drive says in JSON that a file is not there; a page that says so is somebody else's.
            lost = isinstance(error, NotFound) and read_answer(reply.status, reply.headers, reply.body).html
            raise Unavailable(PAGE) if lost else error
        if reply.status == 204 or request.method == "DELETE":
            return {}
        try:
            answer = json.loads(reply.body)
        except (ValueError, RecursionError) as error:
            raise Unavailable(PAGE if is_page(reply) else "Drive's answer was cut short") from error
        if not isinstance(answer, dict):
            raise Unavailable("what answered is not Drive")
        return answer

    def send(self, request: Request) -> Reply:
        """Send one request once; a reply of any status is returned.

        Raises Unavailable when the network fails, or after the login was renewed because of a 401: the request is then
        made again by the retry layer, in its turn and after asking what is held. Raises AuthError when the login is
        not to be renewed, and ConfigError for an address elsewhere: the login goes to this Drive alone, also when the
        address came out of a reply or out of a file.
        """
        if not self.is_here(request.uri):
            raise ConfigError(
                f"an address that is not {self.base_url} was to be asked: {_host(request.uri)}",
                advice="Nothing was sent there. Check what is between this machine and Drive.",
            )
        self._spend_units(request)
        wire = self._taken_wire()
        try:
            return self._send_by(wire, request)
        finally:
            with self._lock:
                self._free.append(wire)

    def _send_by(self, wire: Wire, request: Request) -> Reply:
        with self._lock:
            self.requests += 1
        headers = {"user-agent": _AGENT, **self._with_keys(request)}
        try:
            self._credentials.before_request(wire.renewal, request.method, request.uri, headers)
            reply = wire.exchange(request, headers)
        except (
            google.auth.exceptions.GoogleAuthError,
            httplib2.HttpLib2Error,
            http.client.HTTPException,
            OSError,
        ) as error:
            self._close_free()  # they may be as broken, and the next try would have one of them
            wire.close()
            raise self._failure(error) from error
        except BaseException:  # what a body's blocks or a sink raise: half a request is under way
            wire.close()
            raise
        wire.last_used = self._clock.monotonic()
        with contextlib.suppress(ValueError, KeyError, OverflowError):
            self._date = parsedate_to_datetime(reply.headers["date"]).timestamp(), wire.last_used
        if reply.status == 401 and not isinstance(self._credentials, google.auth.credentials.AnonymousCredentials):
            self._renew(wire)
        else:
            self._local.refusals = 0
        # The query of a session URI is a secret; path and status are enough to follow what happens.
        log.debug("%s %s -> %s", request.method, urlsplit(request.uri).path, reply.status)
        return reply

    def count_elsewhere(self) -> None:
        """Another machine makes a request of ours, which takes as much as one that is sent from here."""
        self._spend_units(Request("PUT", self.base_url, {}))
        with self._lock:
            self.requests += 1

    def _with_keys(self, request: Request) -> dict[str, str]:
        """The request's headers, and the resource keys of the items that it is about."""
        keys = [f"{file_id}/{key}" for file_id, key in list(self.resource_keys.items()) if file_id in request.uri]
        return {**request.headers, "x-goog-drive-resource-keys": ",".join(keys)} if keys else dict(request.headers)

    def _renew(self, wire: Wire) -> None:
        """Renew the login once; a second 401 in a row is left for the caller to report."""
        self._local.refusals = getattr(self._local, "refusals", 0) + 1
        if self._local.refusals > 1:
            return
        try:
            self._credentials.refresh(wire.renewal)
        except google.auth.exceptions.GoogleAuthError as error:
            raise self._failure(error) from error
        raise Unavailable("the login had expired and was renewed")

    def access_token(self, lasting: float, *, renew: bool = False) -> str | None:
        """The login's access token alone, renewed unless it is good for ``lasting`` seconds more; None for a stranger.
        Raises what ``send`` does for a login that cannot be renewed."""
        credentials = self._credentials
        if isinstance(credentials, google.auth.credentials.AnonymousCredentials):
            return None
        ends = credentials.expiry
        if renew or not credentials.valid or (ends is not None and ends < naive_utc(self._clock.now() + lasting)):
            wire = self._taken_wire()
            try:
                credentials.refresh(wire.renewal)
            except google.auth.exceptions.GoogleAuthError as error:
                raise self._failure(error) from error
            finally:
                with self._lock:
                    self._free.append(wire)
        return str(credentials.token)

    def _spend_units(self, request: Request) -> None:
        seconds = self._units.wait_for(_units(request), self._clock.monotonic())
        if seconds:
            self._clock.sleep(seconds)

    def _failure(self, error: Exception) -> Exception:
        if self._aborted:
            return Interrupted("stopped in the middle of a request")
        if isinstance(error, google.auth.exceptions.TransportError) and isinstance(error.__cause__, Exception):
            error = error.__cause__  # while the login was renewed
        if isinstance(error, google.auth.exceptions.RefreshError | google.auth.exceptions.InvalidOperation):
            if error.retryable:
                return Unavailable("Google's login service did not answer")
            return AuthError(f"the login is no longer valid ({_first_argument(error)})")
        if isinstance(error, ssl.SSLCertVerificationError):
            return ConfigError(
                f"the certificate of {urlsplit(self.base_url).hostname} is not trusted ({error.verify_message})",
                advice="Check the clock of this machine, and any proxy between it and Drive"
                f"{self._by_proxy()}. A company's own certificates are named by SSL_CERT_FILE.",
            )
        if isinstance(error, socks.ProxyError):
            return self._proxy_failure(error)
        if isinstance(error, TimeoutError):
            return Unavailable(f"no answer from Drive for {self.timeout:.0f} s{self._by_proxy()}")
        if isinstance(error, socket.gaierror):
            if self._proxy is not None:
                return Unavailable(f"the address of the proxy {self._proxied()} cannot be found")
            return Unavailable("Drive's address cannot be found; is the network up?")
        if isinstance(error, ConnectionRefusedError):
            return Unavailable(f"nothing answers at {urlsplit(self.base_url).netloc}")
        if isinstance(error, http.client.IncompleteRead):
            return Unavailable("Drive's answer was cut short")
        return Unavailable(f"the connection to Drive broke ({_first_argument(error)}){self._by_proxy()}")

    def _proxied(self) -> str:
        assert self._proxy is not None
        return f"{self._proxy.shown} ({self._proxy.variable})"

    def _by_proxy(self) -> str:
        used = self._proxy is not None and self._proxy.applies_to(urlsplit(self.base_url).hostname or "")
        return f", by way of the proxy {self._proxied()}" if used else ""

    def _proxy_failure(self, error: Exception) -> Exception:
        inner = getattr(error, "socket_err", None) or error
        why = shown(getattr(inner, "strerror", None) or str(inner))[:200]
        if self._proxy is None:
            return Unavailable(f"the proxy failed ({why})")
        if re.match(r"407\b", why) or isinstance(inner, socks.SOCKS5AuthError):
            advice = f"Give them in {self._proxy.variable}: http://NAME:PASSWORD@{self._proxy.shown}."
            return ConfigError(f"the proxy {self._proxied()} wants a name and a password ({why})", advice=advice)
        return Unavailable(
            f"the proxy {self._proxied()} does not let us through to Drive ({why})",
            advice=f"Check {self._proxy.variable}, or unset it if there is no proxy; NO_PROXY names hosts beside it.",
        )

    def time(self) -> float:
        """Now, as a POSIX time by Drive's own clock; by this machine's while nothing was answered."""
        if self._date is None:
            return self._clock.now()
        told, then = self._date
        return told + self._clock.monotonic() - then

    def is_here(self, uri: str) -> bool:
        """Whether an address is of this Drive: the same scheme, host and port. A secret is sent to no other one."""
        try:
            return _origin(uri) == _origin(self.base_url) and not re.search(r"[\s\\\x00-\x1f\x7f-\x9f]", uri)
        except ValueError:
            return False

    def _taken_wire(self) -> Wire:
        if self._aborted:
            raise Interrupted("stopped")
        with self._lock:
            wire = self._free.pop() if self._free else None
        if wire is None:
            wire = Wire(self._connection(), google_auth_httplib2.Request(self._new_http()))
            with self._lock:
                self._wires.append(wire)
        elif self._clock.monotonic() - wire.last_used > _IDLE_SECONDS:
            wire.close()
        return wire

    def _close_free(self) -> None:
        with self._lock:
            for wire in self._free:
                wire.close()

    def _connection(self) -> Connection:
        scheme, host, port = _origin(self.base_url)
        context = self._context if scheme == "https" else None
        return Connection(host, port or 80, timeout=self.timeout, context=context, proxy=self._proxy)

    @cached_property
    def _context(self) -> ssl.SSLContext:
        return secure_context(self._certificates)

    def _new_http(self) -> httplib2.Http:
        """For renewals of the login, which are not Drive's business."""
        plain = httplib2.Http(timeout=self.timeout, proxy_info=self._proxy, ca_certs=self._certificates)
        plain.follow_redirects = False
        return plain

    def close(self) -> None:
        """Close every connection, when no request is under way."""
        with self._lock:
            wires = list(self._wires)
        for wire in wires:
            wire.close()

    def abort(self) -> None:
        """Break every connection: requests under way raise Interrupted."""
        self._aborted = True
        with self._lock:
            wires = list(self._wires)
        for wire in wires:
            wire.connection.shut()


class Wire:
    """One connection, and its way to renew the login."""

    def __init__(self, connection: Connection, renewal: google_auth_httplib2.Request) -> None:
        self.connection = connection
        self.renewal = renewal
        self.last_used = 0.0

    def exchange(self, request: Request, headers: Mapping[str, str]) -> Reply:
        """As ``Connection.exchange``."""
        parts = urlsplit(request.uri)
        return self.connection.exchange(request, urlunsplit(("", "", parts.path or "/", parts.query, "")), headers)

    def close(self) -> None:
        """Close it; the next request has a fresh one."""
        self.connection.shut()
        self.connection.close()
        self.renewal.http.close()


def _units(request: Request) -> int:
    """The quota units a request costs. What a chunk costs is not documented; it is counted as an edit."""
    if request.method != "GET":
        return UNITS["write"]
    if "alt=media" in request.uri:
        return UNITS["download"]
    return UNITS["list"] if urlsplit(request.uri).path.endswith("/files") else UNITS["read"]


def _first_argument(error: BaseException) -> str:
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    text = str(error.args[0]) if error.args else type(error).__name__
    return shown(text[:200]) or type(error).__name__


PAGE = "what answered is not Drive: it is a page for people, as a proxy or a network's sign-in shows it"


def is_page(reply: Reply) -> bool:
    """Whether a reply is HTML, which neither Drive's answers nor what driveshard stores ever are."""
    return reply.headers.get("content-type", "").lower().startswith(("text/html", "application/xhtml"))


def _origin(uri: str) -> tuple[str, str, int | None]:
    """Scheme, host and port. Raises ValueError for what is no address, or has a name and password in it."""
    parts = urlsplit(uri)
    if parts.username is not None or parts.password is not None or not parts.hostname:
        raise ValueError("not a plain address")
    return parts.scheme, parts.hostname, parts.port or {"https": 443, "http": 80}.get(parts.scheme)


def _host(uri: str) -> str:
    """What of an address may be shown."""
    try:
        parts = urlsplit(uri)
        return shown(f"{parts.scheme}://{parts.hostname or ''}"[:100])
    except ValueError:
        return "none that can be read"


def headers_of(request: HttpRequest, extra: Mapping[str, str]) -> dict[str, str]:
    """The request's own headers with ``extra`` laid over them, names in lower case; its length is for the connection to
    say."""
    own = {key.lower(): value for key, value in request.headers.items() if key.lower() != "content-length"}
    return {**own, **extra}
