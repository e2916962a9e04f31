"""Files and folders: create, get, update, move, copy, trash, delete, ids, properties, masks, content."""

from __future__ import annotations

import hashlib
import json
from typing import Any

import pytest

from driveshard.emulator import Emulator
from driveshard.emulator.errors import ApiError
from driveshard.emulator.fields import apply_mask, parse_mask

from .client import FILES, FOLDER, UPLOAD, Client
from .conftest import Start


def test_get_answers_four_fields_unless_asked(client: Client) -> None:
    file_id = client.upload(b"hello", name="a.txt")
    plain = client.get(f"{FILES}/{file_id}")
    assert plain.headers["Content-Type"] == "application/json; charset=UTF-8"
    assert plain.json == {"kind": "drive#file", "id": file_id, "name": "a.txt", "mimeType": "application/octet-stream"}


def test_whole_resource_has_drives_types(client: Client, emulator: Emulator) -> None:
    file_id = client.upload(b"hello", name="a.txt")
    whole = client.get(f"{FILES}/{file_id}", fields="*").json
    for name in ("size", "quotaBytesUsed", "version"):
        assert isinstance(whole[name], str)
    assert whole["createdTime"].endswith("Z") and whole["createdTime"][19] == "."
    assert whole["md5Checksum"] == hashlib.md5(b"hello").hexdigest()
    assert whole["sha1Checksum"] == hashlib.sha1(b"hello").hexdigest()
    assert whole["sha256Checksum"] == hashlib.sha256(b"hello").hexdigest()
    assert whole["webViewLink"] == f"{emulator.url}/file/d/{file_id}/view?usp=drivesdk"
    assert whole["webContentLink"] == f"{emulator.url}/uc?id={file_id}&export=download"
    root = client.get(f"{FILES}/root", fields="*").json
    assert whole["parents"] == [root["id"]] and "parents" not in root
    folder = client.get(f"{FILES}/{client.folder()}", fields="*").json
    assert folder["webViewLink"] == f"{emulator.url}/drive/folders/{folder['id']}"
    assert not folder.keys() & {"size", "md5Checksum", "headRevisionId", "webContentLink"}


def test_create_without_content(client: Client) -> None:
    made = client("POST", f"{FILES}?fields=name,size,md5Checksum", {}).json
    assert made == {"name": "Untitled", "size": "0", "md5Checksum": hashlib.md5(b"").hexdigest()}


def test_names_may_repeat_and_if_none_match_is_ignored(client: Client, emulator: Emulator) -> None:
    client.folder("twin")
    assert client("POST", FILES, {"name": "twin"}, {"If-None-Match": "*"}).status == 200
    assert client.names("name = 'twin'") == ["twin", "twin"]
    assert [v["kind"] for v in emulator.stats()["violations"]] == ["same-name"]


def test_put_on_a_file_is_no_v3(client: Client) -> None:
    file_id = client.upload(b"a", name="a")
    assert client("PUT", f"{FILES}/{file_id}", {"name": "b"}).status == 404
    assert client("PATCH", f"{FILES}/{file_id}", {"name": "b"}).json["name"] == "b"


def test_ids(client: Client) -> None:
    assert len(client.get(f"{FILES}/generateIds").json["ids"]) == 10
    whole = client.get(f"{FILES}/generateIds", count=1000).json
    assert (whole["kind"], whole["space"], len(set(whole["ids"]))) == ("drive#generatedIds", "drive", 1000)
    for bad in ("0", "1001", "x"):
        assert client.get(f"{FILES}/generateIds", count=bad).status == 400
    first = whole["ids"][0]
    assert client.folder("f", id=first) == first
    again = client("POST", FILES, {"name": "f", "mimeType": FOLDER, "id": first})
    assert (again.status, again.reason) == (409, "fileIdInUse")
    doc = client("POST", FILES, {"mimeType": "application/vnd.google-apps.document", "id": whole["ids"][1]})
    assert doc.reason == "generatedIdNotSupported"
    assert (doc.status, doc.json["error"]["message"]) == (
        403,
        "Generated IDs are not supported for Docs Editors formats",
    )
    link = {"mimeType": "application/vnd.google-apps.shortcut", "shortcutDetails": {"targetId": first}}
    assert client("POST", FILES, {**link, "id": whole["ids"][1]}).status == 400
    (shortcut,) = client.get(f"{FILES}/generateIds", count=1, type="shortcuts").json["ids"]
    assert client("POST", FILES, {**link, "id": shortcut}).status == 200


