"""What an option of the group `loss` is: for each of its players, a term."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar

from gan_experiments.curves import Curve
from gan_experiments.errors import UserError
from gan_experiments.game import Game, Term


class Objective(ABC):
    """What the players of a game minimise first of all; `players` names those it has a share for."""

    players: ClassVar[tuple[str, ...]]

    @abstractmethod
    def share(self, player: str, weight: float | Curve) -> Share:
        """The term of `player`, one of `players`."""


class Share(Term):
    """One player's part of an objective."""

    def __init__(self, objective: Objective, player: str, weight: float | Curve = 1.0) -> None:
        super().__init__(player, weight)
        self.objective = objective


def check_shares(game: Game, objective: Objective) -> None:
    """UserError unless the objective has a share for each player of the game, and for nobody else."""
    loss, family = type(objective).__name__, type(game).__name__
    absent = [name for name in objective.players if name not in game.sides]
    if absent:
        raise UserError(
            f"{family} has no {' and no '.join(absent)}, which loss {loss} is for; loss={game.fitting_loss} fits"
        )
    idle = [name for name in game.sides if name not in objective.players]
    if idle:
        raise UserError(
            f"loss {loss} has nothing for {' and '.join(idle)}, whom {family} has; loss={game.fitting_loss} fits"
        )
