"""The whole job offline: draws images, composes samples, packs, uploads to the emulator, verifies, reads, shares, pulls
what it shared, and reads a batch of that."""

from __future__ import annotations

import contextlib
import random
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, closing
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from driveshard.cli.demo.objects import draw_backgrounds, draw_foregrounds
from driveshard.config.settings import MIB, PushOptions, Settings
from driveshard.core.clock import Clock
from driveshard.core.errors import Mismatch, TempFull, UsageError
from driveshard.core.events import Emit, ignore
from driveshard.core.formatting import human_size, plural
from driveshard.dataset.dataset import Dataset
from driveshard.dataset.locate import open_shelf
from driveshard.dataset.pull import pull_into
from driveshard.dataset.reader import Reading
from driveshard.dataset.selection import Selection
from driveshard.dataset.verify import refusal, verify
from driveshard.emulator import Emulator
from driveshard.sources.composite.source import CompositeSource
from driveshard.storage.retry import Patience
from driveshard.upload.run import push

SAMPLES = 2000
_PART = 2 * MIB
_PICTURES = 10
_SEED = 7
_READ_BACK = 24
_BATCH = 32
_WRITES_PER_SECOND = 20.0  # the emulator's own; Drive itself takes about 3
_NAME = "demo"


@dataclass
class DemoResult:
    """What ``demo --json`` prints. ``samples_read`` samples were read back and are the same; ``faults`` is how many
    were met; ``directory`` is what ``--keep`` named."""

    name: str
    state: str
    link: str
    parts: int
    samples: int
    files: int
    bytes: int
    sent_bytes: int
    requests: int
    seconds: float
    verified: bool
    samples_read: int
    faults: int
    directory: str | None = None
    port: int = 0

    def as_json(self) -> dict[str, Any]:
        """In this order."""
        document = asdict(self)
        del document["port"]
        return document


Watch = Callable[[], AbstractContextManager[Emit]]
"""Opens what shows a push while it runs."""


def run_demo(
    samples: int,
    faults: str,
    keep: Path | None,
    clock: Clock,
    watch: Watch,
    say: Callable[[str], None],
    stack: contextlib.ExitStack,
) -> DemoResult:
    """Do it all in a temp folder, or in ``keep``, which then stays. ``faults`` are the emulator's words; ``say`` is
    told of each step. The local Drive is open, and the folder there, until ``stack`` is closed.

    Raises UsageError for bad words, and any error of a push.
    """
    began = time.monotonic()
    folder = stack.enter_context(_folder(keep))
    try:
        emulator = Emulator(folder / "drive", faults=faults)
    except ValueError as error:
        raise UsageError(f"--faults: {error}") from error
    source = _draw(folder, samples)
    say(f"Drew {plural(_pictures(source), 'image')} to make {plural(len(source), 'sample')} from")
    stack.enter_context(emulator)
    settings = Settings(
        home=folder / "home",
        drive_url=f"{emulator.url}/",
        clock=clock,
        patience=Patience(first=0.2, longest=2.0, throttled=60.0),
    )
    return _run(source, settings, emulator, keep, watch, say, began)


def _run(
    source: CompositeSource,
    settings: Settings,
    emulator: Emulator,
    keep: Path | None,
    watch: Watch,
    say: Callable[[str], None],
    began: float,
) -> DemoResult:
    say(f"Started a local Drive at {emulator.url}")
    options = PushOptions(
        source.describe(), name=_NAME, part_size=_PART, share="anyone", writes_per_second=_WRITES_PER_SECOND
    )
    with watch() as emit:
        result = push(options, source, settings, emit)
    if result.error is not None:
        raise result.error
    link = str(result.link)
    say(
        f"Packed and uploaded {plural(result.samples, 'sample')} ({plural(result.files, 'file')},"
        f" {human_size(result.bytes)}) as {plural(result.parts, 'zip part')}"
    )
    with closing(open_shelf(link, settings, ignore)) as shelf:
        wrong = refusal(verify(shelf))
        if wrong is not None:
            raise wrong
        say("Verified: the Drive holds every part once, with the right size, md5 and sha256")
        read = _read_back(Reading(shelf), source)
        say(f"Read {plural(read, 'sample')} back out of the stored zips: the same bytes as when made anew")
    say(f"Shared with anyone who has the link:\n  {link}")
    say(_pull_back(link, settings, keep, watch))
    read_too = _read_batch(settings, source)
    say(f"Read a batch of {plural(read_too, 'sample')} from the pulled zips, as training does: the same bytes again")
    met = sum(emulator.stats()["faults_fired"].values())
    return DemoResult(
        **{field: getattr(result, field) for field in ("name", "state", "parts", "samples", "files", "bytes")},
        sent_bytes=result.sent_bytes,
        requests=result.requests,
        link=link,
        seconds=round(time.monotonic() - began, 3),
        verified=True,
        samples_read=read,
        faults=met,
        directory=None if keep is None else str(keep),
        port=urlsplit(emulator.url).port or 0,
    )


