"""Logging in against the emulator's consent page: the ways that end well, and a sentence and a page for the others."""

from __future__ import annotations

import json
import re
import socket
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

import pytest

from driveshard.core.clock import Clock
from driveshard.core.errors import AuthError, ConfigError, DriveshardError, Interrupted, Unavailable, UsageError
from driveshard.emulator import Emulator
from driveshard.storage.drive.credentials import SCOPES, StoredCredentials
from driveshard.storage.drive.login import Login, log_out
from driveshard.storage.drive.login_server import LoginServer
from driveshard.storage.drive.oauth_client import OAuthClient
from driveshard.storage.drive.token_service import TokenService

FILE = SCOPES["drive.file"]


class Hurry(Clock):
    """Nobody waits for a service to come back, and the seconds count."""

    def __init__(self) -> None:
        super().__init__()
        self.slept = 0.0

    def monotonic(self) -> float:
        return time.monotonic() + self.slept

    def sleep(self, seconds: float) -> None:
        self.check()
        self.slept += seconds


@dataclass
class Person:
    """Reads what is said, opens the address and clicks; keeps the pages that were shown."""

    emulator: Emulator
    act: Callable[[Person, str], None]
    said: list[str] = field(default_factory=list)
    pages: list[tuple[int, str]] = field(default_factory=list)
    threads: list[threading.Thread] = field(default_factory=list)

    def hear(self, text: str) -> None:
        self.said.append(text)
        for address in re.findall(r"http://\S+/auth\?\S+", text):
            self.threads.append(threading.Thread(target=self.act, args=(self, address)))
            self.threads[-1].start()

    def get(self, address: str, form: dict[str, Any] | None = None) -> str:
        data = urlencode(form, doseq=True).encode() if form else None
        try:
            with urllib.request.urlopen(urllib.request.Request(address, data), timeout=20) as reply:
                self.pages.append((reply.status, reply.read().decode()))
        except urllib.error.HTTPError as error:
            with error:
                self.pages.append((error.code, error.read().decode()))
        return self.pages[-1][1]

    def decide(self, address: str, action: str = "allow", scopes: tuple[str, ...] | None = None) -> None:
        shown = self.get(address)
        request = re.search(r'name="request" value="([^"]+)"', shown)
        assert request
        ticked = re.findall(r'name="scope" value="([^"]+)"', shown) if scopes is None else scopes
        self.get(f"{self.emulator.url}/consent", {"request": request[1], "action": action, "scope": ticked})


Begin = Callable[..., tuple[Login, Person]]


@pytest.fixture
def careful(tmp_path: Path) -> Iterator[Emulator]:
    with Emulator(tmp_path / "drive", consent=True) as running:
        yield running


@pytest.fixture
def begin(careful: Emulator) -> Iterator[Begin]:
    people: list[Person] = []

    def make(act: Callable[[Person, str], None] = Person.decide, **options: Any) -> tuple[Login, Person]:
        client = OAuthClient("id", "secret", f"{careful.url}/auth", f"{careful.url}/token")
        person = Person(careful, act)
        people.append(person)
        return Login(client, options.pop("clock", Hurry()), person.hear, timeout=5, **options), person

    yield make
    for person in people:
        for thread in person.threads:
            thread.join(20)


def answer_of(address: str, **query: str) -> str:
    """Where the consent page would send the browser back to."""
    asked = parse_qs(urlsplit(address).query)
    return f"{asked['redirect_uri'][0]}?{urlencode({'state': asked['state'][0], **query})}"


# -- what goes well --------------------------------------------------------------------------------------------------


def test_allowed(begin: Begin, careful: Emulator) -> None:
    way, person = begin()
    found = way.in_browser("drive.file", browser=False)
    assert (found.account, found.scopes, found.valid) == ("owner@emulator.invalid", [FILE], True)
    assert found.refresh_token and found.since
    person.threads[0].join(10)
    assert person.pages[-1][0] == 200 and "may use the Drive of owner@emulator.invalid now" in person.pages[-1][1]
    assert "secret" not in "".join(person.said)


