"""The planner for a source."""

from __future__ import annotations

from driveshard.core.clock import Clock
from driveshard.core.events import Emit
from driveshard.sources.base import Source
from driveshard.sources.estimate import Measure
from driveshard.sources.folder import FolderSource
from driveshard.upload.ledger.ledger import Ledger
from driveshard.upload.plan.base import Cut, Differences, Planner
from driveshard.upload.plan.parts import CutSource, PartPlanner, forget_gone


def planner_for(
    source: Source,
    ledger: Ledger,
    cut: Cut,
    clock: Clock,
    emit: Emit,
    *,
    measure: Measure | None = None,
    checksum: bool = False,
    differences: Differences | None = None,
) -> Planner:
    """The planner that suits the source. ``measure`` calls, somewhere else, a function that makes samples of it; with
    ``checksum`` known files are read again; ``differences`` are for folders."""
    if isinstance(source, FolderSource):
        from driveshard.upload.plan.files import FilePlanner, forget_outgrown

        forget_outgrown(ledger, cut)
        return FilePlanner(source, ledger, cut, clock, emit, checksum=checksum, differences=differences)
    if isinstance(source, CutSource):
        forget_gone(ledger, source)
        return PartPlanner(source, ledger, cut, emit, measure)  # type: ignore[arg-type]
    from driveshard.upload.plan.samples import RangePlanner, StreamPlanner

    if goes_once(source):
        return StreamPlanner(ledger, cut, clock)
    return RangePlanner(source, ledger, cut, emit, measure)  # type: ignore[arg-type]


def goes_once(source: Source) -> bool:
    """Whether the source can only be gone through once, in order and in this process."""
    return not isinstance(source, FolderSource | CutSource) and not getattr(source, "indexable", True)
