"""Data copying: are generated samples nearer to training samples than held-out ones are? (Meehan et al. 2020)"""

from __future__ import annotations

import math
from typing import NamedTuple, final

import torch
from torch import Tensor

from gan_experiments import seeding
from gan_experiments.errors import UserError
from gan_experiments.metrics.base import Detail, Reading, Rows
from gan_experiments.metrics.extractors import Features
from gan_experiments.metrics.intervals import around
from gan_experiments.metrics.needs import require_package
from gan_experiments.metrics.neighbours import blocks, nearest
from gan_experiments.metrics.vectors import RowsMetric


class Cells(NamedTuple):
    """A partition by nearest centres (cells, p) of rows x (n, d) after (x - mean) @ basis (d, p); the training rows."""

    mean: Tensor
    basis: Tensor
    centres: Tensor
    rows: Tensor
    labels: Tensor

    def project(self, rows: Tensor) -> Tensor:
        """Rows (n, d) on the basis: (n, p), float64."""
        return torch.cat([(part.double() - self.mean) @ self.basis for _, part in blocks(rows)])

    def locate(self, projected: Tensor) -> Tensor:
        """The cell (n,) of projected rows (n, p)."""
        return nearest(projected, self.centres).points[:, 0]


@final
class DataCopying(RowsMetric):
    """C_T: Mann-Whitney Z of distances to training samples, generated against held-out, averaged over cells.

    About 0 for samples of the data's own distribution, far below 0 for copies, far above 0 for samples farther from the
    data than real ones: neither direction is better. Where classes or modes are missing it speaks of copies that aren't
    there: those that are left are compared with all held-out samples of a cell, so that the value is far below 0 where
    they are the more regular ones (half the classes of clothes: -4 to -7), else above. Read it beside recall or
    coverage, which missing modes lower and copies don't, and beside authenticity, which copies lower and missing modes
    don't. Cells are k-means cells of the training features (first reduced to `components` principal ones); distances
    stay within cells; cells with fewer than `minimum` generated or held-out samples are left out; weights are the
    held-out shares. Ties count half and are taken off the variance; no continuity correction. One cell gives N(0, 1)
    without copying, several sqrt(sum w^2) less. Source: Meehan et al. 2020. Weakness: copies of a few samples hide in a
    cell's average, and a blurred model hides copies.
    """

    needs_held_out = True

    name = "data_copying"

    def __init__(self, cells: int = 3, components: int | None = 64, minimum: int = 20, seed: int = 0) -> None:
        """A statistic over that many cells; UserError unless all counts are positive."""
        if cells < 1 or minimum < 2 or (components is not None and components < 1):
            raise UserError(
                f"metric data_copying: cells={cells}, components={components}, minimum={minimum}; "
                "expected at least 1, 1 (or null: all) and 2"
            )
        require_package("metric data_copying", "sklearn", "scikit-learn", "evaluation")
        super().__init__(Rows())
        self.cells, self.components, self.minimum, self.seed = cells, components, minimum, seed

    def show_held_out(self, features: Features) -> None:
        """Take features (n, d) of held-out reals."""
        assert self.held_out is not None
        self.held_out.update(features.features)

    def compute(self) -> list[Reading]:
        """C_T; UserError when training samples are fewer than cells, or no cell has enough samples."""
        assert self.held_out is not None
        cells = self.from_reals(self.divide)
        generated, held_out = (cells.project(side.compute()) for side in (self.generated, self.held_out))
        scores = self.scores(cells, generated, held_out)
        mass = math.fsum(share for share, _, _ in scores)
        weights = [share / mass for share, _, _ in scores]
        value = math.fsum(w * z for w, (_, z, _) in zip(weights, scores, strict=True))
        error = math.sqrt(math.fsum((w * e) ** 2 for w, (_, _, e) in zip(weights, scores, strict=True)))
        details: dict[str, Detail] = {
            "cells": self.cells,
            "cells_used": len(scores),
            "held_out_in_them": mass,
            "components": cells.basis.shape[1],
            "minimum": self.minimum,
            "error_without_copying": math.sqrt(math.fsum(w**2 for w in weights)),
            "n_held_out": len(held_out),
            "seed": self.seed,
        }
        how = "placements of ranks (Sen 1960), training samples and cells held fixed"
        return [Reading("", value, details, error, how, False, around(value, error), f"normal, error from {how}")]

    def scores(self, cells: Cells, generated: Tensor, held_out: Tensor) -> list[tuple[float, float, float]]:
        """Share of the held-out samples, Z and its standard error in each cell with enough samples (n, p) of both."""
        in_generated, in_held_out = cells.locate(generated), cells.locate(held_out)
        found = []
        for cell in range(len(cells.centres)):
            training = cells.rows[cells.labels == cell]
            x, y = generated[in_generated == cell], held_out[in_held_out == cell]
            if min(len(x), len(y)) >= self.minimum and len(training) > 0:
                distances = (nearest(side, training).squared[:, 0] for side in (x, y))
                found.append((len(y) / len(held_out), *mann_whitney(*distances)))
        if not found:
            raise UserError(
                f"metric data_copying: no cell has {self.minimum} generated and {self.minimum} held-out samples (there "
                f"are {len(generated)} and {len(held_out)}); show more, or set metric.data_copying.cells to fewer"
            )
        return found

    def divide(self, real: Tensor) -> Cells:
        """Principal components and k-means cells of training features (n, d)."""
        from sklearn.cluster import KMeans

        if len(real) < self.cells:
            raise UserError(f"metric data_copying: {len(real)} training samples can't fill {self.cells} cells")
        mean, basis = principal(real, self.components)
        whole = Cells(mean, basis, mean.new_empty(0, basis.shape[1]), real, real.new_empty(0))
        rows = whole.project(real)
        state = seeding.derive(self.seed, "data_copying") % 2**32
        fit = KMeans(self.cells, n_init=10, random_state=state).fit(rows.cpu().numpy())
        cells = whole._replace(rows=rows, centres=torch.from_numpy(fit.cluster_centers_).to(rows))
        return cells._replace(labels=cells.locate(rows))


