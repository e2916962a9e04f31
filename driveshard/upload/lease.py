"""Two machines, one dataset: whoever sends says so in the properties of the dataset's folder, and others keep out.

Each home writes a property of its own, ``lease-ID``, with a claim: since when, until when, on which host, in POSIX
seconds of the destination's clock. So a claim overwrites nobody's, and the answer to that one write shows whether
there is another: then it is taken back. Reading costs nothing, since the folder is looked at anyway. A claim is renewed
while its run goes on, taken away at its end, and over by itself when its machine is no more.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import random
import re
import secrets
import socket
import threading
import time
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from driveshard.config.settings import Settings
from driveshard.core.clock import Clock
from driveshard.core.errors import Busy, DriveshardError, Interrupted, NotFound, Refused, TempFull
from driveshard.core.events import Emit, Notice, Waiting
from driveshard.core.files import write_whole
from driveshard.core.formatting import shown
from driveshard.core.model import RemoteFile
from driveshard.storage.base import Destination
from driveshard.storage.retry import Retry
from driveshard.storage.throttle import Throttle

LIFE = 600.0  # seconds; how long another machine waits for one that crashed
_FORGOTTEN = 3600.0  # seconds after its end that a claim is removed; until then it may be somebody's who only slept
_FARTHEST = 86_400.0  # seconds ahead; what claims more was not written by this clock
_KEY = re.compile(r"lease-([0-9a-f]{16})")
_LAST = "pushed"  # the property that says who let go last, and since when he had it
_VALUE = re.compile(r"(\d{1,12}) (\d{1,12}) (.*)", re.DOTALL)
_PROPERTY_BYTES = 124  # key and value, as Drive takes them
_LOOK_EVERY = 0.25  # seconds
_FIRST_LOOK, _LONGEST_LOOK = 1.0, 15.0  # seconds between two looks at somebody else's claim
_PACE = 1.2  # seconds; three writes go in that time
_LAST_WORD = 5.0  # seconds that taking a claim away may hold up the end of a run


@dataclass(frozen=True, slots=True)
class Claim:
    """``home`` pushes from ``host``; times are POSIX seconds of the destination's clock."""

    home: str
    since: int
    until: int
    host: str

    @property
    def key(self) -> str:
        return f"lease-{self.home}"

    @property
    def value(self) -> str:
        times = f"{self.since} {self.until} "
        room = _PROPERTY_BYTES - len(self.key) - len(times)
        return times + self.host.encode()[:room].decode(errors="ignore")

    def is_live(self, now: float) -> bool:
        return now < self.until <= now + _FARTHEST


def claims_in(properties: Mapping[str, str]) -> Iterator[Claim]:
    """The claims on a folder, over or not; what others wrote in their place is none."""
    for key, value in properties.items():
        name, said = _KEY.fullmatch(key), _VALUE.fullmatch(value)
        if name and said:
            yield Claim(name[1], int(said[1]), int(said[2]), shown(said[3]) or "another machine")


def home_id(home: Path) -> str:
    """The lasting id of a home folder, 16 hex digits. It is kept in the home, so that another network name changes
    nothing; made from where it is, so that a home that was deleted is the same again. Raises TempFull when it cannot
    be written down."""
    path = home / "machine"
    try:
        with contextlib.suppress(FileNotFoundError, UnicodeDecodeError):
            said = path.read_text(encoding="ascii").strip()
            if _KEY.fullmatch(f"lease-{said}"):
                return said
        place = f"{uuid.getnode()} {socket.gethostname()} {home.absolute()}"
        made = hashlib.sha256(os.fsencode(place)).hexdigest()[:16]
        write_whole(path, made.encode())
        return made
    except OSError as error:
        raise TempFull(
            f"{home} cannot be written ({error.strerror or error})",
            advice="Mend that, or name another folder with DRIVESHARD_HOME, then run the same command again.",
        ) from error


