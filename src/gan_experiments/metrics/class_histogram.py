"""How often a classifier finds each class among generated samples, compared with the training samples."""

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
from gan_experiments.metrics.base import Accumulator, Detail, QualityMetric, Reading, known, require_classes
from gan_experiments.metrics.extractors import Extractor, Features
from gan_experiments.metrics.modes import FEWEST, bootstrapped, divergence, resamples


@final
class ClassCounts(Accumulator):
    """How many samples the classifier puts into each class."""

    compact = True
    counts: Tensor

    def __init__(self) -> None:
        """No samples yet."""
        super().__init__()
        # A zero without dimensions takes on the logits' width in the first addition.
        self.add_state("counts", default=torch.zeros((), dtype=torch.int64), dist_reduce_fx="sum")

    def update(self, logits: Tensor) -> None:
        """Count the most probable classes of logits (n, k)."""
        self.counts = self.counts + torch.bincount(logits.argmax(1).to(self.device), minlength=logits.shape[1])

    def compute(self) -> Tensor:
        """Samples in each class (k,)."""
        return self.counts


@final
class ClassHistogram(QualityMetric[ClassCounts]):
    """Balance of the classes that a classifier finds: `class_kl`, `class_entropy` and `classes_missing`.

    `class_kl` = KL(generated || training) in nats of the predicted classes, 0 or more, smaller is better. Perfect
    samples are at about (k - 1)/2 (1/n + 1/m), of n generated and m training ones, which the details give.
    `class_entropy` of the generated ones is at most ln k, and should be that of the training samples (in the details).
    `classes_missing` counts classes with less than `least_share` of their share among the training samples.
    Weakness: errors of the classifier fill the place of a missing class, so that `least_share` can't be near 0; and
    nothing inside a class is seen, such as one image a class.
    """

    fewer_samples: ClassVar[Mapping[str, str]] = {"class_kl": HIGHER, "class_entropy": LOWER}

    def __init__(self, least_share: float = 0.3, seed: int = 0) -> None:
        """A metric that misses classes below `least_share` of their share; UserError unless that is in (0, 1]."""
        if not 0 < least_share <= 1:
            raise UserError(f"metric class_histogram: least_share={least_share}; expected above 0, at most 1")
        super().__init__(ClassCounts(), ClassCounts())
        self.least_share = least_share
        self.seed = seed

    def bind(self, dataset: Dataset, extractor: Extractor | None) -> None:
        """UserError unless the extractor classifies the data's classes."""
        require_classes("class_histogram", dataset, extractor)

    def update(self, features: Features, real: bool) -> None:
        """Take logits (n, k)."""
        logits = known(features.logits, "class_histogram", "class logits")
        (self.real if real else self.generated).update(logits)

    def compute(self) -> list[Reading]:
        """The three readings; UserError when a side has no samples."""
        real, generated = (side.compute().reshape(-1).double().cpu() for side in (self.real, self.generated))
        m, n = int(real.sum()), int(generated.sum())
        if min(m, n) < 1:
            raise UserError(f"metric class_histogram needs samples on both sides, got {m} training, {n} generated")
        generator = seeding.generator(self.seed, "class_histogram")
        generated_draws, real_draws = resamples(generated, generator), resamples(real, generator)
        enough = min(m, n) >= FEWEST * len(real)
        details: dict[str, Detail] = {
            "histogram": (generated / n).tolist(),
            "training_histogram": (real / m).tolist(),
            "kl_of_perfect_samples": (int((real > 0).sum()) - 1) / 2 * (1 / n + 1 / m),
        }
        missing = float((generated * m < self.least_share * n * real).sum())
        most = math.log(len(real))
        return [
            bootstrapped(
                Reading("class_kl", float(kl(generated, real)), details),
                kl(generated_draws, real_draws) if enough else None,
                (0.0, math.inf),
            ),
            bootstrapped(
                Reading(
                    "class_entropy",
                    float(entropy(generated)),
                    {"training_entropy": float(entropy(real)), "most": most},
                    higher_is_better=True,
                ),
                entropy(generated_draws) if enough else None,
                (0.0, most),
            ),
            Reading("classes_missing", missing, {"least_share": self.least_share, "classes": len(real)}),
        ]


def kl(counts: Tensor, expected: Tensor) -> Tensor:
    """KL in nats of the shares of `counts` (..., k) from those of `expected` (..., k).

    A class that isn't among the expected ones counts there as half a sample, since the divergence would be infinite.
    """
    q = expected.double().clamp(min=0.5)
    return divergence(counts, q / q.sum(-1, keepdim=True))


def entropy(counts: Tensor) -> Tensor:
    """Entropy in nats of the shares of counts (..., k)."""
    nats: Tensor = torch.special.entr(counts.double() / counts.sum(-1, keepdim=True)).sum(-1)
    return nats
