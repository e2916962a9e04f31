"""Everything is run at its most talkative, through faults, and all that came out is searched for what is secret."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from driveshard.cli.main import main
from driveshard.emulator import Emulator
from driveshard.storage.drive.client import DriveClient
from tests.cli.test_login import SECRET, Desk
from tests.rig import fill

KEY = "AIzaSyD-a-key-of-nobody-0123456789012345"
TALKATIVE = ("-v", "--log-file", "push.log", "--on-success", "cat", "--on-failure", "cat")
QUICK = ("--part-size", "300K", "--writes-per-second", "1000", "--engine", "serial")
HOLDS_SECRETS = {"token.json", "credentials.json"}  # by design, and for their owner only; see docs/security.md


class Everything:
    """Runs commands and keeps all they said; knows all that was secret meanwhile."""

    def __init__(self, desk: Desk) -> None:
        self.desk, self.said = desk, ""
        self.secrets = {SECRET, KEY}
        desk.variables |= {"DRIVESHARD_API_KEY": KEY, "DRIVESHARD_RETRIES": "4", "DRIVESHARD_THROTTLE_PATIENCE": "2"}

    def run(self, *arguments: str, faults: str = "") -> int:
        self.desk.emulator.set_faults(faults)
        with self.desk.start(*arguments, module="tests.quick") as process:
            out, err = process.communicate(timeout=60)
        return self._take(process, out, err)

    def killed(self, *arguments: str) -> int:
        with self.desk.start(*arguments, module="tests.quick") as process:
            time.sleep(1.0)
            process.send_signal(signal.SIGINT)
            out, err = process.communicate(timeout=60)
        return self._take(process, out, err)

    def _take(self, process: subprocess.Popen[str], out: str, err: str) -> int:
        self.said += f"\n$ {process.args}\n{out}{err}"
        self.note()
        return int(process.returncode)

    def note(self) -> None:
        """What is secret by now: every code and token that was ever given, every session."""
        self.secrets |= {token for token, _ in self.desk.emulator.drive.store.database.load("tokens")}
        for one in self.desk.emulator.log():
            self.secrets |= set(parse_qs(urlsplit(one["path"]).query).get("upload_id", []))

    def leaks(self) -> list[str]:
        texts = {"screen": self.said}
        for path in self.desk.work.rglob("*"):
            inside = path.is_file() and self.desk.work / "drive" not in path.parents
            if inside and path.name not in (*HOLDS_SECRETS, "client.json") and path.suffix not in (".sqlite", ".bin"):
                texts[path.name] = path.read_bytes().decode("utf-8", "replace")
        return [f"{name}: {secret[:12]}" for name, text in texts.items() for secret in self.secrets if secret in text]


@pytest.fixture
def everything(tmp_path: Path) -> Any:
    with Emulator(tmp_path / "drive", consent=True) as emulator:
        yield Everything(Desk(tmp_path, emulator))


def test_nothing_secret_is_ever_said(everything: Everything) -> None:
    desk = everything.desk
    fill(desk.work / "photos", 8, 200_000)
    everything.said += "".join(desk.log_in("--credentials", "client.json", "-v"))
    everything.said += "".join(desk.log_in("-v", action="deny", code=77))
    push = ("push", "photos", *QUICK, *TALKATIVE)
    everything.run(*push, "--max-transfer", "500K", faults="401-expired,reset,503")
    everything.killed(*push, "--bwlimit", "200K", "--log-format", "json")
    everything.run(*push, "--log-format", "json", faults="session-404,lost-final,401-expired,drop")
    assert everything.run(*push, "--json") == 0
    (desk.work / "photos" / "more.bin").write_bytes(os.urandom(250_000))
    assert everything.run(*push, faults="403-scope*9") == 77
    assert everything.run(*push, "--summary", faults="503:start*99") == 69
    for line in ("status", "whoami --json", "doctor", "config", "ls photos", "verify photos", "schedule photos"):
        everything.run(*line.split(), "-v")
    everything.run("logout", "-v", faults="503*9")
    assert len(everything.secrets) > 8 and any(len(one) > 60 for one in everything.secrets)
    assert "PUT /upload/drive/v3/files -> 200" in everything.said and (desk.work / "push.log").stat().st_size > 1000
    assert everything.leaks() == []


@pytest.mark.skipif(os.name == "nt", reason="Windows has no mode bits")
def test_what_holds_secrets_is_its_owners_alone(everything: Everything) -> None:
    desk = everything.desk
    fill(desk.work / "photos", 4, 200_000)
    desk.log_in("--credentials", "client.json")
    before = os.umask(0)
    try:
        everything.run("push", "photos", *QUICK, "--max-transfer", "300K", "--log-file", "home/push.log")
    finally:
        os.umask(before)
    open_to_others = [
        path.relative_to(desk.home).as_posix()
        for path in desk.home.rglob("*")
        if path.is_file() and path.stat().st_mode & 0o077 and (path.name in HOLDS_SECRETS or path.suffix != ".lock")
    ]
    assert {one for one in open_to_others if not one.startswith(("folders/", "spool/"))} == set()
    assert desk.home.stat().st_mode & 0o077 == 0


def test_a_crash_file_holds_no_secrets(
    home: Path, tmp_path: Path, emulator: Emulator, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    words = {
        "session": "https://www.googleapis.com/upload/drive/v3/files?uploadType=resumable&upload_id=geheim1",
        "header": "Authorization: Bearer ya29.geheim2",
        "refresh": '"refresh_token": "1//geheim3"',
        "client": f"client_secret={SECRET}",
        "code": "code=4/0Ageheim4geheim4geheim4",
        "key": f"GET /files?key={KEY}",
        "proxy": "http://me:geheim5@proxy:3128",
        "device": "device_code=geheim6&grant_type=x",
        "verifier": "code_verifier=geheim7",
        "form": "{'client_secret': 'geheim8', 'password': 'geheim9'}",
    }

    def broken(*_: object) -> None:
        raise RuntimeError("; ".join(words.values()))

    monkeypatch.setenv("DRIVESHARD_HOME", str(home))
    monkeypatch.setenv("DRIVESHARD_DRIVE_URL", emulator.url)
    monkeypatch.setattr(DriveClient, "send", broken)
    assert main(["-v", "whoami"]) == 70
    said = capsys.readouterr()
    (crash,) = home.glob("crash-*.txt")
    document = crash.read_text()
    assert "RuntimeError" in document and crash.stat().st_mode & 0o077 == 0
    for text in (document, said.out, said.err, json.dumps(said.err)):
        assert "geheim" not in text and SECRET not in text and KEY not in text
