"""Who may do what: tokens, keys, sharing, OAuth, and the pages anybody may open."""

from __future__ import annotations

import base64
import json
from urllib.parse import parse_qs, urlencode, urlsplit

import pytest

from driveshard.emulator import Emulator
from driveshard.emulator.pages import human_size

from .client import FILES, FOLDER, UPLOAD, Client
from .conftest import Start


@pytest.fixture
def anonymous(emulator: Emulator) -> Client:
    return Client(emulator.url, auth={})


@pytest.mark.parametrize(("missing", "body"), [("type", {"role": "reader"}), ("role", {"type": "anyone"})])
def test_a_permission_needs_type_and_role(client: Client, missing: str, body: dict[str, str]) -> None:
    answer = client("POST", f"{FILES}/{client.folder()}/permissions", body)
    error = answer.json["error"]["errors"][0]
    assert (answer.status, error["reason"], error["locationType"]) == (400, "required", "other")
    assert error["location"] == f"permission.{missing}"


def test_only_the_given_key_is_one(start: Start) -> None:
    emulator = start(api_key="AIza-good")
    client, anonymous = Client(emulator.url), Client(emulator.url, auth={})
    folder = client.folder()
    client.share(folder)
    assert anonymous.get(f"{FILES}/{folder}", key="AIza-good").status == 200
    for bad in (anonymous.get(f"{FILES}/{folder}", key="k"), anonymous.get("/drive/v3/about", fields="*", key="k")):
        assert (bad.status, bad.reason) == (400, "badRequest")
        assert bad.json["error"]["message"] == "API key not valid. Please pass a valid API key."
    assert anonymous("GET", f"{FILES}/{folder}", headers={"X-Goog-Api-Key": "k"}).status == 400
    assert client.get(f"{FILES}/{folder}").status == 200


def test_only_the_given_token_is_good(start: Start) -> None:
    emulator = start(token="right")
    right, wrong = (Client(emulator.url, auth={"Authorization": f"Bearer {word}"}) for word in ("right", "emulator"))
    assert right.get(f"{FILES}/root").status == 200
    for answer in (wrong.get(f"{FILES}/root"), wrong("POST", UPLOAD, {}, uploadType="resumable")):
        assert (answer.status, answer.reason) == (401, "authError")
    session = right.begin(1, name="a")
    assert wrong("PUT", session, b"x").status == 401
    issued = wrong("POST", "/token", b"grant_type=refresh_token&refresh_token=r").json["access_token"]
    assert Client(emulator.url, auth={"Authorization": f"Bearer {issued}"}).get(f"{FILES}/root").status == 200


def test_permissions(client: Client) -> None:
    folder = client.folder()
    expected = {
        "kind": "drive#permission",
        "id": "anyoneWithLink",
        "type": "anyone",
        "role": "reader",
        "allowFileDiscovery": False,
    }
    for _ in range(2):
        made = client.share(folder)
        assert (made.status, made.json) == (200, expected)
    target = f"{FILES}/{folder}/permissions"
    assert {p["id"] for p in client.get(target).json["permissions"]} > {"anyoneWithLink"}
    assert len(client.get(target).json["permissions"]) == 2
    assert client.get(f"{target}/anyoneWithLink").json == expected
    assert client("PATCH", f"{target}/anyoneWithLink", {"role": "commenter"}).json["role"] == "commenter"
    assert client("DELETE", f"{target}/anyoneWithLink").status == 204
    assert client("DELETE", f"{target}/anyoneWithLink").status == 404
    assert client.get(f"{FILES}/{folder}", fields="shared").json == {"shared": False}


def test_other_grants(client: Client) -> None:
    target = f"{FILES}/{client.folder()}/permissions"
    user = client("POST", target, {"type": "user", "role": "writer", "emailAddress": "a@b.c"}).json
    assert client("POST", target, {"type": "user", "role": "reader", "emailAddress": "a@b.c"}).json["id"] == user["id"]
    assert client("POST", target, {"type": "domain", "role": "reader", "domain": "b.c"}).json["domain"] == "b.c"
    found = client("POST", target, {"type": "anyone", "role": "reader", "allowFileDiscovery": True}).json
    assert found["id"] == "anyone"


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"type": "anyone"},
        {"type": "anyone", "role": "owner"},
        {"type": "all", "role": "reader"},
        {"type": "user", "role": "reader"},
    ],
)
def test_bad_permissions(client: Client, body: dict[str, str]) -> None:
    assert client("POST", f"{FILES}/{client.folder()}/permissions", body).status == 400


