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


class Constant(Curve):
    """The same value all along."""

    def __init__(self, value: float) -> None:
        self.value = float(value)

    def __call__(self, images: int, total: int) -> float:
        """The constant."""
        return self.value


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


class WarmUp(Curve):
    """Another curve, scaled from 0 to 1 linearly over the first `over` images."""

    def __init__(self, curve: float | Curve, over: int) -> None:
        if over <= 0:
            raise UserError(f"WarmUp: over={over} must be a positive number of images")
        self.curve, self.over = as_curve(curve), over

    def __call__(self, images: int, total: int) -> float:
        """The scaled value."""
        return self.curve(images, total) * min(images / self.over, 1.0)


def as_curve(value: float | Curve) -> Curve:
    """`value` itself when it is a curve, else the constant curve of that number."""
    if isinstance(value, Curve):
        return value
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise UserError(f"expected a number or a curve, got {value!r}")
    return Constant(value)
