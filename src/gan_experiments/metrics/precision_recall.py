"""Improved precision and recall: each side's samples inside the other's balls (Kynkäänniemi et al. 2019)."""

from __future__ import annotations

from typing import final

from torch import Tensor

from gan_experiments.data.base import Dataset
from gan_experiments.errors import UserError
from gan_experiments.metrics import intervals
from gan_experiments.metrics.base import Detail, QualityMetric, Reading, Rows, require_vectors
from gan_experiments.metrics.extractors import Extractor, Features
from gan_experiments.metrics.neighbours import ball_counts, squared_radii


@final
class ImprovedPrecisionRecall(QualityMetric[Rows]):
    """Precision, the share of generated samples inside a real ball, and recall, the converse; 0 to 1, higher is better.

    A sample's ball reaches to its k-th neighbour of its own side, the surface included (`<=`). Source: Kynkäänniemi et
    al. 2019, eq. 1-2. Precision alone rewards collapse; one outlier makes a large ball; two samples of one distribution
    are well below 1; only numbers of equal k, features and sample counts compare.
    """

    def __init__(self, k: int = 3) -> None:
        """Balls to the k-th neighbour; UserError unless k >= 1."""
        if k < 1:
            raise UserError(f"metric precision_recall: k={k}; expected at least 1")
        super().__init__(Rows(), Rows())
        self.k = k
        self._real_radii: Tensor | None = None

    def bind(self, dataset: Dataset, extractor: Extractor | None) -> None:
        """UserError when images come without an extractor."""
        require_vectors("precision_recall", dataset, extractor)

    def update(self, features: Features, real: bool) -> None:
        """Take features (n, d)."""
        (self.real if real else self.generated).update(features.features)
        if real:
            self._real_radii = None

    def compute(self) -> list[Reading]:
        """Both shares; UserError when a side has no k neighbours."""
        real, generated = self.real.compute(), self.generated.compute()
        if self._real_radii is None:
            self._real_radii = squared_radii("precision_recall", real, self.k)
        generated_radii = squared_radii("precision_recall", generated, self.k)
        in_real, _ = ball_counts(generated, real, self._real_radii)
        in_generated, _ = ball_counts(real, generated, generated_radii)
        details: dict[str, Detail] = {"k": self.k, "surface": "inside"}
        return [
            share_inside("precision", in_real, details, "score interval over generated samples, real balls held fixed"),
            share_inside("recall", in_generated, details, "score interval over reals, generated balls held fixed"),
        ]

    def reset(self) -> None:
        """Drop all sides."""
        super().reset()
        self._real_radii = None


def share_inside(name: str, balls: Tensor, details: dict[str, Detail], how: str) -> Reading:
    """The share of samples that are in at least one of the balls counted for each, (n,)."""
    hits, n = int(balls.count_nonzero()), len(balls)
    interval = intervals.of_share(hits, n)
    return Reading(name, hits / n, details, higher_is_better=True, interval=interval, interval_from=how)
