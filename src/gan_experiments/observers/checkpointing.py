"""Writes the whole state every so many images, at the end, and when asked to stop."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from typing import Any

from gan_experiments import checkpoint
from gan_experiments.errors import UserError
from gan_experiments.observers.best import Best
from gan_experiments.observers.ema import Ema
from gan_experiments.observers.finite import check_finite
from gan_experiments.rundir import RunDirectory, refuse_changes
from gan_experiments.trainer import Observer, Trainer

log = logging.getLogger(__name__)


class Checkpointing(Observer):
    """The last observer of a step, so that what a checkpoint holds agrees with what has been recorded.

    A state that isn't finite is never written: NonFinite is raised and the last good one stays. With each state go
    small files for inference, with the configuration: the averaged generator, and the `best` one as soon as there is
    a better one.
    """

    def __init__(self, every: int, home: RunDirectory, ema: Ema, data: str, best: Best | None = None) -> None:
        self.every, self.home, self.ema, self.data, self.best = every, home, ema, data, best
        self.written: Mapping[str, Any] | None = None

    def after_step(self, trainer: Trainer) -> None:
        """Save when it is time."""
        if trainer.passed(self.every) or trainer.ending:
            with trainer.aside():
                self.save(trainer)
        elif self.best is not None and self.best.record is not self.written:
            with trainer.aside():
                self.save_best(trainer)

    def save(self, trainer: Trainer) -> None:
        """Check that everything is finite, flush the records and write."""
        check_finite(trainer)
        self.home.records.flush(fsync=True)
        facts = self.facts(trainer)
        records = {"records": self.home.records.position, "records_sha256": self.home.records.sha256}
        self.home.checkpoints.save(trainer.step_count, facts | records | {"state": trainer.state_dict()})
        with self.ema.applied():
            weights = [module.state_dict() for module in trainer.game.sides["generator"]]
            checkpoint.save(self.home.generator, "generator", facts | {"generator": weights, "weights": "ema"})
        self.save_best(trainer)
        self.home.status.update(saved=trainer.images)

    def save_best(self, trainer: Trainer) -> None:
        """Write the best generator, if it isn't the one that has been written."""
        best = self.best
        if best is None or best.record is None or best.record is self.written:
            return
        own = {name: best.record[name] for name in ("images", "step", "weights")}
        score = {"score": {**best.record, "name": best.score}}
        checkpoint.save(self.home.best, "generator", self.facts(trainer) | own | score | {"generator": best.weights})
        self.written = best.record

    def facts(self, trainer: Trainer) -> dict[str, Any]:
        """What files say of themselves: configuration, when, on which data and machine, and what samples look like."""
        return {
            "spec": trainer.game.spec.to_record(),
            "config": json.dumps(self.home.config),
            "images": trainer.images,
            "step": trainer.step_count,
            "data": self.data,
            "runtime": trainer.runtime.describe(),
        }

    def check_origin(self, saved: dict[str, Any], trainer: Trainer) -> None:
        """Raise UserError when a saved state came from another configuration or other data; warn of another machine."""
        try:
            config = dict(json.loads(saved["config"]))
        except (ValueError, TypeError) as error:
            where = self.home.checkpoints.paths()[-1]
            raise UserError(f"{where}: its config is no JSON ({error}); put the former file back") from error
        refuse_changes(config, self.home.config, self.home.path)
        if saved["data"] != self.data:
            raise UserError(
                f"run.dir={self.home.path}: the data set has changed since this run began; "
                "put the data back, or start another run.dir"
            )
        if saved["runtime"] != trainer.runtime.describe():
            log.warning("this run began on %s: from here on it isn't bit for bit the same run", saved["runtime"])
