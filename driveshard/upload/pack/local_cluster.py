"""A dask cluster on this machine, for one run: a process of its own that ends with us, however we end.

Dask would start its workers from this very process, and each would import the running script again, hear Ctrl-C, and
listen to every user of this machine. Here they are started bare, deaf, and talk TLS with keys made for the run.
"""

from __future__ import annotations

import logging
import multiprocessing
import os
import shutil
import signal
import tempfile
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from driveshard.core.formatting import error_text
from driveshard.upload.pack.workers import FOR_ALL, helper_context, not_interrupted
from driveshard.upload.spool import BUILDING, make_private

_SETTINGS = {
    "logging": {"distributed": "critical"},
    "distributed.scheduler.allowed-failures": 0,  # how often a part is tried is the engine's to say
    # Nobody looks at these, and each takes the interpreter from the packing.
    "distributed.worker.profile.enabled": False,
    "distributed.admin.tick.interval": "1s",
    "distributed.admin.system-monitor.interval": "10s",
}
SCRATCH = f"{BUILDING}dask-"  # a temp folder that such a cluster leaves behind when it is killed is swept with the rest
_STARTED_WITHIN = 60.0  # seconds
_ENDED_WITHIN = 3.0  # seconds


@dataclass(frozen=True)
class Cluster:
    """``address`` of its scheduler, ``security`` to reach it with, and ``end`` to be called (any number of times)."""

    address: str
    security: Any
    end: Callable[[], None]


def start_cluster(workers: int, scratch: Path | None = None) -> Cluster:
    """A scheduler and ``workers`` processes, whose files are in a folder made in ``scratch``. Raises OSError when they
    cannot be started."""
    context = helper_context()
    lifeline, held = context.Pipe(duplex=False)
    answers, answer = context.Pipe(duplex=False)
    process = context.Process(target=_serve, args=(workers, scratch, lifeline, answer), name="dask")  # type: ignore[attr-defined]
    with not_interrupted():
        process.start()
    lifeline.close()
    answer.close()
    end = partial(_end, process, held)
    try:
        told = answers.recv() if answers.poll(_STARTED_WITHIN) else "it did not start in time"
    except (EOFError, OSError) as error:
        told = error_text(error)
    if isinstance(told, str):
        end()
        raise OSError(f"no dask cluster can be started here: {told}")
    address, security = told
    return Cluster(address, security, end)


def _end(process: Any, held: Connection) -> None:
    held.close()
    with suppress(ValueError, AssertionError):  # ended by another thread
        process.join(_ENDED_WITHIN)
        process.kill()


def _serve(workers: int, parent: Path | None, lifeline: Connection, answer: Connection) -> None:
    """The cluster's process."""
    for number in FOR_ALL:
        signal.signal(number, signal.SIG_IGN)
    os.environ["PYTHONSAFEPATH"] = "1"  # workers import nothing from the current folder
    if parent is not None:
        make_private(parent)  # somebody may have cleaned up too much
    scratch = tempfile.mkdtemp(prefix=SCRATCH, dir=parent)
    try:
        cluster, security = _start(workers, scratch)
        answer.send((cluster.scheduler_address, security))
        with suppress(EOFError, OSError):
            lifeline.recv_bytes()
    except Exception as error:  # whatever it is, the coordinator tells it
        with suppress(OSError):
            answer.send(error_text(error))
    for child in multiprocessing.active_children():
        child.kill()
    shutil.rmtree(scratch, ignore_errors=True)
    os._exit(0)


def _start(workers: int, scratch: str) -> tuple[Any, Any]:
    import dask

    dask.config.set(_SETTINGS)
    from distributed import LocalCluster
    from distributed.security import Security

    dask.config.set({"distributed.nanny.pre-spawn-environ": {}})  # its own has memory given back at each picture

    security = Security.temporary()
    cluster = LocalCluster(
        n_workers=workers,
        threads_per_worker=1,
        host="127.0.0.1",
        security=security,
        dashboard_address="127.0.0.1:0",  # None would be the usual port, which another cluster may have
        worker_dashboard_address=None,
        silence_logs=logging.CRITICAL,
        memory_limit=0,
        local_directory=scratch,
    )
    return cluster, security
