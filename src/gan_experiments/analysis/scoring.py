"""Scores finished things: runs, their checkpoints, and stored images."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, cast, final

from omegaconf import OmegaConf
from torch import Tensor

from gan_experiments import runtime as machine
from gan_experiments.analysis.choices import Choice
from gan_experiments.analysis.targets import Stored, checkpoints, common_shape, fitting_split, identify, stored
from gan_experiments.assembly import assemble_evaluator
from gan_experiments.batch_statistics import statistics_of
from gan_experiments.config import build
from gan_experiments.data.base import Dataset
from gan_experiments.data.natural import readable
from gan_experiments.errors import UserError
from gan_experiments.inference import load_generator
from gan_experiments.logging.lock import read_standing
from gan_experiments.logging.progress import stages
from gan_experiments.logging.status import State
from gan_experiments.metrics.evaluator import Evaluator
from gan_experiments.metrics.score import Score
from gan_experiments.rundir import read_config
from gan_experiments.runtime import Runtime
from gan_experiments.schema import Config
from gan_experiments.truncation import TruncationChoice

STORED_METRICS = ("fast",)
"""What stored images are scored by unless told."""


@final
@dataclass(frozen=True)
class Row:
    """What became of one target: its scores by name with their pictures, or why there are none.

    `weights` are "ema" or "raw" of a run, and "stored" of images, which have no step and have seen no images.
    """

    target: str
    weights: str = ""
    images: int = 0
    step: int = 0
    scores: Mapping[str, Score] = field(default_factory=dict)
    pictures: Mapping[str, Tensor] = field(default_factory=dict)
    error: str = ""

    def to_record(self) -> dict[str, Any]:
        """The row with its scores' full records as plain values."""
        scores = {name: score.to_record() for name, score in self.scores.items()}
        facts = {"target": self.target, "weights": self.weights, "images": self.images, "step": self.step}
        return facts | {"scores": scores, "error": self.error or None}


