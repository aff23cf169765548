"""Feature matching: the generator is to agree with the data in the discriminator's features."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from gan_experiments.curves import Curve
from gan_experiments.errors import UserError
from gan_experiments.game import Game, Term

DISTANCES: dict[str, Callable[[Tensor], Tensor]] = {
    "squared": lambda difference: difference.square().sum(),
    "absolute": lambda difference: difference.abs().mean(),
}


class FeatureMatching(Term):
    """sum over levels of |<phi(x)> - <phi(G(z))>|^2, phi the features of D (Salimans et al. 2016, section 3.1).

    `levels` picks feature levels by number, -1 the last; null takes all. `distance` is `squared`, the squared
    Euclidean distance, or `absolute`, the mean absolute difference, which weighs levels of different sizes alike as
    pix2pixHD does (Wang et al. 2018, equation 4, there between paired samples).
    Raises UserError when the discriminator has no such level.
    """

    needs = ("real", "fake")
    acts_on = ("generator",)
    of_each_discriminator = True

    def __init__(
        self,
        levels: Sequence[int] | None = (-1,),
        distance: str = "squared",
        player: str = "generator",
        weight: float | Curve = 1.0,
        every: int = 1,
    ) -> None:
        super().__init__(player, weight, every)
        if distance not in DISTANCES:
            raise UserError(f"FeatureMatching: distance={distance} is unknown; there is {', '.join(DISTANCES)}")
        if isinstance(levels, int | str) or (levels is not None and (not levels or len(set(levels)) != len(levels))):
            raise UserError(f"FeatureMatching: levels={levels!r} must be a list of different numbers, or null for all")
        self.levels, self.distance = None if levels is None else tuple(levels), DISTANCES[distance]

    def check(self, game: Game) -> None:
        """UserError when the discriminator has no such level."""
        self.chosen(game.probe().features)

    def __call__(self, round: Any) -> Tensor:
        """The distance between mean features."""
        real, fake = self.chosen(round.real.features), self.chosen(round.fake.features)
        means = [x.float().mean(0) - g.float().mean(0) for x, g in zip(real, fake, strict=True)]
        return torch.stack([self.distance(difference) for difference in means]).sum()

    def chosen(self, features: tuple[Tensor, ...]) -> list[Tensor]:
        """The chosen levels of features, each (n, ...)."""
        levels = range(len(features)) if self.levels is None else self.levels
        missing = [level for level in levels if not -len(features) <= level < len(features)]
        if missing or not features:
            have = f"levels 0 to {len(features) - 1}" if features else "no features"
            asked = "all" if self.levels is None else ", ".join(map(str, missing))
            raise UserError(
                f"{self.player}/{self.name}: no feature level {asked}: the discriminator has {have}; "
                "set model=dcgan or model=mlp, or other levels"
            )
        return [features[level] for level in levels]
