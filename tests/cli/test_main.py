"""The commands as a user meets them: real processes, a real terminal, an emulated Drive."""

from __future__ import annotations

import base64
import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import time
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import click
import pytest

from driveshard.cli.main import COMMANDS as LISTED
from driveshard.cli.main import driveshard, main
from driveshard.emulator import Emulator

REPOSITORY = Path(__file__).resolve().parents[2]
COMMANDS = tuple(LISTED)
FILES = {f"d{number // 10}/{number:03d}.bin": os.urandom(200 + number) for number in range(60)}
TIMED = r"^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d "
QUICK = ("--part-size", "4096", "--writes-per-second", "1000")


class Shell:
    """Runs commands with a home and a Drive of their own."""

    def __init__(self, work: Path, url: str) -> None:
        self.work = work
        self.source = work / "photos"
        for path, content in FILES.items():
            (self.source / path).parent.mkdir(parents=True, exist_ok=True)
            (self.source / path).write_bytes(content)
        kept = {name: value for name, value in os.environ.items() if not name.startswith("DRIVESHARD_")}
        self.environment = {
            **kept,
            "PYTHONPATH": str(REPOSITORY),
            "DRIVESHARD_HOME": str(work / "home"),
            "DRIVESHARD_DRIVE_URL": url,
            "DRIVESHARD_RETRIES": "3",
        }

    def start(self, *arguments: str, **options: Any) -> subprocess.Popen[bytes]:
        options = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **options}
        command = [sys.executable, "-m", "driveshard", *arguments]
        return subprocess.Popen(command, env=self.environment, cwd=self.work, **options)

    def run(self, *arguments: str, code: int = 0, **variables: str) -> tuple[str, str]:
        """Stdout and stderr of a command that ends with ``code``."""
        before = self.environment
        self.environment = {**before, **variables}
        try:
            with self.start(*arguments) as process:
                try:
                    out, err = process.communicate(timeout=60)
                except subprocess.TimeoutExpired:
                    process.kill()
                    raise
        finally:
            self.environment = before
        assert process.returncode == code, err.decode()
        assert b"Traceback" not in err
        return out.decode("utf-8", "surrogateescape"), err.decode()

    def json(self, *arguments: str, code: int = 0) -> dict[str, Any]:
        """The one line that a command with --json has on stdout."""
        out, _ = self.run(*arguments, "--json", code=code)
        assert out.count("\n") == 1
        document = json.loads(out)
        assert isinstance(document, dict)
        return document


@pytest.fixture
def shell(tmp_path: Path, emulator: Emulator) -> Shell:
    return Shell(tmp_path, emulator.url)


@pytest.fixture(scope="module")
def pushed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shell]:
    """A shell whose photos are on the Drive."""
    work = tmp_path_factory.mktemp("pushed")
    with Emulator(work / "drive") as emulator:
        shell = Shell(work, emulator.url)
        shell.run("push", "photos", *QUICK, "--share", "anyone")
        yield shell


def command_of(name: str) -> click.Command:
    """The command of that name, loaded."""
    found = driveshard.get_command(click.Context(driveshard), name)
    assert found is not None
    return found


# -- help ------------------------------------------------------------------------------------------------------------


def test_help_is_quick_and_names_every_command() -> None:
    command = [sys.executable, "-X", "importtime", "-m", "driveshard", "--help"]
    done = subprocess.run(command, env={**os.environ, "PYTHONPATH": str(REPOSITORY)}, capture_output=True, text=True)
    assert done.returncode == 0
    listed = re.findall(r"^  (\w+)  ", done.stdout.partition("Commands:")[2], re.MULTILINE)
    assert listed == list(COMMANDS)
    imported = set(re.findall(r"\| +([\w.]+)$", done.stderr, re.MULTILINE))
    heavy = {"googleapiclient", "google", "numpy", "PIL", "rich", "tenacity", "sqlite3", "driveshard.config.settings"}
    assert "click" in imported
    assert not heavy & imported


def test_it_ends_without_a_look_through_all_that_was_imported() -> None:
    """Which takes as long as a third of all imports, at the end of every command."""
    code = "import atexit, gc; atexit.register(lambda: print(gc.get_freeze_count())); import driveshard.cli.main"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert int(done.stdout) > 1000


