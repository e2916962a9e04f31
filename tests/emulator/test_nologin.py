"""The site that serves links without a login, and the API read with a key."""

from __future__ import annotations

import http.client
import re
import threading
import time
from html import unescape
from urllib.parse import parse_qs, urlencode, urlsplit

import pytest

from driveshard.emulator import Emulator

from .client import FILES, UPLOAD, Answer, Client, noise
from .conftest import Start

BROKEN = (ConnectionResetError, http.client.IncompleteRead)
TITLE = re.compile(rb"<title>(.*?)</title>")


@pytest.fixture
def anonymous(emulator: Emulator) -> Client:
    return Client(emulator.url, auth={})


def title(answer: Answer) -> str:
    found = TITLE.search(answer.body)
    assert found and answer.headers["Content-Type"].startswith("text/html")
    assert "Content-Disposition" not in answer.headers
    return found[1].decode()


def shared(client: Client, data: bytes = b"0123456789", name: str = "a.bin", **metadata: object) -> str:
    file_id = client.upload(data, name=name, **metadata)
    client.share(file_id)
    return file_id


def entries(answer: Answer) -> dict[str, str]:
    """Names and addresses of an embedded folder's items."""
    found = re.findall(
        r'<div class="flip-entry" id="entry-([^"]+)".*?<a href="([^"]+)".*?<div class="flip-entry-title">(.*?)</div>',
        answer.body.decode(),
    )
    for file_id, href, _ in found:
        assert file_id in href
    return {unescape(name): unescape(href) for _, href, name in found}


def test_a_folder_lists_every_item_with_its_address(client: Client, anonymous: Client, emulator: Emulator) -> None:
    folder = client.folder("data <&>")
    client.share(folder)
    answer = anonymous.get("/embeddedfolderview", id=folder, hl="en")
    assert (answer.status, title(answer), entries(answer)) == (200, "data &lt;&amp;&gt;", {})
    assert b'class="flip-empty"' in answer.body and b'<body class="flip-embedded">' in answer.body
    file_id = client.upload(b"x", name="it's <b>.zip", parents=[folder], modifiedTime="2026-11-05T00:00:00Z")
    inner = client.folder("inner", parents=[folder])
    doc = client.folder("doc", parents=[folder], mimeType="application/vnd.google-apps.spreadsheet")
    trashed = client.upload(b"x", name="gone", parents=[folder])
    client("PATCH", f"{FILES}/{trashed}", {"trashed": True})
    answer = anonymous.get("/embeddedfolderview", id=folder, hl="en")
    assert entries(answer) == {
        "inner": f"{emulator.url}/drive/folders/{inner}",
        "it's <b>.zip": f"{emulator.url}/file/d/{file_id}/view?usp=drive_web",
        "doc": f"https://docs.google.com/spreadsheets/d/{doc}/edit?usp=drive_web",
    }
    assert b"Nov 5, 2026" in answer.body
    seated = entries(anonymous.get("/u/1/embeddedfolderview", id=folder))
    assert seated["inner"] == f"{emulator.url}/drive/u/1/folders/{inner}"
    assert seated["it's <b>.zip"] == f"{emulator.url}/file/u/1/d/{file_id}/view?usp=drive_web"
    assert anonymous.get(f"/u/0/uc?id={folder}").status == 303
    assert b"5.11.2026" in anonymous.get("/embeddedfolderview", id=folder, hl="de").body


def test_a_folder_is_never_paged(client: Client, anonymous: Client) -> None:
    folder = client.folder("many")
    client.share(folder)
    for number in range(120):
        client.folder(f"{number}", parents=[folder])
    assert len(entries(anonymous.get("/embeddedfolderview", id=folder))) == 120


def test_private_and_missing_folders_list_nothing(client: Client, anonymous: Client) -> None:
    folder, file_id = client.folder("private"), shared(client)
    assert anonymous.get("/embeddedfolderview", id=folder).status == 403
    for wrong in ("nope", file_id):
        assert anonymous.get("/embeddedfolderview", id=wrong).status == 404


def test_uc_sends_on_and_drops_the_confirmation(client: Client, anonymous: Client, emulator: Emulator) -> None:
    file_id = shared(client)
    sent_on = anonymous.get("/uc", export="download", id=file_id, confirm="t")
    assert (sent_on.status, sent_on.body) == (303, b"")
    target = urlsplit(sent_on.headers["Location"])
    assert f"{target.scheme}://{target.netloc}{target.path}" == f"{emulator.url}/download"
    assert parse_qs(target.query) == {"id": [file_id], "export": ["download"]}
    assert anonymous.get(sent_on.headers["Location"]).body == b"0123456789"


