"""The share of conditional samples in which a classifier finds the class that was asked for."""

from __future__ import annotations

from typing import final

import torch
from torch import Tensor

from gan_experiments.data.base import Dataset
from gan_experiments.errors import UserError
from gan_experiments.metrics.base import Accumulator, Detail, QualityMetric, Reading, known, require_classes
from gan_experiments.metrics.extractors import Extractor, Features
from gan_experiments.metrics.intervals import of_share


@final
class Confusion(Accumulator):
    """How many samples of each class asked for (rows) the classifier puts into each class (columns)."""

    compact = True
    counts: Tensor

    def __init__(self) -> None:
        """No samples yet."""
        super().__init__()
        # A zero without dimensions takes on the shape of the classes in the first addition.
        self.add_state("counts", default=torch.zeros((), dtype=torch.int64), dist_reduce_fx="sum")

    def update(self, logits: Tensor, labels: Tensor) -> None:
        """Count logits (n, k) whose samples were asked to be of the classes `labels` (n,)."""
        k = logits.shape[1]
        pairs = labels.to(self.device) * k + logits.argmax(1).to(self.device)
        self.counts = self.counts + torch.bincount(pairs, minlength=k * k).view(k, k)

    def compute(self) -> Tensor:
        """The counts (k, k)."""
        return self.counts


@final
class ClassAccuracy(QualityMetric[Confusion]):
    """The share of samples that the classifier puts into the class asked for (AC-GAN, Odena et al. 2017), 0 to 1.

    Higher is better, up to the floor's: the accuracy on held-out samples. `per_class` in the details holds the shares
    of the classes numbered in `classes`. Weakness: one clear image a class is enough for a perfect score, and samples
    clearer than the reals score above them.
    """

    needs_reals = False
    needs_labels = True

    def __init__(self) -> None:
        """A metric without settings."""
        super().__init__(Confusion(), Confusion())

    def bind(self, dataset: Dataset, extractor: Extractor | None) -> None:
        """UserError unless the extractor classifies the data's classes."""
        require_classes("class_accuracy", dataset, extractor)

    def update(self, features: Features, real: bool) -> None:
        """Take logits (n, k) and labels (n,) of generated samples; reals play no part."""
        logits = known(features.logits, "class_accuracy", "class logits")
        labels = known(features.labels, "class_accuracy", "the classes that were asked for")
        if not real:
            self.generated.update(logits, labels)

    def compute(self) -> list[Reading]:
        """The share, with those of the classes in the details; UserError without samples."""
        counts = self.generated.compute().cpu()
        n = int(counts.sum())
        if n < 1:
            raise UserError("metric class_accuracy needs samples, got none")
        counts = counts.reshape(round(counts.numel() ** 0.5), -1)
        hits, asked = counts.diagonal(), counts.sum(1)
        there = asked > 0
        right = int(hits.sum())
        details: dict[str, Detail] = {
            "per_class": (hits[there].double() / asked[there]).tolist(),
            "classes": there.nonzero().flatten().double().tolist(),
        }
        return [
            Reading(
                "",
                right / n,
                details,
                higher_is_better=True,
                interval=of_share(right, n),
                interval_from="Wilson's score interval",
            )
        ]