def test_the_id_of_a_deleted_file_never_works_again(client: Client, emulator: Emulator, start: Start) -> None:
    file_id, inner, begun = client.ids(3)
    client.folder("f", id=file_id)
    client.upload(b"a", name="a", id=inner, parents=[file_id])
    source = client.upload(b"a", name="b")
    late = client.begin(1, name="late", id=begun)
    client.upload(b"x", name="won", id=begun)
    for doomed in (file_id, begun):
        gone = client("DELETE", f"{FILES}/{doomed}")
        assert (gone.status, gone.headers["Content-Type"], gone.headers["Content-Length"]) == (204, "text/html", "0")
    assert client("DELETE", f"{FILES}/{file_id}").json["error"]["message"] == f"File not found: {file_id}."
    assert client("PUT", late, b"x").status == 400
    emulator.stop()
    client = Client(start().url)
    for used in (file_id, inner, begun):
        for answer in (
            client("POST", FILES, {"name": "f", "mimeType": FOLDER, "id": used}),
            client("POST", f"{FILES}/{source}/copy", {"id": used}),
            client("POST", UPLOAD, {"id": used}, uploadType="resumable"),
        ):
            assert (answer.status, answer.reason) == (400, "invalid")
            assert answer.json["error"]["message"] == "Invalid Value"
            assert answer.json["error"]["errors"][0]["location"] == "fileId"
    assert client.upload(b"y", name="c", id=client.ids()[0])


@pytest.mark.parametrize(
    ("parents", "status", "reason"),
    [(["no-such"], 404, "notFound"), (["FILE"], 403, "parentNotAFolder"), (["root", "root"], 400, "invalid")],
)
def test_bad_parents(client: Client, parents: list[str], status: int, reason: str) -> None:
    file_id = client.upload(b"a", name="a")
    answer = client("POST", FILES, {"name": "b", "parents": [p.replace("FILE", file_id) for p in parents]})
    assert (answer.status, answer.reason) == (status, reason)
    begun = client("POST", UPLOAD, {"name": "b", "parents": parents}, uploadType="resumable")
    assert begun.status >= 400


def test_move(client: Client) -> None:
    old, new = client.folder("old"), client.folder("new")
    file_id = client.upload(b"a", name="a", parents=[old])
    target = f"{FILES}/{file_id}?fields=parents"
    assert client("PATCH", target, {}, addParents=new).reason == "cannotAddParent"
    assert client("PATCH", target, {}, addParents=new, removeParents=old).json == {"parents": [new]}
    assert client.names(f"'{old}' in parents") == []
    assert client("PATCH", target, {"parents": [old]}).reason == "fieldNotWritable"
    inner = client.folder("inner", parents=[new])
    assert client("PATCH", f"{FILES}/{new}", {}, addParents=inner, removeParents="root").status == 403
    root = client.get(f"{FILES}/root").json["id"]
    assert client("PATCH", target, addParents="root", removeParents=new).json == {"parents": [root]}
    assert client("PATCH", target, addParents=old, removeParents="root").json == {"parents": [old]}


def test_copy(client: Client) -> None:
    source = client.upload(b"content", name="a", appProperties={"k": "v"})
    copied = client("POST", f"{FILES}/{source}/copy?fields=*", {"name": "b"}).json
    assert (copied["name"], copied["appProperties"]) == ("b", {"k": "v"})
    for body in ({}, {"name": None}):
        assert client("POST", f"{FILES}/{source}/copy", body).json["name"] == "Copy of a"
    client("DELETE", f"{FILES}/{source}")
    assert client.get(f"{FILES}/{copied['id']}", alt="media").body == b"content"
    assert client("POST", f"{FILES}/{client.folder()}/copy", {}).status == 403


def test_trash_and_delete_take_the_contents_along(client: Client, emulator: Emulator) -> None:
    folder = client.folder("f")
    file_id = client.upload(b"a", name="a", parents=[folder])
    client("PATCH", f"{FILES}/{folder}", {"trashed": True})
    state = client.get(f"{FILES}/{file_id}", fields="trashed,explicitlyTrashed").json
    assert state == {"trashed": True, "explicitlyTrashed": False}
    assert client.names() == ["a", "f"] and client.names("trashed=false") == []
    client("PATCH", f"{FILES}/{folder}", {"trashed": False})
    assert client.names("trashed = false") == ["a", "f"]
    assert client("DELETE", f"{FILES}/{folder}").status == 204
    assert client.get(f"{FILES}/{file_id}").status == 404
    assert emulator.stats()["stored_bytes"] == 0
    assert client("DELETE", f"{FILES}/root").status == 403


