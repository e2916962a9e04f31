"""Where parts are built: in this process, in worker processes, or on any other ``concurrent.futures.Executor``.

Worker processes never outlive the coordinator, not even one that was killed: each holds the reading end of a pipe, the
lifeline, whose writing end only the coordinator has. Nothing is ever sent through it; its end is the message. (Linux's
parent-death signal would not do: a worker's parent is the fork server, and that lives for as long as its children.)
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import BrokenExecutor, Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor
from dataclasses import dataclass
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from driveshard.errors import Defect, Interrupted, UsageError
from driveshard.model import Part, PartSpec
from driveshard.packer import build_part
from driveshard.sources.base import Source

WorkerLost = BrokenExecutor
"""What a part's Future raises when a worker died: submit the part again."""

ENGINES = ("processes", "threads", "serial")

_REBUILDS = 5
_REAPED_WITHIN = 0.1  # seconds that a killed process may still seem to be there
# What a terminal sends to every process of a run: Ctrl-C, and that it is closed.
_FOR_ALL = {getattr(signal, name) for name in ("SIGINT", "SIGHUP") if hasattr(signal, name)}
_PRELOAD = ["driveshard.engine", "driveshard.sources.folder"]


@dataclass(frozen=True)
class Crew:
    """A running executor. ``arguments`` go to build_part after the usual ones; ``stop`` ends running builds at once."""

    executor: Executor
    stop: Callable[[], None]
    arguments: tuple[Any, ...] = ()


class Engine:
    """Builds parts on the executors that ``start`` makes: one, and another whenever its workers were lost.

    Thread-safe. Left as a context manager it waits for running builds, or stops them when leaving by an exception.
    """

    def __init__(self, start: Callable[[], Crew], workers: int = 1) -> None:
        self.workers = workers
        self._start = start
        self._crew: Crew | None = None
        self._lock = threading.Lock()
        self._closed = False
        self._losses = 0  # crews lost since a build last ended by itself

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        self.close(cancel=kind is not None)

    def warm_up(self) -> None:
        """Start the workers in the background, while the caller still prepares the first part. Never needed."""
        threading.Thread(target=self._warm_up, name="warm-up", daemon=True).start()

    def submit(self, spec: PartSpec, source: Source, target: Path, max_bytes: int) -> Future[Part]:
        """Build a part soon, as packer.build_part does; its errors come out of the Future.

        The Future raises WorkerLost when a worker died (the temporary file may then be left behind, for the caller to
        sweep), and Interrupted or WorkerLost after ``close(cancel=True)``. Raises Interrupted when already closed, and
        Defect when workers were lost again and again.
        """
        with self._lock:
            if self._closed:
                raise Interrupted("Stopped before all parts were built.")
            future = self._submit_to_the_living(spec, source, target, max_bytes)
        future.add_done_callback(self._note_success)
        return future

    def _submit_to_the_living(self, spec: PartSpec, source: Source, target: Path, max_bytes: int) -> Future[Part]:
        while True:
            try:
                return self._submit(spec, source, target, max_bytes)
            except BrokenExecutor:
                self._dismiss()
            except (OSError, EOFError):  # what starts workers was killed itself; the system takes a moment to tell
                self._dismiss()
                time.sleep(_REAPED_WITHIN)

    def close(self, cancel: bool = False) -> None:
        """Let running and waiting builds end; with ``cancel``, end them now, in the middle of a part too."""
        with self._lock:
            self._closed = True
            crew, self._crew = self._crew, None
        if crew is not None:
            if cancel:
                crew.stop()
            crew.executor.shutdown(wait=True, cancel_futures=cancel)
            crew.stop()

    def _warm_up(self) -> None:
        with self._lock, contextlib.suppress(BrokenExecutor, OSError, EOFError), _bare_main():
            if not self._closed:
                crew = self._crew = self._crew or self._start()
                with _not_interrupted():
                    for _ in range(self.workers):
                        crew.executor.submit(_nothing)

    def _submit(self, spec: PartSpec, source: Source, target: Path, max_bytes: int) -> Future[Part]:
        with _bare_main():
            crew = self._crew = self._crew or self._start()
            with _not_interrupted():
                return crew.executor.submit(build_part, spec, source, target, max_bytes, *crew.arguments)

    def _dismiss(self) -> None:
        self._losses += 1
        if self._losses > _REBUILDS:
            raise Defect(
                f"Worker processes were killed {self._losses} times in a row.",
                advice="Most often the system kills them for lack of memory: try --workers 1, or close other programs.",
            )
        if self._crew is not None:
            self._crew.stop()
            self._crew.executor.shutdown(wait=False)
            self._crew = None

    def _note_success(self, future: Future[Part]) -> None:
        if not future.cancelled() and not isinstance(future.exception(), BrokenExecutor):
            self._losses = 0


