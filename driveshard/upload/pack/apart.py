"""Building where nobody of ours watches: on an executor that somebody else made, or in a cluster's workers.

Such workers are not ended with the run, may come back from the dead, and may be on other machines, where the temp
folder is seen through a shared disk. Therefore every try writes under a name of its own, and a run has a mark in the
temp folder: a worker that cannot see it says so, and one whose mark is taken away stops.
"""

from __future__ import annotations

import os
import secrets
import socket
import time
from collections.abc import Callable
from concurrent.futures import BrokenExecutor, Executor, Future, InvalidStateError, ThreadPoolExecutor
from concurrent.futures import wait as wait_for
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, ParamSpec, Protocol, TypeVar

from driveshard import __version__
from driveshard.core.errors import ConfigError, TempFull, TempLost, WorkersKilled
from driveshard.core.files import create_private
from driveshard.core.formatting import error_text
from driveshard.core.model import Part, PartSpec
from driveshard.sources.base import Source
from driveshard.upload.pack.build import build_part

P = ParamSpec("P")
T = TypeVar("T")

_LOOK_EVERY = 0.5  # seconds
_SEEN_WITHIN = 5.0  # seconds that a shared disk may take to show a file that was just made
_ENDED_WITHIN = 2.0  # seconds for running builds to hear that the mark is gone


@dataclass(frozen=True)
class Mark:
    """A file that is in the temp folder as long as its run goes on. ``version`` is the driveshard that made it: parts
    of another one might have other bytes."""

    path: Path
    version: str = __version__

    def set(self) -> None:
        """Make it, if it is not there (any more). Raises TempLost, TempFull."""
        if self.path.exists():
            return
        try:
            os.close(create_private(self.path))
        except FileNotFoundError as error:
            raise self._emptied() from error
        except OSError as error:
            raise TempFull(
                f"the temp folder {self.path.parent} cannot be written: {error.strerror or error}"
            ) from error

    def clear(self) -> None:
        """Stop every build that still goes on."""
        try:
            self.path.unlink(missing_ok=True)
        except OSError:
            return  # the next run sweeps it away

    def check(self) -> None:
        """For a worker that has seen it. Raises TempLost when it is gone."""
        if not self.path.exists():
            raise self._emptied()

    def look(self) -> None:
        """For a worker that begins. Raises ConfigError when it is another driveshard, or cannot see the temp folder."""
        require_version(self.version)
        deadline = time.monotonic() + _SEEN_WITHIN
        while not self.path.exists():
            if time.monotonic() > deadline:
                raise _Unseen(
                    f"The worker on {socket.gethostname()} does not see the temp folder {self.path.parent}.",
                    advice="Name a folder on a disk that all workers share: --temp DIR.",
                )
            time.sleep(_LOOK_EVERY / 2)

    def mend(self, error: BaseException) -> BaseException:
        """A worker's error as the coordinator knows it better: where the mark is gone here, too, the temp folder was
        emptied, and the part is to be built again."""
        return self._emptied() if isinstance(error, _Unseen) and not self.path.exists() else error

    def _emptied(self) -> TempLost:
        return TempLost(f"the temp folder {self.path.parent} was emptied")


def require_version(version: str) -> None:
    """For a worker. Raises ConfigError when the coordinator is another driveshard."""
    if version != __version__:
        raise ConfigError(
            f"The worker on {socket.gethostname()} has driveshard {__version__}, and this is {version}.",
            advice="Install the same version everywhere: others may make other bytes.",
        )


class _Unseen(ConfigError):
    """Either the worker does not see the temp folder, or nobody does."""


def build_apart(
    spec: PartSpec, source: Source, target: Path, max_bytes: int, mark: Mark, spare_core: bool = False
) -> Part:
    """As ``build_part``, under a name of this try's own that begins with ``target``'s: the part's ``place``."""
    mark.look()
    due = 0.0

    def check() -> None:
        nonlocal due
        now = time.monotonic()
        if now >= due:
            due = now + _LOOK_EVERY
            mark.check()

    attempt = target.with_name(f"{target.name}-{secrets.token_hex(4)}")
    part = build_part(spec, source, attempt, max_bytes, check, spare_core)
    return replace(part, place=attempt.name)


