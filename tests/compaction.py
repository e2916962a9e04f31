"""``python -m tests.compaction``: kills a compaction at every moment, one after the other, and looks at what is left.

A moment is before or after a call of the destination, or a transaction of a ledger. Each round makes a dataset of small
parts, starts ``driveshard compact`` as a process that kills itself (SIGKILL) at its moment, and asks what readers see;
every other round then pushes something new; then the same command goes on, and a push must find nothing to do.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

from driveshard.archive import manifest as manifests
from driveshard.core.events import ignore
from driveshard.dataset.locate import open_shelf
from driveshard.dataset.reader import open_reading
from driveshard.dataset.verify import verify
from driveshard.emulator import Emulator
from driveshard.upload.compact import Sizes, compact
from driveshard.upload.ledger.ledger import Ledger
from tests.rig import REPOSITORY, Rig, environment, fill

CALLS = ("reserve_ids", "begin", "send", "query", "get", "children", "put", "read", "trash")


class Bench:
    """A dataset that is pushed to a Drive or into a plain folder."""

    def __init__(self, rig: Rig, to: str) -> None:
        self.rig = rig
        self.to = to

    @classmethod
    def made(cls, directory: Path, url: str, *, on_drive: bool) -> Bench:
        """Six files in a part, then three more parts of one or two each, of which two replace older files, and a
        dropped file."""
        fill(directory / "source", 6, 3000)
        rig = Rig(directory, url, part_size=100_000)
        bench = cls(rig, "drive:" if on_drive else f"file:{directory / 'nas'}")
        bench.push()
        for number in range(3):
            bench.write(**{f"d{number % 2}__new{number}_bin": bytes([number]) * 2000})
            if number:
                bench.write(d0__0000_bin=bytes([number]) * 100)
            bench.push()
        (rig.source.root / "d1" / "0001.bin").unlink()
        bench.push(deleted="drop")
        return bench

    def push(self, *source: Any, **options: Any) -> Any:
        result = self.rig.push(*source, to=self.to, **options)
        assert result.error is None, result.error
        return result

    def write(self, **files: bytes) -> None:
        """``d0__a_bin`` is ``d0/a.bin``."""
        for name, data in files.items():
            path = self.rig.source.root / name.replace("__", "/").replace("_", ".")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)

    def on_disk(self) -> dict[str, bytes]:
        root = self.rig.source.root
        return {path.relative_to(root).as_posix(): path.read_bytes() for path in root.rglob("*") if path.is_file()}

    def stored(self) -> dict[str, bytes]:
        """The zips in the dataset's folder, nothing beside them."""
        with closing(open_shelf(self.rig.name, self.rig.settings(), ignore)) as shelf:
            assert verify(shelf).problems == []
            zips = [one for one in shelf.files() if one.name.endswith(".zip")]
            return {one.name: shelf.read(one.id, 0, one.size) for one in zips}

    def members(self) -> dict[str, bytes]:
        """Every member of every zip, each once at most, by Python's own zip module."""
        found: dict[str, bytes] = {}
        for data in self.stored().values():
            with zipfile.ZipFile(io.BytesIO(data)) as archive:
                assert archive.testzip() is None
                assert not found.keys() & set(archive.namelist())
                found |= {name: archive.read(name) for name in archive.namelist()}
        return found

    def read(self) -> dict[str, bytes]:
        """What readers see."""
        with open_reading(self.rig.name, self.rig.settings()) as reading:
            assert reading.manifest.files == len(list(reading.members()))
            return {one.path.decode(): reading.read(one.path) for one in reading.members()}

    def compact_as_process(self, moment: int) -> subprocess.CompletedProcess[str]:
        """Killed at that moment, unless it is over before."""
        home = {"DRIVESHARD_HOME": str(self.rig.directory / "home"), "DRIVESHARD_DRIVE_URL": self.rig.url}
        command = [sys.executable, "-m", "tests.compaction", "--moment", str(moment), "--dataset", self.rig.name]
        command += ["--pages"] if manifests.SPLIT_OVER == 0 else []
        return subprocess.run(
            command, env=environment(**home), cwd=REPOSITORY, capture_output=True, text=True, timeout=120
        )


