"""Ledger, spool and uploader against a place that fails in every way, killed and begun again at any call.

Whatever was drawn: a temp file goes only when the place holds its very bytes, and in the end each part is there once.
"""

from __future__ import annotations

import contextlib
import hashlib
import random
import shutil
import tempfile
from collections import defaultdict
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from driveshard.core.errors import DriveshardError, TempLost, Throttled, Unavailable
from driveshard.core.files import md5_of
from driveshard.core.model import Part, PartSpec, PartState, SampleRange
from driveshard.storage.base import Destination, Stored
from driveshard.storage.folder.destination import FolderDestination
from driveshard.storage.retry import Patience, Retry
from driveshard.storage.throttle import Throttle
from driveshard.upload.dataset_folder.reconcile import Reconciler
from driveshard.upload.ledger.ledger import Ledger
from driveshard.upload.send.uploader import Address, Uploader
from driveshard.upload.spool import Spool
from driveshard.upload.surroundings import Surroundings
from tests.fakes import FakeClock, Heard

UNIT = FolderDestination.chunk_unit
SIZES = [UNIT + 100, 2 * UNIT + 7, 900, 2 * UNIT]
_ANY = {"unavailable", "throttled", "kill before"}
_AFTER = {"lost reply", "kill after"}
_SESSION = {"lose session", "forget bytes"}
_BEFORE: defaultdict[str, set[str]] = defaultdict(lambda: _ANY)
_BEFORE |= {"send": _ANY | _SESSION | {"id in use"}, "query": _ANY | _SESSION, "begin": _ANY | {"id in use"}}
FAULTS = sorted(_ANY | _AFTER | _SESSION | {"id in use", "wrong bytes"})


class Killed(BaseException):
    """The process is gone, in the middle of a call."""


