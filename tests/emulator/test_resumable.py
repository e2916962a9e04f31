"""Every row of the resumable table."""

from __future__ import annotations

import hashlib
import socket
from urllib.parse import urlsplit

import pytest

from driveshard.emulator import Emulator

from .client import FILES, UNIT, UPLOAD, Client, noise


def md5(data: bytes) -> str:
    return hashlib.md5(data).hexdigest()


def test_initiation_answers_empty_200_with_the_session_uri_on_the_host_that_was_asked(client: Client) -> None:
    answer = client("POST", UPLOAD, {"name": "a"}, {"Host": "drive.test:81"}, uploadType="resumable", fields="id")
    assert (answer.status, answer.body) == (200, b"")
    assert answer.headers["Location"].startswith(
        f"http://drive.test:81{UPLOAD}?uploadType=resumable&fields=id&upload_id="
    )
    assert "&session_crd=" in answer.headers["Location"]
    assert answer.headers["X-GUploader-UploadID"] in answer.headers["Location"]


def test_chunks_get_308_with_range_and_md5_and_the_last_one_the_file(client: Client) -> None:
    data = noise(2 * UNIT + 100)
    session = client.begin(len(data), name="a.zip")
    first = client.put(session, data[:UNIT], 0, len(data))
    assert (first.status, first.body) == (308, b"")
    assert first.headers["Range"] == f"bytes=0-{UNIT - 1}"
    assert first.headers["X-Range-MD5"] == md5(data[:UNIT])
    assert "Location" not in first.headers
    second = client.put(session, data[UNIT : 2 * UNIT], UNIT, len(data))
    assert second.headers["X-Range-MD5"] == md5(data[: 2 * UNIT])
    last = client.put(session, data[2 * UNIT :], 2 * UNIT, len(data))
    assert last.status == 200
    assert last.json | {"id": ""} == {"id": "", "name": "a.zip", "size": str(len(data)), "md5Checksum": md5(data)}
    assert client.get(f"{FILES}/{last.json['id']}", alt="media").body == data


def test_whole_body_without_content_range(client: Client) -> None:
    answer = client("PUT", client.begin(5, name="a"), b"hello")
    assert (answer.status, answer.json["size"]) == (200, "5")


def test_post_works_like_put(client: Client) -> None:
    session = client.begin(UNIT + 1, name="a")
    data = noise(UNIT + 1)
    assert client("POST", session, data[:UNIT], {"Content-Range": f"bytes 0-{UNIT - 1}/{UNIT + 1}"}).status == 308
    assert client("POST", session, data[UNIT:], {"Content-Range": f"bytes {UNIT}-{UNIT}/{UNIT + 1}"}).status == 200


@pytest.mark.parametrize("header", [None, "bytes */0", "bytes */*"])
def test_empty_file(client: Client, header: str | None) -> None:
    session = client.begin(0, name="empty", fields="size,md5Checksum")
    answer = client("PUT", session, b"", {"Content-Range": header} if header else {})
    if header == "bytes */*":
        assert answer.status == 308 and "Range" not in answer.headers
        answer = client("PUT", session, b"")
    assert (answer.status, answer.json) == (200, {"size": "0", "md5Checksum": md5(b"")})


@pytest.mark.parametrize("total", ["*", 2 * UNIT])
def test_status_query(client: Client, total: int | str) -> None:
    session = client.begin(2 * UNIT, name="a")
    nothing = client.ask(session, total)
    assert nothing.status == 308 and "Range" not in nothing.headers
    client.put(session, noise(UNIT), 0, 2 * UNIT)
    assert client.ask(session, total).headers["Range"] == f"bytes=0-{UNIT - 1}"
    done = client.put(session, noise(UNIT), UNIT, 2 * UNIT)
    again = client.ask(session, total)
    assert (again.status, again.json) == (200, done.json)


def test_unknown_total_until_the_last_chunk(client: Client) -> None:
    data = noise(2 * UNIT + 7)
    session = client.begin(name="a")
    assert client.put(session, data[:UNIT], 0, "*").status == 308
    assert client.put(session, data[UNIT : 2 * UNIT], UNIT, "*").headers["Range"] == f"bytes=0-{2 * UNIT - 1}"
    assert client.put(session, data[2 * UNIT :], 2 * UNIT, len(data)).json["md5Checksum"] == md5(data)


def test_unknown_total_named_by_an_empty_request(client: Client) -> None:
    session = client.begin(name="a")
    client.put(session, noise(UNIT), 0, "*")
    assert client.ask(session, UNIT).json["size"] == str(UNIT)


