"""CPU seconds the client spends on a gigabyte of resumable upload over loopback http, against googleapiclient's own
MediaFileUpload with 8 MiB chunks. The server keeps nothing and its time is not counted.

Each way runs in a process of its own; what is compared is user + system time of the upload alone.
"""

from __future__ import annotations

import json
import os
import resource
import ssl
import subprocess
import sys
import tempfile
import urllib.parse
import urllib.request
from collections.abc import Callable
from contextlib import closing, contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import harness

MIB = 1 << 20
CERTIFICATES = "HTTPLIB2_CA_CERTS"  # where both ways are told whom to trust


def cpu(work: Callable[[], object]) -> float:
    """User + system seconds of this process while ``work`` runs."""
    before = resource.getrusage(resource.RUSAGE_SELF)
    work()
    after = resource.getrusage(resource.RUSAGE_SELF)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def upload_ours(file: Path, url: str) -> float:
    """CPU seconds of one upload of ``file`` by Transfer."""
    from google.oauth2.credentials import Credentials

    from driveshard.core.clock import Clock
    from driveshard.core.events import ignore
    from driveshard.storage.drive.client import DriveClient
    from driveshard.storage.drive.destination import DriveDestination
    from driveshard.storage.retry import Patience, Retry
    from driveshard.storage.throttle import Throttle
    from driveshard.upload.ledger.ledger import Ledger
    from driveshard.upload.send.load import FileLoad
    from driveshard.upload.send.request_size import RequestSizer
    from driveshard.upload.send.transfer import Transfer
    from driveshard.upload.surroundings import Surroundings

    clock = Clock()
    client = DriveClient(url, Credentials("emulator"), clock, certificates=os.environ.get(CERTIFICATES))
    destination = DriveDestination(client, clock)
    session = destination.begin("abcdef", "folder", "x", file.stat().st_size, {})

    throttle = Throttle(clock, ignore, None, writes_per_second=0)
    ledger = Ledger(file.with_suffix(".sqlite"))
    around = Surroundings(destination, ledger, Retry(clock, Patience(), ignore), throttle, clock, ignore)
    part: Any = SimpleNamespace(number=0, file_name="x", size=file.stat().st_size)

    def work() -> None:
        """Send the file once through a session that is begun."""
        with closing(FileLoad(file)) as load:
            Transfer(around, part, session, load, RequestSizer(destination.chunk_unit), fresh=True).run()

    return cpu(work)


def upload_library(file: Path, url: str) -> float:
    """CPU seconds of one upload of ``file`` by Google's MediaFileUpload with 8 MiB chunks."""
    from google.oauth2.credentials import Credentials
    from google_auth_httplib2 import AuthorizedHttp
    from googleapiclient import discovery, discovery_cache
    from googleapiclient.http import MediaFileUpload, build_http

    document = json.loads(discovery_cache.get_static_doc("drive", "v3"))
    document["rootUrl"] = url
    document.pop("mtlsRootUrl", None)
    service = discovery.build_from_document(document, http=AuthorizedHttp(Credentials("emulator"), http=build_http()))
    media = MediaFileUpload(str(file), mimetype="application/zip", chunksize=8 * MIB, resumable=True)
    request = service.files().create(body={"name": "x"}, media_body=media)

    def work() -> None:
        response: Any = None
        while response is None:
            _, response = request.next_chunk()

    return cpu(work)


def encrypt_once(file: Path, url: str) -> float:
    """CPU seconds to read ``file`` and encrypt it once as TLS does, with nobody at the other end: no upload by TLS can
    take less. The connection is agreed on in memory, with the server's certificate."""
    ours, theirs = (ssl.MemoryBIO(), ssl.MemoryBIO()), (ssl.MemoryBIO(), ssl.MemoryBIO())
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(file.with_name("server.pem"))
    trusting = ssl.create_default_context(cafile=os.environ[CERTIFICATES])
    sender = trusting.wrap_bio(*ours, server_hostname=str(urllib.parse.urlsplit(url).hostname))
    receiver = server.wrap_bio(*theirs, server_side=True)
    agreed = 0
    while agreed < 2:
        agreed = 0
        for side, out, into in ((sender, ours[1], theirs[0]), (receiver, theirs[1], ours[0])):
            try:
                side.do_handshake()
                agreed += 1
            except ssl.SSLWantReadError:
                pass
            into.write(out.read())

    def work() -> None:
        with file.open("rb", buffering=0) as source:
            while block := source.read(MIB):
                sender.write(block)
                ours[1].read()

    return cpu(work)


