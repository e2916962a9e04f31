"""The ``share`` command: who may read a dataset's folder."""

from __future__ import annotations

import click

from driveshard.cli.completion import complete_name
from driveshard.cli.console import Manner, put_result
from driveshard.cli.flags import common, examples, manner, option
from driveshard.cli.progress.report import told
from driveshard.config.options import PUSH, WITH, read_values
from driveshard.config.settings import Settings, settings_from
from driveshard.upload.dataset_folder.permissions import share


@click.command(
    "share",
    short_help="Set who may read a dataset, and print its link.",
    epilog=examples(
        """
driveshard share photos --with anyone
driveshard share photos --with user:ada@example.org
driveshard share photos --with nobody
"""
    ),
)
@click.argument("name", shell_complete=complete_name)
@option("--with", "who", metavar="WHO", required=True, help="anyone, domain:D, user:EMAIL or nobody.")
@option("--wait", is_flag=True, help="If a run has this dataset, wait for it.")
@common
def command(name: str, who: str, wait: bool) -> int:
    """Set who may read a dataset's folder, and print its link.

    NAME is a dataset pushed from here. `nobody` takes back what was granted before.
    """
    return run_share(name, read_values({"share": who}, PUSH, WITH)["share"], settings_from(), manner, wait=wait)


def run_share(name: str, who: str, settings: Settings, manner: Manner, *, wait: bool) -> int:
    """The whole command; returns its exit code."""
    with told(manner, "setting who may read") as emit:
        folder_id, link, shared = share(name, who, settings, emit, wait=wait)
    if manner.as_json:
        put_result({"name": name, "folder_id": folder_id, "link": link, "shared": shared})
    elif link and not manner.quiet:
        put_result(link)
    return 0
