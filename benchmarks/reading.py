"""Reading samples back: driveshard.Dataset against MosaicML StreamingDataset, webdataset, zipfile and loose files.

All hold the same samples in parts of the same size, in a memory-backed directory where there is one, and all caches are
warm. ``dataset[i]`` is asked for in one random order; webdataset, which knows no order but its own, is read through.
A peer that is not installed (``pip install driveshard[bench]``) is left out, and told.
"""

from __future__ import annotations

import contextlib
import io
import os
import random
import sys
import tempfile
import time
import types
import zipfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import harness
import numpy as np
import psutil
from PIL import Image

import driveshard
from driveshard.archive.zip_writer import ZipWriter
from driveshard.dataset.find_index import index_in, parts_in

BATCH = 256
PARTS = 8
STRETCH = 4 * BATCH
PAIR = 200  # pixels a side of the decoded pictures

Sample = tuple[str, dict[str, bytes]]


def raw_samples(count: int, size: int) -> Iterator[Sample]:
    """Samples of one field, ``size`` bytes, a half more or less."""
    rng = random.Random(1)
    pool = [rng.randbytes(rng.randint(size // 2, size * 3 // 2)) for _ in range(2000)]
    for at in range(count):
        yield f"bg_{at // 4000:03d}/fg_{at // 40 % 100:03d}_o_{at % 40:02d}", {"image.jpg": pool[at % len(pool)]}


def picture_pairs(count: int) -> Iterator[Sample]:
    """A picture and its mask, both JPEG."""
    rng = np.random.default_rng(1)
    pool = []
    for _ in range(64):
        small = Image.fromarray(rng.integers(0, 256, (24, 24, 3), np.uint8)).resize((PAIR, PAIR))
        pool.append({"image.jpg": _jpeg(small), "mask.jpg": _jpeg(small.convert("L"))})
    for at in range(count):
        yield f"d{at // 1000:03d}/{at:06d}", pool[at % len(pool)]


def _jpeg(image: Image.Image) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=85)
    return buffer.getvalue()


def pixels(data: bytes) -> Any:
    """What every peer decodes by."""
    with Image.open(io.BytesIO(data)) as image:
        return np.array(image)


# -- writing ---------------------------------------------------------------------------------------------------------


def write_zips(directory: Path, samples: Iterator[Sample], count: int) -> None:
    """``count`` of the samples in PARTS parts of the same number, ``set-00000.zip`` and so on, in a new directory."""
    directory.mkdir()
    for part in range(PARTS):
        with ZipWriter(directory / f"set-{part:05d}.zip") as writer:
            for _ in range(-(-count // PARTS)):
                key, fields = next(samples, ("", {}))
                for field, body in fields.items():
                    writer.add(f"{key}.{field}".encode(), body)
            writer.close()


def write_tars(directory: Path, samples: Iterator[Sample], count: int) -> list[str]:
    import webdataset

    directory.mkdir()
    with webdataset.ShardWriter(f"{directory}/%05d.tar", maxcount=-(-count // PARTS), verbose=0) as writer:
        for key, fields in samples:
            writer.write({"__key__": key, **fields})
    return sorted(map(str, directory.glob("*.tar")))


def write_mosaic(directory: Path, samples: Iterator[Sample], fields: list[str], limit: int) -> None:
    from streaming import MDSWriter

    with MDSWriter(out=str(directory), columns=dict.fromkeys(fields, "bytes"), size_limit=limit) as writer:
        for _, found in samples:
            writer.write(found)


def write_loose(directory: Path, samples: Iterator[Sample]) -> list[tuple[str, ...]]:
    found = []
    for key, fields in samples:
        (directory / key).parent.mkdir(parents=True, exist_ok=True)
        for field, body in fields.items():
            Path(directory, f"{key}.{field}").write_bytes(body)
        found.append(tuple(f"{directory}/{key}.{field}" for field in fields))
    return found


# -- peers -----------------------------------------------------------------------------------------------------------


def installed() -> set[str]:
    """Which peers are here. MosaicML's package wants torchvision's names though nothing here uses them; where its
    build does not fit torch's, they are made up."""
    found = set()
    for name in ("torch", "webdataset", "streaming"):
        try:
            __import__(name)
        except (ImportError, RuntimeError):
            if name != "streaming" or not _without_torchvision():
                print(f"  {name} is not here: left out", file=sys.stderr)
                continue
        found.add(name)
    return found


def _without_torchvision() -> bool:
    for name in [name for name in sys.modules if name.partition(".")[0] in ("streaming", "torchvision")]:
        del sys.modules[name]
    for name in ("torchvision", "torchvision.datasets", "torchvision.transforms", "torchvision.transforms.functional"):
        sys.modules[name] = types.ModuleType(name)
    sys.modules["torchvision.datasets"].VisionDataset = object  # type: ignore[attr-defined]
    sys.modules["torchvision.transforms.functional"].to_tensor = None  # type: ignore[attr-defined]
    with contextlib.suppress(ImportError, RuntimeError):
        __import__("streaming")
        return True
    return False


def open_mosaic(directory: Path) -> Any:
    from streaming import StreamingDataset

    return StreamingDataset(local=str(directory), batch_size=1, shuffle=False)


Part = Callable[[slice], object]
"""Does a stretch of a candidate's reads."""


def one_by_one(dataset: Any, order: list[int]) -> Part:
    def run(some: slice) -> None:
        for at in order[some]:
            dataset[at]

    return run


def in_batches(dataset: driveshard.Dataset, order: list[int]) -> Part:
    def run(some: slice) -> None:
        for at in range(some.start, min(some.stop, len(order)), BATCH):
            dataset.__getitems__(order[at : at + BATCH])

    return run


def by_zipfile(archives: list[zipfile.ZipFile], names: list[tuple[int, str]]) -> Part:
    def run(some: slice) -> None:
        for archive, name in names[some]:
            archives[archive].read(name)

    return run


def by_webdataset(urls: list[str]) -> Part:
    """Reads as many samples as it is told, one after another, from the tars, and from their start again after their
    end. Raises ImportError without webdataset."""
    import webdataset

    endless = iter(webdataset.WebDataset(urls, shardshuffle=False, empty_check=False).repeat())

    def run(some: slice) -> None:
        for _ in range(some.stop - some.start):
            next(endless)

    return run


def take_turns(candidates: dict[str, Part], count: int, repeat: int) -> dict[str, harness.Row]:
    """As ``harness.measure``, but candidates change places every STRETCH reads, so that load on the machine meets all
    of them alike: at microseconds a read, one moment of it would decide a whole turn."""
    seconds: dict[str, list[float]] = {name: [] for name in candidates}
    for _ in range(repeat):
        for taken in seconds.values():
            taken.append(0.0)
        for at in range(0, count, STRETCH):
            for name, run in candidates.items():
                start = time.perf_counter()
                run(slice(at, min(at + STRETCH, count)))
                seconds[name][-1] += time.perf_counter() - start
    return {name: harness.Row(name, tuple(taken)) for name, taken in seconds.items()}


# -- the table's rows ------------------------------------------------------------------------------------------------


def raw_reads(work: Path, count: int, peers: set[str], repeat: int) -> tuple[list[harness.Row], list[harness.Ratio]]:
    """Random reads of one field, one by one and in batches."""
    samples = partial(raw_samples, count, 1200)
    write_zips(work / "zips", samples(), count)
    dataset = driveshard.Dataset(work / "zips")
    order = random.Random(2).sample(range(count), count)
    archives = [zipfile.ZipFile(path) for path in sorted((work / "zips").glob("*.zip"))]
    inside = [(number, name) for number, archive in enumerate(archives) for name in archive.namelist()]
    names = [inside[at] for at in order]
    turns: dict[str, Part] = {
        "dataset[i]": one_by_one(dataset, order),
        f"dataset.__getitems__, {BATCH}": in_batches(dataset, order),
        "zipfile.read": by_zipfile(archives, names),
    }
    if "webdataset" in peers:
        urls = write_tars(work / "tars", samples(), count)
        turns["webdataset, in its order"] = by_webdataset(urls)
    if "streaming" in peers:
        write_mosaic(work / "mds", samples(), ["image.jpg"], -(-count * 1210 // PARTS))
        mosaic = open_mosaic(work / "mds")
        turns["MosaicML StreamingDataset[i]"] = one_by_one(mosaic, order)
    take_turns(turns, count // 10, 1)  # warm
    rows = take_turns(turns, count, repeat)
    for archive in archives:
        archive.close()
    ours, batches, *others = rows.values()
    bars = {"zipfile.read": 4.0, "webdataset, in its order": 15.0, "MosaicML StreamingDataset[i]": 5.0}
    ratios = [harness.Ratio(f"[i] faster than {row.what}", row.median / ours.median, bars[row.what]) for row in others]
    best = min(row.median for row in others)
    ratios.append(harness.Ratio("batches faster than the best of them", best / batches.median, 8.0))
    return list(rows.values()), ratios


def opening(work: Path, count: int, repeat: int) -> tuple[list[harness.Row], list[harness.Ratio]]:
    """Opening a large dataset with its index, and building that."""
    directory = work / "many"
    write_zips(directory, raw_samples(count, 40), count)
    driveshard.Dataset(directory)
    zips = sorted(directory.glob("*.zip"))
    parts = parts_in(directory)

    def build() -> None:
        (directory / "index.npz").unlink()
        index_in(directory, parts, work / "cache")

    rows = harness.measure(
        {
            "opening with its index": lambda: driveshard.Dataset(directory),
            "building and keeping the index": build,
            "zipfile.ZipFile on all parts": lambda: [zipfile.ZipFile(path).close() for path in zips],
        },
        repeat,
    )
    opened, built, theirs = rows.values()
    return list(rows.values()), [
        harness.Ratio(f"opening {count:,} samples faster than zipfile", theirs.median / opened.median, 50.0),
        harness.Ratio(f"opening {count:,} samples, in ms", opened.median * 1000, 50.0, at_most=True),
        harness.Ratio(f"building the index of {count:,} faster than zipfile", theirs.median / built.median, 4.0),
    ]


class Nothing:
    """A dataset that costs nothing."""

    def __init__(self, length: int) -> None:
        self._length = length

    def __len__(self) -> int:
        return self._length

    def __getitem__(self, at: int) -> dict[str, bytes]:
        return {"__key__": b"", "image.jpg": bytes(40)}


def worker_memory(dataset: Any) -> float:
    """MB that a forked worker of a DataLoader shares with nobody, when it has read for a while beside another."""
    from torch.utils.data import DataLoader

    before = {child.pid for child in psutil.Process().children()}
    loader = DataLoader(dataset, batch_size=BATCH, shuffle=True, num_workers=2, collate_fn=len)
    batches = iter(loader)
    for _ in range(min(200, len(loader) - 4)):
        next(batches)
    workers = [child for child in psutil.Process().children() if child.pid not in before]
    return max((child.memory_full_info().uss for child in workers), default=0) / 1e6


def memory(work: Path, count: int) -> list[harness.Ratio]:
    """What one more worker costs, over one that reads nothing."""
    nothing = worker_memory(Nothing(count))
    ours = worker_memory(driveshard.Dataset(work / "many"))
    print(f"  a worker's own memory: {ours:.1f} MB, {nothing:.1f} of them without a dataset", file=sys.stderr)
    return [harness.Ratio(f"MB a worker adds at {count:,} samples", max(0.0, ours - nothing), 10.0, at_most=True)]


class Loose:
    """Pairs of loose files by ImageFolder's rule: a list of paths, opened and decoded one by one."""

    def __init__(self, paths: list[tuple[str, ...]]) -> None:
        self.paths = paths

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, at: int) -> list[Any]:
        return [pixels(Path(path).read_bytes()) for path in self.paths[at]]


def drain(loader: Any) -> None:
    for _ in loader:
        pass


def decoded(work: Path, count: int, peers: set[str], repeat: int) -> tuple[list[harness.Row], list[harness.Ratio]]:
    """Pairs of pictures as arrays, by torch's DataLoader with two workers."""
    from torch.utils.data import DataLoader

    samples = partial(picture_pairs, count)
    write_zips(work / "pairs", samples(), count)
    load = partial(DataLoader, batch_size=64, num_workers=2)
    ours = driveshard.Dataset(work / "pairs", decode="numpy")
    loose = Loose(write_loose(work / "loose", samples()))
    turns: dict[str, Callable[[], object]] = {
        "dataset, decoded, 2 workers": lambda: drain(load(ours, shuffle=True)),
        "loose files": lambda: drain(load(loose, shuffle=True)),
    }
    if "webdataset" in peers:
        import webdataset

        urls = write_tars(work / "pair-tars", samples(), count)
        decode = {"image.jpg": pixels, "mask.jpg": pixels}
        web = webdataset.WebDataset(urls, shardshuffle=False).shuffle(1000).map_dict(**decode)
        turns["webdataset, decoded"] = lambda: drain(load(web))
    if "streaming" in peers:
        write_mosaic(work / "pair-mds", samples(), ["image.jpg", "mask.jpg"], 8 << 20)
        mosaic = _decoding(open_mosaic(work / "pair-mds"))
        turns["MosaicML, decoded"] = lambda: drain(load(mosaic, shuffle=True))
    rows = harness.measure(turns, 2 * repeat + 1)  # short ones: a busy moment is longer than a turn
    first, *others = rows.values()
    return list(rows.values()), [
        harness.Ratio(f"decoded, against {row.what}", row.median / first.median, 1.0) for row in others
    ]


def _decoding(mosaic: Any) -> Any:
    class Decoding(Loose):
        """The same pairs out of MosaicML's shards."""

        def __len__(self) -> int:
            return int(mosaic.num_samples)

        def __getitem__(self, at: int) -> list[Any]:
            return [pixels(body) for body in mosaic[at].values()]

    return Decoding([])


def main() -> int:
    """All rows in one run; returns 1 when a bar is missed."""
    parser = harness.parser(__doc__)
    parser.add_argument("--temp", type=Path, default=harness.memory_backed(), metavar="DIR")
    options = parser.parse_args()
    small, many, pairs = (20_000, 80_000, 1_500) if options.quick else (200_000, 800_000, 5_000)
    peers = installed()
    rows: list[harness.Row] = []
    ratios: list[harness.Ratio] = []
    with tempfile.TemporaryDirectory(dir=options.temp, prefix="driveshard-") as name:
        work = Path(name)
        os.environ["DRIVESHARD_HOME"] = str(work / "home")
        steps = [partial(raw_reads, work, small, peers, options.repeat), partial(opening, work, many, options.repeat)]
        if "torch" in peers:
            steps += [
                lambda: ([], memory(work, many)),
                partial(decoded, work, pairs, peers, options.repeat),
            ]
        for step in steps:
            found, told = step()
            rows += found
            ratios += told
    return harness.report("reading", rows, ratios, options.json, samples=small, opened=many, pairs=pairs)


if __name__ == "__main__":
    sys.exit(main())