def test_the_code_is_of_no_use_without_the_proof(begin: Begin, careful: Emulator) -> None:
    way, person = begin(lambda person, address: person.get(answer_of(address, error="access_denied")))
    with pytest.raises(AuthError):
        way.in_browser("drive.file", browser=False)
    asked = parse_qs(urlsplit(person.said[0].rpartition("\n")[2]).query)
    assert asked["code_challenge_method"] == ["S256"] and len(asked["code_challenge"][0]) == 43
    assert asked["access_type"] == ["offline"] and asked["prompt"] == ["consent"]


def test_what_browsers_ask_beside_ends_nothing(begin: Begin) -> None:
    def act(person: Person, address: str) -> None:
        here = answer_of(address).partition("?")[0]
        waiting = socket.create_connection((urlsplit(here).hostname, urlsplit(here).port))  # says nothing
        for path in ("favicon.ico", "", "robots.txt", "?x=1", "?state=other&code=4/abc", "?state=other&error=x"):
            person.get(here + path)
        person.decide(address)
        waiting.close()

    way, person = begin(act)
    assert way.in_browser("drive.file", browser=False).account
    person.threads[0].join(10)
    assert [status for status, _ in person.pages[:6]] == [404, 404, 404, 404, 400, 400]
    assert "may use" not in "".join(text for _, text in person.pages[:6])


def test_a_fixed_port_is_used_and_the_recipe_names_it(begin: Begin) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    way, person = begin()
    way.in_browser("drive.file", port=port, browser=False)
    assert f"ssh -N -L {port}:127.0.0.1:{port} " in person.said[0]
    assert f"redirect_uri=http%3A%2F%2F127.0.0.1%3A{port}%2F" in person.said[0]


def test_a_service_that_is_down_for_a_moment_costs_nothing(begin: Begin, careful: Emulator) -> None:
    careful.set_faults("503:token,drop:token@1")
    way, _ = begin()
    assert way.in_browser("drive.file", browser=False).valid


# -- what does not ---------------------------------------------------------------------------------------------------


def no_refresh(person: Person, address: str) -> None:
    person.decide(address.replace("access_type=offline", "access_type=online"))


def other_scope(person: Person, address: str) -> None:
    person.decide(address.replace("drive.file", "drive.readonly"))


def unticked(person: Person, address: str) -> None:
    both = address.replace("drive.file", "drive.file+openid")
    person.decide(both, scopes=("openid",))


WRONG: dict[str, tuple[Callable[[Person, str], Any], type[DriveshardError], str, str]] = {
    "denied": (lambda person, address: person.decide(address, "deny"), AuthError, "was denied", "login` again"),
    "another scope": (other_scope, AuthError, "without the right that was asked for", "tick the box"),
    "an unticked box": (unticked, AuthError, "without the right that was asked for", "tick the box"),
    "no refresh token": (no_refresh, AuthError, "no refresh token", "myaccount.google.com/permissions"),
    "an old code": (
        lambda person, address: person.get(answer_of(address, code="4/old")),
        AuthError,
        "did not grant the login",
        "login` again",
    ),
    "a policy": (
        lambda person, address: person.get(answer_of(address, error="admin_policy_enforced")),
        AuthError,
        "admin_policy_enforced",
        "login` again",
    ),
    "a client that was deleted": (
        lambda person, address: person.get(answer_of(address, error="deleted_client")),
        ConfigError,
        "does not take this OAuth client",
        "console.cloud.google.com",
    ),
}


@pytest.mark.parametrize("what", WRONG)
def test_each_trap_has_its_sentence_and_its_page(begin: Begin, what: str) -> None:
    act, kind, says, advice = WRONG[what]
    way, person = begin(act)
    with pytest.raises(kind, match=re.escape(says)) as caught:
        way.in_browser("drive.file", browser=False)
    assert advice in caught.value.advice
    person.threads[0].join(10)
    status, text = person.pages[-1]
    assert status == 400 and "may not use your Drive" in text and "may use" not in text


def test_a_service_that_stays_down(begin: Begin, careful: Emulator) -> None:
    careful.set_faults("503:token*9")
    way, person = begin()
    with pytest.raises(Unavailable, match="does not work at the moment \\(503\\)") as caught:
        way.in_browser("drive.file", browser=False)
    assert caught.value.exit_code == 69 and "login" in caught.value.advice
    person.threads[0].join(10)
    assert "does not work at the moment" in person.pages[-1][1]


