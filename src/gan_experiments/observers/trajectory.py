"""The path of a game with few weights: every single one of them, after every step."""

from __future__ import annotations

from torch import Tensor

from gan_experiments.errors import UserError
from gan_experiments.game import Game
from gan_experiments.logging.logger import Logger
from gan_experiments.logging.records import Records
from gan_experiments.modules import count_parameters
from gan_experiments.trainer import Observer, Trainer

MOST = 16


class Trajectory(Observer):
    """One record of kind `parameters` a step, and one of the start: each weight by player and name.

    A weight of several numbers gives one value for each, numbered in order. Raises UserError for more than 16.
    """

    def __init__(self, game: Game, records: Records, logger: Logger) -> None:
        self.records, self.logger = records, logger
        self.weights: dict[str, Tensor] = {}
        for side, modules in game.sides.items():
            if sum(map(count_parameters, modules)) > MOST:
                raise UserError(
                    f"log.parameters=true: {side} has {sum(map(count_parameters, modules)):,} weights; at most {MOST} "
                    "a player are recorded one by one, as in experiment=dirac; set log.parameters=false"
                )
            for module in modules:
                self.weights |= {f"{side}/{name}": weight for name, weight in module.named_parameters()}
        self.start = self.values()

    def values(self) -> dict[str, float]:
        """Every weight now, by name."""
        values: dict[str, float] = {}
        for name, weight in self.weights.items():
            numbers = weight.detach().flatten().tolist()
            names = [name] if len(numbers) == 1 else [f"{name}.{place}" for place in range(len(numbers))]
            values |= dict(zip(names, numbers, strict=True))
        return values

    def after_step(self, trainer: Trainer) -> None:
        """Write where the players are; before the first such record, where they began."""
        if trainer.step_count == 1:
            self.write(0, 0, self.start)
        self.write(trainer.images, trainer.step_count, self.values())

    def write(self, images: int, step: int, values: dict[str, float]) -> None:
        """One record, and one row on the dashboard."""
        self.records.write("parameters", images, step, values)
        self.logger.log(values, images)
