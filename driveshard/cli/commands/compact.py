"""The ``compact`` command: many small parts become few large ones."""

from __future__ import annotations

from functools import partial
from typing import Any

import click

from driveshard.cli.completion import complete_name
from driveshard.cli.console import Manner, leave, put_result, tell
from driveshard.cli.flags import Grouped, common, examples, given_flags, manner, option, table_flags
from driveshard.cli.progress.report import opened_report
from driveshard.cli.progress.tally import Tally
from driveshard.cli.signals import Stopper
from driveshard.config.options import COMPACT, COMPACT_SIZES, WHAT
from driveshard.core.errors import Interrupted
from driveshard.core.events import Event
from driveshard.core.formatting import human_size, plural
from driveshard.upload.compact import Compacted, Merging, prepare


@click.command(
    "compact",
    short_help="Merge a dataset's small parts into large ones.",
    epilog=examples(
        """
driveshard compact photos --dry-run
driveshard compact photos
driveshard compact photos --part-size 1GiB --below 100MiB --wait
"""
    ),
)
@click.argument("name", shell_complete=complete_name)
@option("--part-size", metavar="SIZE", cls=Grouped, group=WHAT, help=f"{COMPACT_SIZES[0].help}.")
@option("--below", metavar="SIZE", cls=Grouped, group=WHAT, help=f"{COMPACT_SIZES[1].help}.")
@partial(table_flags, table=COMPACT)
@common
def command(name: str, **arguments: Any) -> int:
    """Merge the small parts of a dataset into large ones: a folder that is pushed every hour gets many.

    NAME is a dataset pushed from here. The small parts are fetched, their newest members packed once more, sent and
    proved; then the manifest tells of the new parts, and the old ones go to the trash. Run it again to go on; a later
    push sends nothing twice, and pullers fetch the new parts alone. What is derived from it is derived anew.
    """
    return run_compact(prepare(name, given_flags(arguments, (*COMPACT_SIZES, *COMPACT))), manner)


def run_compact(merging: Merging, manner: Manner) -> int:
    """The whole command; returns its exit code."""
    tally = Tally()

    def emit(event: Event) -> None:
        tally.take(event)
        report.emit(event)

    with (
        opened_report(tally, quiet=manner.quiet, verbose=manner.verbose, log_format=manner.log_format) as report,
        Stopper(merging.settings.clock.stop, report.say) as stopper,
    ):
        try:
            result = merging.run(emit)
        except Interrupted:
            if stopper.exit_code is None:
                raise
            report.close()
            tell("driveshard: stopped. Run the same command again to go on.")
            leave(stopper.exit_code)
    if manner.as_json:
        put_result(result.as_json())
    elif not manner.quiet:
        put_result(sentence_of(result))
    return 0


def sentence_of(result: Compacted) -> str:
    """What was done, or would be."""
    now = f"it has {plural(result.parts, 'part')}, {human_size(result.bytes)}"
    if not result.merged:
        return f"{result.name}: nothing to merge; {now}"
    small = plural(result.merged, "small part")
    large = f"into {plural(result.made, 'part')}" if result.made else "into none, for nothing of them is seen"
    if result.state == "planned":
        return f"{result.name}: would merge {small} {large}; nothing was changed"
    return f"{result.name}: merged {small} {large}; now {now}"
