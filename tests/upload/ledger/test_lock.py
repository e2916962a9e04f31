"""One run at a time for a dataset, between real processes."""

from __future__ import annotations

import fcntl
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from driveshard.core.clock import Clock
from driveshard.core.errors import Busy, Interrupted, TempFull
from driveshard.core.events import Waiting, ignore
from driveshard.upload.ledger.lock import hold, is_held
from tests.fakes import FakeClock, Heard

HOLDER = """
import sys
from pathlib import Path
from driveshard.core.clock import Clock
from driveshard.core.events import ignore
from driveshard.upload.ledger.lock import hold
with hold(Path(sys.argv[1]), "photos", Clock(), ignore, wait=False):
    print("held", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "ledgers" / "photos.lock"


@contextmanager
def another_run(path: Path) -> Iterator[subprocess.Popen[str]]:
    with subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as run:
        assert run.stdout is not None
        assert run.stdout.readline() == "held\n"
        yield run
        if run.poll() is None and run.stdin is not None:
            run.stdin.close()
        assert run.wait(10) is not None


def test_a_second_run_is_told_who_holds_it(path: Path) -> None:
    with another_run(path) as run:
        with pytest.raises(Busy) as caught, hold(path, "photos", Clock(), ignore, wait=False):
            pass
        assert f"process {run.pid} on" in str(caught.value)
        assert "photos" in str(caught.value)
        assert "--wait" in caught.value.advice


def test_another_dataset_is_not_held(path: Path) -> None:
    with another_run(path), hold(path.with_name("other.lock"), "other", Clock(), ignore, wait=False):
        assert str(os.getpid()) in path.with_name("other.holder").read_text()


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM] if os.name != "nt" else [signal.SIGTERM])
def test_the_lock_ends_with_its_process(path: Path, how: signal.Signals) -> None:
    with another_run(path) as run:
        run.send_signal(how)
        run.wait(10)
        with hold(path, "photos", Clock(), ignore, wait=False):
            assert str(os.getpid()) in path.with_suffix(".holder").read_text()


def test_waiting_ends_when_the_other_run_does(path: Path) -> None:
    heard = Heard()
    with another_run(path) as run:
        assert run.stdin is not None
        clock = FakeClock()

        def let_it_end() -> None:
            assert run.stdin is not None
            run.stdin.close()
            run.wait(10)

        clock.before_sleep = let_it_end
        with hold(path, "photos", clock, heard, wait=True):
            assert len(clock.slept) == 1
    assert [f"process {run.pid}" in event.why for event in heard if isinstance(event, Waiting)] == [True]


def test_a_stop_ends_the_waiting(path: Path) -> None:
    clock = FakeClock()
    clock.stop.set()
    with another_run(path), pytest.raises(Interrupted), hold(path, "photos", clock, ignore, wait=True):
        pass


def test_the_lock_is_free_after_an_error(path: Path) -> None:
    with pytest.raises(KeyError), hold(path, "photos", Clock(), ignore, wait=False):
        raise KeyError
    with hold(path, "photos", Clock(), ignore, wait=False):
        pass
    assert not path.with_suffix(".holder").exists()


def test_two_threads_of_one_process_exclude_each_other(path: Path) -> None:
    first = hold(path, "photos", Clock(), ignore, wait=False)
    with first, pytest.raises(Busy) as caught, hold(path, "photos", Clock(), ignore, wait=False):
        pass
    assert f"process {os.getpid()}" in str(caught.value)


@pytest.mark.parametrize("note", [b"", b"{", b"[]", b"{}", b'"x"', b"\xff"])
def test_a_damaged_note_of_the_holder_does_no_harm(path: Path, note: bytes) -> None:
    with another_run(path):
        path.with_suffix(".holder").write_bytes(note)
        with pytest.raises(Busy, match="another process"), hold(path, "photos", Clock(), ignore, wait=False):
            pass


def test_a_folder_that_cannot_be_made_is_said_clearly(tmp_path: Path) -> None:
    (tmp_path / "ledgers").touch()
    with pytest.raises(TempFull) as caught, hold(tmp_path / "ledgers" / "x.lock", "x", Clock(), ignore, wait=False):
        pass
    assert "DRIVESHARD_HOME" in caught.value.advice


def test_who_only_asks_keeps_nobody_from_starting(path: Path) -> None:
    """Others may ask at the very moment in which a run begins, many of them."""
    with hold(path, "photos", Clock(), ignore, wait=False):
        assert is_held(path) is True
    assert is_held(path) is False
    clock = FakeClock()
    handle = os.open(path, os.O_RDONLY)
    fcntl.flock(handle, fcntl.LOCK_SH)  # as is_held does, for longer than it does
    clock.before_sleep = lambda: fcntl.flock(handle, fcntl.LOCK_UN)
    with hold(path, "photos", clock, ignore, wait=False):
        assert len(clock.slept) == 1
    os.close(handle)


def test_a_lock_that_never_was_is_free(path: Path) -> None:
    assert is_held(path) is False
