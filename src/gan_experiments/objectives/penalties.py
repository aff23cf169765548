"""Penalties on the slope of the discriminator, the gradient of its logits with respect to its input.

The norm runs over all dimensions of a sample, the gradient is of the sum of logits, and the mean is over the
batch. Values are unweighted: `weight` multiplies them, and R1 and R2 carry the 1/2 of the gamma/2 convention.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from gan_experiments.curves import Curve
from gan_experiments.errors import UserError
from gan_experiments.game import Round, Term

SMALLEST_SQUARE = 1e-20  # the square root has no derivative at 0: a constant discriminator would give NaN


def squared_norm(slope: Tensor) -> Tensor:
    """Squared Euclidean norm (n,) of each sample's slope (n, ...)."""
    return slope.flatten(1).square().sum(1)


SETS = ("interpolates", "perturbed", "reals", "fakes")
"""Sets of samples at which the discriminator's slope can be taken."""


class Slope(Term):
    """A penalty on the slope of the discriminator."""

    acts_on = ("discriminator",)
    of_each_discriminator = True

    def chosen(self, at: Sequence[str]) -> tuple[str, ...]:
        """The sets `at`; UserError unless they are different sets at which a slope can be taken."""
        if isinstance(at, str) or not at or len(set(at)) != len(at) or not set(at) <= set(SETS):
            raise UserError(
                f"{type(self).__name__}: at={at!r}: must be a list of different sets among {', '.join(SETS)}"
            )
        return tuple(at)


class AtOneSet(Slope):
    """A penalty on the slope at one set of samples."""

    def __init__(self, at: str, player: str, weight: float | Curve, every: int) -> None:
        super().__init__(player, weight, every)
        if at not in SETS:
            raise UserError(f"{type(self).__name__}: at={at!r}: must be one of {', '.join(SETS)}")
        self.at = at

    @property
    def watches(self) -> tuple[str, ...]:
        """The one set."""
        return (self.at,)


class ZeroCentred(AtOneSet):
    """1/2 <|grad D|^2>; with weight gamma this is gamma/2 <|grad D|^2>."""

    def __call__(self, round: Round) -> Tensor:
        """Half the mean squared norm of the slope."""
        return 0.5 * squared_norm(round.slope(self.at)).mean()


class R1(ZeroCentred):
    """1/2 <|grad D(x)|^2> on real samples (Mescheder et al. 2018, simplified gradient penalties)."""

    def __init__(self, player: str = "discriminator", weight: float | Curve = 1.0, every: int = 1) -> None:
        super().__init__("reals", player, weight, every)


class R2(ZeroCentred):
    """1/2 <|grad D(G(z))|^2> on generated samples (Mescheder et al. 2018, simplified gradient penalties)."""

    def __init__(self, player: str = "discriminator", weight: float | Curve = 1.0, every: int = 1) -> None:
        super().__init__("fakes", player, weight, every)


class GradientPenalty(Slope):
    """Mean over the chosen sets of <(|grad D| - target)^power> (Gulrajani et al. 2017, equation 3, and its kin).

    `at` is any mix of interpolates, perturbed, reals and fakes: interpolates alone is WGAN-GP, perturbed alone DRAGAN
    (Kodali et al. 2017); reals with fakes is 1/2 (<...> + <...>), the penalty on real and generated samples apart.
    Target 0 is <|grad D|^power>: zero-centred with power 2, WGAN-div with power 6 (Wu et al. 2018). `one_sided` counts
    only slopes above the target (Petzka et al. 2018). `power` must be even, so that the penalty is never negative.
    """

    def __init__(
        self,
        at: Sequence[str] = ("interpolates",),
        target: float = 1.0,
        power: int = 2,
        one_sided: bool = False,
        player: str = "discriminator",
        weight: float | Curve = 10.0,
        every: int = 1,
    ) -> None:
        super().__init__(player, weight, every)
        if power < 2 or power % 2:
            raise UserError(f"GradientPenalty: power={power} must be even and at least 2")
        self.at, self.target, self.power, self.one_sided = self.chosen(at), target, power, one_sided

    @property
    def watches(self) -> tuple[str, ...]:
        """The chosen sets."""
        return self.at

    def __call__(self, round: Round) -> Tensor:
        """The mean over sets and samples."""
        return torch.stack([self.excess(round.slope(name)).pow(self.power).mean() for name in self.at]).mean()

    def excess(self, slope: Tensor) -> Tensor:
        """How far each sample's slope norm (n,) is from the target; only above it when one-sided."""
        distance = squared_norm(slope).clamp_min(SMALLEST_SQUARE).sqrt() - self.target
        return distance.relu() if self.one_sided else distance


class MaxGradient(AtOneSet):
    """max over the batch of |grad D|^2 at one set of samples (Zhou et al. 2019, Lipschitz GANs: MaxGP).

    Only the steepest sample counts, so that the penalty bounds the Lipschitz constant and not the mean slope.
    """

    def __init__(
        self,
        at: str = "interpolates",
        player: str = "discriminator",
        weight: float | Curve = 10.0,
        every: int = 1,
    ) -> None:
        super().__init__(at, player, weight, every)

    def __call__(self, round: Round) -> Tensor:
        """The largest squared norm of the slope."""
        return squared_norm(round.slope(self.at)).max()