def principal(rows: Tensor, components: int | None) -> tuple[Tensor, Tensor]:
    """Mean (d,) of rows (n, d) and their first principal directions (d, p); all directions, unturned, where p >= d."""
    d = rows.shape[1]
    mean = torch.stack([part.double().sum(0) for _, part in blocks(rows)]).sum(0) / len(rows)
    identity = torch.eye(d, dtype=torch.float64, device=rows.device)
    if components is None or components >= d:
        return mean, identity
    covariance = torch.zeros_like(identity)
    for _, part in blocks(rows):
        centred = part.double() - mean
        covariance += centred.T @ centred
    return mean, torch.linalg.eigh(covariance).eigenvectors[:, -components:]


def mann_whitney(x: Tensor, y: Tensor) -> tuple[float, float]:
    """Z of #{x_i > y_j} + #{x_i = y_j}/2 for x (n,), y (m,), and Z's standard error also where x and y differ.

    Z has the variance of equal distributions, n m/12 (N + 1 - sum(t^3 - t)/(N (N - 1))) with N = n + m values, t of
    them equal (Lehmann 1975); it is 0 when all values are. The error is that of the mean placement (Sen 1960).
    """
    n, m = len(x), len(y)
    total = n + m
    everything = torch.cat([x, y])
    ranks, ties = midranks(everything)
    above = ranks[:n] - midranks(x)[0]
    below = ranks[n:] - midranks(y)[0]
    tied = float((ties**3 - ties).sum()) / (total * (total - 1))
    deviation = math.sqrt(n * m / 12 * (total + 1 - tied))
    if deviation == 0:
        return 0.0, 0.0
    z = (float(above.sum()) - n * m / 2) / deviation
    spread = float((above / m).var()) / n + float((below / n).var()) / m
    return z, math.sqrt(spread) * n * m / deviation


def midranks(values: Tensor) -> tuple[Tensor, Tensor]:
    """Ranks from 1 (n,), equal values sharing the mean of theirs, and how often each distinct value comes; float64."""
    _, place, counts = torch.unique(values, return_inverse=True, return_counts=True)
    ties = counts.double()
    return (ties.cumsum(0) - (ties - 1) / 2)[place], ties
