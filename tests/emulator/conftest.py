"""A running emulator for each test."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from driveshard.emulator import Emulator

from .client import Client

Start = Callable[..., Emulator]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Starts emulators, by default under one root; stops them all in the end."""
    running: list[Emulator] = []

    def begin(root: Path | None = None, **options: Any) -> Emulator:
        emulator = Emulator(root or tmp_path / "drive", **options)
        emulator.start()
        running.append(emulator)
        return emulator

    yield begin
    for emulator in running:
        emulator.stop()


@pytest.fixture
def emulator(start: Start) -> Emulator:
    return start(strict=True)


@pytest.fixture
def client(emulator: Emulator) -> Client:
    return Client(emulator.url)


@pytest.fixture(autouse=True)
def close_clients() -> Iterator[None]:
    """A connection left open would be reported as a leak."""
    yield
    while Client.opened:
        Client.opened.pop().connection.close()
