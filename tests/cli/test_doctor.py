"""What the doctor finds: on a healthy machine nothing, else each fault by its own line, advice and exit code."""

from __future__ import annotations

import datetime
import email.utils
import json
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from driveshard.cli import checkup
from driveshard.cli.main import main
from driveshard.config.settings import Settings
from driveshard.core.errors import DriveshardError
from driveshard.emulator import Emulator
from driveshard.storage.drive.checkup import Account, Place
from driveshard.storage.drive.credentials import StoredCredentials, write_token
from tests.wires import Wire

Doctor = Callable[..., tuple[int, dict[str, Any]]]
FOLDER = "application/vnd.google-apps.folder"


@pytest.fixture
def doctor(home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Iterator[Doctor]:
    for name in list(os.environ):
        if name.startswith("DRIVESHARD_") or name.lower().endswith("_proxy"):
            monkeypatch.delenv(name)
    home.chmod(0o700)
    monkeypatch.setenv("DRIVESHARD_HOME", str(home))

    def run(*arguments: str, **variables: str) -> tuple[int, dict[str, Any]]:
        for name, value in variables.items():
            monkeypatch.setenv(name, value)
        capsys.readouterr()
        code = main(["doctor", "--json", *arguments])
        out = capsys.readouterr().out
        document = json.loads(out)
        assert code == document["exit_code"]
        return code, {one["check"]: one for one in document["findings"]}

    return run


def reply(document: Any, status: str = "200 OK", date: float | None = None) -> bytes:
    body = json.dumps(document).encode()
    when = email.utils.formatdate(time.time() if date is None else date, usegmt=True)
    head = f"HTTP/1.1 {status}\r\nDate: {when}\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    return head.encode() + body


ABOUT = {"user": {"emailAddress": "me@example.org"}, "storageQuota": {"limit": "100", "usage": "40"}}


def test_a_healthy_machine(doctor: Doctor, emulator: Emulator) -> None:
    code, found = doctor(DRIVESHARD_DRIVE_URL=emulator.url)
    assert code == 0
    assert {one["state"] for one in found.values()} <= {"ok", "skip"}
    assert "owner@emulator.invalid" in found["drive"]["message"]
    assert found["write"]["state"] == "ok"
    written = [one["method"] for one in emulator.log() if one["method"] in ("POST", "DELETE")]
    assert written == ["POST", "DELETE"] and not emulator.stats()["violations"]


def test_nothing_is_written_when_that_is_not_wanted(doctor: Doctor, emulator: Emulator) -> None:
    code, found = doctor("--no-write", DRIVESHARD_DRIVE_URL=emulator.url)
    assert (code, found["write"]["state"]) == (0, "skip")
    assert {one["method"] for one in emulator.log()} == {"GET"}


def test_what_the_page_for_people_looks_like(
    doctor: Doctor, emulator: Emulator, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("DRIVESHARD_DRIVE_URL", emulator.url)
    assert main(["doctor", "--to", "drive:0nosuchfolder"]) == 66
    lines = capsys.readouterr().out.splitlines()
    assert lines[-1] == "1 thing to mend before a push works."
    (mend,) = (number for number, line in enumerate(lines) if line.startswith("MEND"))
    assert lines[mend].split()[1] == "folder" and lines[mend + 1].strip().startswith("-> ")


def test_a_new_user_is_told_what_comes_first(doctor: Doctor) -> None:
    code, found = doctor(HTTPS_PROXY="http://127.0.0.1:9")
    assert code == 78
    assert "console.cloud.google.com" in found["client"]["advice"]
    assert found["login"]["exit_code"] == 77 and "driveshard login" in found["login"]["advice"]
    assert "127.0.0.1:9" in found["way"]["message"]
    assert found["drive"]["exit_code"] == 69 and "127.0.0.1:9 (HTTPS_PROXY)" in found["drive"]["message"]


REPLIES: dict[str, tuple[bytes, str, str, int, str]] = {
    "the API is off": (
        reply({"error": {"code": 403, "message": "x", "errors": [{"reason": "accessNotConfigured"}]}}, "403 Forbidden"),
        "drive",
        "the Drive API is not enabled",
        78,
        "Enable it at",
    ),
    "a sign-in page of the network": (
        b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: 6\r\n\r\n<html>",
        "drive",
        "what answered is not Drive",
        69,
        "",
    ),
    "a clock that is wrong": (reply(ABOUT, date=time.time() - 900), "clock", "ahead of Drive", 78, "Set the clock"),
    "a full storage": (
        reply({**ABOUT, "storageQuota": {"limit": "100", "usage": "130"}}),
        "storage",
        "the storage is full",
        79,
        "Free some space",
    ),
}


@pytest.mark.parametrize("what", REPLIES)
def test_what_drive_says(doctor: Doctor, wire: Callable[..., Wire], what: str) -> None:
    answer, check, says, code, advice = REPLIES[what]
    ended, found = doctor("--no-write", DRIVESHARD_DRIVE_URL=wire(answer, keep=True).url)
    assert ended == code
    assert found[check]["state"] == "fail" and says in found[check]["message"] and advice in found[check]["advice"]


def test_a_folder_that_takes_nothing(doctor: Doctor, wire: Callable[..., Wire]) -> None:
    about = reply(ABOUT)
    place = {"name": "Ours", "mimeType": FOLDER, "driveId": "0AB", "capabilities": {"canAddChildren": False}}
    code, found = doctor("--to", "drive:0theirs", DRIVESHARD_DRIVE_URL=wire(about, reply(place), keep=True).url)
    assert code == 79
    assert "Contributor" in found["folder"]["advice"] and "shared drive 0AB" in found["folder"]["message"]
    assert found["write"]["state"] == "skip"


def test_a_broken_config_and_a_temp_disk_that_cannot_be(doctor: Doctor, home: Path, emulator: Emulator) -> None:
    code, found = doctor(DRIVESHARD_DRIVE_URL=emulator.url, DRIVESHARD_TEMP="/proc/nowhere")
    assert code == 73 and found["temp disk"]["state"] == "fail"
    (home / "config.toml").write_text('part-sise = "1G"')
    code, found = doctor()
    assert code == 78 and "part-size" in found["config"]["advice"]


def test_a_login_that_others_can_read(doctor: Doctor, home: Path) -> None:
    write_token(home / "token.json", stored_login(datetime.datetime.now(datetime.UTC)))
    (home / "token.json").chmod(0o644)
    code, found = doctor(HTTPS_PROXY="http://127.0.0.1:9")
    assert code == 78 and "chmod 600" in found["login"]["advice"]


def stored_login(since: datetime.datetime) -> StoredCredentials:
    login = StoredCredentials(
        token="t",
        refresh_token="r",
        token_uri="https://oauth2.googleapis.com/token",
        client_id="c",
        client_secret="s",
        scopes=["https://www.googleapis.com/auth/drive.file"],
        account="me@example.org",
        expiry=datetime.datetime(2030, 1, 1),
    )
    return login.begun(since)


@pytest.mark.parametrize(("hours", "state", "says"), [(1, "ok", "7 days"), (100, "warn", "7 days"), (200, "ok", "8 d")])
def test_how_old_the_login_is(home: Path, hours: int, state: str, says: str) -> None:
    now = datetime.datetime.now(datetime.UTC)
    write_token(home / "token.json", stored_login(now - datetime.timedelta(hours=hours)))
    found = checkup.login(Settings(home), now)
    assert found.state == state and says in found.said and "me@example.org, drive.file" in found.said


def test_a_service_account_without_storage() -> None:
    account = Account("robot@example.org", 0, 0, None)
    with pytest.raises(DriveshardError, match="owns no storage") as caught:
        checkup.storage(account, None, service_account=True)
    assert caught.value.exit_code == 79 and "shared drive" in caught.value.advice
    assert checkup.storage(account, Place("x", "0AB", True), service_account=True).state == "ok"


@pytest.mark.parametrize(
    ("skew", "state"), [(0.5, "ok"), (-90, "warn"), (400, "fail"), (-4000, "fail"), (None, "skip")]
)
def test_the_clock(skew: float | None, state: str) -> None:
    found = checkup.clock(Account("", None, 0, skew))
    assert found.state == state


def test_the_worst_finding_decides() -> None:
    def found(code: int) -> checkup.Finding:
        return checkup.Finding("x", "fail", "", code=code)

    assert checkup.worst([found(69), found(77), found(73)]) == 77
    assert checkup.worst([found(69), checkup.ok("x", ""), checkup.warn("x", "", "")]) == 69
    assert checkup.worst([checkup.warn("x", "", "")]) == 0