FLOOR = "encrypting alone"
WAYS: dict[str, Callable[[Path, str], float]] = {
    "driveshard": upload_ours,
    "MediaFileUpload, 8 MiB": upload_library,
    FLOOR: encrypt_once,
}


@contextmanager
def sink(*certificate: str) -> Any:
    """The address of a server that throws everything away; with a ``certificate``, one that speaks TLS."""
    server = Path(__file__).with_name("sink.py")
    process = subprocess.Popen(
        [sys.executable, server, *certificate], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout is not None
        yield process.stdout.readline().strip()
    finally:
        process.kill()
        process.wait()


def in_a_process(way: str, file: Path, url: str) -> float:
    command = [sys.executable, __file__, "--way", way, "--file", str(file), "--url", url]
    return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def _certified(options: Any, folder: str) -> list[str]:
    """A certificate for the server, which both ways are told to trust; none without --tls."""
    if not options.tls:
        return []
    import trustme

    authority = trustme.CA()
    mine, bundle = Path(folder) / "server.pem", Path(folder) / "ca.pem"
    authority.issue_cert("127.0.0.1").private_key_and_cert_chain_pem.write_to_path(str(mine))
    authority.cert_pem.write_to_path(str(bundle))
    os.environ[CERTIFICATES] = str(bundle)
    return [str(mine)]


def main() -> int:
    """Time both ways in processes of their own, in CPU seconds; returns 1 when the bar is missed."""
    parser = harness.parser(__doc__)
    parser.add_argument("--mib", type=int, default=1024, help="size of the file (default: 1024)")
    parser.add_argument("--tls", action="store_true", help="by TLS, as Google's Drive is reached")
    parser.add_argument("--way", help="internal: run one way and print its CPU seconds")
    parser.add_argument("--file", type=Path)
    parser.add_argument("--url")
    options = parser.parse_args()
    if options.way:
        print(WAYS[options.way](options.file, options.url))
        if options.way == FLOOR:
            return 0
        context = ssl.create_default_context(cafile=os.environ.get(CERTIFICATES))
        with urllib.request.urlopen(options.url, context=context) as reply:
            assert int(reply.read()) == options.file.stat().st_size, "the upload did not send every byte once"
        return 0
    mib = 256 if options.quick else options.mib
    with tempfile.TemporaryDirectory(dir=harness.memory_backed()) as folder, sink(*_certified(options, folder)) as url:
        file = Path(folder) / "part.zip"
        with file.open("wb") as out:
            block = os.urandom(MIB)
            for _ in range(mib):
                out.write(block)
        candidates = {
            way: (lambda way=way: in_a_process(way, file, url)) for way in WAYS if options.tls or way != FLOOR
        }
        rows = harness.measure(candidates, options.repeat)
    ratio = rows["driveshard"].median / rows["MediaFileUpload, 8 MiB"].median
    per_gb = {name: round(row.median * 1000 / (mib * 1.048576), 3) for name, row in rows.items()}
    print("CPU seconds a GB:", ", ".join(f"{name} {value}" for name, value in per_gb.items()))
    bar = 0.7 if options.tls else 0.5  # what TLS itself takes is the same for both
    ratios = [harness.Ratio("upload CPU, driveshard / MediaFileUpload", ratio, bar, at_most=True)]
    if options.tls:
        above = rows["driveshard"].median / rows[FLOOR].median
        ratios.append(harness.Ratio("upload CPU, driveshard / encrypting alone", above, None, at_most=True))
    return harness.report("upload", list(rows.values()), ratios, options.json, mib=mib, cpu_seconds_per_gb=per_gb)


if __name__ == "__main__":
    sys.exit(main())
