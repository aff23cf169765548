"""The Fréchet distance between Gaussians fitted to real and generated features (FID, Heusel et al. 2017)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, NamedTuple, final

import torch
from torch import Tensor

from gan_experiments.errors import UserError
from gan_experiments.logging.score_counts import HIGHER
from gan_experiments.metrics.base import Detail, Reading
from gan_experiments.metrics.extractors import Features
from gan_experiments.metrics.intervals import jackknife
from gan_experiments.metrics.moments import TILE, Gaussian, Moments
from gan_experiments.metrics.vectors import VectorMetric

CHOLESKY, EIGENVECTORS = "Cholesky factor", "eigenvectors"
"""How a covariance is factorised; the second where it is singular."""

LIVE = 1e-24
"""Least variance, relative to the greatest, of a feature that isn't constant up to rounding."""


@final
class FrechetDistance(VectorMetric[Moments]):
    """|mean1 - mean2|^2 + tr(C1 + C2 - 2 (C1 C2)^(1/2)) of features; 0 or more, smaller is better.

    In float64, and slightly negative values are kept; `ddof` is 1 in most implementations, 0 in NVIDIA's. From
    `float32_from` features on, the products of float32 features are in float32, which costs about 1e-8 of the
    distance. Its bias is about inversely proportional to the number of samples and differs between models: only
    numbers of equal sample counts compare. The interval, a jackknife over `blocks` random blocks of generated samples
    (none with 0; a sample's block follows from what it holds, wherever it is listed), is around that biased value: it
    says what other samples of the same generator would give, reals held fixed.
    """

    name = "fid"
    fewer_samples: ClassVar[Mapping[str, str]] = {"": HIGHER}

    def __init__(self, ddof: int = 1, blocks: int = 10, float32_from: int = 1024) -> None:
        """A distance whose covariances divide by n - ddof; UserError for impossible numbers."""
        if ddof not in (0, 1) or blocks < 0 or blocks == 1 or float32_from < 1:
            raise UserError(
                f"metric fid: ddof={ddof}, blocks={blocks}, float32_from={float32_from}; expected 0 or 1, "
                "0 or at least 2, and at least 1"
            )
        super().__init__(Moments(ddof, 1, float32_from), Moments(ddof, max(1, blocks), float32_from))
        self.ddof, self.blocks = ddof, blocks
        self._known: tuple[Tensor, Gaussian] | None = None

    def update(self, features: Features, real: bool) -> None:
        """Take features (n, d); samples, where they are given, say into which block each row belongs."""
        if real:
            self.real.update(features.features)
        else:
            self.generated.update(features.features, features.samples)

    def compute(self) -> list[Reading]:
        """The distance; UserError when a side has fewer than two samples."""
        real, generated = self.fitted(), self.generated.gaussian()
        jackknifed = self.blocks > 0 and generated.size >= 2 * self.blocks
        short = real.rows is not None or generated.rows is not None
        spectrum = Spectrum.of(real.covariance, generated.covariance, vectors=jackknifed)
        root = short_root_trace(real, generated) if short else spectrum.root_trace()
        value = float(assemble(real.mean, real.covariance, generated.mean, generated.covariance, root))
        how = "nuclear norm" if short else spectrum.how
        details: dict[str, Detail] = {"ddof": self.ddof, "num_features": len(real.mean), "root": how}
        if not jackknifed:
            needed = f"needs at least {2 * self.blocks} samples" if self.blocks else "blocks=0"
            return [Reading("", value, details | {"no_interval": needed})]
        without = without_blocks(value, real.mean, generated, spectrum, self.ddof)
        error, interval = jackknife(value, without, generated.parts.sizes.tolist())
        how = f"linearised jackknife over {self.blocks} blocks of generated samples, reals held fixed"
        around = f"Student's t, {how}; the bias of few samples is not in it"
        return [Reading("", value, details, error, how, interval=interval, interval_from=around)]

    def fitted(self) -> Gaussian:
        """The real side, computed anew only when reals were added."""
        if self._known is None or self._known[0] is not self.real.count:
            real = self.real.gaussian()
            # Taken after computing, because gathering ranks replaces the states.
            self._known = (self.real.count, real)
        return self._known[1]

    def reset(self) -> None:
        """Drop all sides."""
        super().reset()
        self._known = None


