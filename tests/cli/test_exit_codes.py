"""How a command ends is the command's to say, whoever reads its output or closes its terminal."""

from __future__ import annotations

import json
import os
import pty
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from driveshard.emulator import Emulator
from tests.cli.test_main import QUICK, SLOW, Shell, wait_for

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="pipes, devices and signals of POSIX")


@pytest.fixture
def shell(tmp_path: Path, emulator: Emulator) -> Shell:
    return Shell(tmp_path, emulator.url)


def ended(shell: Shell, reader: str, *arguments: str, **variables: str) -> tuple[int, str]:
    """Exit code and stderr of a command whose stdout nobody takes."""
    shell.environment |= variables
    if reader == "full":
        with Path("/dev/full").open("wb") as full, shell.start(*arguments, stdout=full) as process:
            _, err = process.communicate(timeout=60)
    elif reader == "closed":
        line = 'exec "$@" >&-'
        command = ["sh", "-c", line, "sh", sys.executable, "-m", "driveshard", *arguments]
        done = subprocess.run(command, env=shell.environment, cwd=shell.work, stderr=subprocess.PIPE, timeout=60)
        return done.returncode, done.stderr.decode()
    else:
        reading, writing = os.pipe()
        os.close(reading)
        with shell.start(*arguments, stdout=writing) as process:
            os.close(writing)
            _, err = process.communicate(timeout=60)
    return process.returncode, err.decode()


READERS = ["gone", "full", "closed"]


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("as_json", [(), ("--json",)])
def test_a_push_ends_as_it_went(shell: Shell, emulator: Emulator, reader: str, as_json: tuple[str, ...]) -> None:
    code, err = ended(shell, reader, "push", "photos", *QUICK, *as_json)
    assert (code, "Traceback" in err) == (0, False)
    assert ("the output cannot be written" in err) is (reader == "full")
    (shell.source / "bad.bin").write_bytes(b"x" * 9000)
    fault, code = ("403-storageFull*", 79) if as_json else ("403-projectCap:initiation", 75)
    emulator.set_faults(fault)
    assert ended(shell, reader, "push", "photos", *QUICK, *as_json)[0] == code


@pytest.mark.parametrize("reader", READERS)
def test_what_is_not_whole_is_said_though_nobody_reads(shell: Shell, reader: str) -> None:
    shell.run("push", "photos", *QUICK, "--to", f"file:{shell.work}/nas")
    part = next((shell.work / "nas" / "photos").glob("*.zip"))
    assert ended(shell, reader, "verify", "nas/photos")[0] == 0
    part.write_bytes(part.read_bytes()[:-1] + b"x")
    for more in ((), ("--json",)):
        assert ended(shell, reader, "verify", "nas/photos", *more)[0] == 76


@pytest.mark.parametrize("reader", READERS)
def test_files_that_could_not_be_read_are_said_though_nobody_reads(shell: Shell, reader: str) -> None:
    (shell.work / "make.py").write_text(
        "class Some:\n"
        "    def __len__(self): return 3\n"
        "    def __getitem__(self, number):\n"
        "        from driveshard import Sample\n"
        "        if number == 1: raise ValueError('no')\n"
        "        return Sample(f'k{number}', {'txt': 'x'})\n"
    )
    assert ended(shell, reader, "push", "make.py:Some", "--to", f"file:{shell.work}/nas", "--json")[0] == 65


@pytest.mark.parametrize("words", [("--help",), ("push", "--help"), ("--version",)])
@pytest.mark.parametrize("reader", ["gone", "full"])
def test_help_for_nobody_is_no_bug(shell: Shell, reader: str, words: tuple[str, ...]) -> None:
    code, err = ended(shell, reader, *words)
    assert code == (0 if reader == "gone" else 73)
    assert "a bug in" not in err
    assert "Traceback" not in err


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no such device")
def test_a_full_stderr_changes_nothing(shell: Shell) -> None:
    with Path("/dev/full").open("wb") as full, shell.start("push", "photos", *QUICK, "--json", stderr=full) as process:
        out, _ = process.communicate(timeout=60)
    assert process.returncode == 0
    assert json.loads(out)["state"] == "complete"
    with Path("/dev/full").open("wb") as full, shell.start("push", "nothing", stderr=full) as process:
        process.communicate(timeout=60)
    assert process.returncode == 66


# -- sharing ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("quiet", [(), ("-q",)])
def test_a_refused_share_is_said_once_also_quietly(shell: Shell, emulator: Emulator, quiet: tuple[str, ...]) -> None:
    emulator.set_faults("publish-refused*")
    out, err = shell.run("push", "photos", *QUICK, "--share", "anyone", "--json", *quiet)
    found = json.loads(out)
    assert (found["state"], found["shared"]) == ("complete", None)
    assert err.count("Not shared: ") == 1
    _, err = shell.run("push", "photos", *QUICK, "--share", "anyone", "--log-format", "json", *quiet)
    told = [json.loads(line) for line in err.splitlines()]
    assert [one["exit_code"] for one in told if one["event"] == "NotShared"] == [79]
    assert shell.json("status")["datasets"][0]["shared"] == "nobody"


