"""The ``share`` command: who may read a dataset's folder."""

from __future__ import annotations

import click

from driveshard.cli.completion import complete_name
from driveshard.cli.console import Manner, put_result, tell
from driveshard.cli.flags import common, examples, manner, option
from driveshard.cli.progress.report import told
from driveshard.config.options import PUSH, WITH, read_values
from driveshard.config.settings import Settings, settings_from
from driveshard.upload.dataset_folder.permissions import readers, share
from driveshard.upload.result import readers_line


@click.command(
    "share",
    short_help="Show or set who may read a dataset, and print its link.",
    epilog=examples(
        """
driveshard share photos
driveshard share photos --with anyone
driveshard share photos --with user:ada@example.org
driveshard share photos --with nobody
"""
    ),
)
@click.argument("name", shell_complete=complete_name)
@option("--with", "who", metavar="WHO", help="anyone, domain:D, user:EMAIL or nobody.")
@option("--wait", is_flag=True, help="If a run has this dataset, wait for it.")
@common
def command(name: str, who: str | None, wait: bool) -> int:
    """Show who may read a dataset's folder and its link; with --with, set it first.

    NAME is a dataset pushed from here. `nobody` takes back what was granted before.
    """
    wanted = None if who is None else read_values({"share": who}, PUSH, WITH)["share"]
    return run_share(name, wanted, settings_from(), manner, wait=wait)


def run_share(name: str, who: str | None, settings: Settings, manner: Manner, *, wait: bool) -> int:
    """The whole command; returns its exit code. None changes nothing."""
    with told(manner, "looking who may read" if who is None else "setting who may read") as emit:
        if who is None:
            now = readers(name, settings, emit)
            folder_id, link, shared = now.folder_id, now.link, now.shared
        else:
            folder_id, link, shared = share(name, who, settings, emit, wait=wait)
    if not manner.quiet:
        tell(readers_line(name, shared, link))
    if manner.as_json:
        put_result({"name": name, "folder_id": folder_id, "link": link, "shared": shared})
    elif link and not manner.quiet:
        put_result(link)
    return 0
