"""stdout is data, stderr is talk; and how much a command talks."""

from __future__ import annotations

import contextlib
import json
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass
class Manner:
    """How a command talks: the options that are the same everywhere."""

    as_json: bool = False
    log_format: str = "text"
    quiet: bool = False
    verbose: bool = False


def tell(text: str) -> None:
    """A line on stderr. Nobody listening is no reason to fail."""
    with contextlib.suppress(OSError, ValueError, AttributeError):
        sys.stderr.write(text + "\n")
        sys.stderr.flush()


def put(text: str) -> None:
    """A line on stdout; text that stands for bytes of a path goes out as those bytes."""
    put_bytes(text.encode("utf-8", "surrogateescape") + b"\n")


def put_bytes(data: bytes | memoryview) -> None:
    """Bytes on stdout, as they are. Raises BrokenPipeError when the reader has gone."""
    sys.stdout.flush()
    sys.stdout.buffer.write(data)
    sys.stdout.buffer.flush()


def put_json(document: Mapping[str, Any]) -> None:
    """The result object: the last line of stdout."""
    put(json.dumps(document))
