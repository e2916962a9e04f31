"""The run: pieces are handed to an engine, results gathered; parts are taken as they come, or by whoever needs them."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import FIRST_COMPLETED, BrokenExecutor, Executor, Future, wait
from contextlib import closing
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from driveshard import __version__
from driveshard.core.errors import LoanOver
from driveshard.dataset.stats.kept import KeptResults
from driveshard.dataset.stats.look import Place, look_abroad, look_at
from driveshard.dataset.stats.pieces import PartWork
from driveshard.dataset.stats.supply import Supply
from driveshard.dataset.stats.tally import Tally, added
from driveshard.upload.pack.apart import works_apart
from driveshard.upload.pack.engine import Engine, open_engine

_AHEAD = 3  # tasks that wait for each worker
_INLINE = 2  # pieces for which no process is started
_TOGETHER = 8  # pieces that a worker elsewhere gets at a time: it reads the next ones while it looks at one
_LOANS = 2  # times that a task is sent with another token

OnBytes = Callable[[int, int], None]
"""(more bytes that were looked at, of how many)."""
Tell = Callable[[str], None]
Coming = Iterable[tuple[PartWork, Place]]


@dataclass(slots=True)
class _Task:
    """Pieces of one part that are looked at in one go. ``place`` is None when a worker elsewhere looks for itself."""

    work: PartWork
    numbers: list[int]
    place: Place | None = None
    loans: int = 0


@dataclass
class _Run:
    """What is under way."""

    kept: KeptResults
    supply: Supply
    named: Callable[[int], str]
    on_bytes: OnBytes
    total: int = 0
    running: dict[Future[list[Tally]], _Task] = field(default_factory=dict)

    def gather(self, engine: Engine, most: int, part: int | None = None) -> None:
        """Wait until at most so many tasks are under way, and none of another part than ``part``, if one is named."""
        while len(self.running) > most or self._any_but(part):
            done, _ = wait(self.running, return_when=FIRST_COMPLETED)
            for future in done:
                task = self.running.pop(future)
                try:
                    self.take(task, future.result())
                except BrokenExecutor:  # its worker was lost: another one looks at it
                    self.submit(engine, task)
                except LoanOver:
                    task.loans += 1
                    if task.loans > _LOANS:
                        raise
                    self.submit(engine, task)

    def _any_but(self, part: int | None) -> bool:
        return part is not None and any(task.work.number != part for task in self.running.values())

    def submit(self, engine: Engine, task: _Task) -> None:
        pieces = [task.work.pieces[number] for number in task.numbers]
        if task.place is not None:
            look = partial(look_at, pieces, task.place)
        else:
            place, size = self.supply.abroad(task.work, renew=task.loans > 0), self.supply.size(task.work.number)
            look = partial(look_abroad, pieces, place, size, __version__)
        self.running[engine.call(_number(task), look, f"{pieces[0].part} was looked at")] = task

    def take(self, task: _Task, tallies: Sequence[Tally]) -> None:
        for number, tally in zip(task.numbers, tallies, strict=True):
            tally.broken = [(self.named(row), why) for row, why in tally.broken]
            self.on_bytes(int(task.work.pieces[number].stored.sum()), self.total)
            if self.kept.put(task.work, number, tally):
                self.supply.done(task.work.number)


def _number(task: _Task) -> int:
    """What the engine knows it by."""
    return task.work.number * (1 << 32) + task.numbers[0]


def look_at_all(
    works: Sequence[PartWork],
    supply: Supply,
    kept: KeptResults,
    engine: str | Executor,
    workers: int,
    named: Callable[[int], str],
    on_bytes: OnBytes = lambda *_: None,
    tell: Tell = lambda _: None,
) -> Tally:
    """The tally of all parts, in their order; only what no earlier run did is looked at. ``named`` gives the path of a
    row of the index.

    Raises Mismatch when a part cannot be read, WorkersKilled, ConfigError, and what fetching a part raises."""
    missing = {work.number: kept.missing(work) for work in works}
    todo = [work for work in works if missing[work.number]]
    run = _Run(kept, supply, named, on_bytes, sum(work.bytes for work in works))
    on_bytes(run.total - sum(_bytes(work, missing[work.number]) for work in todo), run.total)
    count = sum(len(missing[work.number]) for work in todo)
    try:
        if works_apart(engine) and count:
            _abroad(run, todo, missing, engine, min(workers, count), tell)
        else:
            with closing(supply.coming(todo)) as coming:
                if workers > 1 and count > _INLINE and engine != "serial":
                    _side_by_side(run, coming, missing, engine, min(workers, count), tell)
                else:
                    for work, place in coming:
                        for number in missing[work.number]:
                            run.take(_Task(work, [number], place), look_at([work.pieces[number]], place))
    finally:
        kept.flush()
    kept.sweep()
    return added(kept.whole(work) for work in works)


def _side_by_side(
    run: _Run, coming: Coming, missing: dict[int, list[int]], name: str | Executor, workers: int, tell: Tell
) -> None:
    with open_engine(name, workers, tell=tell) as engine:
        engine.warm_up()
        for work, place in coming:
            for number in missing[work.number]:
                run.submit(engine, _Task(work, [number], place))
                run.gather(engine, workers * _AHEAD)
            run.gather(engine, workers * _AHEAD, part=work.number)  # before the next one comes
        run.gather(engine, 0)


def _abroad(
    run: _Run, todo: list[PartWork], missing: dict[int, list[int]], name: str | Executor, workers: int, tell: Tell
) -> None:
    """By workers that are not ours, each of which reads what it needs where it lies."""
    together = max(1, min(_TOGETHER, sum(len(missing[work.number]) for work in todo) // workers))
    with (
        tempfile.TemporaryDirectory(prefix="driveshard-", ignore_cleanup_errors=True) as folder,
        open_engine(name, workers, tell=tell, spool=Path(folder)) as engine,
    ):
        for work in todo:
            numbers = missing[work.number]
            step = len(numbers) if run.supply.whole(work) else together
            for at in range(0, len(numbers), step):
                run.submit(engine, _Task(work, numbers[at : at + step]))
                run.gather(engine, workers * _AHEAD)
        run.gather(engine, 0)


def _bytes(work: PartWork, numbers: Sequence[int]) -> int:
    return sum(int(work.pieces[number].stored.sum()) for number in numbers)
