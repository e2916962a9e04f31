"""What many tests need: an emulated Drive, a home folder, a directory of files."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings

from driveshard.core.clock import Clock
from driveshard.emulator import Emulator
from driveshard.storage.drive.client import DriveClient
from driveshard.storage.drive.credentials import EmulatorCredentials
from tests.browser import BROWSER, DRIVER, Chromium
from tests.wires import Wire

MakeTree = Callable[..., Path]

# How long an example takes says more of the machine than of the code.
settings.register_profile("driveshard", deadline=None)
settings.load_profile("driveshard")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--live", action="store_true", help="also run the contract on Google Drive, with your own login")


@pytest.fixture
def emulator(tmp_path: Path) -> Iterator[Emulator]:
    """A running emulator that notes protocol slips in ``stats()["violations"]``."""
    with Emulator(tmp_path / "drive", strict=True) as running:
        yield running


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A fresh DRIVESHARD_HOME."""
    path = tmp_path / "home"
    path.mkdir()
    return path


@pytest.fixture
def make_tree(tmp_path: Path) -> MakeTree:
    """``make_tree({"a/b.txt": b"..."}, "name")`` writes files below a directory of that name and returns it."""

    def make(files: Mapping[str, bytes], name: str = "data") -> Path:
        root = tmp_path / name
        root.mkdir(exist_ok=True)
        for path, content in files.items():
            file = root / path
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(content)
        return root

    return make


@pytest.fixture
def wire() -> Iterator[Callable[..., Wire]]:
    """``wire(script...)`` starts a server that answers as told (see ``wires.Wire``)."""
    running: list[Wire] = []

    def start(*scripts: Any, keep: bool = False) -> Wire:
        running.append(Wire(*scripts, keep=keep))
        return running[-1]

    yield start
    for one in running:
        one.close()


@pytest.fixture
def client() -> Iterator[Callable[..., DriveClient]]:
    """``client(url)`` is a client of short patience."""
    made: list[DriveClient] = []

    def make(url: str, credentials: Any = None, clock: Clock | None = None, **options: Any) -> DriveClient:
        made.append(DriveClient(url, credentials or EmulatorCredentials(), clock or Clock(), timeout=0.4, **options))
        return made[-1]

    yield make
    for one in made:
        one.close()


@pytest.fixture
def chromium(tmp_path: Path) -> Iterator[Chromium]:
    """A browser; skipped where there is none."""
    if DRIVER is None or BROWSER is None:
        pytest.skip("no chromium with its chromedriver on this machine (Debian: chromium chromium-driver)")
    browser = Chromium(tmp_path)
    yield browser
    browser.close()
