"""The image generator against the loop of the script that it replaces. Bar: 6 times its files a second.

The loop, as its author ran it (one process): for every sample open background, foreground and mask from disk, flip,
paste, and save image and mask as JPEG files. driveshard makes the same samples into zip parts, with CRC, md5 and
sha256 of every byte, in worker processes. Both make 200 x 200 pixels, quality 30, optimize, at the same placements.

"at final size": all input files already have the size they are pasted at, so that the loop need not scale anything;
the bar stands on this, and the two sides' files are compared byte for byte. "scaled": input as it comes, nine sizes a
foreground, which the loop has to scale for every sample.

    python benchmarks/composite.py [--samples N] [--workers N] [--quick] [--json FILE]

Figures are seconds per 1,000 samples (2,000 images). Decoding the input is part of what is timed; starting Python is
not, on either side. "CPU a sample" is without the gain of several workers, and steadier on a machine that is busy.

"against its two encodes": all that a sample costs here in CPU, from the input files to the zip with label and hashes,
against nothing but Image.save of its image and mask, composed before; one process, in turns. Bar: at most 1.5 times.
"""

from __future__ import annotations

import io
import json
import multiprocessing
import resource
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from pathlib import Path

from harness import Ratio, measure, parser, report
from PIL import Image, ImageChops

from driveshard.cli.demo.objects import draw_backgrounds, draw_foregrounds
from driveshard.core.model import PartSpec, SampleRange
from driveshard.sources.composite.images import list_pictures, load_background
from driveshard.sources.composite.source import CompositeSource
from driveshard.upload.pack.build import build_part

BAR = 6.0
ENCODES_BAR = 1.5
SIZE = 200
FINAL_EDGE = 100  # the longer edge of a foreground at its final size


