"""What survives the end of the emulator, gentle or not."""

from __future__ import annotations

import hashlib
import json
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from .client import FILES, UNIT, Client, noise
from .conftest import Start

DATA = noise(8 * UNIT)


def test_everything_is_there_after_a_restart(start: Start, tmp_path: Path) -> None:
    first = start()
    client = Client(first.url)
    issued, used = client.ids(2)
    folder = client.folder("kept", appProperties={"job": "7"})
    client.share(folder)
    file_id = client.upload(b"content", name="a", id=used, parents=[folder])
    session = client.begin(len(DATA), name="b", parents=[folder])
    client.put(session, DATA[: 3 * UNIT], 0, len(DATA))
    before = first.stats()
    first.stop()

    client = Client(start().url)
    assert client.get(f"{FILES}/{file_id}", alt="media").body == b"content"
    assert client.get(f"{FILES}/{folder}", fields="appProperties,shared").json == {
        "appProperties": {"job": "7"},
        "shared": True,
    }
    assert client.upload(b"x", name="c", id=issued) == issued
    path = urlsplit(session)._replace(scheme="", netloc="").geturl()
    assert client.ask(path).headers["Range"] == f"bytes=0-{3 * UNIT - 1}"
    assert client.put(path, DATA[3 * UNIT :], 3 * UNIT, len(DATA)).json["md5Checksum"] == hashlib.md5(DATA).hexdigest()
    after = client.get("/_emulator/stats").json
    assert after["received_bytes"] == before["received_bytes"] + 5 * UNIT + 1
    assert [s["state"] for s in after["sessions"]] == ["done", "done", "done"]
    assert len((tmp_path / "drive" / "requests.jsonl").read_text().splitlines()) > before["requests"]


class Served:
    """`python -m driveshard.emulator` in a process of its own."""

    def __init__(self, root: Path) -> None:
        command = [sys.executable, "-m", "driveshard.emulator", "--root", str(root)]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert self.process.stdout
        self.url = json.loads(self.process.stdout.readline())["url"]

    def end(self, number: int) -> int:
        self.process.send_signal(number)
        return self.process.wait(10)


@pytest.fixture
def serve() -> Iterator[Callable[[Path], Served]]:
    running: list[Served] = []

    def begin(root: Path) -> Served:
        running.append(Served(root))
        return running[-1]

    yield begin
    for served in running:
        served.process.kill()
        served.process.wait(10)
        served.process.__exit__(None, None, None)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signals_end_it_well(serve: Callable[[Path], Served], tmp_path: Path, number: int) -> None:
    served = serve(tmp_path)
    assert Client(served.url).get(f"{FILES}/root").status == 200
    assert served.end(number) == 0


def test_kill_in_the_middle_of_a_body(serve: Callable[[Path], Served], tmp_path: Path) -> None:
    served = serve(tmp_path)
    client = Client(served.url)
    session = client.begin(len(DATA), name="a")
    parts = urlsplit(session)
    sent = 5 * UNIT + 1000
    with socket.create_connection((parts.hostname, parts.port)) as raw:
        head = f"PUT {parts.path}?{parts.query} HTTP/1.1\r\nContent-Length: {len(DATA)}\r\n"
        raw.sendall(head.encode() + f"Content-Range: bytes 0-{len(DATA) - 1}/{len(DATA)}\r\n\r\n".encode())
        raw.sendall(DATA[:sent])
        deadline = time.monotonic() + 10
        while client.get("/_emulator/stats").json["sessions"][0]["stored"] < sent and time.monotonic() < deadline:
            pass
        served.end(signal.SIGKILL)

    served = serve(tmp_path)
    client = Client(served.url)
    stats = client.get("/_emulator/stats").json
    assert stats["received_bytes"] == stats["sessions"][0]["received"] == sent
    path = f"{parts.path}?{parts.query}"
    assert client.ask(path).headers["Range"] == f"bytes=0-{5 * UNIT - 1}"
    done = client.put(path, DATA[5 * UNIT :], 5 * UNIT, len(DATA))
    assert done.json["md5Checksum"] == hashlib.md5(DATA).hexdigest()
    assert client.names() == ["a"]
    assert served.end(signal.SIGTERM) == 0


def test_leftovers_are_swept(start: Start, tmp_path: Path) -> None:
    emulator = start()
    Client(emulator.url).upload(b"kept", name="a")
    emulator.stop()
    blobs = tmp_path / "drive" / "blobs"
    (blobs / "stray").write_bytes(b"x")
    start()
    assert len(list(blobs.iterdir())) == 1


def test_command_line_refuses_bad_words(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "driveshard.emulator", "--root", str(tmp_path), "--faults", "506"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2 and "unknown fault '506'" in done.stderr
