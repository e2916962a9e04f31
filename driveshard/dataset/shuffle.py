"""The order of one epoch: parts in turn, samples of a few parts mixed. The same everywhere for the same seed."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

WINDOW = 16
"""Parts whose samples are mixed with each other."""


def epoch_order(parts: NDArray[np.int64], seed: int, epoch: int, window: int = WINDOW) -> NDArray[np.int64]:
    """All samples in the order of that epoch. ``parts`` holds the part of each sample; those of ``window`` parts,
    drawn at random, are mixed before the next ones come.

    Drawn from PCG64's raw numbers, which numpy promises never to change, unlike its ``shuffle``.
    """
    numbers = np.random.PCG64(np.random.SeedSequence([seed, epoch]))
    distinct, which = np.unique(parts, return_inverse=True)
    turns = np.empty(len(distinct), np.int64)
    turns[np.argsort(_raw(numbers, len(distinct)), kind="stable")] = np.arange(len(distinct)) // max(1, window)
    found: NDArray[np.int64] = np.lexsort((_raw(numbers, len(parts)), turns[which.reshape(-1)]))
    return found


def _raw(numbers: np.random.PCG64, count: int) -> NDArray[np.uint64]:
    found: NDArray[np.uint64] = np.asarray(numbers.random_raw(count), np.uint64)
    return found
