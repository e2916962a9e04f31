"""A run of ``push``: source -> planner -> packer -> spool -> uploader, then publish and share.

    planner thread --numbers--> packer threads --numbers--> upload threads
                    (bounded)        |            (bounded)       |
                                 engine, spool               destination
                                     ^                            |
                                     +---- a part whose file ------+
                                           was lost comes back

Every step is in the ledger before the next begins, so that a run may end anywhere and another one goes on. The first
error that no retry mends ends the run: nothing new is started, uploads under way are finished if they can be.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager

from driveshard.core.errors import Interrupted, TempLost, WorkersKilled
from driveshard.core.events import Notice, PartDropped, PartPacked, Planned, SourceFailed
from driveshard.core.formatting import error_text
from driveshard.core.model import Failure, FileList, Part, PartState
from driveshard.sources.base import Source
from driveshard.sources.folder import FolderSource
from driveshard.upload.bottleneck import TimeSpent
from driveshard.upload.bounded_queue import Channel, Closed
from driveshard.upload.pack.builder import Builder
from driveshard.upload.pack.engine import Engine
from driveshard.upload.pack.workers import deaf
from driveshard.upload.plan.base import Planner
from driveshard.upload.send.uploader import Uploader
from driveshard.upload.surroundings import Surroundings

_PLANNED_AHEAD = 1000  # numbers only; what the parts hold is in the ledger
_MOST_REBUILDS = 5  # of one part that was lost, in one run
_GRACE = 2.0  # seconds that a stop leaves to requests under way


class Pipeline:
    """Takes every part that is not released to *released*.

    ``uploads`` threads send side by side, ``packers`` parts are built side by side. ``on_all_begun`` is called once,
    when a session of the last part has begun, so that nothing is left to build or begin.
    """

    def __init__(
        self,
        around: Surroundings,
        source: Source,
        planner: Planner,
        engine: Engine,
        uploader: Uploader,
        on_all_begun: Callable[[], None],
        *,
        uploads: int,
    ) -> None:
        self._around = around
        self._source = source
        self._planner = planner
        self._ledger = around.ledger
        self._spool = uploader.spool
        self._engine = engine
        self._uploader = uploader
        self._builder = Builder(source, engine, uploader.spool, around.clock, around.emit)
        self._clock = around.clock
        self._emit = around.emit
        self._uploads = uploads
        # One more than workers, so that a worker finds its next part waiting while the last one is noted down.
        self._packers = 1 if planner.sequential else engine.workers + 1
        self.to_pack: Channel[int] = Channel(_PLANNED_AHEAD)
        self.to_upload: Channel[int] = Channel(uploads)
        self._lock = threading.Lock()
        self._open_parts = 0
        self._planned_all = self._all_begun = False
        self._on_all_begun = on_all_begun
        uploader.begun = self._look_whether_all_begun
        self._warm = False
        # Set once a part is on its way to the line, after which parts are packed side by side.
        self._line_served = threading.Event()
        self._rebuilds: dict[int, int] = {}
        self._unproved: set[int] = set()
        self._idle = threading.Event()
        self._uploading = 0
        self._idle_since = 0.0
        self.spent = TimeSpent()
        self.failed: dict[str, Failure] = {}
        self.error: BaseException | None = None

    def run(self, stop_requests: Callable[[], None]) -> None:
        """Run until all is released, or an error ends it. ``stop_requests`` breaks requests under way and is called
        when a stop was asked for and threads do not end by themselves.

        Raises the first error, Interrupted after a stop. Nothing goes on after it, a Ctrl-C that comes as
        KeyboardInterrupt (in a script or a notebook) included: whoever called lets go of lock and ledger next.
        """
        self._take_over_spool()
        threads = [
            threading.Thread(target=self._guard, args=(work,), name=name, daemon=True) for name, work in self._rooms()
        ]
        try:
            self._run(threads, stop_requests)
        except KeyboardInterrupt as interrupt:
            self._clock.stop.set()
            with deaf():
                self._halt(interrupt)
                self._shut(threads, stop_requests)
            raise
        if self._clock.stop.is_set() and not isinstance(self.error, Interrupted):
            raise Interrupted("stopped; run the same command again to go on")
        if self.error is not None:
            raise self.error

    def _run(self, threads: list[threading.Thread], stop_requests: Callable[[], None]) -> None:
        began = self._idle_since = self._clock.monotonic()
        try:
            for thread in threads:
                thread.start()
        except RuntimeError as error:
            self._halt(_no_thread(error))
        self._wait_until_idle()
        self.spent.wall = self._clock.monotonic() - began
        self._shut(threads, stop_requests)

    def _rooms(self) -> Iterable[tuple[str, Callable[[], None]]]:
        yield "planner", self._plan
        for index in range(self._packers):
            yield f"packer-{index}", self._pack_first if index == 0 else self._pack_all
        for index in range(self._uploads):
            yield f"upload-{index}", self._upload_all

    def _wait_until_idle(self) -> None:
        """Until all parts are done, an error halted the run, or a stop was asked for."""
        while not self._idle.wait(0.2):
            if self._clock.stop.is_set():
                return

    def _shut(self, threads: list[threading.Thread], stop_requests: Callable[[], None]) -> None:
        halted = self.error is not None or self._clock.stop.is_set()
        self._planner.halt()
        if halted:
            self._spool.halt()
        self.to_pack.close(discard=halted)
        self.to_upload.close(discard=halted)
        self._line_served.set()
        self._engine.close(cancel=halted)
        self._join(threads)
        if any(thread.is_alive() for thread in threads):
            stop_requests()
            for thread in filter(threading.Thread.is_alive, threads):
                thread.join(0.5)

    def _join(self, threads: list[threading.Thread]) -> None:
        """Wait for all threads. Uploads under way may take long; a stop, now or meanwhile, leaves them two seconds."""
        deadline: float | None = None
        while any(thread.is_alive() for thread in threads):
            if self._clock.stop.is_set():
                deadline = deadline or self._clock.monotonic() + _GRACE
                if self._clock.monotonic() > deadline:
                    return
            next(thread for thread in threads if thread.is_alive()).join(0.1)

    def _guard(self, work: Callable[[], None]) -> None:
        try:
            work()
        except Closed:
            return
        except BaseException as error:  # a thread's error is the run's: it is raised again by run()
            self._halt(error)

    def _halt(self, error: BaseException) -> None:
        with self._lock:
            if self.error is None or isinstance(self.error, Interrupted):
                self.error = error
        self.to_pack.close(discard=True)
        self.to_upload.close(discard=True)
        self._line_served.set()
        self._idle.set()

    # -- counting what is open -----------------------------------------------------------------------------------

    def _opened(self) -> None:
        with self._lock:
            self._open_parts += 1

    def _finished(self) -> None:
        with self._lock:
            self._open_parts -= 1
            done = self._planned_all and self._open_parts == 0
        if done:
            self._idle.set()

    def _look_whether_all_begun(self) -> None:
        """A session has begun: of the last part, perhaps, so that no more is built or begun in this run."""
        with self._lock:
            if not self._planned_all or self._all_begun:
                return
        if any(part.state in (PartState.PLANNED, PartState.PACKED) for part in self._ledger.parts(unfinished=True)):
            return
        with self._lock:
            told, self._all_begun = self._all_begun, True
        if not told:
            self._on_all_begun()

    # -- rooms ---------------------------------------------------------------------------------------------------

    def _take_over_spool(self) -> None:
        """Count and keep the parts an earlier run left in the temp folder, remove everything else."""
        unfinished = self._ledger.parts(unfinished=True)
        waiting = [part for part in unfinished if part.state in (PartState.PACKED, PartState.BEGUN, PartState.STORED)]
        self._spool.sweep(part.file_name for part in waiting)
        for part in waiting:
            if self._spool.adopt(part.number, part.file_name):
                self._unproved.add(part.number)

    def _plan(self) -> None:
        """First what earlier runs packed, since it takes room in the temp folder; then what they planned; then what is
        new."""
        unfinished = self._ledger.parts(unfinished=True)
        if self._ledger.totals().parts == 0:
            self._warm_up()  # a first push has parts to pack for certain, and the look at its source takes a moment
        for part in unfinished:
            self._emit(Planned(part.number, part.size or part.estimate, part.files or self._planned_files(part.number)))
        for part in sorted(unfinished, key=lambda part: part.state is PartState.PLANNED):
            self._opened()
            if part.state is PartState.PLANNED:
                self._hand_to_packers(part.number)
            else:
                self.to_upload.put(part.number)
        for number in self._planner.numbers():
            self._opened()
            self._hand_to_packers(number)
        with self._lock:
            self._planned_all = True
            done = self._open_parts == 0
        if done:
            self._idle.set()

    def _planned_files(self, number: int) -> int:
        selection = self._ledger.selection(number)
        return len(selection) if isinstance(selection, FileList) else 0

    def _hand_to_packers(self, number: int) -> None:
        self._warm_up()
        self.to_pack.put(number)

    def _warm_up(self) -> None:
        if not self._warm:
            self._warm = True
            self._around.later(self._around.hold)  # beside the first part's packing
            self._engine.warm_up()

    def _pack_first(self) -> None:
        """The line is idle until the first part is packed. A folder's files are packed faster than a line takes them,
        so the first of them has all cores and the whole disk; what a generator makes would only be later for it."""
        try:
            alone = isinstance(self._source, FolderSource) and self._spool.near and self._spool.left is None
            if not alone:
                self._line_served.set()
            self._pack(self.to_pack.get())
        finally:
            self._line_served.set()
        self._pack_all()

    def _pack_all(self) -> None:
        self._line_served.wait()
        while True:
            self._pack(self.to_pack.get())

    def _pack(self, number: int) -> None:
        spec = self._ledger.spec(number)
        part = self._builder.build(spec, alone=not self._line_served.is_set())
        if part.files == 0:
            self._spool.cancel(number)
            self._ledger.drop(number)
            self._emit(PartDropped(number))
        else:
            self._note_packed(part)
        self._note_failures(part.failed)
        self._planner.packed(part)
        if part.files == 0:
            self._finished()
        else:
            self.to_upload.put(number)

    def _note_packed(self, part: Part) -> None:
        before = self._ledger.part(part.number)
        if before.sha256 not in (None, part.sha256):
            self._emit(Notice(f"{part.file_name}: its source changed since it was packed, so its upload starts afresh"))
        self._ledger.packed(part)
        with self._lock:
            self.spent.building += part.seconds
            self.spent.computing += part.computing
        self._emit(PartPacked(part.number, part.file_name, part.size, part.samples, part.files))

    def _note_failures(self, failed: Iterable[Failure]) -> None:
        told = {failure.path for failure in getattr(self._planner, "failures", ())}
        for failure in failed:
            with self._lock:
                if failure.path in told or failure.path in self.failed:  # one picture may spoil samples of every part
                    continue
                self.failed[failure.path] = failure
            self._emit(SourceFailed(failure.path, failure.why))

    def _upload_all(self) -> None:
        while True:
            number = self.to_upload.get()
            try:
                with self._counted_upload():
                    self._upload(number)
            except TempLost as lost:
                self._rebuild(number, lost)
            else:
                self._finished()

    @contextmanager
    def _counted_upload(self) -> Iterator[None]:
        """Notes how long uploads take, and how long none was under way."""
        began = self._clock.monotonic()
        with self._lock:
            if self._uploading == 0:
                self.spent.starved += began - self._idle_since
            self._uploading += 1
        try:
            yield
        finally:
            ended = self._clock.monotonic()
            with self._lock:
                self._uploading -= 1
                self._idle_since = ended
                self.spent.uploading += ended - began

    def _upload(self, number: int) -> None:
        part = self._ledger.part(number)
        if number in self._unproved:
            self._unproved.discard(number)
            if not self._spool.is_intact(number, part.file_name, part.md5):
                self._spool.path(part.file_name).unlink(missing_ok=True)
        if not self._spool.holds(number, part.file_name) and self._uploader.settle(part):
            return
        self._uploader.upload(number)

    def _rebuild(self, number: int, lost: TempLost) -> None:
        """Send a part back to the packers because its file is gone."""
        if self.error is not None:
            raise lost
        with self._lock:
            count = self._rebuilds[number] = self._rebuilds.get(number, 0) + 1
        if count > _MOST_REBUILDS:
            raise lost
        if not lost.usual:
            self._emit(Notice(f"{lost}; it is built again"))
        self._spool.release(number, self._ledger.part(number).file_name)
        self.to_pack.put_first(number)


def _no_thread(error: RuntimeError) -> WorkersKilled:
    return WorkersKilled(
        f"No more threads can be started: {error_text(error)}",
        advice="A limit of this machine or container is reached (see `ulimit -u`): raise it, or give fewer --workers"
        " and --uploads.",
    )
