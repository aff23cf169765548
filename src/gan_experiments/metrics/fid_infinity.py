"""The Fréchet distance extrapolated to infinitely many samples on both sides (after Chong and Forsyth 2020)."""

from __future__ import annotations

import math
from typing import NamedTuple, final

import torch
from torch import Tensor

from gan_experiments import seeding
from gan_experiments.data.base import Dataset
from gan_experiments.errors import UserError
from gan_experiments.metrics.base import Detail, Reading, Rows
from gan_experiments.metrics.extractors import Extractor
from gan_experiments.metrics.frechet import Spectrum, assemble, without_blocks
from gan_experiments.metrics.intervals import around, jackknife
from gan_experiments.metrics.moments import Gaussian, Moments
from gan_experiments.metrics.vectors import VectorMetric

PER_FEATURE = 2
"""Least samples a feature in the smallest subset: with 1.5 to 4 the line misses 1 to 3 % of the full sets' bias."""

SPAN = 2.0
"""Least ratio of the largest to the smallest subset, without which a line can't be told from a level."""

RELIABLE = 5000
"""Least samples a side for a figure to lean on (after Chong and Forsyth 2020)."""

BLOCKS = 10
"""Blocks of the jackknife."""


@final
class FidInfinity(VectorMetric[Rows]):
    """The intercept of a line through Fréchet distances of subsets over 1/r, r their share of both sides.

    The bias of a finite sample is about inversely proportional to its size, and differs between models: here both sides
    shrink together, from all samples to the share `smallest` of them or two a feature, so both biases go (Chong and
    Forsyth shrink the generated side only). In FID's units; 0 for equal distributions up to chance, also below it;
    smaller is better. Each size takes as many disjoint subsets as there are in each of `repeats` random orders.
    Weakness: bias of second order stays, and below 5,000 samples a side it should not be leant on, which the details
    say.
    """

    name = "fid_infinity"

    def __init__(self, sizes: int = 15, smallest: float = 0.1, repeats: int = 2, ddof: int = 1, seed: int = 0) -> None:
        """A line through that many sizes, evenly spaced in 1/r; UserError for impossible numbers."""
        if sizes < 3 or not 0 < smallest <= 1 / SPAN or repeats < 1 or ddof not in (0, 1):
            raise UserError(
                f"metric fid_infinity: sizes={sizes}, smallest={smallest}, repeats={repeats}, ddof={ddof}; expected "
                f"at least 3, a share up to {1 / SPAN}, at least 1, and 0 or 1"
            )
        super().__init__(Rows(), Rows())
        self.sizes, self.smallest, self.repeats, self.ddof, self.seed = sizes, smallest, repeats, ddof, seed

    def bind(self, dataset: Dataset, extractor: Extractor | None) -> None:
        """UserError when images come without an extractor, or when a split is too small for its features."""
        super().bind(dataset, extractor)
        d = dataset.spec.shape[0] if extractor is None else extractor.num_features
        for name, split in (("training", dataset.train), ("held-out", dataset.held_out)):
            refuse_fewer(len(split), d, f"the {name} part of {dataset.name}")

    def compute(self) -> list[Reading]:
        """The intercept; UserError with too few samples for the number of features."""
        real, generated = self.real.compute(), self.generated.compute()
        n, d = min(len(real), len(generated)), real.shape[1]
        refuse_fewer(n, d, "the smaller side")
        least = max(self.smallest, PER_FEATURE * d / n, 10 / n)
        inverse = torch.linspace(1, 1 / least, self.sizes, dtype=torch.float64)
        distances = torch.tensor([self.distance(real, generated, float(r)) for r in inverse], dtype=torch.float64)
        line = fit_line(inverse, distances)
        sampling = sampling_error(real, generated, self.ddof)
        error = math.hypot(sampling, line.error)
        details: dict[str, Detail] = {
            "shares": (1 / inverse).tolist(),
            "distances": distances.tolist(),
            "slope": line.slope,
            "regression": "ordinary least squares on 1/share, equal weights",
            "regression_error": line.error,
            "sampling_error": sampling,
            "repeats": self.repeats,
            "ddof": self.ddof,
            "seed": self.seed,
            "reliable": "yes" if n >= RELIABLE else f"no: fewer than {RELIABLE} samples a side",
        }
        how = f"linearised jackknife over {BLOCKS} blocks of each side, and the regression's own error"
        interval = around(line.intercept, error, BLOCKS - 1)
        return [
            Reading("", line.intercept, details, error, how, interval=interval, interval_from=f"Student's t, {how}")
        ]

    def distance(self, real: Tensor, generated: Tensor, inverse: float) -> float:
        """The mean distance of disjoint subsets of 1/inverse of each side, over all random orders."""
        subsets = int(inverse * (1 + 1e-9))
        values = []
        for repeat in range(self.repeats if inverse > 1 else 1):
            first, second = (
                torch.split(self.shuffled(side, inverse, repeat, name), int(len(side) / inverse))[:subsets]
                for name, side in (("real", real), ("generated", generated))
            )
            values += [
                distance(fitted(real[i], self.ddof), fitted(generated[j], self.ddof))
                for i, j in zip(first, second, strict=True)
            ]
        return math.fsum(values) / len(values)

    def shuffled(self, side: Tensor, *stream: object) -> Tensor:
        """The places (n,) of a side's rows in random order."""
        order = torch.randperm(len(side), generator=seeding.generator(self.seed, "fid_infinity", *stream))
        return order.to(side.device)


