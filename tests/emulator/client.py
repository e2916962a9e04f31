"""A plain HTTP client that hides nothing, and the addresses it calls."""

from __future__ import annotations

import hashlib
import http.client
import json
import random
from dataclasses import dataclass
from typing import Any, ClassVar
from urllib.parse import urlencode, urlsplit

UNIT = 256 * 1024
FOLDER = "application/vnd.google-apps.folder"
FILES = "/drive/v3/files"
UPLOAD = "/upload/drive/v3/files"


@dataclass
class Answer:
    """A reply, read to its end."""

    status: int
    headers: http.client.HTTPMessage
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def reason(self) -> str:
        return self.json["error"]["errors"][0]["reason"]


class Client:
    """One connection at a time; a dropped one is opened anew by the next call."""

    opened: ClassVar[list[Client]] = []

    def __init__(self, url: str, auth: dict[str, str] | None = None) -> None:
        self.netloc = urlsplit(url).netloc
        self.auth = {"Authorization": "Bearer emulator"} if auth is None else auth
        self.connection = http.client.HTTPConnection(self.netloc, timeout=20)
        self.opened.append(self)

    def __call__(
        self, method: str, target: str, body: Any = None, headers: dict[str, str] | None = None, **query: Any
    ) -> Answer:
        parts = urlsplit(target)
        path = parts.path + (f"?{parts.query}" if parts.query else "")
        if query:
            path += ("&" if "?" in path else "?") + urlencode(query)
        sent = self.auth | (headers or {})
        if isinstance(body, dict):
            body, sent = json.dumps(body).encode(), {"Content-Type": "application/json; charset=UTF-8"} | sent
        try:
            self.connection.request(method, path, body, sent)
            reply = self.connection.getresponse()
            return Answer(reply.status, reply.headers, reply.read())
        except BaseException:
            self.connection.close()
            raise

    def get(self, target: str, **query: Any) -> Answer:
        return self("GET", target, **query)

    def ids(self, count: int = 1) -> list[str]:
        return self.get(f"{FILES}/generateIds", count=count).json["ids"]

    def folder(self, name: str = "folder", **metadata: Any) -> str:
        return self("POST", FILES, {"name": name, "mimeType": FOLDER, **metadata}).json["id"]

    def begin(self, size: int | None = None, *, fields: str = "id,name,size,md5Checksum", **metadata: Any) -> str:
        headers = {} if size is None else {"X-Upload-Content-Length": str(size)}
        answer = self("POST", UPLOAD, metadata, headers, uploadType="resumable", fields=fields)
        assert answer.status == 200, answer.body
        return answer.headers["Location"]

    def put(self, session: str, data: bytes, start: int, total: int | str, **headers: str) -> Answer:
        span = f"bytes {start}-{start + len(data) - 1}/{total}"
        return self("PUT", session, data, {"Content-Range": span} | headers)

    def ask(self, session: str, total: int | str = "*") -> Answer:
        return self("PUT", session, b"", {"Content-Range": f"bytes */{total}", "Content-Length": "0"})

    def upload(self, data: bytes, **metadata: Any) -> str:
        return self("PUT", self.begin(len(data), **metadata), data).json["id"]

    @staticmethod
    def md5(data: bytes) -> str:
        return hashlib.md5(data).hexdigest()

    def share(self, file_id: str) -> Answer:
        return self("POST", f"{FILES}/{file_id}/permissions", {"type": "anyone", "role": "reader"})

    def names(self, q: str = "", **query: Any) -> list[str]:
        found = self.get(FILES, q=q, fields="files(name)", **query)
        assert found.status == 200, found.body
        return sorted(file["name"] for file in found.json["files"])


def noise(size: int, seed: int = 0) -> bytes:
    """Reproducible bytes that do not repeat within a unit."""
    return random.Random(seed).randbytes(size)
