"""What the benchmarks push: trees of small files, and pictures for the image generator with a job file beside them."""

from __future__ import annotations

import random
from pathlib import Path

from PIL import Image, ImageChops

from driveshard.cli.demo.objects import draw_backgrounds, draw_foregrounds


def make_tree(root: Path, count: int, size: int, in_directory: int = 1000) -> None:
    """``count`` files of ``size`` bytes, a half more or less, with ``in_directory`` of them in each directory."""
    rng = random.Random(1)
    pool = [rng.randbytes(rng.randint(size // 2, size * 3 // 2)) for _ in range(1000)]
    for at in range(count):
        directory = f"{root}/bg_{at // in_directory:04d}"
        if at % in_directory == 0:
            Path(directory).mkdir(parents=True)
        with open(f"{directory}/fg_{at % in_directory:07d}.image.jpg", "wb", buffering=0) as file:
            file.write(pool[at % len(pool)])


def make_job(root: Path, pictures: int, samples: int, part_samples: int) -> tuple[Path, int]:
    """A job file that puts ``pictures`` foregrounds on as many backgrounds, flipped and not, for about ``samples``
    samples; returns it and how many samples it has."""
    draw_backgrounds(root / "bg", pictures, 1)
    draw_foregrounds(root / "fg", pictures, 1)
    for path in [*(root / "bg").iterdir(), *(root / "fg").iterdir()]:
        _add_noise(path)
    placements = max(1, round(samples / (2 * pictures**2)))
    job = root / "job.toml"
    job.write_text(
        f'name = "job"\npart-samples = {part_samples}\n\n'
        '[source]\nkind = "composite"\nbackgrounds = "bg"\nforegrounds = "fg"\n'
        f"size = 200\nplacements = {placements}\nflip = true\nquality = 30\noptimize = true\nseed = 1\n"
    )
    return job, 2 * pictures**2 * placements


def _add_noise(path: Path) -> None:
    """A drawing compresses better than a photograph; noise makes up for it."""
    with Image.open(path) as image:
        noise = Image.merge("RGB", [Image.effect_noise(image.size, 18) for _ in range(3)])
        noisy = ImageChops.add(image.convert("RGB"), noise, 1, -128)
        if image.mode == "RGBA":
            noisy.putalpha(image.getchannel("A"))
    noisy.save(path, quality=92)