@pytest.mark.parametrize("command", COMMANDS)
def test_help_of_every_command_is_complete(command: str) -> None:
    found = command_of(command)
    assert found.help
    assert found.epilog
    assert f"driveshard {command}" in found.epilog
    assert found.get_short_help_str(60).endswith(".")
    names = [name for parameter in found.params for name in parameter.opts]
    assert {"--json", "--log-format", "-q", "-v", "--version"} <= set(names)
    unexplained = [one.name for one in found.params if one.param_type_name == "option" and not one.help]  # type: ignore[attr-defined]
    assert not unexplained


def test_push_has_every_option_of_the_interface() -> None:
    names = {name for parameter in command_of("push").params for name in parameter.opts}
    promised = (
        "--to --name --part-size --part-samples --temp --temp-limit --workers --uploads --share --include --exclude"
        " --bwlimit --max-transfer --writes-per-second --engine --dry-run --wait"
    )
    assert set(promised.split()) <= names


def test_version_and_no_command(shell: Shell) -> None:
    assert shell.run("--version")[0] == shell.run("ls", "--version")[0]
    out, err = shell.run(code=64)
    assert (out, "Commands:" in err) == ("", True)


# -- push ------------------------------------------------------------------------------------------------------------


def test_what_googles_libraries_think_of_this_python_is_not_told(capsys: pytest.CaptureFixture[str]) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert main(["--version"]) == 0
        old = "google.api_core._python_version_support"
        warnings.warn_explicit("a non-supported Python version", FutureWarning, "x.py", 1, module=old)
    assert "Python" not in capsys.readouterr().err


def test_push_prints_the_link_and_nothing_else_on_stdout(shell: Shell, emulator: Emulator) -> None:
    out, err = shell.run("push", "photos", *QUICK, "--share", "anyone")
    assert re.search(rf"{TIMED}who can read: anyone who has the link$", err, re.MULTILINE)
    assert re.fullmatch(rf"{re.escape(emulator.url)}/drive/folders/\S+\n", out)
    assert "photos is complete: 60 samples in " in err
    assert re.search(rf"{TIMED}sent .* in .*/s\)$", err, re.MULTILINE)
    assert all(re.match(TIMED, line) for line in err.splitlines())
    assert out.strip() not in err  # a log of both has it once
    assert "\x1b" not in err
    err = shell.run("push", "photos", *QUICK, "--share", "nobody")[1]
    assert re.search(rf"{TIMED}private; to share: driveshard share photos --with anyone$", err, re.MULTILINE)


def test_a_quiet_push_prints_what_was_asked_for_alone(shell: Shell) -> None:
    assert shell.run("push", "photos", *QUICK, "-q") == ("", "")
    link = shell.run("push", "photos", "--print", "link")
    assert (link[0].startswith("http"), link[1]) == (True, "")
    assert shell.run("push", "photos", "--print", "name") == ("photos\n", "")
    assert shell.run("share", "photos", "--with", "anyone", "-q") == ("", "")


def test_push_json_is_one_object_with_the_promised_fields(shell: Shell) -> None:
    first = shell.json("push", "photos", *QUICK)
    assert list(first) == [
        *("name", "state", "folder_id", "link", "parts", "samples", "files", "bytes", "sent_bytes", "requests"),
        *("seconds", "failed", "resume_after", "shared", "names", "gone", "changed", "dropped", "ignored"),
    ]
    assert (first["name"], first["state"], first["samples"], first["files"]) == ("photos", "complete", 60, 60)
    assert first["sent_bytes"] == first["bytes"] > sum(map(len, FILES.values()))
    again = shell.json("push", "photos", *QUICK)
    assert (again["sent_bytes"], again["parts"], again["bytes"]) == (0, first["parts"], first["bytes"])
    (shell.source / "new.bin").write_bytes(b"new")
    more = shell.json("push", "photos", *QUICK)
    assert (more["files"], more["parts"], more["sent_bytes"] < 400) == (61, first["parts"] + 1, True)


def test_a_job_file_and_the_environment(shell: Shell) -> None:
    (shell.work / "job.toml").write_text(
        'name = "from-job"\npart-size = 4096\nwrites-per-second = 1000\n[source]\nkind = "folder"\npath = "photos"\n'
        'include = "d0/**"\n'
    )
    assert shell.json("push", "job.toml")["files"] == 10
    _, err = shell.run("push", "photos", *QUICK, DRIVESHARD_NAME="from-env", DRIVESHARD_EXCLUDE="d0 d1")
    assert "from-env is complete: 40 samples" in err


