"""The calculators: sizes and rates as people write them, and buckets that never give more than they should."""

from __future__ import annotations

import math
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from driveshard.core.errors import UsageError
from driveshard.core.units import parse_size
from driveshard.storage.rate_limits import DAY, Pacer, Timetable, TokenBucket, next_write, parse_bwlimit


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("0", 0),
        ("1048576", 1048576),
        ("100b", 100),
        ("512MiB", 512 * 2**20),
        ("512M", 512 * 2**20),
        ("512m", 512 * 2**20),
        ("500MB", 500 * 10**6),
        ("500 kb", 500_000),
        ("1.5G", 3 * 2**29),
        ("2TiB", 2**41),
        ("1P", 2**50),
        (" 64KiB ", 65536),
        ("2MB/s", 2 * 10**6),
        ("9" * 30, int(float("9" * 30))),
    ],
)
def test_a_size_is_read(text: str, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["", "M", "-1", "1.2.3M", "5 apples", "1e9", "0x10", "12Q", ".5M", "nan", "9" * 400])
def test_what_is_no_size_is_refused_with_advice(text: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_size(text)
    assert "512MiB" in caught.value.advice


@given(st.integers(0, 2**40), st.sampled_from(["", "b", "k", "KiB", "M", "MB", "gib", "TB"]))
def test_sizes_grow_with_their_number(number: int, unit: str) -> None:
    assert parse_size(f"{number}{unit}") <= parse_size(f"{number + 1}{unit}")


@pytest.mark.parametrize("text", ["off", "OFF", "none", "0"])
def test_no_limit(text: str) -> None:
    assert parse_bwlimit(text) is None


def test_one_rate_holds_all_day() -> None:
    limit = parse_bwlimit("2M")
    assert limit is not None
    assert {limit.rate_at(second) for second in (0, 1, 43_200, DAY - 1)} == {2 * 2**20}


@pytest.mark.parametrize(
    ("second", "rate"),
    [
        (0, None),
        (8 * 3600 - 1, None),
        (8 * 3600, 512 * 1024),
        (18 * 3600 - 0.5, 512 * 1024),
        (18 * 3600, 10 * 2**20),
        (23 * 3600 + 59, None),
        (DAY - 1, None),
    ],
)
def test_a_timetable_wraps_around_midnight(second: float, rate: float | None) -> None:
    timetable = parse_bwlimit("18:00,10M 08:00,512K 23:00,off")
    assert timetable is not None
    assert timetable.rate_at(second) == rate


@pytest.mark.parametrize("text", ["", "  ", "8:00", "25:00,1M", "08:60,1M", "08:00,fast", "08:00,1M 2M", "1M 2M", ","])
def test_what_is_no_limit_is_refused_with_advice(text: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_bwlimit(text)
    assert caught.value.advice


def test_a_single_entry_holds_before_it_too() -> None:
    assert Timetable(((3600, 5.0),)).rate_at(0) == 5.0


@given(
    st.lists(st.floats(0, 3), min_size=1, max_size=40),
    st.sampled_from([0.3, 1.0, 1.5, 2.5, 3.0, 20.0]),
)
def test_no_time_sees_more_writes_than_are_due_in_it(pauses: list[float], rate: float) -> None:
    now, places, given_out = 1e9, [], []
    for pause in pauses:
        now += pause
        place, places = next_write(places, rate, now)
        assert place >= now
        given_out.append(place)
    row = max(1, min(3, math.ceil(rate)))
    assert all(after - first >= 0.25 / rate - 1e-6 for first, after in pairwise(given_out))
    for first, after in zip(given_out, given_out[row:], strict=False):
        assert after - first >= row / rate - 1e-6


def test_few_writes_do_not_wait() -> None:
    places: list[float] = []
    for now in (5.0, 5.2, 5.4, 7.0):
        place, places = next_write(places, 2.5, now)
        assert place == now


def test_a_bucket_gives_what_is_saved_up_and_then_makes_wait() -> None:
    bucket = TokenBucket(rate=2.0, capacity=4.0)
    assert [bucket.take(1, 100.0) for _ in range(6)] == [0, 0, 0, 0, 0.5, 1.0]
    assert bucket.take(1, 101.5) == 0.0  # 1.5 s paid the debt of two and one more
    assert bucket.take(4, 10_000.0) == 0.0  # never more than the capacity is saved
    assert bucket.take(1, 10_000.0) == 0.5


def test_a_bucket_without_a_rate_never_makes_wait() -> None:
    assert TokenBucket(0.0, 0.0).take(1e12, 5.0) == 0.0


STEPS = st.lists(st.tuples(st.floats(0, 5), st.floats(0.01, 8)), min_size=1, max_size=60)


@given(rate=st.floats(0.1, 100), capacity=st.floats(0, 10), steps=STEPS)
def test_no_window_holds_more_than_rate_and_capacity_allow(
    rate: float, capacity: float, steps: list[tuple[float, float]]
) -> None:
    pacer = Pacer(TokenBucket(rate, capacity))
    now, left = 0.0, []
    for pause, amount in steps:
        now += pause
        left.append((now + pacer.wait_for(amount, now), amount))
    for first in range(len(left)):
        total = 0.0
        for moment, amount in left[first:]:
            total += amount
            largest = max(capacity, left[first][1])  # one that is larger than the bucket leaves at once
            assert total <= largest + rate * (moment - left[first][0]) + 1e-6 * (1 + total)


@pytest.mark.parametrize(
    ("text", "rate"),
    [
        ("20 Mbit/s", 2_500_000),
        ("20mbit", 2_500_000),
        ("20 Mbps", 2_500_000),
        ("16 Mb/s", 2_000_000),
        ("800 kbit/s", 100_000),
        ("2.5MB/s", 2_500_000),
        ("2 MiB/s", 2 << 20),
        ("512K", 512 << 10),
    ],
)
def test_a_rate_as_people_write_it(text: str, rate: int) -> None:
    limit = parse_bwlimit(text)
    assert limit is not None and limit.rate_at(0) == rate
    limit = parse_bwlimit(f"08:00,{text} 18:00,off")
    assert limit is not None and (limit.rate_at(9 * 3600), limit.rate_at(19 * 3600)) == (rate, None)
