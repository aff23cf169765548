"""Sliced Wasserstein distances between sets of points (Rabin et al. 2011; Bonneel et al. 2015)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, final

import torch
from torch import Tensor

from gan_experiments import seeding
from gan_experiments.data.base import Dataset
from gan_experiments.errors import UserError
from gan_experiments.logging.score_counts import HIGHER
from gan_experiments.metrics.base import Detail, QualityMetric, Reading, Rows, require_points
from gan_experiments.metrics.extractors import Extractor, Features
from gan_experiments.metrics.intervals import jackknife

BLOCKS = 10
"""Blocks of samples that the jackknife leaves out in turn."""

JACKKNIFE = f"jackknife over {BLOCKS} blocks of samples of both sides; the bias of few samples is not in it"


@final
class SlicedWasserstein(QualityMetric[Rows]):
    """W1 (mean over directions) and W2 (root of the mean of squares) of points projected on random unit directions.

    Every evaluation uses the same directions. Distances are in the units of the points, 0 or more, smaller is better;
    two sets of one distribution are at about 1 / sqrt(n), as the floor shows.
    """

    fewer_samples: ClassVar[Mapping[str, str]] = {"sliced_w1": HIGHER, "sliced_w2": HIGHER}

    def __init__(self, directions: int = 128, seed: int = 0) -> None:
        """Distances over that many directions; UserError unless at least 1."""
        if directions < 1:
            raise UserError(f"metric sliced_wasserstein: directions={directions}; expected at least 1")
        super().__init__(Rows(), Rows())
        self.directions = directions
        self.seed = seed

    def bind(self, dataset: Dataset, extractor: Extractor | None) -> None:
        """UserError when the data aren't points."""
        require_points("sliced_wasserstein", dataset)

    def update(self, features: Features, real: bool) -> None:
        """Take points (n, d)."""
        (self.real if real else self.generated).update(features.features)

    def compute(self) -> list[Reading]:
        """The two distances."""
        real, generated = self.real.compute().double(), self.generated.compute().double()
        generator = seeding.generator(self.seed, "sliced_wasserstein")
        directions = torch.randn(self.directions, real.shape[1], generator=generator, dtype=torch.float64)
        directions = (directions / directions.norm(dim=1, keepdim=True)).to(real.device)
        real, generated = ((side @ directions.T).T.contiguous().sort(dim=1) for side in (real, generated))
        values = distances(real.values, generated.values)
        details: dict[str, Detail] = {"directions": self.directions, "seed": self.seed}
        names = ("sliced_w1", "sliced_w2")
        if min(real.values.shape[1], generated.values.shape[1]) < 2 * BLOCKS:
            return [Reading(name, value, details) for name, value in zip(names, values, strict=True)]
        without = self.without_blocks(real, generated)
        readings = []
        for name, value, others in zip(names, values, zip(*without, strict=True), strict=True):
            error, interval = jackknife(value, others)
            readings.append(Reading(name, value, details, error, JACKKNIFE, interval=interval, interval_from=JACKKNIFE))
        return readings

    def without_blocks(self, *sides: torch.return_types.sort) -> list[tuple[float, float]]:
        """Both distances without each block of the sides' samples, given as sorted projections."""
        generator = seeding.generator(self.seed, "sliced_wasserstein blocks")
        blocks = []
        for side in sides:
            n = side.values.shape[1]
            # At random, because stored samples may be in an order.
            own = (torch.randperm(n, generator=generator) % BLOCKS).to(side.indices.device)
            blocks.append(own[side.indices])
        result = []
        for block in range(BLOCKS):
            # What is left of sorted values is sorted.
            real, generated = (
                side.values[own != block].view(self.directions, -1) for side, own in zip(sides, blocks, strict=True)
            )
            result.append(distances(real, generated))
        return result


def distances(real: Tensor, generated: Tensor) -> tuple[float, float]:
    """W1 and W2 over all directions of projections (directions, n), sorted."""
    gaps, weights = quantile_gaps(real, generated)
    return float((gaps.abs() @ weights).mean()), float((gaps.square() @ weights).mean().sqrt())


def quantile_gaps(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """Differences (p, s) of the quantile functions of sorted x (p, m) and y (p, n) piece by piece, and widths (s,).

    Exact for unequal m and n: the steps are at multiples of 1/m and 1/n, counted here in units of 1/(m*n). Where both
    step at once, one piece has width 0.
    """
    m, n = x.shape[1], y.shape[1]
    steps_x = torch.arange(1, m + 1, device=x.device) * n
    steps_y = torch.arange(1, n + 1, device=x.device) * m
    ends = torch.cat([steps_x, steps_y]).sort().values
    widths = ends.diff(prepend=ends.new_zeros(1)).double() / (m * n)
    return x[:, (ends - 1) // n] - y[:, (ends - 1) // m], widths
