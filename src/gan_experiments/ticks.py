"""Ticks of logarithmic axes and what is written at them: plain numbers, such as 0.05, 1, 200, 1,000,000."""

from __future__ import annotations

import math

FEWEST, MOST = 3, 9


def plain(value: float) -> str:
    """A number without an exponent: up to four leading digits, thousands by commas."""
    if value == 0 or not math.isfinite(value):
        return f"{value:g}"
    decimals = max(0, 3 - math.floor(math.log10(abs(value))))
    text = f"{value:,.{decimals}f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def log_ticks(low: float, high: float) -> list[float]:
    """Three to nine round numbers from low to high, both above 0: powers of ten, or 1, 2 and 5 of each, or every digit,
    or evenly spaced ones where the ends are close."""
    first, last = math.floor(math.log10(low)), math.ceil(math.log10(high))
    for digits in ((1,), (1, 2, 5), tuple(range(1, 10))):
        found = [
            tick
            for power in range(first, last + 1)
            for tick in (float(f"{digit}e{power}") for digit in digits)
            if low * (1 - 1e-9) <= tick <= high * (1 + 1e-9)
        ]
        if len(found) >= FEWEST:
            return found[:: -(-len(found) // MOST)]
    return even_ticks(low, high)


def even_ticks(low: float, high: float) -> list[float]:
    """Round numbers of equal distance from low to high; one where both are equal."""
    if high <= low:
        return [low]
    rough = (high - low) / 5
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= rough)
    return [round(k * step, 12) for k in range(math.ceil(low / step), math.floor(high / step) + 1)]
