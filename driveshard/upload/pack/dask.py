"""Parts built by a dask cluster: one that runs already, or one made on this machine for the run.

Dask's words for what goes wrong become ours here. Nothing else of driveshard imports dask, and this module only when an
engine is called so.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from concurrent.futures import BrokenExecutor, CancelledError
from functools import partial
from pathlib import Path
from typing import Any

import dask

if "distributed" not in sys.modules:
    # Workers that come and go are told in our own words, or not at all.
    dask.config.set({"logging": {"distributed": "critical", "distributed.client": "critical"}})
import distributed
from distributed.comm.core import CommClosedError

from driveshard import __version__
from driveshard.core.errors import ConfigError, Unreachable
from driveshard.core.formatting import error_text
from driveshard.upload.far.yard import Yard
from driveshard.upload.pack.apart import Apart, Mark, build_apart
from driveshard.upload.pack.dask_workers import DaskWorkers, build_far
from driveshard.upload.pack.local_cluster import start_cluster
from driveshard.upload.pack.workers import Crew

_ANSWERS_WITHIN = 15.0  # seconds


def start_dask(
    address: str, workers: int, mark: Mark, yard: Yard | None, tell: Callable[[str], None], scratch: Path
) -> Crew:
    """Connect to the scheduler at ``address`` (``HOST:PORT``, with ``tcp://`` or ``tls://`` before it, or the path of
    its ``--scheduler-file``); without one, make a cluster of ``workers`` on this machine, whose files are in a folder
    made in ``scratch``. With a ``yard`` parts stay on the workers, else they are written into the temp folder that has
    the ``mark``. ``tell`` hears when nobody works there yet.

    Raises Unreachable when no scheduler answers, OSError when none can be made.
    """
    if address:
        client, end = _connect(address), _nothing
        if not client.nthreads():
            tell(f"The cluster at {address} has no workers yet; parts are built as soon as one comes")
    else:
        cluster = start_cluster(workers, scratch)
        end = cluster.end
        try:
            client = _connect(cluster.address, cluster.security)
        except BaseException:
            end()
            raise
    apart = partial(Apart, client.get_executor(pure=False), lost=partial(_lost, client), translate=_translated)
    close = partial(_close, client, end)
    if yard is None:
        executor = apart(mark, close=close)
        return Crew(executor, partial(_stop, mark.clear, end), build_apart, (mark,), prove=False)
    yard.open(DaskWorkers(client, yard))
    executor = apart(yard, close=partial(_stop, yard.close, close))
    return Crew(executor, partial(_stop, yard.close, end), build_far, (yard.errand,), prove=False)


def _stop(clear: Callable[[], None], end: Callable[[], None]) -> None:
    clear()
    end()


def count_workers(address: str) -> int:
    """How many parts the cluster builds side by side now: the threads of all its workers. Raises Unreachable."""
    client = _connect(address)
    try:
        return sum(client.nthreads().values())
    finally:
        client.close()


def _connect(address: str, security: Any = None) -> Any:
    file = Path(address)
    by_file = file.suffix == ".json"
    where = {"scheduler_file": str(file)} if by_file else {"address": address}
    try:
        if by_file and not file.exists():  # dask would wait for it
            raise FileNotFoundError(f"there is no file {file}")
        return distributed.Client(
            **where, security=security, timeout=_ANSWERS_WITHIN, set_as_default=False, name="driveshard"
        )
    except (OSError, ValueError, TypeError, RuntimeError) as error:
        raise Unreachable(
            f"No dask scheduler answers at {address}: {error_text(error)}",
            advice="Check the address, and that the cluster runs; then run the same command again.",
        ) from error


def _lost(client: Any, error: BaseException) -> bool:
    """Whether an error tells that workers, or the scheduler, are gone, and nothing about the part."""
    gone = isinstance(error, BrokenExecutor | CancelledError | CommClosedError | distributed.KilledWorker)
    return gone or client.status not in ("running", "connecting")


def _translated(error: BaseException) -> BaseException:
    """What was sent there cannot be read: by a scheduler or a worker without this driveshard, most likely."""
    unknown = isinstance(error, ModuleNotFoundError) and (error.name or "").partition(".")[0] == "driveshard"
    if not unknown and "deserialization" not in str(error) and "Can't get attribute" not in str(error):
        return error
    return ConfigError(
        "The cluster's scheduler or a worker cannot read what it is to do:"
        f" {error_text(error.__cause__ or error).splitlines()[0]}",
        advice=f"Install driveshard[dask] {__version__} there, too, and what your own source imports.",
    )


def _close(client: Any, end: Callable[[], None]) -> None:
    client.close(timeout=1)
    end()


def _nothing() -> None:
    """A cluster of somebody else's goes on."""
