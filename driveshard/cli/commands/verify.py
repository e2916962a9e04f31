"""``driveshard verify``."""

from __future__ import annotations

from contextlib import closing

import click

from driveshard.cli.completion import complete_what
from driveshard.cli.console import Manner, put_result, tell
from driveshard.cli.error_messages import error_as_json
from driveshard.cli.flags import common, examples, manner, option
from driveshard.cli.progress.report import told
from driveshard.config.settings import Settings, settings_from
from driveshard.core.events import Doing
from driveshard.core.formatting import human_size, plural, shown
from driveshard.dataset.locate import DirectoryShelf, open_shelf
from driveshard.dataset.verify import Proof, refusal, verify


@click.command(
    "verify",
    short_help="Prove that a dataset is whole.",
    epilog=examples(
        """
driveshard verify https://drive.google.com/drive/folders/ID
driveshard verify photos --deep
driveshard verify data/photos --json
"""
    ),
)
@click.argument("what", shell_complete=complete_what)
@option("--deep", is_flag=True, help="Fetch every part and check each byte, not only what Drive says of it.")
@common
def command(what: str, deep: bool) -> int:
    """Prove that a dataset is whole: every part of its manifest once, with the right size, md5 and sha256.

    WHAT is a folder's link or id, the name of a dataset pushed from here, or a directory with its parts (of which
    every byte is always read). Exit code 76 when something is not as it should be.
    """
    return show_proof(what, settings_from(), manner, deep=deep)


def show_proof(what: str, settings: Settings, manner: Manner, *, deep: bool) -> int:
    """The proof and, on stderr, what is wrong; the exit code says which."""

    def on_part(name: str) -> None:
        talk(Doing(f"checking {name}"))
        if manner.verbose and manner.log_format == "text":
            tell(f"checking {name}")

    with told(manner, "looking at the folder") as talk, closing(open_shelf(what, settings, talk)) as shelf:
        proof = verify(shelf, deep=deep, on_part=on_part, on_read=talk.read)
        deep = deep or isinstance(shelf, DirectoryShelf)
    wrong = refusal(proof)
    for problem in proof.problems:
        tell(problem)
    if manner.as_json:
        put_result(proof.as_json() | (error_as_json(wrong) if wrong is not None else {}))
    elif wrong is None and not manner.quiet:
        put_result(_sentence(proof, deep))
    if wrong is not None:
        raise wrong
    return 0


def _sentence(proof: Proof, deep: bool) -> str:
    how = "every byte was read" if deep else "there once, with the right size and checksums"
    return f"{shown(proof.name or '')} is whole: {plural(proof.parts, 'part')}, {human_size(proof.bytes)}, {how}"