# -- a terminal that is closed ---------------------------------------------------------------------------------------


@pytest.fixture
def slow(tmp_path: Path) -> Iterator[Shell]:
    """A shell at a Drive that takes a while, with more to send."""
    with Emulator(tmp_path / "slow", bandwidth=1 << 20) as emulator:
        shell = Shell(tmp_path, emulator.url)
        for number in range(8):
            (shell.source / f"large{number}.bin").write_bytes(os.urandom(1 << 20))
        yield shell


def sending(shell: Shell, **options: Any) -> subprocess.Popen[bytes]:
    process = shell.start("push", "photos", *SLOW, "--json", start_new_session=True, **options)
    wait_for(process, "BytesSent")
    return process


@pytest.mark.parametrize("everybody", [False, True])
def test_a_hangup_ends_a_run_with_a_word(slow: Shell, everybody: bool) -> None:
    """It comes to the command alone, or to its workers as well."""
    process = sending(slow)
    began = time.monotonic()
    (os.killpg if everybody else os.kill)(process.pid, signal.SIGHUP)
    out, err = process.communicate(timeout=10)
    assert time.monotonic() - began < 5.0
    assert process.returncode == 129, err
    assert json.loads(out)["state"] == "incomplete"
    told = [json.loads(line) for line in err.splitlines()]
    assert any("stopping" in one.get("text", "") for one in told)
    assert [one["exit_code"] for one in told if one["event"] == "Failed"] == [130]
    assert b"Traceback" not in err


def test_nohup_is_heeded(slow: Shell) -> None:
    process = sending(slow, preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_IGN))
    process.send_signal(signal.SIGHUP)
    assert process.stderr is not None
    wait_for(process, "BytesSent")
    time.sleep(0.2)
    assert process.poll() is None
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=10)
    assert process.returncode == 143


def test_a_terminal_that_is_closed(slow: Shell) -> None:
    outside, inside = pty.openpty()
    process = slow.start(
        "push", "photos", *SLOW[:-2], stdin=inside, stdout=inside, stderr=inside, start_new_session=True
    )
    os.close(inside)
    seen = b""
    while b"Uploading" not in seen:
        seen += os.read(outside, 65536)
    os.close(outside)
    process.send_signal(signal.SIGHUP)
    assert process.wait(10) == 129


# -- surroundings ----------------------------------------------------------------------------------------------------


@pytest.mark.skipif(os.name == "nt" or os.geteuid() != 0, reason="only root can be somebody without a home")
@pytest.mark.parametrize("arguments", [("status",), ("push", "photos"), ("push", "photos", "--json"), ("login",)])
def test_nobodys_home_is_a_matter_of_configuration(arguments: tuple[str, ...], tmp_path: Path) -> None:
    code = (
        "import os, pprint, sys; import driveshard.storage.drive.login;"
        "from driveshard.cli import main as cli, pushing;"
        "from driveshard.cli.commands import login, push, status;"
        "os.setgroups([]); os.setgid(54321); os.setuid(54321); sys.exit(cli.main(sys.argv[1:]))"
    )
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("DRIVESHARD_", "HOME", "XDG_"))}
    kept["PYTHONPATH"] = str(Path(__file__).resolve().parents[2])
    done = subprocess.run([sys.executable, "-c", code, *arguments], env=kept, capture_output=True, cwd="/", timeout=60)
    assert done.returncode == 78, done.stderr
    assert b"DRIVESHARD_HOME" in done.stderr
    assert b"Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (("push", "~nosuchuser/x"), 66),
        (("push", "a" * 300), 66),
        (("ls", "b" * 300 + ".x"), 66),
        (("verify", "/" + "c" * 5000), 66),
        (("push", "photos", "--name", os.fsdecode(b"caf\xe9")), 64),
        (("push", "photos", "--name", "CON"), 64),
        (("push", "photos", "--name", "lpt1.x"), 64),
        (("push", "photos", "--name", "x."), 64),
        (("status", os.fsdecode(b"\xe9")), 66),
        (("share", os.fsdecode(b"\xe9"), "--with", "anyone"), 66),
        (("push", "photos", "--to", os.fsdecode(b"file:n\xe9s")), 0),
        (("push", "photos", "--to", "file:nas", "--temp", os.fsdecode(b"t\xe9")), 0),
    ],
)
def test_odd_words_are_no_bugs(shell: Shell, arguments: tuple[str, ...], code: int) -> None:
    process = shell.start(*arguments)
    _, err = process.communicate(timeout=60)
    assert process.returncode == code, err
    assert b"a bug in" not in err
