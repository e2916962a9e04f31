"""How warnings of Pillow are taken while pictures are decoded, in any number of threads."""

from __future__ import annotations

import threading
import warnings

from PIL import Image


class _Strict:
    """Within it a picture of too many pixels is an error and no other warning is shown.

    The filters are the process's own and of all its threads, so the first one in sets them and the last one out puts
    them back: ``catch_warnings`` alone, left by threads in another order than entered, would leave them changed.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._inside = 0
        self._before = warnings.catch_warnings()

    def __enter__(self) -> None:
        with self._lock:
            if not self._inside:
                self._before = warnings.catch_warnings()
                self._before.__enter__()
                warnings.simplefilter("ignore")
                warnings.simplefilter("error", Image.DecompressionBombWarning)
            self._inside += 1

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._inside -= 1
            if not self._inside:
                self._before.__exit__(None, None, None)


strict = _Strict()
