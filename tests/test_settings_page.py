"""docs/settings.md has every setting that exists, and none that does not."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from driveshard.cli.main import COMMANDS, driveshard
from driveshard.config.options import GROUPS, PLACES, PUSH, SETTINGS

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "settings.md"


def commands() -> Iterator[tuple[str, click.Command]]:
    for name in COMMANDS:
        found = driveshard.get_command(click.Context(driveshard), name)
        assert found is not None
        yield name, found


def escaped(text: str) -> str:
    return text.replace("|", "\\|")


def rows() -> Iterator[str]:
    """The rows of the tables, in their order."""
    for group in GROUPS:
        for option in PUSH:
            if option.group == group:
                yield f"| `--{option.name}` | `{option.variable}` | {escaped(option.help)} |"
    for option in SETTINGS:
        yield f"| `{option.name}` | `{option.variable}` | {escaped(option.help)} |"
    for variable, default, meaning in PLACES:
        yield f"| `{variable}` | {default} | {meaning} |"
    table = {option.variable for option in PUSH}
    known: dict[str, tuple[str, list[str], str]] = {}
    for name, found in commands():
        for parameter in found.params:
            if isinstance(parameter, click.Option) and isinstance(parameter.envvar, str):
                long = next(one for one in parameter.opts if one.startswith("--"))
                if parameter.envvar in table:
                    continue  # the same thing, as in `share --wait`
                known.setdefault(f"{parameter.envvar} {long}", (long, [], parameter.help or ""))[1].append(name)
    for key, (long, users, meaning) in known.items():
        where = "every command" if len(users) == len(COMMANDS) else ", ".join(f"`{user}`" for user in users)
        yield f"| `{long}` | `{key.split()[0]}` | {where} | {escaped(meaning.rstrip('.'))} |"


def test_the_page_has_every_setting() -> None:
    told = [line for line in PAGE.read_text(encoding="utf-8").splitlines() if line.startswith("| `")]
    assert told == list(rows())


def test_every_variable_that_the_code_reads_is_on_the_page() -> None:
    page = PAGE.read_text(encoding="utf-8")
    source = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "driveshard").rglob("*.py"))
    read = set(re.findall(r"""(?:environ|environment|given)(?:\.get\(|\[)["'](DRIVESHARD_\w+)""", source))
    assert {"DRIVESHARD_HOME", "DRIVESHARD_DRIVE_URL"} <= read
    assert {name for name in read if f"`{name}`" not in page} == set()


@pytest.mark.parametrize("heading", GROUPS)
def test_the_help_of_push_has_the_headings(heading: str) -> None:
    command = dict(commands())["push"]
    text = command.get_help(click.Context(command, info_name="push"))
    assert f"\n{heading}:\n" in text
    assert text.index("\nOutput:\n") < text.index("\nEverywhere:\n") < text.index("Examples:")
    assert text.count("--json") == text.count("--help") == 1