def test_a_dry_run_sends_nothing(shell: Shell, emulator: Emulator) -> None:
    found = shell.json("push", "photos", "--dry-run", *QUICK)
    assert (found["state"], found["files"], found["sent_bytes"], found["link"]) == ("planned", 60, 0, None)
    assert found["parts"] > 2
    assert emulator.log() == []
    shell.run("push", "photos", *QUICK)
    seen = len(emulator.log())
    (shell.source / "new.bin").write_bytes(b"new")
    out, err = shell.run("push", "photos", "--dry-run", *QUICK)
    assert (out, "would pack 1 sample into 1 new part" in err) == ("", True)
    assert shell.json("push", "photos", "--dry-run", *QUICK)["files"] == 1
    assert len(emulator.log()) == seen


def test_samples_that_fail_are_listed_and_the_rest_goes_up(shell: Shell) -> None:
    (shell.work / "make.py").write_text(
        "import driveshard\n"
        "class Samples:\n"
        "    def __len__(self): return 60\n"
        "    def __getitem__(self, n):\n"
        "        if n % 2: raise OSError(f'no {n}')\n"
        "        return driveshard.Sample(f'k{n:02d}', {'txt': str(n)})\n"
        "def make(): return Samples()\n"
    )
    out, err = shell.run("push", "make.py:make", *QUICK, code=65)
    assert out.startswith("http://")
    assert "30 files could not be read; everything else is up:" in err
    assert "  sample 1: OSError: no 1" in err
    assert "  and 10 more" in err
    assert len(re.findall(rf"{TIMED}  sample ", err, re.MULTILINE)) == 20
    assert "make is complete: 30 samples" in err


def test_events_as_json_lines(shell: Shell) -> None:
    _, err = shell.run("push", "photos", *QUICK, "--log-format", "json", "-v")
    events = [json.loads(line) for line in err.splitlines()]
    kinds = [event["event"] for event in events]
    assert {"Started", "PartPacked", "UploadStarted", "BytesSent", "PartReleased", "Published", "Said"} <= set(kinds)
    assert kinds[-1] == "Ended"
    assert (events[-1]["exit_code"], events[-1]["state"]) == (0, "complete")
    _, err = shell.run("push", "nothing", "--log-format", "json", code=66)
    failed, ended = map(json.loads, err.splitlines())
    assert (failed["event"], failed["error"], failed["exit_code"]) == ("Failed", "SourceMissing", 66)
    assert ended["exit_code"] == 66


def test_requests_are_shown_without_secrets(shell: Shell) -> None:
    _, err = shell.run("push", "photos", *QUICK, "-v")
    assert re.search(r"PUT /upload/drive/v3/files -> 200", err)
    assert "upload_id" not in err
    assert "Bearer" not in err
    _, err = shell.run("ls", "photos", "-v")
    assert re.search(r"^GET /drive/v3/files/\S+ -> 206$", err, re.MULTILINE)


# -- what is wrong ---------------------------------------------------------------------------------------------------

