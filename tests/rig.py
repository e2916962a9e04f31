"""What the fault, recovery and campaign tests stand on: a source, a quick push, and a look at the Drive from the
server's side that does not use any of driveshard's own code for reading."""

from __future__ import annotations

import dataclasses
import hashlib
import io
import itertools
import json
import os
import random
import signal
import subprocess
import sys
import time
import urllib.request
import zipfile
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, quote, urlsplit

from driveshard.config.settings import PushOptions, Settings
from driveshard.core.clock import Clock
from driveshard.core.events import Emit, Event, Notice, Waiting, ignore
from driveshard.emulator import Emulator
from driveshard.sources.base import Source
from driveshard.sources.folder import FolderSource
from driveshard.storage.retry import Patience
from driveshard.upload.ledger.ledger import Ledger
from driveshard.upload.pack.build import build_part
from driveshard.upload.plan.base import Cut
from driveshard.upload.plan.registry import planner_for
from driveshard.upload.result import PushResult
from driveshard.upload.run import push

REPOSITORY = Path(__file__).resolve().parent.parent
UNIT = 256 * 1024
QUICK = Patience(attempts=12, first=0.01, longest=0.03, throttled=1.0)
PLENTY = 1 << 40
LISTS = 4  # the emulator's lists lag by three
BESIDE = ("README.md", "index.npz", "manifest.json", "preview.jpg")
"""The names that may lie beside the parts, each once."""


