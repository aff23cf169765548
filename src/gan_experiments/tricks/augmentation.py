"""Augmentation by ADA's pipeline with a probability that is planned, not driven by feedback."""

from __future__ import annotations

import torch
from torch import Tensor

from gan_experiments.curves import Curve, within
from gan_experiments.errors import UserError
from gan_experiments.game import Round
from gan_experiments.trick import Report
from gan_experiments.tricks import pipeline
from gan_experiments.tricks.views import ImageTrick

CUTOUT_SIZE = 0.5


def cut(images: Tensor, probability: Tensor, random: torch.Generator) -> Tensor:
    """Images (n, c, h, w), of each with the probability a rectangle of half its sides set to zero, around a point drawn
    evenly over the image and cut off at its border (Karras et al. 2020, appendix B)."""
    n, _, height, width = images.shape
    dice = pipeline.Dice(n, probability, random)
    half = dice.maybe(torch.full((n,), CUTOUT_SIZE / 2, device=images.device), -1.0).view(-1, 1, 1, 1)
    inside = torch.ones(n, 1, 1, 1, dtype=torch.bool, device=images.device)
    for side, shape in ((height, (1, 1, -1, 1)), (width, (1, 1, 1, -1))):
        centre = ((dice.uniform() + 1) / 2).view(-1, 1, 1, 1)
        places = (torch.arange(side, device=images.device) + 0.5) / side
        inside = inside & ((places.view(shape) - centre).abs() < half)
    return images * ~inside


class Augmentation(ImageTrick):
    """Each augmentation happens to each image with `probability`, a number or a curve, times the factor of its kind.

    `geometry` is for mirroring, quarter turns, shifts, scaling and rotation, `color` for brightness, contrast, luma
    flips, hue and saturation, `cutout` for rectangles set to zero; the defaults are R3GAN's (Huang et al. 2024).
    Raises UserError for factors or probabilities outside [0, 1].
    """

    rank = 60

    def __init__(
        self,
        probability: float | Curve,
        geometry: float = 1.0,
        color: float = 0.5,
        cutout: float = 1.0,
    ) -> None:
        super().__init__()
        factors = {"geometry": geometry, "color": color, "cutout": cutout}
        if any(not 0 <= factor <= 1 for factor in factors.values()):
            said = ", ".join(f"{name}={factor}" for name, factor in factors.items())
            raise UserError(f"{said}: each multiplies the probability and must be within [0, 1]")
        self.probability = within(probability, "probability", 0.0, 1.0)
        self.geometry, self.color, self.cutout = geometry, color, cutout

    def strength(self, round: Round) -> float:
        """The probability at the time of the round."""
        return self.probability(round.deal.images, round.deal.total)

    def view(self, round: Round, name: str, samples: Tensor) -> Tensor:
        """Images, each with draws of its own."""
        p = torch.tensor(self.strength(round), device=samples.device)
        random = round.deal.random(f"{self.name}/{name}")
        with torch.autocast(samples.device.type, enabled=False):  # positions in half precision would miss pixels
            samples = pipeline.warp(samples, p * self.geometry, random, blit=True, geometry=True)
            samples = pipeline.recolor(samples, p * self.color, random)
            return cut(samples, p * self.cutout, random)

    def after_move(self, round: Round, report: Report) -> None:
        """Log the probability."""
        if round.deal.player == "discriminator":
            report(f"trick/{self.name}_probability", self.strength(round))
