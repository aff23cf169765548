"""Regularizers that reward the generator for different samples of different latents."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from gan_experiments.curves import Curve
from gan_experiments.errors import UserError
from gan_experiments.game import Term


class ModeSeeking(Term):
    """1 / (<|G(z1) - G(z2)|> / <|z1 - z2|> + epsilon), to be minimised (Mao et al. 2019, as in the published code).

    z1 and z2 are the two halves of the round's latents, <|.|> is the mean absolute value over batch and components.
    """

    needs = ("latents", "fakes")
    acts_on = ("generator",)
    smallest_batch = 2

    def __init__(
        self,
        epsilon: float = 1e-5,
        player: str = "generator",
        weight: float | Curve = 1.0,
        every: int = 1,
    ) -> None:
        super().__init__(player, weight, every)
        if epsilon <= 0:
            raise UserError(f"ModeSeeking: epsilon={epsilon} must be positive")
        self.epsilon = epsilon

    def __call__(self, round: Any) -> Tensor:
        """The inverse ratio of distances."""
        ratio = half_distance(round.fakes) / half_distance(round.latents)
        return 1 / (ratio + self.epsilon)


def half_distance(samples: Tensor) -> Tensor:
    """Mean absolute difference between the first half of the samples (n, ...) and the second."""
    half = len(samples) // 2
    return (samples[:half] - samples[half : 2 * half]).abs().mean()