class Faulty:
    """A destination with a plan: (skip, fault) pairs, each of which hits one call, after ``skip`` that it might hit."""

    def __init__(self, place: FolderDestination, folder_id: str) -> None:
        self.place = place
        self.folder_id = folder_id
        self.plan: list[tuple[int, str]] = []
        self.chunk_unit = place.chunk_unit

    def __getattr__(self, name: str) -> Callable[..., Any]:
        method = getattr(self.place, name)

        def call(*arguments: Any) -> Any:
            hit = self._take(lambda fault: fault in _BEFORE[name])
            if hit is not None:
                self._before(name, hit, arguments)
            answer = method(*arguments)
            hit = self._take(lambda fault: fault in _AFTER or (fault == "wrong bytes" and isinstance(answer, Stored)))
            if hit is not None:
                self._after(hit, answer)
            return answer

        return call

    def _take(self, fits: Callable[[str], bool]) -> str | None:
        """The next fault of the plan if it fits this call and is due."""
        if not self.plan or not fits(self.plan[0][1]):
            return None
        skip, fault = self.plan.pop(0)
        if skip:
            self.plan.insert(0, (skip - 1, fault))
            return None
        return fault

    def _before(self, name: str, fault: str, arguments: tuple[Any, ...]) -> None:
        if fault == "kill before":
            raise Killed
        if fault == "unavailable":
            raise Unavailable("503")
        if fault == "throttled":
            raise Throttled("slow down")
        file_id = arguments[0] if name == "begin" else arguments[0].file_id
        if fault == "id in use":
            with contextlib.suppress(DriveshardError):
                self.place.put(file_id, self.folder_id, f"foreign-{file_id}", b"?", "text/plain", replace=False)
        for partial in self.partials(file_id):
            if fault == "lose session":
                partial.unlink()
            elif fault == "forget bytes":
                partial.write_bytes(b"")

    def _after(self, fault: str, answer: Any) -> None:
        if fault == "wrong bytes":
            path = self.path(answer.file.name)
            data = bytearray(path.read_bytes())
            data[len(data) // 2] ^= 1
            path.write_bytes(data)
        if fault == "kill after":
            raise Killed
        if fault == "lost reply":
            raise Unavailable("the connection broke")

    def path(self, name: str) -> Path:
        return Path(self.place.get(self.folder_id).link.removeprefix("file://")) / name  # type: ignore[union-attr]

    def partials(self, file_id: str) -> list[Path]:
        return list(self.path(".driveshard").glob(f"{file_id}.partial"))


class CarefulSpool(Spool):
    """Checks at every release that the place holds the very bytes."""

    machine: UploadMachine

    def release(self, number: int, file_name: str) -> None:
        row = self.machine.ledger.part(number)
        if self.path(file_name).exists() and not self.machine.rebuilding:
            assert row.state is PartState.VERIFIED
            assert row.file_id is not None
            assert self.machine.place.read(row.file_id, 0, 10**9) == self.machine.content(number)
        super().release(number, file_name)


@settings(
    max_examples=40,
    stateful_step_count=12,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
class UploadMachine(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.root = Path(tempfile.mkdtemp(prefix="machine-"))
        self.clock = FakeClock()
        self.place = FolderDestination(self.root / "nas")
        self.rebuilding = False
        folder_id = self.place.reserve_ids(1)[0]
        self.place.make_folder(folder_id, "d", {"driveshard": "folder", "job": "job"})
        self.faulty = Faulty(self.place, folder_id)
        self.start()

    def start(self) -> None:
        """What a new process has: only what is on disk."""
        self.ledger = Ledger(self.root / "ledger.sqlite")
        self.spool = CarefulSpool(self.root / "spool", 10**8, self.clock)
        self.spool.machine = self
        self.faulty.plan = []
        heard = Heard()
        retry = Retry(self.clock, Patience(attempts=4, first_contact=4, throttled=60), heard, random.Random(0))
        throttle = Throttle(self.clock, heard, None, writes_per_second=0)
        self.around = Surroundings(cast(Destination, self.faulty), self.ledger, retry, throttle, self.clock, heard)
        self.uploader = Uploader(self.around, lambda: Address("job", self.faulty.folder_id), self.spool)

    def content(self, number: int) -> bytes:
        return random.Random(number).randbytes(SIZES[number])

    def name(self, number: int) -> str:
        return f"d-{number:05d}.zip"

    @initialize(count=st.integers(1, len(SIZES)))
    def plan(self, count: int) -> None:
        for number in range(count):
            self.ledger.plan(PartSpec(number, self.name(number), SampleRange(number, number + 1), 1), 1)

    # -- one run -----------------------------------------------------------------------------------------------

    def pack(self, number: int) -> None:
        data = self.content(number)
        self.spool.reserve(number, len(data))
        self.spool.building(number).write_bytes(data)
        self.spool.commit(number, self.name(number), len(data))
        md5, sha256 = hashlib.md5(data).hexdigest(), hashlib.sha256(data).hexdigest()
        selection = SampleRange(number, number + 1)
        self.ledger.packed(Part(number, self.name(number), len(data), md5, sha256, 1, 1, "a", "a", selection))

    def upload(self, number: int) -> None:
        """As the pipeline does it: a damaged temp file is thrown away, a lost one settled or built again."""
        for _ in range(6):
            row = self.ledger.part(number)
            path = self.spool.path(row.file_name)
            if row.state is PartState.PLANNED:
                self.pack(number)
                continue
            if path.exists() and md5_of(path) != row.md5:
                path.unlink()
            try:
                if path.exists() or not self.uploader.settle(row):
                    self.uploader.upload(number)
                return
            except TempLost:
                self.rebuilding = True
                self.spool.release(number, row.file_name)
                self.rebuilding = False
                self.pack(number)
        raise AssertionError(f"part {number} is built again and again")

    def run_all(self) -> None:
        """One run, to its end or to the first error that ends it."""
        for row in self.ledger.parts(unfinished=True):
            with contextlib.suppress(DriveshardError):
                self.upload(row.number)

    # -- what may happen ---------------------------------------------------------------------------------------

    @rule(plan=st.lists(st.tuples(st.integers(0, 3), st.sampled_from(FAULTS)), max_size=6))
    def run_with_faults(self, plan: list[tuple[int, str]]) -> None:
        self.faulty.plan = list(plan)
        try:
            self.run_all()
        except Killed:
            self.kill()
        self.faulty.plan = []

    @rule()
    def kill(self) -> None:
        self.ledger.close()
        self.start()

    @rule(number=st.integers(0, len(SIZES) - 1))
    def lose_temp(self, number: int) -> None:
        self.spool.path(self.name(number)).unlink(missing_ok=True)

    @rule()
    def lose_all_temp(self) -> None:
        self.ledger.close()
        shutil.rmtree(self.root / "spool")
        self.start()

    @rule(number=st.integers(0, len(SIZES) - 1))
    def damage_temp(self, number: int) -> None:
        path = self.spool.path(self.name(number))
        if path.exists():
            path.write_bytes(bytes(SIZES[number]))

    @rule(days=st.integers(1, 9))
    def time_passes(self, days: int) -> None:
        self.clock.time += days * 86_400

    @rule(number=st.integers(0, len(SIZES) - 1), damaged=st.booleans())
    def a_released_part_is_found_missing_or_damaged(self, number: int, damaged: bool) -> None:
        """What the comparison at a run's start does then."""
        rows = {row.number: row for row in self.ledger.parts()}
        if number in rows and rows[number].state is PartState.RELEASED:
            if not damaged:
                self.place.remove(rows[number].file_id or "")
            self.ledger.wrong_bytes(number)

    @rule()
    def somebody_deletes_the_sessions(self) -> None:
        for partial in self.faulty.partials("*"):
            partial.unlink()

    # -- what must hold ----------------------------------------------------------------------------------------

    @invariant()
    def what_is_released_is_there(self) -> None:
        for row in self.ledger.parts():
            if row.state in (PartState.VERIFIED, PartState.RELEASED):
                assert row.file_id is not None
                assert self.place.read(row.file_id, 0, 10**9) == self.content(row.number)

    def teardown(self) -> None:
        self.kill()
        for _ in range(3):
            self.run_all()
        rows = self.ledger.parts()
        assert {row.state for row in rows} <= {PartState.RELEASED}
        # A part that was taken for damaged is there beside the one that took its place, until the run's end.
        Reconciler(replace(self.around, destination=self.place, emit=Heard())).reconcile(self.faulty.folder_id, "job")
        ours = [one for one in self.place.children(self.faulty.folder_id) if not one.name.startswith("foreign")]
        assert sorted(one.name for one in ours) == [self.name(row.number) for row in rows]
        assert {one.id for one in ours} == {row.file_id for row in rows}
        for one in ours:
            assert self.faulty.path(one.name).read_bytes() == self.content(int(one.properties["part"]))
        assert list((self.root / "spool").iterdir()) == []
        self.ledger.close()
        shutil.rmtree(self.root)


TestUploads = UploadMachine.TestCase
