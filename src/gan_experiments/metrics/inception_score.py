"""The Inception Score (Salimans et al. 2016) of generated samples, and its two factors."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import ClassVar, final

import torch
from torch import Tensor

from gan_experiments.data.base import Dataset
from gan_experiments.errors import UserError
from gan_experiments.logging.score_counts import LOWER
from gan_experiments.metrics.base import Detail, QualityMetric, Reading, Rows
from gan_experiments.metrics.extractors import Extractor, Features
from gan_experiments.metrics.intervals import around, of_mean


@final
class InceptionScore(QualityMetric[Rows]):
    """exp(E KL(p(y|x) || p(y))), mean over `splits` random parts, p(y) estimated inside each.

    Beside it stand, of all samples at once, sharpness = exp(-E H(y|x)), from 1/k to 1, and diversity = exp(H(y)),
    from 1 to k classes; their product is the score with one split. All three grow with their values; none knows the
    reals, so copies of the training set score best, and few samples score too low.
    """

    needs_reals = False
    fewer_samples: ClassVar[Mapping[str, str]] = {"": LOWER, "diversity": LOWER}

    def __init__(self, splits: int = 10) -> None:
        """A score over that many splits; UserError unless at least 1."""
        if splits < 1:
            raise UserError(f"metric inception_score: splits={splits}; expected at least 1")
        super().__init__(Rows(), Rows())
        self.splits = splits

    def bind(self, dataset: Dataset, extractor: Extractor | None) -> None:
        """UserError when there are no class probabilities."""
        if extractor is None or extractor.num_classes == 0:
            name = "none" if extractor is None else extractor.name
            raise UserError(
                f"metric inception_score needs class probabilities, which extractor {name} doesn't give; "
                f"for images set extractor=classifier or extractor=inception, for points metric=sliced_wasserstein"
            )

    def update(self, features: Features, real: bool) -> None:
        """Take logits (n, k) of generated samples; reals play no part."""
        if features.logits is None:
            raise UserError("metric inception_score needs logits, but got features only")
        if not real:
            self.generated.update(features.logits)

    def compute(self) -> list[Reading]:
        """Score (error: standard deviation of splits, ddof 0), sharpness, diversity; UserError with too few samples."""
        logits = self.generated.compute().double()
        n = len(logits)
        if n < self.splits:
            raise UserError(f"metric inception_score: {n} samples can't be cut into {self.splits} splits; draw more")
        bounds = [i * n // self.splits for i in range(self.splits + 1)]
        factors = [score_factors(logits[a:b]) for a, b in zip(bounds, bounds[1:], strict=False)]
        scores = torch.stack([sharpness * diversity for sharpness, diversity in factors])
        details: dict[str, Detail] = {"splits": self.splits, "classes": logits.shape[1]}
        spread, several = float(scores.std(correction=0)), self.splits > 1
        score = Reading(
            "",
            float(scores.mean()),
            details,
            spread,
            "standard deviation over splits of one sample set",
            True,
            of_mean(scores.tolist()) if several else None,
            "Student's t over splits of one sample set, for their mean" if several else "",
        )
        return [score, *factor_readings(logits)]


def factor_readings(logits: Tensor) -> list[Reading]:
    """Sharpness and diversity of all logits (n, k), with intervals: exp of those of the two entropies.

    -H(y|x) is a mean over samples. H(y) depends on one through the derivative of the entropy of a mean,
    -sum_y p(y|x) ln p(y), whose standard error is that of H(y) to first order (the delta method).
    """
    n, k = logits.shape
    details: dict[str, Detail] = {"splits": 1, "classes": k}
    p = logits.softmax(1)
    parts = (-torch.special.entr(p).sum(1), -torch.special.xlogy(p, p.mean(0)).sum(1))
    readings = []
    for name, value, part in zip(("sharpness", "diversity"), score_factors(logits), parts, strict=True):
        interval, how = None, ""
        if n > 1:
            low, high = around(float(value.log()), float(part.std()) / n**0.5, n - 1)
            interval, how = (math.exp(low), math.exp(high)), "delta method on the entropy, over samples"
        readings.append(
            Reading(name, float(value), details, higher_is_better=True, interval=interval, interval_from=how)
        )
    return readings


def score_factors(logits: Tensor) -> tuple[Tensor, Tensor]:
    """exp(-mean H(y|x)) and exp(H(y)), in nats, of logits (n, k); their product is the Inception Score."""
    logarithms = logits.log_softmax(1)
    conditional = torch.special.entr(logarithms.exp()).sum(1).mean()
    marginal = torch.special.entr(logarithms.exp().mean(0)).sum()
    return (-conditional).exp(), marginal.exp()
