"""What stands on a screen: real pseudo-terminals, and a terminal of our own that breaks lines anew as others do."""

from __future__ import annotations

import contextlib
import io
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from driveshard.cli.progress.bars import Bars
from driveshard.cli.progress.json_lines import JsonLines
from driveshard.cli.progress.log_lines import Lines
from driveshard.cli.progress.spinner import Spinner
from driveshard.cli.progress.stream import Stream
from driveshard.cli.progress.tally import Tally
from driveshard.core.events import (
    BytesSent,
    Doing,
    Event,
    PartReleased,
    Planned,
    Scanned,
    Started,
    UploadStarted,
    Waiting,
)
from driveshard.emulator import Emulator

REPOSITORY = Path(__file__).resolve().parents[2]
MIB = 1024 * 1024
BEGIN: list[Event] = [
    Started("set", "photos", "Google Drive", 2, 20 * MIB, 200, "/tmp/spool"),
    Planned(2, 10 * MIB, 100),
    Planned(3, 10 * MIB, 100),
    Scanned(400, 40 * MIB, complete=True),
    UploadStarted(2, "set-00002.zip", 10 * MIB, 0),
]


class Screen(io.StringIO):
    """A terminal that understands what bars write. ``width`` may be set anew: lines that were too long for it are
    broken, those that were broken are joined."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.width = width
        self.rows: list[tuple[str, bool]] = [("", False)]  # (text, whether the next row goes on)
        self.row = self.column = 0

    def isatty(self) -> bool:
        return True

    def write(self, text: str) -> int:
        for step in re.findall(r"\x1b\[[?\d;]*[A-Za-z]|\r|\n|[^\x1b\r\n]", text):
            self._step(step)
        return len(text)

    def _step(self, step: str) -> None:
        if step == "\r":
            self.column = 0
        elif step == "\n":
            self.row, self.column = self.row + 1, 0
            if self.row == len(self.rows):
                self.rows.append(("", False))
        elif step.startswith("\x1b"):
            count = int(re.sub(r"\D", "", step) or 1)
            if step.endswith("A"):
                self.row = max(0, self.row - count)
            elif step.endswith("K"):
                text = self.rows[self.row][0]
                self.rows[self.row] = ("" if "2" in step else text[: self.column], False)
        else:
            if self.column == self.width:
                self.rows[self.row] = (self.rows[self.row][0], True)
                self._step("\n")
            text = self.rows[self.row][0].ljust(self.column)
            self.rows[self.row] = (text[: self.column] + step + text[self.column + 1 :], False)
            self.column += 1

    def resize(self, width: int) -> None:
        joined, line = [], ""
        del self.rows[self.row + 1 :]  # what is below the cursor was erased
        for text, goes_on in self.rows:
            line += text
            if not goes_on:
                joined.append(line)
                line = ""
        self.width, self.rows = width, []
        for line in joined:
            pieces = [line[start : start + width] for start in range(0, max(1, len(line)), width)]
            self.rows += [(piece, piece is not pieces[-1]) for piece in pieces]
        self.row, self.column = len(self.rows) - 1, len(self.rows[-1][0])

    def text(self) -> str:
        return "\n".join(text.rstrip() for text, _ in self.rows)


@pytest.mark.parametrize("widths", [(120, 80), (100, 40), (60, 30), (40, 120), (78, 31)])
def test_nothing_stale_stands_there_after_a_resize(widths: tuple[int, int], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.delenv("COLUMNS", raising=False)
    screen, tally = Screen(widths[0]), Tally()
    bars = Bars(screen, tally)
    bars._console.width = widths[0]
    for event in BEGIN:
        tally.take(event)
        bars.emit(event)
    bars.say("a line that was said")
    assert bars._live is not None
    bars._live.auto_refresh = False
    for width in (widths[1], widths[0], widths[1]):
        with bars._live._lock:
            screen.resize(width)
            bars._console.width = width
            bars._live.refresh()
        drawn = screen.text()
        assert [drawn.count(word) for word in ("Packing", "Uploading", "passed")] == [1, 1, 1], drawn
        assert drawn.replace("\n", "").count("a line that was said") == 1
    bars.close()
    assert "Packing" not in screen.text()


def test_packing_that_is_ahead_is_no_alarm() -> None:
    tally, said = Tally(), io.StringIO()
    lines = Lines(Stream(said), tally)
    for event in [*BEGIN, Waiting("packing is ahead of the line", 0.0, calm=True)]:
        tally.take(event)
        lines.emit(event)
    assert (tally.waiting(), tally.waiting(calm=True)) == ([], [("packing is ahead of the line", None)])
    assert "ahead" not in said.getvalue()


def test_a_rerun_knows_what_the_ledger_knows() -> None:
    tally = Tally()
    for event in BEGIN:
        tally.take(event)
    assert (tally.percent, tally.files_up, tally.files_total) == (50, 200, 400)
    for event in (PartReleased(2, "set-00002.zip", 10 * MIB), PartReleased(3, "set-00003.zip", 10 * MIB - 1)):
        tally.take(event)
    assert (tally.percent, tally.files_up) == (100, 400)


# -- lines and events ------------------------------------------------------------------------------------------------


def test_something_is_said_every_half_minute_whatever_happens() -> None:
    now = [100.0]
    said, events = io.StringIO(), io.StringIO()
    tally = Tally(lambda: now[0])
    lines, objects = Lines(Stream(said), tally), JsonLines(Stream(events), tally)
    tally.take(Doing("looking at what is in the dataset's folder"))
    for _ in range(4):
        now[0] += 10
        lines.beat()
    tally.take(BEGIN[0])
    for _ in range(6):
        now[0] += 10
        lines.beat()
    told = said.getvalue().splitlines()
    assert len(told) == 3
    assert told[0].endswith(" looking at what is in the dataset's folder, 30 s passed")
    assert "uploaded 2/2+" in told[-1]
    objects.beat()
    objects.emit(BytesSent(2, 5, 0))
    objects.emit(BytesSent(2, 5, 5))
    first, second = map(json.loads, events.getvalue().splitlines())
    assert (first["event"], first["parts_up"], first["seconds"]) == ("Progress", 2, 100.0)
    assert (second["event"], second["sent"]) == ("BytesSent", 5)


def test_a_spinner_gives_way_and_never_overwrites_a_line_without_an_end(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    screen = Screen(80)
    spinner = Spinner(screen, "reading")
    spinner.turn()
    assert screen.text() == ""  # not for what is over at once
    now[0] += 1.5
    spinner.done, spinner.total = 30, 120
    spinner.turn()
    assert screen.text().endswith("reading, 25%, 30/120 B, 2 s passed")
    spinner.give_way(b"\n")
    assert screen.text() == ""
    spinner.give_way(b"x")
    now[0] += 10
    spinner.turn()
    assert screen.text() == ""


# -- real terminals --------------------------------------------------------------------------------------------------

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="no such terminals there")
Run = Callable[..., tuple[int, str]]


@pytest.fixture
def work(tmp_path: Path) -> Path:
    (tmp_path / "photos").mkdir()
    for number in range(40):
        (tmp_path / "photos" / f"{number:02d}.bin").write_bytes(os.urandom(4000))
    return tmp_path


def environment(work: Path, url: str) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("DRIVESHARD_", "COLUMNS"))}
    ours = {"DRIVESHARD_HOME": str(work / "home"), "DRIVESHARD_DRIVE_URL": url, "PYTHONPATH": str(REPOSITORY)}
    return {**kept, **ours, "TERM": "xterm", "PYTHONIOENCODING": "utf-8"}


@contextlib.contextmanager
def on_terminal(work: Path, url: str, *arguments: str) -> Iterator[tuple[subprocess.Popen[bytes], int]]:
    """A command with a terminal of 100 columns as all three streams."""
    import fcntl
    import pty
    import struct
    import termios

    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 100, 0, 0))
    command = [sys.executable, "-m", "driveshard", *arguments]
    options = {"stdin": theirs, "stdout": theirs, "stderr": theirs, "start_new_session": True}
    with subprocess.Popen(command, cwd=work, env=environment(work, url), **options) as process:  # type: ignore[call-overload]
        os.close(theirs)
        try:
            yield process, ours
        finally:
            process.kill()
            os.close(ours)


def read_until(ours: int, pattern: str, seconds: float = 30.0) -> str:
    """What comes until the pattern does, or the end."""
    seen = b""
    until = time.monotonic() + seconds
    with contextlib.suppress(OSError):
        while time.monotonic() < until and not re.search(pattern, seen.decode("utf-8", "replace")):
            block = os.read(ours, 65_536)
            if not block:
                break
            seen += block
    return seen.decode("utf-8", "replace")


def run(work: Path, url: str, *arguments: str) -> str:
    command = [sys.executable, "-m", "driveshard", *arguments]
    return subprocess.run(
        command, cwd=work, env=environment(work, url), capture_output=True, text=True, timeout=60
    ).stdout


def test_no_command_is_silent_for_long(work: Path) -> None:
    with Emulator(work / "drive") as emulator:
        run(work, emulator.url, "push", "photos")
        port = int(emulator.url.rpartition(":")[2].strip("/"))
    with Emulator(work / "drive", port=port, latency_ms=700) as slow:
        for command in (("verify", "photos", "--deep"), ("ls", "photos"), ("cat", "photos", "03.bin")):
            with on_terminal(work, slow.url, *command) as (_, ours):
                seen = read_until(ours, r"passed")
            assert re.search(r"\S \S[^\r\n]*, \d s passed", seen), (command, seen)


def test_status_in_a_second_terminal_says_what_a_push_does(work: Path) -> None:
    with (
        Emulator(work / "drive", bandwidth=20_000) as emulator,
        on_terminal(work, emulator.url, "push", "photos", "--part-size", "40000") as (process, ours),
    ):
        screen = read_until(ours, r"[KM]iB/s, \d+ s passed, \d+ s left")
        assert re.search(r"\d+%, [\d.]+/[\d.]+ KiB up, \d+ of 40 files", screen)
        until = time.monotonic() + 20
        told = ""
        while not re.search(r"progress .*left", told) and time.monotonic() < until:
            told = run(work, emulator.url, "status", "photos")
        process.send_signal(signal.SIGINT)
        read_until(ours, "go on")
    assert f"  from       {work / 'photos'}\n" in told
    assert re.search(r"  progress   \d+%, [\d.]+ KiB/s, \d+ s passed, \d+ s left\n", told), told
    assert re.search(rf"  temp       {re.escape(str(work / 'home'))}\S+, [\d.]+ KiB\n", told)