def fill(root: Path, files: int, size: int, seed: int = 0) -> Path:
    """``files`` files of about ``size`` random bytes in three directories."""
    dice = random.Random(seed)
    for number in range(files):
        path = root / f"d{number % 3}" / f"{number:04d}.bin"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(dice.randbytes(dice.randrange(size // 2, size + 1)))
    return root


def undisturbed(source: Source, cut: Cut, work: Path) -> dict[str, str]:
    """The parts that a run without any trouble makes: file name -> sha256, built here and now."""
    work.mkdir(parents=True, exist_ok=True)
    made: dict[str, str] = {}
    with Ledger(work / "reference.sqlite") as ledger:
        planner = planner_for(source, ledger, cut, Clock(), ignore)
        for number in planner.numbers():
            part = build_part(ledger.spec(number), source, work / "reference.zip", PLENTY)
            if part.files:
                ledger.packed(part)
                made[part.file_name] = hashlib.sha256((work / "reference.zip").read_bytes()).hexdigest()
            else:
                ledger.drop(number)
            planner.packed(part)
    return made


def call(url: str, path: str, body: Mapping[str, Any] | None = None) -> bytes:
    """One plain request to the emulator."""
    request = urllib.request.Request(url + path, headers={"Authorization": "Bearer emulator"})
    if body is not None:
        request.data = json.dumps(body).encode()
    with urllib.request.urlopen(request, timeout=30) as reply:
        return bytes(reply.read())


@dataclass
class Shelf:
    """All that is stored on a Drive, as its own API tells and its own bytes are."""

    url: str
    files: list[dict[str, Any]] = field(default_factory=list)

    def __post_init__(self) -> None:
        fields = "files(id,name,size,mimeType,md5Checksum,sha256Checksum,parents,appProperties)"
        for _ in range(LISTS):
            page = json.loads(call(self.url, f"/drive/v3/files?pageSize=1000&fields={quote(fields)}"))
        self.files = page["files"]

    def folders(self) -> list[dict[str, Any]]:
        return [one for one in self.files if one["mimeType"].endswith(".folder")]

    def content(self, file_id: str) -> bytes:
        return call(self.url, f"/drive/v3/files/{file_id}?alt=media")

    def problems(self, expected: Mapping[str, str], *, recut: Mapping[bytes, str] | None = None) -> list[str]:
        """What is not as it must be once a push is complete, in sentences that begin with a word for their kind.

        ``expected`` is what ``undisturbed`` says. When the ledger was lost on the way, parts may be cut elsewhere:
        then ``recut``, the members' sha256, is compared instead, each member exactly once.
        """
        folders = self.folders()
        if len(folders) != 1:
            return [f"{'doubled' if folders else 'lost'}: {len(folders)} dataset folders"]
        found = [one for one in self.files if one is not folders[0]]
        said = [f"stray: {one['name']} outside the folder" for one in found if one["parents"] != [folders[0]["id"]]]
        counts = Counter(one["name"] for one in found)
        said += [f"doubled: {name} is there {count} times" for name, count in counts.items() if count > 1]
        parts = {one["name"]: one for one in found if one["name"].endswith(".zip")}
        bytes_of = {name: self.content(one["id"]) for name, one in parts.items()}
        beside = {*BESIDE, *(page["name"] for page in self.manifest(found).get("pages", ()))}
        said += [f"stray: {name}" for name in counts if name not in parts and name not in beside]
        if recut is None:
            said += _compare({name: _sha256(data) for name, data in bytes_of.items()}, expected)
        else:
            said += _compare_members(bytes_of.values(), recut)
        return said + self._manifest_problems(found, parts, bytes_of)

    def manifest(self, found: list[dict[str, Any]]) -> dict[str, Any]:
        """The manifest's document, {} without exactly one; of one with pages the parts are theirs, each proved."""
        manifests = [one for one in found if one["name"] == "manifest.json"]
        if len(manifests) != 1:
            return {}
        document: dict[str, Any] = json.loads(self.content(manifests[0]["id"]))
        for page in document.get("pages", ()):
            data = self.content(page["id"])
            assert (len(data), _sha256(data)) == (page["size"], page["sha256"]), page
            document.setdefault("parts", []).extend(json.loads(data)["parts"])
        return document

    def _manifest_problems(
        self, found: list[dict[str, Any]], parts: Mapping[str, dict[str, Any]], bytes_of: Mapping[str, bytes]
    ) -> list[str]:
        manifest = self.manifest(found)
        if not manifest:
            return ["manifest: not one of them"]
        told = {(part["name"], part["id"], part["size"], part["md5"], part["sha256"]) for part in manifest["parts"]}
        stored = {
            (name, one["id"], len(bytes_of[name]), hashlib.md5(bytes_of[name]).hexdigest(), _sha256(bytes_of[name]))
            for name, one in parts.items()
        }
        return [] if told == stored else [f"manifest: it tells {sorted(told ^ stored)} otherwise than stored"]

    def stored_bytes(self) -> int:
        return sum(int(one.get("size", 0)) for one in self.files)

    def part_bytes(self) -> int:
        return sum(int(one["size"]) for one in self.files if one["name"].endswith(".zip"))


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _compare(found: Mapping[str, str], expected: Mapping[str, str]) -> list[str]:
    said = [f"lost: {name}" for name in expected if name not in found]
    said += [f"stray: {name}" for name in found if name not in expected]
    return said + [f"wrong: {name} has other bytes" for name in found if found[name] != expected.get(name, found[name])]


def members_of(archives: Iterable[bytes]) -> list[tuple[bytes, str]]:
    """(path, sha256) of every member of these zips, read by Python's own zip module."""
    rows = []
    for data in archives:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            rows += [(info.orig_filename.encode(), _sha256(archive.read(info))) for info in archive.infolist()]
    return rows


def _compare_members(archives: Iterable[bytes], expected: Mapping[bytes, str]) -> list[str]:
    rows = members_of(archives)
    counts = Counter(path for path, _ in rows)
    said = [f"doubled: member {path!r} is there {count} times" for path, count in counts.items() if count > 1]
    return said + _compare({path.decode(): sha for path, sha in rows}, {p.decode(): sha for p, sha in expected.items()})


# -- what the server's log tells -------------------------------------------------------------------------------------


def by_session(log: Iterable[Mapping[str, Any]]) -> dict[str, list[Mapping[str, Any]]]:
    """The requests to each session URI, in the order in which they began. (The log has them as they ended: one that
    its sender gave up may be noticed after the query that followed it.)"""
    found: dict[str, list[Mapping[str, Any]]] = defaultdict(list)
    for entry in sorted(log, key=lambda entry: entry["time"] - entry["seconds"]):
        upload = parse_qs(urlsplit(entry["path"]).query).get("upload_id")
        if upload:
            found[upload[0]].append(entry)
    return found


def blind_steps(log: Iterable[Mapping[str, Any]]) -> list[str]:
    """Requests that followed a failed one on the same session without asking first."""
    said = []
    for requests in by_session(log).values():
        for before, after in itertools.pairwise(requests):
            failed = before["dropped"] or before["status"] >= 400
            if failed and "query" not in after["kinds"]:
                said.append(f"{after['content_range']} after {before['status']} to {before['content_range']}")
    return said


# -- a push in this process ------------------------------------------------------------------------------------------


@dataclass
class Rig:
    """A source and everything a push of it needs, below ``directory``; ``push`` runs it in this process."""

    directory: Path
    url: str
    part_size: int = 1_000_000
    list_lag: float = 0.2
    timeout: float = 1.0
    name: str = "t"
    events: list[Event] = field(default_factory=list)
    on_event: Emit = ignore

    @property
    def source(self) -> FolderSource:
        return FolderSource(self.directory / "source")

    @property
    def temp(self) -> Path:
        return self.directory / "temp"

    @property
    def ledger_path(self) -> Path:
        (path,) = (self.directory / "home" / "ledgers").glob("*.sqlite")
        return path

    def settings(self, clock: Clock | None = None) -> Settings:
        return Settings(
            home=self.directory / "home",
            drive_url=self.url + "/",
            clock=clock or Clock(),
            patience=QUICK,
            timeout=self.timeout,
            list_lag=self.list_lag,
        )

    def push(self, source: Source | None = None, *, clock: Clock | None = None, **options: Any) -> PushResult:
        """Run once; ``events`` are this run's."""
        self.events = []

        def emit(event: Event) -> None:
            self.events.append(event)
            self.on_event(event)

        wanted = PushOptions(
            source="source",
            name=self.name,
            part_size=self.part_size,
            temp=self.temp,
            writes_per_second=1000,
            engine="serial",
        )
        wanted = dataclasses.replace(wanted, **options)
        return push(wanted, self.source if source is None else source, self.settings(clock), emit)

    def expected(self, source: Source | None = None) -> dict[str, str]:
        cut = Cut(self.name, self.part_size)
        return undisturbed(
            self.source if source is None else source, cut, self.directory / f"reference-{time.monotonic_ns()}"
        )

    def notices(self) -> list[str]:
        return [event.text for event in self.events if isinstance(event, Notice)]

    def waits(self) -> list[str]:
        return [event.why for event in self.events if isinstance(event, Waiting)]

    def in_temp(self) -> list[str]:
        """Files in the temp folder."""
        return sorted(path.name for path in self.temp.rglob("*") if path.is_file())


def received(emulator: Emulator) -> int:
    """Bytes of parts that came off the wire so far."""
    return sum(one["received"] for one in emulator.stats()["sessions"])


# -- processes -------------------------------------------------------------------------------------------------------


class Server:
    """The emulator as a process of its own, which may be killed and started again on the same root and port."""

    def __init__(self, root: Path, *options: str) -> None:
        self.root = root
        self.options = options
        self._port = 0
        self.start()

    def start(self) -> None:
        for _ in range(50):
            command = [sys.executable, "-m", "driveshard.emulator", "--root", str(self.root), "--port", str(self._port)]
            self.process = subprocess.Popen(
                [*command, *self.options],
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                env=environment(),
                start_new_session=True,
            )
            assert self.process.stdout is not None
            line = self.process.stdout.readline()
            if line:
                self.url = str(json.loads(line)["url"])
                self._port = urlsplit(self.url).port or 0
                return
            self.stop(signal.SIGKILL)
            time.sleep(0.1)  # the port of a server just killed may not be free yet
        raise RuntimeError("the emulator does not start")

    def stop(self, number: int = signal.SIGTERM) -> None:
        self.process.send_signal(number)
        self.process.wait(30)
        assert self.process.stdout is not None
        self.process.stdout.close()

    def set_faults(self, words: str, seed: int = 0) -> None:
        call(self.url, "/_emulator/faults", {"faults": words, "seed": seed})

    def stats(self) -> dict[str, Any]:
        return dict(json.loads(call(self.url, "/_emulator/stats")))

    def log(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in call(self.url, "/_emulator/log").splitlines()]

    def __enter__(self) -> Server:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop(signal.SIGKILL)


def environment(**more: str) -> dict[str, str]:
    """This process's environment without any setting of driveshard's, and with the checkout importable."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("DRIVESHARD_")}
    return {**kept, "PYTHONPATH": str(REPOSITORY), **more}


def start_push(directory: Path, url: str, source: str, *options: str, quick: bool = True) -> subprocess.Popen[str]:
    """``driveshard push`` as a process and group of its own. ``quick`` shortens its waits and chunks (see
    ``tests/quick.py``). stdout and stderr are pipes."""
    module = "tests.quick" if quick else "driveshard"
    home = {"DRIVESHARD_HOME": str(directory / "home"), "DRIVESHARD_DRIVE_URL": url, "DRIVESHARD_LIST_LAG": "2"}
    return subprocess.Popen(
        [sys.executable, "-m", module, "push", source, "--json", "--temp", str(directory / "temp"), *options],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=directory,
        env=environment(**home),
        start_new_session=True,
    )
