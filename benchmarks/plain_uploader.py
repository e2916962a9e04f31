"""The plainest uploader there is: three threads, a session and one PUT a part. No ledger, no checks, no second try.

python plain_uploader.py URL FILE...
"""

from __future__ import annotations

import http.client
import json
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import urlsplit

BLOCK = 1 << 20
THREADS = 3


def upload(url: str, file: Path) -> None:
    """Raises AssertionError unless the file is stored."""
    place = urlsplit(url)
    line = http.client.HTTPConnection(place.hostname or "", place.port, blocksize=BLOCK)
    headers = {"Authorization": "Bearer emulator", "Content-Type": "application/json"}
    line.request("POST", "/upload/drive/v3/files?uploadType=resumable", json.dumps({"name": file.name}), headers)
    answer = line.getresponse()
    answer.read()
    session = urlsplit(answer.headers["Location"])
    with file.open("rb") as body:
        length = str(file.stat().st_size)
        line.request("PUT", f"{session.path}?{session.query}", body, {**headers, "Content-Length": length})
        done = line.getresponse()
        done.read()
    assert done.status == 200, done.status


if __name__ == "__main__":
    with ThreadPoolExecutor(THREADS) as pool:
        list(pool.map(lambda name: upload(sys.argv[1], Path(name)), sys.argv[2:]))
