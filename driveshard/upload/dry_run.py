"""``push --dry-run``: plans on a copy of the ledger, in a temp folder, and sends nothing."""

from __future__ import annotations

import sqlite3
import tempfile
import time
from contextlib import closing
from dataclasses import replace
from pathlib import Path

from driveshard.config.settings import PushOptions, Settings
from driveshard.core.errors import SourceMissing
from driveshard.core.events import Emit, Notice
from driveshard.core.model import FileList, PartSpec, sample_key
from driveshard.sources.base import Source
from driveshard.storage.registry import open_destination
from driveshard.upload.ledger.ledger import Ledger
from driveshard.upload.ledger.reader import open_read_only
from driveshard.upload.naming import dataset_name, ledger_path, ledger_stem
from driveshard.upload.plan.base import MOST, Cut, Differences
from driveshard.upload.plan.registry import planner_for
from driveshard.upload.result import PushResult
from driveshard.upload.same_source import check_same_source, without_own


def rehearse(options: PushOptions, source: Source, settings: Settings, emit: Emit) -> PushResult:
    """What a push would add: ``parts``, ``samples``, ``files`` and ``bytes`` of the result are those that are new
    (bytes of generated samples are an estimate, their files 0). Raises what a push would raise for its source and
    options."""
    began = time.monotonic()
    name = dataset_name(options, source)
    # Nothing is sent, so nobody needs to be logged in.
    destination = open_destination(options.to, replace(settings, anonymous=True))
    source = without_own(source, options, settings, name, destination.identity)
    check = getattr(source, "check", None)
    if check is not None:
        check()
    result = PushResult(name)
    present = ledger_path(settings, ledger_stem(name, destination.identity))
    with tempfile.TemporaryDirectory(prefix="driveshard-dry-run-") as folder:
        path = Path(folder) / "ledger.sqlite"
        if present.exists():
            _copy(present, path)
        with closing(Ledger(path)) as ledger:
            check_same_source(ledger, name, source)
            known = ledger.next_number()
            most = options.temp_limit or MOST
            cut = Cut(name, min(options.part_size, most), options.part_samples, most)
            planner = planner_for(
                source,
                ledger,
                cut,
                settings.clock,
                emit,
                checksum=options.checksum,
                differences=Differences.of(options),
            )
            if planner.sequential:
                emit(Notice(f"{source.describe()} gives samples one by one; how many is known when they are packed"))
            else:
                for number in planner.numbers():
                    _count(ledger.spec(number), result)
                result.samples = getattr(planner, "samples", result.samples)
                result.failed = list(getattr(planner, "failures", []))
                result.gone, result.changed = ledger.get("gone", 0), getattr(planner, "changed", 0)
                result.ignored, result.dropped = getattr(planner, "ignored", 0), getattr(planner, "dropped", 0)
                if not known and not result.parts:
                    raise SourceMissing(f"{source.describe()} has no files to push", advice="Check the path and globs.")
    result.state = "planned"
    result.seconds = time.monotonic() - began
    return result


def _copy(present: Path, path: Path) -> None:
    with closing(open_read_only(present)) as original, closing(sqlite3.connect(path)) as copy:
        original.backup(copy)


def _count(spec: PartSpec, result: PushResult) -> None:
    result.parts += 1
    result.bytes += spec.estimate
    if isinstance(spec.selection, FileList):
        result.files += len(spec.selection)
        result.samples += len({sample_key(path.decode("latin-1")) for path in spec.selection.split_paths()})
    elif spec.selection.stop is not None:
        result.samples += spec.selection.stop - spec.selection.start
