"""The training script learns, from the zips, in a size for tests."""

from __future__ import annotations

import runpy
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from driveshard.archive.zip_writer import ZipWriter
from driveshard.core.model import SampleRange
from driveshard.sources.composite.source import CompositeSource

torch = pytest.importorskip("torch", reason="PyTorch is not installed: pip install 'driveshard[torch]'")

SCRIPT = Path(__file__).parents[2] / "examples" / "train_unet.py"


def test_depth_is_the_grounds_and_the_objects_where_they_stand() -> None:
    mask = np.zeros((5, 3), np.float32)
    mask[1:4, 1] = 1
    depth = runpy.run_path(str(SCRIPT))["depth_of"](mask)
    assert depth[:, 0].tolist() == depth[:, 2].tolist() == [1, 0.75, 0.5, 0.25, 0]
    assert depth[:, 1].tolist() == [1, 0.25, 0.25, 0.25, 0]
    assert runpy.run_path(str(SCRIPT))["depth_of"](mask * 0)[:, 1].tolist() == [1, 0.75, 0.5, 0.25, 0]


def test_training_on_zips_makes_the_loss_fall_and_draws_what_it_finds(
    tmp_path: Path, composites: Callable[[int], CompositeSource], capsys: pytest.CaptureFixture[str]
) -> None:
    source = composites(10)
    (tmp_path / "set").mkdir()
    for number in range(2):
        with ZipWriter(tmp_path / "set" / f"set-{number:05d}.zip") as writer:
            source.pack(SampleRange(60 * number, 60 * number + 60), writer, 0)
            writer.close()
    small = ["--epochs", "4", "--edge", "32", "--width", "8", "--batch", "6", "--tried", "12"]
    picture = tmp_path / "found.png"
    losses = runpy.run_path(str(SCRIPT))["main"]([str(tmp_path / "set"), *small, "--out", str(picture)])
    assert len(losses) == 4 and losses[3] < losses[2] < losses[1] < losses[0] and losses[3] < 0.6 * losses[0]
    with Image.open(picture) as image:
        assert image.size == (2 * 5 * 40, 2 * 6 * 40)
    said = capsys.readouterr().out
    assert said.startswith("120 samples to learn from, 12 of them to try it on\n") and "epoch 4: loss" in said
