"""Headless Chromium for tests of what people see; the fixture ``chromium`` skips where there is none."""

from __future__ import annotations

import base64
import contextlib
import json
import os
import shutil
import socket
import subprocess
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

DRIVER = shutil.which("chromedriver")
BROWSER = shutil.which("chromium") or shutil.which("google-chrome")
FLAGS = (
    "--headless",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-dev-shm-usage",
)
ELEMENT = "element-6066-11e4-a52e-4f735466cecf"


class Chromium:
    """Headless Chromium, driven over its driver's own HTTP interface (W3C WebDriver)."""

    def __init__(self, work: Path) -> None:
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = free.getsockname()[1]
        assert DRIVER is not None
        self._url = f"http://127.0.0.1:{port}"
        log = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        self._driver = subprocess.Popen([DRIVER, f"--port={port}"], **log)
        self._wait_for_driver()
        root = ["--no-sandbox"] if os.geteuid() == 0 else []
        options = {"binary": BROWSER, "args": [*FLAGS, *root, f"--user-data-dir={work / 'profile'}"]}
        wanted = {"capabilities": {"alwaysMatch": {"browserName": "chrome", "goog:chromeOptions": options}}}
        self._session = self._call("POST", "/session", wanted)["sessionId"]

    def _wait_for_driver(self) -> None:
        until = time.monotonic() + 30
        while time.monotonic() < until:
            with contextlib.suppress(OSError):
                if self._call("GET", "/status")["ready"]:
                    return
            time.sleep(0.05)
        raise RuntimeError("chromedriver does not start")

    def _call(self, method: str, path: str, body: Any = None) -> Any:
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self._url + path, data, {"Content-Type": "application/json"}, method=method)
        with urllib.request.urlopen(request, timeout=60) as reply:
            return json.loads(reply.read())["value"]

    def go(self, address: str) -> None:
        self._call("POST", f"/session/{self._session}/url", {"url": address})

    def find(self, selector: str) -> str:
        form = {"using": "css selector", "value": selector}
        return str(self._call("POST", f"/session/{self._session}/element", form)[ELEMENT])

    def click(self, selector: str) -> None:
        self._call("POST", f"/session/{self._session}/element/{self.find(selector)}/click", {})

    def text(self, selector: str) -> str:
        until = time.monotonic() + 30
        while True:
            try:
                return str(self._call("GET", f"/session/{self._session}/element/{self.find(selector)}/text"))
            except urllib.error.HTTPError as error:  # not there yet
                error.close()
                if time.monotonic() > until:
                    raise
            time.sleep(0.05)

    def run(self, script: str, *arguments: Any) -> Any:
        """What a function body in JavaScript returns; a promise is waited for."""
        form = {"script": script, "args": list(arguments)}
        return self._call("POST", f"/session/{self._session}/execute/sync", form)

    def wait(self, condition: str) -> Any:
        """The first true value of a JavaScript expression."""
        until = time.monotonic() + 30
        while not (found := self.run(f"return {condition}")):
            if time.monotonic() > until:
                raise AssertionError(f"{condition} did not come about; the page says: {self.text('body')}")
            time.sleep(0.02)
        return found

    def press(self, *keys: str) -> None:
        actions = [{"type": kind, "value": key} for key in keys for kind in ("keyDown", "keyUp")]
        form = {"actions": [{"type": "key", "id": "keyboard", "actions": actions}]}
        self._call("POST", f"/session/{self._session}/actions", form)

    def command(self, name: str, **parameters: Any) -> Any:
        """A command of Chromium's own protocol."""
        return self._call("POST", f"/session/{self._session}/goog/cdp/execute", {"cmd": name, "params": parameters})

    def screenshot(self) -> bytes:
        return base64.b64decode(self._call("GET", f"/session/{self._session}/screenshot"))

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self._call("DELETE", f"/session/{self._session}")
        self._driver.terminate()
        self._driver.wait(20)
