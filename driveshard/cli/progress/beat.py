"""Something that happens every so often, whatever else does."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator

_PATIENCE = 1.0  # seconds; it may hang on a screen that takes nothing any more


@contextlib.contextmanager
def beating(beat: Callable[[], None], every: float) -> Iterator[None]:
    """Call ``beat`` every so many seconds, whatever else happens."""
    ended = threading.Event()

    def go_on() -> None:
        while not ended.wait(every):
            beat()

    thread = threading.Thread(target=go_on, name="beat", daemon=True)
    with contextlib.suppress(RuntimeError):  # no more threads: then it is told when something happens
        thread.start()
    try:
        yield
    finally:
        ended.set()
        if thread.is_alive():
            thread.join(_PATIENCE)
