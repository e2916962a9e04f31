"""Sizes and rates from text."""

from __future__ import annotations

import re

from driveshard.core.errors import UsageError

_SIZE = re.compile(r"(\d{1,30}(?:\.\d{1,30})?)\s*([kmgtp]?)(i?)(b?)(?:/s)?", re.IGNORECASE)


# A small b after a capital prefix is a bit to whoever writes it so.
_BITS = re.compile(r"(\d{1,30}(?:\.\d{1,30})?)\s*((?i:[kmgtp]?))\s*(?:(?i:bits?(?:/s(?:ec)?)?|bps)|(?<=[KMGTP])b/s)")
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


def parse_rate(text: str) -> int:
    """Bytes a second from ``2M`` or ``2MiB/s`` (see ``parse_size``), or from ``20 Mbit/s`` as providers write it
    (decimal). Raises UsageError with the accepted forms."""
    match = _BITS.fullmatch(text.strip())
    if match:
        number, unit = match.groups()
        return int(float(number) * 1000 ** (_STEPS.index(unit.lower()) + 1 if unit else 0) / 8)
    try:
        return parse_size(text)
    except UsageError:
        raise UsageError(f"{text!r} is not a rate", advice="Write it like 2M, 500KB/s or 20Mbit/s.") from None
