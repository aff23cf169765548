"""Mode coverage of mixtures of Gaussians in the plane (definitions of PacGAN, Lin et al. 2018)."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import ClassVar, final

import torch
from torch import Tensor

from gan_experiments import seeding
from gan_experiments.data.base import Dataset
from gan_experiments.errors import UserError
from gan_experiments.logging.score_counts import HIGHER, LOWER
from gan_experiments.metrics.base import Accumulator, Detail, QualityMetric, Reading
from gan_experiments.metrics.extractors import Extractor, Features
from gan_experiments.metrics.intervals import of_share

RADIUS = 3.0
"""Standard deviations from the nearest centre within which a point counts as of high quality."""

WITHIN = 1 - math.exp(-(RADIUS**2) / 2)
"""The share of a Gaussian in the plane within that radius: 0.98889."""

DRAWS = 1000
"""Resamples of a bootstrap of counts."""

FEWEST = 10
"""Samples a class below which a bootstrap of counts is no guide to a divergence or an entropy: its bias prevails."""

BOOTSTRAP = f"basic bootstrap of the counts, {DRAWS} draws, kept within the possible values"
TOO_FEW = f"none: fewer than {FEWEST} samples a class"


@final
class ModeCounts(Accumulator):
    """How many points are nearest to each centre, and how many of these are within three standard deviations."""

    nearest: Tensor
    captured: Tensor

    def __init__(self) -> None:
        """No points yet; centres are set by `place`."""
        super().__init__()
        self.centres = torch.empty(0, 2, dtype=torch.float64)
        self.std = 1.0
        self.add_state("nearest", default=torch.zeros((), dtype=torch.int64), dist_reduce_fx="sum")
        self.add_state("captured", default=torch.zeros((), dtype=torch.int64), dist_reduce_fx="sum")

    def place(self, centres: Tensor, std: float) -> None:
        """Count around these centres (k, 2), of one standard deviation."""
        self.centres = centres.double()
        self.std = std

    def update(self, points: Tensor) -> None:
        """Count points (n, 2)."""
        offsets = points.to(self.device, torch.float64)[:, None] - self.centres.to(self.device)
        distance, mode = offsets.norm(dim=2).min(dim=1)
        count = len(self.centres)
        self.nearest = self.nearest + torch.bincount(mode, minlength=count)
        self.captured = self.captured + torch.bincount(mode[distance < RADIUS * self.std], minlength=count)

    def compute(self) -> tuple[Tensor, Tensor]:
        """Counts (k,) of the nearest points, and of those of high quality."""
        return self.nearest, self.captured


@final
class ModeCoverage(QualityMetric[ModeCounts]):
    """Modes captured, share of high-quality points, reverse KL over modes, and KL over modes plus one off-mode bin."""

    needs_reals = False
    fewer_samples: ClassVar[Mapping[str, str]] = {"modes_captured": LOWER, "reverse_kl": HIGHER, "binned_kl": HIGHER}

    def __init__(self) -> None:
        """A metric that learns the modes from the data set."""
        super().__init__(ModeCounts(), ModeCounts())

    def bind(self, dataset: Dataset, extractor: Extractor | None) -> None:
        """Take the modes; UserError when the data have none in the plane."""
        if dataset.modes is None or dataset.modes.centres.shape[1:] != (2,):
            raise UserError(
                f"metric modes needs a mixture with known modes in the plane, which data set {dataset.name} isn't; "
                "set dataset=ring or dataset=grid"
            )
        self.place(dataset.modes.centres, dataset.modes.std)

    def place(self, centres: Tensor, std: float) -> None:
        """Score against equally likely Gaussians at centres (k, 2), of one standard deviation."""
        for side in (self.real, self.generated):
            side.place(centres, std)

    def update(self, features: Features, real: bool) -> None:
        """Take points (n, 2)."""
        if not real:
            self.generated.update(features.features)

    def compute(self) -> list[Reading]:
        """Modes captured (any point of high quality), high-quality share, the two divergences in nats."""
        # torchmetrics takes the dimension from tensors of one element.
        nearest, captured = (counts.reshape(-1) for counts in self.generated.compute())
        n, k = int(nearest.sum()), len(nearest)
        details: dict[str, Detail] = {"modes": k, "radius_in_std": RADIUS}
        good = int(captured.sum())
        uniform = torch.full((k,), 1 / k, dtype=torch.float64)
        bins = torch.cat([captured.cpu(), torch.tensor([n - good])])
        expected = torch.cat([uniform * WITHIN, torch.tensor([1 - WITHIN], dtype=torch.float64)])
        return [
            Reading("modes_captured", float((captured > 0).sum()), details, higher_is_better=True),
            Reading(
                "high_quality_share",
                good / n,
                details,
                higher_is_better=True,
                interval=of_share(good, n),
                interval_from="Wilson's score interval",
            ),
            divergence_reading("reverse_kl", nearest.cpu(), uniform, details),
            divergence_reading("binned_kl", bins, expected, {**details, "bins": k + 1}),
        ]


def divergence(counts: Tensor, expected: Tensor) -> Tensor:
    """KL(p || q) in nats of the empirical distribution p of `counts` (..., k) from the distribution q, `expected`."""
    p = counts.double() / counts.sum(-1, keepdim=True)
    nats: Tensor = torch.special.xlogy(p, p / expected).sum(-1)
    return nats


def divergence_reading(name: str, counts: Tensor, expected: Tensor, details: dict[str, Detail]) -> Reading:
    """KL(counts || expected) of counts (k,) on the CPU, with a bootstrap's interval where there are enough of them."""
    enough = int(counts.sum()) >= FEWEST * len(counts)
    draws = divergence(resamples(counts, seeding.generator(0, name)), expected) if enough else None
    return bootstrapped(Reading(name, float(divergence(counts, expected)), details), draws, (0.0, math.inf))


def bootstrapped(reading: Reading, draws: Tensor | None, possible: tuple[float, float]) -> Reading:
    """A reading of counts with the error and the interval that draws of its value give; None where they are too few."""
    if draws is None:
        return reading._replace(interval_from=TOO_FEW)
    error, interval = basic_bootstrap(reading.value, draws, possible)
    return reading._replace(error=error, error_from=BOOTSTRAP, interval=interval, interval_from=BOOTSTRAP)


def resamples(counts: Tensor, generator: torch.Generator, draws: int = DRAWS) -> Tensor:
    """Counts (draws, k) as other sets of samples would have given them: the Poisson bootstrap of counts (k,).

    Divided by their sums they are multinomial shares of a random number of samples, and cost no pass over the samples.
    """
    return torch.poisson(counts.double().cpu().expand(draws, -1), generator=generator)


def basic_bootstrap(value: float, draws: Tensor, possible: tuple[float, float]) -> tuple[float, tuple[float, float]]:
    """Standard error and interval 2 value - quantiles of `draws` (Davison and Hinkley 1997, section 2.4).

    Unlike percentiles it makes up for a bias, which resamples have once more than the value; near an end of the
    `possible` values it is cut off there, and it holds `value` in any case.
    """
    low, high = draws.quantile(torch.tensor([0.025, 0.975], dtype=draws.dtype)).tolist()
    least, most = possible
    return float(draws.std()), (min(value, max(least, 2 * value - high)), max(value, min(most, 2 * value - low)))
