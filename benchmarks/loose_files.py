"""10,000 loose files uploaded one by one at Drive's pace, against ``push`` of the same files. The ratio has no bar.

Both talk to an emulator that lets 3 writes a second through and delays every request by 300 ms.

- loose files: a sample is really uploaded with Google's client, one ``files.create`` a file, paced so that hardly one
  is refused. The time of all files is computed from it: seconds a file of the sample x files. More threads would not
  help, because the pace is the account's.
- push: really run on all the files.
"""

from __future__ import annotations

import json
import sys
import time
from contextlib import AbstractContextManager
from pathlib import Path

import harness
import runs
from inputs import make_tree

PACE, LATENCY_MS = 3.0, 300.0
GAP = 1 / PACE + 0.01  # seconds from one write to the next; the hundredth is for what arrives late
RETRIES = 8


def main() -> int:
    """Seconds for all files one by one, computed from a sample, and for one push of them; there is no bar."""
    parser = harness.parser(__doc__)
    parser.add_argument("--files", type=int, default=10_000, metavar="N")
    parser.add_argument("--file-size", type=int, default=1200, metavar="BYTES")
    parser.add_argument("--sample", type=int, default=60, metavar="N", help="files that are really uploaded one by one")
    parser.add_argument("--temp", type=Path, metavar="DIR")
    options = parser.parse_args()
    sample, repeat = (12, 1) if options.quick else (options.sample, options.repeat)
    pushed: list[runs.Run] = []
    with runs.workplace(options.temp, quick=options.quick) as temp:
        tree = temp / "tree"
        make_tree(tree, options.files, options.file_size)

        def loose() -> float:
            """Seconds for all files, from those of the sample."""
            with _drive(temp / f"loose-{time.monotonic_ns()}") as url:
                return upload_loose(sorted(tree.rglob("*.jpg"))[:sample], url) / sample * options.files

        def push() -> float:
            turn = temp / f"push-{time.monotonic_ns()}"
            with _drive(turn / "drive") as url:
                pushed.append(runs.push(tree, url, turn / "home", turn / "spool"))
            return pushed[-1].seconds

        rows = harness.measure({"loose files (computed)": loose, "push (measured)": push}, repeat)
    loose_seconds, push_seconds = (row.median for row in rows.values())
    return harness.report(
        "loose_files",
        list(rows.values()),
        [harness.Ratio("push is faster than loose files", loose_seconds / push_seconds)],
        options.json,
        files=options.files,
        sample=sample,
        sample_seconds_a_file=round(loose_seconds / options.files, 3),
        requests=pushed[-1].result["requests"],
    )


def _drive(root: Path) -> AbstractContextManager[str]:
    return runs.emulated_drive(root, latency_ms=LATENCY_MS, writes_per_second=PACE)


def upload_loose(files: list[Path], url: str) -> float:
    """Seconds that Google's client takes for these files, one after another at the pace, after a first contact."""
    from google.oauth2.credentials import Credentials
    from google_auth_httplib2 import AuthorizedHttp
    from googleapiclient import discovery, discovery_cache
    from googleapiclient.http import MediaFileUpload, build_http

    document = json.loads(discovery_cache.get_static_doc("drive", "v3"))
    document["rootUrl"] = url + "/"
    document.pop("mtlsRootUrl", None)
    service = discovery.build_from_document(document, http=AuthorizedHttp(Credentials("emulator"), http=build_http()))
    service.about().get(fields="user").execute()
    start = due = time.perf_counter()
    for file in files:
        time.sleep(max(0.0, due - time.perf_counter()))
        due = time.perf_counter() + GAP
        media = MediaFileUpload(str(file), mimetype="image/jpeg")
        service.files().create(body={"name": file.name}, media_body=media, fields="id").execute(num_retries=RETRIES)
    return time.perf_counter() - start


if __name__ == "__main__":
    sys.exit(main())
