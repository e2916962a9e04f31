"""Logins: the consent page, proofs, scopes, lifetimes, devices."""

from __future__ import annotations

import base64
import hashlib
import http.client
import re
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

import pytest

from driveshard.emulator import Emulator

from .client import FILES, FOLDER, Answer, Client
from .conftest import Start

AUTH = "/o/oauth2/v2/auth"
FILE = "https://www.googleapis.com/auth/drive.file"
READONLY = "https://www.googleapis.com/auth/drive.readonly"
HERE = "http://localhost:8080/"
VERIFIER = "v" * 64
CHALLENGE = base64.urlsafe_b64encode(hashlib.sha256(VERIFIER.encode()).digest()).decode().rstrip("=")


@pytest.fixture
def careful(start: Start) -> Emulator:
    return start(consent=True, refresh_days=7)


@pytest.fixture
def browser(careful: Emulator) -> Client:
    return Client(careful.url, auth={})


def post(client: Client, path: str, **form: Any) -> Answer:
    return client("POST", path, urlencode(form, doseq=True).encode())


def given(answer: Answer) -> dict[str, str]:
    assert answer.status == 302 and answer.headers["Location"].startswith(HERE)
    return {key: values[0] for key, values in parse_qs(urlsplit(answer.headers["Location"]).query).items()}


def decide(browser: Client, action: str = "allow", untick: tuple[str, ...] = (), **query: str) -> dict[str, str]:
    """Opens the consent page and clicks; what the application is told."""
    asked = {"client_id": "c", "redirect_uri": HERE, "state": "s", "scope": FILE, **query}
    shown = browser.get(AUTH, **asked)
    assert shown.status == 200 and shown.headers["Content-Type"].startswith("text/html")
    text = shown.body.decode()
    assert 'action="/consent"' in text and 'id="allow"' in text
    scopes = re.findall(r'name="scope" value="([^"]+)" checked', text)
    assert scopes == asked["scope"].split()
    request = re.search(r'name="request" value="([^"]+)"', text)
    assert request
    ticked = [scope for scope in scopes if scope not in untick]
    return given(post(browser, "/consent", request=request[1], action=action, scope=ticked))


def redeem(browser: Client, code: str, **form: str) -> Answer:
    return post(browser, "/token", grant_type="authorization_code", code=code, **form)


def as_user(emulator: Emulator, token: str) -> Client:
    return Client(emulator.url, auth={"Authorization": f"Bearer {token}"})


def test_allow(browser: Client, careful: Emulator) -> None:
    told = decide(browser, code_challenge=CHALLENGE, code_challenge_method="S256")
    assert (told["state"], told["scope"]) == ("s", FILE)
    tokens = redeem(browser, told["code"], code_verifier=VERIFIER, redirect_uri=HERE).json
    assert (tokens["scope"], tokens["token_type"], tokens["expires_in"]) == (FILE, "Bearer", 3600)
    assert as_user(careful, tokens["access_token"])("POST", FILES, {"name": "f", "mimeType": FOLDER}).status == 200


def test_deny(browser: Client) -> None:
    assert decide(browser, "deny") == {"error": "access_denied", "state": "s"}
    assert decide(browser, untick=(FILE,)) == {"error": "access_denied", "state": "s"}


def test_an_unticked_box_is_a_scope_less(browser: Client, careful: Emulator) -> None:
    told = decide(browser, untick=(FILE,), scope=f"openid {FILE} {READONLY}")
    assert told["scope"] == f"openid {READONLY}"
    tokens = redeem(browser, told["code"]).json
    assert tokens["scope"] == f"openid {READONLY}"
    mine = as_user(careful, tokens["access_token"])
    assert mine.get(FILES).status == 200
    refused = mine("POST", FILES, {"name": "f", "mimeType": FOLDER})
    assert (refused.status, refused.reason) == (403, "insufficientPermissions")
    assert refused.json["error"]["details"][0]["reason"] == "ACCESS_TOKEN_SCOPE_INSUFFICIENT"
    told = decide(browser, untick=(FILE, READONLY), scope=f"openid {FILE} {READONLY}")
    nobody = as_user(careful, redeem(browser, told["code"]).json["access_token"])
    assert (nobody.get(FILES).status, nobody.get("/oauth2/v3/userinfo").status) == (403, 200)


@pytest.mark.parametrize("form", [{}, {"code_verifier": "w" * 64}, {"code_verifier": VERIFIER, "redirect_uri": "x"}])
def test_a_code_needs_its_proof(browser: Client, form: dict[str, str]) -> None:
    told = decide(browser, code_challenge=CHALLENGE, code_challenge_method="S256")
    answer = redeem(browser, told["code"], **form)
    assert answer.status == 400 and answer.json["error"] in ("invalid_grant", "redirect_uri_mismatch")
    assert redeem(browser, told["code"], code_verifier=VERIFIER).status == 200
    assert redeem(browser, told["code"], code_verifier=VERIFIER).json["error"] == "invalid_grant"


def test_codes_and_pages_grow_old(browser: Client) -> None:
    told = decide(browser)
    page = browser.get(AUTH, redirect_uri=HERE).body.decode()
    browser("POST", "/_emulator/clock", {"advance": 601})
    assert redeem(browser, told["code"]).status == 400
    request = re.search(r'name="request" value="([^"]+)"', page)
    assert request
    assert post(browser, "/consent", request=request[1], action="allow", scope=FILE).status == 400


