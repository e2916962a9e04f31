"""What ``doctor`` looks at, one finding each: how it is, in a sentence, and the one thing to do.

A check returns a Finding, or raises the error that a push would raise; then it is red with that error's own advice.
"""

from __future__ import annotations

import datetime
import importlib.metadata
import os
import platform
import shutil
import stat
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from driveshard import __version__
from driveshard.cli.error_messages import moment, redacted, sentence
from driveshard.config.settings import Settings, push_options, read_config, require_home
from driveshard.core.errors import AuthError, ConfigError, DriveshardError, Refused, StorageFull, TempFull
from driveshard.core.formatting import human_seconds, human_size, plural
from driveshard.core.paths import path_of
from driveshard.storage.account_usage import AccountTally
from driveshard.storage.drive.checkup import Account, Checkup, Place
from driveshard.storage.drive.credentials import PUBLISH, TESTING_DAYS, StoredCredentials, read_token
from driveshard.storage.drive.network import certificates, proxy_for_https
from driveshard.storage.drive.oauth_client import read_client
from driveshard.storage.rate_limits import DRIVE_BYTES_A_DAY
from driveshard.storage.registry import split_where

State = Literal["ok", "warn", "fail", "skip"]
_SKEW_TOLD, _SKEW_WRONG = 60.0, 300.0  # seconds; Google refuses what is signed five minutes ago
_PATIENCE = 20.0  # seconds; somebody waits for the page
_WORST = (70, 78, 77, 79, 66, 73, 76, 64, 69, 75)  # what somebody has to mend comes before what passes by itself


@dataclass(frozen=True, slots=True)
class Finding:
    """``said`` is how it is; ``advice`` the one thing to do; ``code`` the exit code that a push would have."""

    check: str
    state: State
    said: str
    advice: str = ""
    code: int = 0

    def as_json(self) -> dict[str, Any]:
        """For scripts."""
        return {
            "check": self.check,
            "state": self.state,
            "message": self.said,
            "advice": self.advice,
            "exit_code": self.code,
        }


def ok(check: str, said: str) -> Finding:
    return Finding(check, "ok", said)


def warn(check: str, said: str, advice: str) -> Finding:
    return Finding(check, "warn", said, advice)


def red(check: str, error: DriveshardError) -> Finding:
    return Finding(
        check, "fail", redacted(error.message), sentence(error.advice) if error.advice else "", error.exit_code
    )


def skip(check: str, why: str) -> Finding:
    return Finding(check, "skip", why)


def worst(findings: list[Finding]) -> int:
    """The exit code of the finding that stands most in the way; 0 when none does."""
    codes = {one.code for one in findings if one.state == "fail"}
    return min(codes, key=lambda code: _WORST.index(code) if code in _WORST else 0) if codes else 0


def judged(check: str, look: Callable[[], Finding]) -> Finding:
    """The finding, or the error as one."""
    try:
        return look()
    except DriveshardError as error:
        return red(check, error)


# -- this machine ----------------------------------------------------------------------------------------------------


def versions() -> Finding:
    """What runs here, for a report."""
    names = ("google-api-python-client", "google-auth", "httplib2")
    libraries = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in names)
    system = f"{platform.system()} {platform.release()}"
    return ok(
        "versions",
        f"driveshard {__version__}, Python {platform.python_version()}, {libraries}, {system}",
    )


def home(settings: Settings) -> Finding:
    """The folder for login and ledgers."""
    require_home(settings.home)
    if os.name == "posix" and stat.S_IMODE(settings.home.stat().st_mode) & 0o022:
        return warn("home", f"{settings.home} can be changed by other users", f"Run: chmod go-w {settings.home}")
    return ok("home", str(settings.home))


def _free(place: Path) -> int:
    """Bytes that can be written there; a folder that is not there yet counts as what it would be made in. Raises
    OSError when it cannot be written."""
    while not place.exists() and place != place.parent:
        place = place.parent
    with tempfile.NamedTemporaryFile(dir=place, prefix=".driveshard-"):
        return shutil.disk_usage(place).free


def temp(place: Path, part_size: int, uploads: int) -> Finding:
    """Whether parts find room while they wait for their upload; a few at a time are there."""
    try:
        free = _free(place)
    except OSError as error:
        raise TempFull(f"the temp folder {place} cannot be written: {error.strerror or error}") from error
    needed = part_size * (uploads + 2)
    if free < part_size:
        raise TempFull(f"{place} has {human_size(free)} free, less than one part of {human_size(part_size)}")
    if free < needed:
        said = f"{place} has {human_size(free)} free; {human_size(needed)} keep all uploads busy"
        return warn("temp disk", said, "Make parts smaller (--part-size), or name another folder (--temp).")
    return ok("temp disk", f"{place}, {human_size(free)} free")


