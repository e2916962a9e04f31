"""Who may read a dataset."""

from __future__ import annotations

from contextlib import closing

from driveshard.config.settings import Settings
from driveshard.core.errors import NotFound, SourceMissing
from driveshard.core.events import Emit
from driveshard.storage.account_usage import AccountTally
from driveshard.storage.base import folder_gone
from driveshard.storage.rate_limits import DEFAULT_WRITES_PER_SECOND
from driveshard.storage.registry import open_destination
from driveshard.storage.retry import Retry
from driveshard.storage.throttle import Budget
from driveshard.upload.dataset_folder.publish import Publisher
from driveshard.upload.ledger.ledger import Ledger
from driveshard.upload.ledger.lock import hold
from driveshard.upload.ledger.reader import find_record, settings_for


def share(name: str, who: str, settings: Settings, emit: Emit, *, wait: bool = False) -> tuple[str, str | None, str]:
    """Set who may read the dataset's folder: ``anyone``, ``domain:D``, ``user:EMAIL`` or ``nobody``. Returns the
    folder's id and link, and who may read now.

    Raises SourceMissing, NotFound, Busy, ShareRefused, and the errors of the way to Drive.
    """
    record = find_record(settings, name)
    if record.folder_id is None:
        raise SourceMissing(f"{name} has no folder yet", advice="Push it first.")
    settings = settings_for(record, settings)
    destination = open_destination(record.to, settings)
    retry = Retry(settings.clock, settings.patience, emit)
    account = getattr(destination, "account", None)
    tally = AccountTally(settings.account_file, account) if account else None
    try:
        budget = Budget(settings.clock, emit, tally, writes_per_second=DEFAULT_WRITES_PER_SECOND)
        with (
            hold(record.path.with_suffix(".lock"), name, settings.clock, emit, wait=wait),
            closing(Ledger(record.path)) as ledger,
        ):
            folder_id = record.folder_id
            try:
                folder = retry.call(lambda: destination.get(folder_id), doing="looking for the dataset's folder")
            except NotFound as error:
                raise folder_gone(record.name, destination, trashed=error.trashed) from error
            shared = Publisher(destination, folder_id, ledger, budget, retry, emit).grant(who)
            return folder_id, folder.link, shared
    finally:
        getattr(destination, "close", lambda: None)()
        if tally is not None:
            tally.close()