def test_empty_trash(client: Client) -> None:
    client("PATCH", f"{FILES}/{client.folder('f')}", {"trashed": True})
    assert client("DELETE", f"{FILES}/trash").status == 204
    assert client.names() == []


@pytest.mark.parametrize("where", ["properties", "appProperties"])
def test_properties(client: Client, where: str) -> None:
    file_id = client.upload(b"a", name="a", **{where: {"a": "1", "b": "2"}})
    changed = client("PATCH", f"{FILES}/{file_id}?fields={where}", {where: {"a": None, "c": "3"}})
    assert changed.json == {where: {"b": "2", "c": "3"}}
    fits = {where: {"k": "é" * 61 + "x"}}
    assert client("PATCH", f"{FILES}/{file_id}", fits).status == 200
    long = client("PATCH", f"{FILES}/{file_id}", {where: {"k": "é" * 62}})
    assert (long.status, long.reason) == (403, "propertyLengthLimitExceeded")
    assert long.json["error"]["message"] == (
        "Properties and app properties are limited to 124 bytes in UTF-8 encoding, counting both the key and the value."
    )
    assert client("PATCH", f"{FILES}/{file_id}", {where: {str(n): "" for n in range(31)}}).status == 400
    assert client("POST", UPLOAD, {where: {"k": "x" * 200}}, uploadType="resumable").status == 403


@pytest.mark.parametrize("body", [b"{", b"[]", b'"x"'])
def test_bad_json(client: Client, body: bytes) -> None:
    answer = client("POST", FILES, body, {"Content-Type": "application/json"})
    assert (answer.status, answer.reason) == (400, "parseError")


def test_modified_time_with_nine_decimals(client: Client) -> None:
    file_id = client.upload(b"a", name="a", modifiedTime="2020-01-02T03:04:05.123456789+01:00")
    assert client.get(f"{FILES}/{file_id}", fields="modifiedTime").json["modifiedTime"] == "2020-01-02T02:04:05.123Z"
    assert client("PATCH", f"{FILES}/{file_id}", {"modifiedTime": "yesterday"}).status == 400


def test_about_needs_fields(client: Client) -> None:
    bare = client.get("/drive/v3/about")
    assert (bare.status, bare.reason) == (400, "required")
    client.upload(b"12345", name="a")
    quota = client.get("/drive/v3/about", fields="storageQuota").json["storageQuota"]
    assert quota["usage"] == "5" and isinstance(quota["limit"], str)


def related(newline: str, metadata: bytes, media: bytes) -> bytes:
    lines = [b"--=b_1=", b"Content-Type: application/json; charset=UTF-8", b"", metadata]
    lines += [b"--=b_1=", b"Content-Type: text/x-test", b"Content-Transfer-Encoding: binary", b"", media, b"--=b_1=--"]
    return newline.encode().join(lines) + newline.encode()


@pytest.mark.parametrize("newline", ["\n", "\r\n"])
@pytest.mark.parametrize("media", [b"", b"a\r\n\r\nb\n\nc\r", b"--=b_1", bytes(range(256))])
@pytest.mark.parametrize("chunked", [False, True])
def test_multipart(client: Client, newline: str, media: bytes, chunked: bool) -> None:
    body = related(newline, b'{"name": "a"}\n', media)
    headers = {"Content-Type": 'multipart/related; boundary="=b_1="'}
    fields = f"{UPLOAD}?uploadType=multipart&fields=id,name,mimeType,size"
    made = client("POST", fields, iter([body[:9], body[9:]]) if chunked else body, headers)
    assert made.status == 200, made.body
    assert made.json | {"id": ""} == {"id": "", "name": "a", "mimeType": "text/x-test", "size": str(len(media))}
    assert client.get(f"{FILES}/{made.json['id']}", alt="media").body == media


@pytest.mark.parametrize("body", [b"", b"--x\n\n{}\n--x--", b"--b\n\n{}\n--b--", b"--b\n\n{}\n--b\n\nx", b"--b"])
def test_bad_multipart(client: Client, body: bytes) -> None:
    headers = {"Content-Type": "multipart/related; boundary=b"}
    assert client("POST", f"{UPLOAD}?uploadType=multipart", body, headers).status == 400