def test_nobody_answers(begin: Begin) -> None:
    way, person = begin(lambda *_: None, patience=0.3, clock=Clock())
    with pytest.raises(AuthError, match=r"nobody answered .* within 1 s") as caught:
        way.in_browser("drive.file", browser=False)
    assert "--no-browser" in caught.value.advice
    assert any("Waiting for your browser's answer" in text for text in person.said)


def test_a_stop_is_heard_while_waiting(begin: Begin) -> None:
    clock = Clock()
    way, _ = begin(lambda *_: clock.stop.set(), clock=clock)
    with pytest.raises(Interrupted):
        way.in_browser("drive.file", browser=False)


def test_a_taken_port_is_named_with_a_way_out() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(ConfigError, match=f"port {port} ") as caught:
            LoginServer(port)
    assert "--port" in caught.value.advice


def test_an_unknown_scope_is_wrong_usage(begin: Begin) -> None:
    way, person = begin()
    for run in (lambda: way.in_browser("everything"), lambda: way.on_device("drive")):
        with pytest.raises(UsageError) as caught:
            run()
        assert "drive.file" in caught.value.advice
    assert person.said == []


def test_an_answer_that_is_no_login_is_not_taken_for_one(careful: Emulator) -> None:
    client = OAuthClient("id", "secret", "", "http://127.0.0.1:9/token")
    service = TokenService(client, Hurry(), 1.0)
    for answer in ({}, {"access_token": 5}, {"access_token": ""}):
        with pytest.raises(Unavailable, match="not Google's login service"):
            service.login_from(answer, FILE)
    with pytest.raises(Unavailable, match=r"127\.0\.0\.1:9 cannot be reached"):
        service.redeem({"code": "4/secret"}, FILE)
    with pytest.raises(Unavailable, match="not Google's login service"):
        service.post(f"{careful.url}/device?user_code=x", {"user_code": "y"})


# -- devices ---------------------------------------------------------------------------------------------------------


def type_code(person: Person, action: str) -> Callable[[str], None]:
    def hear(text: str) -> None:
        person.said.append(text)
        found = re.search(r"open (\S+) and type this code:\s+(\S+)", text)
        if found:
            person.get(found[1], {"user_code": found[2], "action": action})

    return hear


@pytest.mark.parametrize("action", ["allow", "deny"])
def test_a_device(begin: Begin, action: str) -> None:
    way, person = begin()
    way = Login(way.client, way.clock, type_code(person, action), timeout=5)
    if action == "deny":
        with pytest.raises(AuthError, match="was denied"):
            way.on_device("drive.file")
        return
    found = way.on_device("drive.file")
    assert (found.account, found.scopes) == ("owner@emulator.invalid", [FILE])


def test_nobody_types_the_code(begin: Begin, careful: Emulator) -> None:
    way, person = begin(patience=40)
    with pytest.raises(AuthError, match="nobody typed the code"):
        way.on_device("drive.file")
    polls = [one for one in careful.log() if one["path"] == "/token"]
    assert 8 <= len(polls) <= 9  # every five seconds, as the service asked
    assert sum("Waiting for the code" in text for text in person.said) == 2


# -- taking it back --------------------------------------------------------------------------------------------------


def test_a_login_is_taken_back(begin: Begin, careful: Emulator) -> None:
    way, _ = begin()
    found = way.in_browser("drive.file", browser=False)
    log_out(found, Clock(), 5)
    request = urllib.request.Request(
        f"{careful.url}/drive/v3/about?fields=user", headers={"Authorization": f"Bearer {found.token}"}
    )
    with pytest.raises(urllib.error.HTTPError) as caught:
        urllib.request.urlopen(request, timeout=5)
    with caught.value as refused:
        assert refused.code == 401 and json.loads(refused.read())
    log_out(found, Clock(), 5)  # twice is fine


def test_a_login_cannot_be_taken_back_without_a_network() -> None:
    login = StoredCredentials(token="t", refresh_token="r", token_uri="http://127.0.0.1:9/token", client_id="c")
    with pytest.raises(Unavailable):
        log_out(login, Clock(), 1)
