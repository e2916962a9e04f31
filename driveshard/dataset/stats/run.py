"""The run: pieces are handed to processes, results gathered, parts taken as they come."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import FIRST_COMPLETED, BrokenExecutor, Future, wait
from contextlib import closing
from dataclasses import dataclass, field
from functools import partial

from driveshard.dataset.stats.kept import KeptResults
from driveshard.dataset.stats.look import Place, look_at
from driveshard.dataset.stats.pieces import PartWork
from driveshard.dataset.stats.supply import Supply
from driveshard.dataset.stats.tally import Tally, added
from driveshard.upload.pack.engine import Engine, open_engine

_AHEAD = 3  # pieces that wait for each process
_INLINE = 2  # pieces for which no process is started

OnBytes = Callable[[int, int], None]
"""(more bytes that were looked at, of how many)."""
Tell = Callable[[str], None]
Coming = Iterable[tuple[PartWork, Place]]


@dataclass(slots=True)
class _Task:
    """A piece that is looked at."""

    work: PartWork
    number: int
    place: Place


@dataclass
class _Run:
    """What is under way."""

    kept: KeptResults
    supply: Supply
    named: Callable[[int], str]
    on_bytes: OnBytes
    total: int = 0
    running: dict[Future[Tally], _Task] = field(default_factory=dict)

    def gather(self, engine: Engine, most: int, part: int | None = None) -> None:
        """Wait until at most so many pieces are under way, and none of another part than ``part``, if one is named."""
        while len(self.running) > most or self._any_but(part):
            done, _ = wait(self.running, return_when=FIRST_COMPLETED)
            for future in done:
                task = self.running.pop(future)
                try:
                    self.take(task, future.result())
                except BrokenExecutor:  # its process was lost: another one looks at it
                    self.submit(engine, task)

    def _any_but(self, part: int | None) -> bool:
        return part is not None and any(task.work.number != part for task in self.running.values())

    def submit(self, engine: Engine, task: _Task) -> None:
        words = f"{task.work.pieces[task.number].part} was looked at"
        piece = task.work.pieces[task.number]
        self.running[engine.call(_number(task), partial(look_at, piece, task.place), words)] = task

    def take(self, task: _Task, tally: Tally) -> None:
        tally.broken = [(self.named(row), why) for row, why in tally.broken]
        self.on_bytes(int(task.work.pieces[task.number].stored.sum()), self.total)
        if self.kept.put(task.work, task.number, tally):
            self.supply.done(task.work.number)


def _number(task: _Task) -> int:
    """What the engine knows it by."""
    return task.work.number * (1 << 32) + task.number


def look_at_all(
    works: Sequence[PartWork],
    supply: Supply,
    kept: KeptResults,
    workers: int,
    named: Callable[[int], str],
    on_bytes: OnBytes = lambda *_: None,
    tell: Tell = lambda _: None,
) -> Tally:
    """The tally of all parts, in their order; only what no earlier run did is looked at. ``named`` gives the path of a
    row of the index.

    Raises Mismatch when a part cannot be read, WorkersKilled, and what fetching a part raises."""
    missing = {work.number: kept.missing(work) for work in works}
    todo = [work for work in works if missing[work.number]]
    run = _Run(kept, supply, named, on_bytes, sum(work.bytes for work in works))
    on_bytes(run.total - sum(_bytes(work, missing[work.number]) for work in todo), run.total)
    count = sum(len(missing[work.number]) for work in todo)
    try:
        with closing(supply.coming(todo)) as coming:
            if workers > 1 and count > _INLINE:
                _side_by_side(run, coming, missing, min(workers, count), tell)
            else:
                for work, place in coming:
                    for number in missing[work.number]:
                        run.take(_Task(work, number, place), look_at(work.pieces[number], place))
    finally:
        kept.flush()
    kept.sweep()
    return added(kept.whole(work) for work in works)


def _side_by_side(run: _Run, coming: Coming, missing: dict[int, list[int]], workers: int, tell: Tell) -> None:
    with open_engine("processes", workers, tell=tell) as engine:
        engine.warm_up()
        for work, place in coming:
            for number in missing[work.number]:
                run.submit(engine, _Task(work, number, place))
                run.gather(engine, workers * _AHEAD)
            run.gather(engine, workers * _AHEAD, part=work.number)  # before the next one comes
        run.gather(engine, 0)


def _bytes(work: PartWork, numbers: Sequence[int]) -> int:
    return sum(int(work.pieces[number].stored.sum()) for number in numbers)