def test_media(client: Client) -> None:
    made = client("POST", f"{UPLOAD}?uploadType=media&fields=*", b"abc", {"Content-Type": "text/plain"}).json
    assert (made["name"], made["mimeType"], made["size"]) == ("Untitled", "text/plain", "3")
    again = client("PATCH", f"{UPLOAD}/{made['id']}?uploadType=media&fields=size,mimeType,version", b"defg").json
    assert (again["size"], again["mimeType"]) == ("4", "text/plain") and int(again["version"]) > int(made["version"])
    assert client("POST", UPLOAD, b"x").status == 400
    assert client("PUT", f"{UPLOAD}/{made['id']}?uploadType=media", b"x").status == 404


@pytest.mark.parametrize(
    ("span", "status", "content", "told"),
    [
        ("bytes=0-3", 206, b"0123", "bytes 0-3/10"),
        ("bytes=7-", 206, b"789", "bytes 7-9/10"),
        ("bytes=-2", 206, b"89", "bytes 8-9/10"),
        ("bytes=-20", 206, b"0123456789", "bytes 0-9/10"),
        ("bytes=9-99", 206, b"9", "bytes 9-9/10"),
        ("bytes=10-", 416, None, "bytes */10"),
        ("bytes=-0", 416, None, "bytes */10"),
        ("bytes=3-1", 200, b"0123456789", None),
        ("bytes=0-1,3-4", 200, b"0123456789", None),
        ("lines=1-2", 200, b"0123456789", None),
    ],
)
def test_ranges(client: Client, span: str, status: int, content: bytes | None, told: str | None) -> None:
    file_id = client.upload(b"0123456789", name="a")
    answer = client("GET", f"{FILES}/{file_id}?alt=media", headers={"Range": span})
    assert (answer.status, answer.headers.get("Content-Range")) == (status, told)
    assert content is None or answer.body == content
    assert content is not None or answer.reason == "requestedRangeNotSatisfiable"


def test_empty_file_has_no_range(client: Client) -> None:
    file_id = client.upload(b"", name="a")
    answer = client("GET", f"{FILES}/{file_id}?alt=media", headers={"Range": "bytes=0-99"})
    assert (answer.status, answer.headers["Content-Range"]) == (416, "bytes */0")
    whole = client.get(f"{FILES}/{file_id}", alt="media")
    assert (whole.status, whole.body, whole.headers["x-goog-hash"]) == (200, b"", "crc32c=AAAAAA==")


def test_head_sends_no_body(client: Client) -> None:
    file_id = client.upload(b"12345", name="a")
    answer = client("HEAD", f"{FILES}/{file_id}?alt=media")
    assert (answer.status, answer.headers["Content-Length"], answer.body) == (200, "5", b"")
    assert client.get(f"{FILES}/{file_id}").status == 200


def test_folders_have_no_content(client: Client) -> None:
    assert client.get(f"{FILES}/root", alt="media").reason == "fileNotDownloadable"


DOCUMENT: dict[str, Any] = {"a": 1, "b": {"c": 2, "d": {"e": 3}}, "l": [{"x": 1, "y": 2}, {"x": 3}]}


@pytest.mark.parametrize(
    ("mask", "expected"),
    [
        ("a", {"a": 1}),
        ("a,b/c", {"a": 1, "b": {"c": 2}}),
        ("b(c,d/e)", {"b": {"c": 2, "d": {"e": 3}}}),
        ("b/d(e)", {"b": {"d": {"e": 3}}}),
        ("l(x)", {"l": [{"x": 1}, {"x": 3}]}),
        ("l/y", {"l": [{"y": 2}, {}]}),
        ("*", DOCUMENT),
        ("*/c", {"b": {"c": 2}}),
        (" a , b ( c ) ", {"a": 1, "b": {"c": 2}}),
        ("b,b/c", {"b": DOCUMENT["b"]}),
        ("b/c,b/d", {"b": DOCUMENT["b"]}),
        ("none", {}),
    ],
)
def test_masks(mask: str, expected: dict[str, Any]) -> None:
    found = apply_mask(parse_mask(mask), DOCUMENT)
    # `*/c` keeps what has no inside; only its containers are narrowed.
    assert found == (expected if mask != "*/c" else {"a": 1, "b": {"c": 2}, "l": [{}, {}]})


@pytest.mark.parametrize("mask", ["a,", "a(", "a()", "a)", "(a)", "/a", "a//b", "a b", "a;b", ","])
def test_bad_masks(mask: str) -> None:
    with pytest.raises(ApiError, match="Invalid field selection"):
        parse_mask(mask)