def _nothing() -> None:
    """The first thing a worker does: having been started."""


def open_engine(name: str, workers: int) -> Engine:
    """An engine by its name: ``processes`` is fastest; ``threads`` and ``serial`` stay in this process, ``serial``
    with one thread, for sources that can only be gone through once. Raises UsageError for another name."""
    if name == "processes":
        return Engine(lambda: _start_processes(workers), workers)
    if name in ("threads", "serial"):
        workers = workers if name == "threads" else 1
        return Engine(lambda: _start_threads(workers), workers)
    raise UsageError(f"There is no engine {name!r}.", advice=f"Choose one of: {', '.join(ENGINES)}.")


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

    return Crew(ThreadPoolExecutor(workers, thread_name_prefix="pack"), stopped.set, (check, _spare_core(workers)))


def _start_processes(workers: int) -> Crew:
    # Forking this process would copy its threads' locks as they happen to be; the fork server has no threads.
    server = "forkserver" in multiprocessing.get_all_start_methods()
    context = multiprocessing.get_context("forkserver" if server else "spawn")
    if server:
        context.set_forkserver_preload(_PRELOAD)
        with _not_interrupted():
            # Else it is started by the fork server's start, and unblocks SIGINT there.
            resource_tracker.ensure_running()
    lifeline, held = context.Pipe(duplex=False)
    executor = ProcessPoolExecutor(workers, context, initializer=_start_worker, initargs=(lifeline,))
    return Crew(executor, held.close, (None, _spare_core(workers)))


def _start_worker(lifeline: Connection) -> None:
    for number in _FOR_ALL:
        signal.signal(number, signal.SIG_IGN)  # Ctrl-C reaches everybody; what it means, the coordinator decides
    threading.Thread(target=_exit_at_end_of, args=(lifeline,), name="lifeline", daemon=True).start()


def _exit_at_end_of(lifeline: Connection) -> None:
    with contextlib.suppress(EOFError, OSError):
        lifeline.recv_bytes()
    os._exit(1)


@contextlib.contextmanager
def _not_interrupted() -> Iterator[None]:
    """Start processes that Ctrl-C and a closed terminal never reach, not even in their first moments, in which they
    would show a traceback: they inherit what this thread has blocked."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _FOR_ALL)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


# Several pushes may start workers side by side: the first bares the script, the last one clothes it again.
_baring = threading.Lock()
_bared = [0]
_kept: dict[str, Any] = {}


@contextlib.contextmanager
def _bare_main() -> Iterator[None]:
    """Start workers without the script that is running: they need nothing from it. Importing it again costs each of
    them the time of all its imports and, in a script without an ``if __name__`` guard, would run it again."""
    main = sys.modules["__main__"].__dict__
    with _baring:
        if not _bared[0]:
            _kept.clear()
            _kept.update({name: main[name] for name in ("__file__", "__spec__") if name in main})
            main.pop("__file__", None)
            main["__spec__"] = None
        _bared[0] += 1
    try:
        yield
    finally:
        with _baring:
            _bared[0] -= 1
            if not _bared[0]:
                main.update(_kept)
