"""Where the time went, and the words for it."""

from __future__ import annotations

import pytest

from driveshard.upload.bottleneck import TimeSpent, held_back_by


@pytest.mark.parametrize(
    ("spent", "words"),
    [
        (TimeSpent(wall=2, uploading=2), None),
        (TimeSpent(wall=60), None),
        (TimeSpent(wall=60, starved=45, uploading=15, building=100, computing=95), "the cores"),
        (TimeSpent(wall=60, starved=45, uploading=15, building=100, computing=20), "the disk"),
        (TimeSpent(wall=60, starved=2, uploading=170, building=20, computing=20), "the line"),
        (TimeSpent(wall=60, starved=2, uploading=170, paced=120), "the pace of writes"),
        (TimeSpent(wall=60, starved=2, uploading=170, limited=120, paced=5), "--bwlimit"),
        (TimeSpent(wall=60, starved=2, uploading=170, out=120, paced=5), "an outage"),
        (TimeSpent(wall=60, starved=2, uploading=170, out=20, slowed=120), "Drive, which asked to slow down"),
        (TimeSpent(wall=60, starved=2, uploading=170, limited=50, paced=5), "--bwlimit"),
    ],
)
def test_what_held_a_run_back(spent: TimeSpent, words: str | None) -> None:
    said = held_back_by(spent)
    assert said is None if words is None else (said or "").startswith(words)