def killed_round(bench: Bench, moment: int) -> bool:
    """One round; whether the compaction was killed. Raises AssertionError."""
    done = bench.compact_as_process(moment)
    assert done.returncode in (0, -signal.SIGKILL), done.stderr
    assert bench.read() == bench.on_disk(), "readers see all of it, and nothing else"
    if moment % 2:
        bench.write(d0__0000_bin=b"newest", late_bin=b"late")
        bench.push()
        assert bench.read() == bench.on_disk()
    second = compact(bench.rig.name, Sizes(), _options(bench), bench.rig.settings(), ignore)
    assert second.state == "complete"
    assert bench.read() == bench.on_disk()
    compact(bench.rig.name, Sizes(), _options(bench), bench.rig.settings(), ignore)
    assert bench.members() == bench.on_disk()
    with Ledger(bench.rig.ledger_path) as ledger:
        assert (ledger.retired(), ledger.dropped_files()) == ({}, frozenset())
    after = bench.push()
    assert (after.sent_bytes, after.files, after.parts) == (0, len(bench.on_disk()), 1)
    assert list((bench.rig.directory / "home" / "ledgers").glob("*.compacting*")) == []
    return done.returncode != 0


def _options(bench: Bench) -> Any:
    from driveshard.config.settings import PushOptions

    return PushOptions(source="source", writes_per_second=1000)


# -- the process that kills itself -----------------------------------------------------------------------------------


def _run_killed(dataset: str, moment: int) -> int:
    from driveshard.cli import main as cli
    from driveshard.storage.drive.destination import DriveDestination
    from driveshard.storage.folder.destination import FolderDestination
    from driveshard.upload.ledger import ledger

    passed = 0

    def pass_moment() -> None:
        nonlocal passed
        passed += 1
        if passed == moment:
            os.kill(os.getpid(), signal.SIGKILL)

    def watched(call: Any) -> Any:
        def watching(*given: Any, **named: Any) -> Any:
            pass_moment()
            outcome = call(*given, **named)
            pass_moment()
            return outcome

        return watching

    whole = ledger.transaction

    @contextlib.contextmanager
    def transaction(*given: Any) -> Iterator[Any]:
        pass_moment()
        with whole(*given) as db:
            yield db
            pass_moment()
        pass_moment()

    for kind in (DriveDestination, FolderDestination):
        for name in CALLS:
            setattr(kind, name, watched(getattr(kind, name)))
    ledger.transaction = transaction
    os.environ["DRIVESHARD_WRITES_PER_SECOND"] = "1000"
    return cli.main(["compact", dataset, "--json"])


def main() -> int:
    """Every moment, or every so many."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--step", type=int, default=1, help="look at every so many moments")
    parser.add_argument("--on-drive", action="store_true", help="to the emulator, instead of a plain folder")
    parser.add_argument("--pages", action="store_true", help="with manifests that list two parts a page")
    parser.add_argument("--moment", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--dataset", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.pages:
        manifests.SPLIT_OVER, manifests.PAGE_NUMBERS = 0, 2
    if given.moment is not None:
        return _run_killed(given.dataset, given.moment)
    moment = 1
    while True:
        directory = Path(tempfile.mkdtemp(prefix="driveshard-compaction-"))
        with Emulator(directory / "drive", strict=True) as emulator:
            bench = Bench.made(directory, emulator.url, on_drive=given.on_drive)
            killed = killed_round(bench, moment)
            assert emulator.stats()["violations"] == []
        shutil.rmtree(directory)
        if not killed:
            print(f"killed at every moment up to {moment - given.step}, by steps of {given.step}: nothing was lost")
            return 0
        moment += given.step


if __name__ == "__main__":
    sys.exit(main())
