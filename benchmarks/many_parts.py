"""What 100,000 parts cost in ledger, planner, manifest and index: time and memory a part, beside fewer of them.

Everything that a push does with its ledger, without the bytes: planned, packed (real zips of ten members), begun,
stored, verified, released; then what is counted at the end, the manifest and the index, written and read; ``status``;
and the start of the next push. Each number of parts is a process of its own. The ledger is in memory where that can be
had: what is told is the program's time, and a disk adds that of eight fsyncs a part. Bars: no step takes more than
twice as long a part with 100,000 as with 10,000 (but for those below 20 us), no process has more than 1 GiB, and one
part more rewrites at most a tenth of the bytes that a manifest in one file has.

With ``--files`` only the index, of that many files in parts of 50,000, one and then two to a sample: the memory that it
takes a file to build it, and its size.

    python benchmarks/many_parts.py [--quick] [--json FILE]
    python benchmarks/many_parts.py --files 4000000
"""

from __future__ import annotations

import io
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from harness import Ratio, Row, memory_backed, parser, report

from driveshard.archive.directory import Directory
from driveshard.archive.index import IndexedPart, open_index, save_arrays
from driveshard.archive.index_builder import build_index
from driveshard.archive.manifest import Manifest, split
from driveshard.core.events import ignore
from driveshard.core.model import Part, SampleRange, Selection, UploadSession
from driveshard.sources.base import MemberWriter, Packed
from driveshard.upload.dataset_folder.index import index_of
from driveshard.upload.dataset_folder.publish import manifest_of
from driveshard.upload.dataset_folder.settling import settle
from driveshard.upload.ledger.ledger import Ledger
from driveshard.upload.ledger.reader import read_record
from driveshard.upload.pack.build import build_part
from driveshard.upload.plan.base import Cut
from driveshard.upload.plan.samples import RangePlanner

BAR, MOST_MIB, REWRITTEN = 2.0, 1024, 0.1
SIZES = (1_000, 10_000, 100_000)
MEMBERS = 10
IN_PART = 50_000
NOTICED = 20e-6  # seconds a part


@dataclass(frozen=True)
class Numbers:
    """A sample is a number, so that nothing but the parts costs."""

    length: int
    kind = "numbers"
    indexable = True

    def __len__(self) -> int:
        return self.length

    def describe(self) -> str:
        return "numbers"

    def settings(self) -> Mapping[str, Any]:
        return {}

    def pack(self, selection: Selection, writer: MemberWriter, part_size: int) -> Packed:
        assert isinstance(selection, SampleRange) and selection.stop is not None
        for number in range(selection.start, selection.stop):
            writer.add(b"k%08d.txt" % number, b"%016d" % number)
        return Packed(selection, selection.stop - selection.start, selection.stop - selection.start)


