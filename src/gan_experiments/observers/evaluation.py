"""Scores the generator every so many images and at the end."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from gan_experiments.batch_statistics import RUNNING, BatchStatistics
from gan_experiments.data.base import Batch
from gan_experiments.errors import NonFinite, UserError
from gan_experiments.logging.logger import Logger
from gan_experiments.logging.progress import Progress
from gan_experiments.logging.records import Records
from gan_experiments.logging.score_table import recorded_bests, score_table
from gan_experiments.logging.status import Status
from gan_experiments.metrics.evaluator import Evaluator
from gan_experiments.metrics.score import Score
from gan_experiments.metrics.statistics_cache import extractor_facts
from gan_experiments.observers.ema import Ema
from gan_experiments.observers.finite import check_finite
from gan_experiments.pictures import save_png
from gan_experiments.players import lowering
from gan_experiments.sampling import draw, walk
from gan_experiments.trainer import Observer, Trainer

log = logging.getLogger(__name__)


class Evaluation(Observer):
    """Every `every` images and at the end: all metrics for the averaged weights and, with `raw`, for the live ones.

    Batch norms use the `statistics` chosen, and have their own back afterwards. `latest` are the last scores' records.
    """

    def __init__(
        self,
        every: int,
        raw: bool,
        evaluator: Evaluator,
        ema: Ema,
        folder: Path,
        records: Records,
        logger: Logger,
        progress: Progress,
        status: Status,
        statistics: BatchStatistics = RUNNING,
    ) -> None:
        self.every, self.raw, self.evaluator, self.ema, self.folder = every, raw, evaluator, ema, folder
        self.records, self.logger, self.progress, self.status = records, logger, progress, status
        self.statistics = statistics
        self.latest: Mapping[str, Mapping[str, Any]] = {}

    def after_step(self, trainer: Trainer) -> None:
        """Score, record and say it, when it is time."""
        if not (trainer.passed(self.every) or trainer.finished):
            return
        check_finite(trainer)
        with trainer.aside():
            try:
                scores = self.score(trainer, averaged=True)
                self.show(self.evaluator.pictures(), trainer.images)
                if self.raw:
                    scores |= {f"raw_{name}": score for name, score in self.score(trainer, averaged=False).items()}
            except NonFinite as error:
                raise NonFinite(f"{error}: stopped; {lowering(trainer.players, 'generator')}") from error
        records = {name: score.to_record() for name, score in scores.items()}
        self.latest = records
        self.records.write("scores", trainer.images, trainer.step_count, records)
        self.logger.scores(records, trainer.images)
        self.status.update(images=trainer.images, step=trainer.step_count, scores=records)
        self.progress.show({}, {name: score.value for name, score in scores.items()})
        if not trainer.finished:  # a run's last words have the last scores
            log.info("%s", score_table(records, recorded_bests(self.records.path), trainer.images))

    def score(self, trainer: Trainer, averaged: bool) -> dict[str, Score]:
        """All metrics for one set of weights."""

        def samples(n: int, generator: torch.Generator) -> Batch:
            return draw(trainer.game, n, generator, trainer.runtime)

        def pairs(n: int, generator: torch.Generator, epsilon: float, end: bool) -> tuple[Tensor, Tensor]:
            return walk(trainer.game, n, generator, trainer.runtime, epsilon, end)

        with ExitStack() as stack:
            if averaged:
                stack.enter_context(self.ema.applied())
            norms = stack.enter_context(self.statistics.applied(trainer.game, trainer.runtime))
            facts = ("ema" if averaged else "raw", trainer.images, trainer.step_count)
            return self.evaluator.evaluate(samples, *facts, pairs, batch_norm=norms)

    def show(self, pictures: Mapping[str, Tensor], images: int) -> None:
        """Save the metrics' pictures beside the sample grids, and put them on the dashboard."""
        for name, picture in pictures.items():
            pixels = picture.permute(1, 2, 0).cpu().contiguous().numpy()
            save_png(self.folder / f"{name}-{images:09d}.png", pixels)
            self.logger.log_images(f"pictures/{name}", pixels, images, f"{images:,} images, averaged weights")


def check_extractors(records: Mapping[str, Mapping[str, Any]], evaluator: Evaluator) -> None:
    """UserError when scores of these records were made by the evaluator's networks with other weights."""
    facts = [extractor_facts(station.extractor) for station in evaluator.stations]
    now = {fact["extractor"]: fact["extractor_sha256"] for fact in facts}
    for name, record in records.items():
        before, after = record.get("extractor_sha256"), now.get(record.get("extractor", ""))
        if None not in (before, after) and before != after:
            raise UserError(
                f"extractor {record['extractor']}: its weights have SHA-256 {str(after)[:12]}..., but {name} was "
                f"measured with {str(before)[:12]}...; set its weights to the same file, or another run.dir"
            )
