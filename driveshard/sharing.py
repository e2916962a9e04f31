"""The ``share`` command: who may read a dataset's folder."""

from __future__ import annotations

from contextlib import closing

from driveshard.account import AccountTally
from driveshard.budget import Budget
from driveshard.config import Settings
from driveshard.console import Manner, put_result
from driveshard.destination import folder_gone, open_destination
from driveshard.errors import NotFound, SourceMissing
from driveshard.events import Emit
from driveshard.ledger import Ledger
from driveshard.lock import hold
from driveshard.pacing import DEFAULT_WRITES_PER_SECOND
from driveshard.records import find_record, settings_for
from driveshard.retry import Retry
from driveshard.share import Publisher
from driveshard.viewing import told


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


def run_share(name: str, who: str, settings: Settings, manner: Manner, *, wait: bool) -> int:
    """The whole command; returns its exit code."""
    with told(manner) as emit:
        folder_id, link, shared = share(name, who, settings, emit, wait=wait)
    if manner.as_json:
        put_result({"name": name, "folder_id": folder_id, "link": link, "shared": shared})
    elif link:
        put_result(link)
    return 0
