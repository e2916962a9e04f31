"""How the workers of a dask cluster are reached beside what they build, and what runs there.

Calls do not take one of the worker's threads for tasks, so that a part leaves while the next one is built.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import distributed

from driveshard.core.errors import TempLost, defect_of
from driveshard.core.model import Part, PartSpec
from driveshard.sources.base import Source
from driveshard.upload.far import bench
from driveshard.upload.far.bench import Errand, Workplace
from driveshard.upload.far.sealing import public_key
from driveshard.upload.far.yard import Lying, Yard

_LOOK_EVERY = 5.0  # seconds
_ASKED_WITHIN = 2.0  # seconds for all workers to hear something


class DaskWorkers:
    """As ``yard.Reach``."""

    def __init__(self, client: Any, yard: Yard) -> None:
        self._client = client
        topic = _topic(yard.errand)
        client.subscribe_topic(topic, lambda event: yard.heard(event[1]["name"], event[1]["count"]))

    def begin(self, worker: str, work: Callable[..., Any], *arguments: Any) -> Callable[[float], Any]:
        answer: Future[tuple[bool, Any]] = Future()
        threading.Thread(target=self._ask, args=(worker, (work, *arguments), answer), name="ask", daemon=True).start()
        looked = time.monotonic()

        def outcome(seconds: float) -> Any:
            nonlocal looked
            try:
                went_well, value = answer.result(seconds)
            except TimeoutError:
                if time.monotonic() - looked < _LOOK_EVERY:
                    raise
                looked = time.monotonic()
                if worker in self._client.nthreads():
                    raise
                raise _lost(worker) from None
            if not went_well:
                raise value
            return value

        return outcome

    def _ask(self, worker: str, call: tuple[Any, ...], answer: Future[tuple[bool, Any]]) -> None:
        try:
            answer.set_result(self._client.run(_do, *call, workers=[worker])[worker])
        except Exception:  # whatever dask says when a worker, or the scheduler, is no more
            answer.set_result((False, _lost(worker)))

    def everywhere(self, work: Callable[..., Any], *arguments: Any) -> None:
        ask = partial(self._client.run, _do, work, *arguments, on_error="ignore")
        asking = threading.Thread(target=_quietly, args=(ask,), name="ask-all", daemon=True)
        asking.start()
        asking.join(_ASKED_WITHIN)


def _quietly(call: Callable[[], Any]) -> None:
    with suppress(Exception):  # they find out by themselves
        call()


def _lost(worker: str) -> TempLost:
    return TempLost(f"the worker {worker} is gone")


def _topic(errand: Errand) -> str:
    return f"driveshard-{errand.run}"


# -- in a worker -----------------------------------------------------------------------------------------------------


def build_far(spec: PartSpec, source: Source, target: Path, max_bytes: int, errand: Errand) -> Part:
    """As ``build_part``, into the worker's own folder; the part's ``place`` says which worker, and its name there."""
    worker = distributed.get_worker()
    place = replace(_workplace(worker, errand), wanted=partial(_is_wanted, worker, worker.get_current_task()))
    part = bench.build(place, errand, spec, source, max_bytes)
    return replace(part, place=str(Lying(worker.address, part.place or "", public_key())))


async def _do(work: Callable[..., Any], *arguments: Any, dask_worker: Any) -> tuple[bool, Any]:
    return await asyncio.to_thread(_done, dask_worker, work, *arguments)


def _done(worker: Any, work: Callable[..., Any], errand: Errand, *arguments: Any) -> tuple[bool, Any]:
    """An error is told, not raised: dask would write it and all arguments into its log."""
    try:
        return True, work(_workplace(worker, errand), errand, *arguments)
    except BaseException as error:  # it is raised again where it was asked for
        return False, defect_of(error)


def _workplace(worker: Any, errand: Errand) -> Workplace:
    return Workplace(Path(worker.local_directory), worker.state.nthreads, partial(_tell, worker, _topic(errand)))


def _is_wanted(worker: Any, key: Any) -> bool:
    """A worker is told, though nothing ends by that, when whoever asked for a task has taken it back or is gone."""
    task = worker.state.tasks.get(key)
    return task is not None and task.state != "cancelled"


def _tell(worker: Any, topic: str, name: str, count: int) -> None:
    with suppress(Exception):  # the scheduler is gone, and the run with it
        worker.log_event(topic, {"name": name, "count": count})
