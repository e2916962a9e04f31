"""docs/settings.md has every setting that exists, and none that does not."""

from __future__ import annotations

import re
from pathlib import Path

import click
import pytest

from driveshard.config.options import GROUPS
from tests.settings_page import PAGE, commands, page

ROOT = Path(__file__).resolve().parents[1]


def test_the_page_is_what_the_code_says() -> None:
    assert PAGE.read_text(encoding="utf-8") == page(), "python -m tests.settings_page writes it anew"


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
