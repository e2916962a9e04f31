"""How worker processes and threads are started: without the running script, and without anybody's folder on their path.

Python gives every helper it starts the script to import again and a search path that begins with the current folder.
Importing the script costs each helper the time of all its imports and, without an ``if __name__`` guard, runs it again;
and a ``queue.py`` or ``random.py`` lying in a folder of data would be run as code. Helpers need neither.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import queue
import signal
import sys
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Executor, Future, ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from multiprocessing import resource_tracker, spawn, util
from multiprocessing.connection import Connection
from multiprocessing.context import BaseContext
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

from driveshard.core.model import Part

P = ParamSpec("P")
T = TypeVar("T")

# What a terminal sends to every process of a run: Ctrl-C, and that it is closed.
FOR_ALL = {getattr(signal, name) for name in ("SIGINT", "SIGHUP") if hasattr(signal, name)}
_UNKNOWN = 255  # what multiprocessing says when two threads asked at once, or the fork server is gone
_MOST_ON_WINDOWS = 61  # processes one thread can wait for there
_QUIET_TRACKER = "ignore::UserWarning:multiprocessing.resource_tracker"
_PRELOAD = ["driveshard.upload.pack.engine", "driveshard.sources.folder"]


@dataclass(frozen=True)
class Crew:
    """A running executor. ``build`` is called as ``build_part`` is, with ``arguments`` after the first four, ``alone``
    in their place where no other part is built meanwhile; ``stop`` ends running builds at once. ``prove`` says that a
    first worker has to be waited for, to see that it starts."""

    executor: Executor
    stop: Callable[[], None]
    build: Callable[..., Part]
    arguments: tuple[Any, ...] = ()
    prove: bool = True
    alone: tuple[Any, ...] = ()


class _Bare(threading.local):
    """Whether this thread starts helpers just now, and which folders they must not import from."""

    depth = 0
    away: tuple[str, ...] = ()


_bare = _Bare()
_installing = threading.Lock()


@contextlib.contextmanager
def bare_start(away: Iterable[str | os.PathLike[str]] = ()) -> Iterator[None]:
    """What this thread starts meanwhile imports nothing from the running script, from the current folder or from the
    folders ``away``. Nobody else notices: no variable of the process is changed, not even for a moment."""
    _install()
    before = _bare.depth, _bare.away
    _bare.depth, _bare.away = _bare.depth + 1, tuple(os.fspath(folder) for folder in away)
    try:
        yield
    finally:
        _bare.depth, _bare.away = before


def _install() -> None:
    """Put our own words into multiprocessing's mouth, for threads in ``bare_start`` alone."""
    with _installing:
        if getattr(spawn.get_preparation_data, "bare", False):
            return
        spawn.get_preparation_data = _bared_data(spawn.get_preparation_data)  # type: ignore[assignment]
        flags = getattr(util, "_args_from_interpreter_flags", None)
        if flags is not None:
            util._args_from_interpreter_flags = _bared_flags(flags)  # type: ignore[attr-defined]


def _bared_data(original: Callable[[str], dict[str, Any]]) -> Callable[[str], dict[str, Any]]:
    def get_preparation_data(name: str) -> dict[str, Any]:
        data = original(name)
        if _bare.depth:
            data.pop("init_main_from_name", None)
            data.pop("init_main_from_path", None)
            data["sys_path"] = clean_path(data["sys_path"], _bare.away)
        return data

    get_preparation_data.bare = True  # type: ignore[attr-defined]
    return get_preparation_data


def _bared_flags(original: Callable[[], list[str]]) -> Callable[[], list[str]]:
    def args_from_interpreter_flags() -> list[str]:
        flags = original()
        if not _bare.depth:
            return flags
        named = os.environ.get("PYTHONPATH")
        asked = named.split(os.pathsep) if named else []
        # -P: no current folder before all else. -E: nor where PYTHONPATH has one, as ":/more" does.
        return [*flags, "-P", *(["-E"] if clean_path(asked, _bare.away) != asked else [])]

    return args_from_interpreter_flags


def clean_path(path: Iterable[str], away: Iterable[str] = ()) -> list[str]:
    """A search path without the current folder and those ``away``; the one that holds driveshard itself comes last."""
    unwanted = {_real(folder) for folder in ("", *away)}
    kept = [entry for entry in path if _real(entry) not in unwanted]
    home = str(Path(__file__).parents[3])
    return [*kept, home] if _real(home) in unwanted else kept


def _real(folder: str) -> str:
    try:
        return os.path.realpath(folder or os.curdir)
    except OSError:  # the current folder was removed
        return folder


