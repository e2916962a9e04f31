"""The ``clean`` command: what runs left on this machine, and nobody needs any more."""

from __future__ import annotations

import click

from driveshard.cli.console import Manner, confirmed, is_asked, put, put_result, tell
from driveshard.cli.flags import common, examples, manner, option
from driveshard.config.settings import Settings, settings_from
from driveshard.core.formatting import human_size
from driveshard.upload.leftovers import Leftover, find_leftovers, remove_leftovers


@click.command(
    "clean",
    short_help="Remove what runs left on this machine.",
    epilog=examples(
        """
driveshard clean
driveshard clean --yes
driveshard clean --json
"""
    ),
)
@option("--yes", is_flag=True, help="Remove it without asking.")
@common
def command(yes: bool) -> int:
    """List what runs left on this machine and nobody needs any more, and remove it when you say so.

    That is: waiting parts of datasets that are complete or forgotten, details of crashes, damaged ledgers, temp folders
    of demos that were killed. On Drive nothing is touched, and a dataset that is not complete keeps all it needs.
    Without a terminal and without --yes nothing is removed.
    """
    return run_clean(settings_from(), manner, yes=yes)


def run_clean(settings: Settings, manner: Manner, *, yes: bool) -> int:
    """The whole command; returns its exit code."""
    found = find_leftovers(settings)
    size = human_size(sum(one.size for one in found))
    if not manner.as_json and not manner.quiet:
        for one in found:
            put(f"{human_size(one.size):>10}  {one.path}  ({one.why})")
        if not found:
            put("Nothing to remove.")
    asked = bool(found) and (yes or (is_asked() and not manner.as_json))
    agreed = asked and confirmed(f"Remove all of it ({size})", yes=yes)
    gone = remove_leftovers(found, settings) if agreed else []
    if manner.as_json:
        put_result(
            {
                "found": list(map(_as_json, found)),
                "removed": list(map(_as_json, gone)),
                "bytes": sum(one.size for one in gone),
            }
        )
    elif gone and not manner.quiet:
        put(f"Removed: {human_size(sum(one.size for one in gone))}")
    elif found and not manner.quiet:
        tell("Nothing was removed." if asked else f"Nothing was removed; to free {size}: driveshard clean --yes")
    return 0


def _as_json(one: Leftover) -> dict[str, object]:
    return {"path": str(one.path), "why": one.why, "bytes": one.size}
