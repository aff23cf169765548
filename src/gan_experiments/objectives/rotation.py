"""Self-supervision by rotation: the discriminator tells by which quarter turns images were rotated."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from gan_experiments.curves import Curve
from gan_experiments.errors import UserError
from gan_experiments.game import Game, Term
from gan_experiments.objectives.consistency import ACTS_ON


def quarter_turns(images: Tensor, turns: Tensor) -> Tensor:
    """Square images (n, c, s, s), each turned left by as many right angles as `turns` (n,), 0 to 3, says."""
    turned = images
    for k in (1, 2, 3):
        turned = torch.where((turns == k).view(-1, 1, 1, 1), images.rot90(k, (2, 3)), turned)
    return turned


class Rotation(Term):
    """CE(Q(x^r), r): the cross-entropy of the turn r of rotated images (Chen et al. 2019, SSGAN, equations 3 and 4).

    Each image of the set `at` is judged at one of four turns, image i at i mod 4 of them. D learns turns from reals; G
    wants those of its samples to be recognised. Raises UserError unless the data are square images.
    """

    remedy = "regularizer=[rotation] brings the trick rotation that gives them"

    def __init__(
        self, at: str = "reals", player: str = "discriminator", weight: float | Curve = 1.0, every: int = 1
    ) -> None:
        super().__init__(player, weight, every)
        if at not in ACTS_ON:
            raise UserError(f"Rotation: at={at!r}: use {' or '.join(ACTS_ON)}")
        self.at, self.needs, self.acts_on = at, (at, "rotations"), ACTS_ON[at]

    def check(self, game: Game) -> None:
        """UserError for points and for images that quarter turns give another shape."""
        if not game.spec.is_image or game.spec.shape[1] != game.spec.shape[2]:
            raise UserError(
                f"{self.player}/{self.name}: quarter turns are for square images, but samples have shape "
                f"{game.spec.shape}; leave it out"
            )

    def __call__(self, round: Any) -> Tensor:
        """Mean over images, in nats; log 4 when undecided."""
        samples, _ = round.points(self.at)
        turns = torch.arange(len(samples), device=samples.device) % 4
        verdict = round.judge(quarter_turns(samples, turns), f"rotated {self.at}", round.classes_of(self.at))
        return cross_entropy(verdict.heads["rotations"].float(), turns)
