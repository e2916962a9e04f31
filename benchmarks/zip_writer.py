"""Writing a stored zip of many small members from memory: driveshard with CRC, md5 and sha256 against zipfile with CRC.

Both write to a memory-backed directory where there is one, so that the disk does not blur the difference.
"""

from __future__ import annotations

import random
import sys
import tempfile
import zipfile
from pathlib import Path

import harness

from driveshard.archive.zip_writer import ZipWriter


def make_members(count: int, size: int) -> list[tuple[str, bytes]]:
    """Names as the generator gives them; sizes vary by a half around ``size``; the data is drawn from a pool."""
    rng = random.Random(1)
    pool = [rng.randbytes(rng.randint(size // 2, size * 3 // 2)) for _ in range(2000)]
    return [
        (f"bg_{at // 4000:03d}/fg_{at // 40 % 100:03d}_o_{at % 40:02d}.image.jpg", pool[at % len(pool)])
        for at in range(count)
    ]


def write_ours(target: Path, members: list[tuple[str, bytes]]) -> None:
    with ZipWriter(target) as writer:
        for name, data in members:
            writer.add(name.encode(), data)
        writer.close()


def write_zipfile(target: Path, members: list[tuple[str, bytes]]) -> None:
    with zipfile.ZipFile(target, "w") as archive:
        for name, data in members:
            archive.writestr(name, data)


def main() -> int:
    """Write the same members both ways in turns, in seconds; returns 1 when the bar is missed."""
    parser = harness.parser(__doc__)
    parser.add_argument("--members", type=int, default=200_000, metavar="N")
    parser.add_argument("--member-size", type=int, default=1200, metavar="BYTES")
    parser.add_argument("--temp", type=Path, default=harness.memory_backed(), metavar="DIR")
    options = parser.parse_args()
    count = min(options.members, 50_000) if options.quick else options.members
    members = make_members(count, options.member_size)
    with tempfile.TemporaryDirectory(dir=options.temp, prefix="driveshard-") as name:
        target = Path(name, "x.zip")
        rows = harness.measure(
            {
                "driveshard, CRC + md5 + sha256": lambda: write_ours(target, members),
                "zipfile.writestr, CRC": lambda: write_zipfile(target, members),
            },
            options.repeat,
            prepare=lambda: target.unlink(missing_ok=True),
        )
    ours, theirs = rows.values()
    ratio = harness.Ratio("faster than zipfile.writestr", theirs.median / ours.median, bar=4.0)
    return harness.report(
        "zip_writer",
        list(rows.values()),
        [ratio],
        options.json,
        members=count,
        member_size=options.member_size,
        microseconds_a_member=round(ours.median / count * 1e6, 2),
    )


if __name__ == "__main__":
    sys.exit(main())
