"""Nearest neighbours and balls around points, exact and in bounded memory, for the metrics that look at neighbours.

Products of centred float32 rows (float64 in few dimensions) give a lower bound of every squared distance, with the
rounding of the products taken off. The few pairs that the bounds leave open are computed anew, in float64 from the
differences of their rows: duplicates are at exactly 0, and equal distances compare equal. Where too many stay open, as
of rows far closer to each other than to the centre, the products are done again in float64.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from gan_experiments.errors import UserError

PAIRS = 2**26
"""Most pairs whose bounds are held at a time: 256 MiB in float32."""

QUERIES = 1024
"""Most queries whose bounds are held at a time."""

VALUES = 2**23
"""Values of rows converted at a time: 64 MiB in float64."""

SPARE = 8
"""Candidates beyond the k nearest whose distances are computed exactly."""

LOW_DIMENSION = 64
"""Up to so many dimensions products are done in float64 at once: they cost little, and neighbours tend to be close."""


class Neighbours(NamedTuple):
    """Squared distances (n, k), float64, ascending, of the k nearest points of each query, and which rows they are."""

    squared: Tensor
    points: Tensor


class Bounds:
    """Lower bounds of squared distances to points (m, d) from |x|^2 + |y|^2 - 2 x.y of rows around the points' mean."""

    def __init__(self, points: Tensor, dtype: torch.dtype) -> None:
        """Bounds by products in float32 or float64."""
        self.points, self.dtype = points, dtype
        d = points.shape[1]
        total = torch.zeros(d, dtype=torch.float64, device=points.device)
        for _, rows in blocks(points):
            total += rows.double().sum(0)
        # Any point near the mean will do, as long as both precisions hold it exactly.
        self.origin = (total / len(points)).to(dtype)
        # Of d products, of the rounded rows and of the sums; relative to |x|^2 + |y|^2 >= 2 |x||y| (Higham 2002, 3.1).
        self.rounding = (d + 16) * torch.finfo(dtype).eps / 2
        self.norms = torch.cat([self.norm(self.centred(rows)) for _, rows in blocks(points)])
        # Filled again and again: memory fresh from the system costs as much time as the products.
        self.space = torch.empty(0, len(points), dtype=dtype, device=points.device)

    def centred(self, rows: Tensor) -> Tensor:
        """Rows (n, d) around the points' mean; each difference is rounded once."""
        precision = torch.float64 if rows.dtype is torch.float64 else self.dtype
        return (rows.to(precision) - self.origin.to(precision)).to(self.dtype)

    def norm(self, rows: Tensor) -> Tensor:
        """Squared lengths (n,) of rows (n, d), less what products may be wrong by; float64."""
        return rows.double().square().sum(1) * (1 - self.rounding)

    def below(self, queries: Tensor, squared_radii: Tensor | None = None) -> Tensor:
        """Lower bounds (n, m) of squared distances from queries (n, d), less the points' squared radii (m,).

        They stand until the next call.
        """
        x = self.centred(queries)
        x_norms = self.norm(x).to(self.dtype)[:, None]
        offsets = self.norms if squared_radii is None else self.norms - squared_radii * (1 + self.rounding)
        if len(self.space) < len(x):
            self.space = self.space.new_empty(len(x), len(self.points))
        bounds = self.space[: len(x)]
        for start, rows in blocks(self.points):
            part = bounds[:, start : start + len(rows)]
            offset = offsets[start : start + len(rows)].to(self.dtype)
            torch.addmm(offset, x, self.centred(rows).T, alpha=-2, out=part)
            part += x_norms
        return bounds


def nearest(queries: Tensor, points: Tensor, k: int = 1, *, themselves: bool = False) -> Neighbours:
    """The k nearest of points (m, d) to each query (n, d); with `themselves`, queries are the points and not their own.

    There must be k other points. Rows are of any type, bytes too; of equally near points the one of the lowest index
    that was seen among the candidates comes first.
    """
    own = torch.arange(len(queries), device=queries.device) if themselves else None
    dtype = first_dtype(points)
    found, certain = search(queries, Bounds(points, dtype), k, own)
    if dtype is torch.float32 and not bool(certain.all()):
        open_rows = (~certain).nonzero().squeeze(1)
        again, _ = search(queries[open_rows], Bounds(points, torch.float64), k, None if own is None else own[open_rows])
        found.squared[open_rows] = again.squared
        found.points[open_rows] = again.points
    return found


