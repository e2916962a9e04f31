"""The login: its file, its refresh, and a sentence for each way it can fail."""

from __future__ import annotations

import datetime
import json
import os
import stat
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock

from driveshard.config.settings import Settings
from driveshard.core.clock import Clock
from driveshard.core.errors import AuthError, ConfigError, Unavailable
from driveshard.emulator import Emulator
from driveshard.storage.drive import credentials as auth
from driveshard.storage.drive.client import GOOGLE, DriveClient
from driveshard.storage.drive.credentials import StoredCredentials, read_token, write_token
from driveshard.storage.drive.oauth_client import read_client

EXAMPLE = Path(__file__).parents[3] / "credentials.example.json"
CLIENT = {
    "client_id": "123-abc.apps.googleusercontent.com",
    "client_secret": "shh",
    "auth_uri": "https://accounts.google.com/o/oauth2/auth",
    "token_uri": "https://oauth2.googleapis.com/token",
}


def stored(path: Path, token_uri: str, *, expired: bool = False, **changes: Any) -> StoredCredentials:
    """A login as it lies in the token file, read back."""
    hours = -1 if expired else 1
    expiry = datetime.datetime.now(datetime.UTC) + datetime.timedelta(hours=hours)
    document = {
        "token": "old-token",
        "refresh_token": "refresh",
        "token_uri": token_uri,
        "client_id": "id",
        "client_secret": "secret",
        "scopes": ["https://www.googleapis.com/auth/drive.file"],
        "expiry": expiry.strftime("%Y-%m-%dT%H:%M:%S.%fZ"),
        **changes,
    }
    path.write_text(json.dumps(document))
    return read_token(path)


@pytest.fixture
def token_file(home: Path) -> Path:
    return home / "token.json"


@pytest.fixture
def client(emulator: Emulator) -> Iterator[Callable[[Any], DriveClient]]:
    made: list[DriveClient] = []

    def make(credentials: Any) -> DriveClient:
        made.append(DriveClient(f"{emulator.url}/", credentials, Clock(), timeout=5))
        return made[-1]

    yield make
    for one in made:
        one.close()


# -- the token file ------------------------------------------------------------------------------------------------


def test_a_login_comes_back_as_it_was_written(token_file: Path) -> None:
    login = stored(token_file, "https://oauth2.googleapis.com/token")
    write_token(token_file, login)
    again = read_token(token_file)
    for name in ("token", "refresh_token", "token_uri", "client_id", "client_secret", "scopes", "expiry"):
        assert getattr(again, name) == getattr(login, name)
    assert again.expiry.tzinfo is None
    assert again.valid
    assert again.store == token_file


@pytest.mark.skipif(os.name == "nt", reason="Windows has no mode bits")
def test_only_its_owner_can_read_it(token_file: Path) -> None:
    login = stored(token_file, "x")
    token_file.chmod(0o644)
    before = os.umask(0)
    try:
        write_token(token_file, login)
    finally:
        os.umask(before)
    assert stat.S_IMODE(token_file.stat().st_mode) == 0o600


def test_it_is_written_whole_or_not_at_all(token_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    login = stored(token_file, "x")
    before = token_file.read_bytes()

    def full(handle: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        write_token(token_file, login)
    assert token_file.read_bytes() == before
    assert [one.name for one in token_file.parent.iterdir()] == [token_file.name]


def test_what_a_crash_left_is_not_in_the_way(token_file: Path) -> None:
    login = stored(token_file, "x")
    (token_file.parent / f".{token_file.name}.{os.getpid()}.{threading.get_ident()}").write_text("half")
    write_token(token_file, login)
    assert read_token(token_file).token == "old-token"


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b'"x"',
        b"{}",
        b"\xff\xfe",
        b'{"refresh_token": "x"}',
        b'{"refresh_token": "r", "token_uri": "u", "client_id": "i", "client_secret": "s", "expiry": "yesterday"}',
        b'{"refresh_token": "r", "token_uri": "u", "client_id": "i", "client_secret": "s", "expiry": 5}',
        b"[" * 5000,
    ],
)
def test_a_damaged_token_file_means_to_log_in_again(token_file: Path, content: bytes) -> None:
    token_file.write_bytes(content)
    with pytest.raises(AuthError) as caught:
        auth.credentials_for(GOOGLE, Settings(token_file.parent))
    assert str(token_file) in str(caught.value)
    assert "driveshard login" in caught.value.advice


