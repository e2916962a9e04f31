"""Whether the generator's settings can be meant."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from driveshard.core.errors import ConfigError
from driveshard.core.similar import nearest
from driveshard.sources.composite.layouts import LAYOUTS

_BOUNDS: Mapping[str, tuple[int, int]] = {
    "size": (8, 8192),
    "placements": (1, 1_000_000),
    "quality": (1, 100),
    "seed": (0, 2**63 - 1),
    "mask_threshold": (0, 254),
}
_SWITCHES = ("flip", "optimize", "background")
_WORDS: Mapping[str, tuple[str, ...]] = {
    "mask": ("jpg", "png"),
    "scale_per": ("placement", "foreground"),
    "box": ("picture", "tight"),
    "layout": LAYOUTS,
    "labels": ("json", "table", "both"),
}


def check_settings(settings: Mapping[str, Any]) -> None:
    """Raises ConfigError for a setting of the wrong type or out of range."""
    for name, (low, high) in _BOUNDS.items():
        value = settings[name]
        if name == "mask_threshold" and value is None:
            continue
        if type(value) is not int or not low <= value <= high:
            raise ConfigError(f"composite: {name} must be a whole number from {low} to {high}, not {value!r}")
    for name in _SWITCHES:
        if not isinstance(settings[name], bool):
            raise ConfigError(f"composite: {name} must be true or false, not {settings[name]!r}")
    for name, words in _WORDS.items():
        if settings[name] not in words:
            said = " or ".join(f'"{word}"' for word in words)
            raise ConfigError(
                f"composite: {name} must be {said}, not {settings[name]!r}", advice=nearest(str(settings[name]), words)
            )
    for name in ("min_scale", "max_scale"):
        if isinstance(settings[name], bool) or not isinstance(settings[name], int | float):
            raise ConfigError(f"composite: {name} must be a number, not {settings[name]!r}")
    low_scale, high_scale = settings["min_scale"], settings["max_scale"]
    if not 0 < low_scale <= high_scale <= 1:
        raise ConfigError(
            f"composite: the scales must satisfy 0 < min_scale <= max_scale <= 1, not {low_scale} and {high_scale}"
        )