@final
class Scorer:
    """Scores targets as chosen; what the last one was compared with is kept for the next one."""

    def __init__(self, choice: Choice) -> None:
        self.choice = choice
        self.known: tuple[str, Evaluator] | None = None

    def score(self, target: Path) -> Iterator[Row]:
        """A row a run, a row a checkpoint, or one row for stored images.

        Among several runs, those that can't be scored give rows that say why; else UserError is raised.
        """
        found = identify(target)
        if isinstance(found, list):
            yield from self.runs(found)
        else:
            yield self.images(found)

    def runs(self, runs: Sequence[Path]) -> Iterator[Row]:
        """The rows of one or several runs."""
        alone = len(runs) == 1
        for run in runs:
            name = readable(str(run))
            try:
                if not alone:
                    require_completed(run)
                which = self.choice.checkpoints
                for state in [None] if which is None else checkpoints(run, which):
                    name = readable(str(state or run))
                    yield replace(self.run(run, state), target=name)
            except (UserError, RuntimeError, KeyError, ValueError) as error:
                if alone:
                    raise
                text = str(error) if isinstance(error, UserError) else f"{type(error).__name__}: {error}"
                yield Row(name, error=" ".join(text.split()))

    def run(self, run: Path, state: Path | None) -> Row:
        """The scores of a run's generator, at a checkpoint or at the end."""
        trained, base = load_generator(run, self.choice.raw, state, self.choice.best), read_config(run)
        settings, reference = self.choice.settings(base), None
        if self.choice.reference is not None:
            images, share, labels = stored(self.choice.reference), self.choice.held_out, self.choice.labels
            reference = images.dataset(trained.game.spec.shape, cache_of(settings), share, labels)
        with machine.applied(trained.runtime):
            evaluator = self.evaluator(settings, reference, trained.runtime, trained.game.labelled)
            for metric in evaluator.metrics.values():
                metric.meet(trained.game, trained.runtime)
            facts = (trained.weights, trained.images, trained.step)
            truncation = self.choice.truncation.build(trained.game, trained.runtime.device, settings.run.seed)
            trained = replace(trained, truncation=truncation)
            with (
                reporting(evaluator),
                statistics_of(settings).applied(trained.game, trained.runtime, truncation) as norms,
            ):
                scores = evaluator.evaluate(
                    trained.draw, *facts, trained.walk, batch_norm=norms, truncation=truncation.name
                )
            return Row(readable(str(run)), *facts, self.finished(scores), evaluator.pictures())

    def images(self, target: Stored) -> Row:
        """The scores of stored images against the reference or the data set."""
        choice = self.choice
        of_runs = (choice.checkpoints, choice.draws, choice.statistics, choice.raw or None, choice.best or None)
        if choice.truncation != TruncationChoice() or any(value is not None for value in of_runs):
            raise UserError(
                f"{target.path}: holds images; --raw, --best, --checkpoints and --draws are for runs, and so are "
                "--statistics, --psi and --truncation"
            )
        if choice.reference is None and choice.dataset is None:
            raise UserError(f"{target.path}: compared with what? Add --reference PATH or --dataset NAME")
        choice = replace(choice, metrics=choice.metrics or STORED_METRICS)
        settings = choice.settings(None)
        dataset = self.reference(target, settings)
        split = fitting_split(target, dataset, choice.size, cache_of(settings), choice.labels)
        if choice.extractors is None:
            settings = replace(choice, extractors=default_extractors(dataset)).settings(None)
        settings.evaluation.samples = choice.samples or len(split)
        runtime = machine.choose(settings.runtime, images=True)
        with machine.applied(runtime):
            evaluator = self.evaluator(settings, dataset, runtime, split.labels is not None)
            with reporting(evaluator):
                images = split.to(runtime.device)
                scores = evaluator.evaluate(images, "stored", 0, 0, batch_norm="unknown", truncation="unknown")
            return Row(readable(str(target.path)), "stored", 0, 0, self.finished(scores), evaluator.pictures())

    def reference(self, target: Stored, settings: Config) -> Dataset:
        """What stored images are compared with: the data set that was chosen, or other images."""
        choice = self.choice
        if choice.reference is None:
            return cast(Dataset, build(settings.dataset, "dataset"))
        images = stored(choice.reference)
        shape = common_shape(target, images, choice.size)
        return images.dataset(shape, cache_of(settings), choice.held_out, choice.labels)

    def evaluator(self, settings: Config, dataset: Dataset | None, runtime: Runtime, labelled: bool) -> Evaluator:
        """The evaluator for these settings and the given or the configured data, the former one if it is the same."""
        nodes = [settings.metric, settings.extractor, settings.dataset]
        parts = [OmegaConf.to_container(node, resolve=True) for node in nodes]
        identity = None if dataset is None else dataset.fingerprint
        key = json.dumps([parts, vars(settings.evaluation), settings.run.seed, identity, str(runtime), labelled])
        if self.known is None or self.known[0] != key:
            self.known = None  # frees the former one before the next is built
            dataset = cast(Dataset, build(settings.dataset, "dataset")) if dataset is None else dataset
            against = None
            if self.choice.split == "held_out":
                against = replace(dataset, train=dataset.held_out, held_out=dataset.train)
            evaluator = assemble_evaluator(settings, dataset, runtime, labelled, against)
            wanting = [name for name, metric in evaluator.metrics.items() if metric.needs_held_out]
            if wanting and not self.choice.floors:
                raise UserError(f"metric {wanting[0]} needs held-out images; give a share, such as --held-out 0.1")
            self.known = key, evaluator
        return self.known[1]

    def finished(self, scores: Mapping[str, Score]) -> dict[str, Score]:
        """The scores with the part of the data that they were compared with, and without floors that are none."""
        changes: dict[str, Any] = {"split": self.choice.split}
        if not self.choice.floors:
            changes |= {"floor": None, "n_floor": 0}
        return {name: replace(score, **changes) for name, score in scores.items()}


def default_extractors(dataset: Dataset) -> list[str]:
    """A classifier of the data's classes; UserError where there are none, since then only the user can choose."""
    if not dataset.spec.classes:
        raise UserError(
            f"{dataset.name} has no classes to train a feature network on; choose one: --extractor efficientnet_lite0 "
            "(offline), inception (that of published scores) or pixels (only for comparing pixels)"
        )
    return ["classifier"]


def require_completed(run: Path) -> None:
    """UserError with a run's state and reason unless it came to its end."""
    status = read_standing(run)
    if status is None:
        raise UserError("has not said anything yet")
    if status.state is not State.COMPLETED:
        raise UserError(f"{status.state}{': ' if status.reason else ''}{status.reason}")


def cache_of(settings: Config) -> Path:
    """The folder for decoded images, that of the data sets."""
    return Path(settings.run.data) / "cache"


@contextmanager
def reporting(evaluator: Evaluator) -> Iterator[None]:
    """A line that says how far an evaluation is."""
    with stages() as tell:
        former, evaluator.progress = evaluator.progress, tell
        try:
            yield
        finally:
            evaluator.progress = former
