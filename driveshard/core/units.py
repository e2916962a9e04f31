"""Sizes from text."""

from __future__ import annotations

import re

from driveshard.core.errors import UsageError

_SIZE = re.compile(r"(\d{1,30}(?:\.\d{1,30})?)\s*([kmgtp]?)(i?)(b?)(?:/s)?", re.IGNORECASE)


_STEPS = "kmgtp"


def parse_size(text: str) -> int:
    """Bytes from ``512MiB``, ``512M`` (binary, as rclone reads it), ``500MB`` (decimal) or ``1048576``.

    Raises UsageError with the accepted forms.
    """
    match = _SIZE.fullmatch(text.strip())
    if not match:
        raise UsageError(f"{text!r} is not a size", advice="Write it like 512MiB, 2G, 500MB or 1048576.")
    number, unit, binary, byte = match.groups()
    base = 1000 if unit and byte and not binary else 1024
    return int(float(number) * base ** (_STEPS.index(unit.lower()) + 1 if unit else 0))
