"""The way to Drive that a company's network prescribes: its proxy and its certificates, read from the environment.

httplib2 reads a proxy of the form ``host:port`` as none at all, and does not know the variables by which curl and
``requests`` are told of certificates; both are common where somebody else runs the network.
"""

from __future__ import annotations

import os
import re
import ssl
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import SplitResult, unquote, urlsplit
from urllib.request import proxy_bypass_environment  # type: ignore[attr-defined]

import httplib2

from driveshard.core.errors import ConfigError

# PySocks' numbers and the usual ports.
_SCHEMES = {"http": (3, 80), "https": (3, 443), "socks": (2, 1080), "socks5": (2, 1080), "socks5h": (2, 1080)}
_SCHEMES |= {"socks4": (1, 1080), "socks4a": (1, 1080)}
_BUNDLES = ("HTTPLIB2_CA_CERTS", "REQUESTS_CA_BUNDLE", "SSL_CERT_FILE")


class Proxy(httplib2.ProxyInfo):
    """A proxy for https; ``shown`` is its address without what is secret, ``variable`` where it was named."""

    def __init__(self, parts: SplitResult, variable: str, bypass: str) -> None:
        kind, usual = _SCHEMES[parts.scheme.lower()]
        super().__init__(  # type: ignore[no-untyped-call]
            kind,
            parts.hostname,
            parts.port or usual,
            proxy_user=unquote(parts.username) if parts.username else None,
            proxy_pass=unquote(parts.password) if parts.password else None,
        )
        self.shown = f"{parts.hostname}:{parts.port or usual}"
        self.variable = variable
        self._bypass = bypass

    def applies_to(self, hostname: str) -> bool:
        """Whether requests to that host go through it; NO_PROXY names those that do not."""
        return not proxy_bypass_environment(hostname, {"no": self._bypass})


def proxy_for_https(environment: Mapping[str, str] | None = None) -> Proxy | None:
    """The proxy that HTTPS_PROXY (or ALL_PROXY) names, if any. Raises ConfigError when what it names cannot be one."""
    environment = os.environ if environment is None else environment
    for variable in ("https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"):
        value = environment.get(variable, "").strip()
        if value:
            return _proxy(value, variable, _bypass(environment))
    return None


def _bypass(environment: Mapping[str, str]) -> str:
    """NO_PROXY as Python reads it: ``*.example.org`` means what ``.example.org`` means."""
    names = re.split(r"[,\s]+", environment.get("no_proxy") or environment.get("NO_PROXY") or "")
    return "*" if "*" in names else ",".join(one.removeprefix("*") for one in names if one)


def _proxy(value: str, variable: str, bypass: str) -> Proxy:
    try:
        parts = urlsplit(value if "://" in value else f"http://{value}")
        usable = parts.scheme.lower() in _SCHEMES and parts.hostname and parts.port != 0
        if usable and parts.path in ("", "/") and not parts.query and not parts.fragment:
            return Proxy(parts, variable, bypass)
        why = "" if parts.scheme.lower() in _SCHEMES else f" (it cannot be of the kind {parts.scheme[:20]}:)"
    except ValueError as error:
        why = "" if "@" in value else f" ({error})"  # urllib quotes what it takes for a port: a part of the password
    raise ConfigError(
        f"the proxy that {variable} names, {_shown(value)}, is not a proxy's address{why}",
        advice="Write it as http://HOST:PORT; in a name or password write # as %23, / as %2F, @ as %40 and : as %3A.",
    )


def _shown(value: str) -> str:
    """Without name and password."""
    text = value if "@" not in value else "...@" + value.rpartition("@")[2]
    return ascii(text[:100])


def certificates(environment: Mapping[str, str] | None = None) -> str | None:
    """The file or folder of certificates that the environment names, None for the usual ones. Raises ConfigError when
    it cannot be used."""
    environment = os.environ if environment is None else environment
    for variable in _BUNDLES:
        value = environment.get(variable)
        if value:
            _try_certificates(Path(value), variable)
            return value
    return None


def _try_certificates(path: Path, variable: str) -> None:
    why = "it is not there"
    try:
        if path.is_dir():
            return  # looked into by OpenSSL, certificate by certificate
        if path.exists():
            ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(path)
            return
    except ssl.SSLError:
        why = "it holds no certificates"
    except OSError as error:
        why = error.strerror or str(error)
    raise ConfigError(
        f"the certificates at {path}, which {variable} names, cannot be used: {why}",
        advice=f"Set {variable} to a file of certificates in PEM form, or unset it.",
    )
