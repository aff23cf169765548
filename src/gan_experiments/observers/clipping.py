"""Weight clipping, the first way to keep a Wasserstein critic Lipschitz."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch.nn.utils import parametrize

from gan_experiments.errors import UserError
from gan_experiments.players import Player
from gan_experiments.trainer import Observer, Trainer


class WeightClipping(Observer):
    """Clamp every parameter of `player` to [-limit, limit] after each of its updates (Arjovsky et al. 2017, alg. 1).

    Raises UserError for no such player, and for one with spectral norm.
    """

    def __init__(self, limit: float = 0.01, player: str = "discriminator") -> None:
        if limit <= 0:
            raise UserError(f"WeightClipping: limit={limit} must be positive")
        self.limit, self.player = limit, player

    def check(self, players: Mapping[str, Player]) -> None:
        """UserError for a player who isn't there, or whose weights are normalised afterwards."""
        if self.player not in players:
            raise UserError(f"{self.name}: no such player: {self.player}; the game has {', '.join(players)}")
        modules = [module for network in players[self.player].modules for module in network.modules()]
        if any(parametrize.is_parametrized(module) for module in modules):
            raise UserError(
                f"{self.name} limits weights of the {self.player} that spectral norm divides by their largest singular "
                "value, which undoes it; leave out regularizer=weight_clipping, or spectral_norm"
            )

    def after_update(self, trainer: Trainer, player: Player) -> None:
        """Clamp, when it was this player's."""
        if player.name == self.player:
            with torch.no_grad():
                for parameter in player.parameters:
                    parameter.clamp_(-self.limit, self.limit)
