"""A rate and a time left that can be read, whatever lumps the bytes come in."""

from __future__ import annotations

import itertools

import pytest

from driveshard.cli.progress.rate import RateMeter, TimeLeft

MIB = 1024 * 1024


def run(lump: float, every: float, seconds: float, senders: int = 1) -> tuple[RateMeter, list[float]]:
    """A line of ``senders``, each with ``lump`` bytes every so many seconds, one after the other; and the rate, asked
    for each second after the first half minute."""
    meter, seen = RateMeter(), []
    for key in range(senders):
        meter.begin(key, 0.0)
    lumps = sorted((every * (turn + (key + 1) / senders), key) for key in range(senders) for turn in range(1000))
    for second in range(1, int(seconds)):
        while lumps[0][0] <= second:
            when, key = lumps.pop(0)
            meter.note(key, int(lump), when)
        rate = meter.rate(float(second))
        if second > 30 and rate is not None:
            seen.append(rate)
    return meter, seen


@pytest.mark.parametrize(
    ("lump", "every", "senders", "rate"),
    [
        (MIB, 0.25, 1, 4 * MIB),
        (8 * MIB, 4.0, 1, 2 * MIB),
        (64 * MIB, 20.0, 1, 3.2 * MIB),
        (64 * MIB, 12.0, 3, 16 * MIB),
    ],
)
def test_an_even_line_has_an_even_rate(lump: float, every: float, senders: int, rate: float) -> None:
    _, seen = run(lump, every, 120, senders)
    assert min(seen) > 0.85 * rate
    assert max(seen) < 1.15 * rate


def test_a_line_that_stands_still_slows_down_and_ends() -> None:
    meter, seen = run(4 * MIB, 2.0, 60)
    assert meter.rate(75.0) == pytest.approx(seen[-1] / 2, rel=0.25)
    assert meter.rate(95.0) is None


def test_the_next_part_takes_over_where_the_last_one_ended() -> None:
    meter = RateMeter()
    for part in range(12):
        meter.begin(part, 10.0 * part)
        meter.note(part, 10 * MIB, 10.0 * (part + 1))
        meter.end(part)
    meter.begin(12, 120.0)
    assert meter.rate(127.0) == pytest.approx(MIB, rel=0.1)


@pytest.mark.parametrize(
    ("measured", "most"),  # what is measured from second to second, as a share of the truth; the largest step back up
    [
        ([1.0], 0.0),
        ([0.7, 1.3], 4.0),
        ([1.0] * 15 + [1.5] * 5, 14.0),
        ([2.0] * 3 + [0.9] * 7, 14.0),
    ],
)
def test_the_time_left_does_not_jump(measured: list[float], most: float) -> None:
    left, shown = TimeLeft(), []
    for second in range(240):
        truth = 300.0 - second
        told = left.told(truth * measured[second % len(measured)], float(second))
        assert told is not None
        if second > 60:
            shown.append(told)
    steps = [after - before for before, after in itertools.pairwise(shown)]
    assert max(steps) <= most
    assert min(steps) >= -2 - most


def test_the_time_left_finds_a_new_pace_and_starts_anew_after_a_silence() -> None:
    left = TimeLeft()
    assert left.told(100.0, 0.0) == 100.0
    for second in range(1, 61):
        told = left.told(400.0 - second, float(second))
    assert told == pytest.approx(340.0, rel=0.05)
    assert left.told(None, 61.0) is None
    assert left.told(10.0, 62.0) == 10.0
