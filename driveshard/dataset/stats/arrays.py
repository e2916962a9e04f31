"""Looks at the numbers of numpy arrays (``.npy``), in their own units."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
from numpy.typing import NDArray

from driveshard.dataset.stats.tally import BINS, MOST_SIZES, Arrays, count_value

_BLOCK = 1 << 20  # values that are looked at in one go
_LARGEST = 1e150  # whose square is still a number


def count_array(arrays: Arrays, data: bytes) -> None:
    """One more array. Raises ValueError for bytes that are none, or whose values are Python objects."""
    found = np.load(io.BytesIO(data), allow_pickle=False)
    if not isinstance(found, np.ndarray):
        raise ValueError("it is no single array")
    arrays.count += 1
    count_value(arrays.shapes, "x".join(map(str, found.shape)) or "scalar", MOST_SIZES)
    count_value(arrays.types, str(found.dtype)[:BINS], BINS)
    if found.dtype.kind in "biuf":
        flat = found.reshape(-1, order="A")
        for begin in range(0, flat.size, _BLOCK):
            arrays.add_numbers(_numbers(flat[begin : begin + _BLOCK]))


def _numbers(values: NDArray[Any]) -> Arrays:
    wide = values.astype(np.float64)
    told = wide[np.abs(wide) < _LARGEST]  # which a NaN is not, either
    found = Arrays(left_out=wide.size - told.size)
    if told.size:
        found.numbers, found.mean = told.size, float(told.mean())
        found.spread = float(np.square(told - found.mean).sum())
        found.low, found.high = float(told.min()), float(told.max())
    return found
