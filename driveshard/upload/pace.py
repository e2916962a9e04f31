"""How fast a run may be, from its options: one throttle, which counts what the whole machine sends."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from driveshard.config.settings import PushOptions, Settings
from driveshard.core.events import Emit
from driveshard.storage.account_usage import AccountTally
from driveshard.storage.base import Destination
from driveshard.storage.rate_limits import parse_bwlimit
from driveshard.storage.retry import Retry
from driveshard.storage.throttle import Throttle


@contextmanager
def throttle_for(
    options: PushOptions, settings: Settings, destination: Destination, retry: Retry, emit: Emit
) -> Iterator[Throttle]:
    """The throttle of a run, for as long as it goes on."""
    account = getattr(destination, "account", None)
    tally = AccountTally(settings.account_file, account) if account else None
    bandwidth = settings.bandwidth
    bandwidth.timetable = parse_bwlimit(options.bwlimit) if options.bwlimit else None
    try:
        yield Throttle(
            settings.clock,
            emit,
            tally,
            writes_per_second=options.writes_per_second,
            bwlimit=bandwidth,
            max_transfer=options.max_transfer,
            max_duration=options.max_duration,
            heed=retry.heed,
        )
    finally:
        if tally is not None:
            tally.close()