def test_no_notification_for_anyone(client: Client) -> None:
    target = f"{FILES}/{client.folder()}/permissions?sendNotificationEmail=true"
    assert client("POST", target, {"type": "anyone", "role": "reader"}).status == 400


def test_an_api_key_reads_what_is_shared_and_nothing_else(client: Client, anonymous: Client) -> None:
    folder = client.folder("f", appProperties={"secret": "1"})
    file_id = client.upload(b"shared", name="a", parents=[folder])
    private = client.upload(b"private", name="b")
    q = f"'{folder}' in parents"
    assert anonymous.get(f"{FILES}/{file_id}", key="k").status == 404
    assert anonymous.get(FILES, q=q, key="k").json["files"] == []
    client.share(folder)
    assert anonymous.get(f"{FILES}/{file_id}", alt="media", key="k").body == b"shared"
    assert [f["name"] for f in anonymous.get(FILES, q=q, key="k").json["files"]] == ["a"]
    assert anonymous("GET", f"{FILES}/{file_id}", headers={"X-Goog-Api-Key": "k"}).status == 200
    assert "appProperties" not in anonymous.get(f"{FILES}/{folder}", fields="*", key="k").json
    assert anonymous.get(f"{FILES}/{private}", alt="media", key="k").status == 404
    refused = anonymous("PATCH", f"{FILES}/{file_id}?key=k", {"name": "x"})
    assert (refused.status, refused.reason) == (401, "required")


def test_neither_token_nor_key(client: Client, anonymous: Client) -> None:
    folder = client.folder()
    client.share(folder)
    refused = anonymous.get(f"{FILES}/{folder}")
    error = refused.json["error"]
    assert (refused.status, error["status"], "errors" in error) == (403, "PERMISSION_DENIED", False)
    assert error["message"].startswith("Method doesn't allow unregistered callers")
    for upload in ("resumable", "media", "multipart"):
        answer = anonymous("POST", UPLOAD, {}, uploadType=upload)
        assert (answer.status, answer.reason, answer.json["error"]["status"]) == (401, "required", "UNAUTHENTICATED")


def form(client: Client, **fields: str) -> object:
    return client("POST", "/token", urlencode(fields).encode()).json


def test_authorization_code(anonymous: Client, emulator: Emulator) -> None:
    answer = anonymous.get("/auth", redirect_uri="http://localhost:1/?x=1", state="s", scope="drive.file")
    assert answer.status == 302
    given = {key: values[0] for key, values in parse_qs(urlsplit(answer.headers["Location"]).query).items()}
    assert (given["x"], given["state"], given["scope"]) == ("1", "s", "drive.file")
    grant = {"grant_type": "authorization_code", "code": given["code"]}
    tokens = anonymous("POST", "/token", urlencode(grant).encode()).json
    assert tokens.keys() == {"access_token", "refresh_token", "expires_in", "scope", "token_type"}
    again = anonymous("POST", "/token", urlencode(grant).encode())
    assert (again.status, again.json["error"]) == (400, "invalid_grant")
    mine = Client(emulator.url, auth={"Authorization": f"Bearer {tokens['access_token']}"})
    assert mine.get(f"{FILES}/root").status == 200
    anonymous("POST", "/_emulator/clock", {"advance": 3601})
    assert (mine.get(f"{FILES}/root").status, mine.get(f"{FILES}/root").reason) == (401, "authError")
    refresh = {"grant_type": "refresh_token", "refresh_token": tokens["refresh_token"]}
    fresh = anonymous("POST", "/token", urlencode(refresh).encode()).json
    mine.auth = {"Authorization": f"Bearer {fresh['access_token']}"}
    assert mine.get(f"{FILES}/root").status == 200
    anonymous("POST", "/revoke", urlencode({"token": tokens["refresh_token"]}).encode())
    assert anonymous("POST", "/token", urlencode(refresh).encode()).json == {
        "error": "invalid_grant",
        "error_description": "Token has been expired or revoked.",
    }


