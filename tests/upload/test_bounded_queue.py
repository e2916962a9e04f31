"""The bounded queue: order, waiting at both ends, and a close that wakes everybody."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

import pytest

from driveshard.upload.bounded_queue import Channel, Closed


def started(work: Callable[[], object]) -> threading.Thread:
    thread = threading.Thread(target=work)
    thread.start()
    return thread


def stays_waiting(thread: threading.Thread) -> bool:
    thread.join(0.1)
    return thread.is_alive()


def test_items_come_out_in_order_and_what_comes_back_first() -> None:
    channel: Channel[int] = Channel(3)
    for item in (1, 2, 3):
        channel.put(item)
    channel.put_first(0)
    assert [channel.get() for _ in range(4)] == [0, 1, 2, 3]


def test_who_is_too_fast_waits_for_room() -> None:
    channel: Channel[int] = Channel(1)
    channel.put(1)
    thread = started(lambda: channel.put(2))
    assert stays_waiting(thread)
    assert channel.get() == 1
    thread.join(5)
    assert channel.get() == 2
    assert channel.waited_to_put >= 0.09


def test_who_is_too_early_waits_for_an_item() -> None:
    channel: Channel[int] = Channel(1)
    got: list[int] = []
    thread = started(lambda: got.append(channel.get()))
    assert stays_waiting(thread)
    channel.put(7)
    thread.join(5)
    assert got == [7]
    assert channel.waited_to_get >= 0.09


def test_what_comes_back_needs_no_room() -> None:
    channel: Channel[int] = Channel(1)
    channel.put(1)
    channel.put_first(0)
    assert [channel.get(), channel.get()] == [0, 1]


@pytest.mark.parametrize(("discard", "left"), [(False, [1, 2]), (True, [])])
def test_a_closed_channel_gives_what_is_left(discard: bool, left: list[int]) -> None:
    channel: Channel[int] = Channel(5)
    channel.put(1)
    channel.put(2)
    channel.close(discard=discard)
    assert [channel.get() for _ in left] == left
    for call in (channel.get, lambda: channel.put(3), lambda: channel.put_first(3)):
        with pytest.raises(Closed):
            call()
    channel.close()


def test_closing_wakes_everybody() -> None:
    full: Channel[int] = Channel(1)
    full.put(1)
    empty: Channel[int] = Channel(1)
    woken: list[str] = []

    def wait(name: str, call: Callable[[], object]) -> None:
        try:
            call()
        except Closed:
            woken.append(name)

    threads = [started(lambda: wait("get", empty.get)) for _ in range(3)]
    threads += [started(lambda: wait("put", lambda: full.put(2))) for _ in range(3)]
    assert all(stays_waiting(thread) for thread in threads)
    full.close()
    empty.close()
    for thread in threads:
        thread.join(5)
    assert sorted(woken) == ["get"] * 3 + ["put"] * 3


def test_nothing_is_lost_or_doubled_between_many_threads() -> None:
    channel: Channel[int] = Channel(2)
    got: list[int] = []

    def take() -> None:
        while True:
            try:
                item = channel.get()
            except Closed:
                return
            got.append(item)

    takers = [started(take) for _ in range(4)]
    givers = [started(lambda first=first: [channel.put(first + i) for i in range(100)]) for first in range(0, 400, 100)]  # type: ignore[misc]
    for thread in givers:
        thread.join(10)
    channel.close()
    for thread in takers:
        thread.join(10)
    assert sorted(got) == list(range(400))


def test_it_never_holds_more_than_its_capacity() -> None:
    channel: Channel[int] = Channel(2)
    put: list[int] = []
    thread = started(lambda: [(channel.put(i), put.append(i)) for i in range(6)])
    deadline = time.monotonic() + 5
    for taken in range(6):
        while len(put) < min(6, taken + 2) and time.monotonic() < deadline:
            time.sleep(0.001)
        assert not (taken < 4 and len(put) > taken + 2)
        assert channel.get() == taken
    thread.join(5)
