"""``driveshard completion``."""

from __future__ import annotations

import click

from driveshard.cli.completion import SHELLS, script
from driveshard.cli.console import put
from driveshard.cli.flags import common, examples


@click.command(
    "completion",
    short_help="Print what makes a shell complete commands, options and names.",
    epilog=examples(
        """
driveshard completion bash >> ~/.bashrc
driveshard completion zsh >> ~/.zshrc
driveshard completion fish > ~/.config/fish/completions/driveshard.fish
driveshard completion powershell >> $PROFILE
"""
    ),
)
@click.argument("shell", type=click.Choice(SHELLS))
@click.pass_context
@common
def command(ctx: click.Context, shell: str) -> int:
    """Print what makes SHELL complete driveshard's commands, its options and the names of what was pushed from here.

    SHELL is bash, zsh, fish or powershell. Let it be read at the shell's start.
    """
    assert ctx.parent is not None
    put(script(shell, ctx.parent.command))
    return 0
