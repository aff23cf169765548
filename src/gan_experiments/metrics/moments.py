"""Mean and covariance of features as they come in, whole and block by block, without keeping the features."""

from __future__ import annotations

from typing import NamedTuple, final

import torch
from torch import Tensor

from gan_experiments.errors import UserError
from gan_experiments.metrics.base import Accumulator, joined
from gan_experiments.metrics.order import StreamKeys

PENDING = 8000
"""Rows that are collected before their products are added up, so that results don't depend on the batches' size."""

PIECE = 2000
"""Most rows whose products are added up in float32; sums over pieces are in float64."""

ADDED = 100
"""Rows turned into float64 at a time."""

TILE = 256
"""Rows of the matrix of products that are computed at a time, from the diagonal on: the rest is its mirror image."""


class Parts(NamedTuple):
    """Sums over b blocks of rows: their sizes (b,) and, in float64, what gives sums of products around any origin.

    `outer` (b, d, d) are products of rows around the means of the chunks they came in, of which only the upper
    triangle counts; `means` (m, b, d + 1) are these chunks' means and a 1, times the root of the chunk's size
    (Chan et al. 1979).
    """

    sizes: Tensor
    outer: Tensor
    means: Tensor

    def add(self, rows: Tensor, places: Tensor, float32_from: int) -> Parts:
        """With rows (n, d) in the blocks `places` (n,); `outer` is changed in place."""
        b, d, _ = self.outer.shape
        dtype = torch.float32 if rows.dtype is torch.float32 and d >= float32_from else torch.float64
        means = self.means.new_zeros(1, b, d + 1)
        for block in range(b):
            part = rows if b == 1 else rows[places == block]
            if len(part):
                mean = total(part) / len(part)
                means[0, block, :d] = len(part) ** 0.5 * mean
                means[0, block, d] = len(part) ** 0.5
                for piece in torch.split(part.to(dtype) - mean.to(dtype), PIECE):
                    add_products(self.outer[block], piece)
        return self._replace(means=torch.cat([self.means, means]))

    def totals(self) -> Tensor:
        """The sums (b, d) of each block's rows."""
        return (self.means[:, :, :-1] * self.means[:, :, -1:]).sum(0)

    def products(self, origin: Tensor) -> Tensor:
        """The sum (d, d) of (x - origin) (x - origin)^T over all rows x."""
        products = self.outer.sum(0)
        for start in range(0, len(products), TILE):
            stop = start + TILE
            products[stop:, start:stop] = products[start:stop, stop:].T
        # Chunks' means around the origin, so that a constant feature has no variance at all.
        means = (self.means[:, :, :-1] - self.means[:, :, -1:] * origin).flatten(0, 1)
        return products.addmm_(means.T, means)

    def traces(self, weight: Tensor, origin: Tensor) -> Tensor:
        """The sums (b,) of (x - origin)^T W (x - origin) over each block's rows x, for a symmetric W (d, d)."""
        folded = 2 * weight.triu() - weight.diag().diag()
        within = torch.stack([(outer * folded).sum() for outer in self.outer])
        means = self.means[:, :, :-1] - self.means[:, :, -1:] * origin
        return within + ((means @ weight) * means).sum((0, 2))


def total(rows: Tensor, power: int = 1) -> Tensor:
    """The sum (d,) of rows (n, d), or of their squares, in float64."""
    # By few rows, which stay in the processor's cache: four times as fast as at once.
    sums: list[Tensor] = [part.double().pow(power).sum(0) for part in torch.split(rows, ADDED)]
    return torch.stack(sums).sum(0)


def add_products(outer: Tensor, rows: Tensor) -> None:
    """Add rows^T rows, of rows (n, d), to `outer` (d, d) in place, in the rows' precision; above the diagonal only."""
    exact = rows.dtype is outer.dtype
    # Distances are small differences of traces, whose rounding would therefore weigh most.
    diagonal = None if exact else outer.diagonal() + total(rows, 2)
    for start in range(0, len(outer), TILE):
        target = outer[start : start + TILE, start:]
        left, right = rows[:, start : start + TILE].T, rows[:, start:]
        if exact:
            target.addmm_(left, right)
        else:
            target += left @ right
    if diagonal is not None:
        outer.diagonal().copy_(diagonal)


class Gaussian(NamedTuple):
    """Mean (d,) and covariance (d, d) of n samples in float64, with the sums over blocks that they come from.

    `rows` are the centred rows / sqrt(n - ddof) while n <= d, else None.
    """

    size: int
    mean: Tensor
    covariance: Tensor
    rows: Tensor | None
    parts: Parts


