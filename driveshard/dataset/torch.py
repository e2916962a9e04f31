"""A sampler for torch's DataLoader that knows where samples lie, and can go on where a run was stopped."""

from __future__ import annotations

import sys
from collections import deque
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from driveshard.core.errors import UsageError
from driveshard.dataset.dataset import Dataset
from driveshard.dataset.shuffle import WINDOW, epoch_order

try:
    import torch.distributed
    from torch.utils.data import get_worker_info
except ImportError as missing:
    raise ImportError("driveshard.torch needs PyTorch: pip install 'driveshard[torch]'") from missing

_FRAMES = 6  # between a sampler and the loader that asks it


class Sampler:
    """Numbers of samples in an order that is shuffled part by part, split among ranks (and workers, when it is asked
    inside of one) with none lost and none twice.

        sampler = driveshard.torch.Sampler(dataset, seed=1)
        loader = DataLoader(dataset, batch_size=64, sampler=sampler, num_workers=4)

    With ``batch_size`` it gives lists, for ``batch_sampler=``; ``drop_last`` leaves out the last batch of an epoch when
    some rank could not fill it. ``window`` is how many parts are mixed at a time. ``rank`` of ``world`` is torch's own
    when that is initialised. Each pass is the next epoch; ``set_epoch`` names one.

    ``state_dict`` is where the training is: what a DataLoader has handed out, not what its workers fetched ahead.
    ``load_state_dict`` goes on from there with any number of ranks and workers: ranks that took the same number of
    samples have taken the order's beginning together, and what is left is split anew.
    """

    def __init__(
        self,
        dataset: Dataset,
        *,
        shuffle: bool = True,
        seed: int = 0,
        batch_size: int | None = None,
        drop_last: bool = False,
        window: int | None = None,
        rank: int | None = None,
        world: int | None = None,
    ) -> None:
        ready = torch.distributed.is_available() and torch.distributed.is_initialized()
        self.rank = (torch.distributed.get_rank() if ready else 0) if rank is None else rank
        self.world = (torch.distributed.get_world_size() if ready else 1) if world is None else world
        if not 0 <= self.rank < self.world:
            raise UsageError(f"rank {self.rank} is not one of {self.world}", advice="Ranks count from 0.")
        if batch_size is not None and batch_size < 1:
            raise UsageError(f"batch_size cannot be {batch_size}", advice="Give 1 or more.")
        self.dataset = dataset
        self.shuffle = shuffle
        self.seed = seed
        self.batch_size = batch_size
        self.drop_last = drop_last
        self.window = window or min(WINDOW, dataset.parts.most_open)
        self.epoch = 0
        self._start = 0  # samples of the epoch that all ranks together had taken before
        self._pass: _Pass | None = None

    def __len__(self) -> int:
        """How many numbers, or lists of them, this rank gets in the pass that goes on or comes next."""
        return _steps(self._left(self._start, self.rank, self.world), self._even(self.world), self.batch_size)

    def __iter__(self) -> Iterator[Any]:
        self._settle()
        worker = get_worker_info()
        streams = self.world * (worker.num_workers if worker else 1)
        stream = self.rank * worker.num_workers + worker.id if worker else self.rank
        numbers = self._order()[self._start :][stream::streams]
        if self._even(streams) is not None:
            numbers = numbers[: self._even(streams)]
        self._pass = _Pass(numbers, self.batch_size, streams, self)
        self._pass.expect(self.dataset.part_numbers()[numbers], self.window)
        return self._pass

    def set_epoch(self, epoch: int) -> None:
        """The next pass is this epoch: from its beginning, or from where a loaded state is in it."""
        if epoch != self.epoch or self._position()[0] != self.epoch:
            self._start = 0
        self.epoch, self._pass = epoch, None

    def state_dict(self) -> dict[str, int]:
        """Where the training is. The same on every rank that has taken as many samples."""
        epoch, position = self._position()
        order = {"length": len(self.dataset), "seed": self.seed, "shuffle": int(self.shuffle), "window": self.window}
        return {**order, "epoch": epoch, "position": position}

    def load_state_dict(self, state: Mapping[str, int]) -> None:
        """Go on from there. Raises UsageError when that was another dataset."""
        if state["length"] != len(self.dataset):
            raise UsageError(
                f"the state is of {state['length']:,} samples, and here are {len(self.dataset):,}",
                advice="Open the same dataset.",
            )
        self.seed, self.shuffle, self.window = state["seed"], bool(state["shuffle"]), state["window"]
        self.epoch, self._start, self._pass = state["epoch"], state["position"], None

    def _settle(self) -> None:
        """A pass that was gone through makes the next one the next epoch; one that was broken off begins again."""
        epoch, _ = self._position()
        if epoch != self.epoch:
            self.set_epoch(epoch)

    def _position(self) -> tuple[int, int]:
        """(epoch, samples of it that all ranks have taken); the whole of an epoch is the beginning of the next."""
        if self._pass is None:
            return self.epoch, self._start
        if self._pass.is_done():
            return self.epoch + 1, 0
        position = self._start + self._pass.taken() * self._pass.streams
        return self.epoch, min(position, len(self.dataset))

    def _order(self) -> NDArray[np.int64]:
        if not self.shuffle:
            return np.arange(len(self.dataset))
        return epoch_order(self.dataset.part_numbers(), self.seed, self.epoch, self.window)

    def _left(self, start: int, stream: int, streams: int) -> int:
        return len(range(start + stream, len(self.dataset), streams))

    def _even(self, streams: int) -> int | None:
        """With ``drop_last`` how many samples every stream can have, in whole batches."""
        if not self.drop_last:
            return None
        fewest = (len(self.dataset) - self._start) // streams
        return fewest - fewest % (self.batch_size or 1)