@contextlib.contextmanager
def not_interrupted() -> Iterator[None]:
    """Start processes that Ctrl-C and a closed terminal never reach, not even in their first moments, in which they
    would show a traceback: they inherit what this thread has blocked."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, FOR_ALL)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextlib.contextmanager
def deaf() -> Iterator[None]:
    """A second Ctrl-C, while everything is being stopped after the first, must not stop the stopping."""
    usual = signal.getsignal(signal.SIGINT) is signal.default_int_handler
    if not usual or threading.current_thread() is not threading.main_thread():
        yield
        return
    signal.signal(signal.SIGINT, lambda *_: None)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def process_pool(workers: int, context: BaseContext, start: Callable[..., None], *given: Any) -> ProcessPoolExecutor:
    """A pool of that many processes, or of the most that Windows can wait for."""
    try:
        return ProcessPoolExecutor(workers, context, initializer=start, initargs=given)
    except ValueError:
        return ProcessPoolExecutor(min(workers, _MOST_ON_WINDOWS), context, initializer=start, initargs=given)


def processes_of(executor: Executor) -> list[Any]:
    """The pool's processes; empty for another executor, or when it does not tell."""
    return list((getattr(executor, "_processes", None) or {}).values())


def how_it_died(executor: Executor) -> str | None:
    """What became of a pool's process, for the user; None when nobody can tell."""
    codes = [one.exitcode for one in processes_of(executor) if one.exitcode != _UNKNOWN]
    for code in codes:
        if code == -getattr(signal, "SIGKILL", 9):
            return "was killed, most often by the system for lack of memory,"
        if code is not None and code < 0 and code != -signal.SIGTERM:
            return f"crashed ({_signal_name(-code)})"
        if code is not None and code >= 0:
            return f"ended itself with exit code {code}"
    return "was ended from outside (SIGTERM)" if -signal.SIGTERM in codes else None


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


class DaemonThreads(Executor):
    """Threads that never keep the process from ending, as those of ThreadPoolExecutor do when a source hangs."""

    def __init__(self, workers: int, name: str) -> None:
        self._workers = workers
        self._name = name
        self._jobs: queue.SimpleQueue[tuple[Future[Any], Callable[[], Any]] | None] = queue.SimpleQueue()
        self._threads: list[threading.Thread] = []
        self._lock = threading.Lock()

    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        """As ``Executor.submit``. Raises RuntimeError when no first thread can be started."""
        future: Future[T] = Future()
        with self._lock:
            if len(self._threads) < self._workers:
                self._start_one()
            self._jobs.put((future, partial(fn, *args, **kwargs)))
        return future

    def _start_one(self) -> None:
        thread = threading.Thread(target=self._work, name=f"{self._name}_{len(self._threads)}", daemon=True)
        try:
            thread.start()
        except RuntimeError:
            if not self._threads:
                raise
        else:
            self._threads.append(thread)

    def _work(self) -> None:
        while (job := self._jobs.get()) is not None:
            future, call = job
            if not future.set_running_or_notify_cancel():
                continue
            try:
                future.set_result(call())
            except BaseException as error:  # it belongs to whoever waits for the result
                future.set_exception(error)
            del job, future, call

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """As ``Executor.shutdown``."""
        with self._lock, contextlib.suppress(queue.Empty):
            while cancel_futures:
                job = self._jobs.get_nowait()
                if job is not None:
                    job[0].cancel()
        for _ in self._threads:
            self._jobs.put(None)
        for thread in self._threads if wait else ():
            thread.join()


def helper_context() -> BaseContext:
    """How processes are started, so that nothing of this one's state goes along."""
    # Forking this process would copy its threads' locks as they happen to be; the fork server has no threads.
    server = "forkserver" in multiprocessing.get_all_start_methods()
    context = multiprocessing.get_context("forkserver" if server else "spawn")
    if server:
        context.set_forkserver_preload(_PRELOAD)
        with not_interrupted():
            # Else it is started by the fork server's start, and unblocks SIGINT there.
            _start_tracker()
    return context


def _start_tracker() -> None:
    """Start the process that clears up after us. When we are killed it would say so in the user's shell, in a warning
    about its own business."""
    sys.warnoptions.append(_QUIET_TRACKER)  # it is started with these
    try:
        resource_tracker.ensure_running()
    finally:
        sys.warnoptions.remove(_QUIET_TRACKER)


def live_by(lifeline: Connection, variables: Mapping[str, str]) -> None:
    """A worker's first step: it ends when the writing end of ``lifeline`` is closed, for whatever reason. It has the
    coordinator's ``variables``; the fork server knows them only as they were when it was started."""
    for name in own_variables():
        del os.environ[name]
    os.environ.update(variables)
    for number in FOR_ALL:
        signal.signal(number, signal.SIG_IGN)  # Ctrl-C reaches everybody; what it means, the coordinator decides
    threading.Thread(target=_exit_at_end_of, args=(lifeline,), name="lifeline", daemon=True).start()


def own_variables() -> dict[str, str]:
    """What the environment says to driveshard now."""
    return {name: value for name, value in os.environ.items() if name.startswith("DRIVESHARD_")}


def _exit_at_end_of(lifeline: Connection) -> None:
    with contextlib.suppress(EOFError, OSError):
        lifeline.recv_bytes()
    os._exit(1)
