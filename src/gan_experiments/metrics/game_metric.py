"""What a metric of a game's networks is, as opposed to one of samples alone."""

from __future__ import annotations

from abc import abstractmethod

from gan_experiments.errors import UserError
from gan_experiments.game import Game
from gan_experiments.metrics.base import QualityMetric, Reading, Rows
from gan_experiments.metrics.extractors import Features
from gan_experiments.runtime import Runtime


class GameMetric(QualityMetric[Rows]):
    """A metric that asks the networks themselves; samples shown to it play no part, and there is no floor."""

    needs_reals = False
    own_floor = True
    reads_features = False

    def __init__(self, name: str) -> None:
        """A metric that goes by `name` in messages, and has met no game yet."""
        super().__init__(Rows(), Rows())
        self._name = name
        self._met: tuple[Game, Runtime] | None = None  # in a tuple, so that the game is no part of the metric

    def meet(self, game: Game, runtime: Runtime) -> None:
        """Take the game that is to be asked; UserError when it can't be."""
        self.require(game)
        self._met = (game, runtime)
        self._update_count = 1  # torchmetrics warns of computing what was never shown a sample

    @abstractmethod
    def require(self, game: Game) -> None:
        """UserError, naming this metric and what would fit, when the game has nothing to ask."""

    def update(self, features: Features, real: bool) -> None:
        """Samples play no part."""

    def compute(self) -> list[Reading]:
        """The readings of the game as it is now; UserError without a game."""
        if self._met is None:
            raise UserError(f"metric {self._name} asks a run's networks; stored images have none: leave it out")
        return self.ask(*self._met)

    @abstractmethod
    def ask(self, game: Game, runtime: Runtime) -> list[Reading]:
        """The readings of this game."""
