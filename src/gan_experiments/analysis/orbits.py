"""Whether a series of numbers comes round again and again, as losses do when two players circle each other."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from typing import NamedTuple

RECORDS = 32
"""Numbers looked back on, so that a turn of 10 comes round three times; turns below 3 look like noise."""
SHORTEST, LONGEST = 3, RECORDS // 3
PEAK, TROUGH = 0.6, -0.4
"""Of 32 numbers of noise, correlations a turn later have a standard deviation of 0.2, so that 0.6 is rare, and rarer
after -0.4 half a turn later."""
STEADY = 0.75
"""Of what the first half's amplitude was, the least that the second half's may be: spirals inwards lose more."""
VISIBLE = 0.1
"""Standard deviation over root mean square: losses of healthy runs, averaged over a record, vary by half of it."""


class Orbit(NamedTuple):
    """After how many numbers they come round, and how far they swing."""

    turn: int
    amplitude: float


def orbit(values: Sequence[float]) -> Orbit | None:
    """The orbit of the values around their straight trend, if they have one that doesn't shrink and can be seen."""
    around = detrended(values)
    scale = math.sqrt(statistics.fmean(value * value for value in values))
    if statistics.pstdev(around) < VISIBLE * scale or scale == 0:
        return None
    half = len(around) // 2
    early, late = statistics.pstdev(around[:half]), statistics.pstdev(around[half:])
    turn = period(around)
    return None if turn is None or late < STEADY * early else Orbit(turn, math.sqrt(2) * late)


def detrended(values: Sequence[float]) -> list[float]:
    """The values less their straight line of least squares."""
    slope, start = statistics.linear_regression(range(len(values)), values)
    return [value - start - slope * place for place, value in enumerate(values)]


def period(values: Sequence[float]) -> int | None:
    """After how many places the values repeat themselves, having been the opposite in between; None if they don't."""
    if statistics.pstdev(values[LONGEST:-LONGEST]) == 0:
        return None
    alike = {lag: statistics.correlation(values[:-lag], values[lag:]) for lag in range(1, LONGEST + 2)}
    opposite = next((lag for lag in range(1, LONGEST) if alike[lag] <= TROUGH), LONGEST)
    turns = range(max(opposite + 1, SHORTEST), LONGEST + 1)
    return next((lag for lag in turns if alike[lag] >= PEAK and alike[lag - 1] <= alike[lag] >= alike[lag + 1]), None)