class Lease:
    """This run's claim on a dataset. All methods may be called from any thread."""

    def __init__(
        self,
        destination: Destination,
        home: str,
        name: str,
        *,
        retry: Retry,
        throttle: Throttle,
        clock: Clock,
        emit: Emit,
        wait: bool,
    ) -> None:
        self._destination = destination
        self._home = home
        self._name = name
        self._retry = retry
        self._throttle = throttle
        self._clock = clock
        self._emit = emit
        self._wait = wait
        self._lock = threading.RLock()
        self._folder: RemoteFile | None = None
        self._claim: Claim | None = None  # ours, while it is on the folder
        self._settled = False  # claimed, or known that it cannot be
        self._lost: Busy | None = None
        self._over = threading.Event()
        self._keeper: threading.Thread | None = None

    # -- before anything is sent ---------------------------------------------------------------------------------

    def admit(self, folder: RemoteFile) -> RemoteFile:
        """The folder, seen without anybody else's claim: what is known of it from now on is not half of another run.
        Raises Busy while there is one, unless this run is to wait for that; who may have to wait claims it at once."""
        other = self._other(folder)
        if other is not None and not self._wait:
            raise self._busy(other)
        # Where others push, too, two may see nobody now. Later on is too late to wait: the ledger would be behind.
        while other is not None or (self._wait and self.others(folder)):
            folder = self._waited(folder, other)
            self._folder = folder
            try:
                self.hold()
                break
            except Busy:
                folder = self._look(folder.id)
                other = self._other(folder)
        self._folder = folder
        return folder

    def _waited(self, folder: RemoteFile, other: Claim | None) -> RemoteFile:
        """The folder, once nobody else's claim is on it."""
        pause, told = _FIRST_LOOK, ""
        while other is not None:
            if told != self._described(other):
                told = self._described(other)
                self._emit(Waiting(told, 0.0))
            self._clock.sleep(pause * (0.5 + random.random()))
            pause = min(2 * pause, _LONGEST_LOOK)
            folder = self._look(folder.id)
            other = self._other(folder)
        return folder

    def others(self, folder: RemoteFile) -> list[str]:
        """Traces of other homes on the folder: a word for each of their runs that is known from it."""
        found = [f"{one.home} {one.since}" for one in claims_in(folder.properties)]
        found += [folder.properties.get(_LAST, self._home)]
        return sorted(one for one in found if not one.startswith(self._home))

    def _look(self, folder_id: str) -> RemoteFile:
        return self._retry.call(lambda: self._destination.get(folder_id), doing="looking for the dataset's folder")

    def of_new_folder(self) -> dict[str, str]:
        """The properties with which a folder is made that is claimed at once; ``made`` tells that it was."""
        self._claim = self._new_claim()
        return {self._claim.key: self._claim.value}

    def made(self, folder: RemoteFile) -> None:
        """The folder was made by us, by this run or by one that was killed."""
        with self._lock:
            self._folder = folder
            if self._claim is not None and folder.properties.get(self._claim.key) == self._claim.value:
                self._keep()
            else:
                self._claim = None

    def hold(self) -> None:
        """Have the dataset claimed before bytes leave. Raises Busy when somebody else was quicker, or took over since
        this machine slept too long; a destination that refuses to note a claim is told, and does not stop the run."""
        with self._lock:
            if self._lost is not None:
                raise self._lost
            if self._settled or self._folder is None:
                return
            try:
                self._take(self._folder)
            except NotFound:
                raise
            except Refused as error:
                self._settled = True
                self._emit(Notice(f"Other machines cannot be kept from pushing {self._name} at the same time: {error}"))

    # -- the claim -----------------------------------------------------------------------------------------------

    def _new_claim(self) -> Claim:
        now = self._destination.time()
        return Claim(self._home, int(now), int(now + LIFE), shown(socket.gethostname()) or "another machine")

    def _take(self, folder: RemoteFile) -> None:
        claim = self._new_claim()
        forgotten = [
            one.key
            for one in claims_in(folder.properties)
            if one.home != self._home and not claim.since - _FORGOTTEN < one.until <= claim.since + _FARTHEST
        ]
        answer = self._write({**dict.fromkeys(forgotten), claim.key: claim.value}, "claiming the dataset")
        other = self._other(answer)
        if other is not None or set(self.others(answer)) - set(self.others(folder)):
            self._write({claim.key: None}, "taking back a claim")
            raise (
                self._busy(other)
                if other is not None
                else Busy(f"{self._name} was pushed from elsewhere a moment ago", advice="Run the same command again.")
            )
        self._claim = claim
        self._keep()

    def _write(self, properties: Mapping[str, str | None], doing: str) -> RemoteFile:
        assert self._folder is not None
        folder_id = self._folder.id

        def paced() -> RemoteFile:
            self._throttle.write()
            return self._destination.set_properties(folder_id, properties)

        return self._retry.call(paced, doing=doing)

    def _other(self, folder: RemoteFile) -> Claim | None:
        now = self._destination.time()
        live = (one for one in claims_in(folder.properties) if one.home != self._home and one.is_live(now))
        return min(live, key=lambda one: (one.since, one.home), default=None)

    def _described(self, other: Claim) -> str:
        return f"{self._name} is being pushed from {other.host} since {self._local(other.since)}"

    def _busy(self, other: Claim) -> Busy:
        until = other.until + self._clock.now() - self._destination.time()
        return Busy(
            f"{self._described(other)}; unless that goes on, its claim ends at {self._local(other.until)}",
            advice="Wait for it to end, or give --wait. If that machine is no more, nothing is to be done but to wait.",
            resume_after=until,
        )

    def _local(self, when: float) -> str:
        """A time of the destination's clock, as this machine's clock and zone have it."""
        return time.strftime("%Y-%m-%d %H:%M", time.localtime(when + self._clock.now() - self._destination.time()))

    # -- while the run goes on -----------------------------------------------------------------------------------

    def _keep(self) -> None:
        self._settled = True
        self._keeper = threading.Thread(target=self._keep_on, name="lease", daemon=True)
        self._keeper.start()

    def _keep_on(self) -> None:
        """Renew the claim; take it away at the end of the run, or at once on a stop, while requests still go."""
        while not (self._over.wait(_LOOK_EVERY) or self._clock.stop.is_set()):
            claim = self._claim
            if claim is not None and claim.until - self._destination.time() < LIFE / 2:
                with contextlib.suppress(DriveshardError):  # the run itself will meet that, too
                    self._renew(claim)
        with contextlib.suppress(Exception):  # connections may be closed by now; what is left is over by itself
            self._take_away()

    def _renew(self, claim: Claim) -> None:
        """Raises nothing when somebody else took over: ``hold`` does."""
        now = self._destination.time()
        slept = now > claim.until
        renewed = replace(claim, until=int(now + LIFE), since=int(now) if slept else claim.since)
        other = self._other(self._write({renewed.key: renewed.value}, "renewing the claim"))
        if other is not None and (slept or (other.since, other.home) < (renewed.since, renewed.home)):
            self._lost = self._busy(other)
            self._over.set()
        self._claim = renewed

    def release(self, seconds: float = _LAST_WORD) -> None:
        """Let others in; waits ``seconds`` for that at most, less on a stop: the claim is over by itself one day."""
        self._over.set()
        if self._keeper is not None:
            self._keeper.join(min(seconds, _PACE) if self._clock.stop.is_set() else seconds)

    def _take_away(self) -> None:
        claim, self._claim = self._claim, None
        if claim is None or self._folder is None:
            return
        self._retry.heed()
        try:
            self._throttle.write()
        except Interrupted:
            time.sleep(_PACE)
        word = f"{claim.home} {claim.since} {secrets.token_hex(4)}"
        self._destination.set_properties(self._folder.id, {claim.key: None, _LAST: word})


def lease_for(
    destination: Destination,
    name: str,
    settings: Settings,
    retry: Retry,
    throttle: Throttle,
    emit: Emit,
    *,
    wait: bool,
) -> Lease:
    """This home's claim on that dataset, not yet taken."""
    home = home_id(settings.home)
    return Lease(destination, home, name, retry=retry, throttle=throttle, clock=settings.clock, emit=emit, wait=wait)
