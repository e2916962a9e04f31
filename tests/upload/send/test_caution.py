"""What may be on its way at once, and when a chunk is not sent without asking first."""

from __future__ import annotations

import threading
from contextlib import ExitStack

import pytest

from driveshard.core.clock import Clock
from driveshard.core.errors import Interrupted
from driveshard.upload.send.caution import TRUSTED_AFTER, Caution
from tests.fakes import FakeClock

UNIT = 256 * 1024


def begun_beside(caution: Caution, length: int) -> tuple[threading.Event, threading.Thread]:
    """Starts one more chunk of ``length`` in a thread while others are on their way; the event says it may go."""
    on_its_way = threading.Event()

    def work() -> None:
        with caution.one_chunk(length):
            on_its_way.set()

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    return on_its_way, thread


@pytest.mark.parametrize(
    ("total", "lengths", "length", "waits"),
    [
        (0, [], UNIT, False),  # one chunk always goes
        (UNIT, [], 16 * UNIT, False),
        (4 * UNIT, [UNIT], UNIT, True),
        (31 * UNIT, [UNIT], UNIT, True),
        (32 * UNIT, [UNIT], UNIT, False),  # two are a sixteenth
        (48 * UNIT, [UNIT, UNIT], UNIT, False),
        (48 * UNIT, [UNIT, UNIT], 2 * UNIT, True),
    ],
)
def test_a_sixteenth_of_the_dataset_is_on_its_way_at_most(
    total: int, lengths: list[int], length: int, waits: bool
) -> None:
    clock = FakeClock()  # stands still, so that patience does not end
    caution = Caution(clock)
    caution.total = 1 << 40
    with ExitStack() as others:
        for one in lengths:
            others.enter_context(caution.one_chunk(one))
        caution.total = total
        on_its_way, thread = begun_beside(caution, length)
        assert on_its_way.wait(0.3 if waits else 10.0) is not waits
    assert on_its_way.wait(10.0), "the turn never came"
    thread.join(10.0)


def test_a_chunk_that_hangs_is_not_waited_for_long() -> None:
    clock = FakeClock()
    caution = Caution(clock)
    with caution.one_chunk(UNIT):
        on_its_way, thread = begun_beside(caution, UNIT)
        assert not on_its_way.wait(0.2)
        clock.time += 1.5
        assert on_its_way.wait(10.0)
    thread.join(10.0)


def test_a_failed_chunk_gives_its_turn_back() -> None:
    caution = Caution(FakeClock())
    with pytest.raises(KeyError), caution.one_chunk(UNIT):
        raise KeyError
    with caution.one_chunk(UNIT):
        caution.went_well()


def test_a_stop_ends_the_wait() -> None:
    clock = Clock()
    caution = Caution(clock)
    with caution.one_chunk(UNIT):
        clock.stop.set()
        with pytest.raises(Interrupted), caution.one_chunk(UNIT):
            pass


def test_trust_is_earned_chunk_by_chunk_and_lost_at_once() -> None:
    caution = Caution(FakeClock())
    asked = []
    for well in [True] * (TRUSTED_AFTER + 1) + [False] + [True] * TRUSTED_AFTER:
        asked.append(caution.questions)
        if well:
            caution.went_well()
        else:
            caution.failed()
    earning = [3, 2] + [1] * (TRUSTED_AFTER - 2)
    assert asked == [*earning, 0, 0, *earning]
    assert caution.questions == 0
