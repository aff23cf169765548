"""Density and coverage: generated samples counted in the balls of real ones (Naeem et al. 2020)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, final

from gan_experiments.errors import UserError
from gan_experiments.logging.score_counts import LOWER
from gan_experiments.metrics import intervals
from gan_experiments.metrics.base import Detail, Reading
from gan_experiments.metrics.neighbours import ball_counts, squared_radii
from gan_experiments.metrics.vectors import RowsMetric


@final
class DensityCoverage(RowsMetric):
    """Density, real balls per generated sample over k, and coverage, the share of real balls with a generated sample.

    A real's ball reaches to its k-th real neighbour; its surface is inside (`<=`), so that identical samples score
    above 0, while the authors' code has `<`. Equal distributions: density 1 on average (unbounded above), coverage as
    in `expected_coverage` (1 at most); higher is better. Source: Naeem et al. 2020. Density alone rewards
    collapse: samples in one dense spot are in many balls. Coverage grows with the number of generated samples.
    """

    name = "density_coverage"
    fewer_samples: ClassVar[Mapping[str, str]] = {"coverage": LOWER}

    def __init__(self, k: int = 5) -> None:
        """Balls to the k-th neighbour; UserError unless k >= 1."""
        if k < 1:
            raise UserError(f"metric density_coverage: k={k}; expected at least 1")
        super().__init__()
        self.k = k

    def compute(self) -> list[Reading]:
        """Both numbers; UserError when reals have no k neighbours, or with fewer than 2 generated samples."""
        real, generated = self.real.compute(), self.generated.compute()
        m, n = len(real), len(generated)
        if n < 2:
            raise UserError(f"metric density_coverage needs at least 2 generated samples, got {n}")
        real_radii = self.from_reals(lambda rows: squared_radii("density_coverage", rows, self.k))
        balls, samples = ball_counts(generated, real, real_radii)
        details: dict[str, Detail] = {"k": self.k, "surface": "inside"}
        covered = int(samples.count_nonzero())
        return [
            Reading(
                "density",
                int(balls.sum()) / (self.k * n),
                {**details, "under_equality": 1.0},
                higher_is_better=True,
                interval=intervals.of_mean((balls / self.k).tolist()),
                interval_from="Student's t over generated samples, real balls held fixed",
            ),
            Reading(
                "coverage",
                covered / m,
                {**details, "under_equality": expected_coverage(m, n, self.k)},
                higher_is_better=True,
                interval=intervals.of_share(covered, m),
                interval_from="score interval over reals, generated samples held fixed",
            ),
        ]


def expected_coverage(m: int, n: int, k: int) -> float:
    """The expected coverage of m reals by n samples of the same distribution, given as exact by Naeem et al. 2020:

    1 - (m-1) ... (m-k) / ((m+n-1) ... (m+n-k)), near 1 - 2^-k for n = m.
    """
    missed = 1.0
    for i in range(k):
        missed *= (m - 1 - i) / (m + n - 1 - i)
    return 1 - missed
