"""What an emulator can be told when it starts, in one place for the class, the command line and its help."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Options:
    """The options of an emulator beside its root and port.

    faults, seed: a plan, see `faults`. latency_ms: the round trip of each request. bandwidth: bytes a second in each
    direction, all connections together. writes_per_second: more are answered 403 rateLimitExceeded. strict: protocol
    slips are remembered. token: the only bearer token that is good beside those issued here. api_key: the only key
    that is good. scan_limit: bytes above which the site asks for a confirmation before a download. download_quota:
    downloads of a file a day that strangers get. consent: a login waits for a click on the consent page. refresh_days:
    how long refresh tokens live, by the emulator's clock.
    """

    faults: str = ""
    seed: int = 0
    latency_ms: float = 0
    bandwidth: float | None = None
    writes_per_second: float | None = None
    strict: bool = False
    token: str | None = None
    api_key: str | None = None
    scan_limit: int = 100 << 20
    download_quota: int | None = None
    consent: bool = False
    refresh_days: float | None = None
