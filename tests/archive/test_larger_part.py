"""A part that turns out larger than was guessed is given more room, and not at the others' expense."""

from __future__ import annotations

from pathlib import Path

from driveshard.config.settings import PushOptions, settings_from
from driveshard.core.events import PackStarted
from driveshard.emulator import Emulator
from driveshard.sources.python.source import PythonSource
from driveshard.upload.run import push
from tests.fakes import Heard

# Four parts of about 100 samples; those of the second hold far more than the mean.
UNEVEN = """
from driveshard import Sample

class Uneven:
    def __len__(self):
        return 400

    def __getitem__(self, index):
        return Sample(f"{index:03}", {"bin": bytes(5000 if 120 <= index < 160 else 1000)})

uneven = Uneven
"""


def test_a_larger_part_needs_no_more_of_the_disk_than_it_takes(emulator: Emulator, home: Path, tmp_path: Path) -> None:
    code = tmp_path / "code.py"
    code.write_text(UNEVEN)
    source = PythonSource(f"{code}:uneven")
    options = PushOptions(
        source.describe(),
        name="d",
        part_samples=100,
        temp_limit=2**60,  # more than any disk has
        writes_per_second=0.0,
        engine="threads",
        workers=2,
    )
    settings = settings_from({"DRIVESHARD_HOME": str(home), "DRIVESHARD_DRIVE_URL": emulator.url})
    heard = Heard()

    result = push(options, source, settings, heard)

    assert (result.error, result.state, result.parts, result.samples) == (None, "complete", 4, 400)
    begun = [event.number for event in heard if isinstance(event, PackStarted)]
    assert sorted(begun) == [0, 1, 1, 2, 3]
