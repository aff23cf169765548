"""Path length regularization: images are to change evenly with styles, wherever and whichever way those move."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from gan_experiments.curves import Curve
from gan_experiments.errors import UserError
from gan_experiments.game import Term
from gan_experiments.trick import Report

SMALLEST_SQUARE = 1e-20  # the square root has no derivative at 0: a constant generator would give NaN


class PathLength(Term):
    """<(|J^T y| - a)^2>, J the Jacobian of images by styles, y ~ N(0, 1)/sqrt(pixels) (Karras et al. 2020, equation 4).

    |J^T y| is the root of the sum of squares over a style, averaged over layers. The target a is a moving average of
    <|J^T y|>, which moves by `decay` of the way each time, before it is used; it is state. Only one in `shrink` of a
    batch's images counts, which saves memory. Raises UserError for settings that can't be.
    """

    needs = ("styles",)
    acts_on = ("generator",)
    remedy = "set model=stylegan2 or another with a generator of styles"

    def __init__(
        self,
        decay: float = 0.01,
        shrink: int = 2,
        player: str = "generator",
        weight: float | Curve = 2.0,
        every: int = 4,
    ) -> None:
        super().__init__(player, weight, every)
        if not 0 < decay <= 1 or shrink < 1:
            raise UserError(f"PathLength: decay={decay} must be within (0, 1], and shrink={shrink} 1 or more")
        self.decay, self.shrink = decay, shrink
        self.average = self.moved = torch.zeros(())

    def __call__(self, round: Any) -> Tensor:
        """The mean squared distance of path lengths from their average."""
        lengths = self.lengths(round)
        moved = torch.lerp(self.average.to(lengths), lengths.mean(), self.decay)
        self.moved = moved.detach()
        return (lengths - moved).square().mean()

    def lengths(self, round: Any) -> Tensor:
        """|J^T y| (n,) of the first of the round's images, float32."""
        styles: Tensor = round.styles[: max(len(round.styles) // self.shrink, 1)]
        if not styles.requires_grad:
            styles = styles.detach().requires_grad_(True)
        kind = styles.device.type
        reduced = torch.is_autocast_enabled(kind) and not round.deal.full_precision_slopes
        with torch.autocast(kind, enabled=reduced):
            images = round.synthesise(styles)
        noise = torch.randn(images.shape, generator=round.deal.random(self.name), device=images.device)
        # Backward passes that keep a graph obey autocast like forward ones, and would lose precision to it.
        with torch.autocast(kind, enabled=False):
            along = (images.float() * noise).sum() / math.sqrt(images[0, 0].numel())
            (gradient,) = torch.autograd.grad(along, styles, create_graph=True)
        return gradient.float().square().sum(2).mean(1).clamp_min(SMALLEST_SQUARE).sqrt()

    def after_move(self, round: Any, report: Report) -> None:
        """Keep the average."""
        self.average = self.moved
        report(f"{self.player}/{self.name}_average", self.average)

    def state_dict(self) -> dict[str, Any]:
        """The moving average."""
        return {"average": self.average}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take back what `state_dict` gave."""
        self.average = state["average"]
