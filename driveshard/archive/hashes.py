"""64-bit hashes of very many short runs of bytes at once, for finding a key; whoever trusts one compares as well."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

_MULTIPLIER = 0x9E3779B97F4A7C15  # odd, its bits well mixed
_BLOCK = 1 << 17  # bytes of names hashed together: few enough to stay in the CPU's cache


def hashes_of(data: NDArray[np.uint8], lengths: NDArray[np.int64]) -> NDArray[np.uint64]:
    """A 64-bit hash of each run of ``data``: the sum of its bytes times powers of an odd number, mixed."""
    found = np.zeros(len(lengths), np.uint64)
    ends = np.cumsum(lengths)
    at = 0
    while at < len(lengths):
        begin = int(ends[at - 1]) if at else 0
        upto = max(at + 1, int(np.searchsorted(ends, begin + _BLOCK)))
        found[at:upto] = _hashes(data[begin : int(ends[upto - 1])], lengths[at:upto])
        at = upto
    return _mixed(found, lengths)


def _hashes(data: NDArray[np.uint8], lengths: NDArray[np.int64]) -> NDArray[np.uint64]:
    begins = np.cumsum(lengths) - lengths
    place = np.arange(len(data)) - np.repeat(begins, lengths)
    terms = (data.astype(np.uint64) + np.uint64(1)) * _powers(int(lengths.max(initial=0)))[place]
    sums = np.concatenate(([np.uint64(0)], np.cumsum(terms)))  # wraps, and so do the differences
    found: NDArray[np.uint64] = sums[begins + lengths] - sums[begins]
    return found


def _powers(count: int) -> NDArray[np.uint64]:
    powers = np.full(max(1, count), _MULTIPLIER, np.uint64)
    found: NDArray[np.uint64] = np.cumprod(powers)
    return found


def _mixed(sums: NDArray[np.uint64], lengths: NDArray[np.int64]) -> NDArray[np.uint64]:
    value = sums ^ lengths.astype(np.uint64)
    value ^= value >> np.uint64(32)
    value *= np.uint64(_MULTIPLIER)
    found: NDArray[np.uint64] = value ^ (value >> np.uint64(29))
    return found


def hash_of(key: bytes) -> int:
    """The hash of one key, as ``hashes_of`` computes it."""
    mask = (1 << 64) - 1
    total, power = 0, 1
    for byte in key:
        power = power * _MULTIPLIER & mask
        total += (byte + 1) * power
    value = (total & mask) ^ len(key)
    value ^= value >> 32
    value = value * _MULTIPLIER & mask
    return value ^ (value >> 29)
