"""Content: whole files and byte ranges."""

from __future__ import annotations

import re
from urllib.parse import quote

from driveshard.emulator.calls import Call
from driveshard.emulator.errors import ApiError
from driveshard.emulator.record import FileRecord
from driveshard.emulator.wire import FileSlice, Reply

NO_BYTES = "crc32c=AAAAAA=="
_RANGE = re.compile(r"bytes=(\d*)-(\d*)$")


def download(call: Call, record: FileRecord) -> Reply:
    """The content of a file, or the range asked for: 200, 206, or 416. Raises ApiError 403 for folders and Docs."""
    if record.content is None:
        text = "Only files with binary content can be directly downloaded. Use Export with Docs Editors files."
        raise ApiError(403, "fileNotDownloadable", text, location="alt")
    size = record.content.size
    path = call.drive.store.path_of(record.content)
    headers = {
        "Content-Type": record.mime_type,
        "Accept-Ranges": "bytes",
        "Content-Disposition": f"attachment; filename*=UTF-8''{quote(record.name)}",
    }
    if size == 0:
        headers["x-goog-hash"] = NO_BYTES
    span = byte_range(call.request.headers.get("range"), size)
    if span is None:
        return Reply(200, FileSlice(path, 0, size), headers)
    start, stop = span
    if start >= stop:
        error = ApiError(416, "requestedRangeNotSatisfiable", "Request range not satisfiable", location="Range")
        reply = error.reply()
        reply.headers["Content-Range"] = f"bytes */{size}"
        return reply
    headers["Content-Range"] = f"bytes {start}-{stop - 1}/{size}"
    return Reply(206, FileSlice(path, start, stop - start), headers)


def byte_range(header: str | None, size: int) -> tuple[int, int] | None:
    """(start, stop) of a Range header for a file of `size` bytes; None when there is none that counts.

    An empty span (start >= stop) cannot be satisfied. Several ranges at once are answered with the whole file.
    """
    match = _RANGE.match((header or "").replace(" ", ""))
    if not match or match[1] == match[2] == "":
        return None
    if match[1] == "":
        return max(0, size - int(match[2])), size
    start = int(match[1])
    if match[2] and int(match[2]) < start:
        return None
    return start, min(size, int(match[2]) + 1) if match[2] else size
