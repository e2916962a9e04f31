"""Trains a small U-Net on composites: from an image to the object's mask and to a depth map, straight from the zips.

    driveshard demo --keep demo
    python examples/train_unet.py demo/pulled

Needs torch (``pip install 'driveshard[torch]'``), no GPU, and under two minutes on two cores. DATA is a directory of
parts or a link. The images of one background in ten are kept back: on those it is tried, and drawn as predictions.png.
"""

from __future__ import annotations

import argparse
import io
import itertools
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import DataLoader

import driveshard
from driveshard.torch import Sampler

Floats = NDArray[np.float32]
Batch = tuple[Tensor, Tensor, Tensor]
"""Images (n, 3, h, w), masks (n, 1, h, w) and depths (n, 1, h, w), all of them from 0 to 1."""


def depth_of(mask: Floats) -> Floats:
    """A depth map for a composite, made up: 0 is near, 1 is far, of the mask's shape (height, width).

    The ground goes off into the distance from the lower edge to the upper one; an object stands on it, so all of it is
    as far away as the ground below its lowest pixel.
    """
    height, width = mask.shape
    ground = np.linspace(1, 0, height, dtype=np.float32)[:, None].repeat(width, 1)
    rows = np.flatnonzero((mask > 0.5).any(1))
    standing = ground[rows[-1], 0] if len(rows) else np.float32(0)
    return (1 - mask) * ground + mask * standing


class UNet(nn.Module):
    """Two channels for three: the logit of the mask, and depth. ``width`` is that of the first level."""

    def __init__(self, width: int = 8, levels: int = 4) -> None:
        super().__init__()
        widths = [width * 2**level for level in range(levels)]
        self.down = nn.ModuleList(_block(before, after) for before, after in itertools.pairwise([3, *widths]))
        pairs = list(itertools.pairwise(reversed(widths)))
        self.up = nn.ModuleList(_block(below + beside, beside) for below, beside in pairs)
        self.head = nn.Conv2d(width, 2, 1)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """(mask logits, depths), each (n, 1, h, w)."""
        kept = [self.down[0](images)]
        for block in list(self.down)[1:]:
            kept.append(block(functional.max_pool2d(kept[-1], 2)))
        values = kept.pop()
        for block, beside in zip(self.up, reversed(kept), strict=True):
            larger = functional.interpolate(values, beside.shape[-2:], mode="bilinear", align_corners=False)
            values = block(torch.cat([larger, beside], 1))
        found = self.head(values)
        return found[:, :1], torch.sigmoid(found[:, 1:])


def _block(before: int, after: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(before, after, 3, padding=1, bias=False),
        nn.BatchNorm2d(after),
        nn.ReLU(inplace=True),
        nn.Conv2d(after, after, 3, padding=1, bias=False),
        nn.BatchNorm2d(after),
        nn.ReLU(inplace=True),
    )


class Collate:
    """Samples as they lie in the zips -> a batch of ``edge`` x ``edge`` pixels. Depth is worked out on the way."""

    def __init__(self, fields: Sequence[str], edge: int) -> None:
        self.image, self.mask = (next(name for name in fields if name.startswith(what)) for what in ("image", "mask"))
        self.edge = edge

    def __call__(self, samples: Sequence[dict[str, Any]]) -> Batch:
        images = np.stack([self._pixels(sample[self.image], "RGB") for sample in samples])
        masks = np.stack([self._pixels(sample[self.mask], "L") for sample in samples])
        depths = np.stack([depth_of(mask) for mask in masks])
        return (
            torch.from_numpy(images).permute(0, 3, 1, 2),
            torch.from_numpy(masks)[:, None],
            torch.from_numpy(depths)[:, None],
        )

    def _pixels(self, data: bytes, mode: str) -> Floats:
        with Image.open(io.BytesIO(data)) as image:
            small = image.convert(mode).resize((self.edge, self.edge), Image.Resampling.BILINEAR)
        return np.asarray(small, np.float32) / 255


def loss_of(model: nn.Module, batch: Batch) -> Tensor:
    """How far off both outputs are."""
    images, masks, depths = batch
    logits, depth = model(images)
    return functional.binary_cross_entropy_with_logits(logits, masks) + functional.l1_loss(depth, depths)