def test_chunked_transfer_encoding(client: Client) -> None:
    data = noise(UNIT + 3)
    session = client.begin(name="a")
    client.connection.putrequest("PUT", urlsplit(session).path + "?" + urlsplit(session).query)
    client.connection.putheader("Transfer-Encoding", "chunked")
    client.connection.endheaders(iter([data[:1000], data[1000:]]), encode_chunked=True)
    answer = client.connection.getresponse()
    assert answer.status == 200
    assert md5(data).encode() in answer.read()


def test_small_chunk_that_is_not_the_last_ends_the_session(client: Client, emulator: Emulator) -> None:
    session = client.begin(2 * UNIT, name="a")
    answer = client.put(session, noise(1000), 0, 2 * UNIT)
    assert answer.status == 400 and answer.headers["Content-Type"].startswith("text/plain")
    assert b"262144" in answer.body
    assert client.ask(session).status == 400
    assert [v["kind"] for v in emulator.stats()["violations"]] == ["chunk-size"]


def test_uneven_chunk_is_cut_to_whole_units(client: Client, emulator: Emulator) -> None:
    answer = client.put(client.begin(4_000_000, name="a"), noise(2_500_000), 0, 4_000_000)
    assert answer.headers["Range"] == "bytes=0-2359295"
    assert emulator.stats()["violations"][0]["kind"] == "chunk-size"


def test_gap_answers_503_in_plain_text(client: Client, emulator: Emulator) -> None:
    session = client.begin(3 * UNIT, name="a")
    for _ in range(2):
        answer = client.put(session, noise(UNIT), UNIT, 3 * UNIT)
        assert answer.status == 503 and answer.headers["Content-Type"].startswith("text/plain")
        assert answer.body.decode() == (
            "Invalid request.  According to the Content-Range header, the upload offset is 262144 byte(s), "
            "which exceeds already uploaded size of 0 byte(s)."
        )
    assert emulator.stats()["violations"][0]["kind"] == "offset-gap"


def test_bytes_sent_again_are_skipped(client: Client, emulator: Emulator) -> None:
    data = noise(3 * UNIT)
    session = client.begin(len(data), name="a")
    client.put(session, data[: 2 * UNIT], 0, len(data))
    old = client.put(session, data[:UNIT], 0, len(data))
    assert (old.status, old.headers["Range"]) == (308, f"bytes=0-{2 * UNIT - 1}")
    whole = client.put(session, data, 0, len(data))
    assert whole.json["md5Checksum"] == md5(data)
    assert [v["kind"] for v in emulator.stats()["violations"]] == ["sent-twice", "sent-twice"]
    assert emulator.stats()["received_bytes"] == 6 * UNIT


@pytest.mark.parametrize(
    "header", ["bytes 0-9", "0-9/10", "bytes 9-0/10", "bytes 0-10/10", "bytes x-9/10", "bytes 0-9/", "bytes -/10"]
)
def test_bad_content_range(client: Client, header: str) -> None:
    answer = client("PUT", client.begin(10, name="a"), b"0123456789", {"Content-Range": header})
    assert (answer.status, answer.body[:39]) == (400, b"Failed to parse Content-Range header.")


def test_total_must_be_the_declared_one(client: Client) -> None:
    assert client.put(client.begin(10, name="a"), b"0123456789a", 0, 11).status == 400


def test_repeated_last_chunk_answers_the_same_file(client: Client) -> None:
    data = noise(UNIT + 9)
    session = client.begin(len(data), name="a")
    client.put(session, data[:UNIT], 0, len(data))
    done = client.put(session, data[UNIT:], UNIT, len(data))
    again = client.put(session, data[UNIT:], UNIT, len(data))
    assert (again.status, again.json) == (200, done.json)
    assert client.names() == ["a"]


def test_unknown_session(client: Client) -> None:
    whole = client.begin(1, name="a")
    cut = whole.partition("&session_crd=")[0]
    for session in (f"{UPLOAD}?uploadType=resumable&upload_id=nope", cut, f"{cut}&session_crd=x"):
        answer = client("PUT", session, b"x")
        assert (answer.status, answer.headers["Content-Type"][:9]) == (404, "text/html")
        assert b"Error 404 (Not Found)!!1" in answer.body
    assert client("PUT", whole, b"x").status == 200


def test_a_session_lives_a_week(client: Client) -> None:
    session = client.begin(UNIT, name="a")
    client("POST", "/_emulator/clock", {"advance": 7 * 24 * 3600 - 60})
    assert client.ask(session).status == 308
    client("POST", "/_emulator/clock", {"advance": 120})
    assert client.ask(session).status == 404


def test_cancel(client: Client) -> None:
    session = client.begin(UNIT, name="a")
    assert client("DELETE", session).status == 499
    assert client.ask(session).status == 404
    assert client.names() == []


