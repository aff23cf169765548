"""Sliced Wasserstein distances between sets of points (Rabin et al. 2011; Bonneel et al. 2015)."""

from __future__ import annotations

from typing import final

import torch
from torch import Tensor

from gan_experiments import seeding
from gan_experiments.data.base import Dataset
from gan_experiments.errors import UserError
from gan_experiments.metrics.base import QualityMetric, Reading, Rows, require_points
from gan_experiments.metrics.extractors import Extractor, Features


@final
class SlicedWasserstein(QualityMetric[Rows]):
    """W1 (mean over directions) and W2 (root of the mean of squares) of points projected on random unit directions.

    Every evaluation uses the same directions. Distances are in the units of the points.
    """

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
        real, generated = ((side @ directions.T).T.contiguous().sort(dim=1).values for side in (real, generated))
        gaps, weights = quantile_gaps(real, generated)
        details: dict[str, int | float | str] = {"directions": self.directions, "seed": self.seed}
        return [
            Reading("sliced_w1", float((gaps.abs() @ weights).mean()), details),
            Reading("sliced_w2", float((gaps.square() @ weights).mean().sqrt()), details),
        ]


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
