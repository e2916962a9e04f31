"""The ``view`` command: a page on this machine to browse a dataset."""

from __future__ import annotations

import os
import signal
import threading
import warnings

import click

from driveshard.cli.commands.login import has_browser
from driveshard.cli.completion import complete_what
from driveshard.cli.console import leave, put, put_json, tell
from driveshard.cli.flags import common, examples, manner, option
from driveshard.cli.progress.report import told


@click.command(
    "view",
    short_help="Browse a dataset's samples on a page of this machine.",
    epilog=examples(
        """
driveshard view data/photos
driveshard view https://drive.google.com/drive/folders/ID
driveshard view photos --no-browser --port 8080
"""
    ),
)
@click.argument("what", shell_complete=complete_what)
@option(
    "--port",
    type=click.IntRange(0, 65535),
    default=0,
    metavar="P",
    help="Port on 127.0.0.1 (default: a free one).",
)
@option("--no-browser", is_flag=True, help="Print the address, and open no browser.")
@common
def command(what: str, port: int, no_browser: bool) -> int:
    """Serve a page on this machine on which to browse a dataset: its samples, filtered by key, with all their fields.
    The first line on stdout is the page's address. Of a shared dataset only the index and the samples that are shown
    are fetched. Ctrl-C ends it.

    WHAT is a folder's link or id, the name of a dataset pushed from here, or a directory with its parts or any zips.
    """
    from driveshard.dataset.view.samples import open_samples
    from driveshard.dataset.view.view import View, open_browser

    ended = threading.Event()
    with (
        told(manner, "reading the index, which is kept for the next time") as talk,
        warnings.catch_warnings(record=True) as warned,
    ):
        warnings.simplefilter("always", UserWarning)
        samples = open_samples(what, talk.read)
    shown = View(samples, port)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: ended.set())
    if manner.as_json:
        put_json({"name": shown.name, "url": shown.address, "samples": shown.samples})
    else:
        put(shown.address)
    if not manner.quiet:
        for warning in (one for one in warned if one.category is UserWarning):
            tell(str(warning.message))
        tell(f"{shown.name}: {shown.samples:,} samples, shown at this address until Ctrl-C")
    if not no_browser and has_browser(os.environ):
        open_browser(shown.address)
    while not ended.wait(0.5):  # in steps, for Windows hears no signal meanwhile
        pass
    shown.close()
    leave(0)  # a request that hangs is not waited for
