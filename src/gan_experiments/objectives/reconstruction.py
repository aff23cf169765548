"""The discriminator's maps must hold enough of an image to reconstruct it (Liu et al. 2021, FastGAN, section 3.2)."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from gan_experiments.curves import Curve
from gan_experiments.game import Term


class Reconstruction(Term):
    """Mean error of what the discriminator's decoders make of its maps, on real images as it is shown them.

    The error is the mean absolute difference, where the published code has a perceptual distance.
    """

    needs = ("real", "reconstruction")
    acts_on = ("discriminator",)
    remedy = "set model=fastgan and model.discriminator.reconstruct=true, whose discriminator has decoders"

    def __init__(self, player: str = "discriminator", weight: float | Curve = 1.0, every: int = 1) -> None:
        super().__init__(player, weight, every)

    def __call__(self, round: Any) -> Tensor:
        """The mean over the batch, of the sum over decoders."""
        error: Tensor = round.real.heads["reconstruction"]
        return error.mean()
