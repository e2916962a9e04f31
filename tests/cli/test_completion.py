"""What a shell offers after <TAB>."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from driveshard.cli.completion import SHELLS

REPOSITORY = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """A home from which two datasets were pushed, into a plain directory."""
    work = tmp_path_factory.mktemp("completion")
    kept = {name: value for name, value in os.environ.items() if not name.startswith("DRIVESHARD_")}
    environment = {**kept, "PYTHONPATH": str(REPOSITORY), "DRIVESHARD_HOME": str(work / "home")}
    for name in ("photos", "phones"):
        (work / name).mkdir()
        (work / name / "a.bin").write_bytes(b"a")
        command = [sys.executable, "-m", "driveshard", "push", name, "--to", f"file:{work / 'out'}"]
        subprocess.run(command, env=environment, cwd=work, check=True, capture_output=True)
    return environment


def asked(environment: dict[str, str], shell: str, **words: str) -> list[str]:
    """The lines that a shell gets."""
    command = [sys.executable, "-m", "driveshard"]
    environment = {**environment, "_DRIVESHARD_COMPLETE": f"{shell}_complete", **words}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=30)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout.splitlines()


def test_names_options_and_values_are_completed(environment: dict[str, str]) -> None:
    def bash(line: str) -> list[str]:
        return asked(environment, "bash", COMP_WORDS=line, COMP_CWORD=str(len(line.split(" ")) - 1))

    assert bash("driveshard statu") == ["plain,status"]
    assert bash("driveshard status pho") == ["plain,phones", "plain,photos"]
    assert bash("driveshard share pho") == ["plain,phones", "plain,photos"]
    assert bash("driveshard push photos --part-s") == ["plain,--part-size", "plain,--part-samples"]
    assert bash("driveshard push ph") == ["file,ph"]
    assert bash("driveshard verify data") == ["dir,data"]
    assert bash("driveshard completion p") == ["plain,powershell"]


def test_powershell_gets_a_line_with_a_meaning(environment: dict[str, str]) -> None:
    words = {"COMP_WORDS": "driveshard status pho", "COMP_INCOMPLETE": "pho"}
    assert asked(environment, "powershell", **words) == ["phones\tcomplete", "photos\tcomplete"]
    found = asked(environment, "powershell", COMP_WORDS="driveshard ", COMP_INCOMPLETE="")
    assert "push\tPack a folder or a generator into zip parts and upload them." in found


@pytest.mark.parametrize("shell", SHELLS)
def test_every_shell_gets_its_script(environment: dict[str, str], shell: str) -> None:
    command = [sys.executable, "-m", "driveshard", "completion", shell]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=30)
    assert (done.returncode, done.stderr) == (0, "")
    assert f"{shell}_complete" in done.stdout
    assert "%(" not in done.stdout


@pytest.mark.skipif(shutil.which("bash") is None, reason="no bash here")
def test_a_real_bash_completes(environment: dict[str, str], tmp_path: Path) -> None:
    program = tmp_path / "bin" / "driveshard"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m driveshard "$@"\n')
    program.chmod(0o755)
    script = (
        'eval "$(driveshard completion bash)"; COMP_WORDS=(driveshard status pho); COMP_CWORD=2;'
        ' _driveshard_completion driveshard; echo "${COMPREPLY[@]}"'
    )
    path = f"{program.parent}{os.pathsep}{environment['PATH']}"
    done = subprocess.run(
        ["bash", "-c", script], env={**environment, "PATH": path}, capture_output=True, text=True, timeout=60
    )
    assert (done.stdout, done.stderr) == ("phones photos\n", "")