class Line(NamedTuple):
    """A least-squares line and the standard error of its intercept."""

    intercept: float
    slope: float
    error: float


def fit_line(x: Tensor, y: Tensor) -> Line:
    """Ordinary least squares of y (n,) on x (n,), n > 2; the error is that of the residuals."""
    n, mean = len(x), x.mean()
    spread = (x - mean).square().sum()
    slope = ((x - mean) * y).sum() / spread
    intercept = y.mean() - slope * mean
    variance = (y - intercept - slope * x).square().sum() / (n - 2)
    error = (variance * (1 / n + mean**2 / spread)).sqrt()
    return Line(float(intercept), float(slope), float(error))


def fitted(rows: Tensor, ddof: int, blocks: int = 1) -> Gaussian:
    """The Gaussian of rows (n, d), with the sums over blocks."""
    moments = Moments(ddof, blocks).to(rows.device)
    # Their places are random already.
    moments.update(rows, torch.arange(len(rows)))
    return moments.gaussian()


def distance(real: Gaussian, generated: Gaussian) -> float:
    """The Fréchet distance of two fits."""
    root = Spectrum.of(real.covariance, generated.covariance).root_trace()
    return float(assemble(real.mean, real.covariance, generated.mean, generated.covariance, root))


def sampling_error(real: Tensor, generated: Tensor, ddof: int) -> float:
    """The standard error of the distance from the sampling of both sides, which are independent of each other.

    That of the extrapolated distance is the same to first order: disjoint subsets average to the full sets' value.
    """
    fits = [fitted(side, ddof, BLOCKS) for side in (real, generated)]
    errors = []
    for fixed, varied in (fits, fits[::-1]):
        spectrum = Spectrum.of(fixed.covariance, varied.covariance, vectors=True)
        value = distance(fixed, varied)
        without = without_blocks(value, fixed.mean, varied, spectrum, ddof)
        errors.append(jackknife(value, without, varied.parts.sizes.tolist())[0])
    return math.hypot(*errors)


def refuse_fewer(count: int, features: int, where: str) -> None:
    """UserError when there are too few samples for a line through subsets of more samples than features."""
    needed = max(int(SPAN * PER_FEATURE * features), 20)
    if count < needed:
        raise UserError(
            f"metric fid_infinity with {features} features needs at least {needed} samples a side, but {where} has "
            f"{count}; draw more, or set metric=kid, which has no bias"
        )