def test_no_308_for_clients_that_ask(client: Client) -> None:
    session = client.begin(2 * UNIT, name="a")
    answer = client.put(session, noise(UNIT), 0, 2 * UNIT, **{"X-GUploader-No-308": "yes"})
    assert (answer.status, answer.headers["X-HTTP-Status-Code-Override"]) == (200, "308")
    assert answer.headers["Range"] == f"bytes=0-{UNIT - 1}"


def send_part(session: str, announced: int, data: bytes) -> None:
    """Announce more than is sent, then close."""
    parts = urlsplit(session)
    with socket.create_connection((parts.hostname, parts.port)) as raw:
        head = f"PUT {parts.path}?{parts.query} HTTP/1.1\r\nHost: {parts.netloc}\r\nContent-Length: {announced}\r\n"
        head += f"Content-Range: bytes 0-{announced - 1}/{announced}\r\n\r\n"
        raw.sendall(head.encode() + data)
        raw.shutdown(socket.SHUT_WR)
        assert raw.recv(1) == b""


def test_broken_connection_keeps_whole_units(client: Client, emulator: Emulator) -> None:
    data = noise(4 * UNIT)
    session = client.begin(len(data), name="a")
    send_part(session, len(data), data[: 2 * UNIT + 5000])
    assert client.ask(session).headers["Range"] == f"bytes=0-{2 * UNIT - 1}"
    assert emulator.stats()["received_bytes"] == 2 * UNIT + 5000
    assert emulator.stats()["sessions"][0]["received"] == 2 * UNIT + 5000
    done = client.put(session, data[2 * UNIT :], 2 * UNIT, len(data))
    assert done.json["md5Checksum"] == md5(data)
    assert emulator.stats()["violations"] == []


def test_a_new_request_supersedes_a_stuck_one(client: Client, emulator: Emulator) -> None:
    data = noise(4 * UNIT)
    session = client.begin(len(data), name="a")
    parts = urlsplit(session)
    with socket.create_connection((parts.hostname, parts.port)) as stuck:
        head = f"PUT {parts.path}?{parts.query} HTTP/1.1\r\nContent-Length: {len(data)}\r\n"
        head += f"Content-Range: bytes 0-{len(data) - 1}/{len(data)}\r\n\r\n"
        stuck.sendall(head.encode() + data[:UNIT])
        while emulator.stats()["received_bytes"] < UNIT:
            pass
        assert client.ask(session).headers["Range"] == f"bytes=0-{UNIT - 1}"
        stuck.sendall(data[UNIT:])
        assert client.put(session, data[UNIT:], UNIT, len(data)).json["md5Checksum"] == md5(data)


def test_update_of_content_and_metadata_keeps_the_id(client: Client) -> None:
    old = client.upload(b"old", name="a")
    answer = client("PATCH", f"{UPLOAD}/{old}", {"name": "b"}, uploadType="resumable", fields="id,name,size")
    done = client("PUT", answer.headers["Location"], b"newer")
    assert done.json == {"id": old, "name": "b", "size": "5"}
    assert client.get(f"{FILES}/{old}", alt="media").body == b"newer"


def test_reply_follows_the_fields_of_the_initiation(client: Client) -> None:
    session = client.begin(1, fields="", name="a")
    assert client("PUT", session + "&fields=size", b"x").json.keys() == {"kind", "id", "name", "mimeType"}
    assert client("POST", UPLOAD, {}, uploadType="resumable", fields="etag").status == 400


def test_taken_id_is_refused_at_initiation_and_at_the_last_byte(client: Client, emulator: Emulator) -> None:
    (file_id,) = client.ids()
    first, second = client.begin(1, name="a", id=file_id), client.begin(1, name="a", id=file_id)
    assert client("PUT", first, b"x").json["id"] == file_id
    late = client("PUT", second, b"x")
    assert (late.status, late.reason) == (409, "fileIdInUse")
    assert client.ask(second).status == 409
    early = client("POST", UPLOAD, {"id": file_id}, uploadType="resumable")
    assert (early.status, early.json["error"]["message"]) == (409, "A file already exists with the provided ID.")
    assert client.names() == ["a"]
    assert [v["kind"] for v in emulator.stats()["violations"]] == ["id-uploaded-twice"]


def test_id_that_was_not_issued(client: Client) -> None:
    answer = client("POST", UPLOAD, {"id": "1" * 33}, uploadType="resumable")
    assert (answer.status, answer.json["error"]["message"]) == (400, "The provided file ID is not usable.")


def test_the_session_uri_is_proof_enough(client: Client, emulator: Emulator) -> None:
    session = client.begin(1, name="a")
    assert Client(emulator.url, auth={})("PUT", session, b"x").status == 200
