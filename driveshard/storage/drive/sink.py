"""Where a file's content goes that is not held whole."""

from __future__ import annotations

import http.client
import re
from collections.abc import Callable


class Sink:
    """Where a file's content goes as it comes: each block to ``write``, before them the file's whole size in bytes to
    ``on_total`` when the reply tells it. Either may raise to end it."""

    def __init__(self, start: int, write: Callable[[bytes], None], on_total: Callable[[int], None]) -> None:
        self._start = start
        self.write = write
        self._on_total = on_total
        self.taken = False

    def takes(self, status: int, headers: http.client.HTTPMessage) -> bool:
        """Whether the reply is the file, and the piece of it that was asked for; a page for people is neither."""
        page = headers.get("content-type", "").lower().startswith(("text/html", "application/xhtml"))
        if page and "content-disposition" not in headers:
            return False
        place = re.match(r"bytes (\d{1,19})-\d{1,19}/(\d{1,19})?", headers.get("content-range", ""), re.ASCII)
        if status == 206 and (place is None or int(place[1]) != self._start):
            return False
        total = place[2] if status == 206 and place is not None else headers.get("content-length", "")
        if total and re.fullmatch(r"\d{1,19}", total, re.ASCII):
            self._on_total(int(total))
        self.taken = True
        return True
