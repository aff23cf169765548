"""The Fréchet distance between Gaussians fitted to real and generated features (FID, Heusel et al. 2017)."""

from __future__ import annotations

from typing import NamedTuple, final

import torch
from torch import Tensor

from gan_experiments.data.base import Dataset
from gan_experiments.errors import UserError
from gan_experiments.metrics.base import Accumulator, QualityMetric, Reading, require_vectors
from gan_experiments.metrics.extractors import Extractor, Features


class Gaussian(NamedTuple):
    """Mean (d,) and covariance (d, d) of n samples in float64, and their centred rows / sqrt(n - ddof) while n <= d."""

    size: int
    mean: Tensor
    covariance: Tensor
    rows: Tensor | None


@final
class Moments(Accumulator):
    """Count, sum and sum of outer products in float64; also the rows, as long as there are no more than features."""

    count: Tensor
    total: Tensor
    outer: Tensor
    rows: list[Tensor]

    def __init__(self, ddof: int) -> None:
        """No samples yet; covariances divide by n - ddof."""
        super().__init__()
        self.ddof = ddof
        self.add_state("count", default=torch.zeros((), dtype=torch.int64), dist_reduce_fx="sum")
        # Zeros without dimensions take on the features' shape in the first addition.
        self.add_state("total", default=torch.zeros((), dtype=torch.float64), dist_reduce_fx="sum")
        self.add_state("outer", default=torch.zeros((), dtype=torch.float64), dist_reduce_fx="sum")
        self.add_state("rows", default=[], dist_reduce_fx="cat")

    def update(self, features: Tensor) -> None:
        """Add features (n, d)."""
        x = features.to(self.device, torch.float64)
        self.count = self.count + len(x)
        self.total = self.total + x.sum(0)
        self.outer = self.outer + x.T @ x
        # An empty tensor remains, because ranks can gather only lists that aren't empty.
        self.rows.append(x)
        if int(self.count) > x.shape[1]:
            self.rows[:] = [x[:0]]

    def compute(self) -> Gaussian:
        """The fitted Gaussian; UserError with fewer than two samples."""
        n = int(self.count)
        if n < 2:
            raise UserError(f"the Fréchet distance needs at least 2 samples a side, got {n}")
        mean = self.total / n
        covariance = (self.outer - n * torch.outer(mean, mean)) / (n - self.ddof)
        rows = self.rows if isinstance(self.rows, Tensor) else torch.cat(self.rows)
        short = n <= len(mean) and len(rows) == n
        return Gaussian(n, mean, covariance, (rows - mean) / (n - self.ddof) ** 0.5 if short else None)

    def gaussian(self) -> Gaussian:
        """What `compute` gives, with the shapes that torchmetrics takes from tensors of one element."""
        fit: Gaussian = self.compute()
        d = fit.mean.numel()
        return fit._replace(mean=fit.mean.reshape(d), covariance=fit.covariance.reshape(d, d))


@final
class FrechetDistance(QualityMetric[Moments]):
    """|mean1 - mean2|^2 + tr(C1 + C2 - 2 (C1 C2)^(1/2)) of features, in float64; slightly negative values are kept.

    `ddof` is 1 in most implementations, 0 in NVIDIA's.
    """

    def __init__(self, ddof: int = 1) -> None:
        """A distance whose covariances divide by n - ddof."""
        super().__init__(Moments(ddof), Moments(ddof))
        self.ddof = ddof

    def bind(self, dataset: Dataset, extractor: Extractor | None) -> None:
        """UserError when images come without an extractor."""
        require_vectors("fid", dataset, extractor)

    def update(self, features: Features, real: bool) -> None:
        """Take features (n, d)."""
        (self.real if real else self.generated).update(features.features)

    def compute(self) -> list[Reading]:
        """The distance; UserError when a side has fewer than two samples."""
        real, generated = self.real.gaussian(), self.generated.gaussian()
        short = real.rows is not None or generated.rows is not None
        root = short_root_trace(real, generated) if short else root_trace(real.covariance, generated.covariance)
        value = float(assemble(real.mean, real.covariance, generated.mean, generated.covariance, root))
        how = "nuclear norm" if short else "symmetric eigenvalues"
        return [Reading("", value, {"ddof": self.ddof, "num_features": len(real.mean), "root": how})]


def frechet_distance(mean1: Tensor, covariance1: Tensor, mean2: Tensor, covariance2: Tensor) -> float:
    """Squared distance of N(mean1, covariance1) and N(mean2, covariance2) (Dowson and Landau 1982), in float64."""
    mean1, covariance1, mean2, covariance2 = (part.double() for part in (mean1, covariance1, mean2, covariance2))
    return float(assemble(mean1, covariance1, mean2, covariance2, root_trace(covariance1, covariance2)))


def assemble(mean1: Tensor, covariance1: Tensor, mean2: Tensor, covariance2: Tensor, root: Tensor) -> Tensor:
    """The distance from its parts, `root` being the trace of (C1 C2)^(1/2)."""
    distance: Tensor = (mean1 - mean2).square().sum() + covariance1.trace() + covariance2.trace() - 2 * root
    return distance


def root_trace(covariance1: Tensor, covariance2: Tensor) -> Tensor:
    """The trace of (C1 C2)^(1/2) as that of (S C2 S)^(1/2), S = C1^(1/2): symmetric, hence real."""
    root = symmetric_root(covariance1)
    product = root @ covariance2 @ root
    trace: Tensor = torch.linalg.eigvalsh((product + product.T) / 2).clamp(min=0).sqrt().sum()
    return trace


def short_root_trace(first: Gaussian, second: Gaussian) -> Tensor:
    """The trace of (C1 C2)^(1/2) as the nuclear norm of A B^T with A^T A = C1 and B^T B = C2.

    Exact with fewer samples than features, where eigenvalues that should be 0 cost the symmetric way half its digits.
    """
    first_root, second_root = (
        symmetric_root(side.covariance) if side.rows is None else side.rows for side in (first, second)
    )
    norm: Tensor = torch.linalg.svdvals(first_root @ second_root.T).sum()
    return norm


def symmetric_root(covariance: Tensor) -> Tensor:
    """The symmetric square root of a covariance (d, d); negative eigenvalues count as 0."""
    values, vectors = torch.linalg.eigh(covariance)
    root: Tensor = (vectors * values.clamp(min=0).sqrt()) @ vectors.T
    return root