def main() -> int:
    """Both sides at both sizes, in turns, in seconds per 1,000 samples; returns 1 when a bar is missed."""
    arguments = parser(__doc__)
    arguments.add_argument("--samples", type=int, default=24_000, help="samples that driveshard makes in a turn")
    arguments.add_argument("--workers", type=int, default=2)
    options = arguments.parse_args()
    samples = 4_000 if options.quick else options.samples
    pictures = 12 if options.quick else 40
    with tempfile.TemporaryDirectory(prefix="driveshard-bench-") as temp:
        root = Path(temp)
        final, scaled = _make_input(root, pictures)
        pairs = {"at final size": final, "scaled": scaled}
        same = _compare(final)
        candidates: dict[str, Callable[[], object]] = {}
        sides: dict[str, tuple[_Loop, _Ours]] = {}
        with _pool(options.workers) as pool:
            for what, source in pairs.items():
                loop = _Loop(source, root, max(400, samples // 12))
                ours = _Ours(source, root, samples, pool, options.workers)
                candidates |= {f"the script's loop, {what}": loop.run, f"driveshard, {what}": ours.run}
                sides[what] = loop, ours
            rows = measure(candidates, options.repeat)
        against = {what: _against_encodes(source, root, options.repeat, samples // 3) for what, source in pairs.items()}
        ratios = [
            Ratio(
                what,
                rows[f"the script's loop, {what}"].median / rows[f"driveshard, {what}"].median,
                BAR if what == "at final size" else None,
            )
            for what in pairs
        ]
        ratios += [
            Ratio(f"{what}, CPU a sample", statistics.median(loop.cpu) / statistics.median(ours.cpu))
            for what, (loop, ours) in sides.items()
        ]
    ratios += [
        Ratio(f"{what}, CPU a sample against its two encodes", ratio, ENCODES_BAR, at_most=True)
        for what, ratio in against.items()
    ]
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss // 1024
    rate = round(2000 / rows["driveshard, at final size"].median)
    return report(
        "composite (s per 1,000 samples)",
        list(rows.values()),
        ratios,
        options.json,
        samples=samples,
        workers=options.workers,
        pictures=f"{pictures}+{pictures}",
        same_bytes=same,
        images_per_second=rate,
        peak_worker_mib=peak,
    )


def _make_input(root: Path, count: int) -> tuple[CompositeSource, CompositeSource]:
    """The drawn pictures with a photograph's noise, as they come and at their final size."""
    draw_backgrounds(root / "bg", count, 1)
    draw_foregrounds(root / "fg", count, 1)
    for folder in ("bg_final", "fg_final"):
        (root / folder).mkdir()
    for path in (root / "bg").iterdir():
        _noisy(Image.open(path)).save(path, quality=92)
    for picture in list_pictures(root / "bg", "backgrounds"):
        load_background(picture, SIZE).save(root / "bg_final" / picture.name, quality=92)
    for path in (root / "fg").iterdir():
        with Image.open(path) as drawn:
            alpha = drawn.getchannel("A")
            noisy = _noisy(drawn.convert("RGB"))
        noisy.putalpha(alpha)
        noisy.save(path)
        alpha.save(_mask_of(path))
        noisy.thumbnail((FINAL_EDGE, FINAL_EDGE), Image.Resampling.BICUBIC)
        exact = noisy.resize([round(side * FINAL_EDGE / max(noisy.size)) for side in noisy.size])
        exact.save(root / "fg_final" / path.name)
        exact.getchannel("A").save(_mask_of(root / "fg_final" / path.name))
    one_scale = FINAL_EDGE / SIZE
    final = CompositeSource(root / "bg_final", root / "fg_final", SIZE, min_scale=one_scale, max_scale=one_scale)
    return final, CompositeSource(root / "bg", root / "fg", SIZE)


def _noisy(image: Image.Image) -> Image.Image:
    noise = Image.merge("RGB", [Image.effect_noise(image.size, 18) for _ in range(3)])
    return ImageChops.add(image.convert("RGB"), noise, 1, -128)


def _mask_of(foreground: Path) -> Path:
    folder = foreground.parent.with_name(foreground.parent.name + "_mask")
    folder.mkdir(exist_ok=True)
    return folder / foreground.name


class _Loop:
    """The script: everything from disk for every sample, files out. Placements are worked out before, untimed."""

    def __init__(self, source: CompositeSource, root: Path, samples: int) -> None:
        self._source = source
        self._out = root / "loop"
        self.cpu: list[float] = []
        # Spread over the whole job, so that pictures weigh in as they do in driveshard's turn.
        step = max(1, len(source) // samples)
        self._placements = [_label(source, index) for index in range(0, len(source), step)][:samples]

    def run(self) -> float:
        """Compose and save the chosen samples as the script does, written out to files; returns seconds."""
        shutil.rmtree(self._out, ignore_errors=True)
        self._out.mkdir()
        start, cpu = time.perf_counter(), time.process_time()
        for number, label in enumerate(self._placements):
            image, mask = _compose(self._source, label)
            image.save(self._out / f"{number:06}_image.jpg", quality=30, optimize=True)
            mask.save(self._out / f"{number:06}_mask.jpg", quality=30, optimize=True)
        self.cpu.append((time.process_time() - cpu) * 1000 / len(self._placements))
        return (time.perf_counter() - start) * 1000 / len(self._placements)


def _compose(source: CompositeSource, label: dict[str, object]) -> tuple[Image.Image, Image.Image]:
    background = Image.open(source.backgrounds / str(label["background"])).convert("RGB")
    foreground = Image.open(source.foregrounds / str(label["foreground"]))
    alpha = Image.open(_mask_of(source.foregrounds / str(label["foreground"])))
    if background.size != (SIZE, SIZE):
        edge = min(background.size)
        left, top = (background.width - edge) // 2, (background.height - edge) // 2
        background = background.crop((left, top, left + edge, top + edge)).resize((SIZE, SIZE))
    patch = (label["width"], label["height"])
    if foreground.size != patch:
        foreground, alpha = foreground.resize(patch), alpha.resize(patch)  # type: ignore[arg-type]
    if label["flip"]:
        foreground = foreground.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        alpha = alpha.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    place = (label["x"], label["y"])
    background.paste(foreground, place, alpha)  # type: ignore[arg-type]
    mask = Image.new("L", background.size)
    mask.paste(alpha, place)  # type: ignore[arg-type]
    return background, mask


def _label(source: CompositeSource, index: int) -> dict[str, object]:
    label: dict[str, object] = json.loads(source.members(index)[1][1])
    return label


def _compare(source: CompositeSource) -> bool:
    """Whether both sides make the same bytes, where neither scales."""
    for index in range(0, len(source), len(source) // 20):
        (_, image), (_, label), (_, mask) = source.members(index)
        if [_encoded(picture) for picture in _compose(source, json.loads(label))] != [image, mask]:
            print(f"sample {index} of the two sides differs", file=sys.stderr)
            return False
    return True


def _encoded(image: Image.Image) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=30, optimize=True)
    return buffer.getvalue()


class _Ours:
    """The same samples into zip parts, several at once. Workers are warm, their caches are not."""

    def __init__(self, source: CompositeSource, root: Path, samples: int, pool: ProcessPoolExecutor, workers: int):
        self._source = source
        self.cpu: list[float] = []
        self._folder = root / "parts"
        self._folder.mkdir(exist_ok=True)
        self._pool = pool
        self._samples = min(samples, len(source))
        self._parts = 2 * workers

    def run(self) -> float:
        """Pack the chosen samples into parts in the pool; returns seconds."""
        start = time.perf_counter()
        step = -(-self._samples // self._parts)
        futures = []
        for number, first in enumerate(range(0, self._samples, step)):
            chosen = SampleRange(first, min(first + step, self._samples))
            spec = PartSpec(number, f"part-{number}.zip", chosen, 0)
            futures.append(self._pool.submit(_build, spec, self._source, self._folder / spec.file_name))
        self.cpu.append(sum(future.result() for future in futures) * 1000 / self._samples)
        return (time.perf_counter() - start) * 1000 / self._samples


def _build(spec: PartSpec, source: CompositeSource, target: Path) -> float:
    """Build a part as driveshard's workers do; returns the CPU seconds it took."""
    start = time.process_time()
    part = build_part(spec, source, target, 1 << 40)
    assert not part.failed
    return time.process_time() - start


def _against_encodes(source: CompositeSource, root: Path, repeat: int, samples: int) -> float:
    """Median CPU time a sample of building a part over that of encoding some of the part's images alone."""
    samples = min(samples, len(source))
    ready = [_compose(source, _label(source, index)) for index in range(0, samples, 10)]
    spec = PartSpec(0, "part.zip", SampleRange(0, samples), 0)
    encodes, whole = [], []
    for turn in range(repeat):
        start = time.process_time()
        for image, mask in ready:
            _encoded(image), _encoded(mask)
        encodes.append((time.process_time() - start) / len(ready))
        # Another seed is another source, for which everything is listed and decoded anew.
        whole.append(_build(spec, replace(source, seed=turn + 2), root / spec.file_name) / samples)
    return statistics.median(whole) / statistics.median(encodes)


def _pool(workers: int) -> ProcessPoolExecutor:
    pool = ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context("spawn"))
    for future in [pool.submit(time.sleep, 1) for _ in range(workers)]:  # so that each worker has started
        future.result()
    return pool


if __name__ == "__main__":
    raise SystemExit(main())
