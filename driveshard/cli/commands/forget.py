"""The ``forget`` command: nothing of a dataset stays on this machine."""

from __future__ import annotations

import click

from driveshard.cli.completion import complete_name
from driveshard.cli.console import Manner, confirmed, put, put_result, tell
from driveshard.cli.flags import common, examples, manner, option
from driveshard.cli.progress.report import told
from driveshard.cli.watch import forget_runs
from driveshard.config.settings import Settings, settings_from
from driveshard.core.errors import Interrupted
from driveshard.core.formatting import human_size, plural
from driveshard.upload.ledger.reader import find_record, find_records
from driveshard.upload.leftovers import forget, has_trash


@click.command(
    "forget",
    short_help="Forget a dataset: its ledger and waiting parts here.",
    epilog=examples(
        """
driveshard forget photos
driveshard forget photos --delete
driveshard forget photos --delete --yes --json
"""
    ),
)
@click.argument("name", shell_complete=complete_name)
@option("--delete", is_flag=True, help="Move its folder to Drive's trash, too; asks first.")
@option("--yes", is_flag=True, help="Do not ask.")
@common
def command(name: str, delete: bool, yes: bool) -> int:
    """Remove the ledger of a dataset and the parts that wait for their upload from this machine.

    NAME is a dataset pushed from here. What is on Drive stays as it is, unless --delete moves it to Drive's trash, from
    which it can be restored for 30 days. A later push of the same source finds the folder again.
    """
    return run_forget(name, settings_from(), manner, delete=delete, yes=yes)


def run_forget(name: str, settings: Settings, manner: Manner, *, delete: bool, yes: bool) -> int:
    """The whole command; returns its exit code."""
    record = find_record(settings, name)
    delete = delete and record.folder_id is not None
    if delete and has_trash(record):
        what = f"{record.name} ({plural(record.states['released'], 'part')}, {human_size(record.bytes)})"
        if not confirmed(f"Move {what} to Drive's trash? Everybody who has its link loses it", yes=yes):
            tell("Nothing was removed.")
            return Interrupted.exit_code
    with told(manner, "forgetting it") as emit:
        record, pieces = forget(name, settings, emit, delete=delete)
    if not any(one.name == record.name for one in find_records(settings)):  # of that name on another Drive
        forget_runs(settings.home, record.name)
    size = sum(one.size for one in pieces)
    if manner.as_json:
        removed = [{"path": str(one.path), "why": one.why, "bytes": one.size} for one in pieces]
        put_result({"name": record.name, "link": record.link, "deleted": delete, "removed": removed, "bytes": size})
    elif not manner.quiet:
        put(f"Forgot {record.name}: {human_size(size)} freed on this machine")
        if delete:
            put("Its folder is in Drive's trash, where it can be restored for 30 days")
        elif record.link:
            put(f"What is stored stays where it is: {record.link}")
    return 0
