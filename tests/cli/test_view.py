"""The page for a dataset as a person meets it: the command as a process, its page in a real browser."""

from __future__ import annotations

import io
import json
import re
import signal
import subprocess
import sys
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from driveshard.dataset.view.site import PAGE
from tests.browser import Chromium
from tests.rig import environment

EVIL = "<img src=x onerror=alert(1)>"
LEFT, RIGHT, ESCAPE = "\ue012", "\ue014", "\ue00c"


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A zip of 60 samples of an image, a deep depth map and a label; one with a hostile name, and a broken image."""
    made = tmp_path_factory.mktemp("view") / "set"
    made.mkdir()
    depth = io.BytesIO()
    Image.fromarray((900 + np.add.outer(np.arange(24), np.arange(32))).astype(np.uint16)).save(depth, "PNG")
    with zipfile.ZipFile(made / "a.zip", "w") as archive:
        archive.writestr(f"{EVIL}.html", "<script>document.title = 'hacked'</script>")
        archive.writestr(f"{EVIL}.svg", "<svg xmlns='http://www.w3.org/2000/svg' onload=\"document.title='hacked'\"/>")
        for number in range(60):
            image = io.BytesIO()
            Image.new("RGB", (32, 24), (number * 4, 90, 30)).save(image, "JPEG")
            key = f"{'cat' if number % 2 else 'dog'}s/{number:03d}"
            archive.writestr(f"{key}.image.jpg", image.getvalue())
            archive.writestr(f"{key}.depth.png", depth.getvalue())
            archive.writestr(f"{key}.json", json.dumps({"number": number, "words": f"<b>{number}</b>"}))
        archive.writestr("zz.jpg", b"\xff\xd8\xff no picture")
    return made


@pytest.fixture
def command(directory: Path, tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """``driveshard view`` of it; it ends quietly."""
    process = started(directory, tmp_path)
    yield process
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=20)
    assert process.returncode == 0 and "Traceback" not in err, err


def started(directory: Path, home: Path, *options: str) -> subprocess.Popen[str]:
    variables = environment(DRIVESHARD_HOME=str(home))
    for name in ("BROWSER", "DISPLAY", "WAYLAND_DISPLAY"):
        variables.pop(name, None)
    arguments = [sys.executable, "-m", "driveshard", "view", str(directory), *options]
    return subprocess.Popen(
        arguments, env=variables, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, bufsize=1
    )


def said(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


def test_the_page_shows_filters_and_opens_samples(command: subprocess.Popen[str], chromium: Chromium) -> None:
    address = said(command)
    assert re.fullmatch(r"http://127\.0\.0\.1:\d+/", address)
    chromium.go(address)
    # The first sample has the hostile name; the others of the page have an image and a depth map each.
    chromium.wait(f"document.querySelectorAll('#samples .sample').length === {PAGE}")
    chromium.run("for (const one of document.images) one.loading = 'eager'")
    wide = "[...document.querySelectorAll('#samples img')].filter(one => one.naturalWidth === 32).length"
    chromium.wait(f"{wide} === {2 * (PAGE - 1)}")
    assert chromium.text("#place") == f"1\u2013{PAGE} of 62" and chromium.text("#name") == "set"
    assert chromium.text(".sample .key") == EVIL
    assert chromium.run("return document.querySelectorAll('#samples .key img').length") == 0
    chromium.wait("[...document.querySelectorAll('.text')].some(one => one.textContent.includes('<b>0</b>'))")

    chromium.press(RIGHT)
    chromium.wait(f"document.querySelectorAll('#samples .sample').length === {62 - PAGE}")
    chromium.wait("document.querySelector('#samples .bad')")  # the broken picture says so
    chromium.press(LEFT)
    chromium.press("/", *"CATS")
    chromium.wait("document.querySelectorAll('#samples .sample').length === 30")
    assert chromium.text("#place") == "1\u201330 of 30"

    chromium.click("#samples .sample")
    chromium.wait("document.querySelectorAll('#fields figure').length === 3")
    assert chromium.text("#title") == "cats/001" and '"words": "<b>1</b>"' in chromium.text("#fields pre")
    assert "16 bit, 900 to 954" in chromium.text("#fields")
    chromium.press(RIGHT)
    chromium.wait("document.getElementById('title').textContent === 'cats/003'")
    assert chromium.run("return location.hash") == "#filter=CATS&open=1"
    chromium.run("location.reload()")
    chromium.wait("document.getElementById('title').textContent === 'cats/003'")
    chromium.press(ESCAPE)
    chromium.wait("!document.getElementById('sample').open")

    chromium.run("location.hash = '#filter=img&open=0'; location.reload()")
    chromium.wait("document.querySelectorAll('#fields pre').length === 2")
    assert chromium.text("#title") == EVIL and "document.title" in chromium.text("#fields")
    # Even markup that came into the page would do nothing: it runs only the one script that it came with.
    for script in (
        "document.body.innerHTML += '<img src=x onerror=\"document.title=`hacked`\">'",
        "const one = document.createElement('a'); document.body.append(one);"
        "one.setAttribute('onclick', 'document.title=`hacked`'); one.click()",
        "const one = document.createElement('script'); one.text = 'document.title=`hacked`'; document.body.append(one)",
    ):
        assert chromium.run(f"try {{ {script} }} catch (error) {{ return error.name }}") == "TypeError"
    raw = "return fetch(document.querySelector('#fields a').href).then(one => one.headers.get('content-disposition'))"
    assert chromium.run(raw).startswith("attachment")
    assert chromium.run("return document.title") == "set \u2013 driveshard"


def test_the_page_fits_a_phone(command: subprocess.Popen[str], chromium: Chromium) -> None:
    chromium.command("Emulation.setDeviceMetricsOverride", width=360, height=640, deviceScaleFactor=1, mobile=True)
    chromium.go(said(command) + "#open=2")
    chromium.wait("document.querySelectorAll('#fields img').length === 2 && document.images.length > 9")
    assert chromium.run("return document.documentElement.scrollWidth") <= 360
    dialog = chromium.run("return document.getElementById('sample').scrollWidth")
    assert 300 < dialog <= 360


def test_as_json_and_with_a_port_that_is_taken(directory: Path, tmp_path: Path) -> None:
    with started(directory, tmp_path, "--json") as process:
        told = json.loads(said(process))
        assert told == {"name": "set", "url": told["url"], "samples": 62}
        port = told["url"].rpartition(":")[2].strip("/")
        with started(directory, tmp_path, "--port", port) as second:
            _, err = second.communicate(timeout=30)
        assert second.returncode == 78 and f"port {port}" in err and "--port" in err
        process.send_signal(signal.SIGTERM)
        out, err = process.communicate(timeout=20)
        assert (process.returncode, out) == (0, "") and "62 samples" in err
    with started(tmp_path / "nothing", tmp_path) as process:
        assert process.communicate(timeout=30)[0] == "" and process.returncode == 66


def test_a_browser_is_opened_where_one_can_be_seen(directory: Path, tmp_path: Path) -> None:
    opened = tmp_path / "opened"
    helper = tmp_path / "browser.sh"
    helper.write_text(f'#!/bin/sh\necho to stdout\necho "$1" > {opened}.new && mv {opened}.new {opened}\n')
    helper.chmod(0o700)
    arguments = [sys.executable, "-m", "driveshard", "view", str(directory), "-q"]
    variables = environment(DRIVESHARD_HOME=str(tmp_path), BROWSER=f"{helper} %s")
    with subprocess.Popen(arguments, env=variables, stdout=subprocess.PIPE, text=True) as process:
        until = time.monotonic() + 30
        while not opened.exists() and time.monotonic() < until:
            time.sleep(0.05)
        process.send_signal(signal.SIGINT)
        out, _ = process.communicate(timeout=20)
    assert opened.read_text() == out and process.returncode == 0
