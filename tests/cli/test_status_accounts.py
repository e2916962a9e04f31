"""`status` tells how much of the day's cap an account has used; at the cap a push ends with 75 and both say when to
come back."""

from __future__ import annotations

import re
import time
from pathlib import Path

import pytest

from driveshard.cli.account_lines import Allowed
from driveshard.cli.error_messages import moment
from driveshard.emulator import Emulator
from driveshard.storage.account_usage import AccountTally, read_usage
from driveshard.storage.rate_limits import DAY, DRIVE_BYTES_A_DAY
from driveshard.upload.ledger.reader import GOOGLE
from tests.cli.test_leftovers import Desk

HOUR = 3600.0


@pytest.fixture
def desk(tmp_path: Path, emulator: Emulator) -> Desk:
    return Desk(tmp_path, emulator.url)


def test_bytes_of_all_runs_count_for_a_day(tmp_path: Path) -> None:
    path, now = tmp_path / "account.sqlite", 1_800_000_000.0
    assert read_usage(path, now) == [] and not path.exists()
    for account, count, at in (("a", 99, now - DAY - HOUR), ("a", 10, now - 23 * HOUR), ("a", 7, now), ("b", 5, now)):
        tally = AccountTally(path, account)  # each run opens its own
        tally.add_sent(count, at)
        tally.close()
    assert [(one.account, one.sent) for one in read_usage(path, now)] == [("a", 17), ("b", 5)]
    (first, _) = read_usage(path, now)
    assert now + HOUR <= first.again <= now + 2 * HOUR
    assert [(one.account, one.sent) for one in read_usage(path, first.again + HOUR)] == [("a", 7), ("b", 5)]
    path.write_bytes(b"no database" * 100)
    assert read_usage(path, now) == []


def test_status_and_push_say_when_there_is_room_again(desk: Desk, emulator: Emulator) -> None:
    desk.push()
    (told,) = desk.json("status")["accounts"]
    assert 80_000 < told["sent_bytes_24h"] < 120_000 and told["resume_after"] is None
    assert (told["cap_bytes_24h"], told["writes_per_second"], told["profile"]) == (750 * 10**9, 2.5, None)
    assert told["drive"].rstrip("/") == emulator.url.rstrip("/")
    tally = AccountTally(desk.home / "account.sqlite", f"drive {told['drive']}")
    tally.add_sent(DRIVE_BYTES_A_DAY - told["sent_bytes_24h"], time.time())
    tally.close()
    (desk.work / "photos" / "new.bin").write_bytes(bytes(3000))
    _, err = desk.run("push", "photos", "--part-size", "20K", "--engine", "serial", code=75)
    (told,) = desk.json("status")["accounts"]
    assert time.time() + DAY - 1 < told["resume_after"] <= time.time() + DAY + HOUR
    assert moment(told["resume_after"]) in err
    last = desk.run("status")[0].splitlines()[-1]
    assert re.search(r": 69[89]\S* GiB of 69[89]\S* GiB sent in 24 hours .*; at most 2\.5 writes a second; ", last), (
        last
    )
    assert f"there is room again from {moment(told['resume_after'])} (in " in last


def test_googles_drive_and_a_profile_are_named() -> None:
    line = Allowed(GOOGLE, "work", 1000, 2000, 3.0, None).line(0.0)
    assert line.startswith("Google Drive, profile work: 1000 B of ") and line.endswith("at most 3 writes a second")
