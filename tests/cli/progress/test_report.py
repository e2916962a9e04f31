"""What a person sees of a run: the tally of events, log lines, bars, and JSON lines."""

from __future__ import annotations

import io
import json
import logging
import re
from datetime import datetime
from typing import Any

import pytest

from driveshard.cli.progress.bars import Bars, shortened
from driveshard.cli.progress.json_lines import JsonLines
from driveshard.cli.progress.log_lines import LISTED, Lines, progress_line
from driveshard.cli.progress.report import logs_said, opened_report
from driveshard.cli.progress.stream import Stream
from driveshard.cli.progress.tally import Tally
from driveshard.core.events import (
    BytesSent,
    Event,
    Notice,
    PackStarted,
    PartDropped,
    PartPacked,
    PartReleased,
    Planned,
    Published,
    Scanned,
    SourceFailed,
    Started,
    UploadStarted,
    Waiting,
)

MIB = 1024 * 1024


class Time:
    """A clock that goes when it is told to."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


BEGIN: list[Event] = [
    Started("set", "photos", "Google Drive", 2, 20 * MIB),
    Planned(2, 10 * MIB),
    Planned(3, 10 * MIB),
    Scanned(100, 20 * MIB, complete=True),
    PackStarted(2),
    PartPacked(2, "set-00002.zip", 12 * MIB, 50, 100),
    UploadStarted(2, "set-00002.zip", 12 * MIB, 0),
]


def tally_of(*events: Event, time: Time | None = None) -> Tally:
    tally = Tally(time or Time())
    for event in events:
        tally.take(event)
    return tally


def test_parts_and_bytes_of_earlier_runs_count() -> None:
    tally = tally_of(*BEGIN)
    assert (tally.parts_packed, tally.parts_up, tally.parts_total) == (3, 2, 4)
    assert (tally.bytes_packed, tally.bytes_up, tally.bytes_total) == (32 * MIB, 20 * MIB, 42 * MIB)
    tally.take(BytesSent(2, 4 * MIB, 4 * MIB))
    assert tally.bytes_up == 24 * MIB
    tally.take(PartReleased(2, "set-00002.zip", 12 * MIB))
    assert (tally.parts_up, tally.bytes_up, tally.active()) == (3, 32 * MIB, [])


def test_a_part_that_goes_back_is_not_counted_twice() -> None:
    tally = tally_of(*BEGIN, BytesSent(2, 4 * MIB, 4 * MIB), UploadStarted(2, "set-00002.zip", 12 * MIB, 0))
    assert tally.bytes_up == 20 * MIB


def test_a_part_of_which_nothing_could_be_read_no_longer_counts() -> None:
    tally = tally_of(*BEGIN, PackStarted(3))
    before = tally.parts_total, tally.bytes_total
    tally.take(PartDropped(3))
    assert (tally.parts_total, tally.bytes_total) == (before[0] - 1, before[1] - 10 * MIB)
    assert not tally.packing


def test_rate_and_time_left_are_of_the_last_half_minute() -> None:
    time = Time()
    tally = tally_of(*BEGIN, time=time)
    assert tally.rate() is None
    for second in range(1, 11):
        time.now = 100.0 + second
        tally.take(BytesSent(2, second * MIB, MIB))
    assert tally.rate() == pytest.approx(MIB)
    assert tally.seconds_left() == pytest.approx(12.0)
    time.now += 31
    assert tally.rate() is None
    assert tally.seconds_left() is None


def test_time_left_is_not_told_while_the_source_is_scanned() -> None:
    time = Time()
    tally = tally_of(*BEGIN, Scanned(1, 1, complete=False), time=time)
    time.now += 5
    tally.take(BytesSent(2, MIB, MIB))
    assert tally.rate() is not None
    assert tally.seconds_left() is None


def test_waits_count_down_and_end() -> None:
    time = Time()
    slow = "Drive asks to slow down"
    tally = tally_of(*BEGIN, Waiting(f"{slow} (sending a)", 8.0, 2), time=time)
    time.now += 3
    assert tally.waiting() == [(f"{slow} (sending a)", 5.0)]
    tally.take(Waiting(f"{slow} (sending b)", 9.0, 3))
    assert tally.waiting() == [(slow, 9.0)]
    tally.take(BytesSent(3, 1, 1))
    assert tally.waiting() == [(f"{slow} (sending a)", 5.0)]
    time.now += 6
    assert tally.waiting() == []


def test_a_wait_without_an_end_lasts_until_something_is_packed() -> None:
    tally = tally_of(*BEGIN, Waiting("the temp folder is full", 0.0))
    assert tally.waiting() == [("the temp folder is full", None)]
    tally.take(PackStarted(3))
    assert tally.waiting() == []


# -- log lines -------------------------------------------------------------------------------------------------------


def lines_of(events: list[Event], time: Time, step: float = 0.0) -> list[str]:
    out = io.StringIO()
    tally = Tally(time)
    lines = Lines(Stream(out), tally)
    for event in events:
        time.now += step
        tally.take(event)
        lines.emit(event)
    return [line[20:] for line in out.getvalue().splitlines()]


def test_a_progress_line_at_most_every_half_minute() -> None:
    sent: list[Event] = [BytesSent(2, count * 1024, 1024) for count in range(1, 1001)]
    told = lines_of([*BEGIN, *sent], Time(), step=0.1)
    assert told[0] == "pushing set: photos -> Google Drive, 2 parts up already"
    assert len(told) == 4  # 100 seconds
    assert told[1].startswith("48%, 20.3/42.0 MiB up, packed 3/4 parts, uploaded 2/4, 10.0 KiB/s, 30 s passed, 37 min ")


def test_notices_long_waits_and_first_failures_are_told() -> None:
    failures: list[Event] = [SourceFailed(f"{number}.jpg", "permission denied") for number in range(LISTED + 5)]
    events: list[Event] = [
        Notice("the ledger was lost"),
        Waiting("short", 2.0),
        Waiting("long", 45.0),
        Waiting("long", 45.0),
        Waiting("endless", 0.0),
        *failures,
        Published("link"),
    ]
    told = lines_of([BEGIN[0], *events], Time())[1:]
    assert told[:3] == ["the ledger was lost", "waiting 45 s: long", "waiting: endless"]
    assert told[3] == "cannot read 0.jpg: permission denied"
    assert told[3 + LISTED] == "more files cannot be read; they are counted"
    assert told[4 + LISTED :] == [
        "20.0/20.0 MiB+ up, packed 2/2+ parts, uploaded 2/2+, 0.0 s passed, 25 files could not be read"
    ]


def test_where_there_was_nothing_to_send_no_progress_is_told() -> None:
    assert lines_of([Published("link")], Time()) == []


def test_a_plan_that_is_not_final_has_a_plus() -> None:
    tally = tally_of(BEGIN[0], Planned(2, MIB))
    assert progress_line(tally) == "20.0/21.0 MiB+ up, packed 2/3+ parts, uploaded 2/3+, 1 s passed"


def test_json_lines_are_whole_events() -> None:
    out = io.StringIO()
    report = JsonLines(Stream(out))
    for event in BEGIN:
        report.emit(event)
    report.say("stopping")
    documents = [json.loads(line) for line in out.getvalue().splitlines()]
    assert [one["event"] for one in documents] == [*(type(event).__name__ for event in BEGIN), "Said"]
    assert documents[0].items() >= {"name": "set", "parts_done": 2, "bytes_done": 20 * MIB}.items()
    assert all(datetime.fromisoformat(one["time"]).tzinfo for one in documents)


class Broken(io.StringIO):
    """A pipe whose reader has gone."""

    writes = 0

    def write(self, text: str) -> int:
        self.writes += 1
        raise BrokenPipeError


def test_a_stream_that_is_gone_is_given_up_quietly() -> None:
    out = Broken()
    stream = Stream(out)
    stream.line("one")
    stream.line("two")
    Stream(None).line("nobody")
    assert out.writes == 1


def test_what_is_logged_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    said: list[str] = []
    requests, ours = logging.getLogger("driveshard.http"), logging.getLogger("driveshard.auth")
    for verbose in (False, True):
        with logs_said(said.append, verbose=verbose):
            requests.debug("GET /x -> 200")
            ours.warning("careful")
    requests.debug("GET /y -> 200")
    assert said == ["careful", "GET /x -> 200", "careful"]
    assert capsys.readouterr().err == ""


def test_without_a_terminal_there_are_lines(capsys: pytest.CaptureFixture[str]) -> None:
    with opened_report(Tally()) as report:
        assert isinstance(report, Lines)
        report.emit(Notice("hello"))
    with opened_report(Tally(), quiet=True) as report:
        report.emit(Notice("nothing"))
    assert capsys.readouterr().err[20:] == "hello\n"


# -- bars ------------------------------------------------------------------------------------------------------------


class Terminal(io.StringIO):
    """A stream that says it is a terminal."""

    def isatty(self) -> bool:
        return True


def picture(width: int, *events: Event, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The lines that bars draw, without colours."""
    monkeypatch.setenv("COLUMNS", str(width))
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm")
    bars: Any = Bars(Terminal(), tally_of(*events))
    with bars._console.capture() as capture:
        bars._console.print(bars._picture())
    return [line.rstrip() for line in re.sub(r"\x1b\[[\d;]*m", "", capture.get()).splitlines()]


