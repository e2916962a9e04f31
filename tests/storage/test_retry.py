"""Which failures are tried again, after which waits, and when it ends."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator

import pytest

from driveshard.core.errors import (
    AuthError,
    Blocked,
    DailyCap,
    Defect,
    IdInUse,
    Interrupted,
    SessionGone,
    StorageFull,
    Throttled,
    Unavailable,
)
from driveshard.core.events import Waiting
from driveshard.storage.retry import Patience, Retry
from tests.fakes import FakeClock, Heard


class Script:
    """A step that fails as told and then succeeds."""

    def __init__(self, *failures: Exception | Callable[[], Exception]) -> None:
        self.left: Iterator[Exception | Callable[[], Exception]] = iter(failures)
        self.calls = 0

    def __call__(self) -> str:
        self.calls += 1
        failure = next(self.left, None)
        if failure is None:
            return "done"
        raise failure if isinstance(failure, Exception) else failure()


def unavailable(count: int) -> list[Exception]:
    return [Unavailable("503") for _ in range(count)]


def throttled(count: int, **details: object) -> list[Exception]:
    return [Throttled("slow down", **details) for _ in range(count)]


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def heard() -> Heard:
    return Heard()


@pytest.fixture
def retry(clock: FakeClock, heard: Heard) -> Retry:
    """One that has reached the destination before."""
    retry = Retry(clock, Patience(), heard, random.Random(7))
    retry.call(Script(), doing="saying hello")
    return retry


def test_waits_double_up_to_the_longest(retry: Retry, clock: FakeClock) -> None:
    assert retry.call(Script(*unavailable(9)), doing="x") == "done"

    for waited, base in zip(clock.slept, [1, 2, 4, 8, 16, 32, 64, 64, 64], strict=True):
        assert base <= waited <= base + 1


def test_after_enough_failures_in_a_row_the_last_one_is_raised(retry: Retry) -> None:
    script = Script(*unavailable(50))
    with pytest.raises(Unavailable):
        retry.call(script, doing="x")
    assert script.calls == Patience().attempts


def test_success_starts_the_count_again(retry: Retry) -> None:
    for _ in range(5):
        assert retry.call(Script(*unavailable(11)), doing="x") == "done"


def after_an_answer(count: int) -> list[Exception]:
    return [Unavailable("503", answered_before=True) for _ in range(count)]


def test_an_answer_in_between_starts_the_count_again(retry: Retry) -> None:
    failures = unavailable(11) + after_an_answer(1) + unavailable(10) + after_an_answer(1)
    assert retry.call(Script(*failures), doing="x") == "done"


def test_answers_in_between_do_not_make_it_endless(retry: Retry) -> None:
    script = Script(*throttled(10), *after_an_answer(100))
    with pytest.raises(Unavailable):
        retry.call(script, doing="x")
    assert script.calls == 10 + Patience().altogether


def test_at_first_contact_the_address_is_more_likely_wrong_than_busy(clock: FakeClock, heard: Heard) -> None:
    script = Script(*unavailable(50))
    with pytest.raises(Unavailable):
        Retry(clock, Patience(), heard).call(script, doing="x")
    assert script.calls == Patience().first_contact


def test_a_request_to_slow_down_does_not_use_up_the_attempts(retry: Retry, clock: FakeClock) -> None:
    failures = throttled(20) + unavailable(5) + throttled(3) + unavailable(5)
    assert retry.call(Script(*failures), doing="x") == "done"
    assert len(clock.slept) == 33


def test_only_a_row_of_requests_to_slow_down_is_the_daily_cap(retry: Retry, clock: FakeClock) -> None:
    failures = [*after_an_answer(44), *throttled(24), *after_an_answer(1), *throttled(24)]
    assert retry.call(Script(*failures), doing="x") == "done"
    assert sum(clock.slept[44:]) > 1800


@pytest.mark.parametrize(("perhaps_daily", "hours"), [(True, 24), (False, 1)])
def test_slowing_down_for_too_long_is_the_daily_cap(
    retry: Retry, clock: FakeClock, perhaps_daily: bool, hours: int
) -> None:
    began = clock.now()
    with pytest.raises(DailyCap) as caught:
        retry.call(Script(*throttled(1000, perhaps_daily=perhaps_daily)), doing="x")

    assert 1800 <= clock.now() - began <= 1800 + 65
    assert caught.value.resume_after == clock.now() + hours * 3600
    assert isinstance(caught.value.__cause__, Throttled)


@pytest.mark.parametrize("asked", [0.0, 1.0, 10.0])
@pytest.mark.parametrize("kind", [Unavailable, Throttled])
def test_what_the_server_asks_for_never_makes_waits_shorter(
    retry: Retry, clock: FakeClock, kind: type[Unavailable | Throttled], asked: float
) -> None:
    retry.call(Script(*[kind("x", retry_after=asked) for _ in range(7)]), doing="x")
    for waited, doubled in zip(clock.slept, [1, 2, 4, 8, 16, 32, 64], strict=True):
        assert max(asked, doubled) <= waited <= max(asked, doubled) + 1


@pytest.mark.parametrize("asked", [3.0, 900.0])
def test_a_longer_wait_that_the_server_asks_for_is_kept(retry: Retry, clock: FakeClock, asked: float) -> None:
    retry.call(Script(Throttled("x", retry_after=asked), Unavailable("y", retry_after=asked)), doing="x")
    assert all(asked <= waited <= asked + 1 for waited in clock.slept)


@pytest.mark.parametrize(
    "error",
    [
        AuthError("x"),
        StorageFull("x"),
        DailyCap("x"),
        IdInUse("x"),
        SessionGone("x"),
        Defect("x"),
        Interrupted("x"),
        KeyError("x"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_everything_else_passes_through_at_once(retry: Retry, clock: FakeClock, error: Exception) -> None:
    script = Script(error)
    with pytest.raises(type(error)) as caught:
        retry.call(script, doing="x")
    assert caught.value is error
    assert (script.calls, clock.slept) == (1, [])


def test_a_stop_ends_the_wait(retry: Retry, clock: FakeClock) -> None:
    clock.before_sleep = clock.stop.set
    script = Script(*unavailable(5))
    with pytest.raises(Interrupted):
        retry.call(script, doing="x")
    assert script.calls == 1


def test_every_wait_is_told_with_its_reason(retry: Retry, clock: FakeClock, heard: Heard) -> None:
    retry.call(Script(Unavailable("Drive answered 503"), Throttled("Drive asks")), doing="sending a.zip", number=4)

    assert [(event.why, event.seconds, event.number) for event in heard if isinstance(event, Waiting)] == [
        ("Drive answered 503 (sending a.zip)", clock.slept[0], 4),
        ("Drive asks (sending a.zip)", clock.slept[1], 4),
    ]


def test_what_one_thread_was_told_all_heed(retry: Retry, clock: FakeClock) -> None:
    seen: list[float] = []

    def told_once() -> str:
        seen.append(clock.now())
        if len(seen) == 1:
            raise Throttled("slow down", retry_after=50.0)
        return "done"

    def another() -> None:
        """Another thread's step, begun while the first one waits."""
        clock.before_sleep = lambda: None
        retry.call(lambda: seen.append(clock.now()), doing="y")

    clock.before_sleep = another
    began = clock.now()
    retry.call(told_once, doing="x")

    assert seen[0] == began
    assert all(moment >= began + 50 for moment in seen[1:])
    assert len(seen) == 3
    assert not retry.heed()


def test_once_one_thread_is_blocked_no_other_makes_a_request(retry: Retry) -> None:
    others = Script()

    def blocked() -> str:
        raise Blocked("taken for a robot", resume_after=5.0)

    with pytest.raises(Blocked):
        retry.call(blocked, doing="x")
    with pytest.raises(Blocked) as caught:
        retry.call(others, doing="y")
    with pytest.raises(Blocked):
        retry.heed()

    assert others.calls == 0
    assert caught.value.resume_after == 5.0


def test_time_lost_is_counted_by_what_was_said_last(retry: Retry, clock: FakeClock) -> None:
    retry.call(Script(*unavailable(3)), doing="x")
    assert retry.seconds_out == pytest.approx(sum(clock.slept))
    assert retry.seconds_slowed == 0
    before = sum(clock.slept)
    with pytest.raises(StorageFull):
        retry.call(Script(*unavailable(1), *throttled(2), StorageFull("full")), doing="x")
    assert retry.seconds_slowed == pytest.approx(sum(clock.slept) - before)
    assert retry.seconds_out == pytest.approx(before)
