"""Where parts are built: in this process, in worker processes, or on any other ``concurrent.futures.Executor``.

Worker processes never outlive the coordinator, not even one that was killed: each holds the reading end of a pipe, the
lifeline, whose writing end only the coordinator has. Nothing is ever sent through it; its end is the message. (Linux's
parent-death signal would not do: a worker's parent is the fork server, and that lives for as long as its children.)
"""

from __future__ import annotations

import contextlib
import os
import secrets
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable
from concurrent.futures import BrokenExecutor, Executor, Future, wait
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, TypeVar

from driveshard.config.values import ENGINES
from driveshard.core.errors import DriveshardError, Interrupted, LoanOver, UsageError, WorkersKilled
from driveshard.core.formatting import error_text
from driveshard.core.model import Part, PartSpec
from driveshard.sources.base import Source
from driveshard.upload.pack.apart import Mark, borrowed, build_apart, workers_in
from driveshard.upload.pack.build import build_part
from driveshard.upload.pack.workers import (
    Crew,
    DaemonThreads,
    bare_start,
    helper_context,
    how_it_died,
    live_by,
    not_interrupted,
    own_variables,
    process_pool,
    processes_of,
)

if TYPE_CHECKING:  # worker processes have no use for it
    from driveshard.upload.far.yard import Yard

T = TypeVar("T")

WorkerLost = BrokenExecutor
"""What a part's Future raises when a worker died: submit the part again."""


_LOST = (BrokenExecutor, OSError, EOFError, RuntimeError, ImportError)
_LOSSES = 5  # of the workers that build one part, before it is given up
_STARTS = 5  # tries to start workers before another way is taken
_STARTED_WITHIN = 60.0  # seconds for the first of them
_ENDED_WITHIN = 2.0  # seconds for workers to end by themselves, and then for those that were told to
_REAPED_WITHIN = 0.1  # seconds that a killed process may still seem to be there
_MEASURING = -1  # stands for a part's number
_SHARED_MEMORY = "/dev/shm"  # noqa: S108  (looked at, not written)


