"""Each fault word does what its table says."""

from __future__ import annotations

import hashlib
import http.client
import random
import threading
import time

import pytest

from driveshard.emulator import FAULTS, Emulator
from driveshard.emulator.faults import KINDS, FaultPlan, parse_faults

from .client import FILES, FOLDER, UNIT, UPLOAD, Client, noise
from .conftest import Start

DROPPED = (ConnectionResetError, http.client.RemoteDisconnected, BrokenPipeError)
DATA = noise(4 * UNIT)


def held(client: Client, session: str) -> int:
    span = client.ask(session).headers.get("Range")
    return int(span.split("-")[1]) + 1 if span else 0


def test_table_is_sound() -> None:
    assert len({fault.word for fault in FAULTS}) == len(FAULTS)
    assert all(fault.matches in KINDS and fault.does for fault in FAULTS)


@pytest.mark.parametrize(
    ("plan", "hits"),
    [
        ("503", [1]),
        ("503@3", [3]),
        ("503*2", [1, 2]),
        ("503@3*2", [3, 4]),
        ("503@7*", [7, 8, 9, 10]),
        ("503%100", list(range(1, 11))),
        ("503%100*3", [1, 2, 3]),
        ("503%0", []),
        ("503:list", []),
        ("503@2,500", [1, 2]),
        ("500,500@2", [1, 3]),
        ("", []),
    ],
)
def test_when(plan: str, hits: list[int]) -> None:
    faults = FaultPlan(plan)
    assert [n for n in range(1, 11) if faults.pick(frozenset({"call"}))] == hits


def test_probability_is_a_percentage_and_seeded() -> None:
    def hits(seed: int) -> list[bool]:
        plan = FaultPlan("503%5", seed)
        return [plan.pick(frozenset({"call"})) is not None for _ in range(4000)]

    assert hits(1) == hits(1) != hits(2)
    assert 120 < sum(hits(1)) < 280


@pytest.mark.parametrize(
    "words", ["nope", "503@0", "503*0", "503%101", "503%1.2.3", "503:never", "503@", "@3", "503@x"]
)
def test_bad_words(words: str) -> None:
    with pytest.raises(ValueError, match=r"words are: 503|out of range|kinds are|percentage|not a number"):
        parse_faults(words)


def test_words_can_be_replaced_while_running(client: Client) -> None:
    assert client("POST", "/_emulator/faults", {"faults": "503*"}).status == 200
    assert [client.get(f"{FILES}/root").status for _ in range(2)] == [503, 503]
    bad = client("POST", "/_emulator/faults", {"faults": "506"})
    assert bad.status == 400 and "503-after-256K" in bad.json["error"]["message"]
    client("POST", "/_emulator/faults", {"faults": ""})
    assert client.get(f"{FILES}/root").status == 200


@pytest.mark.parametrize(
    ("word", "status", "reason", "text"),
    [
        ("503", 503, "backendError", ""),
        ("500", 500, "internalError", ""),
        ("502-html", 502, None, "Error 502 (Server Error)!!1"),
        ("408", 408, None, "Error 408"),
        ("429", 429, "rateLimitExceeded", "Rate Limit Exceeded"),
        ("429-html", 429, None, "automated queries"),
        ("403-userRateLimit", 403, "userRateLimitExceeded", "User Rate Limit Exceeded. "),
        ("403-userRateLimit-dot", 403, "userRateLimitExceeded", '"User rate limit exceeded."'),
        ("403-rateLimit", 403, "rateLimitExceeded", "Rate Limit Exceeded"),
        ("401-expired", 401, "authError", "Invalid Credentials"),
    ],
)
def test_plain_answers(start: Start, word: str, status: int, reason: str | None, text: str) -> None:
    emulator = start(faults=f"{word}@2*2")
    client = Client(emulator.url)
    session = client.begin(len(DATA), name="a")
    answers = [client.get(f"{FILES}/root"), client.put(session, DATA[:UNIT], 0, len(DATA))]
    for answer in answers:
        assert answer.status == status
        assert text in answer.body.decode()
        assert ("text/html" in answer.headers["Content-Type"]) == (reason is None)
        assert reason is None or answer.reason == reason
    assert held(client, session) == 0
    assert client.put(session, DATA, 0, len(DATA)).status == 200
    assert emulator.stats()["faults_fired"] == {word: 2}
    assert [entry["fault"] for entry in emulator.log()][1:3] == [word, word]


