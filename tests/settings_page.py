"""docs/settings.md as the code has it; ``python -m tests.settings_page`` writes the page."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import click

from driveshard.cli.main import COMMANDS, driveshard
from driveshard.config.options import GROUPS, PLACES, PUSH, RUN, SETTINGS

PAGE = Path(__file__).resolve().parents[1] / "docs" / "settings.md"
_PAGE = """# Settings

Every setting of driveshard; a test compares this page with the code.

What is given in several places counts in this order, the last one most: the defaults, `config.toml`, a job file, the
environment, the command line. In `config.toml` and in a job file an option stands under its long name without the
dashes: `part-size = "256MiB"`. `driveshard --help` says where `config.toml` lies: in the home folder.

## Options of push

Also the keywords of `driveshard.push`, with `_` for `-`.

| option | environment | meaning |
|---|---|---|
{push}

## How a run of push is watched

Of the command alone; they stand in a job file and in `config.toml`, too.

| option | environment | meaning |
|---|---|---|
{run}

## Settings

These stand in `config.toml` or the environment.

| name | environment | meaning |
|---|---|---|
{settings}

## Places

These stand in the environment alone.

| variable | default | meaning |
|---|---|---|
{places}

## Options of commands

| option | environment | commands | meaning |
|---|---|---|---|
{commands}
"""


def commands() -> Iterator[tuple[str, click.Command]]:
    """Every command with its name."""
    for name in COMMANDS:
        found = driveshard.get_command(click.Context(driveshard), name)
        assert found is not None
        yield name, found


def page() -> str:
    """The whole text."""
    push = [option for group in GROUPS for option in PUSH if option.group == group]
    return _PAGE.format(
        run="\n".join(f"| `--{one.name}` | `{one.variable}` | {_escaped(one.help)} |" for one in RUN),
        push="\n".join(f"| `--{one.name}` | `{one.variable}` | {_escaped(one.help)} |" for one in push),
        settings="\n".join(f"| `{one.name}` | `{one.variable}` | {_escaped(one.help)} |" for one in SETTINGS),
        places="\n".join(f"| `{variable}` | {default} | {meaning} |" for variable, default, meaning in PLACES),
        commands="\n".join(_command_rows()),
    )


def _command_rows() -> Iterator[str]:
    table = {option.variable for option in PUSH}  # `share --wait` means what `push --wait` does
    known: dict[tuple[str, str], tuple[list[str], str]] = {}
    for name, found in commands():
        for parameter in found.params:
            if isinstance(parameter, click.Option) and isinstance(parameter.envvar, str):
                long = next(one for one in parameter.opts if one.startswith("--"))
                if parameter.envvar not in table:
                    known.setdefault((long, parameter.envvar), ([], parameter.help or ""))[0].append(name)
    for (long, variable), (users, meaning) in known.items():
        where = "every command" if len(users) == len(COMMANDS) else ", ".join(f"`{user}`" for user in users)
        yield f"| `{long}` | `{variable}` | {where} | {_escaped(meaning.rstrip('.'))} |"


def _escaped(text: str) -> str:
    return text.replace("|", "\\|")


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
