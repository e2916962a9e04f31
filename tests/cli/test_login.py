"""Logging in as a user does: real processes, a real browser, the emulator's consent page."""

from __future__ import annotations

import contextlib
import datetime
import json
import re
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from driveshard.emulator import Emulator
from tests.browser import Chromium
from tests.rig import environment

SECRET = "GOCSPX-the-secret-of-the-client"


class Desk:
    """A home, an emulator that asks for consent, and an OAuth client's file for it."""

    def __init__(self, work: Path, emulator: Emulator) -> None:
        self.work, self.emulator, self.home = work, emulator, work / "home"
        self.client = work / "client.json"
        document = {
            "client_id": "id.apps.googleusercontent.com",
            "client_secret": SECRET,
            "auth_uri": f"{emulator.url}/o/oauth2/auth",
            "token_uri": f"{emulator.url}/token",
        }
        self.client.write_text(json.dumps({"installed": document}))
        self.variables = {"DRIVESHARD_HOME": str(self.home), "DRIVESHARD_DRIVE_URL": emulator.url}

    def start(self, *arguments: str, module: str = "driveshard", **variables: str) -> subprocess.Popen[str]:
        kept = environment(**{**self.variables, **variables})
        for name in ("BROWSER", "DISPLAY", "WAYLAND_DISPLAY"):
            if name not in variables:
                kept.pop(name, None)
        command = [sys.executable, "-m", module, *arguments]
        pipes: dict[str, Any] = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        return subprocess.Popen(command, env=kept, cwd=self.work, text=True, **pipes)

    def run(self, *arguments: str, code: int = 0, **variables: str) -> tuple[str, str]:
        with self.start(*arguments, **variables) as process:
            out, err = process.communicate(timeout=60)
        assert process.returncode == code, err
        assert "Traceback" not in err and SECRET not in out + err
        return out, err

    def log_in(self, *arguments: str, action: str = "allow", code: int = 0) -> tuple[str, str]:
        """A login in which a plain HTTP client clicks."""
        with self.start("login", "--no-browser", *arguments) as process:
            assert process.stderr is not None
            early: list[str] = []
            address = next(line.strip() for line in process.stderr if early.append(line) or line.startswith("http"))
            shown = urllib.request.urlopen(address, timeout=20).read().decode()
            request = re.search(r'name="request" value="([^"]+)"', shown)
            scope = re.search(r'name="scope" value="([^"]+)"', shown)
            assert request and scope
            form = f"request={request[1]}&action={action}&scope={scope[1]}".encode()
            with contextlib.suppress(urllib.error.HTTPError):
                urllib.request.urlopen(f"{self.emulator.url}/consent", form, timeout=20).read()
            out, err = process.communicate(timeout=30)
        assert process.returncode == code, err
        return out, "".join(early) + err


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    with Emulator(tmp_path / "drive", consent=True, refresh_days=7, strict=True) as emulator:
        yield Desk(tmp_path, emulator)


# -- a real browser --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("click", ["allow", "deny"])
def test_login_in_a_real_browser(desk: Desk, chromium: Chromium, click: str) -> None:
    opened = desk.work / "opened"
    helper = desk.work / "browser.sh"  # stands for the desktop's: it tells which address it was given
    helper.write_text(f'#!/bin/sh\necho to stdout\necho "$1" > {opened}.new && mv {opened}.new {opened}\n')
    helper.chmod(0o700)
    with desk.start("login", "--credentials", "client.json", "--json", BROWSER=f"{helper} %s") as process:
        until = time.monotonic() + 30
        while not opened.exists() and time.monotonic() < until:
            time.sleep(0.05)
        chromium.go(opened.read_text().strip())
        assert "wants access to your Drive" in chromium.text("h1")
        chromium.click(f"#{click}")
        shown = chromium.text("#done" if click == "allow" else "#failed")
        out, err = process.communicate(timeout=30)
    if click == "deny":
        assert shown == "driveshard may not use your Drive"
        assert process.returncode == 77 and "the login was denied" in err and not (desk.home / "token.json").exists()
        return
    assert shown == "driveshard may use the Drive of owner@emulator.invalid now"
    assert process.returncode == 0, err
    assert json.loads(out)["account"] == "owner@emulator.invalid"
    assert json.loads((desk.home / "token.json").read_text())["refresh_token"]
    assert SECRET not in out + err
    assert "owner@emulator.invalid" in desk.run("whoami")[0]


# -- what is kept ----------------------------------------------------------------------------------------------------


def test_the_client_is_given_once_and_both_files_are_private(desk: Desk) -> None:
    desk.client.chmod(0o644)
    _, err = desk.log_in("--credentials", "client.json")
    assert "Logged in as owner@emulator.invalid." in err
    assert "ssh -N -L" in err
    assert "Now: driveshard push DIRECTORY" in err
    _, err = desk.log_in("--scope", "drive.readonly")
    assert "Logged in as owner@emulator.invalid." in err
    assert "Now: driveshard pull LINK DIRECTORY" in err
    for name in ("token.json", "credentials.json"):
        assert (desk.home / name).stat().st_mode & 0o777 == 0o600, name
    told = json.loads(desk.run("whoami", "--json")[0])
    assert told["client"] == "id.apps.googleusercontent.com" and told["scope"] == "drive.readonly" and told["since"]


