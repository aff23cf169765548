"""The kernel distance: an unbiased squared maximum mean discrepancy of features (KID, Binkowski et al. 2018)."""

from __future__ import annotations

from typing import final

import torch
from torch import Tensor

from gan_experiments import seeding
from gan_experiments.data.base import Dataset
from gan_experiments.errors import UserError
from gan_experiments.metrics.base import QualityMetric, Reading, Rows, require_vectors
from gan_experiments.metrics.extractors import Extractor, Features


@final
class KernelDistance(QualityMetric[Rows]):
    """Mean and standard deviation of the unbiased MMD^2 with kernel (x.y/d + 1)^3 over random subsets.

    Every evaluation draws the same `subsets` subsets of `subset_size` without replacement. Values may be negative.
    """

    def __init__(self, subsets: int = 100, subset_size: int = 1000, seed: int = 0) -> None:
        """A distance over that many subsets; UserError unless subsets >= 1 and subset_size >= 2."""
        if subsets < 1 or subset_size < 2:
            raise UserError(f"metric kid: subsets={subsets}, subset_size={subset_size}; expected at least 1 and 2")
        super().__init__(Rows(), Rows())
        self.subsets = subsets
        self.subset_size = subset_size
        self.seed = seed

    def bind(self, dataset: Dataset, extractor: Extractor | None) -> None:
        """UserError when images come without an extractor, or when a split is smaller than a subset."""
        require_vectors("kid", dataset, extractor)
        for name, split in (("training", dataset.train), ("held-out", dataset.held_out)):
            self.refuse_fewer(len(split), f"the {name} part of {dataset.name}")

    def refuse_fewer(self, count: int, where: str) -> None:
        """UserError when there are fewer samples than a subset takes."""
        if count < self.subset_size:
            raise UserError(
                f"metric kid draws subsets of {self.subset_size} samples, but {where} has {count}; "
                f"set metric.kid.subset_size to {count} or less"
            )

    def update(self, features: Features, real: bool) -> None:
        """Take features (n, d)."""
        (self.real if real else self.generated).update(features.features)

    def compute(self) -> list[Reading]:
        """Mean over subsets, its error the standard deviation (ddof 0); UserError with too few samples."""
        real, generated = self.real.compute(), self.generated.compute()
        self.refuse_fewer(len(real), "the real side")
        self.refuse_fewer(len(generated), "the generated side")
        generator = seeding.generator(self.seed, "kid")
        values = torch.empty(self.subsets, dtype=torch.float64)
        for i in range(self.subsets):
            first, second = (
                side[torch.randperm(len(side), generator=generator)[: self.subset_size].to(side.device)]
                for side in (real, generated)
            )
            values[i] = squared_discrepancy(first, second)
        details: dict[str, int | float | str] = {
            "subsets": self.subsets,
            "subset_size": self.subset_size,
            "kernel": "(x.y/d + 1)^3",
            "seed": self.seed,
        }
        spread = float(values.std(correction=0))
        return [Reading("", float(values.mean()), details, spread, "standard deviation over overlapping subsets")]


def squared_discrepancy(x: Tensor, y: Tensor) -> Tensor:
    """Unbiased MMD^2 of x (m, d) and y (n, d) with the cubic kernel (Gretton et al. 2012, eq. 3); float64 ()."""
    m, n = len(x), len(y)
    within_x = (kernel_sum(x, x) - diagonal_sum(x)) / (m * (m - 1))
    within_y = (kernel_sum(y, y) - diagonal_sum(y)) / (n * (n - 1))
    return within_x + within_y - 2 * kernel_sum(x, y) / (m * n)


def kernel_sum(x: Tensor, y: Tensor) -> Tensor:
    """The sum of (x_i.y_j/d + 1)^3 over all pairs; products in the features' precision, rows added up in float64."""
    base = torch.addmm(x.new_ones(()), x, y.T, alpha=1 / x.shape[1])
    # Row sums as inner products need one pass less over the m*n values.
    total: Tensor = torch.linalg.vecdot(base.square(), base).double().sum()
    return total


def diagonal_sum(x: Tensor) -> Tensor:
    """The sum of (x_i.x_i/d + 1)^3 over rows."""
    return (x.double().square().sum(1) / x.shape[1] + 1).pow(3).sum()