def test_download(client: Client, anonymous: Client) -> None:
    file_id = shared(client, name="ä.txt")
    whole = anonymous.get("/download", id=file_id, export="download", confirm="t")
    assert (whole.status, whole.body, whole.headers["Content-Length"]) == (200, b"0123456789", "10")
    assert whole.headers["Content-Disposition"] == "attachment; filename=\"?.txt\"; filename*=UTF-8''%C3%A4.txt"
    part = anonymous("GET", f"/download?id={file_id}", headers={"Range": "bytes=5-7"})
    assert (part.status, part.body, part.headers["Content-Range"]) == (206, b"567", "bytes 5-7/10")
    past = anonymous("GET", f"/download?id={file_id}", headers={"Range": "bytes=10-"})
    assert (past.status, past.headers["Content-Range"]) == (416, "bytes */10")
    title(past)
    head = anonymous("HEAD", f"/download?id={file_id}")
    assert (head.status, head.headers["Content-Type"][:9], "Content-Disposition" in head.headers) == (
        200,
        "text/html",
        False,
    )


def test_what_is_private_leads_to_a_login_elsewhere(client: Client, anonymous: Client) -> None:
    file_id = client.upload(b"secret", name="a")
    trashed = shared(client)
    client("PATCH", f"{FILES}/{trashed}", {"trashed": True})
    answer = anonymous.get("/download", id=file_id, confirm="t")
    target = urlsplit(answer.headers["Location"])
    assert (answer.status, target.path, target.hostname) == (302, "/ServiceLogin", "localhost")
    assert b"secret" not in answer.body
    login = anonymous.get(f"/ServiceLogin?{target.query}")
    assert (login.status, title(login)) == (200, "Sign in - Google Accounts")
    seen = anonymous("GET", f"/download?id={file_id}", headers={"Host": "drive.usercontent.google.com"})
    assert seen.headers["Location"].startswith("https://accounts.google.com/ServiceLogin?")
    for missing in ("nope", trashed, client.folder()):
        answer = anonymous.get("/download", id=missing)
        assert (answer.status, title(answer)) == (404, "Page Not Found")


def test_what_is_too_large_to_scan_asks_first(start: Start) -> None:
    emulator = start(scan_limit=9)
    client, anonymous = Client(emulator.url), Client(emulator.url, auth={})
    small, large = shared(client, b"123456789"), shared(client)
    assert anonymous.get("/download", id=small).body == b"123456789"
    asked = anonymous.get("/download", id=large, export="download")
    assert (asked.status, title(asked)) == (200, "Google Drive - Virus scan warning")
    form = re.search(rb'<form id="download-form" action="([^"]+)" method="get">(.*?)</form>', asked.body)
    assert form
    fields = dict(re.findall(r'name="([^"]+)" value="([^"]+)"', form[2].decode()))
    assert fields.keys() == {"id", "export", "confirm", "uuid"}
    assert anonymous.get(f"{form[1].decode()}?{urlencode(fields)}").body == b"0123456789"


def test_after_some_downloads_a_file_is_over_quota_for_a_day(start: Start) -> None:
    emulator = start(download_quota=2)
    client, anonymous = Client(emulator.url), Client(emulator.url, auth={})
    file_id, other = shared(client), shared(client)
    tail = {"Range": "bytes=5-"}
    for _ in range(2):
        assert anonymous.get("/download", id=file_id).body == b"0123456789"
    assert anonymous("GET", f"/download?id={file_id}", headers=tail).body == b"56789"
    for answer in (anonymous.get("/download", id=file_id), anonymous("GET", f"/download?id={file_id}", headers=tail)):
        assert (answer.status, title(answer)) == (200, "Google Drive - Quota exceeded")
        assert b"Sorry, you can't view or download this file at this time." in answer.body
    assert anonymous.get(f"{FILES}/{file_id}", alt="media", key="k").reason == "downloadQuotaExceeded"
    assert client.get(f"{FILES}/{file_id}", alt="media").status == 200
    assert anonymous.get("/download", id=other).body == b"0123456789"
    client("POST", "/_emulator/clock", {"advance": 86400})
    assert anonymous.get("/download", id=file_id).body == b"0123456789"


def test_the_quota_word_and_the_abuse_page(client: Client, anonymous: Client, emulator: Emulator) -> None:
    file_id = shared(client)
    emulator.set_faults("download-quota")
    assert title(anonymous.get("/download", id=file_id)) == "Google Drive - Quota exceeded"
    emulator.set_faults("403-html,503:download")
    assert [anonymous.get("/download", id=file_id).status for _ in range(3)] == [403, 503, 200]


@pytest.mark.parametrize("word", ["reset", "drop"])
@pytest.mark.parametrize("api", [False, True])
def test_a_download_breaks_off(client: Client, emulator: Emulator, word: str, api: bool) -> None:
    data = noise(3 << 20)
    file_id = shared(client, data)
    target = f"{FILES}/{file_id}?alt=media" if api else f"/download?id={file_id}"
    emulator.set_faults(f"{word}:download", seed=4)
    with pytest.raises(BROKEN):
        client.get(target)
    assert client.get(target).body == data