# -- refreshing ----------------------------------------------------------------------------------------------------


def test_an_expired_login_is_renewed_and_written_back(
    emulator: Emulator, token_file: Path, client: Callable[[Any], DriveClient]
) -> None:
    login = stored(token_file, f"{emulator.url}/token", expired=True)
    drive = client(login)

    drive.execute(drive.about.get(fields="user"))

    assert login.token not in (None, "old-token")
    again = read_token(token_file)
    assert (again.token, again.refresh_token, again.valid) == (login.token, "refresh", True)


def test_a_login_that_drive_refuses_is_renewed(
    emulator: Emulator, token_file: Path, client: Callable[[Any], DriveClient]
) -> None:
    login = stored(token_file, f"{emulator.url}/token")
    drive = client(login)
    emulator.set_faults("401-expired")

    with pytest.raises(Unavailable):
        drive.execute(drive.about.get(fields="user"))
    drive.execute(drive.about.get(fields="user"))

    assert read_token(token_file).token == login.token != "old-token"


def test_many_threads_renew_it_once(
    emulator: Emulator, token_file: Path, client: Callable[[Any], DriveClient], monkeypatch: pytest.MonkeyPatch
) -> None:
    login = stored(token_file, f"{emulator.url}/token", expired=True)
    drive = client(login)
    written: list[str] = []
    monkeypatch.setattr(auth, "write_token", lambda path, credentials: written.append(credentials.token))
    meet = threading.Barrier(4)

    def work() -> None:
        meet.wait(5)
        drive.execute(drive.about.get(fields="user"))

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert written == [login.token]


def test_a_login_that_was_taken_back_says_to_log_in_again(
    emulator: Emulator, token_file: Path, client: Callable[[Any], DriveClient]
) -> None:
    login = stored(token_file, f"{emulator.url}/token", expired=True, refresh_token="revoked")
    emulator.drive.store.database.put("tokens", "revoked", {"kind": "refused"})
    drive = client(login)
    with pytest.raises(AuthError, match="expired or revoked") as caught:
        drive.execute(drive.about.get(fields="user"))
    assert "driveshard login" in caught.value.advice


def test_a_login_service_that_does_not_answer_may_be_asked_again(
    emulator: Emulator, token_file: Path, client: Callable[[Any], DriveClient]
) -> None:
    drive = client(stored(token_file, "http://127.0.0.1:9/token", expired=True))
    with pytest.raises(Unavailable):
        drive.execute(drive.about.get(fields="user"))


def test_a_token_file_that_cannot_be_written_does_not_stop_the_run(
    emulator: Emulator, token_file: Path, client: Callable[[Any], DriveClient]
) -> None:
    login = stored(token_file, f"{emulator.url}/token", expired=True)
    login.store = token_file / "not a folder" / "token.json"
    drive = client(login)
    assert "user" in drive.execute(drive.about.get(fields="user"))


def test_a_login_that_another_process_renewed_is_taken_over(
    emulator: Emulator, token_file: Path, client: Callable[[Any], DriveClient]
) -> None:
    login = stored(token_file, f"{emulator.url}/token", expired=True, client_id="same")
    stored(token_file, f"{emulator.url}/token", token="theirs", client_id="same")
    drive = client(login)
    drive.execute(drive.about.get(fields="user"))
    assert login.token == "theirs" and login.valid
    assert [one for one in emulator.log() if one["path"] == "/token"] == []


