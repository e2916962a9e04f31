"""The server around the API: batch, limits, statistics, log, command line."""

from __future__ import annotations

import threading
import time
from dataclasses import fields

import click
import pytest

from driveshard.cli.main import driveshard
from driveshard.emulator.__main__ import build_parser, parse_rate
from driveshard.emulator.limits import WriteLimit
from driveshard.emulator.options import Options

from .client import FILES, FOLDER, UNIT, UPLOAD, Client, noise
from .conftest import Start


def batch(*calls: str) -> bytes:
    parts = [
        f"--b\r\nContent-Type: application/http\r\nContent-ID: <call+{n}>\r\n\r\n{c}\r\n" for n, c in enumerate(calls)
    ]
    return ("".join(parts) + "--b--").encode()


def test_batch(client: Client) -> None:
    folder = client.folder()
    headers = {"Content-Type": "multipart/mixed; boundary=b"}
    made = 'POST /drive/v3/files HTTP/1.1\r\nContent-Type: application/json\r\n\r\n{"name": "in"}'
    body = batch(f"GET {FILES}/{folder}?fields=name", made, f"GET {FILES}/nope", f"GET {FILES}/{folder}?alt=media")
    answer = client("POST", "/batch/drive/v3", body, headers)
    assert answer.status == 200 and answer.headers["Content-Type"].startswith("multipart/mixed; boundary=")
    pieces = answer.body.decode().split("Content-ID: <response-call+")[1:]
    assert [piece.split("HTTP/1.1 ")[1][:3] for piece in pieces] == ["200", "200", "404", "400"]
    assert '"name": "folder"' in pieces[0]
    assert client.names() == ["folder", "in"]
    assert client("POST", "/batch/drive/v3", batch(*["GET /"] * 101), headers).status == 400
    assert client("POST", "/batch/drive/v3", b"", headers).status == 400


def test_writes_per_second(start: Start) -> None:
    emulator = start(writes_per_second=2)
    client = Client(emulator.url)
    session = client.begin(3 * UNIT, name="a")
    answers = [client("POST", FILES, {"name": "f", "mimeType": FOLDER}) for _ in range(3)]
    assert [answer.status for answer in answers] == [200, 403, 403]
    assert answers[1].reason == "rateLimitExceeded"
    for start_at in range(0, 3 * UNIT, UNIT):
        assert client.put(session, bytes(UNIT), start_at, 3 * UNIT).status in (200, 308)
    assert client.get(FILES).status == 200
    assert emulator.stats()["writes"] == emulator.stats()["max_writes_in_any_second"] == 4


@pytest.mark.parametrize(
    ("rate", "moments", "admitted"),
    [
        (None, [0, 0, 0, 0], [True] * 4),
        (2, [0, 0.5, 0.9, 1.0, 1.4, 1.5], [True, True, False, True, False, True]),
        (0.5, [0, 1.9, 2.0], [True, False, True]),
    ],
)
def test_write_limit(rate: float | None, moments: list[float], admitted: list[bool]) -> None:
    limit = WriteLimit(rate)
    assert [limit.admit(moment) for moment in moments] == admitted


def test_bandwidth_is_shared_and_smooth(start: Start) -> None:
    emulator = start(bandwidth=2_000_000)
    sessions = [Client(emulator.url).begin(400_000, name=str(n)) for n in range(2)]
    began = time.monotonic()
    threads = [
        threading.Thread(target=Client(emulator.url), args=("PUT", session, bytes(400_000))) for session in sessions
    ]
    for thread in threads:
        thread.start()
    seen: set[int] = set()
    while any(thread.is_alive() for thread in threads):
        seen.add(emulator.stats()["received_bytes"])
    assert 0.35 < time.monotonic() - began < 2
    assert len(seen) > 8


def test_latency(start: Start) -> None:
    client = Client(start(latency_ms=60).url)
    began = time.monotonic()
    client.get(FILES)
    assert time.monotonic() - began >= 0.06