def test_profiles_are_apart(desk: Desk) -> None:
    desk.log_in("--credentials", "client.json")
    desk.log_in("--profile", "work", "--scope", "drive")
    assert {"token.json", "token-work.json"} <= {path.name for path in desk.home.iterdir()}
    assert json.loads(desk.run("whoami", "--json", "--profile", "work")[0])["scope"] == "drive"
    assert json.loads(desk.run("whoami", "--json", DRIVESHARD_PROFILE="work")[0])["profile"] == "work"
    desk.run("logout", "--profile", "work")
    assert not (desk.home / "token-work.json").exists() and (desk.home / "token.json").exists()
    _, err = desk.run("whoami", "--profile", "../x", code=64)
    assert "--profile" in err


def test_a_login_is_used_till_it_is_a_week_old(desk: Desk) -> None:
    source = desk.work / "photos"
    source.mkdir()
    (source / "a.txt").write_text("a")
    desk.log_in("--credentials", "client.json")
    desk.run("push", "photos", "-q")
    clock = urllib.request.Request(
        f"{desk.emulator.url}/_emulator/clock", json.dumps({"advance": 8 * 86_400}).encode(), method="POST"
    )
    urllib.request.urlopen(clock, timeout=10).close()
    _, err = desk.run("push", "photos", code=77)
    assert "the login of owner@emulator.invalid is no longer valid" in err
    assert "Publish app" not in err, "by this machine's clock it is new, so Testing is not why it ended"
    token = desk.home / "token.json"
    stored = json.loads(token.read_text())
    begun = datetime.datetime.fromisoformat(stored["since"]) - datetime.timedelta(days=8)
    token.write_text(json.dumps({**stored, "since": begun.strftime("%Y-%m-%dT%H:%M:%SZ")}))
    _, err = desk.run("push", "photos", code=77)
    assert "the login of owner@emulator.invalid is no longer valid" in err and "Publish app" in err


def test_logout_takes_it_back_and_forgets_it(desk: Desk) -> None:
    desk.log_in("--credentials", "client.json")
    token = json.loads((desk.home / "token.json").read_text())["refresh_token"]
    out, _ = desk.run("logout", "--json")
    assert json.loads(out) == {"logged_out": True, "revoked": True, "account": "owner@emulator.invalid"}
    assert not (desk.home / "token.json").exists() and (desk.home / "credentials.json").exists()
    form = f"grant_type=refresh_token&refresh_token={token}".encode()
    with pytest.raises(urllib.error.HTTPError) as caught:
        urllib.request.urlopen(f"{desk.emulator.url}/token", form, timeout=10)
    caught.value.close()
    assert desk.run("logout")[1] == "Nobody was logged in.\n"
    _, err = desk.run("whoami", code=77, DRIVESHARD_DRIVE_URL="")
    assert "nobody is logged in" in err and "driveshard login" in err


def test_logout_without_a_network_forgets_it_and_says_so(desk: Desk) -> None:
    desk.log_in("--credentials", "client.json")
    desk.emulator.stop()
    _, err = desk.run("logout", code=69)
    assert "deleted here, but could not be taken back" in err and "myaccount.google.com" in err
    assert not (desk.home / "token.json").exists()


def test_a_token_file_that_was_cut_short_is_told(desk: Desk) -> None:
    desk.log_in("--credentials", "client.json")
    file = desk.home / "token.json"
    file.write_bytes(file.read_bytes()[:100])
    _, err = desk.run("whoami", code=77, DRIVESHARD_DRIVE_URL="")
    assert "empty, cut short or damaged" in err and "driveshard login" in err


def test_a_denied_login_leaves_what_was_there(desk: Desk) -> None:
    desk.log_in("--credentials", "client.json")
    before = (desk.home / "token.json").read_bytes()
    _, err = desk.log_in(action="deny", code=77)
    assert "the login was denied" in err
    assert (desk.home / "token.json").read_bytes() == before


def test_no_browser_here_is_noticed_without_being_told(desk: Desk) -> None:
    _, err = desk.run("login", "--credentials", "client.json", "--patience", "0.3", code=77)
    assert "ssh -N -L" in err and "nobody answered" in err and "http://127.0.0.1:" in err


def test_a_browser_that_cannot_be_started_leads_to_the_recipe(desk: Desk) -> None:
    _, err = desk.run(
        "login", "--credentials", "client.json", "--patience", "1", code=77, BROWSER="/nonexistent/browser %s"
    )
    assert "No browser could be opened here" in err and "ssh -N -L" in err


def test_a_taken_port_is_named(desk: Desk) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        _, err = desk.run("login", "--credentials", "client.json", "--port", str(port), code=78)
    assert f"port {port} of this machine" in err and "--port" in err