def test_a_download_stalls(client: Client, emulator: Emulator) -> None:
    data = noise(3 << 20)
    file_id = shared(client, data)
    emulator.set_faults("stall:download")
    client.connection.request("GET", f"/download?id={file_id}")
    answer = client.connection.getresponse()
    half = len(data) // 2
    assert answer.read(half) == data[:half]
    threading.Timer(0.2, emulator.drive.stopping.set).start()
    began = time.monotonic()
    with pytest.raises(BROKEN):
        answer.read()
    assert time.monotonic() - began > 0.1


def test_an_outage_breaks_a_download(client: Client, emulator: Emulator) -> None:
    data = noise(6 << 20)
    file_id = shared(client, data)
    emulator.drive.line.set_bandwidth(10_000_000)
    client.connection.request("GET", f"/download?id={file_id}")
    answer = client.connection.getresponse()
    assert answer.read(1 << 20) == data[: 1 << 20]
    emulator.drive.line.fail(0.1)
    with pytest.raises(BROKEN):
        answer.read()


@pytest.mark.parametrize("span", ["bytes=0-", "bytes=5-", "bytes=9-9"])
def test_a_download_with_a_wrong_bit(client: Client, emulator: Emulator, span: str) -> None:
    file_id = shared(client)
    emulator.set_faults("wrong-bytes*")
    right = b"0123456789"[int(span[6]) :]
    for target in (f"{FILES}/{file_id}?alt=media", f"/download?id={file_id}"):
        sent = client("GET", target, headers={"Range": span}).body
        assert len(sent) == len(right) and sum((a ^ b).bit_count() for a, b in zip(sent, right, strict=True)) == 1


def give_key(client: Client, file_id: str, key: str = "0-abc") -> None:
    assert client("POST", "/_emulator/resource-key", {"id": file_id, "key": key}).json == {
        "id": file_id,
        "resourceKey": key,
    }


def test_resource_keys_on_the_site(client: Client, anonymous: Client, emulator: Emulator) -> None:
    folder = client.folder("old")
    client.share(folder)
    file_id = client.upload(b"x", name="a", parents=[folder])
    inner = client.folder("inner", parents=[folder])
    for item in (folder, file_id, inner):
        give_key(client, item)
    link = client.get(f"{FILES}/{folder}", fields="webViewLink,resourceKey").json
    assert link == {"webViewLink": f"{emulator.url}/drive/folders/{folder}?resourcekey=0-abc", "resourceKey": "0-abc"}
    view = client.get(f"{FILES}/{file_id}", fields="webViewLink").json["webViewLink"]
    assert view.endswith("/view?usp=drivesdk&resourcekey=0-abc")
    for key in ({}, {"resourcekey": "0-no"}):
        assert anonymous.get("/embeddedfolderview", id=folder, **key).status == 403
        assert anonymous.get("/download", id=file_id, **key).status == 302
        assert anonymous.get(f"/drive/folders/{folder}", **key).status == 403
    found = entries(anonymous.get("/embeddedfolderview", id=folder, resourcekey="0-abc"))
    assert found == {
        "a": f"{emulator.url}/file/d/{file_id}/view?usp=drive_web&resourcekey=0-abc",
        "inner": f"{emulator.url}/drive/folders/{inner}?resourcekey=0-abc",
    }
    sent_on = anonymous.get("/uc", id=file_id, resourcekey="0-abc").headers["Location"]
    assert anonymous.get(sent_on).body == b"x"


def test_resource_keys_in_the_api(client: Client, anonymous: Client) -> None:
    folder = client.folder("old")
    client.share(folder)
    file_id = client.upload(b"x", name="a", parents=[folder])
    give_key(client, folder, "0-f")
    give_key(client, file_id, "0-a")
    asked = {"q": f"'{folder}' in parents", "key": "k", "fields": "files(name,resourceKey)"}
    listing = f"{FILES}?{urlencode(asked)}"
    content = f"{FILES}/{file_id}?alt=media&key=k"
    for headers in ({}, {"X-Goog-Drive-Resource-Keys": f"{folder}/0-a,{file_id}/0-f"}):
        for target in (listing, content, f"{FILES}/{folder}?key=k"):
            answer = anonymous("GET", target, headers=headers)
            assert (answer.status, answer.reason) == (404, "notFound")
    keys = {"X-Goog-Drive-Resource-Keys": f"{folder}/0-f, {file_id}/0-a"}
    assert anonymous("GET", listing, headers=keys).json == {"files": [{"name": "a", "resourceKey": "0-a"}]}
    assert anonymous("GET", content, headers=keys).body == b"x"
    assert client.get(f"{FILES}/{file_id}", alt="media").body == b"x"


def test_a_key_writes_nothing(client: Client, anonymous: Client) -> None:
    folder = client.folder()
    client.share(folder)
    assert anonymous("POST", UPLOAD, {"name": "x", "parents": [folder]}, key="k", uploadType="resumable").status == 401
    assert anonymous("POST", FILES, {"name": "x", "parents": [folder]}, key="k").status == 401