@final
class Moments(Accumulator):
    """Counts, means and sums of outer products over `blocks` blocks; few rows are kept too.

    A row's block is random, by what identifies its sample and not by its place. Products of float32 features are in
    float64, with at least `float32_from` features in float32 around the rows' mean. As long as there are no more rows
    than features, nothing but the rows is kept.
    """

    compact = True
    count: Tensor
    outer: Tensor
    means: list[Tensor]
    rows: list[Tensor]
    places: list[Tensor]

    def __init__(self, ddof: int, blocks: int = 1, float32_from: int = 1024) -> None:
        """No samples yet; covariances divide by n - ddof."""
        super().__init__()
        self.ddof, self.blocks, self.float32_from = ddof, blocks, float32_from
        self.add_state("count", default=torch.zeros(blocks, dtype=torch.int64), dist_reduce_fx="sum")
        # Zeros without dimensions take on the features' shape in the first update.
        self.add_state("outer", default=torch.zeros((), dtype=torch.float64), dist_reduce_fx="sum")
        self.add_state("means", default=[], dist_reduce_fx="cat")
        self.add_state("rows", default=[], dist_reduce_fx="cat")
        self.add_state("places", default=[], dist_reduce_fx="cat")
        self._stream = StreamKeys(0, "moments")

    def update(self, features: Tensor, identities: Tensor | None = None) -> None:
        """Add features (n, d) of samples known by `identities` (n, ...), or by these features."""
        rows = features.to(self.device)
        n, d = rows.shape
        if self.outer.ndim == 0:
            self.outer = self.outer.new_zeros(self.blocks, d, d)
            # Ranks can gather only lists that aren't empty.
            self.means.append(self.outer.new_zeros(1, self.blocks, d + 1))
        places = torch.zeros(n, dtype=torch.int64, device=self.device)
        if self.blocks > 1:
            keys = self._stream.draw(rows if identities is None else identities)
            places = (self.blocks * keys).long().to(self.device)
        self.count = self.count + torch.bincount(places, minlength=self.blocks)
        self.rows.append(rows)
        self.places.append(places)
        self.absorb(max(PENDING, d))

    def absorb(self, chunk: int) -> None:
        """Turn every `chunk` collected rows into sums."""
        pending = sum(len(part) for part in self.rows)
        if pending < chunk:
            return
        rows, places = torch.cat(self.rows), torch.cat(self.places)
        whole = pending - pending % chunk
        for start in range(0, whole, chunk):
            some = slice(start, start + chunk)
            self.means[:] = [self.parts().add(rows[some], places[some], self.float32_from).means]
        self.rows[:], self.places[:] = [rows[whole:].clone()], [places[whole:].clone()]

    def parts(self) -> Parts:
        """The sums over rows that aren't collected any more."""
        return Parts(self.count, self.outer, joined(self.means))

    def export(self) -> dict[str, Tensor]:
        """The states of all ranks together, by name, without rows where there are more than features."""
        self.settle()
        return super().export()

    def settle(self) -> None:
        """Turn all collected rows into sums, unless there are no more of them than features."""
        pending = sum(len(part) for part in self.rows)
        if pending and int(self.count.sum()) > self.outer.shape[1]:
            self.absorb(pending)

    def compute(self) -> Gaussian:
        """The fitted Gaussian; UserError with fewer than two samples."""
        n = int(self.count.sum())
        if n < 2:
            raise UserError(f"the Fréchet distance needs at least 2 samples a side, got {n}")
        parts, rows = self.parts(), joined(self.rows)
        short = n <= self.outer.shape[1]
        if len(rows):
            # Of ranks together, or too few; the states are left as they are, because further rows may follow.
            parts = parts._replace(outer=parts.outer.clone()).add(
                rows.double() if short else rows, joined(self.places), self.float32_from
            )
        mean = parts.totals().sum(0) / n
        covariance = parts.products(mean).div_(n - self.ddof)
        centred = (rows.double() - mean) / (n - self.ddof) ** 0.5 if short else None
        return Gaussian(n, mean, covariance, centred, parts)

    def reset(self) -> None:
        """Drop all samples."""
        super().reset()
        self._stream = StreamKeys(0, "moments")

    def gaussian(self) -> Gaussian:
        """What `compute` gives, with the shapes that torchmetrics takes from tensors of one element."""
        self.settle()
        fit: Gaussian = self.compute()
        d = fit.mean.numel()
        sizes, outer, means = fit.parts
        parts = Parts(
            sizes.reshape(self.blocks), outer.reshape(self.blocks, d, d), means.reshape(-1, self.blocks, d + 1)
        )
        return fit._replace(mean=fit.mean.reshape(d), covariance=fit.covariance.reshape(d, d), parts=parts)
