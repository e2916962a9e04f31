"""A worker's end: its own place for the parts of a run, which are built there, sent from there and dropped there.

Nothing is shared with the coordinator, no disk and no file. A worker keeps parts as long as their run is heard of: a
run that ends says so, and of one that was killed nothing is heard any more; then its parts go. What a worker is told is
never more than an address to put bytes to, and a login that ends within the hour.
"""

from __future__ import annotations

import secrets
import shutil
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from io import FileIO
from pathlib import Path
from typing import cast

from driveshard import __version__
from driveshard.core.errors import (
    AuthError,
    Interrupted,
    PartTooLarge,
    SourceChanged,
    SourceMissing,
    TempFull,
    TempLost,
    Unavailable,
)
from driveshard.core.files import md5_of
from driveshard.core.model import Part, PartSpec, UploadSession
from driveshard.sources.base import Source
from driveshard.storage.base import Opened, Piece, Progress, Sender
from driveshard.storage.rate_limits import TokenBucket
from driveshard.upload.far.sealing import Sealed, unseal
from driveshard.upload.pack.apart import require_version
from driveshard.upload.pack.build import build_part
from driveshard.upload.send.load import block_size, blocks_of

HEARD_WITHIN = 120.0  # seconds, after which a run of which nothing was heard is over
_PARTS = 2  # on a worker's disk for each thread: one being built, one being sent
_LOOK_EVERY = 0.5  # seconds
_TELL_EVERY = 0.5  # seconds
_UNKNOWN_FOR = 60.0  # seconds after which a part that the coordinator does not know of is one of a lost answer


@dataclass(frozen=True)
class Workplace:
    """Where a worker is: ``folder`` is its own, ``threads`` build side by side there; ``tell`` takes how many bytes of
    a part (its name) have left. ``wanted`` says whether anybody still waits for what is being built: a run that was
    killed is heard of no more, and the next one waits for the thread."""

    folder: Path
    threads: int
    tell: Callable[[str, int], None]
    wanted: Callable[[], bool] = lambda: True


@dataclass(frozen=True)
class Errand:
    """Whose work it is: one run of one driveshard. Parts of another one might have other bytes."""

    run: str
    version: str = __version__


@dataclass(frozen=True)
class Shipment:
    """One request: ``length`` bytes from ``start`` of one of ``size``, into ``session``, at most ``rate`` bytes/s."""

    sender: Sender
    session: UploadSession
    start: int
    length: int
    size: int
    rate: float | None


class Bench:
    """One run's parts in one worker. Thread-safe."""

    def __init__(self, place: Workplace) -> None:
        self._place = place
        self.directory = place.folder / f"driveshard-{secrets.token_hex(8)}"
        self._changed = threading.Condition()
        self._here: dict[str, float] = {}  # parts by name: when they were finished, in monotonic seconds
        self._building = 0
        self._opened: dict[Sender, tuple[Opened, set[object]]] = {}  # with those who use it just now
        self._until = time.monotonic() + HEARD_WITHIN
        threading.Thread(target=self._leave_in_time, name="bench", daemon=True).start()

    def make(self) -> None:
        """Make the folder, which somebody may have cleaned away. Raises TempFull."""
        try:
            self.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise TempFull(
                f"the folder {self.directory.parent} of the worker on {socket.gethostname()} cannot be written:"
                f" {error.strerror or error}"
            ) from error

    def heard(self, known: frozenset[str]) -> None:
        """The run goes on. It waits for the parts ``known``: others are of answers that were lost."""
        now = time.monotonic()
        with self._changed:
            if self.is_over:
                return
            self._until = now + HEARD_WITHIN
            forgotten = [
                name for name, finished in self._here.items() if name not in known and now - finished > _UNKNOWN_FOR
            ]
        for name in forgotten:
            self.drop(name)

    @property
    def is_over(self) -> bool:
        return time.monotonic() >= self._until

    def check(self, wanted: Callable[[], bool] = lambda: True) -> None:
        """Raises Interrupted once the run is over, or what is made is not ``wanted`` any more."""
        if self.is_over or not wanted():
            raise Interrupted("the run that this part is for has ended")

    def leave(self) -> None:
        """Stop what goes on, and drop everything."""
        with self._changed:
            self._until = 0.0
            self._changed.notify_all()
        self._close_unused()
        shutil.rmtree(self.directory, ignore_errors=True)

    def _leave_in_time(self) -> None:
        with self._changed:
            while not self.is_over:
                self._changed.wait(max(0.0, self._until - time.monotonic()))
        self.leave()

    @contextmanager
    def room(self, wanted: Callable[[], bool]) -> Iterator[None]:
        """Wait until another part may lie here."""
        with self._changed:
            while len(self._here) + self._building >= _PARTS * self._place.threads:
                self.check(wanted)
                self._changed.wait(_LOOK_EVERY)
            self.check(wanted)
            self._building += 1
        try:
            yield
        finally:
            with self._changed:
                self._building -= 1
                self._changed.notify_all()

    def keep(self, name: str) -> None:
        """A part is finished."""
        with self._changed:
            self._here[name] = time.monotonic()
        if self.is_over:
            self.leave()

    def drop(self, name: str) -> None:
        """A part is of no more use."""
        with suppress(OSError):  # cleaned away; on Windows perhaps still open, and gone with the run
            (self.directory / name).unlink()
        with self._changed:
            self._here.pop(name, None)
            self._changed.notify_all()

    def open(self, name: str) -> FileIO:
        """A finished part. Raises TempLost when it is not here."""
        try:
            if name in self._here:
                return (self.directory / name).open("rb", buffering=0)
        except FileNotFoundError as error:  # somebody cleaned up too much
            raise _gone(name) from error
        raise _gone(name)

    @contextmanager
    def opened(self, sender: Sender) -> Iterator[Opened]:
        """Its connections are kept for the next request, until another login is lent."""
        me = object()
        with self._changed:
            if sender not in self._opened:
                self._opened[sender] = sender.open(), set()
            opened, users = self._opened[sender]
            users.add(me)
        try:
            yield opened
        finally:
            with self._changed:
                users.discard(me)
            self._close_unused(sender)

    def _close_unused(self, kept: Sender | None = None) -> None:
        with self._changed:
            unused = [one for one, (_, users) in self._opened.items() if not users and one != kept]
            for opened, _ in map(self._opened.pop, unused):
                opened.close()

    def may_leave(self, name: str, rate: float | None) -> Callable[[int], None]:
        """Called for each block before it leaves: waits by ``rate``, and tells now and then."""
        bucket = TokenBucket(rate or 0.0, (rate or 0.0) / 4, tokens=0.0)
        told, untold = time.monotonic(), 0

        def may_leave(count: int) -> None:
            nonlocal told, untold
            self.check()
            with self._changed:
                self._changed.wait_for(lambda: self.is_over, bucket.take(count, time.monotonic()))
            self.check()
            untold += count
            if time.monotonic() - told >= _TELL_EVERY:
                self._place.tell(name, untold)
                told, untold = time.monotonic(), 0

        return may_leave


