"""The ``preview`` command: a picture of a dataset."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import click

from driveshard.cli.completion import complete_what
from driveshard.cli.console import put, put_json
from driveshard.cli.flags import common, examples, manner, option
from driveshard.cli.progress.report import told
from driveshard.config.settings import settings_from
from driveshard.core.formatting import human_size


@click.command(
    "preview",
    short_help="Write a contact sheet of a dataset's images.",
    epilog=examples(
        """
driveshard preview photos
driveshard preview https://drive.google.com/drive/folders/ID -o sheet.png
"""
    ),
)
@click.argument("what", shell_complete=complete_what)
@option(
    "-o",
    "--output",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    help="Where to: a .jpg or a .png; one that exists is replaced (default: preview.jpg, never replaced).",
)
@common
def command(what: str, output: Path | None) -> int:
    """Write a picture of samples from all over a dataset, all images of each side by side, with their names and the
    sample's key. A few ranges of the parts are read, never a whole part.

    WHAT is a folder's link or id, the name of a dataset pushed from here, or a directory with its parts.
    """
    from driveshard.dataset.preview import preview_into

    with told(manner, "reading samples") as emit:
        made = preview_into(what, output, settings_from(), emit)
    if manner.as_json:
        put_json(asdict(made))
    else:
        read = human_size(made.fetched_bytes)
        put(f"{made.file}: {human_size(made.bytes)}, for which {read} of {made.name} were read")
    return 0
