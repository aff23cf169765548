"""Improved precision and recall: each side's samples inside the other's balls (Kynkäänniemi et al. 2019)."""

from __future__ import annotations

from typing import final

from torch import Tensor

from gan_experiments.errors import UserError
from gan_experiments.metrics import intervals
from gan_experiments.metrics.base import Detail, Reading
from gan_experiments.metrics.neighbours import ball_counts, squared_radii
from gan_experiments.metrics.vectors import RowsMetric


@final
class ImprovedPrecisionRecall(RowsMetric):
    """Precision, the share of generated samples inside a real ball, and recall, the converse; 0 to 1, higher is better.

    A sample's ball reaches to its k-th neighbour of its own side, the surface included (`<=`). Source: Kynkäänniemi et
    al. 2019, eq. 1-2. Precision alone rewards collapse; one outlier makes a large ball; two samples of one distribution
    are well below 1; only numbers of equal k, features and sample counts compare.
    """

    name = "precision_recall"

    def __init__(self, k: int = 3) -> None:
        """Balls to the k-th neighbour; UserError unless k >= 1."""
        if k < 1:
            raise UserError(f"metric precision_recall: k={k}; expected at least 1")
        super().__init__()
        self.k = k

    def compute(self) -> list[Reading]:
        """Both shares; UserError when a side has no k neighbours."""
        real, generated = self.real.compute(), self.generated.compute()
        real_radii = self.from_reals(lambda rows: squared_radii("precision_recall", rows, self.k))
        generated_radii = squared_radii("precision_recall", generated, self.k)
        in_real, _ = ball_counts(generated, real, real_radii)
        in_generated, _ = ball_counts(real, generated, generated_radii)
        details: dict[str, Detail] = {"k": self.k, "surface": "inside"}
        return [
            share_inside("precision", in_real, details, "score interval over generated samples, real balls held fixed"),
            share_inside("recall", in_generated, details, "score interval over reals, generated balls held fixed"),
        ]


def share_inside(name: str, balls: Tensor, details: dict[str, Detail], how: str) -> Reading:
    """The share of samples that are in at least one of the balls counted for each, (n,)."""
    hits, n = int(balls.count_nonzero()), len(balls)
    interval = intervals.of_share(hits, n)
    return Reading(name, hits / n, details, higher_is_better=True, interval=interval, interval_from=how)
