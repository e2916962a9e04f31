"""A few composites to train on."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from driveshard.cli.demo.objects import draw_backgrounds, draw_foregrounds
from driveshard.sources.composite.source import CompositeSource


@pytest.fixture
def composites(tmp_path: Path) -> Callable[..., CompositeSource]:
    """``composites(placements)`` is a source of 2 x 3 x 2 x placements images of 64 x 64 pixels."""

    def make(placements: int) -> CompositeSource:
        draw_backgrounds(tmp_path / "bg", 2, seed=1)
        draw_foregrounds(tmp_path / "fg", 3, seed=1)
        return CompositeSource(tmp_path / "bg", tmp_path / "fg", 64, placements)

    return make
