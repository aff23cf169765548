"""The kernel distance: an unbiased squared maximum mean discrepancy of features (KID, Binkowski et al. 2018)."""

from __future__ import annotations

import math
import statistics
from typing import final

import torch
from torch import Tensor

from gan_experiments import seeding
from gan_experiments.errors import UserError
from gan_experiments.metrics.base import Detail, Reading, Rows
from gan_experiments.metrics.intervals import around
from gan_experiments.metrics.vectors import VectorMetric


@final
class KernelDistance(VectorMetric[Rows]):
    """Mean over random subsets of the unbiased MMD^2 with kernel (x.y/d + 1)^3; 0 for equals, smaller is better.

    Every evaluation draws the same `subsets` subsets of `subset_size` without replacement (Binkowski et al. 2018). They
    overlap, so their spread (`subset_sd`) is no error; error and interval come from disjoint blocks of that size, as in
    TF-GAN. Values may be negative and are kept. Weakness: it sees three moments of the features only.
    """

    name = "kid"

    def __init__(self, subsets: int = 100, subset_size: int = 1000, seed: int = 0) -> None:
        """A distance over that many subsets; UserError unless subsets >= 1 and subset_size >= 2."""
        if subsets < 1 or subset_size < 2:
            raise UserError(f"metric kid: subsets={subsets}, subset_size={subset_size}; expected at least 1 and 2")
        super().__init__(Rows(), Rows())
        self.subsets = subsets
        self.subset_size = subset_size
        self.seed = seed

    def expect(self, reals: int, samples: int, held_out: int) -> None:
        """UserError when a side is smaller than a subset, which says what fits all of them."""
        sides = {
            "the real side": reals,
            "the generated side": samples,
            "the held-out part, which gives the floor,": held_out,
        }
        where = min(sides, key=lambda side: sides[side])
        self.refuse_fewer(sides[where], where)

    def refuse_fewer(self, count: int, where: str) -> None:
        """UserError when there are fewer samples than a subset takes."""
        if count < self.subset_size:
            raise UserError(
                f"metric kid draws subsets of {self.subset_size} samples, but {where} has {count}; "
                f"set metric.kid.subset_size to {count} or less"
            )

    def compute(self) -> list[Reading]:
        """Mean over subsets, its error that of the mean over disjoint blocks; UserError with too few samples."""
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
        value, blocks = float(values.mean()), self.blocks(real, generated)
        details: dict[str, Detail] = {
            "subsets": self.subsets,
            "subset_size": self.subset_size,
            "subset_sd": float(values.std(correction=0)),
            "blocks": len(blocks),
            "kernel": "(x.y/d + 1)^3",
            "seed": self.seed,
        }
        if len(blocks) < 2:
            return [Reading("", value, details)]
        error = statistics.stdev(blocks) / math.sqrt(len(blocks))
        how = f"standard error of the mean over {len(blocks)} disjoint blocks of {self.subset_size} samples a side"
        interval = around(value, error, len(blocks) - 1)
        return [Reading("", value, details, error, how, interval=interval, interval_from=f"Student's t, {how}")]

    def blocks(self, real: Tensor, generated: Tensor) -> list[float]:
        """The distances of as many disjoint pairs of random subsets as there are."""
        # Shuffled, because stored samples may be in an order.
        orders = [
            torch.randperm(len(side), generator=seeding.generator(self.seed, "kid blocks", name)).to(side.device)
            for name, side in (("real", real), ("generated", generated))
        ]
        first, second = (torch.split(order, self.subset_size) for order in orders)
        count = min(len(real), len(generated)) // self.subset_size
        return [float(squared_discrepancy(real[first[i]], generated[second[i]])) for i in range(count)]


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
