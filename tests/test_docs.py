"""The README's commands are the ones CI runs, its exit codes are the code's, and its options exist."""

from __future__ import annotations

import dataclasses
import re
import runpy
from pathlib import Path

import pytest
from click.testing import CliRunner

from driveshard.cli.main import driveshard
from driveshard.config.source_argument import open_source
from driveshard.core import errors
from driveshard.sources.composite.source import CompositeSource

ROOT = Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")


@pytest.mark.parametrize(("name", "ends"), [("demo", "driveshard demo"), ("test", "-m pytest -n 2")])
def test_ci_runs_the_command_that_the_readme_prints(name: str, ends: str) -> None:
    command = runpy.run_path(str(ROOT / ".ci" / "readme_command.py"))["command"](name)
    assert "\n" not in command and command.endswith(ends) and command in README
    assert f"readme {name}" in (ROOT / ".ci" / "run").read_text(encoding="utf-8")


def test_the_exit_codes_are_those_of_the_errors() -> None:
    table = {int(code) for code in re.findall(r"^\| (\d+) \|", README, re.M)}
    kinds = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, Exception)]
    assert {kind.exit_code for kind in kinds if issubclass(kind, errors.DriveshardError)} <= table | {130}


def test_every_command_and_option_in_the_readme_exists() -> None:
    code = "\n".join(re.findall(r"```sh\n(.*?)```", README, re.S) + re.findall(r"`([^`\n]+)`", README))
    lines = re.findall(r"driveshard ([a-z]+)\b(?!\.)([^\n,`]*)", code)
    assert {command for command, _ in lines} >= {"demo", "login", "push", "ls", "cat", "verify", "share", "status"}
    for command in sorted({command for command, _ in lines}):
        help_text = CliRunner().invoke(driveshard, [command, "--help"])
        assert help_text.exit_code == 0, f"README names `driveshard {command}`"
        for option in re.findall(r"(--[a-z-]+)", " ".join(rest for name, rest in lines if name == command)):
            assert option in help_text.output, f"README gives `driveshard {command}` the option {option}"


def test_links_between_the_pages_lead_somewhere() -> None:
    for page in [ROOT / "README.md", *(ROOT / "docs").glob("*.md")]:
        for target in re.findall(r"\]\(([^)#:]+)\)", page.read_text(encoding="utf-8")):
            assert (page.parent / target).exists(), f"{page.name} links to {target}"


def test_the_transcript_is_what_the_demo_says() -> None:
    shown = re.search(r"<!-- transcript: demo -->\s*```text\n(.*?)```", README, re.S)
    assert shown is not None
    from driveshard.cli.demo import demo

    source = Path(demo.__file__).read_text(encoding="utf-8")
    for phrase in ("Packed and uploaded", "Verified:", "Shared with anyone who has the link", "Pulled it"):
        assert phrase in shown[1] and phrase in source


def test_the_generators_page_has_every_key_and_its_example_is_a_job(tmp_path: Path) -> None:
    page = (ROOT / "docs" / "generator.md").read_text(encoding="utf-8")
    told = {key for row in re.findall(r"^\| (`.*?) \|", page, re.M) for key in re.findall(r"`([a-z_]+)`", row)}
    fields = {field.name for field in dataclasses.fields(CompositeSource)}
    assert fields - {"min_scale", "max_scale"} | {"scale"} == told
    example = re.search(r"```toml\n(.*?)```", page, re.S)
    assert example is not None
    (tmp_path / "job.toml").write_text(example[1])
    source = open_source(str(tmp_path / "job.toml"))
    assert isinstance(source, CompositeSource) and source.mask_threshold == 127


def test_the_fault_words_of_the_help_are_those_of_the_docs() -> None:
    shown = CliRunner().invoke(driveshard, ["emulate", "--help"]).output.partition("Fault words:")[2]
    told = re.findall(r"^\| `([^`]+)` \|", (ROOT / "docs" / "faults.md").read_text(encoding="utf-8"), re.M)
    assert re.findall(r"^  (\S+) +[a-z-]+ ", shown, re.M) == told
