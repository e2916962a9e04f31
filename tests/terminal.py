"""A command on a real pseudo-terminal, where somebody reads and answers."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path


def on_terminal(
    arguments: list[str],
    environment: Mapping[str, str],
    folder: Path,
    *,
    answers: Mapping[str, str | Callable[[str], str]],
    timeout: float = 60,
) -> tuple[int, str]:
    """Run ``driveshard`` with these arguments; whenever a text of ``answers`` appears, its answer is typed, once
    (one that is made from the screen so far, if it is a function).
    Returns the exit code and all that was on the screen."""
    import pty

    ours, theirs = pty.openpty()
    screen = ""
    waiting = dict(answers)
    process = subprocess.Popen(
        [sys.executable, "-m", "driveshard", *arguments],
        env={**environment, "TERM": "dumb", "COLUMNS": "120"},
        cwd=folder,
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        start_new_session=True,
    )
    try:
        os.close(theirs)
        with contextlib.suppress(OSError):  # how a terminal ends
            while block := os.read(ours, 65_536):
                screen += block.decode("utf-8", "replace")
                for text in [one for one in waiting if one in screen]:
                    answer = waiting.pop(text)
                    os.write(ours, f"{answer if isinstance(answer, str) else answer(screen)}\n".encode())
        return process.wait(timeout), screen
    finally:
        os.close(ours)
        process.kill()
        process.wait()