@pytest.mark.parametrize(
    ("word", "reason", "text"),
    [
        ("403-dailyCap", "userRateLimitExceeded", "User rate limit exceeded."),
        ("403-projectCap", "dailyLimitExceeded", "Daily Limit Exceeded"),
    ],
)
def test_caps_last(start: Start, word: str, reason: str, text: str) -> None:
    emulator = start(faults=f"{word}@2")
    client = Client(emulator.url)
    session = client.begin(len(DATA), name="a")
    for _ in range(3):
        answer = client("POST", FILES, {"name": "f", "mimeType": FOLDER})
        assert (answer.status, answer.reason) == (403, reason)
        assert answer.json["error"]["message"] == text
    assert client.put(session, DATA, 0, len(DATA)).status == 200
    assert client.get(FILES).status == 200
    emulator.set_faults("")
    assert client("POST", FILES, {"name": "f", "mimeType": FOLDER}).status == 200


def test_storage_full(start: Start) -> None:
    client = Client(start(faults="403-storageFull").url)
    assert client("POST", FILES, {"name": "f", "mimeType": FOLDER}).status == 200
    answer = client("POST", UPLOAD, {"name": "a"}, uploadType="resumable")
    assert (answer.status, answer.reason) == (403, "storageQuotaExceeded")


def test_storage_full_in_the_middle_of_an_upload(start: Start) -> None:
    client = Client(start(faults="403-storageFull-chunk@2").url)
    session = client.begin(len(DATA), name="a")
    client.put(session, DATA[:UNIT], 0, len(DATA))
    answer = client.put(session, DATA[UNIT:], UNIT, len(DATA))
    assert (answer.status, answer.reason) == (403, "storageQuotaExceeded")
    assert answer.json["error"]["errors"][0]["domain"] == "usageLimits"
    assert held(client, session) == UNIT


def test_a_shared_drive_full_of_items(start: Start) -> None:
    emulator = start()
    client = Client(emulator.url)
    old = client.upload(b"x", name="a")
    emulator.set_faults("403-itemLimit*")
    for answer in (
        client("POST", FILES, {"name": "f", "mimeType": FOLDER}),
        client("POST", f"{FILES}/{old}/copy", {}),
        client("POST", UPLOAD, {"name": "a"}, uploadType="resumable"),
    ):
        assert (answer.status, answer.reason) == (403, "teamDriveFileLimitExceeded")
    assert client("PATCH", f"{UPLOAD}/{old}", {}, uploadType="resumable").status == 200


@pytest.mark.parametrize(
    ("word", "status", "canonical", "reason", "info"),
    [
        ("403-bare", 403, "PERMISSION_DENIED", None, None),
        ("429-bare", 429, "RESOURCE_EXHAUSTED", None, None),
        ("403-queries", 403, "PERMISSION_DENIED", "rateLimitExceeded", "RATE_LIMIT_EXCEEDED"),
        ("403-scope", 403, "PERMISSION_DENIED", "insufficientPermissions", "ACCESS_TOKEN_SCOPE_INSUFFICIENT"),
        ("400-key", 400, "INVALID_ARGUMENT", "badRequest", "API_KEY_INVALID"),
        ("403-key-blocked", 403, "PERMISSION_DENIED", "forbidden", "API_KEY_SERVICE_BLOCKED"),
    ],
)
def test_newer_shapes(
    start: Start, word: str, status: int, canonical: str, reason: str | None, info: str | None
) -> None:
    answer = Client(start(faults=word).url).get(f"{FILES}/root")
    error = answer.json["error"]
    assert (answer.status, error["code"], error["status"]) == (status, status, canonical)
    assert ("errors" in error) == (reason is not None) and bool(error["message"])
    assert reason is None or answer.reason == reason
    assert info is None or [detail["reason"] for detail in error["details"]] == [info]


def test_abuse_page_instead_of_content(start: Start) -> None:
    client = Client(start(faults="403-html").url)
    file_id = client.upload(b"x", name="a")
    answer = client.get(f"{FILES}/{file_id}", alt="media")
    assert (answer.status, answer.headers["Content-Type"]) == (403, "text/html")
    assert b"We're sorry..." in answer.body


def test_expired_token_stays_refused(start: Start) -> None:
    emulator = start(faults="401-expired@2*2")
    token = Client(emulator.url, auth={})("POST", "/token", b"grant_type=refresh_token&refresh_token=r").json
    client = Client(emulator.url, auth={"Authorization": f"Bearer {token['access_token']}"})
    assert [client.get(f"{FILES}/root").status for _ in range(4)] == [200, 401, 401, 401]
    fixed = Client(emulator.url)
    assert [fixed.get(f"{FILES}/root").status for _ in range(2)] == [200, 200]


