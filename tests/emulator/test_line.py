"""The line between client and server: its rate in each direction, its round trip, and how it breaks."""

from __future__ import annotations

import http.client
import socket
import threading
import time
import tracemalloc
from urllib.parse import urlsplit

import pytest

from driveshard.emulator import Emulator
from driveshard.emulator.limits import Throttle
from driveshard.emulator.sessions import Digests

from .client import FILES, UNIT, Client, noise
from .conftest import Start

DROPPED = (ConnectionResetError, http.client.RemoteDisconnected, BrokenPipeError)
DATA = noise(4 * UNIT)


def held(client: Client, session: str) -> int:
    span = client.ask(session).headers.get("Range")
    return int(span.split("-")[1]) + 1 if span else 0


def together(*jobs: Client, call: tuple[object, ...]) -> float:
    """Seconds that the same call takes from several connections at once."""
    threads = [threading.Thread(target=job, args=call) for job in jobs]
    began = time.monotonic()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return time.monotonic() - began


def test_downloads_share_the_bandwidth_too(start: Start) -> None:
    emulator = start()
    file_id = Client(emulator.url).upload(noise(400_000), name="a")
    emulator.drive.line.set_bandwidth(2_000_000)
    clients = [Client(emulator.url) for _ in range(2)]
    assert 0.3 < together(*clients, call=("GET", f"{FILES}/{file_id}?alt=media")) < 3


def test_uploads_and_downloads_do_not_share(start: Start) -> None:
    emulator = start(bandwidth=1_000_000)
    line = emulator.drive.line
    began = time.monotonic()
    for throttle in (line.up, line.down):
        throttle.take(100_000)
    both = time.monotonic() - began
    assert both > 0.09
    assert line.up.rate == line.down.rate == 1_000_000


def test_a_busy_line_reaches_its_rate() -> None:
    """Sleeping too long is made up for, or every block would lose a little."""
    throttle = Throttle(10_000_000, threading.Event())
    began = time.monotonic()
    for _ in range(250):
        throttle.take(20_000)
    assert 0.4 < time.monotonic() - began < 0.75


def test_a_request_costs_one_round_trip(start: Start) -> None:
    client = Client(start(latency_ms=80).url)
    client.get("/_emulator/stats")
    began = time.monotonic()
    client.get(f"{FILES}/root")
    assert 0.08 <= time.monotonic() - began < 0.16


def test_the_line_changes_in_the_middle_of_a_request(start: Start) -> None:
    emulator = start(bandwidth=200_000_000)
    client, control = Client(emulator.url), Client(emulator.url)
    data = noise(8 << 20)
    session = client.begin(len(data), name="a")
    assert control("POST", "/_emulator/line", {"factor": 0.01}).json["bandwidth"] == 2_000_000
    thread = threading.Thread(target=client.put, args=(session, data, 0, len(data)))
    thread.start()
    while emulator.stats()["received_bytes"] < 300_000:
        pass
    slow = emulator.stats()["received_bytes"]
    assert thread.is_alive() and slow < 4 << 20
    assert control("POST", "/_emulator/line", {"bandwidth": None, "latency_ms": 5}).json == {
        "bandwidth": None,
        "latency_ms": 5,
        "outage": 0,
    }
    thread.join(20)
    assert emulator.stats()["received_bytes"] == len(data)


@pytest.mark.parametrize("body", [{"bandwidth": "fast"}, {"bandwidth": 0}, {"factor": -1}, {"latency_ms": "x"}])
def test_bad_lines(client: Client, body: dict[str, object]) -> None:
    assert client("POST", "/_emulator/line", body).status == 400
    assert client.get(f"{FILES}/root").status == 200


def test_a_tenth_from_a_request_on(start: Start) -> None:
    emulator = start(bandwidth=5_000_000, faults="tenth@2")
    client = Client(emulator.url)
    client.get(f"{FILES}/root")
    assert emulator.drive.line.up.rate == 5_000_000
    client.get(f"{FILES}/root")
    assert emulator.drive.line.up.rate == emulator.drive.line.down.rate == 500_000


@pytest.mark.parametrize("how", ["word", "control"])
def test_outage(start: Start, how: str) -> None:
    emulator = start(faults="outage=0.4@2" if how == "word" else "")
    client, idle = Client(emulator.url), Client(emulator.url)
    session = client.begin(len(DATA), name="a")
    parts = urlsplit(session)
    with socket.create_connection((parts.hostname or "", parts.port or 0)) as stuck:
        head = f"PUT {parts.path}?{parts.query} HTTP/1.1\r\nContent-Length: {len(DATA)}\r\n\r\n"
        if how == "control":
            stuck.sendall(head.encode() + DATA[: 2 * UNIT])
            while emulator.stats()["received_bytes"] < 2 * UNIT:
                pass
            assert client("POST", "/_emulator/line", {"outage": 0.4}).status == 200
            with pytest.raises(ConnectionResetError):
                stuck.recv(1)
        for one in (client, idle, Client(emulator.url)):
            with pytest.raises(DROPPED):
                one.get(f"{FILES}/root")
    assert client.get("/_emulator/stats").status == 200
    time.sleep(0.45)
    assert client.get(f"{FILES}/root").status == 200
    assert held(client, session) == (2 * UNIT if how == "control" else 0)


