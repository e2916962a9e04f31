"""``python -m tests.quick``: the driveshard command with short waits between tries and small first chunks, so that a
test meets in seconds what takes minutes on a real line. Nothing else is changed."""

from __future__ import annotations

import sys

from driveshard.cli import main as cli
from driveshard.config import settings as config
from driveshard.storage.retry import Patience
from driveshard.upload.send import chunk_size


def quick_patience() -> Patience:
    return Patience(attempts=12, first=0.05, longest=0.4, throttled=5.0)


if __name__ == "__main__":
    config.Patience = quick_patience  # type: ignore[assignment,misc]
    chunk_size.FIRST_CHUNK = 256 * 1024
    sys.exit(cli.main(sys.argv[1:]))