def test_reset_in_the_middle_of_a_body(start: Start) -> None:
    emulator = start(faults="reset")
    client = Client(emulator.url)
    session = client.begin(len(DATA), name="a")
    with pytest.raises(DROPPED):
        client.put(session, DATA, 0, len(DATA))
    assert held(client, session) == 2 * UNIT
    assert client.put(session, DATA[2 * UNIT :], 2 * UNIT, len(DATA)).status == 200
    assert emulator.log()[1]["bytes"] == 2 * UNIT
    assert emulator.stats()["received_bytes"] == 4 * UNIT


def test_503_after_256k(start: Start) -> None:
    client = Client(start(faults="503-after-256K").url)
    session = client.begin(len(DATA), name="a")
    assert client.put(session, DATA, 0, len(DATA)).status == 503
    assert held(client, session) == UNIT


def test_reset_before_reply(start: Start) -> None:
    client = Client(start(faults="reset-before-reply").url)
    session = client.begin(len(DATA), name="a")
    with pytest.raises(DROPPED):
        client.put(session, DATA[: 2 * UNIT], 0, len(DATA))
    assert held(client, session) == 2 * UNIT


def test_another_kind_of_request_can_be_named(start: Start) -> None:
    client = Client(start(faults="reset-before-reply:create").url)
    with pytest.raises(DROPPED):
        client.folder("made all the same")
    assert client.names() == ["made all the same"]


def test_stall_holds_the_connection_until_stop(start: Start) -> None:
    emulator = start(faults="stall")
    client, other = Client(emulator.url), Client(emulator.url)
    session = client.begin(len(DATA), name="a")
    ended = threading.Event()

    def send() -> None:
        with pytest.raises((*DROPPED, http.client.HTTPException)):
            client.put(session, DATA, 0, len(DATA))
        ended.set()

    threading.Thread(target=send, daemon=True).start()
    deadline = time.monotonic() + 10
    while held(other, session) < UNIT and time.monotonic() < deadline:
        pass
    assert held(other, session) == UNIT and not ended.is_set()
    assert other.put(session, DATA[UNIT:], UNIT, len(DATA)).status == 200
    emulator.stop()
    assert ended.wait(10)


def test_slow_session(start: Start) -> None:
    client = Client(start(faults="slow-session").url)
    slow, quick = client.begin(20_000, name="a"), client.begin(20_000, name="b")
    began = time.monotonic()
    client("PUT", quick, bytes(20_000))
    between = time.monotonic()
    client("PUT", slow, bytes(20_000))
    assert time.monotonic() - between > max(0.25, between - began)


def test_short_308(start: Start) -> None:
    client = Client(start(faults="308-short").url)
    session = client.begin(len(DATA), name="a")
    answer = client.put(session, DATA, 0, len(DATA))
    assert (answer.status, answer.headers["Range"]) == (308, f"bytes=0-{2 * UNIT - 1}")
    assert client.put(session, DATA[2 * UNIT :], 2 * UNIT, len(DATA)).status == 200


def test_308_without_range(start: Start) -> None:
    client = Client(start(faults="308-no-range@2").url)
    session = client.begin(len(DATA), name="a")
    client.put(session, DATA[:UNIT], 0, len(DATA))
    answer = client.put(session, DATA[UNIT : 2 * UNIT], UNIT, len(DATA))
    assert answer.status == 308 and "Range" not in answer.headers
    assert held(client, session) == 0
    other = noise(4 * UNIT, seed=1)
    client.put(session, other[: 2 * UNIT], 0, len(other))
    done = client.put(session, other[2 * UNIT :], 2 * UNIT, len(other))
    assert done.json["md5Checksum"] == hashlib.md5(other).hexdigest()


@pytest.mark.parametrize("kind", ["resumable", "multipart"])
def test_lost_final(start: Start, kind: str) -> None:
    client = Client(start(faults="lost-final").url)
    if kind == "resumable":
        session = client.begin(len(DATA), name="a")
        with pytest.raises(DROPPED):
            client.put(session, DATA, 0, len(DATA))
        assert client.ask(session).json["name"] == "a"
    else:
        body = b'--b\n\n{"name": "a"}\n--b\n\nxyz\n--b--'
        with pytest.raises(DROPPED):
            client("POST", UPLOAD, body, {"Content-Type": "multipart/related; boundary=b"}, uploadType="multipart")
    assert client.names() == ["a"]


def test_final_201(start: Start) -> None:
    client = Client(start(faults="final-201").url)
    session = client.begin(1, name="a")
    assert client("PUT", session, b"x").status == 201
    assert client.ask(session).status == 200


@pytest.mark.parametrize("status", [404, 410])
def test_session_gone(start: Start, status: int) -> None:
    client = Client(start(faults=f"session-{status}@2").url)
    session = client.begin(len(DATA), name="a")
    client.put(session, DATA[:UNIT], 0, len(DATA))
    assert client.put(session, DATA[UNIT:], UNIT, len(DATA)).status == status
    assert client.ask(session).status == status
    assert client.names() == []