def test_stats_log_and_reset(start: Start) -> None:
    emulator = start()
    client = Client(emulator.url)
    session = client.begin(UNIT + 1, name="a")
    client.put(session, noise(UNIT), 0, UNIT + 1)
    stats = client.get("/_emulator/stats").json
    assert (stats["requests"], stats["writes"], stats["received_bytes"], stats["stored_bytes"]) == (2, 1, UNIT, 0)
    (held,) = stats["sessions"]
    assert held | {"id": "", "file_id": ""} == {
        "id": "",
        "file_id": "",
        "name": "a",
        "received": UNIT,
        "stored": UNIT,
        "state": "open",
    }
    lines = client.get("/_emulator/log", since=1).body.decode().splitlines()
    assert len(lines) == 1
    entry = emulator.log(since=1)[0]
    assert (entry["method"], entry["status"], entry["bytes"]) == ("PUT", 308, UNIT)
    assert (entry["content_range"], entry["range"]) == (f"bytes 0-{UNIT - 1}/{UNIT + 1}", f"bytes=0-{UNIT - 1}")
    client("POST", "/_emulator/reset-stats")
    stats = emulator.stats()
    assert (stats["requests"], stats["received_bytes"], len(emulator.log())) == (0, 0, 0)
    assert client.get("/_emulator/nope").status == 404
    assert client("POST", "/_emulator/clock", {"advance": "x"}).status == 400


def test_not_strict_remembers_no_violations(start: Start) -> None:
    emulator = start()
    client = Client(emulator.url)
    client.put(client.begin(2 * UNIT, name="a"), noise(10), 0, 2 * UNIT)
    assert emulator.stats()["violations"] == []


def test_many_at_once(start: Start) -> None:
    emulator = start()
    errors: list[BaseException] = []

    def work(number: int) -> None:
        client = Client(emulator.url)
        try:
            for step in range(5):
                data = noise(UNIT + step, number)
                file_id = client.upload(data, name=f"{number}-{step}")
                assert client.get(f"{FILES}/{file_id}", alt="media").body == data
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert emulator.stats()["files"] == 40


def test_unfinished_sessions_hold_no_descriptors(start: Start) -> None:
    import os

    client = Client(start().url)
    before = len(os.listdir("/proc/self/fd"))
    for number in range(30):
        client.put(client.begin(2 * UNIT, name=str(number)), noise(UNIT), 0, 2 * UNIT)
    assert len(os.listdir("/proc/self/fd")) - before < 5


@pytest.mark.parametrize(
    ("text", "rate"), [("20M", 20 << 20), ("512k", 512 << 10), ("1000", 1000), ("1.5MiB/s", 3 << 19)]
)
def test_rates(text: str, rate: int) -> None:
    assert parse_rate(text) == rate


@pytest.mark.parametrize("text", ["", "fast", "-1", "0", "1X"])
def test_bad_rates(text: str) -> None:
    with pytest.raises(ValueError, match="not a rate"):
        parse_rate(text)


def test_the_command_line_takes_every_option() -> None:
    names = {"root", "port", *(field.name for field in fields(Options))}
    assert vars(build_parser().parse_args(["--root", "x"])).keys() == names
    command, status = (driveshard.get_command(click.Context(driveshard), name) for name in ("emulate", "status"))
    assert command is not None and status is not None
    everywhere = {parameter.name for parameter in status.params}
    assert {parameter.name for parameter in command.params} - everywhere == names - {"strict", "seed"}


def test_help_names_every_fault() -> None:
    assert "lost-final" in build_parser().format_help()


def test_expect_100_continue(start: Start) -> None:
    import socket
    from urllib.parse import urlsplit

    client = Client(start().url)
    parts = urlsplit(client.begin(5, name="a"))
    with socket.create_connection((parts.hostname, parts.port)) as raw:
        head = f"PUT {parts.path}?{parts.query} HTTP/1.1\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n"
        raw.sendall(head.encode())
        assert raw.recv(1000) == b"HTTP/1.1 100 Continue\r\n\r\n"
        raw.sendall(b"hello")
        assert raw.recv(1000).startswith(b"HTTP/1.1 200 OK")
    assert client("POST", UPLOAD).status == 400
