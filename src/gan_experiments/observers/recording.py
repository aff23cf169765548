"""Writes what was measured, every so many images, to metrics.jsonl, the dashboard and the progress line."""

from __future__ import annotations

import time
from typing import Any

from gan_experiments.logging.logger import Logger
from gan_experiments.logging.progress import Progress
from gan_experiments.logging.records import Records
from gan_experiments.logging.status import Status
from gan_experiments.networks.informed import readings
from gan_experiments.trainer import Observer, Trainer


class Recorder(Observer):
    """Every `every` images: means of all terms and diagnostics since the last record, learning rates, where timed parts
    of networks stand, images/s.

    Raises NonFinite, naming term or player, when one of them wasn't finite.
    """

    def __init__(self, every: int, records: Records, logger: Logger, progress: Progress, status: Status) -> None:
        self.every, self.records, self.logger, self.progress, self.status = every, records, logger, progress, status
        self.since = time.perf_counter()
        self.images = -1

    def after_step(self, trainer: Trainer) -> None:
        """Write a record when it is time."""
        if self.images < 0:
            self.images = trainer.images - trainer.images_per_step
        if trainer.passed(self.every) or trainer.finished:
            self.write(trainer)
        self.progress.update(trainer.images)

    def write(self, trainer: Trainer) -> None:
        """One record of the interval that ends now."""
        values: dict[str, Any] = trainer.meter.drain()
        now = time.perf_counter()
        seconds = max(now - self.since - trainer.seconds_aside, 1e-9)
        values |= {f"{player.name}/lr": player.tuned.lr for player in trainer.players}
        for name, networks in trainer.game.sides.items():
            values |= {f"{name}/{what}": number for what, number in readings(networks).items()}
        values["progress/images_per_second"] = (trainer.images - self.images) / seconds
        self.since, self.images, trainer.seconds_aside = now, trainer.images, 0.0
        self.records.write("train", trainer.images, trainer.step_count, values)
        self.logger.log(values, trainer.images)
        self.status.update(images=trainer.images, step=trainer.step_count)
        names = {f"{player.name}/{player.terms[0].name}": player.name for player in trainer.players}
        losses = {short: values[name] for name, short in names.items() if name in values}
        self.progress.show(losses, rate=values["progress/images_per_second"])
