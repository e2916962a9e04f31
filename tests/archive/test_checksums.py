"""Checksums that come out right however the blocks come, and threads that end."""

from __future__ import annotations

import hashlib
import os
import sys
import threading
import time
import zlib
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from driveshard.archive import checksums
from driveshard.archive.checksums import Checksums, crc32

LARGE = 1 << 16
SIZES = st.sampled_from([0, 1, 1000, LARGE - 1, LARGE, LARGE + 1, 5 * LARGE])


def digests(content: bytes) -> tuple[str, str]:
    return hashlib.md5(content).hexdigest(), hashlib.sha256(content).hexdigest()


def threads() -> set[threading.Thread]:
    return {thread for thread in threading.enumerate() if thread.name.startswith("md5")}


@pytest.fixture(autouse=True)
def no_thread_is_left() -> Iterator[None]:
    yield
    assert not threads()


@pytest.mark.parametrize("threaded", [True, False])
@pytest.mark.parametrize("given_away", [True, False])
def test_blocks_of_any_size_in_any_order(threaded: bool, given_away: bool) -> None:
    content = os.urandom(7 * LARGE)
    sums, at = Checksums(threaded), 0
    for size in (3, LARGE, LARGE - 1, 0, 2 * LARGE, LARGE, 5, LARGE):
        sums.update(content[at : at + size], given_away)
        at += size
    assert sums.digests() == digests(content[:at])
    assert bool(threads()) is threaded
    assert threaded or sums.seconds == 0
    sums.end()
    sums.end()
    assert sums.digests() == digests(content[:at])


@given(before=st.lists(SIZES, max_size=4), after=st.lists(SIZES, max_size=4), threaded=st.booleans())
def test_what_comes_after_a_state_can_be_forgotten(before: list[int], after: list[int], threaded: bool) -> None:
    sums = Checksums(threaded)
    for size in before:
        sums.update(bytes(size), given=True)
    state = sums.state()
    for size in after:
        sums.update(b"x" * size, given=True)
    sums.restore(state)
    sums.update(b"end")
    assert sums.digests() == digests(bytes(sum(before)) + b"end")
    sums.end()


def test_a_block_that_was_only_lent_may_change_at_once() -> None:
    block = bytearray(b"a" * (64 * LARGE))
    sums = Checksums()
    sums.update(memoryview(block))
    block[:] = b"b" * len(block)
    assert sums.digests() == digests(b"a" * len(block))
    sums.end()


@pytest.mark.skipif(os.name == "nt", reason="Windows counts in steps of 16 ms")
def test_the_threads_time_is_counted() -> None:
    sums = Checksums()
    began = time.process_time()
    sums.update(bytes(64 * LARGE))
    assert 0 < sums.seconds < time.process_time() - began
    sums.end()


def test_small_blocks_need_no_thread() -> None:
    sums = Checksums()
    sums.update(bytes(LARGE - 1))
    assert not threads()
    sums.end()


def test_trouble_in_the_thread_is_the_callers() -> None:
    class Broken:
        def update(self, block: bytes) -> None:
            raise MemoryError

    sums = Checksums()
    sums._md5 = Broken()  # type: ignore[assignment]
    sums.update(bytes(LARGE), given=True)
    with pytest.raises(MemoryError):
        sums.digests()
    sums.end()


def test_the_crc_is_zlibs_with_and_without_zlib_ng(monkeypatch: pytest.MonkeyPatch) -> None:
    data = os.urandom(5000)
    for block in (b"", data, bytearray(data), memoryview(data)[7:]):
        assert crc32(block) == zlib.crc32(block)
        assert crc32(block, 77) == zlib.crc32(block, 77)
    monkeypatch.setitem(sys.modules, "zlib_ng.zlib_ng", None)
    assert checksums.fastest_crc32() is zlib.crc32