class Spectrum(NamedTuple):
    """Eigenvalues l (k,) of F^T C2 F, F F^T = C1: those of C1 C2, of the k features that vary on both sides.

    `vectors` (d, k) are F V, V the eigenvectors, if asked for; `how` says what F is.
    """

    values: Tensor
    vectors: Tensor | None
    how: str

    @classmethod
    def of(cls, covariance1: Tensor, covariance2: Tensor, *, vectors: bool = False) -> Spectrum:
        """From C1 (d, d) and C2 (d, d)."""
        # Constant features add nothing to the trace but would add the root of their rounding.
        live = varying(covariance1) & varying(covariance2)
        if not bool(live.all()):
            covariance1, covariance2 = covariance1[live][:, live], covariance2[live][:, live]
        factor, how = factorise(covariance1)
        product = congruence(factor, covariance2, lower=how == CHOLESKY)
        # Apart from the vectors, because the algorithm for values alone is more precise about small ones.
        values = torch.linalg.eigvalsh(product)
        if not vectors:
            return cls(values, None, how)
        whole = factor.new_zeros(len(live), len(values))
        whole[live] = factor @ torch.linalg.eigh(product).eigenvectors
        return cls(values, whole, how)

    def root_trace(self) -> Tensor:
        """The trace of (C1 C2)^(1/2); eigenvalues that rounding made negative count as 0."""
        trace: Tensor = self.values.clamp(min=0).sqrt().sum()
        return trace

    def transport(self) -> Tensor:
        """T = F (F^T C2 F)^(-1/2) F^T (d, d): T x maps N(0, C2) to N(0, C1) (Olkin and Pukelsheim 1982).

        It is twice the gradient of tr (C1 C2)^(1/2) in C2. Directions in which C2 is singular are left out.
        """
        assert self.vectors is not None
        least = len(self.values) * torch.finfo(self.values.dtype).eps
        keep = self.values > least * self.values[-1:]  # ascending
        half = self.vectors[:, keep] * self.values[keep] ** -0.25
        return half @ half.T


def without_blocks(value: float, mean: Tensor, generated: Gaussian, spectrum: Spectrum, ddof: int) -> list[float]:
    """The distance from a Gaussian of that mean without each block of generated samples, to first order.

    The means' part is exact; tr(C2) - 2 tr (C1 C2)^(1/2) changes by tr((I - T) dC2).
    """
    weight = -spectrum.transport()
    weight.diagonal().add_(1)
    parts, n = generated.parts, generated.size
    kept = n - parts.sizes
    # Around the mean, whose products then drop out.
    steps = -(parts.totals() - parts.sizes[:, None] * generated.mean) / kept[:, None]
    traces = parts.traces(weight, generated.mean)
    spread = (traces.sum() - traces - kept * ((steps @ weight) * steps).sum(1)) / (kept - ddof)
    change = spread - traces.sum() / (n - ddof)
    change += (mean - generated.mean - steps).square().sum(1) - (mean - generated.mean).square().sum()
    values: list[float] = (value + change).tolist()
    return values


def frechet_distance(mean1: Tensor, covariance1: Tensor, mean2: Tensor, covariance2: Tensor) -> float:
    """Squared distance of N(mean1, covariance1) and N(mean2, covariance2) (Dowson and Landau 1982), in float64."""
    mean1, covariance1, mean2, covariance2 = (part.double() for part in (mean1, covariance1, mean2, covariance2))
    root = Spectrum.of(covariance1, covariance2).root_trace()
    return float(assemble(mean1, covariance1, mean2, covariance2, root))


def assemble(mean1: Tensor, covariance1: Tensor, mean2: Tensor, covariance2: Tensor, root: Tensor) -> Tensor:
    """The distance from its parts, `root` being the trace of (C1 C2)^(1/2)."""
    distance: Tensor = (mean1 - mean2).square().sum() + covariance1.trace() + covariance2.trace() - 2 * root
    return distance


def varying(covariance: Tensor) -> Tensor:
    """Which features (d,) of a covariance (d, d) have any variance."""
    variances = covariance.diagonal()
    return variances > LIVE * variances.max()


def factorise(covariance: Tensor) -> tuple[Tensor, str]:
    """F (d, d) with F F^T = C and its kind: Cholesky's, or, of a singular C, from eigenvectors (l < 0 count as 0)."""
    lower, failed = torch.linalg.cholesky_ex(covariance)
    if not bool(failed):
        return lower, CHOLESKY
    values, vectors = torch.linalg.eigh(covariance)
    return vectors * values.clamp(min=0).sqrt(), EIGENVECTORS


def congruence(factor: Tensor, covariance: Tensor, *, lower: bool) -> Tensor:
    """F^T C F (d, d), of which only the part on and below the diagonal is right: eigenvalue solvers read no more.

    With F `lower` triangular, the products with its zeros are left out: half of the first, two thirds of the second.
    """
    d = len(factor)
    right, product = torch.empty_like(covariance), torch.zeros_like(covariance)
    starts = range(0, d, TILE)
    for start in starts:
        stop, above = start + TILE, start if lower else 0
        right[:, start:stop] = covariance[:, above:] @ factor[above:, start:stop]
    for start in starts:
        stop, above = start + TILE, start if lower else 0
        product[start:stop, :stop] = factor[above:, start:stop].T @ right[above:, :stop]
    return product


def short_root_trace(first: Gaussian, second: Gaussian) -> Tensor:
    """The trace of (C1 C2)^(1/2) as the nuclear norm of A B^T with A^T A = C1 and B^T B = C2.

    Exact with fewer samples than features, where eigenvalues that should be 0 cost their roots half their digits.
    """
    a, b = (factorise(side.covariance)[0].T if side.rows is None else side.rows for side in (first, second))
    norm: Tensor = torch.linalg.svdvals(a @ b.T).sum()
    return norm
