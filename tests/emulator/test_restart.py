"""What survives the end of the emulator, gentle or not."""

from __future__ import annotations

import hashlib
import json
import signal
import socket
import subprocess
import sys
import time
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


def serve(root: Path) -> tuple[subprocess.Popen[str], str]:
    command = [sys.executable, "-m", "driveshard.emulator", "--root", str(root)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout
    return process, json.loads(process.stdout.readline())["url"]


def end(process: subprocess.Popen[str], number: int) -> int:
    process.send_signal(number)
    code = process.wait(10)
    assert process.stdout
    process.stdout.close()
    return code


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signals_end_it_well(tmp_path: Path, number: int) -> None:
    process, url = serve(tmp_path)
    assert Client(url).get(f"{FILES}/root").status == 200
    assert end(process, number) == 0


def test_kill_in_the_middle_of_a_body(tmp_path: Path) -> None:
    process, url = serve(tmp_path)
    client = Client(url)
    session = client.begin(len(DATA), name="a")
    parts = urlsplit(session)
    with socket.create_connection((parts.hostname, parts.port)) as raw:
        head = f"PUT {parts.path}?{parts.query} HTTP/1.1\r\nContent-Length: {len(DATA)}\r\n"
        raw.sendall(head.encode() + f"Content-Range: bytes 0-{len(DATA) - 1}/{len(DATA)}\r\n\r\n".encode())
        raw.sendall(DATA[: 5 * UNIT])
        deadline = time.monotonic() + 10
        while client.get("/_emulator/stats").json["received_bytes"] < 5 * UNIT and time.monotonic() < deadline:
            pass
        end(process, signal.SIGKILL)

    process, url = serve(tmp_path)
    client = Client(url)
    stats = client.get("/_emulator/stats").json
    assert stats["received_bytes"] == stats["sessions"][0]["received"] == 5 * UNIT
    path = f"{parts.path}?{parts.query}"
    offset = int(client.ask(path).headers["Range"].split("-")[1]) + 1
    assert offset == 4 * UNIT
    done = client.put(path, DATA[offset:], offset, len(DATA))
    assert done.json["md5Checksum"] == hashlib.md5(DATA).hexdigest()
    assert client.names() == ["a"]
    assert end(process, signal.SIGTERM) == 0


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