WRONG: Mapping[str, tuple[tuple[str, ...], Mapping[str, str], int, str]] = {
    "no such command": (("pusch",), {}, 64, "no such command 'pusch'"),
    "no such flag": (("push", "photos", "--part-sise", "1"), {}, 64, "See `driveshard push --help`."),
    "no argument": (("push",), {}, 64, "missing argument 'SOURCE'"),
    "a bad value": (("push", "photos", "--part-size", "big"), {}, 64, "--part-size: 'big' is not a size."),
    "a bad destination": (("push", "photos", "--to", "ftp:x"), {}, 64, "--to: 'ftp:x' is not a destination."),
    "a bad name": (("push", "photos", "--name", "a/b"), {}, 64, "'a/b' cannot be a dataset's name."),
    "globs for code": (("push", "make.py:make", "--include", "x"), {}, 64, "is no folder"),
    "a bad variable": (("push", "photos"), {"DRIVESHARD_UPLOADS": "x"}, 78, "DRIVESHARD_UPLOADS: 'x' is not"),
    "a bad variable of all": (("status",), {"DRIVESHARD_LOG_FORMAT": "x"}, 78, "DRIVESHARD_LOG_FORMAT: "),
    "a bad job file": (("push", "bad.toml"), {}, 78, "bad.toml: uploadz is not an option."),
    "a source that is an empty word": (("push", ""), {}, 64, "the source is empty.\nName a folder"),
    "no source": (("push", "photo"), {}, 66, "there is no folder photo.\nDid you mean photos?"),
    "an empty source": (("push", "empty"), {}, 66, "empty has no files to push."),
    "a file": (("push", "note.txt"), {}, 66, "note.txt is a file, not a folder."),
    "not a job file": (("push", "other.toml"), {}, 66, "other.toml is not a job file"),
    "no dataset": (("ls", "nothing"), {}, 66, "there is no dataset, directory or Drive folder nothing."),
    "no dataset to share": (("share", "nothing", "--with", "anyone"), {}, 66, "there is no dataset nothing"),
    "nobody to share with": (("share", "photos", "--with", "all"), {}, 64, "--with: 'all' is not anyone"),
    "no status": (("status", "nothing"), {}, 66, "there is no dataset nothing"),
    "no Drive": (("push", "photos"), {"DRIVESHARD_DRIVE_URL": "http://127.0.0.1:9"}, 69, "nothing answers"),
    "not loopback": (("push", "photos"), {"DRIVESHARD_DRIVE_URL": "http://example.org"}, 78, "not on this machine"),
    "no login": (("push", "photos"), {"DRIVESHARD_DRIVE_URL": ""}, 77, "Run `driveshard login`."),
    "no client": (("login",), {}, 78, "there is no OAuth client file at"),
    "a broken client": (("login", "--credentials", "note.txt"), {}, 78, "note.txt is not a JSON file"),
    "no room for temp": (("push", "photos", "--temp", "note.txt"), {}, 73, "cannot be written"),
    "bad faults": (("emulate", "--root", "r", "--faults", "x"), {}, 64, "unknown fault 'x'"),
    "a bad port": (("emulate", "--root", "r", "--port", "x"), {}, 64, "--port"),
}


@pytest.fixture(scope="module")
def wrong(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shell]:
    work = tmp_path_factory.mktemp("wrong")
    (work / "empty").mkdir()
    (work / "note.txt").write_text("hello")
    (work / "other.toml").write_text("[project]\nname = 'x'\n")
    (work / "bad.toml").write_text("uploadz = 3\n[source]\nkind = 'folder'\npath = 'photos'\n")
    (work / "make.py").write_text("def make():\n    return []\n")
    with Emulator(work / "drive") as emulator:
        yield Shell(work, emulator.url)