def test_connections_are_dropped_by_chance(start: Start) -> None:
    emulator = start(faults="drop%30", seed=3)
    client = Client(emulator.url)
    lost = 0
    for _ in range(60):
        try:
            client.get(f"{FILES}/root")
        except DROPPED:
            lost += 1
    assert 8 < lost < 30
    assert emulator.stats()["faults_fired"]["drop"] == lost


def test_a_drop_in_a_body_comes_anywhere(start: Start) -> None:
    emulator = start()
    client = Client(emulator.url)
    places = set()
    for seed in range(6):
        session = client.begin(len(DATA), name=str(seed))
        emulator.set_faults("drop", seed=seed)
        with pytest.raises(DROPPED):
            client.put(session, DATA, 0, len(DATA))
        places.add(held(client, session))
        assert (
            client.put(session, DATA[max(places & {held(client, session)}) :], held(client, session), len(DATA)).status
            == 200
        )
    assert len(places) > 1


@pytest.mark.parametrize(("words", "kept"), [("reset:chunk@2", 3), ("reset:chunk@2,keep-nothing*", 1)])
def test_what_a_broken_request_leaves(start: Start, words: str, kept: int) -> None:
    client = Client(start(faults=words).url)
    data = noise(6 * UNIT)
    session = client.begin(len(data), name="a")
    client.put(session, data[:UNIT], 0, len(data))
    with pytest.raises(DROPPED):
        client.put(session, data[UNIT : 5 * UNIT], UNIT, len(data))
    assert held(client, session) == kept * UNIT
    done = client.put(session, data[kept * UNIT :], kept * UNIT, len(data))
    assert done.json["md5Checksum"] == Client.md5(data)


@pytest.mark.parametrize("asked_early", [False, True])
def test_a_client_that_goes_away_leaves_nothing(start: Start, asked_early: bool) -> None:
    emulator = start(faults="keep-nothing*")
    client = Client(emulator.url)
    session = client.begin(len(DATA), name="a")
    client.put(session, DATA[:UNIT], 0, len(DATA))
    parts = urlsplit(session)
    with socket.create_connection((parts.hostname or "", parts.port or 0)) as raw:
        head = f"PUT {parts.path}?{parts.query} HTTP/1.1\r\nContent-Length: {3 * UNIT}\r\n"
        head += f"Content-Range: bytes {UNIT}-{len(DATA) - 1}/{len(DATA)}\r\n\r\n"
        raw.sendall(head.encode() + DATA[UNIT : 3 * UNIT])
        while emulator.stats()["received_bytes"] < 3 * UNIT:
            pass
        if asked_early:
            assert held(client, session) == UNIT
    assert held(client, session) == UNIT
    assert client.put(session, DATA[UNIT:], UNIT, len(DATA)).json["md5Checksum"] == Client.md5(DATA)


@pytest.mark.parametrize(("word", "status"), [("503", 503), ("403-rateLimit", 403), ("session-404", 404)])
def test_a_refusal_comes_while_the_body_still_goes(start: Start, word: str, status: int) -> None:
    emulator = start(faults=f"{word}:chunk,early*")
    client = Client(emulator.url)
    session = client.begin(len(DATA), name="a")
    parts = urlsplit(session)
    with socket.create_connection((parts.hostname or "", parts.port or 0)) as raw:
        head = f"PUT {parts.path}?{parts.query} HTTP/1.1\r\nContent-Length: {len(DATA)}\r\n\r\n"
        raw.sendall(head.encode() + DATA[:1000])
        raw.settimeout(10)
        answer = raw.recv(5000)
        assert answer.startswith(f"HTTP/1.1 {status} ".encode()) and b"Connection: close" in answer
        raw.sendall(DATA[1000:])
    if status != 404:
        assert held(client, session) == 0
        assert client.put(session, DATA, 0, len(DATA)).status == 200


def test_a_big_body_needs_no_memory(emulator: Emulator) -> None:
    """96 MiB in one request: what is allocated on the way stays small."""
    client = Client(emulator.url)
    size = 96 << 20
    session = client.begin(size, name="big", fields="size,md5Checksum")
    block = noise(1 << 20)
    tracemalloc.start()
    try:
        answer = client("PUT", session, (block for _ in range(96)), {"Content-Length": str(size)})
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert answer.json["size"] == str(size)
    assert answer.json["md5Checksum"] == Client.md5(block * 96)
    assert peak < 8 << 20


def test_bytes_are_hashed_once(monkeypatch: pytest.MonkeyPatch, emulator: Emulator) -> None:
    """Neither chunks nor cuts at a unit make the server read a blob again."""
    reads: list[object] = []
    monkeypatch.setattr(Digests, "_catch_up", lambda self, path, upto: reads.append((path, upto)))
    client = Client(emulator.url)
    session = client.begin(len(DATA), name="a")
    client.put(session, DATA[: 2 * UNIT], 0, len(DATA))
    emulator.set_faults("reset:chunk")
    with pytest.raises(DROPPED):
        client.put(session, DATA[2 * UNIT :], 2 * UNIT, len(DATA))
    assert held(client, session) == 3 * UNIT
    assert client.put(session, DATA[3 * UNIT :], 3 * UNIT, len(DATA)).json["md5Checksum"] == Client.md5(DATA)
    assert reads == []