class Engine:
    """Builds parts on the executors that ``start`` makes: one, and another whenever its workers were lost.

    When it cannot make any, ``otherwise`` makes them from then on, and ``tell`` hears why. What is started imports
    nothing from the folders ``away``. ``apart`` says that workers have neither this machine's login nor its disks: a
    source that has a method ``lent`` is asked for what they get instead, whenever it is sent to one.
    Thread-safe. Left as a context manager it waits for running builds, or stops them when leaving by an exception.
    """

    def __init__(
        self,
        start: Callable[[], Crew],
        workers: int = 1,
        *,
        otherwise: Callable[[], Crew] | None = None,
        tell: Callable[[str], None] = lambda _: None,
        away: Iterable[str | os.PathLike[str]] = (),
        apart: bool = False,
    ) -> None:
        self.workers = workers
        self._apart = apart
        self._lending = threading.Lock()
        self._renew = False  # what was lent is not taken any more
        self._start = start
        self._otherwise = otherwise
        self._tell = tell
        self._away = tuple(away)
        self._crew: Crew | None = None
        self._lock = threading.Lock()
        self._closed = False
        self._losses: Counter[int] = Counter()  # workers lost while building a part, by its number
        self._running: set[Future[Any]] = set()
        self._death: str | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        self.close(cancel=kind is not None)

    def warm_up(self) -> None:
        """Start the workers in the background, while the caller still prepares the first part. Never needed."""
        with contextlib.suppress(RuntimeError):  # no more threads: whoever needs one says so
            threading.Thread(target=self._warm_up, name="warm-up", daemon=True).start()

    def submit(
        self, spec: PartSpec, source: Source, target: Path, max_bytes: int, *, alone: bool = False
    ) -> Future[Part]:
        """Build a part soon, as packer.build_part does; its errors come out of the Future. A part that is built
        ``alone`` has all cores to itself.

        The Future raises WorkerLost when a worker died (the temporary file may then be left behind, for the caller to
        sweep), and Interrupted or WorkerLost after ``close(cancel=True)``. Raises Interrupted when already closed, and
        WorkersKilled when workers were lost again and again while building this part, or cannot be started.
        """
        if self._losses[spec.number] >= _LOSSES:
            raise self._given_up(f"{spec.file_name} was built")
        source = self._sent(source)
        return self._run(
            spec.number,
            lambda crew: partial(
                crew.build, spec, source, target, max_bytes, *((alone and crew.alone) or crew.arguments)
            ),
        )

    def call(self, number: int, work: Callable[[], T], words: str) -> Future[T]:
        """Anything else, done soon where parts are built, as a module's function and values that can be pickled.

        ``number`` is its own among those of this engine, ``words`` say what was done, as in "a part was read". Fails as
        ``submit`` does."""
        if self._losses[number] >= _LOSSES:
            raise self._given_up(words)
        return self._run(number, _given(work))

    def measure(self, measure: Callable[[Any], T], source: Any) -> T:
        """``measure(source)``, called where parts are built, since samples that end their process do so there too.

        Raises what it raises, and as ``submit``."""
        for _ in range(_LOSSES):
            try:
                return self._run(_MEASURING, _given(partial(measure, self._sent(source)))).result()
            except BrokenExecutor:
                continue
        raise self._given_up("its first samples were made")

    def _sent(self, source: Any) -> Any:
        lent = getattr(source, "lent", None) if self._apart else None
        if lent is None:
            return source
        with self._lending:  # until it is renewed others would be lent the old one
            renew, self._renew = self._renew, False
            return lent(renew=renew)

    def _given_up(self, when: str) -> WorkersKilled:
        return WorkersKilled(f"A worker process {self._death or 'was killed'} {_LOSSES} times while {when}.")

    def _run(self, number: int, work: Callable[[Crew], Callable[[], T]]) -> Future[T]:
        with self._lock:
            if self._closed:
                raise Interrupted("Stopped before all parts were built.")
            future = self._submit_to_the_living(work)
            self._running.add(future)
            crew = self._crew
        future.add_done_callback(partial(self._note_end, number, crew))
        return future

    def _submit_to_the_living(self, work: Callable[[Crew], Callable[[], T]]) -> Future[T]:
        first: BaseException | None = None
        tries = 0
        while True:
            try:
                crew = self._living()
                with bare_start(self._away), not_interrupted():
                    return crew.executor.submit(work(crew))
            except _LOST as error:
                # The workers were lost, or what starts them was, which the system takes a moment to tell.
                self._dismiss()
                first, tries = first or error, tries + 1
                if tries >= _STARTS:
                    self._change_over(first)
                    tries = 0
                elif not isinstance(error, BrokenExecutor):
                    time.sleep(_REAPED_WITHIN)

    def _living(self) -> Crew:
        """The crew at work or a new one, of which one worker at least is proved to start."""
        if self._crew is None:
            with bare_start(self._away):
                crew = self._crew = self._start()
                if crew.prove:
                    with not_interrupted():
                        started = crew.executor.submit(_nothing)
                    started.result(_STARTED_WITHIN)
        return self._crew

    def _change_over(self, error: BaseException) -> None:
        why = error_text(error) + _hint(error)
        if self._otherwise is None:
            raise WorkersKilled(
                f"Nothing that builds parts can be started: {why}",
                advice="A limit of this machine or container is reached (see `ulimit -a`): raise it, or --workers 1",
            ) from error
        self._start, self._otherwise = self._otherwise, None
        self._tell(f"Worker processes cannot be started ({why}): parts are built in threads, as by --engine threads")

    def close(self, cancel: bool = False) -> None:
        """Let running and waiting builds end; with ``cancel``, end them now, in the middle of a part too.

        Workers that go on after that, for a thread of the source's or in a call that never returns, are ended, too.
        """
        with self._lock:
            self._closed = True
            crew, running = self._crew, list(self._running)
        if crew is None:
            return
        if cancel:
            crew.stop()
        else:
            wait(running)
        left = processes_of(crew.executor)
        ending = threading.Thread(target=crew.executor.shutdown, kwargs={"cancel_futures": cancel}, daemon=True)
        ending.start()
        ending.join(_ENDED_WITHIN)
        crew.stop()
        ending.join(_ENDED_WITHIN)
        for process in left if ending.is_alive() else ():
            with contextlib.suppress(OSError, ValueError, AttributeError):
                process.kill()
        with self._lock:
            self._crew = None

    def _warm_up(self) -> None:
        with self._lock, contextlib.suppress(*_LOST, DriveshardError):  # whoever needs one hears of it
            if not self._closed:
                crew = self._living()
                with bare_start(self._away), not_interrupted():
                    for _ in range(1, self.workers if crew.prove else 0):
                        crew.executor.submit(_nothing)

    def _dismiss(self) -> None:
        if self._crew is not None:
            self._crew.stop()
            self._crew.executor.shutdown(wait=False)
            self._crew = None

    def _note_end(self, number: int, crew: Crew | None, future: Future[Any]) -> None:
        """A part's losses are its own: others that come out well say nothing about the memory this one takes."""
        self._running.discard(future)
        self._renew = self._renew or (not future.cancelled() and isinstance(future.exception(), LoanOver))
        if future.cancelled() or not isinstance(future.exception(), BrokenExecutor):
            self._losses.pop(number, None)
        elif not self._closed:
            self._losses[number] += 1
            if crew is not None:
                self._death = how_it_died(crew.executor) or self._death


