"""A member's CRC; and the md5 and sha256 of a stream of blocks, with the md5 computed in a thread of its own.

Python lets other threads run while it hashes a large block, so that thread gives a single writer the use of a second
core. Where all cores have their work already, it would only cost the hand-overs. It takes the md5 because that is the
slower of the two where the processor knows sha256, and about half of the work where it does not.
"""

from __future__ import annotations

import hashlib
import importlib
import sys
import time
import zlib
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

Block = bytes | bytearray | memoryview

_WORTH_A_THREAD = 1 << 16  # bytes; to hand over a smaller block costs more than it gains


def fastest_crc32() -> Callable[..., int]:
    """zlib-ng's, where it is installed: it takes a tenth of the time that zlib takes for a small file."""
    try:
        found: Callable[..., int] = importlib.import_module("zlib_ng.zlib_ng").crc32
    except ImportError:
        return zlib.crc32
    return found


crc32 = fastest_crc32()


class Checksums:
    """Feed blocks in order with ``update``, and ``end`` it in any case: with ``threaded`` it may have a thread.

    ``seconds`` is what the thread has spent on a core.
    """

    def __init__(self, threaded: bool = True) -> None:
        self.seconds = 0.0
        self._smallest = _WORTH_A_THREAD if threaded else sys.maxsize
        self._md5 = hashlib.md5(usedforsecurity=False)
        self._sha256 = hashlib.sha256()
        self._thread: ThreadPoolExecutor | None = None
        self._pending: Future[None] | None = None  # at most one block is in the thread's hands

    def update(self, block: Block, given: bool = False) -> None:
        """Take the next block. One that is ``given`` may still be read after the return, and until the next call."""
        self._settle()
        if len(block) < self._smallest:
            self._md5.update(block)
        else:
            self._thread = self._thread or ThreadPoolExecutor(1, thread_name_prefix="md5")
            self._pending = self._thread.submit(self._update_md5, block)
        self._sha256.update(block)
        if not given:
            self._settle()

    def digests(self) -> tuple[str, str]:
        """md5 and sha256 of all blocks so far, in lower-case hex."""
        self._settle()
        return self._md5.hexdigest(), self._sha256.hexdigest()

    def state(self) -> tuple[Any, Any]:
        """What ``restore`` needs to forget the blocks that come after this."""
        self._settle()
        return self._md5.copy(), self._sha256.copy()

    def restore(self, state: tuple[Any, Any]) -> None:
        self._settle()
        self._md5, self._sha256 = state

    def end(self) -> None:
        """End the thread. May be called again."""
        if self._thread is not None:
            self._thread.shutdown(wait=True, cancel_futures=True)
            self._thread = self._pending = None

    def _settle(self) -> None:
        if self._pending is not None:
            self._pending.result()
            self._pending = None

    def _update_md5(self, block: Block) -> None:
        began = time.thread_time()
        self._md5.update(block)
        self.seconds += time.thread_time() - began
