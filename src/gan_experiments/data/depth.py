"""Which values are black and white in pictures with more than 8 bits, whose files don't say how many bits are used."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass

BITS = (8, 10, 12, 14, 16)
WHOLE, REAL = "whole numbers", "floating-point numbers"
"""Kinds of pixel values."""

Extent = tuple[str, float, float]
"""Kind of values, the least and the greatest."""


class Unreadable(ValueError):
    """A picture that can't be used, and why; not the user's whole data, so not yet an error of theirs."""


@dataclass(frozen=True)
class Levels:
    """The values of black and white, and what to say of them (nothing where it goes without saying)."""

    black: float
    white: float
    said: str = ""


FULL = Levels(0, 2**16 - 1)
"""All 16 bits."""

Reckon = Callable[[str], Levels]
"""Gives the levels of values of a kind; raises Unreadable when they can't be told."""


def full(kind: str) -> Levels:
    """The levels of a single picture of 16 bits; floating-point numbers are judged by all pictures together only."""
    if kind == REAL:
        raise Unreadable(f"pixels that are {REAL} have no known range; save it with 8 or 16 bits a channel")
    return FULL


def levels_of(kind: str, low: float, high: float) -> Levels:
    """The levels that the least and the greatest value over all pictures suggest; raises Unreadable for none."""
    if kind == REAL and low >= -1 and high <= 1:
        return Levels(0, 1, "0 to 1") if low >= 0 else Levels(-1, 1, "-1 to 1")
    bits = next((bits for bits in BITS if low >= 0 and high < 2**bits), None)
    if bits is None:
        raise Unreadable(
            f"pixels from {low:g} to {high:g} have no known black and white; save them with 8 or 16 bits, from 0 on"
        )
    white = 2**bits - 1
    if kind == WHOLE and (bits == BITS[-1] or high == 0):
        return FULL
    return Levels(0, white, f"{bits} bits (0 to {white:,})")


class Depths:
    """The levels of pictures, judged by all of them when the first one with more than 8 bits is met."""

    def __init__(self, extents: Callable[[], Iterable[Extent]]) -> None:
        """`extents` goes through all pictures; it is asked once, and only if need be."""
        self.extents, self.lock = extents, threading.Lock()
        self.found: dict[str, list[float]] | None = None
        self.used: dict[str, Levels] = {}

    def __call__(self, kind: str) -> Levels:
        """The levels of values of that kind."""
        with self.lock:
            if self.found is None:
                self.found = {}
                for name, low, high in self.extents():
                    known = self.found.setdefault(name, [math.inf, -math.inf, 0])
                    self.found[name] = [min(known[0], low), max(known[1], high), known[2] + 1]
            if kind not in self.found:
                raise Unreadable(f"pixels that are {kind} hold infinities or no numbers at all")
            low, high, _ = self.found[kind]
            return self.used.setdefault(kind, levels_of(kind, low, high))

    def describe(self) -> str:
        """What was decided that doesn't go without saying, such as `12 bits (0 to 4,095)`, empty for nothing."""
        return " and ".join(levels.said for _, levels in sorted(self.used.items()) if levels.said)

    def explain(self) -> str:
        """The same with its reason, for a warning."""
        parts = []
        for kind, levels in sorted(self.used.items()):
            if levels.said and self.found is not None:
                low, high, count = self.found[kind]
                reach = f"{low:g} to {high:g}"
                parts.append(f"{count:g} images hold {kind} from {reach} and are taken as {levels.said}")
        return "; ".join(parts)