def network() -> Finding:
    """The prescribed way to Drive."""
    proxy, bundle = proxy_for_https(), certificates()
    said = f"proxy {proxy.shown} ({proxy.variable})" if proxy else "no proxy"
    return ok("way", f"{said}; certificates: {bundle or 'the usual ones'}")


# -- the login -------------------------------------------------------------------------------------------------------


def client(settings: Settings) -> Finding:
    """The OAuth client's file."""
    if settings.service_account:
        return skip("client", "not needed with a service account")
    if not settings.client_file.exists() and settings.token_file.exists():
        return ok("client", "not here; the stored login works without until it ends")
    found = read_client(settings.client_file)
    return ok("client", f"{found.client_id} ({settings.client_file})")


def login(settings: Settings, now: datetime.datetime) -> Finding:
    """The stored login: there, private, not of the kind that dies after a week."""
    if settings.service_account:
        whose = f" for {settings.subject}" if settings.subject else ""
        return ok("login", f"service account {settings.service_account}{whose}")
    if not settings.token_file.exists():
        if settings.drive_url:
            return ok("login", f"none, and {settings.drive_url} needs none")
        raise AuthError("nobody is logged in to Google Drive")
    found = read_token(settings.token_file)
    if os.name == "posix" and stat.S_IMODE(settings.token_file.stat().st_mode) & 0o077:
        said = f"{settings.token_file} can be read by other users"
        return Finding("login", "fail", said, f"Run: chmod 600 {settings.token_file}", ConfigError.exit_code)
    return _age(found, now)


def _age(found: StoredCredentials, now: datetime.datetime) -> Finding:
    scopes = " ".join(str(one).rpartition("/")[2] for one in found.scopes or []) or "scope not known"
    who = f"{found.account or 'account not known'}, {scopes}"
    if found.since is None:
        return ok("login", who)
    seconds = (now - found.since).total_seconds()
    if seconds < TESTING_DAYS * 86_400:
        ends = f"{who}, {human_seconds(max(0.0, seconds))} old; if the app is in Testing it ends after 7 days"
        return ok("login", f"{ends}: {PUBLISH.removesuffix('.')}") if seconds < 86_400 else warn("login", ends, _said())
    return ok("login", f"{who}, {human_seconds(seconds)} old")


def _said() -> str:
    return PUBLISH[:1].upper() + PUBLISH[1:]


# -- Drive -----------------------------------------------------------------------------------------------------------


def clock(account: Account) -> Finding:
    """This machine's clock against Drive's."""
    skew = account.skew
    if skew is None:
        return skip("clock", "Drive did not tell the time")
    said = f"this machine is {human_seconds(abs(skew))} {'ahead of' if skew > 0 else 'behind'} Drive"
    if abs(skew) > _SKEW_WRONG:
        return Finding("clock", "fail", said, "Set the clock right (NTP): logins fail with it.", ConfigError.exit_code)
    if abs(skew) > _SKEW_TOLD:
        return warn("clock", said, "Set the clock right (NTP).")
    return ok("clock", "right" if abs(skew) < 2 else said)


def storage(account: Account, place: Place | None, *, service_account: bool) -> Finding:
    """Room for what is pushed."""
    if place is not None and place.shared_drive:
        return ok("storage", "that of the shared drive")
    if service_account and account.limit == 0:
        raise Refused(
            "a service account owns no storage, so it can upload nothing into a My Drive",
            advice="Push into a folder of a shared drive that it is a member of (--to drive:FOLDER_ID), or act for a"
            " person with DRIVESHARD_SUBJECT.",
        )
    left = account.left
    if left is None:
        return ok("storage", f"no limit; {human_size(account.used)} used")
    said = f"{human_size(left)} left of {human_size(account.limit or 0)}"
    if left == 0:
        raise StorageFull(f"the storage is full: {said}")
    if left < (account.limit or 0) / 20:
        return warn("storage", said, "Free some space (empty the trash, too) or get more storage.")
    return ok("storage", said)


def day(settings: Settings, account: str, now: float) -> Finding:
    """What was sent in the last 24 hours, of what Drive takes in a day."""
    if not settings.account_file.exists():
        return ok("day's cap", f"nothing sent in 24 hours of {human_size(DRIVE_BYTES_A_DAY)}")
    tally = AccountTally(settings.account_file, account)
    try:
        sent, again = tally.sent_since(now)
    finally:
        tally.close()
    said = f"{human_size(sent)} sent in 24 hours of {human_size(DRIVE_BYTES_A_DAY)}"
    if sent >= DRIVE_BYTES_A_DAY * 0.95:
        return warn("day's cap", said, f"A push goes on from {moment(again)}.")
    return ok("day's cap", said)


