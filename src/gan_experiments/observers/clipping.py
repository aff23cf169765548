"""Weight clipping, the first way to keep a Wasserstein critic Lipschitz."""

from __future__ import annotations

import torch

from gan_experiments.errors import UserError
from gan_experiments.game import Round
from gan_experiments.players import Player
from gan_experiments.trainer import Observer, Trainer


class WeightClipping(Observer):
    """Clamp every parameter of `player` to [-limit, limit] after each of its moves (Arjovsky et al. 2017, alg. 1)."""

    def __init__(self, limit: float = 0.01, player: str = "discriminator") -> None:
        if limit <= 0:
            raise UserError(f"WeightClipping: limit={limit} must be positive")
        self.limit, self.player = limit, player

    def after_move(self, trainer: Trainer, player: Player, round: Round) -> None:
        """Clamp, when it was this player who moved."""
        if player.name == self.player:
            with torch.no_grad():
                for parameter in player.parameters:
                    parameter.clamp_(-self.limit, self.limit)