def _steps(left: int, even: int | None, batch_size: int | None) -> int:
    left = left if even is None else min(left, even)
    return left if batch_size is None else -(-left // batch_size)


class _Pass:
    """One way through an epoch."""

    def __init__(self, numbers: NDArray[np.int64], batch_size: int | None, streams: int, sampler: Sampler) -> None:
        self._numbers = numbers
        self._batch_size = batch_size
        self.streams = streams
        self._sampler = sampler
        self._given = 0  # samples
        self._loader: dict[str, Any] | None = None
        self._asking: object = None  # what the loader asks: another one when it begins another pass
        self._looked = False
        self._expected: deque[tuple[int, int]] = deque()

    def expect(self, parts: NDArray[np.int64], window: int) -> None:
        """Parts are fetched half a window before their first sample is given. ``parts`` has one of each number."""
        distinct, first = np.unique(parts, return_index=True)
        before = len(parts) * window // (2 * max(1, len(distinct)))
        order = np.argsort(first)
        self._expected = deque(zip((first[order] - before).tolist(), distinct[order].tolist(), strict=True))

    def __iter__(self) -> _Pass:
        return self

    def __next__(self) -> Any:
        if not self._looked:
            self._loader, self._looked = _loader_that_asks(), True
            self._asking = None if self._loader is None else self._loader.get("_sampler_iter")
        if self._given >= len(self._numbers):
            raise StopIteration
        while self._expected and self._expected[0][0] <= self._given:
            self._sampler.dataset.parts.ahead([self._expected.popleft()[1]])
        if self._batch_size is None:
            self._given += 1
            return int(self._numbers[self._given - 1])
        batch = self._numbers[self._given : self._given + self._batch_size].tolist()
        self._given += len(batch)
        return batch

    def taken(self) -> int:
        """Samples that the training has got: what was given, without what a loader still holds."""
        size = self._loaders_batch()
        if self._loader is None or size is None:
            return self._given
        return min(self._given, int(self._loader["_num_yielded"]) * size)

    def is_done(self) -> bool:
        total = len(self._numbers)
        if self._loader is not None and getattr(self._loader["_index_sampler"], "drop_last", False):
            total -= total % (self._loaders_batch() or 1)
        return self.taken() >= total

    def _loaders_batch(self) -> int | None:
        """Samples in a batch of the loader, None when its count does not tell what became of this pass."""
        if self._loader is None or self._loader["_sampler_iter"] is not self._asking:
            return None
        asked = self._loader["_index_sampler"]
        if asked is self._sampler:
            return self._batch_size or 1
        size = getattr(asked, "batch_size", None)
        return size if isinstance(size, int) else None


def _loader_that_asks() -> dict[str, Any] | None:
    """The attributes of the DataLoader's iterator that is asking, None when somebody else is.

    A loader with workers asks ahead, and tells a sampler nothing of how many batches it has handed out. Its count is
    read where torch keeps it (since 1.2); the attributes are kept and not the iterator, which ends its workers when it
    goes.
    """
    frame = sys._getframe(2)
    for _ in range(_FRAMES):
        owner = frame.f_locals.get("self")
        if hasattr(owner, "_num_yielded") and hasattr(owner, "_index_sampler"):
            return vars(owner)
        if frame.f_back is None:
            break
        frame = frame.f_back
    return None
