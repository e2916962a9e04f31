"""Whether, when and how long to try again: the one retry layer, as tenacity policies. No HTTP is seen here.

An attempt that made progress ends its policy and the next step starts a fresh one, so that a long upload is not
given up because of many small hiccups: only failures in a row count.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from tenacity import RetryCallState, Retrying, retry_if_exception_type

from driveshard.core.clock import Clock
from driveshard.core.errors import Blocked, DailyCap, Throttled, Unavailable
from driveshard.core.events import Emit, Waiting

T = TypeVar("T")


@dataclass(frozen=True)
class Patience:
    """How long failures are borne, in seconds and attempts: ``attempts`` in a row, ``altogether`` of one step.

    Waits double from ``first`` up to ``longest`` with up to one second of jitter (Google's advice for Drive). A
    server's own Retry-After makes them longer, never shorter: "0" would use up all attempts at once. ``throttled``
    bounds a run of "slow down" replies: after it they are taken for the daily cap. Before anything was answered at
    all, only ``first_contact`` attempts are made: the address or the network is more likely wrong than busy.
    """

    attempts: int = 12
    altogether: int = 60
    first: float = 1.0
    longest: float = 64.0
    throttled: float = 1800.0
    first_contact: int = 5


class _Endurance:
    """How much of its patience one step has used up."""

    def __init__(self, patience: Patience) -> None:
        self._patience = patience
        self._in_a_row = self._in_all = 0
        self._slow_since: float | None = None

    def ends_with(self, error: BaseException | None, now: float, *, reached: bool) -> bool:
        """Note one more failure, at ``now`` in monotonic seconds. ``reached`` says that anything was ever answered."""
        if isinstance(error, Throttled):
            self._slow_since = now if self._slow_since is None else self._slow_since
            return now - self._slow_since >= self._patience.throttled
        assert isinstance(error, Unavailable)
        self._slow_since = None
        self._in_all += 1
        self._in_a_row = 1 if error.answered_before else self._in_a_row + 1
        most = self._patience.attempts if reached else self._patience.first_contact
        return self._in_a_row >= min(most, self._patience.attempts) or self._in_all >= self._patience.altogether


class Retry:
    """Runs a step again while its failures are of the kinds that pass."""

    def __init__(self, clock: Clock, patience: Patience, emit: Emit, rng: random.Random | None = None) -> None:
        self._clock = clock
        self._patience = patience
        self._emit = emit
        self._rng = rng or random.Random()
        self._reached = False
        self._blocked: Blocked | None = None
        self.seconds_out = self.seconds_slowed = 0.0  # of all threads: nothing to be reached; told to slow down
        self._quiet_until = 0.0  # monotonic; Drive's "slow down" is meant for the account, so every thread heeds it

    def call(self, step: Callable[[], T], *, doing: str, number: int | None = None) -> T:
        """``step()``, again after every Unavailable or Throttled until it succeeds or patience ends.

        ``doing`` names the step for the user. Raises the last failure, or DailyCap when Drive kept asking to slow
        down for too long; anything else passes through at once.
        """
        endurance = _Endurance(self._patience)
        failed: list[tuple[float, bool]] = []  # when, and whether it was told to slow down

        def stop(state: RetryCallState) -> bool:
            """Whether patience has ended with this failure."""
            error = _failure(state)
            self._reached = self._reached or isinstance(error, Throttled)
            return endurance.ends_with(error, self._clock.monotonic(), reached=self._reached)

        def before_sleep(state: RetryCallState) -> None:
            assert state.next_action is not None
            failed.append((self._clock.monotonic(), isinstance(_failure(state), Throttled)))
            if isinstance(_failure(state), Throttled):
                self._quiet_until = max(self._quiet_until, self._clock.monotonic() + state.next_action.sleep)
            self._emit(Waiting(f"{_failure(state)} ({doing})", state.next_action.sleep, number))

        def considerate() -> T:
            self.heed()
            return step()

        retrying = Retrying(
            retry=retry_if_exception_type((Unavailable, Throttled)),
            wait=self._wait,
            stop=stop,
            sleep=self._clock.sleep,
            before_sleep=before_sleep,
            reraise=True,
        )
        try:
            outcome = retrying(considerate)
            self._reached = True
            return outcome
        except Throttled as error:
            raise self._as_daily_cap(error) from error
        except Blocked as error:
            self._blocked = error
            raise
        finally:
            self._note_lost(failed)

    def _note_lost(self, failed: list[tuple[float, bool]]) -> None:
        """Count the time from the first failure of a step to its end, for whatever it failed with last."""
        if failed:
            seconds = self._clock.monotonic() - failed[0][0]
            if failed[-1][1]:
                self.seconds_slowed += seconds
            else:
                self.seconds_out += seconds

    def heed(self) -> bool:
        """Wait until the "slow down" that any thread was told has passed; True if there was one to wait for. Raises
        Blocked once any thread was told that."""
        waited = False
        while (quiet := self._quiet_until - self._clock.monotonic()) > 0:
            self._clock.sleep(quiet)
            waited = True
        if self._blocked is not None:
            raise self._blocked
        return waited

    def _wait(self, state: RetryCallState) -> float:
        error = _failure(state)
        asked = float(getattr(error, "retry_after", None) or 0.0)
        doubled = min(self._patience.first * 2.0 ** min(state.attempt_number - 1, 16), self._patience.longest)
        if asked > doubled:
            return asked + self._rng.random()
        return float(doubled + self._rng.random() * min(1.0, self._patience.first))

    def _as_daily_cap(self, error: Throttled) -> DailyCap:
        minutes = self._patience.throttled / 60
        again = self._clock.now() + (86_400.0 if error.perhaps_daily else 3_600.0)
        return DailyCap(f"Drive has refused writes for {minutes:.0f} minutes ({error})", resume_after=again)


def _failure(state: RetryCallState) -> BaseException | None:
    return state.outcome.exception() if state.outcome is not None else None
