"""``driveshard pull``."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import click

from driveshard.cli.console import Manner, leave, put_result, tell
from driveshard.cli.flags import AnyPath, common, examples, manner, option
from driveshard.cli.progress.report import opened_report
from driveshard.cli.progress.tally import Tally
from driveshard.cli.signals import Stopper
from driveshard.config.settings import Settings, settings_from
from driveshard.core.errors import Interrupted
from driveshard.core.events import Event
from driveshard.core.formatting import human_size, plural, shown
from driveshard.dataset.pull import PullResult, pull_into
from driveshard.dataset.selection import Selection, parse_parts


@click.command(
    "pull",
    short_help="Fetch a shared dataset, each part proved; no login needed.",
    epilog=examples(
        """
driveshard pull https://drive.google.com/drive/folders/ID data/photos
driveshard pull LINK data/photos --parts 0-3
driveshard pull LINK data/photos --only 'cats/**'
driveshard pull file:/mnt/nas/photos data/photos
"""
    ),
)
@click.argument("link")
@click.argument("directory", metavar="DIR", type=AnyPath())
@option("--parts", metavar="N-M", help="Only the parts with these numbers, such as 0-3 or 0,2,5-7.")
@option(
    "--only",
    metavar="GLOB",
    multiple=True,
    help="Only the parts that hold a member whose path matches, such as 'cats/**' (may be repeated).",
)
@option("--api-key", metavar="KEY", help="Read with this key of a Google Cloud project instead of a login.")
@common
def command(link: str, directory: Path, parts: str | None, only: tuple[str, ...], api_key: str | None) -> int:
    """Fetch a dataset to DIR, each part proved by size, md5 and sha256; run it again to go on, or to mend it.

    LINK is the link or id of a shared folder, the name of a dataset pushed from here, or file:DIR for a directory on
    another disk. It is read with the API key if one is given, else with a login that sees the folder, else without
    any. A folder that driveshard did not make is fetched, too, with what proof there is.
    """
    settings = settings_from()
    if api_key:
        settings = replace(settings, api_key=api_key)
    selection = Selection(None if parts is None else parse_parts(parts), only)
    return run_pull(link, directory, selection, settings, manner)


def run_pull(link: str, directory: Path, selection: Selection, settings: Settings, manner: Manner) -> int:
    """The whole command; returns its exit code."""
    tally = Tally()

    def emit(event: Event) -> None:
        tally.take(event)
        report.emit(event)

    with (
        opened_report(tally, quiet=manner.quiet, verbose=manner.verbose, log_format=manner.log_format) as report,
        Stopper(settings.clock.stop, report.say) as stopper,
    ):
        try:
            result = pull_into(link, directory, selection, settings, emit)
        except Interrupted:
            if stopper.exit_code is None:
                raise
            report.close()
            tell("driveshard: stopped. Run the same command again to go on.")
            leave(stopper.exit_code)
    if manner.as_json:
        put_result(result.as_json())
    elif not manner.quiet:
        put_result(_sentence(result))
    return 0


def _sentence(result: PullResult) -> str:
    what = f"{shown(result.name)}: {plural(result.parts, 'file')}, {human_size(result.bytes)} in {result.directory}"
    proof = "each proved by its checksums" if result.verified else "not all of them could be proved by checksums"
    new = f"{human_size(result.fetched_bytes)} fetched" if result.fetched_bytes else "nothing had to be fetched"
    return f"{what}, {proof}; {new}"