_benches: dict[tuple[str, Path], Bench] = {}  # by run and workplace: a process may hold several workers
_opening = threading.Lock()


def _bench(place: Workplace, errand: Errand) -> Bench:
    with _opening:
        for over in [one for one, bench in _benches.items() if bench.is_over]:
            del _benches[over]
        where = errand.run, place.folder
        if where not in _benches:
            _benches[where] = Bench(place)
        return _benches[where]


def _opened(place: Workplace, errand: Errand, name: str) -> Bench:
    bench = _benches.get((errand.run, place.folder))
    if bench is None or bench.is_over:
        raise _gone(name)
    return bench


def _gone(name: str) -> TempLost:
    return TempLost(f"{name} is no longer on the worker that built it")


def build(place: Workplace, errand: Errand, spec: PartSpec, source: Source, max_bytes: int) -> Part:
    """As ``build_part``, into this worker's own folder; the part's ``place`` is its name there. Waits while it is full.

    Raises ConfigError for another driveshard, Interrupted once the run is over, or waits for the part no more."""
    require_version(errand.version)
    bench = _bench(place, errand)
    with bench.room(place.wanted):
        bench.make()
        name = f"{spec.number:05d}-{secrets.token_hex(4)}"
        due = 0.0

        def check() -> None:
            nonlocal due
            if time.monotonic() >= due:
                due = time.monotonic() + _LOOK_EVERY
                bench.check(place.wanted)

        try:
            part = build_part(spec, source, bench.directory / name, max_bytes, check, spare_core=False)
        except (SourceChanged, PartTooLarge):
            raise
        except TempFull as error:
            raise TempFull(
                f"{error.message.rstrip('.')}, on the worker {socket.gethostname()}.",
                advice="Free some room there, or start the workers with another --local-directory; then run the same"
                " command again.",
                vanished=error.vanished,
            ) from error
        except SourceMissing as error:
            raise SourceMissing(
                f"{error.message.rstrip('.')}, on the worker {socket.gethostname()}.",
                advice="The workers of a cluster must see the source under the same path, as on a disk they share.",
            ) from error
        if part.files:
            bench.keep(name)
    return replace(part, place=name)


def send(place: Workplace, errand: Errand, name: str, sealed: Sealed) -> Progress:
    """One request, a Shipment. Raises TempLost when the part is not here, and as ``Destination.send``."""
    bench = _opened(place, errand, name)
    with bench.open(name) as source:
        return _sent(bench, name, source, cast(Shipment, unseal(sealed)))


def _sent(bench: Bench, name: str, source: FileIO, shipment: Shipment) -> Progress:
    with bench.opened(shipment.sender) as sender:
        may_leave, most = bench.may_leave(name, shipment.rate), block_size(shipment.rate)
        blocks = blocks_of(source, name, shipment.start, shipment.length, most, may_leave)
        piece = Piece(shipment.length, blocks)
        try:
            return sender.send(shipment.session, shipment.start, piece, shipment.size)
        except AuthError as error:  # who lent the login asks next, with the login itself, and lends it anew
            raise Unavailable(error.message) from error


def read(place: Workplace, errand: Errand, name: str, start: int, length: int) -> bytes:
    """A part's bytes ``start``..., fewer than ``length`` at its end. Raises TempLost."""
    with _opened(place, errand, name).open(name) as source:
        source.seek(start)
        return source.read(length) or b""


def md5(place: Workplace, errand: Errand, name: str) -> str | None:
    """A part's checksum as it is now. Raises TempLost."""
    return md5_of(_opened(place, errand, name).directory / name)


def drop(place: Workplace, errand: Errand, name: str) -> None:
    """A part is of no more use."""
    with suppress(TempLost):
        _opened(place, errand, name).drop(name)


def go_on(place: Workplace, errand: Errand, known: frozenset[str]) -> None:
    """The run goes on, and waits for the parts ``known``."""
    bench = _benches.get((errand.run, place.folder))
    if bench is not None:
        bench.heard(known)


def leave(place: Workplace, errand: Errand) -> None:
    """The run is over."""
    bench = _benches.pop((errand.run, place.folder), None)
    if bench is not None:
        bench.leave()
