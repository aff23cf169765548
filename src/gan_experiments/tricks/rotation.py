"""The discriminator's head for rotations; what it is for is a regularizer (`rotation`)."""

from __future__ import annotations

from collections.abc import Mapping

from gan_experiments.errors import UserError
from gan_experiments.game import Game
from gan_experiments.networks.bodies import FurtherHead
from gan_experiments.players import Player
from gan_experiments.trick import Factory, Trick

TURNS = 4


class RotationHead(FurtherHead):
    """Logits (n, 4) of quarter turns."""

    gives = ("rotations",)


class Rotations(Trick):
    """Gives the discriminator a second head that tells quarter turns apart (Chen et al. 2019, SSGAN)."""

    rank = 45  # around wrappers that replace the head
    players = ("discriminator",)

    def network(self, player: str, make: Factory) -> Factory:
        """The network with the head beside its own."""
        return lambda spec: RotationHead(make(spec), spec, TURNS, f"trick {self.name}")

    def check(self, game: Game, players: Mapping[str, Player]) -> None:
        """UserError when one verdict covers several images."""
        if game.pack > 1:
            raise UserError(f"trick {self.name} turns single images, which trick packing judges in packs; choose one")
