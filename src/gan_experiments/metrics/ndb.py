"""Bins of which generated and real samples fill different shares (NDB, Richardson and Weiss 2018)."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import ClassVar, Literal, final

import torch
from torch import Tensor

from gan_experiments import seeding
from gan_experiments.data.base import Dataset
from gan_experiments.errors import UserError
from gan_experiments.logging.score_counts import HIGHER
from gan_experiments.metrics.base import Detail, QualityMetric, Reading, Rows, known, require_images, require_vectors
from gan_experiments.metrics.extractors import Extractor, Features
from gan_experiments.metrics.intervals import NORMAL, around, bootstrap, of_share
from gan_experiments.metrics.needs import require_package

SIGNIFICANCE = 0.05
"""The level of each bin's test: the share of bins that differ by chance alone."""

PER_BIN = 10
"""Least training samples a bin."""

ROWS = 8192
"""Rows assigned to bins at a time."""


@final
class StatisticallyDifferentBins(QualityMetric[Rows]):
    """The share of `bins` k-means cells of training samples that are filled differently; 0 to 1, smaller is better.

    A two-proportion z-test with pooled standard error at the level of 5 % in each cell, so 0.05 is what equal
    distributions give; `ndb_js` is the Jensen-Shannon divergence of the two histograms in nats, 0 to log 2 (Richardson
    and Weiss 2018). `space` is what is clustered: features, or the pixels as in the paper. Weakness: with more samples
    ever smaller differences count, so only equal numbers compare; it is blind inside a cell.
    """

    fewer_samples: ClassVar[Mapping[str, str]] = {"ndb_js": HIGHER}

    def __init__(
        self, bins: int = 100, space: Literal["features", "pixels"] = "features", restarts: int = 1, seed: int = 0
    ) -> None:
        """Cells by the best of `restarts` runs of k-means; UserError for impossible settings."""
        if bins < 2 or restarts < 1 or space not in ("features", "pixels"):
            raise UserError(
                f"metric ndb: bins={bins}, space={space}, restarts={restarts}; expected at least 2, features or "
                "pixels, and at least 1"
            )
        require_package("metric ndb", "sklearn", "scikit-learn", "evaluation")
        super().__init__(Rows(), Rows())
        self.bins, self.space, self.restarts, self.seed = bins, space, restarts, seed
        self.reads_features = space == "features"
        self._cells: tuple[Tensor, Tensor] | None = None

    def bind(self, dataset: Dataset, extractor: Extractor | None) -> None:
        """UserError when there is nothing to cluster."""
        if self.reads_features:
            require_vectors("ndb", dataset, extractor)
        else:
            require_images("ndb with space=pixels", dataset)

    def expect(self, reals: int, samples: int, held_out: int) -> None:
        """UserError when too few training samples are looked at."""
        self.refuse_fewer(reals)

    def refuse_fewer(self, count: int) -> None:
        """UserError with fewer than ten training samples a bin."""
        if count < PER_BIN * self.bins:
            raise UserError(
                f"metric ndb: {self.bins} bins need at least {PER_BIN * self.bins} training samples, got {count}; "
                f"set metric.ndb.bins to {count // PER_BIN} or less"
            )

    def update(self, features: Features, real: bool) -> None:
        """Take features (n, d) or uint8 images (n, c, h, w)."""
        rows = features.features if self.reads_features else known(features.samples, "ndb", "images").flatten(1)
        (self.real if real else self.generated).update(rows)
        if real:
            self._cells = None

    def compute(self) -> list[Reading]:
        """Both numbers; UserError with too few training samples."""
        if self._cells is None:
            real = self.real.compute()
            self.refuse_fewer(len(real))
            centres = self.cluster(real)
            self._cells = centres, torch.bincount(nearest_centre(real, centres), minlength=self.bins).cpu()
        centres, expected = self._cells
        cells = nearest_centre(self.generated.compute(), centres).cpu()
        different = int(differ(expected, torch.bincount(cells, minlength=self.bins)).sum())
        details: dict[str, Detail] = {
            "bins": self.bins,
            "space": self.space,
            "expected": SIGNIFICANCE,
            "restarts": self.restarts,
            "seed": self.seed,
        }
        interval = of_share(different, self.bins)
        how = "score interval, bins as independent trials"
        return [
            Reading("", different / self.bins, details, interval=interval, interval_from=how),
            self.read_divergence(expected, cells, details),
        ]

    def read_divergence(self, expected: Tensor, cells: Tensor, details: dict[str, Detail]) -> Reading:
        """The divergence of the histogram of cells (n,) from the expected counts (k,)."""

        def divergence(rows: Tensor) -> float:
            return jensen_shannon(expected, torch.bincount(rows, minlength=self.bins))

        value = divergence(cells)
        error, _ = bootstrap(cells, divergence, self.seed, 200)
        how = "bootstrap of generated samples, bins held fixed"
        # Around the value, because resamples are further from the reals than the samples themselves.
        return Reading(
            "ndb_js", value, details, error, how, interval=around(value, error), interval_from=f"normal, {how}"
        )

    def cluster(self, rows: Tensor) -> Tensor:
        """The centres (k, d), float32, of k-means on rows (n, d)."""
        from sklearn.cluster import KMeans
        from sklearn.exceptions import ConvergenceWarning

        state = seeding.derive(self.seed, "ndb") % 2**32
        with warnings.catch_warnings():
            # Fewer distinct rows than bins leave some empty: these can't differ.
            warnings.simplefilter("ignore", ConvergenceWarning)
            fit = KMeans(self.bins, n_init=self.restarts, max_iter=100, random_state=state).fit(
                rows.float().cpu().numpy()
            )
        return torch.from_numpy(fit.cluster_centers_).float().to(rows.device)

    def reset(self) -> None:
        """Drop all sides."""
        super().reset()
        self._cells = None


def nearest_centre(rows: Tensor, centres: Tensor) -> Tensor:
    """The index (n,) of the centre (k, d) nearest to each of rows (n, d)."""
    origin = centres.double().mean(0)
    shifted = centres.double() - origin
    lengths = shifted.square().sum(1)
    places = [
        torch.addmm(lengths, part.double() - origin, shifted.T, alpha=-2).argmin(1) for part in torch.split(rows, ROWS)
    ]
    return torch.cat(places)


def differ(first: Tensor, second: Tensor) -> Tensor:
    """Whether (k,) the shares of two counts (k,) differ: |p1 - p2| > 1.96 sqrt(p (1 - p) (1/n1 + 1/n2)), p pooled."""
    n1, n2 = first.sum().double(), second.sum().double()
    pooled = (first + second) / (n1 + n2)
    error = (pooled * (1 - pooled) * (1 / n1 + 1 / n2)).sqrt()
    return (first / n1 - second / n2).abs() > NORMAL * error


def jensen_shannon(first: Tensor, second: Tensor) -> float:
    """KL(p || m)/2 + KL(q || m)/2 in nats, m = (p + q)/2, of two counts (k,)."""
    p, q = (counts.double() / counts.sum() for counts in (first, second))
    middle = (p + q) / 2
    return float(torch.special.entr(middle).sum() - (torch.special.entr(p).sum() + torch.special.entr(q).sum()) / 2)
