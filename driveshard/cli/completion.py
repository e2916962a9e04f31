"""What a shell offers after <TAB>: commands and options by click, and the names of what was pushed from here."""

from __future__ import annotations

import os
import shlex
from typing import ClassVar

import click
from click.shell_completion import (
    BashComplete,
    CompletionItem,
    ShellComplete,
    add_completion_class,
    get_completion_class,
    shell_complete,
)

PROGRAM = "driveshard"
COMPLETE = "_DRIVESHARD_COMPLETE"
SHELLS = ("bash", "zsh", "fish", "powershell")
_POWERSHELL = """\
Register-ArgumentCompleter -Native -CommandName %(prog_name)s -ScriptBlock {
    param($word, $line, $cursor)
    $env:%(complete_var)s = "powershell_complete"
    $env:COMP_WORDS = $line.ToString()
    $env:COMP_INCOMPLETE = $word
    try {
        %(prog_name)s | ForEach-Object {
            $value, $about = $_ -split "`t", 2
            if (-not $about) { $about = $value }
            [System.Management.Automation.CompletionResult]::new($value, $value, "ParameterValue", $about)
        }
    } finally {
        Remove-Item Env:%(complete_var)s, Env:COMP_WORDS, Env:COMP_INCOMPLETE
    }
}
"""


class _PowerShell(ShellComplete):
    """One candidate a line, with what it means after a tab."""

    name: ClassVar[str] = "powershell"
    source_template: ClassVar[str] = _POWERSHELL

    def get_completion_args(self) -> tuple[list[str], str]:
        line = os.environ.get("COMP_WORDS", "")
        try:
            words = shlex.split(line, posix=False)[1:]
        except ValueError:  # a quote that is still open
            words = line.split()[1:]
        incomplete = os.environ.get("COMP_INCOMPLETE", "")
        return words[:-1] if incomplete and words else words, incomplete

    def format_completion(self, item: CompletionItem) -> str:
        return f"{item.value}\t{item.help}" if item.help else str(item.value)


class _Bash(BashComplete):
    """Without click's look at bash's own version, for which it would start one."""

    @staticmethod
    def _check_version() -> None:
        """Every bash of the last fifteen years will do."""


add_completion_class(_PowerShell)
add_completion_class(_Bash)


def script(shell: str, command: click.Command) -> str:
    """What the shell is to read at its start."""
    kind = get_completion_class(shell)
    assert kind is not None
    return kind(command, {}, PROGRAM, COMPLETE).source()


def complete(command: click.Command, instruction: str) -> int:
    """Answer a shell that asks; the exit code. It must never see a traceback in its line."""
    try:
        return shell_complete(command, {}, PROGRAM, COMPLETE, instruction)
    except Exception:  # a home that cannot be read, for instance: then there is nothing to offer
        return 1


def complete_name(ctx: click.Context, parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """The datasets that were pushed from here."""
    from driveshard.config.settings import settings_from
    from driveshard.upload.ledger.reader import find_records

    names = {record.name: record.state for record in find_records(settings_from())}
    return [CompletionItem(name, help=state) for name, state in sorted(names.items()) if name.startswith(incomplete)]


def complete_what(ctx: click.Context, parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """The datasets that were pushed from here, else directories."""
    return complete_name(ctx, parameter, incomplete) or [CompletionItem(incomplete, type="dir")]


def complete_source(ctx: click.Context, parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """A directory or a file: the shell knows them."""
    return [CompletionItem(incomplete, type="file")]