def train(model: nn.Module, loader: DataLoader[Any], epochs: int) -> Iterator[float]:
    """Train, and give the mean loss of each epoch as it ends."""
    optimizer = torch.optim.AdamW(model.parameters())
    rates = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=4e-3, total_steps=epochs * len(loader))
    for _ in range(epochs):
        model.train()
        losses = []
        for batch in loader:
            optimizer.zero_grad()
            loss = loss_of(model, batch)
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            rates.step()
            losses.append(loss.item())
        yield sum(losses) / len(losses)


@torch.no_grad()
def score(model: nn.Module, batch: Batch) -> tuple[float, float]:
    """(intersection over union of the masks, mean absolute error of the depths)."""
    model.eval()
    images, masks, depths = batch
    logits, depth = model(images)
    found, true = logits > 0, masks > 0.5
    overlap = (found & true).sum() / (found | true).sum().clamp(min=1)
    return overlap.item(), (depth - depths).abs().mean().item()


@torch.no_grad()
def draw(model: nn.Module, batch: Batch, path: Path, rows: int = 6) -> None:
    """A row a sample: image, mask, mask found, depth, depth found."""
    model.eval()
    chosen = torch.linspace(0, len(batch[0]) - 1, min(rows, len(batch[0]))).long()
    images, masks, depths = (one[chosen] for one in batch)
    logits, depth = model(images)
    columns = [images, *(one.expand(-1, 3, -1, -1) for one in (masks, torch.sigmoid(logits), depths, depth))]
    framed = [functional.pad(column, (4, 4, 4, 4), value=1.0) for column in columns]
    sheet = torch.cat([torch.cat(list(column), 1) for column in framed], 2)
    drawn = Image.fromarray((sheet.permute(1, 2, 0).numpy() * 255).round().astype(np.uint8))
    drawn.resize((2 * drawn.width, 2 * drawn.height), Image.Resampling.BICUBIC).save(path)


def main(arguments: Sequence[str] | None = None) -> list[float]:
    """Train on DATA and save a picture; returns the loss of each epoch."""
    options = _parser().parse_args(arguments)
    torch.manual_seed(1)
    began = time.monotonic()
    dataset = driveshard.Dataset(options.data, cache=options.cache)
    collate = Collate(dataset.fields, options.edge)
    kept_back = dataset.select(lambda key: key.partition("/")[0].endswith("9"))
    learned = dataset.select(lambda key: not key.partition("/")[0].endswith("9"))
    which = "of other backgrounds"
    if not len(kept_back):
        kept_back, which = learned, "of them"
    sampler = Sampler(learned, seed=1, batch_size=options.batch)
    loader = DataLoader(learned, batch_sampler=sampler, collate_fn=collate, num_workers=options.workers)  # type: ignore[arg-type]
    tried = kept_back[:: max(1, len(kept_back) // options.tried)]
    batch = collate(list(tried))
    model = UNet(options.width).to(memory_format=torch.channels_last)  # a third quicker on a CPU
    losses = []
    print(f"{len(learned):,} samples to learn from, {len(tried):,} {which} to try it on")
    for number, loss in enumerate(train(model, loader, options.epochs), 1):
        losses.append(loss)
        overlap, error = score(model, batch)
        print(
            f"epoch {number}: loss {loss:.4f}, mask IoU {overlap:.3f}, depth error {error:.4f},"
            f" {time.monotonic() - began:.0f} s",
            flush=True,
        )
    draw(model, batch, options.out)
    print(f"image, mask, mask found, depth, depth found: {options.out}")
    return losses


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", help="a directory of parts, or a link")
    parser.add_argument("--cache", type=Path, help="where the parts of a link are kept")
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--batch", type=int, default=24)
    parser.add_argument("--edge", type=int, default=64, help="pixels that images are reduced to")
    parser.add_argument("--width", type=int, default=8, help="channels of the first level")
    parser.add_argument("--tried", type=int, default=60, help="samples to try it on")
    parser.add_argument("--workers", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path("predictions.png"))
    return parser


if __name__ == "__main__":
    main()
