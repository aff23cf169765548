"""Numbers that change over a run: pure functions of images seen, so that resuming needs no scheduler state."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod

from gan_experiments.errors import UserError


class Curve(ABC):
    """A number as a function of images seen; `total` is the length of the run in images."""

    @abstractmethod
    def __call__(self, images: int, total: int) -> float:
        """The value after `images` images of a run of `total` images."""

    @abstractmethod
    def bounds(self) -> tuple[float, float]:
        """The smallest and the largest value on its way."""

    def height(self) -> tuple[str, float]:
        """The argument, as a dotted place, that says how high the curve goes, and what it is; none: its maximum."""
        return "", self.bounds()[1]


class Constant(Curve):
    """The same value all along."""

    def __init__(self, value: float) -> None:
        self.value = float(value)

    def __call__(self, images: int, total: int) -> float:
        """The constant."""
        return self.value

    def bounds(self) -> tuple[float, float]:
        """The constant."""
        return self.value, self.value

    def height(self) -> tuple[str, float]:
        """The constant."""
        return ".value", self.value


class Ramp(Curve):
    """From `start` to `end` over `over` images (the whole run when None), beginning at image `after`; then `end`."""

    def __init__(self, start: float, end: float, over: int | None = None, after: int = 0) -> None:
        if over is not None and over <= 0:
            raise UserError(f"{type(self).__name__}: over={over} must be a positive number of images, or null")
        if after < 0:
            raise UserError(f"{type(self).__name__}: after={after} must not be negative")
        self.start, self.end, self.over, self.after = float(start), float(end), over, after

    def __call__(self, images: int, total: int) -> float:
        """The value between start and end."""
        over = self.over if self.over is not None else max(total - self.after, 1)
        done = min(max((images - self.after) / over, 0.0), 1.0)
        return self.start + (self.end - self.start) * self.shape(done)

    def bounds(self) -> tuple[float, float]:
        """Start and end, in order of size."""
        return min(self.start, self.end), max(self.start, self.end)

    def height(self) -> tuple[str, float]:
        """The larger end."""
        return (".start", self.start) if self.start >= self.end else (".end", self.end)

    @abstractmethod
    def shape(self, done: float) -> float:
        """How far from start (0) to end (1) the curve is when the share `done` of its images has been seen."""


class Linear(Ramp):
    """A straight line between two values."""

    def shape(self, done: float) -> float:
        """The share itself."""
        return done


class Cosine(Ramp):
    """Half a cosine wave between two values (Loshchilov & Hutter 2017; R3GAN's five schedules, Huang et al. 2024)."""

    def shape(self, done: float) -> float:
        """1 - (1 + cos(pi t)) / 2."""
        return 0.5 * (1.0 - math.cos(math.pi * done))


class Proportional(Curve):
    """A share of the images seen, up to a limit: StyleGAN's half-life of averages, 0.05 t (Karras et al. 2020)."""

    def __init__(self, share: float, limit: float) -> None:
        if share <= 0 or limit <= 0:
            raise UserError(f"Proportional: share={share} and limit={limit} must be positive")
        self.share, self.limit = share, limit

    def __call__(self, images: int, total: int) -> float:
        """The smaller of the two."""
        return min(self.share * images, self.limit)

    def bounds(self) -> tuple[float, float]:
        """From 0 to the limit."""
        return 0.0, self.limit

    def height(self) -> tuple[str, float]:
        """The limit."""
        return ".limit", self.limit


class WarmUp(Curve):
    """Another curve, scaled from 0 to 1 linearly over the first `over` images."""

    def __init__(self, curve: float | Curve, over: int) -> None:
        if over <= 0:
            raise UserError(f"WarmUp: over={over} must be a positive number of images")
        self.curve, self.over = as_curve(curve), over
        self.nested = isinstance(curve, Curve)

    def __call__(self, images: int, total: int) -> float:
        """The scaled value."""
        return self.curve(images, total) * min(images / self.over, 1.0)

    def bounds(self) -> tuple[float, float]:
        """From 0 to where the other curve goes."""
        low, high = self.curve.bounds()
        return min(low, 0.0), max(high, 0.0)

    def height(self) -> tuple[str, float]:
        """That of the other curve."""
        place, height = self.curve.height()
        return (f".curve{place}" if self.nested else ".curve"), height


def as_curve(value: float | Curve) -> Curve:
    """`value` itself when it is a curve, else the constant curve of that number."""
    if isinstance(value, Curve):
        return value
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise UserError(f"expected a number or a curve, got {value!r}")
    return Constant(value)


def within(value: float | Curve, name: str, low: float = 0.0, high: float = math.inf, *, above: bool = False) -> Curve:
    """`value` as a curve of finite numbers from `low` to `high`, with `above` larger than `low`; UserError for others.

    A curve is seen through before the run, so that it can't leave the range after half of it.
    """
    curve = as_curve(value)
    fitting = f"within {'(' if above else '['}{low:g}, {high:g}]"
    if high == math.inf:
        fitting = f"finite and {'above' if above else 'at least'} {low:g}"
    for bound in curve.bounds():
        if not low <= bound <= high or not math.isfinite(bound) or (above and bound == low):
            said = f"{name}={bound:g}" if isinstance(curve, Constant) else f"{name}, a curve, goes to {bound:g} and"
            raise UserError(f"{said} must be {fitting}")
    return curve