@pytest.mark.parametrize("width", [40, 80, 120])
def test_the_picture_fits(width: int, monkeypatch: pytest.MonkeyPatch) -> None:
    long = "a dataset with a rather long name indeed-00002.zip"
    drawn = picture(
        width,
        *BEGIN,
        UploadStarted(2, long, 12 * MIB, 6 * MIB),
        Waiting("Drive asks to slow down (sending something with a name that does not fit)", 12.0, 2),
        SourceFailed("[bold]x", "gone"),
        monkeypatch=monkeypatch,
    )
    assert max(map(len, drawn)) <= width
    assert [line.split()[0] for line in drawn][:2] == ["Packing", "Uploading"]
    assert "3/4 parts" in drawn[0]
    assert "2/4 parts" in drawn[1]
    assert "00002.zip" in drawn[2]
    assert drawn[2].endswith("6.0/12.0 MiB")
    assert " ".join(drawn[3:-2]) == "61%, 26.0/42.0 MiB up, 1 s passed"
    assert drawn[-2].startswith("waiting 12 s: Drive asks")
    assert drawn[-1] == "1 file could not be read"


def test_bars_say_lines_above_and_clean_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("TERM", "xterm")
    out = Terminal()
    bars = Bars(out, tally_of(*BEGIN))
    bars.emit(BEGIN[0])
    bars.emit(Notice("a [bold]notice[/bold]"))
    bars.close()
    text = out.getvalue()
    assert "pushing set: photos -> Google Drive, 2 parts up already" in text
    assert "a [bold]notice[/bold]" in text
    assert text.count("\x1b[?25l") == text.count("\x1b[?25h") == 1


def test_names_are_cut_in_front() -> None:
    assert shortened("  photos-00001.zip", 20) == "  photos-00001.zip"
    assert shortened("  a long name-00001.zip", 14) == "  …e-00001.zip"


def test_a_tally_that_nobody_asks_stays_small() -> None:
    time = Time()
    tally = tally_of(*BEGIN, time=time)
    for number in range(20_000):
        time.now = 100.0 + number / 100
        tally.take(BytesSent(2, number, 1))
    assert tally.meter.size <= 62
    assert tally.rate() == pytest.approx(100, rel=0.02)