def _given(work: Callable[[], T]) -> Callable[[Crew], Callable[[], T]]:
    """The same for every crew."""
    return lambda _: work


def _hint(error: BaseException) -> str:
    """What to look at, where the system's own words do not say."""
    if "AF_UNIX" in str(error):
        return "; the path in TMPDIR is too long"
    if sys.platform == "linux" and not os.access(_SHARED_MEMORY, os.W_OK):
        return f"; {_SHARED_MEMORY} is missing or cannot be written"
    return ""


def _nothing() -> None:
    """The first thing a worker does: having been started."""


def open_engine(
    engine: str | Executor,
    workers: int,
    *,
    tell: Callable[[str], None] = lambda _: None,
    away: Iterable[str | os.PathLike[str]] = (),
    spool: Path | None = None,
    yard: Yard | None = None,
) -> Engine:
    """An engine by its name: ``processes`` is fastest; ``threads`` and ``serial`` stay in this process, ``serial``
    with one thread, for sources that can only be gone through once; ``dask`` is a cluster on this machine, and
    ``dask:ADDRESS`` one that runs elsewhere. Where no process can be started, threads build, and ``tell`` hears why.
    Processes import nothing from the current folder and those ``away``. An executor is used and left as it is.

    Workers that are not ours write into ``spool``, the temp folder; those of dask keep parts in the ``yard``, if there
    is one. Raises UsageError for another name."""
    if isinstance(engine, Executor):
        return Engine(partial(_start_borrowed, engine, _mark_in(spool)), workers, apart=True)
    if engine == "processes":
        processes, threads = partial(_start_processes, workers), partial(_start_threads, workers)
        return Engine(processes, workers, otherwise=threads, tell=tell, away=away)
    if engine in ("threads", "serial"):
        workers = workers if engine == "threads" else 1
        return Engine(partial(_start_threads, workers), workers)
    if by_dask(engine):
        from driveshard.upload.pack.dask import start_dask

        address = engine.partition(":")[2]
        assert spool is not None
        start = partial(start_dask, address, workers, _mark_in(spool), yard, tell, spool)
        return Engine(start, workers, away=away, apart=True)
    raise UsageError(f"There is no engine {engine!r}.", advice=f"Choose one of: {', '.join(ENGINES)}.")


def _mark_in(spool: Path | None) -> Mark:
    assert spool is not None
    return Mark(spool / f".building-run-{secrets.token_hex(8)}")


def _start_borrowed(executor: Executor, mark: Mark) -> Crew:
    return Crew(borrowed(executor, mark), mark.clear, build_apart, (mark,), prove=False)


def workers_of(engine: str | Executor, asked: int | None) -> int:
    """How many parts are built side by side when ``asked`` says no number: one for each CPU, here or in the cluster.

    Raises Unreachable when a cluster cannot be asked."""
    if asked is not None:
        return asked
    if isinstance(engine, Executor):
        return workers_in(engine) or default_workers()
    address = engine.partition(":")[2]
    if by_dask(engine) and address:
        from driveshard.upload.pack.dask import count_workers

        return count_workers(address) or default_workers()
    return default_workers()


def by_dask(engine: str | Executor) -> bool:
    """Whether a cluster's workers build, which may be on other machines."""
    return isinstance(engine, str) and engine.partition(":")[0] == "dask"


def default_workers() -> int:
    """The number of CPUs this process may use."""
    if sys.version_info >= (3, 13):
        return os.process_cpu_count() or 1
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _spare_core(workers: int) -> bool:
    return workers < default_workers()


def _start_threads(workers: int) -> Crew:
    stopped = threading.Event()

    def check() -> None:
        if stopped.is_set():
            raise Interrupted("Stopped in the middle of a part.")

    spare, alone = _spare_core(workers), _spare_core(1)
    return Crew(DaemonThreads(workers, "pack"), stopped.set, build_part, (check, spare), alone=(check, alone))


def _start_processes(workers: int) -> Crew:
    context = helper_context()
    lifeline, held = context.Pipe(duplex=False)
    executor = process_pool(workers, context, live_by, lifeline, own_variables())
    return Crew(executor, held.close, build_part, (None, _spare_core(workers)), alone=(None, _spare_core(1)))
