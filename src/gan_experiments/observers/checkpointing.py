"""Writes the whole state every so many images, at the end, and when asked to stop."""

from __future__ import annotations

import json
import logging
from typing import Any

from gan_experiments import checkpoint
from gan_experiments.errors import NonFinite, UserError
from gan_experiments.observers.ema import Ema
from gan_experiments.players import lowering
from gan_experiments.rundir import RunDirectory, refuse_changes
from gan_experiments.trainer import Observer, Trainer

log = logging.getLogger(__name__)


class Checkpointing(Observer):
    """The last observer of a step, so that what a checkpoint holds agrees with what has been recorded.

    A state that isn't finite is never written: NonFinite is raised and the last good one stays. With each state
    goes a small file for inference: the averaged generator and the configuration.
    """

    def __init__(self, every: int, home: RunDirectory, ema: Ema, data: str) -> None:
        self.every, self.home, self.ema, self.data = every, home, ema, data

    def after_step(self, trainer: Trainer) -> None:
        """Save when it is time."""
        if trainer.passed(self.every) or trainer.ending:
            with trainer.aside():
                self.save(trainer)

    def save(self, trainer: Trainer) -> None:
        """Check that everything is finite, flush the records and write."""
        check_finite(trainer)
        self.home.records.flush(fsync=True)
        facts = {
            "config": json.dumps(self.home.config),
            "images": trainer.images,
            "step": trainer.step_count,
            "data": self.data,
            "runtime": trainer.runtime.describe(),
        }
        state = {"state": trainer.state_dict(), "records": self.home.records.position}
        self.home.checkpoints.save(trainer.step_count, facts | state)
        spec = trainer.game.spec.to_record()
        with self.ema.applied():
            weights = [module.state_dict() for module in trainer.game.sides["generator"]]
            checkpoint.save(
                self.home.generator, "generator", facts | {"spec": spec} | {"generator": weights, "weights": "ema"}
            )

    def check_origin(self, saved: dict[str, Any], trainer: Trainer) -> None:
        """Raise UserError when a saved state came from another configuration or other data; warn of another machine."""
        refuse_changes(json.loads(saved["config"]), self.home.config, self.home.path)
        if saved["data"] != self.data:
            raise UserError(
                f"run.dir={self.home.path}: the data set has changed since this run began; "
                "put the data back, or start another run.dir"
            )
        if saved["runtime"] != trainer.runtime.describe():
            log.warning("this run began on %s: from here on it isn't bit for bit the same run", saved["runtime"])


def check_finite(trainer: Trainer) -> None:
    """Raise NonFinite naming the term or player that isn't."""
    trainer.meter.check()
    for player in trainer.players:
        if not all(bool(parameter.isfinite().all()) for parameter in player.parameters):
            raise NonFinite(
                f"{player.name}: weights {NonFinite.SAID} by step {trainer.step_count}: stopped; "
                f"{lowering(trainer.players, player.name)}"
            )
