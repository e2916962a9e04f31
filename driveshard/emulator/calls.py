"""What every handler gets: the emulated Drive as a whole, and the one call it answers."""

from __future__ import annotations

import json
import re
import threading
import time
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from driveshard.emulator.auth import PUBLIC, Auth
from driveshard.emulator.errors import ApiError, not_found
from driveshard.emulator.faults import FaultPlan
from driveshard.emulator.fields import DEFAULT_FILE, FILE, Mask, apply_mask, compile_mask
from driveshard.emulator.journal import Journal
from driveshard.emulator.limits import DownloadQuota, Throttle, WriteLimit
from driveshard.emulator.line import Line
from driveshard.emulator.oauth import OAuth
from driveshard.emulator.options import Options
from driveshard.emulator.record import FileRecord
from driveshard.emulator.resource import file_resource
from driveshard.emulator.sessions import Sessions
from driveshard.emulator.store import Clock, Store
from driveshard.emulator.tokens import Tokens
from driveshard.emulator.wire import Reply, Request

LAG_LISTS = 3
LAG_SECONDS = 5.0
LATE_GETS = 2
SLOW_RATE = 64 * 1024


class Drive:
    """Everything that lives as long as the emulator. `virus_scan_limit` is the size in bytes above which the site
    asks for a confirmation before a download, as Drive does."""

    def __init__(self, root: Path, options: Options) -> None:
        self.stopping = threading.Event()
        self.faults = FaultPlan(options.faults, options.seed)
        self.clock = Clock()
        self.store = Store(root, self.clock)
        self.sessions = Sessions(root, self.store.blobs, self.store.database)
        tokens = Tokens(self.store.database, self.clock, options.refresh_days)
        self.auth = Auth(tokens, token=options.token, api_key=options.api_key)
        self.oauth = OAuth(tokens, consent=options.consent)
        self.journal = Journal(root, options.strict)
        self.line = Line(options.bandwidth, options.latency_ms, self.stopping)
        self.slow = Throttle(SLOW_RATE, self.stopping)
        self.writes = WriteLimit(options.writes_per_second)
        self.downloads = DownloadQuota(options.download_quota)
        self.virus_scan_limit = options.scan_limit
        self.list_tokens: dict[str, tuple[str, list[str]]] = {}
        self._late: dict[str, int] = {}
        self._lagging: dict[str, tuple[int, float]] = {}
        self._lock = threading.Lock()
        self._sweep()

    def close(self) -> None:
        """Close every file."""
        self.journal.close()
        self.store.close()

    def delay_checksums(self, file_id: str) -> None:
        """The next two files.get of that file come without checksums."""
        with self._lock:
            self._late[file_id] = LATE_GETS

    def checksums_ready(self, file_id: str, *, count: bool = False) -> bool:
        """False while a file's checksums are late; `count` uses up one of the late answers."""
        with self._lock:
            left = self._late.get(file_id, 0)
            if count and left:
                self._late[file_id] = left - 1
            return left == 0

    def hide_from_lists(self, file_id: str, seconds: float | None = None) -> None:
        """Keep a file out of lists for so long; unless told for three lists or five seconds, whichever ends first."""
        lists, lasts = (LAG_LISTS, LAG_SECONDS) if seconds is None else (1 << 62, seconds)
        with self._lock:
            self._lagging[file_id] = (lists, time.monotonic() + lasts)

    def hidden_files(self) -> set[str]:
        """The files a list must not show; each call counts as one list."""
        now = time.monotonic()
        with self._lock:
            alive = {key: value for key, value in self._lagging.items() if value[0] > 0 and value[1] > now}
            self._lagging = {key: (lists - 1, until) for key, (lists, until) in alive.items()}
            return set(alive)

    def _sweep(self) -> None:
        wanted = self.store.used_blobs() | self.sessions.open_blobs()
        for blob in self.store.blobs.iterdir():
            if blob.name not in wanted:
                blob.unlink()


@dataclass
class Call:
    """One request on its way through a handler. `ids` are the path's variable parts, `fault` the word that hit it.

    `lasts` is how long the word was said to last, in seconds;
    `also` are the words that say how it fails; `cut` is the byte of the body at which its connection breaks.
    """

    drive: Drive
    request: Request
    ids: tuple[str, ...] = ()
    kinds: frozenset[str] = frozenset()
    fault: str | None = None
    lasts: float | None = None
    also: frozenset[str] = frozenset()
    cut: int | None = None
    caller: str = PUBLIC
    notes: dict[str, Any] = field(default_factory=dict)

    @property
    def base_url(self) -> str:
        """Scheme and host for links."""
        return self.request.base_url

    @property
    def query(self) -> dict[str, str]:
        """The URL's parameters; empty ones are absent."""
        return self.request.query

    @cached_property
    def metadata(self) -> dict[str, Any]:
        """The JSON object in the body; {} for an empty body. Raises ApiError 400."""
        return parse_metadata(self.request.body.read())

    def visible(self, file_id: str) -> FileRecord:
        """The file, when the caller may see it. Raises ApiError 404."""
        record = self.drive.store.require(file_id)
        if self.caller == PUBLIC and not self.stranger_sees(record, self.resource_keys.get(record.id)):
            raise not_found(file_id)
        return record

    @property
    def resource_keys(self) -> dict[str, str]:
        """The keys that came in X-Goog-Drive-Resource-Keys, by file id."""
        pairs = self.request.headers.get("x-goog-drive-resource-keys", "").split(",")
        return {name.strip(): key.strip() for name, _, key in (pair.partition("/") for pair in pairs)}

    def stranger_sees(self, record: FileRecord, key: str | None) -> bool:
        """True when anyone with the link may read it, given the resource key that older links need."""
        wanted = record.extra.get("resourceKey")
        return self.drive.store.is_public(record) and wanted in (None, key)

    def admit_download(self, record: FileRecord) -> bool:
        """Count a stranger's download; False when the file was downloaded too often."""
        begins = re.match(r"bytes=0*[1-9]", self.request.headers.get("range", "").replace(" ", "")) is None
        return self.drive.downloads.admit(record.id, self.drive.clock.now(), begins=begins)

    def file_mask(self, fields: str | None) -> Mask:
        """The mask for a single File reply."""
        return compile_mask(fields, DEFAULT_FILE, FILE)

    def resource(self, record: FileRecord, *, count: bool = False) -> dict[str, Any]:
        """The whole File resource as this caller sees it; `count` as in Drive.checksums_ready."""
        ready = self.drive.checksums_ready(record.id, count=count)
        owner = self.caller != PUBLIC
        return file_resource(record, self.drive.store, self.base_url, owner=owner, checksums=ready)

    def file_reply(self, record: FileRecord, fields: str | None, status: int = 200) -> Reply:
        """A File reply under a mask."""
        return Reply.json(apply_mask(self.file_mask(fields), self.resource(record)), status)


def parse_metadata(content: bytes) -> dict[str, Any]:
    """A JSON object; {} for no content at all. Raises ApiError 400."""
    if not content.strip():
        return {}
    try:
        document = json.loads(content)
    except ValueError:
        raise ApiError(400, "parseError", "Parse Error") from None
    if not isinstance(document, dict):
        raise ApiError(400, "parseError", "Parse Error")
    return document