class Steps:
    """Seconds of each step, by its name; and the bytes of the manifest that one part more rewrites, with those that it
    has in one file."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self.mib: dict[str, int] = {}
        self.rewritten = (0, 0)

    def take(self, name: str, step: Callable[[], Any]) -> Any:
        began = time.perf_counter()
        made = step()
        self.seconds[name] = time.perf_counter() - began
        self.mib[name] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
        return made


def run(parts: int, root: Path) -> Steps:
    """All steps with that many parts."""
    steps, source = Steps(), Numbers(parts * MEMBERS)
    path = root / "ledger.sqlite"
    with Ledger(path) as ledger:
        ledger.create_job("numbers", link="file:x", folder_id="f", to="file:x", source="numbers", settings={})
        cut = Cut("numbers", 1 << 20, MEMBERS)
        planner = RangePlanner(source, ledger, cut, ignore, lambda how: (MEMBERS, 1))
        numbers = steps.take("plan", lambda: list(planner.numbers()))
        assert len(numbers) == parts
        steps.take("pack and note", lambda: [ledger.packed(_built(ledger, source, root, at)) for at in numbers])
        steps.take("send: six transitions", lambda: [_send(ledger, number) for number in numbers])
        steps.take("count at the end", lambda: settle(ledger))
        manifest = steps.take("manifest, made", lambda: manifest_of(ledger))
        data, pages = steps.take("manifest, written", lambda: _written(manifest))
        steps.take("manifest, read", lambda: Manifest.decode(data, lambda wanted: [pages[one.name] for one in wanted]))
        steps.rewritten = _rewritten(manifest, pages), len(manifest.encode())
        index = steps.take("index, made", lambda: index_of(manifest, ledger, _unread))
        assert index is not None
        (root / "index.npz").write_bytes(index)
        steps.take("index, opened", lambda: open_index(root / "index.npz"))
        again = RangePlanner(source, ledger, cut, ignore, lambda how: (MEMBERS, 1))
        steps.take("next push: planned", lambda: list(again.numbers()))
        steps.take("next push: looked at", lambda: (ledger.totals(), ledger.parts(unfinished=True)))
    steps.take("ledger, opened", lambda: Ledger(path).close())
    steps.take("status", lambda: read_record(path))
    size = len(data) + sum(map(len, pages.values()))
    print(
        f"  manifest {size:,} bytes with {len(pages)} pages, index {len(index):,}, ledger {path.stat().st_size:,}",
        file=sys.stderr,
    )
    return steps


def _built(ledger: Ledger, source: Numbers, root: Path, number: int) -> Part:
    return build_part(ledger.spec(number), source, root / "part", 1 << 20)


def _send(ledger: Ledger, number: int) -> None:
    ledger.reserve(number, f"id{number}")
    ledger.begun(number, UploadSession(f"id{number}", f"https://x/{number}", 0.0))
    ledger.confirmed(number, 10)
    ledger.stored(number)
    ledger.verified(number)
    ledger.released(number)


def _written(manifest: Manifest) -> tuple[bytes, dict[str, bytes]]:
    """The manifest as it is published, and its pages."""
    pages = split(manifest)
    return manifest.encode([page for page, _ in pages]), {page.name: data for page, data in pages}


def _rewritten(manifest: Manifest, before: Mapping[str, bytes]) -> int:
    """Bytes that are published anew once there is one part more."""
    last = manifest.parts[-1]
    more = replace(last, number=last.number + 1, name=f"numbers-{last.number + 1:05d}.zip")
    data, pages = _written(replace(manifest, parts=(*manifest.parts, more)))
    return len(data) + sum(len(page) for name, page in pages.items() if name not in before)


def _unread(part: Any, start: int, length: int) -> bytes:
    raise AssertionError("the ledger has every directory")


def child(parts: int) -> int:
    with tempfile.TemporaryDirectory(prefix="driveshard-bench-", dir=memory_backed()) as temp:
        steps = run(parts, Path(temp))
    print(json.dumps({"seconds": steps.seconds, "mib": steps.mib, "rewritten": steps.rewritten}))
    return 0


def directories(files: int, together: int) -> Iterator[tuple[IndexedPart, Directory]]:
    """Of made-up parts whose samples have ``together`` files."""
    rows = np.arange(IN_PART, dtype=np.int64)
    for part in range(files // IN_PART):
        names = [b"bg_%05d/fg_%06d_o.%d.jpg" % (part, row // together, row % together) for row in range(IN_PART)]
        ends = np.cumsum([len(name) for name in names])
        crcs, methods = rows.astype(np.uint32), np.zeros(IN_PART, np.uint16)
        raw = np.frombuffer(b"".join(names), np.uint8)
        yield (
            IndexedPart(f"numbers-{part:05d}.zip", IN_PART * 2000, "0" * 64),
            Directory(raw, ends, rows * 2000, rows * 2000 + 60, rows % 2000, rows % 2000, crcs, methods),
        )


def index_alone(files: int, together: int) -> int:
    """Build one as it is published, and tell what that took. In a process of its own: it is the high-water mark."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    began = time.perf_counter()
    stream = io.BytesIO()
    save_arrays(build_index(directories(files, together)).arrays, stream)
    took = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024
    print(
        f"  {files:,} files, {together} a sample: {took / files:.0f} bytes of memory a file to build,"
        f" {stream.tell() / files:.0f} in the index; {(time.perf_counter() - began) / files * 1e6:.1f} us a file"
    )
    return 0


def main() -> int:
    """Every size in a process of its own; returns 1 when a bar is missed."""
    arguments = parser(__doc__)
    arguments.add_argument("--parts", type=int, help="one size, in this process, as JSON")
    arguments.add_argument("--files", type=int, help="the index alone, of that many files")
    arguments.add_argument("--together", type=int, help="of so many files a sample, in this process")
    options = arguments.parse_args()
    if options.parts:
        return child(options.parts)
    if options.together:
        return index_alone(options.files, options.together)
    if options.files:
        command = [sys.executable, __file__, "--files", str(options.files), "--together"]
        return max(subprocess.run([*command, one], check=False).returncode for one in ("1", "2"))
    sizes = SIZES[:2] if options.quick else SIZES
    found = {}
    for size in sizes:
        done = subprocess.run([sys.executable, __file__, "--parts", str(size)], stdout=subprocess.PIPE, check=True)
        found[size] = json.loads(done.stdout)
    table = []
    for step in found[sizes[0]]["seconds"]:
        each = {size: found[size]["seconds"][step] / size * 1e6 for size in sizes}
        table.append({"step": step, "us_a_part": each, "mib": found[sizes[-1]]["mib"][step]})
        said = "  ".join(f"{size:>7,}: {us:9.1f} us" for size, us in each.items())
        print(f"  {step:24} {said}   {found[sizes[-1]]['mib'][step]:5} MiB")
    largest, before = sizes[-1], sizes[-2]
    grown = [
        Ratio(f"{row['step']}, {largest:,} against {before:,}", each[largest] / each[before], BAR, at_most=True)
        for row in table
        if (each := row["us_a_part"])[largest] > NOTICED * 1e6
    ]
    peak = max(row["mib"] for row in table)
    rewritten, whole = found[largest]["rewritten"]
    print(f"  one part more rewrites {rewritten:,} bytes; a manifest in one file has {whole:,}")
    rows = [Row(row["step"], (row["us_a_part"][largest] / 1e6,)) for row in table]
    ratios = [
        *grown,
        Ratio(f"peak memory / {MOST_MIB} MiB", peak / MOST_MIB, 1.0, at_most=True),
        Ratio(
            "bytes that one part more rewrites / one file",
            rewritten / whole,
            None if options.quick else REWRITTEN,
            True,
        ),
    ]
    return report("many_parts (s a part)", rows, ratios, options.json, parts=largest, peak_mib=peak, table=table)


if __name__ == "__main__":
    sys.exit(main())
