"""The ``pull`` command as people and scripts meet it; and killed again and again, with faults on the way down."""

from __future__ import annotations

import base64
import json
import os
import random
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from driveshard.emulator import Emulator
from tests.cli.test_main import FILES, QUICK, Shell
from tests.rig import Server, Shelf, call, environment, fill, start_push


@pytest.fixture
def shell(tmp_path: Path, emulator: Emulator) -> Shell:
    return Shell(tmp_path, emulator.url)


@pytest.fixture
def link(shell: Shell) -> str:
    return pushed_and_left(shell)


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Shell, str]]:
    """The same once for all that only look."""
    work = tmp_path_factory.mktemp("shared")
    with Emulator(work / "drive") as emulator:
        shell = Shell(work, emulator.url)
        yield shell, pushed_and_left(shell)


def pushed_and_left(shell: Shell) -> str:
    """The link of what was pushed from there; from now on it is asked for by a stranger."""
    found = str(shell.json("push", "photos", "--share", "anyone", *QUICK)["link"])
    shell.environment["DRIVESHARD_HOME"] = str(shell.work / "stranger")
    return found


def test_the_result_for_scripts_and_for_people(shell: Shell, link: str) -> None:
    found = shell.json("pull", link, "out")
    size = found["bytes"]
    assert found == {
        "name": "photos",
        "parts": found["parts"],
        "bytes": size,
        "fetched_bytes": size,
        "verified": True,
        "directory": str(Path("out")),
    }
    assert list(found) == ["name", "parts", "bytes", "fetched_bytes", "verified", "directory"]
    assert shell.json("pull", link, "out")["fetched_bytes"] == 0
    assert shell.json("verify", "out")["ok"] is True
    out, err = shell.run("pull", link, "second")
    assert "each proved by its checksums" in out and out.count("\n") == 1
    assert "reading without a login, one file at a time: nobody is logged in" in err
    assert shell.run("pull", link, "second", "-q") == ("", "")
    _, err = shell.run("pull", link, "second", "--api-key", "a-key")
    assert "reading with the API key that was given" in err and "a-key" not in err.replace("a-key that", "")
    _, err = shell.run("pull", link, "second", DRIVESHARD_API_KEY="a-key")
    assert "reading with the API key that was given" in err


def test_events_for_scripts(shell: Shell, link: str) -> None:
    _, err = shell.run("pull", link, "out", "--log-format", "json")
    events = [json.loads(line) for line in err.splitlines()]
    assert {"Notice", "Started", "UploadStarted", "PartReleased", "Published"} <= {one["event"] for one in events}
    assert next(one for one in events if one["event"] == "Started")["fetching"] is True


def test_the_site_may_lie_elsewhere(shell: Shell, link: str, emulator: Emulator) -> None:
    shell.run("pull", link, "out", "--parts", "0-1", DRIVESHARD_SITE_URL=emulator.url)
    assert len(list((shell.work / "out").glob("*.zip"))) == 2
    nowhere = {"DRIVESHARD_SITE_URL": "http://127.0.0.1:9", "DRIVESHARD_RETRIES": "1"}
    _, err = shell.run("pull", link, "x", code=69, **nowhere)
    assert "127.0.0.1:9" in err


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (("out",), 64, "Missing argument 'DIR'"),
        (("https://example.org/drive/folders/1234567890123456", "out"), 64, "somewhere else than Google Drive"),
        (("https://drive.google.com/file/d/1234567890123456/view", "out"), 64, "it is a link to a file"),
        (("nothing", "out"), 66, "there is no dataset, directory or Drive folder nothing"),
        (("LINK", "out", "--parts", "3-1"), 64, "are not part numbers"),
        (("LINK", "out", "--parts", "999"), 66, "has no such parts"),
        (("LINK", "out", "--only", "zebras/**"), 66, "no member of photos matches"),
        (("LINK", "photos/d0/000.bin"), 64, "is not a directory"),
        (("file:nowhere", "out"), 66, "there is no directory"),
    ],
)
def test_wrong_use(shared: tuple[Shell, str], arguments: tuple[str, ...], code: int, said: str) -> None:
    shell, link = shared
    out, err = shell.run("pull", *[link if one == "LINK" else one for one in arguments], code=code)
    assert out == "" and said.lower() in err.lower() and not (shell.work / "out").exists()


def test_what_a_private_link_and_a_quota_say(shell: Shell, link: str, emulator: Emulator) -> None:
    shell.run("share", "photos", "--with", "nobody", DRIVESHARD_HOME=str(shell.work / "home"))
    _, err = shell.run("pull", link, "out", code=77)
    assert "not shared with anyone who has the link" in err and "Ask whoever sent you the link" in err
    shell.run("share", "photos", "--with", "anyone", DRIVESHARD_HOME=str(shell.work / "home"))
    emulator.set_faults("download-quota*")
    _, err = shell.run("pull", link, "out", code=75)
    assert "--api-key KEY" in err and "It can go on from" in err
    emulator.set_faults("400-key*")
    _, err = shell.run("pull", link, "out", "--api-key", "secret", code=78)
    assert "does not accept the API key" in err and "secret" not in err


def test_a_signal_ends_it_and_the_next_run_goes_on(shell: Shell, link: str, emulator: Emulator) -> None:
    emulator.drive.line.set_bandwidth(4000)
    with shell.start("pull", link, "out") as process:
        assert process.stderr is not None
        while b"pulling photos" not in process.stderr.readline():
            pass
        process.send_signal(signal.SIGTERM)
        _, err = process.communicate(timeout=30)
    assert (process.returncode, b"Traceback" in err) == (143, False)
    assert b"Run the same command again" in err
    emulator.drive.line.set_bandwidth(None)
    assert shell.json("pull", link, "out")["verified"] is True