@pytest.mark.parametrize(
    "body", [b"", b"grant_type=nope", b"grant_type=refresh_token", b"grant_type=authorization_code"]
)
def test_bad_grants(anonymous: Client, body: bytes) -> None:
    assert anonymous("POST", "/token", body).status == 400


@pytest.mark.parametrize(("claims", "may_store"), [({"iss": "robot"}, False), ({"iss": "robot", "sub": "me"}, True)])
def test_service_account(anonymous: Client, emulator: Emulator, claims: dict[str, str], may_store: bool) -> None:
    middle = base64.urlsafe_b64encode(json.dumps(claims).encode()).decode().rstrip("=")
    grant = {"grant_type": "urn:ietf:params:oauth:grant-type:jwt-bearer", "assertion": f"e30.{middle}.c2ln"}
    token = anonymous("POST", "/token", urlencode(grant).encode()).json["access_token"]
    robot = Client(emulator.url, auth={"Authorization": f"Bearer {token}"})
    assert robot("POST", FILES, {"name": "f", "mimeType": FOLDER}).status == 200
    begun = robot("POST", UPLOAD, {"name": "a"}, uploadType="resumable")
    assert (begun.status == 200) is may_store
    assert may_store or begun.reason == "storageQuotaExceeded"


def test_share_page(client: Client, anonymous: Client) -> None:
    folder = client.folder("<depth>")
    inner = client.folder("inner", parents=[folder])
    readme = b"![x](preview.jpg)\n\n# Title <b>\n\ntext **bold**\n\n- one\n- two\n\n```\ncode\n```\n"
    client.upload(readme, name="README.md", parents=[folder])
    client.upload(b"jpeg", name="preview.jpg", mimeType="image/jpeg", parents=[folder])
    client.upload(bytes(2048), name="a-00000.zip", parents=[folder])
    link = client.get(f"{FILES}/{folder}", fields="webViewLink").json["webViewLink"]
    private = anonymous.get(link)
    assert anonymous.get("/open", id=folder).status == 403
    assert (private.status, b"You need access" in private.body) == (403, True)
    assert anonymous.get("/drive/folders/nope").status == 403
    client.share(folder)
    assert anonymous.get("/open", id=folder).headers["Location"] == link
    text = anonymous.get(link).body.decode()
    for part in ("&lt;depth&gt;", "2.0 KiB", "a-00000.zip", "export=view", "<li>one</li>", "<strong>bold</strong>"):
        assert part in text
    assert "<h2>Title &lt;b&gt;</h2>" in text and "<script" not in text and "prefers-color-scheme: dark" in text
    assert f"/drive/folders/{inner}" in text
    assert text.count("<img") == 1 and text.index("Title") < text.index("a-00000.zip")  # what it is comes first
    assert "Up one folder" in anonymous.get(f"/drive/folders/{inner}").body.decode()


def test_file_page(client: Client, anonymous: Client) -> None:
    file_id = client.upload(b"0123456789", name="ä.txt")
    assert anonymous.get(f"/file/d/{file_id}/view").status == 403
    client.share(file_id)
    for path in (f"/file/d/{file_id}/view", f"/file/u/0/d/{file_id}/view"):
        assert b"Download" in anonymous.get(path).body


def test_trashed_things_have_no_page(client: Client, anonymous: Client) -> None:
    folder = client.folder()
    client.share(folder)
    client("PATCH", f"{FILES}/{folder}", {"trashed": True})
    assert anonymous.get(f"/drive/folders/{folder}").status == 403


def test_home_page(anonymous: Client) -> None:
    assert b"Drive on loopback" in anonymous.get("/").body


@pytest.mark.parametrize(
    ("size", "text"),
    [(0, "0 B"), (1023, "1023 B"), (1536, "1.5 KiB"), (1 << 20, "1.0 MiB"), (5 << 40, "5.0 TiB")],
)
def test_sizes(size: int, text: str) -> None:
    assert human_size(size) == text
