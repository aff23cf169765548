"""The log-likelihood of held-out reals under Parzen windows around generated samples (Breuleux et al. 2011)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import final

import torch
from torch import Tensor

from gan_experiments import seeding
from gan_experiments.data.base import Dataset
from gan_experiments.errors import UserError
from gan_experiments.metrics.base import Detail, QualityMetric, Reading, Rows, known
from gan_experiments.metrics.extractors import Extractor, Features
from gan_experiments.metrics.intervals import around

PAIRS = 2**23
"""Pairs of samples whose distances are held at a time."""

CAVEAT = "says little about images: a good likelihood and good samples don't imply each other (Theis et al. 2016)"


@final
class ParzenLikelihood(QualityMetric[Rows]):
    """Mean log-likelihood in nats of held-out reals under Gaussian windows around generated samples; higher is better.

    Images are taken as pixels in [0, 1], points as they are. log p(x) = log mean_i N(x; x_i, sigma^2 I), sigma that of
    `steps` widths from `low` to `high` which gives `tuning` random training samples the best likelihood (Breuleux et
    al. 2011; Goodfellow et al. 2014). The number for real data is that of as many other training samples as windows,
    with a sigma of their own. Weakness: it needs very many samples, prefers blurred averages, and says little about
    images: a good likelihood and good samples don't imply each other (Theis et al. 2016).
    """

    needs_held_out = True
    own_floor = True
    reads_features = False

    def __init__(
        self,
        low: float = 0.01,
        high: float = 1.0,
        steps: int = 21,
        windows: int = 10_000,
        tuning: int = 1000,
        scored: int = 10_000,
        seed: int = 0,
    ) -> None:
        """At most `windows` windows, `scored` held-out samples; UserError for impossible numbers."""
        if not 0 < low < high or steps < 2 or min(windows, tuning) < 1 or scored < 2:
            raise UserError(
                f"metric parzen: low={low}, high={high}, steps={steps}, windows={windows}, tuning={tuning}, "
                f"scored={scored}; expected 0 < low < high, at least 2, at least 1, 1 and 2"
            )
        super().__init__(Rows(), Rows(), Rows())
        self.low, self.high, self.steps = low, high, steps
        self.windows, self.tuning, self.scored, self.seed = windows, tuning, scored, seed
        self.is_image = False

    def bind(self, dataset: Dataset, extractor: Extractor | None) -> None:
        """Take whether samples are images."""
        self.is_image = dataset.spec.is_image

    def expect(self, reals: int, samples: int, held_out: int) -> None:
        """UserError when too few training samples are looked at."""
        self.refuse_fewer(reals)

    def refuse_fewer(self, count: int) -> None:
        """UserError when there are no more training samples than sigma is chosen by."""
        if count <= self.tuning:
            raise UserError(
                f"metric parzen chooses sigma by {self.tuning} training samples and needs others as windows, but there "
                f"are {count}; set metric.parzen.tuning to less"
            )

    def update(self, features: Features, real: bool) -> None:
        """Take images (n, c, h, w) or points (n, d)."""
        (self.real if real else self.generated).update(known(features.samples, "parzen", "the samples").flatten(1))

    def show_held_out(self, features: Features) -> None:
        """Take held-out images (n, c, h, w) or points (n, d)."""
        assert self.held_out is not None
        self.held_out.update(known(features.samples, "parzen", "the samples").flatten(1))

    def compute(self) -> list[Reading]:
        """The log-likelihood; UserError with too few training or held-out samples."""
        assert self.held_out is not None
        train, generated = self.shuffled(self.real, "train"), self.shuffled(self.generated, "generated")
        held_out = self.shuffled(self.held_out, "held-out")[: self.scored]
        self.refuse_fewer(len(train))
        if len(held_out) < 2:
            raise UserError(f"metric parzen needs at least 2 held-out samples, got {len(held_out)}")
        tuning, others = train[: self.tuning], train[self.tuning :]
        count = min(len(generated), len(others), self.windows)
        sigma, scores = self.score(generated[: self.windows], tuning, held_out)
        real_sigma, real_scores = self.score(others[:count], tuning, held_out)
        value, error = float(scores.mean()), float(scores.std()) / math.sqrt(len(scores))
        details: dict[str, Detail] = {
            "sigma": sigma,
            "sigma_at_end_of_range": "yes" if sigma in (self.grid()[0], self.grid()[-1]) else "no",
            "windows": min(len(generated), self.windows),
            "tuning": self.tuning,
            "scored": len(scores),
            "real_sigma": real_sigma,
            "real_windows": count,
            "space": "pixels in [0, 1]" if self.is_image else "points",
            "caveat": CAVEAT,
            "seed": self.seed,
        }
        how = "standard error over held-out samples, windows held fixed"
        return [
            Reading(
                "", value, details, error, how, True, around(value, error), f"normal, {how}", float(real_scores.mean())
            )
        ]

    def shuffled(self, side: Rows, name: str) -> Tensor:
        """A side's samples (n, d) in random order."""
        rows: Tensor = side.compute()
        return rows[torch.randperm(len(rows), generator=seeding.generator(self.seed, "parzen", name)).to(rows.device)]

    def grid(self) -> list[float]:
        """The widths to choose from, evenly spaced in their logarithm."""
        ratio = self.high / self.low
        return [self.low * ratio ** (i / (self.steps - 1)) for i in range(self.steps)]

    def score(self, windows: Tensor, tuning: Tensor, held_out: Tensor) -> tuple[float, Tensor]:
        """The best width for `tuning` and the log-likelihoods (n,) of `held_out` with it."""
        scale = 255 if self.is_image else 1
        likelihoods = log_likelihoods(tuning, windows, self.grid(), scale).mean(1)
        sigma = self.grid()[int(likelihoods.argmax())]
        return sigma, log_likelihoods(held_out, windows, [sigma], scale)[0]


def log_likelihoods(x: Tensor, windows: Tensor, sigmas: Sequence[float], scale: float = 1) -> Tensor:
    """log mean_i N(x; x_i, sigma^2 I) in nats, (s, n) float64, of x (n, d) with windows x_i (m, d), both over `scale`.

    Distances come from float32 products of centred rows, in float64 for less than 64 dimensions.
    """
    d = x.shape[1]
    dtype = torch.float64 if d < 64 else torch.float32
    origin = windows.to(torch.float64).mean(0)

    def centred(rows: Tensor) -> Tensor:
        return ((rows.double() - origin) / scale).to(dtype)

    y = centred(windows)
    lengths = y.double().square().sum(1)
    parts = []
    for rows in torch.split(x, max(1, PAIRS // len(windows))):
        part = centred(rows)
        squared = (part @ y.T).double().mul_(-2)
        squared = squared.add_(lengths).add_(part.double().square().sum(1, keepdim=True)).clamp_(min=0)
        exponents = [(squared * (-0.5 / sigma**2)).logsumexp(1) - d * math.log(sigma) for sigma in sigmas]
        parts.append(torch.stack(exponents))
    return torch.cat(parts, dim=1) - math.log(len(windows)) - d / 2 * math.log(2 * math.pi)