def held(out: Path) -> int:
    """Bytes that are here, proved or not."""
    return sum(path.stat().st_size for path in out.glob("*") if path.name.endswith((".zip", ".zip.part")))


@pytest.mark.skipif(sys.platform == "win32", reason="kill -9")
@pytest.mark.parametrize(("key", "words"), [((), "reset:download%20,503%10"), (("--api-key", "k"), "drop:download%20")])
def test_killed_again_and_again(tmp_path: Path, key: tuple[str, ...], words: str) -> None:
    dice = random.Random(len(key))
    fill(tmp_path / "tree", 60, 120_000)
    with Server(tmp_path / "drive") as server:
        with start_push(
            tmp_path, server.url, "tree", "--share", "anyone", "--part-size", "1MiB", "--name", "t"
        ) as push:
            link = json.loads(push.communicate(timeout=60)[0].splitlines()[-1])["link"]
        call(server.url, "/_emulator/line", {"bandwidth": 2_500_000})
        server.set_faults(words, seed=7)
        variables = {"DRIVESHARD_HOME": str(tmp_path / "stranger"), "DRIVESHARD_DRIVE_URL": server.url}
        command = [sys.executable, "-m", "tests.quick", "pull", link, "out", "--json", *key]
        before = 0
        for _ in range(4):
            with subprocess.Popen(
                command, cwd=tmp_path, env=environment(**variables), stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
            ) as process:
                try:
                    process.wait(dice.uniform(0.6, 1.2))
                except subprocess.TimeoutExpired:
                    process.kill()
            now = held(tmp_path / "out")
            assert now >= before  # nothing that had come is fetched again
            before = now
        call(server.url, "/_emulator/line", {"bandwidth": None})
        done = subprocess.run(command, cwd=tmp_path, env=environment(**variables), capture_output=True, timeout=60)
        assert done.returncode == 0, done.stderr.decode()
        result = json.loads(done.stdout)
        server.set_faults("")
        shelf = Shelf(server.url)
        stored = {one["name"]: shelf.content(one["id"]) for one in shelf.files if one["name"].endswith(".zip")}
    assert result["verified"] and len(stored) == result["parts"] > 3
    assert result["fetched_bytes"] == result["bytes"] - before
    assert {path.name: path.read_bytes() for path in (tmp_path / "out").glob("*.zip")} == stored
    assert not list((tmp_path / "out").glob(".*"))


# -- looking at what is stored ---------------------------------------------------------------------------------------


def test_patterns_choose_what_is_listed_and_written(shared: tuple[Shell, str]) -> None:
    shell, link = shared
    out, _ = shell.run("ls", link, "d0/00*", "d5/059.bin")
    assert out.split() == [*(f"d0/{number:03d}.bin" for number in range(10)), "d5/059.bin"]
    assert [one["path"] for one in shell.json("ls", link, "d1")["members"]] == [f"d1/0{n}.bin" for n in range(10, 20)]
    _, err = shell.run("ls", link, "zebra*", code=66)
    assert "no member of photos matches zebra*" in err
    found = shell.json("cat", link, "d0/00[12].bin")["members"]
    assert [(one["path"], base64.b64decode(one["base64"])) for one in found] == [
        (path, FILES[path]) for path in ("d0/001.bin", "d0/002.bin")
    ]
    assert shell.json("cat", link, "d0/001.bin")["path"] == "d0/001.bin"
    shell.run("cat", link, "zebra*", code=66)


PICTURE = b"\x89PNG\r\n\x1a\n\0\0" + b"\x1b[31m" * 20


@pytest.fixture(scope="module")
def pictured(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shell]:
    """A shell whose photos are on the Drive, a picture and a note among them."""
    work = tmp_path_factory.mktemp("pictured")
    with Emulator(work / "drive") as emulator:
        shell = Shell(work, emulator.url)
        (shell.source / "note.txt").write_text("just tëxt\n")
        (shell.source / "p.png").write_bytes(PICTURE)
        shell.run("push", "photos", *QUICK)
        yield shell


@pytest.mark.skipif(sys.platform == "win32", reason="pseudo-terminals")
@pytest.mark.parametrize(("answer", "written"), [(b"y\n", True), (b"n\n", False), (b"\n", False), (None, False)])
def test_a_picture_asks_before_it_goes_to_a_terminal(pictured: Shell, answer: bytes | None, written: bool) -> None:
    import pty

    shell = pictured
    ours, theirs = pty.openpty()
    stdin = subprocess.DEVNULL if answer is None else theirs
    with shell.start("cat", "photos", "p.png", stdin=stdin, stdout=theirs) as process:
        if answer is not None:
            os.write(ours, answer)
        assert process.stderr is not None
        err = process.stderr.read().decode()
    with shell.start("cat", "photos", "note.txt", stdin=stdin, stdout=theirs) as second:
        second.wait(30)
    seen = os.read(ours, 10_000)
    os.close(ours)
    os.close(theirs)
    assert "p.png is not text" in err and (PICTURE[:6].replace(b"\r\n", b"") in seen) is written
    assert process.returncode == (64 if answer is None else 0)
    assert "just tëxt".encode() in seen and b"not text" not in seen
