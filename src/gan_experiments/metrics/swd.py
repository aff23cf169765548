"""Sliced Wasserstein distances of patches from Laplacian pyramids of images (Karras et al. 2018, section 5)."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import ClassVar, final

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from gan_experiments import seeding
from gan_experiments.data.base import Dataset
from gan_experiments.errors import UserError
from gan_experiments.logging.score_counts import HIGHER
from gan_experiments.metrics.base import Detail, QualityMetric, Reading, require_images
from gan_experiments.metrics.extractors import Extractor, Features
from gan_experiments.metrics.intervals import jackknife
from gan_experiments.metrics.subset import RandomRows

PATCH = 7
"""Height and width of a patch in pixels."""

SMALLEST = 16
"""Pixels of the shorter side below which there is no further level."""

BATCH = 64
"""Images whose pyramids are made at once."""

BLOCKS, BLOCK_DIRECTIONS = 8, 16
"""Blocks of images that the jackknife leaves out in turn, and the directions it looks along."""


@final
class PyramidSlicedWasserstein(QualityMetric[RandomRows]):
    """Sliced W1 times 1,000 between random 7x7 patches of real and of generated images, level by level; their mean.

    0 or more, lower is better: fine levels see texture and noise, coarse ones layout. Level `swd_<size>` is the band
    of the Laplacian pyramid at that size, the last one the remaining blurred image. Each side's channels are normalised
    over all its patches, so a change of a level's brightness or contrast alone is invisible, and patches know nothing
    of the composition of a picture. The value falls with the number of images: compare with the floor. Published
    numbers take 16,384 images (Karras et al. 2018).
    """

    reads_features = False
    fewer_samples: ClassVar[Mapping[str, str]] = {"": HIGHER}

    def __init__(
        self, images: int = 2048, patches: int = 128, repeats: int = 4, directions: int = 128, seed: int = 0
    ) -> None:
        """A distance of `images` random images a side, or of as many as there are; UserError for counts below 1."""
        counts = {"images": images, "patches": patches, "repeats": repeats, "directions": directions}
        if wrong := {name: count for name, count in counts.items() if count < 1}:
            name, count = next(iter(wrong.items()))
            raise UserError(f"metric swd: {name}={count}; expected at least 1")
        super().__init__(RandomRows(images, seed), RandomRows(images, seed))
        self.images = images
        self.patches = patches
        self.repeats = repeats
        self.directions = directions
        self.seed = seed

    def bind(self, dataset: Dataset, extractor: Extractor | None) -> None:
        """UserError unless there are images of at least 7x7 pixels."""
        require_images("swd", dataset)
        short = min(dataset.spec.shape[1:])
        if short < PATCH:
            raise UserError(
                f"metric swd cuts 7x7 patches, but images of {dataset.name} have {short} pixels; leave it out"
            )

    def update(self, features: Features, real: bool) -> None:
        """Take images (n, c, h, w)."""
        if features.samples is None:
            raise UserError("metric swd needs images, which were not given")
        (self.real if real else self.generated).update(features.samples)

    @torch.no_grad()
    def compute(self) -> list[Reading]:
        """The mean over levels, then each level from fine to coarse; UserError with fewer than 2 images."""
        real, generated = self.real.compute()[0], self.generated.compute()[0]
        count = min(len(real), len(generated))
        if count < 2:
            raise UserError(f"metric swd: {len(real)} real and {len(generated)} generated images; expected at least 2")
        sizes = level_sizes(*real.shape[2:])
        values, parts = [], []
        for level in range(len(sizes)):
            x, y = (Patches(self.descriptors(images[:count], level, len(sizes))) for images in (real, generated))
            sets = [self.draw_directions(repeat, x.dimensions) for repeat in range(self.repeats)]
            values.append(1000 * math.fsum(sliced_distance(x, y, unit) for unit in sets) / self.repeats)
            blocks, some = torch.arange(count) % min(BLOCKS, count), sets[0][:BLOCK_DIRECTIONS]
            parts.append([1000 * sliced_distance(x, y, some, blocks != block) for block in torch.unique(blocks)])
        details: dict[str, Detail] = {
            "levels": ", ".join(f"{h}x{w}" for h, w in sizes),
            "images": count,
            "patches": self.patches,
            "directions": self.repeats * self.directions,
            "channels": "normalised, each side by its own mean and deviation",
            "places": "random, the same on both sides",
            "units": "1/1000",
            "seed": self.seed,
        }
        means = [math.fsum(level) / len(level) for level in zip(*parts, strict=True)]
        named = {"": (math.fsum(values) / len(values), means)}
        named |= {f"swd_{min(size)}": pair for size, pair in zip(sizes, zip(values, parts, strict=True), strict=True)}
        return [self.reading(name, value, without, details) for name, (value, without) in named.items()]

    def reading(self, name: str, value: float, without: list[float], details: dict[str, Detail]) -> Reading:
        """A reading with its error from the values without each block of images."""
        if len(without) < 2:
            return Reading(name, value, details)
        error, interval = jackknife(value, without)
        source = (
            f"jackknife over {len(without)} blocks of images, along {min(BLOCK_DIRECTIONS, self.directions)} directions"
        )
        return Reading(name, value, details, error, source, interval=interval, interval_from=source)

    def descriptors(self, images: Tensor, level: int, levels: int) -> Tensor:
        """`patches` random patches (n, patches, c, 49) of one level of the pyramids of uint8 images (n, c, h, w)."""
        # One stream for both sides: places don't matter for the distance, and equal sets are then at 0 exactly.
        generator = seeding.generator(self.seed, "swd", "patches", level)
        found = []
        for batch in torch.split(images, BATCH):
            band = pyramid(batch.float(), levels)[level]
            # Drawn for whole batches, so that the number of images changes nothing for the first ones.
            tops, lefts = (
                torch.randint(side - PATCH + 1, (BATCH, self.patches), generator=generator)[: len(batch)]
                for side in band.shape[2:]
            )
            found.append(cut(band, tops.to(band.device), lefts.to(band.device)))
        return torch.cat(found)

    def draw_directions(self, repeat: int, dimensions: int) -> Tensor:
        """A set of unit directions (k, d)."""
        generator = seeding.generator(self.seed, "swd", "directions", repeat)
        drawn = torch.randn(self.directions, dimensions, generator=generator)
        return F.normalize(drawn, dim=1)


@final
class Patches:
    """Patches (n, p, c, d) of n images, whose channels are normalised to mean 0 and deviation 1 when projected."""

    def __init__(self, values: Tensor) -> None:
        """Patches as cut, float32."""
        # Centred first, so that the mean square below loses no digits to the mean.
        self.values = values - values.mean((0, 1, 3), keepdim=True)
        self.sums = self.values.sum((1, 3)).double()
        self.squares = self.values.square().sum((1, 3)).double()

    @property
    def dimensions(self) -> int:
        """Numbers in one patch."""
        return self.values.shape[2] * self.values.shape[3]

    def project(self, unit: Tensor, kept: Tensor | None = None) -> Tensor:
        """Normalised patches along unit directions (k, c*d), float32 (k, m); with `kept` (n,) those of some images."""
        n, p, c, d = self.values.shape
        where = torch.arange(n) if kept is None else kept.nonzero().flatten()
        where = where.to(self.values.device)
        mean = self.sums[where].sum(0) / (len(where) * p * d)
        deviation = (self.squares[where].sum(0) / (len(where) * p * d) - mean.square()).clamp(min=0).sqrt()
        # Bytes that vary by less are a channel without variation (a collapsed generator): it stays 0.
        scale = torch.where(deviation > 1e-3, deviation, 1.0)
        weights = unit.to(self.values).view(-1, c, d) / scale.float().view(1, c, 1)
        offsets = (weights.double().sum(2) @ mean).float()
        projected = weights.flatten(1) @ self.values.view(n * p, c * d).T - offsets[:, None]
        return projected if kept is None else projected.view(-1, n, p)[:, where].flatten(1)


def sliced_distance(x: Patches, y: Patches, unit: Tensor, kept: Tensor | None = None) -> float:
    """The mean over unit directions (k, d) of W1 between as many patches x and y, or those of the images `kept` (n,).

    Projections are in float32, their differences added up in float64.
    """
    total = 0.0
    # A few directions at a time: projections of all would take gigabytes.
    for some in torch.split(unit, 16):
        first, second = (ascending(side.project(some, kept)) for side in (x, y))
        total += float((first - second).abs().mean(1, dtype=torch.float64).sum())
    return total / len(unit)


def level_sizes(height: int, width: int) -> list[tuple[int, int]]:
    """Heights and widths of the levels: halved, rounding up, while the shorter side keeps 16 pixels; at least one."""
    sizes = [(height, width)]
    while min(half := ((sizes[-1][0] + 1) // 2, (sizes[-1][1] + 1) // 2)) >= SMALLEST:
        sizes.append(half)
    return sizes


def blur(images: Tensor, gain: float = 1.0) -> Tensor:
    """Images (n, c, h, w) through the 5x5 binomial filter, mirrored at the borders without repeating the edge."""
    line = images.new_tensor([1, 4, 6, 4, 1]) / 16 * math.sqrt(gain)
    channels = images.shape[1]
    padded = F.pad(images, (2, 2, 2, 2), mode="reflect")
    across = F.conv2d(padded, line.view(1, 1, 1, 5).expand(channels, 1, 1, 5), groups=channels)
    return F.conv2d(across, line.view(1, 1, 5, 1).expand(channels, 1, 5, 1), groups=channels)


def reduce(images: Tensor) -> Tensor:
    """Every other row and column of blurred images (n, c, h, w) (Burt and Adelson 1983)."""
    return blur(images)[:, :, ::2, ::2]


def expand(images: Tensor, size: tuple[int, int]) -> Tensor:
    """Images spread out to (height, width) with zeros between the pixels, blurred with gain 4."""
    spread = images.new_zeros(*images.shape[:2], *size)
    spread[:, :, ::2, ::2] = images
    return blur(spread, 4.0)


def pyramid(images: Tensor, levels: int) -> list[Tensor]:
    """The Laplacian pyramid of float images (n, c, h, w): bands from fine to coarse, last the blurred rest."""
    bands, rest = [], images
    for _ in range(levels - 1):
        smaller = reduce(rest)
        bands.append(rest - expand(smaller, (rest.shape[2], rest.shape[3])))
        rest = smaller
    return [*bands, rest]


def collapse(bands: list[Tensor]) -> Tensor:
    """The images (n, c, h, w) whose pyramid has these bands."""
    images = bands[-1]
    for band in reversed(bands[:-1]):
        images = band + expand(images, (band.shape[2], band.shape[3]))
    return images


def cut(images: Tensor, tops: Tensor, lefts: Tensor) -> Tensor:
    """Patches (n, p, c, 49) of images (n, c, h, w) whose upper left corners are at tops, lefts (n, p)."""
    steps = torch.arange(PATCH, device=images.device)
    rows = (tops[..., None] + steps)[:, :, :, None]
    columns = (lefts[..., None] + steps)[:, :, None, :]
    which = torch.arange(len(images), device=images.device)[:, None, None, None]
    # Indexing (n, h, w, c) at (n, p, 7, 7) places.
    return images.permute(0, 2, 3, 1)[which, rows, columns].permute(0, 1, 4, 2, 3).flatten(3)


def ascending(rows: Tensor) -> Tensor:
    """Each row (k, n) sorted."""
    if rows.device.type != "cpu":
        return rows.sort(dim=1).values
    # NumPy sorts floats with vector instructions, 20 times as fast as torch on a CPU.
    return torch.from_numpy(np.sort(rows.numpy(), axis=1))
