"""What is wrong is said in the words of who wrote it, with what was probably meant; and never what was not."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from driveshard.cli.main import main
from driveshard.core.similar import near
from driveshard.emulator import Emulator
from tests.rig import Shelf, environment

ID = "1a2B3c4D5e6F7g8H9i0JkLmNoP"
WORK = {
    "true.toml": "uploads = true\n[source]\nkind = 'folder'\npath = 'photos'\n",
    "dates.toml": "name = 2024-01-02\n[source]\nkind = 'folder'\npath = 'photos'\n",
    "list.toml": 'share = ["anyone", true]\n[source]\nkind = "folder"\npath = "photos"\n',
    "kind.toml": "[source]\nkind = true\n",
    "glob.toml": "include = ['']\n[source]\nkind = 'folder'\npath = 'photos'\n",
    "keys.py": (
        "import driveshard\n"
        "def up():\n    return [driveshard.Sample('../x', {'txt': 'a'})]\n"
        "def dotted():\n    yield driveshard.Sample('a.b', {'txt': 'a'})\n"
        "def nothing():\n    return []\n"
    ),
    "photos/a.txt": "a",
}
PUSH = ("push", "photos")
CASES: dict[str, tuple[tuple[str, ...], dict[str, str], int, tuple[str, ...]]] = {
    "an address": ((*PUSH, "--share", "bob@example.org"), {}, 64, ("Did you mean user:bob@example.org?",)),
    "an address with a word": ((*PUSH, "--share", "mail:bob@example.org"), {}, 64, ("user:bob@example.org?",)),
    "a domain": ((*PUSH, "--share", "example.org"), {}, 64, ("Did you mean domain:example.org?",)),
    "another word for anyone": ((*PUSH, "--share", "public"), {}, 64, ("Did you mean anyone?",)),
    "a slip in nobody": (("share", "photos", "--with", "nobdy"), {}, 64, ("--with", "Did you mean nobody?")),
    "nobody at all": ((*PUSH, "--share", "xyz"), {}, 64, ("--share: 'xyz' is not anyone, domain:D, user:EMAIL",)),
    "a path": ((*PUSH, "--to", "/tmp/x"), {}, 64, ("Did you mean file:/tmp/x?",)),
    "a path from here": ((*PUSH, "--to", "./x"), {}, 64, ("Did you mean file:./x?",)),
    "a path from home": ((*PUSH, "--to", "~/x"), {}, 64, ("Did you mean file:~/x?",)),
    "a folder that is there": ((*PUSH, "--to", "photos"), {}, 64, ("Did you mean file:photos?",)),
    "an id": ((*PUSH, "--to", ID), {}, 64, (f"Did you mean drive:{ID}?",)),
    "a link without its scheme": (
        (*PUSH, "--to", f"drive.google.com/drive/folders/{ID}"),
        *({}, 64, (f"Did you mean https://drive.google.com/drive/folders/{ID}?",)),
    ),
    "a folder that is not seen": ((*PUSH, "--to", f"drive:{ID}"), {}, 66, ("this login sees", "login --scope drive`")),
    "a slip in the scheme": ((*PUSH, "--to", "dirve:"), {}, 64, ("Did you mean drive:?",)),
    "no scheme at all": (PUSH, {"DRIVESHARD_DRIVE_URL": "127.0.0.1:9"}, 78, ("DRIVE_URL", "mean http://127.0.0.1:9?")),
    "a name": (("status",), {"DRIVESHARD_DRIVE_URL": "localhost:9/"}, 78, ("Did you mean http://localhost:9/?",)),
    "another scheme": (PUSH, {"DRIVESHARD_DRIVE_URL": "ftp://127.0.0.1"}, 78, ("is not the address of a Drive",)),
    "a word": (PUSH, {"DRIVESHARD_DRIVE_URL": "yes"}, 78, ("It looks like http://127.0.0.1:8080.",)),
    "a broken address": (PUSH, {"DRIVESHARD_DRIVE_URL": "http://[::1"}, 78, ("is not the address of a Drive",)),
    "a file's link": (
        (*PUSH, "--to", f"https://drive.google.com/file/d/{ID}/view?usp=sharing"),
        *({}, 64, ("it is a link to a file",)),
    ),
    "a Doc": (("ls", f"https://docs.google.com/document/d/{ID}/edit"), {}, 64, ("it is a link to a Google Doc",)),
    "a Sheet": (("verify", f"https://docs.google.com/spreadsheets/d/{ID}/edit"), {}, 64, ("to a Google Doc",)),
    "a download": (("cat", f"https://drive.google.com/uc?id={ID}&export=download", "x"), {}, 64, ("to a file",)),
    "a number that is true": (("push", "true.toml"), {}, 78, ("uploads: true is not a whole number",)),
    "a date": (("push", "dates.toml"), {}, 78, ("name: 2024-01-02 is not a text",)),
    "a list": (("push", "list.toml"), {}, 78, ('share: ["anyone", true] is not a text',)),
    "a kind that is true": (("push", "kind.toml"), {}, 78, ("kind: true is not a kind of source",)),
    "an empty glob": ((*PUSH, "--include", ""), {}, 64, ("--include: an empty glob matches nothing",)),
    "an empty glob in a file": (("push", "glob.toml"), {}, 78, ("include: an empty glob matches nothing",)),
    "an empty glob in a variable": (PUSH, {"DRIVESHARD_EXCLUDE": "''"}, 78, ("EXCLUDE: an empty glob",)),
    "a bad key": (("push", "keys.py:up"), {}, 66, ("o sample of keys.py:up can be made: sample 0: ", "'../x'")),
    "a bad key in a stream": (
        ("push", "keys.py:dotted"),
        {},
        66,
        ("no sample of keys.py:dotted", "no dot in its last"),
    ),
    "no samples": (("push", "keys.py:nothing"), {}, 66, ("has no samples",)),
    "a slip in a command": (("pusj", "photos"), {}, 64, ("Did you mean 'push'?",)),
    "a slip in an option": ((*PUSH, "--shear", "anyone"), {}, 64, ("--share",)),
}


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, str]]:
    work = tmp_path_factory.mktemp("sentences")
    for name, text in WORK.items():
        (work / name).parent.mkdir(exist_ok=True)
        (work / name).write_text(text)
    with Emulator(work / "drive") as emulator:
        yield work, emulator.url


def said(
    place: tuple[Path, str],
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    *arguments: str,
    **more: str,
) -> tuple[int, str]:
    """Exit code and stderr of a command in this process."""
    monkeypatch.chdir(place[0])
    known = {"DRIVESHARD_HOME": str(place[0] / "home"), "DRIVESHARD_DRIVE_URL": place[1], "DRIVESHARD_RETRIES": "2"}
    for name, value in {**known, **more}.items():
        monkeypatch.setenv(name, value)
    code = main(list(arguments))
    return code, capfd.readouterr().err


@pytest.mark.parametrize("case", CASES)
def test_the_sentence_says_what_was_meant(
    place: tuple[Path, str], case: str, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    arguments, variables, code, words = CASES[case]
    found, err = said(place, monkeypatch, capfd, *arguments, **variables)
    assert found == code, err
    assert [word for word in words if word not in err] == [], err


def test_the_id_of_a_file_is_not_a_folder(
    place: tuple[Path, str], monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    assert said(place, monkeypatch, capfd, *PUSH, "--name", "ids", "--writes-per-second", "1000")[0] == 0
    (found,) = [one for one in Shelf(place[1]).files if one["name"] == "ids-00000.zip"]
    for what in (found["id"], f"drive:{found['id']}", f"https://drive.google.com/open?id={found['id']}"):
        code, err = said(place, monkeypatch, capfd, "ls", what)
        assert code == 66 and "ids-00000.zip is a file, and a folder is meant" in err, err
    code, err = said(place, monkeypatch, capfd, *PUSH, "--name", "under", "--to", f"drive:{found['id']}")
    assert code == 64 and "is a file, and a folder is meant" in err, err


@pytest.mark.parametrize("arguments", [("cut", "x"), ("frobnicate",), (*PUSH, "--sheep", "1"), ("lsd", "x")])
def test_what_is_not_near_is_not_offered(
    place: tuple[Path, str],
    arguments: tuple[str, ...],
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    offered = re.findall(r"Did you mean '?(-*[a-z-]+)", said(place, monkeypatch, capfd, *arguments)[1])
    assert offered in ([], [near(arguments[-2] if len(arguments) > 2 else arguments[0], offered)])


@pytest.mark.parametrize(
    ("arguments", "variables"),
    [
        ((*PUSH, "--share", "x " * 2500), {}),
        ((*PUSH, "--to", "/" + "y" * 5000), {}),
        ((*PUSH, "--name", "a/" * 2500), {}),
        ((*PUSH, "--bwlimit", "z" * 5000), {}),
        (("u" * 5000, "photos"), {}),
        (("push", "w" * 5000), {}),
        ((*PUSH, "--" + "v" * 5000), {}),
        (("stats", "photos", "--sample", "n" * 5000), {}),
        (PUSH, {"DRIVESHARD_DRIVE_URL": "ftp://" + "h" * 5000}),
        (("push", "long.toml"), {}),
    ],
)
def test_what_is_very_long_is_not_echoed_whole(
    place: tuple[Path, str],
    arguments: tuple[str, ...],
    variables: dict[str, str],
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    (place[0] / "long.toml").write_text(f"share = '{'q' * 5000}'\n[source]\nkind = 'folder'\npath = 'photos'\n")
    code, err = said(place, monkeypatch, capfd, *arguments, **variables)
    assert code in (64, 66, 78) and len(err) < 700, err
    assert re.search(r"... \([45],\d\d\d characters\)", err), err


@pytest.mark.parametrize(
    ("word", "known", "meant"),
    [
        ("pusj", ("push", "pull"), "push"),
        ("verfiy", ("verify", "view"), "verify"),
        ("part_sise", ("part-size", "part-samples"), "part-size"),
        ("compo", ("composite", "folder"), "composite"),
        ("photos-2024", ("photos", "other"), "photos"),
        ("notes", ("photos",), None),
        ("cat", ("ls",), None),
        ("bw", ("bwlimit",), None),
        ("timeout", ("temp", "to"), None),
        ("", ("push",), None),
        ("x" * 1000, ("push",), None),
    ],
)
def test_near(word: str, known: tuple[str, ...], meant: str | None) -> None:
    assert near(word, known) == meant


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="needs /proc")
@pytest.mark.parametrize("where", ["file:/proc/nope", "file:/proc/self/nope/x", "file:/dev/null", "file:/etc/passwd/x"])
def test_a_place_that_can_never_be_fails_at_once(
    place: tuple[Path, str], where: str, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    began = time.monotonic()
    code, err = said(place, monkeypatch, capfd, *PUSH, "--to", where, DRIVESHARD_RETRIES="12")
    assert (code, "Traceback" in err) in ((66, False), (79, False)), err
    assert "waiting" not in err and time.monotonic() - began < 5


def test_parts_without_number_are_warned_of(
    place: tuple[Path, str], monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    many = place[0] / "many"
    many.mkdir()
    for number in range(1200):
        (many / f"{number}.txt").write_bytes(b"x")
    code, err = said(place, monkeypatch, capfd, "push", "many", "--part-size", "100", "--dry-run")
    assert code == 0
    assert "WARNING: that makes 1,200 parts of about" in err and "3 writes a second: 6 min 40 s at least" in err
    assert "WARNING" not in said(place, monkeypatch, capfd, "push", "many", "--dry-run")[1]


@pytest.mark.skipif(os.name == "nt", reason="needs SIGKILL")
def test_a_kill_leaves_the_shell_alone(tmp_path: Path) -> None:
    """What outlives a killed push ends by itself, and says nothing."""
    (tmp_path / "slow.py").write_text(
        "import time\nclass Slow:\n    def __len__(self):\n        return 1000\n"
        "    def __getitem__(self, i):\n        import driveshard\n        time.sleep(0.02)\n"
        "        return driveshard.Sample(f'k{i}', {'txt': 'x' * 1000})\n"
    )
    command = ["push", "slow.py:Slow", "--to", f"file:{tmp_path}/out", "--part-size", "16K", "--workers", "1"]
    process = subprocess.Popen(
        [sys.executable, "-m", "driveshard", *command],
        env=environment(DRIVESHARD_HOME=str(tmp_path / "home")),
        cwd=tmp_path,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    until = time.monotonic() + 60
    while not list(tmp_path.glob("out/slow*/*.zip")) and not list(tmp_path.glob("out/*/*.zip")):
        assert process.poll() is None and time.monotonic() < until
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    _, err = process.communicate(timeout=30)  # until everybody who has its stderr is gone
    assert "Warning" not in err and "Traceback" not in err, err