def search(queries: Tensor, bounds: Bounds, k: int, own: Tensor | None) -> tuple[Neighbours, Tensor]:
    """The k nearest by exact distances of the points of lowest bounds, and whether (n,) no other point can be nearer.

    `own` (n,) are the indices of points that must not count as neighbours of their queries.
    """
    points = bounds.points
    available = len(points) - (own is not None)
    count = min(k + SPARE, available)
    squared, places, certain = [], [], []
    for start, rows in query_blocks(queries, points):
        below = bounds.below(rows)
        if own is not None:
            below.scatter_(1, own[start : start + len(rows), None], torch.inf)
        lowest, candidates = below.topk(count, largest=False)
        # By index first, so that equal distances come in a fixed order.
        candidates = candidates.sort().values
        exact, order = exact_squares(rows, points, candidates).sort(stable=True)
        squared.append(exact[:, :k])
        places.append(candidates.gather(1, order[:, :k]))
        certain.append((exact[:, k - 1] <= lowest[:, -1]) | (count == available))
    return Neighbours(torch.cat(squared), torch.cat(places)), torch.cat(certain)


def exact_squares(queries: Tensor, points: Tensor, rows: Tensor) -> Tensor:
    """Squared distances (n, c), float64, from queries (n, d) to points at rows (n, c), from differences."""
    return torch.stack([squared_differences(queries, points[column]) for column in rows.T], dim=1)


def squared_differences(x: Tensor, y: Tensor) -> Tensor:
    """Squared distances (n,), float64, of rows x (n, d) from rows y (n, d)."""
    return (x.double() - y.double()).square_().sum(1)


def squared_radii(metric: str, points: Tensor, k: int) -> Tensor:
    """Squared distances (n,) to the k-th other point; UserError with fewer than k + 1 points."""
    if len(points) <= k:
        raise UserError(f"metric {metric}: k={k} neighbours need at least {k + 1} samples a side, got {len(points)}")
    return nearest(points, points, k, themselves=True).squared[:, -1]


def ball_counts(queries: Tensor, centres: Tensor, squared_radii: Tensor) -> tuple[Tensor, Tensor]:
    """In how many balls each query (n, d) is, and how many queries each ball around centres (m, d) has: (n,) and (m,).

    A point on the surface is inside (`<=`). Where more than one in 64 pairs is close, bounds in float64 decide, so that
    their rounding goes to the inside.
    """
    bounds = Bounds(centres, first_dtype(centres))
    precise: Bounds | None = bounds if bounds.dtype is torch.float64 else None
    of_queries, of_balls = [], torch.zeros(len(centres), dtype=torch.int64, device=centres.device)
    for _, rows in query_blocks(queries, centres):
        close = bounds.below(rows, squared_radii) <= 0
        if int(close.count_nonzero()) * 64 > close.numel():
            precise = precise or Bounds(centres, torch.float64)
            inside = precise.below(rows, squared_radii) <= 0
            of_queries.append(inside.sum(1))
            of_balls += inside.sum(0)
            continue
        query, ball = close.nonzero(as_tuple=True)
        at_once = rows_at_once(rows)
        inside = torch.cat(
            [
                squared_differences(rows[i], centres[j]) <= squared_radii[j]
                for i, j in zip(torch.split(query, at_once), torch.split(ball, at_once), strict=True)
            ]
        )
        of_queries.append(torch.bincount(query[inside], minlength=len(rows)))
        of_balls += torch.bincount(ball[inside], minlength=len(centres))
    return torch.cat(of_queries), of_balls


def close_pairs(points: Tensor, squared_radius: float) -> Tensor:
    """Pairs (k, 2), first < second, of the points (m, d) that are at most that squared distance apart; m^2 at once."""
    radii = torch.full((len(points),), squared_radius, dtype=torch.float64, device=points.device)
    close = Bounds(points, first_dtype(points)).below(points, radii) <= 0
    pairs = close.triu(1).nonzero()
    inside = [
        squared_differences(points[first], points[second]) <= squared_radius
        for first, second in (part.T for part in torch.split(pairs, rows_at_once(points)))
    ]
    return pairs[torch.cat(inside)]


def first_dtype(points: Tensor) -> torch.dtype:
    """The precision in which products with points (m, d) are tried first."""
    return torch.float64 if points.shape[1] <= LOW_DIMENSION else torch.float32


def rows_at_once(rows: Tensor) -> int:
    """How many rows (n, d) to convert at a time."""
    return max(1, VALUES // rows.shape[1])


def blocks(rows: Tensor) -> Iterator[tuple[int, Tensor]]:
    """Rows (n, d) in parts that can be converted, each with the index of its first row."""
    yield from pieces(rows, rows_at_once(rows))


def query_blocks(queries: Tensor, points: Tensor) -> Iterator[tuple[int, Tensor]]:
    """Queries (n, d) in parts whose bounds to all points can be held, each with the index of its first row."""
    yield from pieces(queries, max(1, min(PAIRS // len(points), QUERIES, rows_at_once(queries))))


def pieces(rows: Tensor, size: int) -> Iterator[tuple[int, Tensor]]:
    """Rows (n, d) by at most `size`, each part with the index of its first row."""
    for start in range(0, len(rows), size):
        yield start, rows[start : start + size]