class Watch(Protocol):
    """What tells builds that are not watched whether their run goes on."""

    def set(self) -> None:
        """It does: called before each of them."""

    def mend(self, error: BaseException) -> BaseException:
        """A worker's error as the coordinator knows it better."""


class Apart(Executor):
    """Another executor, of which only what is submitted through this one is ended with it; ``close`` is called then.

    ``lost`` says whether an error, of a task or of handing one over, means that workers were lost; ``translate`` puts
    others into our words.
    """

    def __init__(
        self,
        executor: Executor,
        mark: Watch,
        *,
        lost: Callable[[BaseException], bool] = lambda error: isinstance(error, BrokenExecutor),
        translate: Callable[[BaseException], BaseException] = lambda error: error,
        close: Callable[[], None] = lambda: None,
    ) -> None:
        self._executor = executor
        self._mark = mark
        self._lost = lost
        self._translate = translate
        self._close = close
        self._running: dict[Future[Any], Future[Any]] = {}  # what was handed out for each of the executor's own

    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        """As ``Executor.submit``. Raises BrokenExecutor when workers were lost."""
        self._mark.set()
        try:
            inner = self._executor.submit(fn, *args, **kwargs)
        except Exception as error:  # each kind of executor has its own
            if self._lost(error):
                raise BrokenExecutor(error_text(error)) from error
            raise
        outer: Future[T] = Future()
        outer.set_running_or_notify_cancel()
        self._running[inner] = outer
        inner.add_done_callback(partial(self._pass_on, outer))
        return outer

    def _pass_on(self, outer: Future[T], inner: Future[T]) -> None:
        self._running.pop(inner, None)
        error = BrokenExecutor("it was taken back") if inner.cancelled() else inner.exception()
        with suppress(InvalidStateError):  # it was given up
            if error is None:
                outer.set_result(inner.result())
            elif self._lost(error) and not isinstance(error, BrokenExecutor):
                outer.set_exception(BrokenExecutor(error_text(error)))
            else:
                outer.set_exception(self._mark.mend(self._translate(error)))

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Waits no longer than builds take to hear that they are to stop. What has no outcome by then is lost: of a
        cluster whose scheduler died nothing is heard any more."""
        running = list(self._running)
        for future in running if cancel_futures else ():
            future.cancel()
        if wait:
            wait_for(running, _ENDED_WITHIN)
        for outer in list(self._running.values()):
            with suppress(InvalidStateError):
                outer.set_exception(BrokenExecutor("nothing was heard of it any more"))
        self._close()


def borrowed(executor: Executor, mark: Mark) -> Apart:
    """An executor of somebody else's. Raises WorkersKilled, out of ``submit``, when it takes nothing (any more)."""
    return Apart(_Whole(executor), mark)


class _Whole(Executor):
    """Cannot be made anew when it breaks."""

    def __init__(self, executor: Executor) -> None:
        self._executor = executor

    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        try:
            return self._executor.submit(fn, *args, **kwargs)
        except RuntimeError as error:  # BrokenExecutor is one
            raise WorkersKilled(
                f"The executor that was given takes no more work: {error_text(error)}",
                advice="Give another one; what is packed stays, and the same call goes on.",
            ) from error


def takes_any_object(engine: str | Executor) -> bool:
    """Whether parts are built in this process, so that a source need not be sent anywhere."""
    return engine in ("threads", "serial") or isinstance(engine, ThreadPoolExecutor)


def works_apart(engine: str | Executor) -> bool:
    """Whether the workers are not ours, so that they have neither this machine's login nor, perhaps, its disks."""
    return not isinstance(engine, str) or engine.partition(":")[0] == "dask"


def workers_in(executor: Executor) -> int | None:
    """How many work there side by side, None where it does not tell."""
    count = getattr(executor, "_max_workers", None)
    return count if isinstance(count, int) and count > 0 else None