@pytest.mark.parametrize("fields", ["etag", "id,nope", "files(id)"])
def test_unknown_fields(client: Client, fields: str) -> None:
    answer = client.get(f"{FILES}/root", fields=fields)
    assert (answer.status, answer.reason) == (400, "invalidParameter")
    assert client.get(FILES, fields="id").status == 400
    assert client.get(FILES, fields="files(etag)").status == 400


def test_error_shape(client: Client) -> None:
    assert client.get(f"{FILES}/nope").json == {
        "error": {
            "code": 404,
            "message": "File not found: nope.",
            "errors": [
                {
                    "message": "File not found: nope.",
                    "domain": "global",
                    "reason": "notFound",
                    "location": "fileId",
                    "locationType": "parameter",
                }
            ],
        }
    }


def test_unknown_parameters_and_empty_fields_are_ignored(client: Client) -> None:
    answer = client("GET", f"{FILES}/root?fields=&setModifiedDate=true&prettyPrint=false&supportsAllDrives=true")
    assert answer.json.keys() == {"kind", "id", "name", "mimeType"}


def test_long_gets_come_as_posts(client: Client) -> None:
    client.folder("f")
    headers = {"X-HTTP-Method-Override": "GET", "Content-Type": "application/x-www-form-urlencoded"}
    answer = client("POST", FILES, b"q=name%3D%27f%27&fields=files(name)", headers)
    assert answer.json == {"files": [{"name": "f"}]}


def test_bad_requests_end_the_connection(emulator: Emulator) -> None:
    import socket

    with socket.create_connection(("127.0.0.1", int(emulator.url.rsplit(":", 1)[1]))) as raw:
        raw.sendall(b"nonsense\r\n\r\n")
        assert raw.makefile("rb").read().startswith(b"HTTP/1.1 400 ")


def test_folder_depth(start: Start) -> None:
    client = Client(start().url)
    parent = "root"
    for number in range(100):
        parent = client.folder(str(number), parents=[parent])
    answer = client("POST", FILES, json.loads(json.dumps({"name": "x", "mimeType": FOLDER, "parents": [parent]})))
    assert (answer.status, answer.reason) == (403, "myDriveHierarchyDepthLimitExceeded")


@pytest.mark.parametrize("how", ["deleted", "with its folder", "with the trash"])
def test_the_id_of_a_file_deleted_for_good_never_works_again(client: Client, start: Start, how: str) -> None:
    ids = client.get(f"{FILES}/generateIds", count=2).json["ids"]
    folder = client("POST", FILES, {"id": ids[0], "name": "f", "mimeType": FOLDER}).json["id"]
    file_id = client("POST", FILES, {"id": ids[1], "name": "a", "parents": [folder]}).json["id"]
    if how == "with the trash":
        client("PATCH", f"{FILES}/{file_id}", {"trashed": True})
    target = {"deleted": file_id, "with its folder": folder, "with the trash": "trash"}[how]
    assert client("DELETE", f"{FILES}/{target}").status == 204

    again = Client(start().url)  # and another process on the same root knows it, too
    other = client("POST", FILES, {"name": "other"}).json["id"]
    for one in (client, again):
        for answer in (
            one("POST", FILES, {"id": file_id, "name": "a"}),
            one("POST", FILES, {"id": file_id, "name": "a", "mimeType": FOLDER}),
            one("POST", f"{UPLOAD}?uploadType=resumable", {"id": file_id, "name": "a"}),
            *([one("POST", f"{FILES}/{other}/copy", {"id": file_id})] if one is client else []),
        ):
            assert answer.status == 400
            assert answer.json["error"] == {
                "code": 400,
                "message": "Invalid Value",
                "errors": [
                    {
                        "message": "Invalid Value",
                        "domain": "global",
                        "reason": "invalid",
                        "location": "fileId",
                        "locationType": "parameter",
                    }
                ],
            }
        assert one.get(f"{FILES}/{file_id}").status == 404


def test_a_session_under_an_id_deleted_meanwhile_does_not_end_well(client: Client) -> None:
    (file_id,) = client.get(f"{FILES}/generateIds", count=1).json["ids"]
    begun = client("POST", f"{UPLOAD}?uploadType=resumable", {"id": file_id, "name": "a"})
    assert client("POST", FILES, {"id": file_id, "name": "quicker"}).status == 200
    assert client("DELETE", f"{FILES}/{file_id}").status == 204
    assert client("PUT", begun.headers["Location"], b"abc").status == 400
    assert client.get(f"{FILES}/{file_id}").status == 404