@pytest.mark.parametrize("case", WRONG)
def test_wrong_input_gets_a_sentence_and_its_code(
    wrong: Shell, case: str, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    arguments, variables, code, said = WRONG[case]
    monkeypatch.chdir(wrong.work)
    for name, value in {**wrong.environment, "DRIVESHARD_RETRIES": "1", **variables}.items():
        monkeypatch.setenv(name, value)
    assert main(list(arguments)) == code
    out, err = capfd.readouterr()
    assert out == ""
    assert said in err
    assert re.search(r"^driveshard: .*[.?]$", err, re.MULTILINE)
    assert "Traceback" not in err


def test_json_is_printed_for_a_failed_push_too(wrong: Shell) -> None:
    found = wrong.json("push", "photo", "--name", "x", code=66)
    assert (found["name"], found["state"], found["link"]) == ("x", "incomplete", None)
    assert (found["error"], found["exit_code"], found["advice"]) == ("SourceMissing", 66, "Did you mean photos?")


@pytest.mark.parametrize(
    "command", [("ls", "nothing"), ("cat", "nothing", "x"), ("verify", "nothing"), ("status", "no")]
)
def test_a_failure_is_an_object_beside_json(wrong: Shell, command: tuple[str, ...]) -> None:
    found = wrong.json(*command, code=66)
    assert (found["error"], found["exit_code"]) == ("SourceMissing", 66)
    assert found["advice"]
    assert "there is no dataset" in found["message"]


def test_a_bug_is_one_sentence_and_a_file(shell: Shell) -> None:
    (shell.work / "broken.py").write_text(
        "import driveshard.config.source_argument\n"
        "def no(*_): raise KeyError('https://x/?upload_id=SECRET')\n"
        "driveshard.config.source_argument.open_source = no\n"
        "from driveshard.cli.main import main\n"
        "raise SystemExit(main(['push', 'photos']))\n"
    )
    done = subprocess.run(
        [sys.executable, "broken.py"], env=shell.environment, cwd=shell.work, capture_output=True, text=True
    )
    assert done.returncode == 70
    assert "Traceback" not in done.stderr
    saved = Path(re.findall(r"The details are in (.*)\.\n", done.stderr)[0])
    assert "KeyError" in saved.read_text()
    assert "SECRET" not in saved.read_text() + done.stderr
    if os.name == "posix":
        assert saved.stat().st_mode & 0o777 == 0o600


# -- reading, status, share ------------------------------------------------------------------------------------------


def test_ls_and_cat_give_back_what_was_packed(pushed: Shell) -> None:
    out, err = pushed.run("ls", "photos")
    assert (out.split(), err) == (sorted(FILES), "")
    for path in ("d0/000.bin", "d5/059.bin"):
        with pushed.start("cat", "photos", path) as process:
            assert process.communicate()[0] == FILES[path]
    long = pushed.run("ls", "--long", "photos")[0].splitlines()
    assert re.fullmatch(r" +200  [0-9a-f]{8}  photos-00000\.zip  d0/000\.bin", long[0])


def test_ls_and_cat_as_json(pushed: Shell) -> None:
    listed = pushed.json("ls", "photos")
    assert [one["path"] for one in listed["members"]] == sorted(FILES)
    found = pushed.json("cat", "photos", "d1/011.bin")
    assert base64.b64decode(found["base64"]) == FILES["d1/011.bin"]
    assert (found["bytes"], found["path"]) == (211, "d1/011.bin")


def test_cat_of_nothing(pushed: Shell) -> None:
    assert "photos has no member nope." in pushed.run("cat", "photos", "nope", code=66)[1]


def test_verify_by_name_and_link(pushed: Shell) -> None:
    found = pushed.json("verify", "photos")
    assert list(found) == ["name", "parts", "bytes", "ok", "problems"]
    assert (found["ok"], found["problems"], found["name"]) == (True, [], "photos")
    link = pushed.json("status", "photos")["datasets"][0]["link"]
    out, err = pushed.run("verify", link, "--deep", DRIVESHARD_DRIVE_URL="")
    assert (out.startswith("photos is whole: "), err) == (True, "")


def test_verify_tells_what_is_wrong(shell: Shell, emulator: Emulator) -> None:
    shell.run("push", "photos", *QUICK)
    emulator.drive.store.delete(next(one for one in emulator.drive.store.all() if one.name == "photos-00001.zip"))
    found = shell.json("verify", "photos", code=76)
    assert (found["ok"], found["problems"]) == (False, ["photos-00001.zip is missing"])
    assert (found["error"], found["exit_code"]) == ("Mismatch", 76)
    out, err = shell.run("verify", "photos", code=76)
    assert (out, err.splitlines()[0]) == ("", "photos-00001.zip is missing")
    assert "photos is not as it should be: 1 problem." in err


def test_status_of_what_is_done(pushed: Shell) -> None:
    found = pushed.json("status")["datasets"][0]
    assert (found["name"], found["state"], found["bytes_left"], found["shared"]) == ("photos", "complete", 0, "anyone")
    assert found["parts"]["released"] == sum(found["parts"].values()) > 2
    out = pushed.run("status")[0]
    assert out.startswith("photos: complete\n")
    assert found["link"] in out


def test_share_sets_who_may_read(pushed: Shell, emulator: Emulator) -> None:
    found = pushed.json("share", "photos", "--with", "nobody")
    link = found["link"]
    stranger = {"DRIVESHARD_HOME": str(pushed.work / "stranger")}
    out, err = pushed.run("share", "photos")
    assert (out.strip(), err) == (link, "private; to share: driveshard share photos --with anyone\n")
    assert pushed.run("share", "photos", "--with", "anyone")[0].strip() == link
    assert pushed.run("share", "photos")[1] == "who can read: anyone who has the link\n"
    assert pushed.run("ls", link, **stranger)[0].split() == sorted(FILES)
    assert pushed.json("status")["datasets"][0]["shared"] == "anyone"


def test_a_destination_that_was_mistyped_is_in_nobodys_way(shell: Shell) -> None:
    shell.run("push", "photos", *QUICK, "--to", "drive:1TypoTypoTypoTypoTypoTypo", code=66)
    link = shell.run("push", "photos", *QUICK)[0].strip()
    assert shell.run("share", "photos", "--with", "anyone")[0].strip() == link
    assert shell.run("share", link, "--with", "nobody")[0].strip() == link
    assert shell.json("status", link)["datasets"][0]["state"] == "complete"


def test_a_refused_push_says_nothing_about_the_dataset(shell: Shell) -> None:
    done = shell.json("push", "photos", *QUICK)
    other = shell.work / "other" / "photos"
    other.mkdir(parents=True)
    (other / "a.txt").write_bytes(b"x")
    for arguments in (["other/photos"], ["other/photos", "--dry-run"], ["photos", "--include", "*.png"]):
        _, err = shell.run("push", *arguments, *QUICK, code=64)
        assert str(shell.work / "photos") in err
    assert "made with other settings (include)" in err
    refused = shell.json("push", "other/photos", *QUICK, code=64)
    assert (refused["folder_id"], refused["link"]) == (done["folder_id"], done["link"])
    assert shell.json("status", "photos")["datasets"][0]["state"] == "complete"


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no pipes in folders")
def test_what_is_no_file_is_left_out_and_told(shell: Shell) -> None:
    (shell.work / "photos" / "link").symlink_to(shell.work / "photos")
    os.mkfifo(shell.work / "photos" / "pipe")
    _, err = shell.run("push", "photos", *QUICK)
    assert "left out: 2 symbolic links" in err
    assert "60 samples" in err


def test_a_refused_share_has_its_own_code(shell: Shell, emulator: Emulator) -> None:
    emulator.set_faults("publish-refused*")
    out, err = shell.run("push", "photos", *QUICK, "--share", "anyone")
    assert out.startswith("http://")
    assert "Not shared: " in err
    out, err = shell.run("share", "photos", "--with", "anyone", code=79)
    assert (out, "driveshard: " in err) == ("", True)


def test_a_daily_cap_ends_with_75_and_says_when(shell: Shell, emulator: Emulator) -> None:
    emulator.set_faults("403-projectCap:initiation")
    found = shell.json("push", "photos", *QUICK, code=75)
    assert found["resume_after"] > time.time() + 3600
    status = shell.json("status", "photos")["datasets"][0]
    assert (status["state"], status["resume_after"]) == ("incomplete", found["resume_after"])
    out = shell.run("status", "photos")[0]
    assert re.search(r"next +run the same push again from \d{4}-\d\d-\d\d \d\d:\d\d \(in ", out)
    emulator.set_faults("")
    shell.run("push", "photos", *QUICK)
    assert shell.json("status", "photos")["datasets"][0]["last_error"] is None


def test_max_transfer_goes_on_next_time(shell: Shell) -> None:
    _, err = shell.run("push", "photos", *QUICK, "--max-transfer", "9000", code=75)
    assert re.search(rf"{TIMED}\d of \d parts up; .* sent in ", err, re.MULTILINE)
    shell.run("push", "photos", *QUICK)


# -- pipes, terminals, signals ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("arguments", [("ls", "photos"), ("ls", "photos", "--json"), ("status",)])
def test_a_reader_that_goes_early_is_no_error(pushed: Shell, arguments: tuple[str, ...]) -> None:
    with pushed.start(*arguments) as process:
        assert process.stdout is not None
        process.stdout.close()
        assert process.stderr is not None
        assert process.stderr.read() == b""
    assert process.returncode == 0


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no such device")
def test_a_full_disk_behind_stdout(pushed: Shell) -> None:
    with Path("/dev/full").open("wb") as full, pushed.start("ls", "photos", stdout=full) as process:
        assert process.stderr is not None
        assert b"the output cannot be written" in process.stderr.read()
    assert process.returncode == 73


@pytest.fixture
def slow(tmp_path: Path) -> Iterator[Shell]:
    """A shell at a Drive that takes a while, with more to send."""
    with Emulator(tmp_path / "slow", bandwidth=1 << 20) as emulator:
        shell = Shell(tmp_path, emulator.url)
        for number in range(12):
            (shell.source / f"large{number}.bin").write_bytes(os.urandom(1 << 20))
        yield shell


SLOW = ("--part-size", "2M", "--writes-per-second", "1000", "--log-format", "json")


def wait_for(process: subprocess.Popen[bytes], event: str) -> None:
    assert process.stderr is not None
    for line in process.stderr:
        if json.loads(line)["event"] == event:
            return
    raise AssertionError(f"ended without {event}")


@pytest.mark.skipif(os.name == "nt", reason="signals are another thing there")
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_stops_soon_and_the_next_run_goes_on(slow: Shell, number: signal.Signals, code: int) -> None:
    with slow.start("push", "photos", *SLOW, "--json") as process:
        wait_for(process, "BytesSent")
        running = slow.json("status", "photos")["datasets"][0]
        assert (running["state"], running["held_by"]["pid"]) == ("running", process.pid)
        busy = slow.run("push", "photos", *SLOW, code=75)[1]
        assert f"process {process.pid}" in busy
        began = time.monotonic()
        process.send_signal(number)
        out, err = process.communicate(timeout=10)
        assert time.monotonic() - began < 5
    assert process.returncode == code
    assert b"stopping: finishing requests under way" in err
    assert json.loads(out)["state"] == "incomplete"
    status = slow.json("status", "photos")["datasets"][0]
    assert (status["state"], status["held_by"], status["last_error"]) == ("incomplete", None, "interrupted")
    assert 0 < status["bytes_left"] <= status["bytes"]


@pytest.mark.skipif(os.name == "nt", reason="signals are another thing there")
def test_a_process_that_hangs_is_gone_in_time(tmp_path: Path) -> None:
    with Emulator(tmp_path / "drive", faults="stall*") as emulator:
        shell = Shell(tmp_path, emulator.url)
        with shell.start("push", "photos", *QUICK, "--log-format", "json") as process:
            wait_for(process, "UploadStarted")
            process.send_signal(signal.SIGINT)
            began = time.monotonic()
            assert process.wait(timeout=10) == 130
            assert time.monotonic() - began < 5
        with shell.start("push", "photos", *QUICK, "--log-format", "json") as process:
            wait_for(process, "UploadStarted")
            process.send_signal(signal.SIGINT)
            wait_for(process, "Said")
            began = time.monotonic()
            process.send_signal(signal.SIGINT)
            assert process.wait(timeout=10) == 130
            assert time.monotonic() - began < 1.5


@pytest.mark.skipif(sys.platform == "win32", reason="no such terminals there")
def test_bars_on_a_terminal(slow: Shell) -> None:
    import pty

    ours, theirs = pty.openpty()
    slow.environment = {**slow.environment, "COLUMNS": "80", "LINES": "24", "TERM": "xterm", "NO_COLOR": "1"}
    screen = b""
    arguments = ("push", "photos", *SLOW[:4], "--bwlimit", "off")
    with slow.start(*arguments, stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True) as process:
        os.close(theirs)
        stopped = False
        with contextlib.suppress(OSError):  # how a terminal ends
            while block := os.read(ours, 65_536):
                screen += block
                if not stopped and b"B/s" in screen:
                    stopped = True
                    process.send_signal(signal.SIGINT)
    os.close(ours)
    text = screen.decode()
    assert process.returncode == 130
    assert re.search(r"Packing [ ━╸╺]+\d+/\d+ parts", text)
    assert re.search(r"photos-000\d\d\.zip [ ━╸╺]+[\d.]+/[\d.]+ MiB", text)
    assert re.search(r"\d\.\d/12\.\d MiB up, [\d,]+ of [\d,]+ files, [\d.]+ [KM]iB/s, \d+ s passed", text)
    assert "stopping: finishing requests under way; once more stops at once" in text
    assert text.rindex("\x1b[?25h") > text.rindex("\x1b[?25l")
    assert "driveshard: stopped. Run the same command again to go on." in text


@pytest.mark.skipif(os.name == "nt", reason="signals are another thing there")
def test_emulate_serves_until_it_is_told_to_stop(shell: Shell) -> None:
    with shell.start("emulate", "--root", "served", "--latency-ms", "1", "--bandwidth", "50M") as process:
        assert process.stdout is not None
        url = json.loads(process.stdout.readline())["url"]
        assert shell.run("push", "photos", *QUICK, DRIVESHARD_DRIVE_URL=url)[0].startswith(url)
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=10)
    assert process.returncode == 0


def test_the_emulator_takes_no_key_from_the_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from driveshard.cli.commands.emulate import command

    monkeypatch.setenv("DRIVESHARD_API_KEY", "my own")
    assert command.make_context("emulate", ["--root", str(tmp_path)]).params["api_key"] is None
    typed = command.make_context("emulate", ["--root", str(tmp_path), "--api-key", "k"])
    assert typed.params["api_key"] == "k"