def destination(place: Place | None) -> Finding:
    """Where datasets would go."""
    if place is None:
        return ok("folder", "My Drive")
    where = f"{place.name!r}, {f'on the shared drive {place.shared_drive}' if place.shared_drive else 'in My Drive'}"
    if not place.writable:
        raise Refused(
            f"nothing may be added to {where}",
            advice="Ask its owner, or a manager of the shared drive, for the role Contributor or Content manager.",
        )
    return ok("folder", where)


def written(checkup: Checkup, settings: Settings) -> Finding:
    """A folder made and deleted, in its turn among the writes of all runs."""
    tally = AccountTally(settings.account_file, checkup.account_key)
    try:
        checkup.write(lambda: settings.clock.sleep(tally.reserve_write(2.5, settings.clock.now())))
    finally:
        tally.close()
    return ok("write", "a folder was made and deleted again")


def reached(settings: Settings) -> Finding:
    """Whether Drive answers at all: asked without a login it refuses, which is an answer."""
    checkup = Checkup(replace(settings, anonymous=True, timeout=min(settings.timeout, _PATIENCE)))
    try:
        checkup.account()
    except (AuthError, ConfigError, Refused) as error:
        if not isinstance(error.__cause__, OSError):
            return ok("drive", "answers; more is asked once somebody is logged in")
        raise
    finally:
        checkup.close()
    return ok("drive", "answers")


def on_drive(settings: Settings, rest: str, *, write: bool) -> Iterator[Finding]:
    """All that Drive is asked; what hangs on something that failed is not looked at."""
    try:
        checkup = Checkup(replace(settings, timeout=min(settings.timeout, _PATIENCE)), rest)
    except DriveshardError as error:
        yield red("drive", error)
        return
    try:
        yield from _asked(checkup, settings, write=write)
    finally:
        checkup.close()


def _asked(checkup: Checkup, settings: Settings, *, write: bool) -> Iterator[Finding]:
    try:
        account = checkup.account()
    except DriveshardError as error:
        yield red("drive", error)
        yield from (skip(name, "needs an answer of Drive") for name in ("clock", "folder", "storage", "write"))
        return
    yield ok("drive", f"answers, to {account.address or 'a login without an address'}")
    yield judged("clock", lambda: clock(account))
    place = None
    try:
        place = checkup.place()
        found = destination(place)
    except DriveshardError as error:
        found = red("folder", error)
    yield found
    yield judged("storage", lambda: storage(account, place, service_account=settings.service_account is not None))
    yield judged("day's cap", lambda: day(settings, checkup.account_key, settings.clock.now()))
    if found.state == "fail" or not write:
        yield skip("write", "was not asked for" if not write else "needs the folder")
    else:
        yield judged("write", lambda: written(checkup, settings))


def _in_folder(rest: str) -> Finding:
    """A plain directory as destination."""
    try:
        return ok("folder", f"{rest}, {human_size(_free(path_of(rest)))} free")
    except OSError as error:
        raise TempFull(f"{rest} cannot be written: {error.strerror or error}", advice="Name another folder.") from error


def everything(settings: Settings, to: str | None, *, write: bool = True) -> Iterator[Finding]:
    """All checks, in the order in which one hangs on the other."""
    yield versions()
    yield judged("home", lambda: home(settings))
    try:
        given: dict[str, Any] = {"to": to} if to else {}
        options = push_options("", given, {}, read_config(settings.home)[0], os.environ)
    except DriveshardError as error:
        yield red("config", error)
        return
    yield ok("config", "read without a fault")
    yield judged("temp disk", lambda: temp(options.temp or settings.spools, options.part_size, options.uploads))
    scheme, rest = split_where(options.to)
    if scheme == "file":
        yield judged("folder", lambda: _in_folder(rest))
        return
    now = datetime.datetime.now(datetime.UTC)
    yield judged("way", network)
    yield judged("client", lambda: client(settings) if not settings.drive_url else skip("client", "not needed there"))
    logged = judged("login", lambda: login(settings, now))
    yield logged
    if logged.code == AuthError.exit_code:
        yield judged("drive", lambda: reached(settings))
        return
    yield from on_drive(settings, rest, write=write)


def summary(findings: list[Finding]) -> str:
    """The last line."""
    bad = sum(one.state == "fail" for one in findings)
    unsure = sum(one.state == "warn" for one in findings)
    if bad:
        return f"{plural(bad, 'thing')} to mend before a push works."
    return "All is well." if not unsure else f"A push works; {plural(unsure, 'thing')} to look at."
