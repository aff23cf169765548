"""How sure a score is: 95 % intervals from standard errors, shares, repeated draws, jackknife and bootstrap."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from gan_experiments import seeding

NORMAL = 1.959963984540054
"""The 97.5 % quantile of the standard normal distribution."""

STUDENT = (
    12.7062, 4.3027, 3.1824, 2.7764, 2.5706, 2.4469, 2.3646, 2.3060, 2.2622, 2.2281, 2.2010, 2.1788, 2.1604, 2.1448,
    2.1314, 2.1199, 2.1098, 2.1009, 2.0930, 2.0860, 2.0796, 2.0739, 2.0687, 2.0639, 2.0595, 2.0555, 2.0518, 2.0484,
    2.0452, 2.0423,
)  # fmt: skip
"""97.5 % quantiles of Student's t with 1 to 30 degrees of freedom."""


def student(degrees: int) -> float:
    """The 97.5 % quantile of Student's t; beyond 30 degrees of freedom by its expansion in 1/degrees (to 1e-4)."""
    if degrees <= len(STUDENT):
        return STUDENT[degrees - 1]
    return NORMAL + (NORMAL**3 + NORMAL) / (4 * degrees)


def around(value: float, error: float, degrees: int | None = None) -> tuple[float, float]:
    """value -+ quantile * standard error: normal, or Student's t with that many degrees of freedom."""
    reach = (NORMAL if degrees is None else student(degrees)) * error
    return value - reach, value + reach


def of_mean(values: Sequence[float]) -> tuple[float, float]:
    """The interval of a mean of at least two independent values."""
    n = len(values)
    mean = math.fsum(values) / n
    error = math.sqrt(math.fsum((value - mean) ** 2 for value in values) / (n - 1) / n)
    return around(mean, error, n - 1)


def of_share(hits: int, n: int) -> tuple[float, float]:
    """The score interval of a share of independent trials (Wilson 1927), inside [0, 1] and right at its ends."""
    z2 = NORMAL**2
    share = hits / n
    centre = (share + z2 / (2 * n)) / (1 + z2 / n)
    reach = NORMAL / (1 + z2 / n) * math.sqrt(share * (1 - share) / n + z2 / (4 * n**2))
    # Exactly 0 and 1 at the ends, which rounding would miss.
    return 0.0 if hits == 0 else centre - reach, 1.0 if hits == n else centre + reach


def jackknife(
    value: float, without: Sequence[float], sizes: Sequence[int] | None = None
) -> tuple[float, tuple[float, float]]:
    """Standard error and interval of `value` from its values without each of k blocks (Quenouille 1949, Tukey 1958).

    Blocks are equally large, or of those `sizes` (Busing et al. 1999, eq. 8), of which empty ones don't count.
    """
    # The share that a block has of all, the other way up.
    shares = [len(without)] * len(without) if sizes is None else [sum(sizes) / size for size in sizes if size]
    kept = [other for place, other in enumerate(without) if sizes is None or sizes[place]]
    k = len(kept)
    pseudo = [h * value - (h - 1) * other for h, other in zip(shares, kept, strict=True)]
    centre = k * value - math.fsum((1 - 1 / h) * other for h, other in zip(shares, kept, strict=True))
    squares = ((p - centre) ** 2 / (h - 1) for p, h in zip(pseudo, shares, strict=True))
    error = math.sqrt(math.fsum(squares) / k)
    return error, around(value, error, k - 1)


def bootstrap(
    rows: Tensor, statistic: Callable[[Tensor], float], seed: int, draws: int = 1000
) -> tuple[float, tuple[float, float]]:
    """Standard error and percentile interval of a statistic of rows (n, ...) over resamples of them (Efron 1979)."""
    generator = seeding.generator(seed, "bootstrap")
    values = torch.tensor(
        [
            statistic(rows[torch.randint(len(rows), (len(rows),), generator=generator).to(rows.device)])
            for _ in range(draws)
        ],
        dtype=torch.float64,
    )
    low, high = values.quantile(torch.tensor([0.025, 0.975], dtype=torch.float64)).tolist()
    return float(values.std()), (low, high)
