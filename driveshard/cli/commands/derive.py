"""The ``derive`` command: dataset -> dataset."""

from __future__ import annotations

from functools import partial
from typing import Any

import click

from driveshard.cli.completion import complete_what
from driveshard.cli.flags import Grouped, common, examples, given_flags, manner, option, push_flags
from driveshard.config.options import DERIVE, OUTPUT, RUN, WHAT
from driveshard.upload.push import Task


@click.command(
    "derive",
    short_help="Make a new dataset from one, by a function over its samples.",
    epilog=examples(
        """
driveshard derive data/photos depth.py:depth --name depth --decode pil
driveshard derive https://drive.google.com/drive/folders/ID mypackage.models:Depth --batch 16 --workers 1
driveshard derive photos edges.py:edges --to file:/mnt/nas --dry-run
"""
    ),
)
@click.argument("what", shell_complete=complete_what)
@click.argument("function", metavar="MODULE:CALLABLE")
@option(
    "--batch",
    type=click.IntRange(1),
    default=64,
    metavar="N",
    cls=Grouped,
    group=WHAT,
    help="Samples that the function gets at a time (default 64).",
)
@option(
    "--decode",
    type=click.Choice(["pil", "numpy"]),
    cls=Grouped,
    group=WHAT,
    help="Give it pictures, numbers and JSON instead of bytes.",
)
@partial(push_flags, table=DERIVE)
@option(
    "--print",
    "wanted",
    type=click.Choice(["link", "folder-id", "name"]),
    cls=Grouped,
    group=OUTPUT,
    help="Print this alone on stdout, and nothing on stderr unless something is wrong.",
)
@common
def command(what: str, function: str, batch: int, decode: str | None, wanted: str | None, **arguments: Any) -> int:
    """Run a function over every sample of WHAT, and push what it returns as a new dataset: the same keys, in parts of
    the same numbers. Run it again to finish, or to add what is new.

    WHAT is a folder's link or id, the name of a dataset pushed from here, or a directory with its parts; of a link no
    part is kept here. MODULE:CALLABLE (package.module:callable or file.py:callable) gets a list of samples, each a
    dictionary with __key__ and a value for every field, and returns a list of as many dictionaries of new fields:
    bytes, text, PIL images, numpy arrays (uint16 of one channel under png is a PNG of 16 bits) or, under json, what
    JSON can hold. A class is made once in each process, and its object is called.
    """
    from driveshard.cli.pushing import run_push  # with all that a push needs

    manner.quiet = manner.quiet or wanted is not None
    flags = given_flags(arguments, DERIVE)

    def prepared() -> Task:
        from driveshard.dataset.derive import derived_source
        from driveshard.upload.push import prepare_object

        return prepare_object(derived_source(what, function, batch=batch, decode=decode), flags)

    return run_push("", flags, manner, given_flags(arguments, RUN), wanted, prepared)