def test_processes_renew_it_one_after_the_other(
    emulator: Emulator, token_file: Path, client: Callable[[Any], DriveClient]
) -> None:
    login = stored(token_file, f"{emulator.url}/token", expired=True)
    drive = client(login)
    with FileLock(f"{token_file}.lock"):
        thread = threading.Thread(target=lambda: drive.execute(drive.about.get(fields="user")))
        thread.start()
        thread.join(0.3)
        assert thread.is_alive() and login.token == "old-token"
    thread.join(10)
    assert read_token(token_file).token == login.token != "old-token"


@pytest.mark.parametrize(("age", "said"), [(7, "7 days ago"), (2, "taken back")])
def test_a_login_that_is_over_says_whose_and_since_when(
    age: int, said: str, emulator: Emulator, token_file: Path, client: Callable[[Any], DriveClient]
) -> None:
    since = datetime.datetime.now(datetime.UTC) - datetime.timedelta(days=age, hours=1)
    login = stored(
        token_file,
        f"{emulator.url}/token",
        expired=True,
        refresh_token="old",
        account="me@example.org",
        since=since.strftime("%Y-%m-%dT%H:%M:%SZ"),
    )
    emulator.drive.store.database.put("tokens", "old", {"kind": "refused"})
    drive = client(login)
    with pytest.raises(AuthError, match=r"login of me@example\.org is no longer valid") as caught:
        drive.execute(drive.about.get(fields="user"))
    assert said in caught.value.advice and "Run `driveshard login`" in caught.value.advice
    assert ("Publish app" in caught.value.advice) == (age == 7)


def test_an_emulator_gets_its_own_login_and_nobody_elses(emulator: Emulator, token_file: Path) -> None:
    settings = Settings(token_file.parent)
    stored(token_file, "https://oauth2.googleapis.com/token")
    assert auth.credentials_for(f"{emulator.url}/", settings).token == "emulator"
    stored(token_file, f"{emulator.url}/token")
    assert auth.credentials_for(f"{emulator.url}/", settings).token == "old-token"
    assert auth.credentials_for("http://127.0.0.1:9/", settings).token == "emulator"


# -- the OAuth client's file ---------------------------------------------------------------------------------------


def test_a_desktop_clients_file_is_read(tmp_path: Path) -> None:
    path = tmp_path / "credentials.json"
    path.write_text(json.dumps({"installed": CLIENT}))
    assert read_client(path).client_id == CLIENT["client_id"]


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (None, "there is no OAuth client file"),
        (b"{", "not a JSON file"),
        (b"\xff\xff", "not a JSON file"),
        (json.dumps({"web": CLIENT}).encode(), "Web application"),
        (json.dumps({"type": "service_account", "private_key": "x"}).encode(), "service account"),
        (json.dumps({"refresh_token": "r", "client_id": "i"}).encode(), "a stored login"),
        (json.dumps({"installed": {**CLIENT, "token_uri": "http://example.org/token"}}).encode(), "not an https"),
        (json.dumps({"installed": {**CLIENT, "auth_uri": "javascript:alert(1)"}}).encode(), "not an https"),
        (b"[" * 100_000, "not a JSON file"),
        (json.dumps({"installed": {}}).encode(), "not a desktop OAuth client"),
        (json.dumps({"installed": {**CLIENT, "client_secret": None}}).encode(), "not a desktop OAuth client"),
        (b"[]", "not a desktop OAuth client"),
        (EXAMPLE.read_bytes(), "is the example"),
    ],
)
def test_what_is_wrong_with_the_clients_file_is_said(tmp_path: Path, content: bytes | None, says: str) -> None:
    path = tmp_path / "credentials.json"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ConfigError, match=says) as caught:
        read_client(path)
    assert str(path) in str(caught.value)
    assert caught.value.advice
    assert "shh" not in str(caught.value)


@pytest.mark.parametrize("content", [b"{}", b"nonsense", b'{"type": "service_account"}'])
def test_a_broken_service_account_key_is_said_to_be_one(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "key.json"
    path.write_bytes(content)
    with pytest.raises(ConfigError, match="service account"):
        auth.credentials_for(GOOGLE, Settings(tmp_path, service_account=path))