@pytest.mark.parametrize(
    "query",
    [
        {},
        {"redirect_uri": "urn:ietf:wg:oauth:2.0:oob"},
        {"redirect_uri": "http://example.com/"},
        {"redirect_uri": HERE, "response_type": "token"},
        {"redirect_uri": HERE, "code_challenge_method": "MD5"},
    ],
)
def test_wrong_requests_end_on_a_page(browser: Client, query: dict[str, str]) -> None:
    answer = browser.get(AUTH, **query)
    assert (answer.status, b"Error 400: " in answer.body) == (400, True)
    assert "Location" not in answer.headers


def test_a_refresh_token_dies_after_its_days(browser: Client, careful: Emulator) -> None:
    tokens = redeem(browser, decide(browser)["code"]).json
    refresh = {"grant_type": "refresh_token", "refresh_token": tokens["refresh_token"]}
    browser("POST", "/_emulator/clock", {"advance": 7 * 86400 - 60})
    assert as_user(careful, tokens["access_token"]).get(FILES).status == 401
    fresh = post(browser, "/token", **refresh).json
    assert fresh["scope"] == FILE and "refresh_token" not in fresh
    assert as_user(careful, fresh["access_token"]).get(FILES).status == 200
    browser("POST", "/_emulator/clock", {"advance": 120})
    dead = post(browser, "/token", **refresh)
    assert (dead.status, dead.json) == (
        400,
        {"error": "invalid_grant", "error_description": "Token has been expired or revoked."},
    )


def test_a_login_without_refresh_token(browser: Client) -> None:
    tokens = redeem(browser, decide(browser, access_type="online")["code"]).json
    assert "refresh_token" not in tokens


@pytest.mark.parametrize("which", ["access_token", "refresh_token"])
def test_revoking_one_token_revokes_the_login(browser: Client, careful: Emulator, which: str) -> None:
    first, second = (redeem(browser, decide(browser)["code"]).json for _ in range(2))
    assert post(browser, "/revoke", token=first[which]).status == 200
    assert as_user(careful, first["access_token"]).get(FILES).status == 401
    refresh = post(browser, "/token", grant_type="refresh_token", refresh_token=first["refresh_token"])
    assert refresh.json["error"] == "invalid_grant"
    assert as_user(careful, second["access_token"]).get(FILES).status == 200
    assert post(browser, "/revoke", token="nobody's").json["error"] == "invalid_token"


def test_whose_token_it_is(browser: Client, careful: Emulator) -> None:
    token = redeem(browser, decide(browser, scope=f"{FILE} openid email profile")["code"]).json["access_token"]
    mine = as_user(careful, token)
    told = mine.get("/oauth2/v3/userinfo").json
    assert told["email"] == "owner@emulator.invalid" and told["name"] and told["sub"]
    assert browser.get("/tokeninfo", access_token=token).json["scope"] == f"{FILE} openid email profile"
    assert browser.get("/oauth2/v3/userinfo").status == 401
    plain = as_user(careful, redeem(browser, decide(browser)["code"]).json["access_token"])
    assert plain.get("/oauth2/v3/userinfo").status == 403


def begin_device(browser: Client, scope: str = FILE) -> dict[str, Any]:
    begun: dict[str, Any] = post(browser, "/device/code", client_id="c", scope=scope).json
    return begun


def poll(browser: Client, begun: dict[str, Any]) -> Answer:
    grant = "urn:ietf:params:oauth:grant-type:device_code"
    return post(browser, "/token", grant_type=grant, device_code=begun["device_code"])


def test_a_device(browser: Client, careful: Emulator) -> None:
    begun = begin_device(browser)
    assert begun["verification_url"] == f"{careful.url}/device"
    waiting = poll(browser, begun)
    assert (waiting.status, waiting.json["error"]) == (428, "authorization_pending")
    shown = browser.get("/device", user_code=begun["user_code"])
    assert f'value="{begun["user_code"]}"' in shown.body.decode()
    assert post(browser, "/device", user_code="AAAA-AAAA", action="allow").status == 400
    assert post(browser, "/device", user_code=begun["user_code"].lower(), action="allow").status == 200
    tokens = poll(browser, begun).json
    assert tokens["refresh_token"] and as_user(careful, tokens["access_token"]).get(FILES).status == 200
    assert poll(browser, begun).json["error"] == "invalid_grant"


def test_a_device_is_refused_or_waits_too_long(browser: Client) -> None:
    denied, forgotten = begin_device(browser), begin_device(browser)
    post(browser, "/device", user_code=denied["user_code"], action="deny")
    assert (poll(browser, denied).status, poll(browser, denied).json["error"]) == (403, "access_denied")
    browser("POST", "/_emulator/clock", {"advance": 1801})
    assert poll(browser, forgotten).json["error"] == "expired_token"


@pytest.mark.parametrize("scope", ["https://www.googleapis.com/auth/drive", f"{FILE} {READONLY}", ""])
def test_a_device_gets_few_scopes(browser: Client, scope: str) -> None:
    answer = post(browser, "/device/code", client_id="c", scope=scope)
    assert (answer.status, answer.json["error"]) == (400, "invalid_scope")


def test_without_consent_a_device_waits_once(client: Client) -> None:
    begun = begin_device(client)
    assert poll(client, begun).status == 428
    assert poll(client, begun).json["scope"] == FILE


def test_the_token_service_can_be_down(client: Client, emulator: Emulator) -> None:
    emulator.set_faults("503:token,drop:token@1")
    form = {"grant_type": "refresh_token", "refresh_token": "r"}
    assert post(client, "/token", **form).status == 503
    with pytest.raises((ConnectionResetError, http.client.RemoteDisconnected)):
        post(client, "/token", **form)
    assert post(client, "/token", **form).status == 200
