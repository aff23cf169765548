"""Precision-recall curves of distributions over clusters of features (PRD, Sajjadi et al. 2018)."""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping
from functools import partial
from typing import ClassVar, final

import torch
from torch import Tensor

from gan_experiments import seeding
from gan_experiments.errors import UserError
from gan_experiments.logging.score_counts import LOWER
from gan_experiments.metrics.base import Detail, Reading, Rows
from gan_experiments.metrics.intervals import around, bootstrap
from gan_experiments.metrics.needs import require_package
from gan_experiments.metrics.vectors import VectorMetric

BETA = 8.0
"""F_8 weighs recall 8 times as much as precision, F_1/8 the other way round (Sajjadi et al. 2018)."""

ANGLE_MARGIN = 1e-10
"""How far the first angle is from 0 and the last from pi/2, where the slope is 0 or infinite."""

RESAMPLES = 200
"""Resamples of the bootstrap."""


@final
class PrecisionRecallDistributions(VectorMetric[Rows]):
    """`prd_recall` = F_8 and `prd_precision` = F_1/8 of the mean curve over `repeats` clusterings; 0 to 1, 1 is best.

    k-means puts the union of equally many real and generated features into `clusters`; the two histograms give, for
    each of `angles` ratios of recall to precision, the greatest pair (Sajjadi et al. 2018). The larger side is
    thinned out at random. Weakness: blind to everything inside a cluster, and k-means depends on its start.
    """

    name = "prd"
    fewer_samples: ClassVar[Mapping[str, str]] = {"prd_recall": LOWER, "prd_precision": LOWER}

    def __init__(self, clusters: int = 20, angles: int = 1001, repeats: int = 10, seed: int = 0) -> None:
        """A curve over that many clusters; UserError unless clusters >= 2, angles >= 3 and repeats >= 1."""
        if clusters < 2 or angles < 3 or repeats < 1:
            raise UserError(
                f"metric prd: clusters={clusters}, angles={angles}, repeats={repeats}; expected at least 2, 3 and 1"
            )
        require_package("metric prd", "sklearn", "scikit-learn", "evaluation")
        super().__init__(Rows(), Rows())
        self.clusters, self.angles, self.repeats, self.seed = clusters, angles, repeats, seed

    def compute(self) -> list[Reading]:
        """Recall and precision; UserError with fewer samples a side than clusters."""
        real, generated = self.real.compute(), self.generated.compute()
        count = min(len(real), len(generated))
        if count < self.clusters:
            raise UserError(f"metric prd: {count} samples a side can't fill {self.clusters} clusters; draw more")
        union = torch.cat([self.thin_out(side, name, count) for name, side in (("real", real), ("fake", generated))])
        labels = self.cluster(union)
        side = torch.arange(2 * count)[:, None] // count
        rows = torch.cat([side, labels], dim=1)
        details: dict[str, Detail] = {
            "clusters": self.clusters,
            "angles": self.angles,
            "repeats": self.repeats,
            "samples_a_side": count,
            "seed": self.seed,
        }
        return [
            self.read("prd_recall", rows, BETA, details),
            self.read("prd_precision", rows, 1 / BETA, details),
        ]

    def read(self, name: str, rows: Tensor, beta: float, details: dict[str, Detail]) -> Reading:
        """The best F_beta on the mean curve of rows (n, 1 + repeats): a sample's side (0: real) and its clusters."""
        score = partial(self.score, beta=beta)
        value = score(rows)
        sampling, _ = bootstrap(rows, score, self.seed, RESAMPLES)
        single = torch.tensor([score(rows[:, [0, 1 + i]]) for i in range(self.repeats)], dtype=torch.float64)
        clustering = float(single.var(correction=0)) / max(1, self.repeats - 1)
        error = math.sqrt(sampling**2 + clustering)
        how = f"bootstrap of samples ({RESAMPLES} draws), and the spread over repeats of the clustering"
        return Reading(name, value, details, error, how, True, around(value, error), f"normal, error from {how}")

    def score(self, rows: Tensor, beta: float) -> float:
        """The best F_beta on the mean curve of rows (n, 1 + r)."""
        r = rows.shape[1] - 1
        places = (rows[:, :1] * r + torch.arange(r)) * self.clusters + rows[:, 1:]
        counts = torch.bincount(places.flatten(), minlength=2 * r * self.clusters).view(2, r, self.clusters).double()
        real, generated = counts / counts.sum(2, keepdim=True)
        precision, recall = curve(real, generated, self.angles)
        return best_f(precision.mean(0), recall.mean(0), beta)

    def thin_out(self, rows: Tensor, name: str, count: int) -> Tensor:
        """`count` rows (n, d), picked at random where there are more."""
        order = torch.randperm(len(rows), generator=seeding.generator(self.seed, "prd", name))
        return rows if len(rows) == count else rows[order[:count].sort().values.to(rows.device)]

    def cluster(self, rows: Tensor) -> Tensor:
        """The cluster (n, repeats) of each row (n, d) in each repeat."""
        from sklearn.cluster import MiniBatchKMeans
        from sklearn.exceptions import ConvergenceWarning

        values = rows.float().cpu().numpy()
        labels = []
        for repeat in range(self.repeats):
            state = seeding.derive(self.seed, "prd", repeat) % 2**32
            with warnings.catch_warnings():
                # Fewer distinct rows than clusters leave some empty, which the curve can do with.
                warnings.simplefilter("ignore", ConvergenceWarning)
                fit = MiniBatchKMeans(self.clusters, n_init=10, random_state=state).fit(values)
            labels.append(torch.from_numpy(fit.labels_).long())
        return torch.stack(labels, dim=1)


def curve(real: Tensor, generated: Tensor, angles: int) -> tuple[Tensor, Tensor]:
    """Precision and recall (..., angles) of histograms P = real, Q = generated (..., k) (Sajjadi et al. 2018).

    alpha(lambda) = sum_i min(lambda P_i, Q_i) and beta(lambda) = alpha(lambda)/lambda, lambda = tan(angle).
    """
    angle = torch.linspace(ANGLE_MARGIN, math.pi / 2 - ANGLE_MARGIN, angles, dtype=torch.float64)
    slope = angle.tan()
    precision = torch.minimum(slope[:, None] * real[..., None, :], generated[..., None, :]).sum(-1)
    return precision, precision / slope


def best_f(precision: Tensor, recall: Tensor, beta: float) -> float:
    """The greatest F_beta = (1 + beta^2) p r / (beta^2 p + r) of pairs (n,); 0 where both are 0."""
    denominator = beta**2 * precision + recall
    values = (1 + beta**2) * precision * recall / denominator.where(denominator > 0, torch.ones_like(denominator))
    return float(values.max())
