"""The Vendi score: the effective number of different samples (Friedman and Dieng 2023)."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import ClassVar, final

import torch
from torch import Tensor

from gan_experiments.data.base import Dataset
from gan_experiments.logging.score_counts import LOWER
from gan_experiments.metrics.base import Detail, QualityMetric, Reading, Rows, require_vectors
from gan_experiments.metrics.extractors import Extractor, Features
from gan_experiments.metrics.intervals import around

ROWS = 8192
"""Rows turned into float64 at a time."""


@final
class VendiScore(QualityMetric[Rows]):
    """exp(-sum l log l) over the eigenvalues l of K/n, K the cosines between features; 1 to n, more diverse is higher.

    Exact: of K/n and of the features' matrix of second moments, which have the same eigenvalues but for zeros, the
    smaller is used. Source: Friedman and Dieng 2023. It knows no reals: noise is diverse too, so it is to be read
    beside its floor. It grows with the number of samples, and cosines of features that are never negative are close to
    1 and keep it small. Samples whose features are all 0 count as one kind of their own.
    """

    needs_reals = False
    fewer_samples: ClassVar[Mapping[str, str]] = {"": LOWER}

    def __init__(self) -> None:
        """A score without settings."""
        super().__init__(Rows(), Rows())

    def bind(self, dataset: Dataset, extractor: Extractor | None) -> None:
        """UserError when images come without an extractor."""
        require_vectors("vendi", dataset, extractor)

    def update(self, features: Features, real: bool) -> None:
        """Take features (n, d) of generated samples; reals play no part."""
        if not real:
            self.generated.update(features.features)

    def compute(self) -> list[Reading]:
        """The score."""
        rows = self.generated.compute()
        n, d = len(rows), rows.shape[1] + 1
        details: dict[str, Detail] = {"kernel": "cosine", "samples": n}
        if n <= d:
            units = unit_rows(rows)
            value = math.exp(entropy(torch.linalg.eigvalsh(units @ units.T / n)))
            return [Reading("", value, details | {"no_interval": "needs more samples than features"}, None, "", True)]
        moment = torch.zeros(d, d, dtype=torch.float64, device=rows.device)
        for part in torch.split(rows, ROWS):
            units = unit_rows(part)
            moment.addmm_(units.T, units, alpha=1 / n)
        values, vectors = torch.linalg.eigh(moment)
        nats = entropy(values)
        error = math.exp(nats) * surprise_error(rows, values, vectors)
        how = "first order in the samples' weights"
        low, high = (math.exp(end) for end in around(nats, error / math.exp(nats)))
        return [Reading("", math.exp(nats), details, error, how, True, (low, high), f"normal for the logarithm, {how}")]


def unit_rows(rows: Tensor) -> Tensor:
    """Rows (n, d) of length 1 in float64, (n, d + 1); the last column is 1 for rows of zeros and 0 for others."""
    x = rows.double()
    length = x.norm(dim=1, keepdim=True)
    zero = length == 0
    return torch.cat([x / length.where(~zero, torch.ones_like(length)), zero.double()], dim=1)


def entropy(values: Tensor) -> float:
    """-sum l log l in nats, of eigenvalues l (k,) that add up to 1; rounding below 0 counts as 0."""
    return float(torch.special.entr(values.clamp(min=0)).sum())


def surprise_error(rows: Tensor, values: Tensor, vectors: Tensor) -> float:
    """The standard error of the entropy -tr(M log M) from the sampling of rows (n, d).

    M is the mean of x x^T, so to first order each row weighs in by -x^T (log M) x.
    """
    keep = values > values[-1] * len(values) * torch.finfo(values.dtype).eps
    logarithm = (vectors[:, keep] * values[keep].log()) @ vectors[:, keep].T
    surprises = [-((units @ logarithm) * units).sum(1) for units in map(unit_rows, torch.split(rows, ROWS))]
    return float(torch.cat(surprises).std()) / math.sqrt(len(rows))