@contextlib.contextmanager
def _folder(keep: Path | None) -> Iterator[Path]:
    if keep is not None and keep.exists() and (not keep.is_dir() or any(keep.iterdir())):
        raise UsageError(f"--keep: {keep} is not empty", advice="Name a new directory.")
    try:
        folder = keep or Path(tempfile.mkdtemp(prefix="driveshard-demo-"))
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise TempFull(
            f"no folder can be made for the demo: {error.strerror or error}", advice="Name one with --keep DIR."
        ) from error
    try:
        yield folder
    finally:
        if keep is None:
            shutil.rmtree(folder, ignore_errors=True)


def _draw(folder: Path, samples: int) -> CompositeSource:
    """At least ``samples`` samples: pictures x pictures x 2 x placements."""
    pictures = next(n for n in range(1, _PICTURES + 1) if n == _PICTURES or 2 * n * n >= samples)
    placements = -(-samples // (2 * pictures * pictures))
    draw_backgrounds(folder / "backgrounds", pictures, _SEED)
    draw_foregrounds(folder / "foregrounds", pictures, _SEED)
    return CompositeSource(folder / "backgrounds", folder / "foregrounds", placements=placements, seed=_SEED)


def _pull_back(link: str, settings: Settings, keep: Path | None, watch: Watch) -> str:
    """Fetch it as somebody who has only the link; returns the sentence about it."""
    stranger = replace(settings, home=settings.home.parent / "stranger")
    out = settings.home.parent / "pulled"
    with watch() as emit:
        result = pull_into(link, out, Selection(), stranger, emit)
    where = "" if keep is None else f" into {out}"
    parts = f"{plural(result.parts, 'part')}, {human_size(result.fetched_bytes)}"
    return f"Pulled it without a login{where}: {parts}, each proved by size, md5 and sha256"


def _read_batch(settings: Settings, source: CompositeSource) -> int:
    """Read samples of what was pulled at random places, compare them with new ones; returns how many."""
    stranger, pulled = settings.home.parent / "stranger", settings.home.parent / "pulled"
    dataset = Dataset(pulled, cache=stranger / "cache", check=True)
    numbers = random.Random(_SEED).sample(range(len(source)), min(_BATCH, len(source)))
    for number, sample in zip(numbers, dataset.__getitems__(numbers), strict=True):
        key = sample.pop("__key__")
        if {f"{key}.{field}".encode(): data for field, data in sample.items()} != dict(source.members(number)):
            raise Mismatch(f"the sample {key}, read from what was pulled, is not what was packed")
    return len(numbers)


def _pictures(source: CompositeSource) -> int:
    return sum(1 for folder in (source.backgrounds, source.foregrounds) for _ in folder.iterdir())


def _read_back(reading: Reading, source: CompositeSource) -> int:
    """Read samples from all over the dataset by ranges, compare them with new ones; returns how many."""
    count = min(_READ_BACK, len(source))
    for turn in range(count):
        for path, data in source.members(turn * (len(source) - 1) // max(1, count - 1)):
            if reading.read(path) != data:
                raise Mismatch(f"{path.decode()} read back is not what was packed")
    return count


# -- the command -----------------------------------------------------------------------------------------------------