def test_wrong_md5(start: Start) -> None:
    client = Client(start(faults="wrong-md5").url)
    file_id = client.upload(DATA, name="a")
    stored = client.get(f"{FILES}/{file_id}", alt="media").body
    assert stored != DATA and len(stored) == len(DATA)
    told = client.get(f"{FILES}/{file_id}", fields="md5Checksum").json["md5Checksum"]
    assert told == hashlib.md5(stored).hexdigest()


def test_late_md5(start: Start) -> None:
    client = Client(start(faults="md5-late").url)
    done = client("PUT", client.begin(1, name="a", fields="id,size,md5Checksum,sha256Checksum"), b"x").json
    assert done.keys() == {"id", "size"}
    asked = [client.get(f"{FILES}/{done['id']}", fields="md5Checksum,sha256Checksum").json for _ in range(3)]
    assert [len(answer) for answer in asked] == [0, 0, 2]


def test_list_lag(start: Start) -> None:
    client = Client(start(faults="list-lag").url)
    folder = client.folder()
    assert client.get(f"{FILES}/{folder}").status == 200
    assert [client.names() for _ in range(4)] == [[], [], [], ["folder"]]


def test_list_lag_for_a_time(start: Start) -> None:
    client = Client(start(faults="list-lag=0.5").url)
    folder = client.folder()
    began = time.monotonic()
    assert [client.names() for _ in range(5)] == [[]] * 5
    while not client.names():
        assert client.get(f"{FILES}/{folder}").status == 200
    assert 0.4 < time.monotonic() - began < 5


def test_id_turns_out_to_be_taken(start: Start) -> None:
    client = Client(start(faults="409-id-in-use").url)
    taken, good = client.ids(2)
    client.begin(1, name="no id")
    for _ in range(2):
        answer = client("POST", UPLOAD, {"id": taken}, uploadType="resumable")
        assert (answer.status, answer.reason) == (409, "fileIdInUse")
    assert client.get(f"{FILES}/{taken}").status == 404
    assert client.upload(b"x", name="a", id=good) == good


def test_publish_refused(start: Start) -> None:
    client = Client(start(faults="publish-refused").url)
    folder = client.folder()
    refused = client.share(folder)
    assert (refused.status, refused.reason) == (403, "publishOutNotPermitted")
    assert client.share(folder).status == 200


def test_download_quota(start: Start) -> None:
    client = Client(start(faults="download-quota").url)
    file_id = client.upload(b"x", name="a")
    refused = client.get(f"{FILES}/{file_id}", alt="media")
    assert (refused.status, refused.reason) == (403, "downloadQuotaExceeded")
    assert client.get(f"{FILES}/{file_id}", alt="media").body == b"x"


def test_a_random_plan_never_breaks_what_is_stored(start: Start) -> None:
    """A client that queries after every failure always ends with the right bytes, whatever fails on the way."""
    words = "503%8,408%4,reset%8,503-after-256K%8,308-short%8,308-no-range%3,reset-before-reply%8,lost-final%20"
    emulator = start(faults=words, seed=7, strict=True)
    client = Client(emulator.url)
    emulator.set_faults("")
    dice = random.Random(7)
    for number in range(8):
        data = noise(dice.randrange(6 * UNIT), number)
        session = client.begin(len(data), name=f"{number}")
        emulator.set_faults(words, number)
        assert drive_to_the_end(client, session, data) == hashlib.md5(data).hexdigest()
        emulator.set_faults("")
    assert emulator.stats()["violations"] == []


def drive_to_the_end(client: Client, session: str, data: bytes) -> str:
    offset = 0
    for _ in range(500):
        chunk = data[offset : offset + 2 * UNIT]
        try:
            answer = client.put(session, chunk, offset, len(data)) if chunk else client("PUT", session, b"")
            while answer.status not in (200, 308):
                answer = client.ask(session, len(data))
        except DROPPED:
            try:
                answer = client.ask(session, len(data))
            except DROPPED:
                continue
        if answer.status == 200:
            return answer.json["md5Checksum"]
        if answer.status == 308:
            offset = int(answer.headers["Range"].split("-")[1]) + 1 if answer.headers.get("Range") else 0
    raise AssertionError("never finished")


def test_every_word_is_tested_here(emulator: Emulator) -> None:
    from pathlib import Path

    text = "".join(path.read_text() for path in Path(__file__).parent.glob("test_*.py"))
    missing = [f.word for f in FAULTS if f.word not in text and f.word[:-3] + "{status}" not in text]
    assert [word for word in missing if word not in ("session-404", "session-410")] == []
