"""Whether two groups of numbers differ by more than chance: Welch's interval, a permutation test, Holm's correction."""

from __future__ import annotations

import itertools
import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import final

import torch

from gan_experiments import seeding

ALPHA = 0.05
"""The p-value below which a difference is called one."""

EXACT_SPLITS = 100_000
"""Up to this many splits of the seeds all are looked at; beyond, as many random ones."""


def student_quantile(degrees: float) -> float:
    """The 97.5 % quantile of Student's t with any positive number of degrees of freedom, to about 1e-6.

    With t = sqrt(degrees) / tan(y) the density becomes a multiple of sin(y)^(degrees - 1).
    """
    constant = math.exp(math.lgamma((degrees + 1) / 2) - math.lgamma(degrees / 2)) / math.sqrt(math.pi)

    def tail(end: float, steps: int = 1000) -> float:
        """P(t > sqrt(degrees) / tan(end)): the integral over y from 0 to `end` by Simpson's rule."""

        def slope(u: float) -> float:
            """The integrand after y = end u^4, which is smooth at 0 as a power of the sine need not be."""
            return math.sin(end * u**4) ** (degrees - 1) * 4 * u**3 * end if u else 0.0

        inner = sum((4 if place % 2 else 2) * slope(place / steps) for place in range(1, steps))
        return constant * (inner + slope(1.0)) / (3 * steps)

    low, high = 0.0, math.pi / 2
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (low, middle) if tail(middle) > 0.025 else (middle, high)
    return math.sqrt(degrees) / math.tan((low + high) / 2)


def welch(a: Sequence[float], b: Sequence[float]) -> tuple[float, float]:
    """The 95 % interval of mean(b) - mean(a) for unequal variances, of at least two values each.

    Degrees of freedom by Welch 1947 and Satterthwaite 1946.
    """
    parts = [statistics.variance(values) / len(values) for values in (a, b)]
    difference, variance = statistics.fmean(b) - statistics.fmean(a), sum(parts)
    if variance == 0:
        return difference, difference
    spread = sum(part**2 / (len(values) - 1) for part, values in zip(parts, (a, b), strict=True))
    reach = student_quantile(variance**2 / spread) * math.sqrt(variance)
    return difference - reach, difference + reach


@final
@dataclass(frozen=True)
class PermutationTest:
    """A two-sided p-value, twice the smaller one-sided one, over `splits` splits of the pooled values."""

    p: float
    splits: int
    exact: bool


def permutation_test(a: Sequence[float], b: Sequence[float], seed: int = 0) -> PermutationTest:
    """How often seeds dealt at random to the two settings differ as much in their means as `a` and `b` do.

    All splits when they are few; else random ones, to which the observed one is added (Phipson & Smyth 2010).
    """
    centre = statistics.fmean([*a, *b])
    pooled = [value - centre for value in (*a, *b)]
    splits = math.comb(len(pooled), len(a))
    exact = splits <= EXACT_SPLITS
    if exact:
        sums = [math.fsum(part) for part in itertools.combinations(pooled, len(a))]
    else:
        splits = EXACT_SPLITS
        sums = random_sums(pooled, len(a), splits, seed)
    observed = math.fsum(pooled[: len(a)])
    # Splits that tie with the observed one must count although their sums round differently.
    slack = 1e-12 * math.fsum(map(abs, pooled))
    below = sum(value <= observed + slack for value in sums)
    above = sum(value >= observed - slack for value in sums)
    extra = 0 if exact else 1
    return PermutationTest(min(1.0, 2 * (min(below, above) + extra) / (splits + extra)), splits, exact)


def random_sums(values: Sequence[float], count: int, splits: int, seed: int) -> list[float]:
    """The sum of `count` of the values, drawn without replacement, `splits` times."""
    generator = seeding.generator(seed, "permutation")
    order = torch.rand(splits, len(values), generator=generator).argsort(1)[:, :count]
    sums: list[float] = torch.tensor(values, dtype=torch.float64)[order].sum(1).tolist()
    return sums


def smallest_p(n: int, m: int) -> float:
    """The least p that the permutation test can give for n against m seeds, whatever their values."""
    splits = math.comb(n + m, n)
    return min(1.0, 2 / splits if splits <= EXACT_SPLITS else 2 / (EXACT_SPLITS + 1))


def holm(values: Sequence[float]) -> list[float]:
    """p-values corrected for being several, in their order (Holm 1979): the smallest times their number, and so on."""
    corrected, least = [0.0] * len(values), 0.0
    for rank, place in enumerate(sorted(range(len(values)), key=values.__getitem__)):
        least = max(least, min(1.0, (len(values) - rank) * values[place]))
        corrected[place] = least
    return corrected


def seeds_needed(pairs: int) -> int | None:
    """The fewest seeds of each setting whose smallest p, times the number of pairs, is below 0.05; None if none are."""
    numbers = range(2, 100)
    return next((n for n in numbers if pairs * smallest_p(n, n) < ALPHA), None)
