"""Ranges of numbers by the names of arguments, the same in every class of ours: whole ones are counts and sizes."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from gan_experiments.errors import UserError

LARGEST = 10**15
"""No count, size or time goes above it; 3e14 images are a thousand years at 10,000 a second."""


@dataclass(frozen=True)
class Range:
    """Numbers from `low` to `high`; without `closed` the end `high`, or with `above` the end `low`, is not among
    them."""

    low: float = -math.inf
    high: float = math.inf
    closed: bool = True
    above: bool = False

    def holds(self, value: float) -> bool:
        """Whether the number is within."""
        low = value > self.low if self.above else value >= self.low
        return low and (value <= self.high if self.closed else value < self.high)

    def __str__(self) -> str:
        """How it is said."""
        if self.high == math.inf:
            return f"above {self.low:g}" if self.above else f"{self.low:g} or more"
        if self.low == -math.inf:
            return f"{self.high:g} or less"
        return f"{'above' if self.above else 'from'} {self.low:g} {'to' if self.closed else 'to below'} {self.high:g}"


COUNT, ZERO, ANY = Range(1), Range(0), Range()
SHARE, POSITIVE, DECAY = Range(0, 1), Range(0, above=True), Range(0, 1, closed=False)
# Whole numbers are counts unless they are named here.
WHOLE = {
    **dict.fromkeys(("bicubic", "blocks", "blur_fade", "code", "continuous", "ddof", "margin", "mixtures"), ZERO),
    **dict.fromkeys(("start", "after", "singular_values", "tuning", "restarts", "dims", "kernels"), ZERO),
    "seed": Range(0, 2**63, closed=False), "levels": ANY, "low": ANY, "high": ANY, "target": ANY, "end": ZERO,
}  # fmt: skip
REAL = {
    **dict.fromkeys(("dropout", "decay", "magnitude_beta", "momentum", "beta1", "beta2", "betas"), DECAY),
    **dict.fromkeys(("blur", "eps", "epsilon", "init_std", "std", "input_noise", "hidden_noise", "noise"), ZERO),
    **dict.fromkeys(("weight_decay", "weight", "init_timeout", "finish_timeout", "half_life", "adversarial"), ZERO),
    **dict.fromkeys(("mean_decay", "mixing", "flip", "held_out", "quantile", "labelled_share"), SHARE),
    **dict.fromkeys(("lr", "lr_factor", "scale", "temperature", "images_per_phase", "clamp"), POSITIVE),
}  # fmt: skip
NOT_EMPTY = ("hidden", "depths", "shares", "policy", "percents")


def within_range(value: Any, name: str, place: str, whole: bool) -> None:
    """UserError, naming the place, for a number or list that an argument of this `name` can't be; `whole` says that it
    takes no fractions."""
    if isinstance(value, list):
        if not value and name in NOT_EMPTY:
            raise UserError(f"{place}=[]: must have 1 item or more")
        for index, item in enumerate(value):
            within_range(item, name, f"{place}.{index}", whole)
    if isinstance(value, bool) or not isinstance(value, int | float):
        return
    kind = "seed" if name.endswith("seed") else name
    fitting = WHOLE.get(kind, COUNT) if whole else REAL.get(name, ANY)
    if not fitting.holds(value):
        raise UserError(f"{place}={spelled(value)}: must be {fitting}")
    if whole and kind != "seed" and value > LARGEST:
        raise UserError(f"{place}={spelled(value)}: is beyond reason; must be {LARGEST:g} or less")


def spelled(value: float) -> str:
    """A number in few digits."""
    return f"{value:g}" if isinstance(value, int) and abs(value) > 10**9 else str(value)
