"""From a configuration to a finished run: data, game, players, observers, trainer; read from top to bottom."""

from __future__ import annotations

import logging
import signal
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from omegaconf import DictConfig

from gan_experiments import runtime as machine
from gan_experiments.analysis.divergence import Diverged
from gan_experiments.assembly import assemble_evaluator, build_game, build_trainer
from gan_experiments.batch_statistics import statistics_of
from gan_experiments.config import build, plain
from gan_experiments.data.base import Dataset
from gan_experiments.errors import UserError
from gan_experiments.game import Game
from gan_experiments.logging.logger import Logger
from gan_experiments.logging.progress import Progress
from gan_experiments.logging.provenance import add_start
from gan_experiments.logging.status import State
from gan_experiments.metrics.evaluator import Evaluator
from gan_experiments.modules import count_parameters
from gan_experiments.observers.best import Best
from gan_experiments.observers.checkpointing import Checkpointing
from gan_experiments.observers.diagnosis import Diagnosis
from gan_experiments.observers.diagnostics import Diagnostics, classifier_of
from gan_experiments.observers.ema import Ema
from gan_experiments.observers.evaluation import Evaluation
from gan_experiments.observers.recording import Recorder
from gan_experiments.observers.samples import SampleGrids
from gan_experiments.observers.trajectory import Trajectory
from gan_experiments.resuming import resume
from gan_experiments.rundir import RunDirectory
from gan_experiments.runtime import Runtime
from gan_experiments.schema import Config, typed
from gan_experiments.signals import Interrupted, stopping_on_signals
from gan_experiments.summary import closing, describe_data
from gan_experiments.trainer import Observer, Trainer

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Outlets:
    """Where a run reports to."""

    home: RunDirectory
    logger: Logger
    progress: Progress


def run(config: DictConfig, directory: Path, again: str = "") -> float | None:
    """Train, or continue, or just report, the run that `config` describes in `directory`; returns its objective.

    `again` is the command that continues it. Whatever ends the run, status.json says so. Raises UserError for mistakes
    of the user's.
    """
    settings = typed(config)
    with RunDirectory(directory, plain(config), settings.checkpoint.keep) as home:
        if home.former is not None and home.completed:
            log.info("%s is complete (%s images)%s", directory, f"{home.former.images:,}", but_diverged(home))
            say_closing(home, settings)
            return home.former.objective
        home.refuse_repetition()
        log.info("run.dir: %s", directory)
        home.status.update(State.RUNNING, reason="", saved=None if home.checkpoints.paths() else 0)
        try:
            objective = train(settings, home, again or f"the same command with run.dir={directory}")
        except (Interrupted, SystemExit, KeyboardInterrupt) as stop:
            saved = home.status.current.saved or 0
            at_once = f"interrupted at once; {f'{saved:,} images are saved' if saved else 'nothing was saved for it'}"
            reason = str(stop) if isinstance(stop, Interrupted) else at_once
            home.status.update(State.STOPPED, reason=reason)
            raise
        except BaseException as error:
            home.status.update(State.FAILED, reason=str(error) or type(error).__name__)
            raise
        home.status.update(State.COMPLETED, objective=objective)
        log.info("%s: completed%s", directory, but_diverged(home))
        say_closing(home, settings)
        return objective


def but_diverged(home: RunDirectory) -> str:
    """What must be said of a run that reached its end in ruins."""
    found = (said["sentence"] for said in home.status.current.diagnosis if said["name"] == Diverged.name)
    return next((f", but it diverged: {sentence}" for sentence in found), "")


def say_closing(home: RunDirectory, settings: Config) -> None:
    """Scores, best moment, picture, next commands."""
    for text in closing(home, settings.run.objective):
        log.info("%s", text)


def train(settings: Config, home: RunDirectory, again: str) -> float | None:
    """Build all parts, continue from the newest checkpoint if there is one, run to the end."""
    dataset = cast(Dataset, build(settings.dataset, "dataset"))
    runtime = machine.choose(settings.runtime, dataset.spec.is_image)
    log.info("%s", runtime.describe())
    log.info("%s", describe_data(dataset))
    with machine.applied(runtime):
        logger = cast(Logger, build(settings.logger, "logger"))
        game = build_game(settings, dataset.spec)
        game.give(dataset.held_out)
        runtime.place(game)
        trainer, ema = build_trainer(settings, game, dataset.to(runtime.device), runtime)
        evaluator = build_evaluator(settings, dataset, runtime, game.labelled)
        for metric in evaluator.metrics.values():
            metric.meet(game, runtime)
        outlets = Outlets(home, logger, Progress(trainer.total, objective=settings.run.objective))
        trainer.observers += build_observers(settings, game, dataset.to(runtime.device), ema, evaluator, outlets)
        log.info("%s", describe_game(game, trainer))
        resume(trainer, home, logger, evaluator)
        return play(settings, trainer, outlets, again)


def play(settings: Config, trainer: Trainer, outlets: Outlets, again: str) -> float | None:
    """Run the trainer until the end or a signal, with the dashboard open; returns the objective."""
    home, logger, progress = outlets.home, outlets.logger, outlets.progress
    outcome, code = "failed", 1
    try:
        logger.open(home.config, home.path, home.run_id)
        progress.start(trainer.images)
        if trainer.step_count == 0:
            home.begin_anew()
        add_start(home.path, again, trainer.images, trainer.runtime.facts())
        with stopping_on_signals(trainer) as caught:
            trainer.run()
        if caught.number is not None and not trainer.finished:
            name = signal.Signals(caught.number).name
            outcome = f"{name} at {trainer.images:,} images; to continue: {again}"
            raise Interrupted(caught.number, outcome)
        outcome, code = "completed", 0
        return objective(settings, home.status.current.scores)
    except Exception as error:
        outcome = str(error)
        raise
    finally:
        progress.close()
        home.records.flush(fsync=True)
        logger.close(code, outcome)


def objective(settings: Config, scores: Any) -> float | None:
    """The score that sweepers are told: `run.objective`, or the first one; None where nothing is scored."""
    name = settings.run.objective or next(iter(scores), None)
    return None if name is None else float(scores[name]["value"])


def build_evaluator(settings: Config, dataset: Dataset, runtime: Runtime, labelled: bool) -> Evaluator:
    """The evaluator with its metrics and feature networks; UserError when they don't suit the data.

    `labelled` says whether the samples to be scored come with their classes.
    """
    evaluator = assemble_evaluator(settings, dataset, runtime, labelled)
    evaluator.progress = narrator()
    wanted, names = settings.run.objective, evaluator.names() if evaluator.metrics else []
    if wanted is not None and wanted not in names:
        raise UserError(f"run.objective={wanted}: no such score; the chosen metrics give {', '.join(names) or 'none'}")
    return evaluator


def narrator(interval: float = 10.0) -> Callable[[str, int, int], None]:
    """A listener that logs how far a long evaluation is, at most every `interval` seconds."""
    stage, latest = "", time.monotonic()

    def tell(what: str, done: int, total: int) -> None:
        nonlocal stage, latest
        now, kind = time.monotonic(), what.split()[0]
        if kind != stage:
            stage, latest = kind, now
        elif now - latest >= interval:
            latest = now
            log.info("evaluation: %s, %s of %s", what, f"{done:,}", f"{total:,}")

    return tell


def build_observers(
    settings: Config, game: Game, dataset: Dataset, ema: Ema, evaluator: Evaluator, outlets: Outlets
) -> list[Observer]:
    """What reports and saves, in the order in which they look at a step; checkpoints come last."""
    home, logger, progress = outlets.home, outlets.logger, outlets.progress
    seed, grids, scoring = settings.run.seed, settings.samples, settings.evaluation
    reports = (home.records, logger, progress, home.status)
    observers: list[Observer] = [
        Diagnostics(
            dataset.held_out,
            settings.log.every,
            seed,
            settings.schedule.batch_size,
            classifier_of(dataset, (station.extractor for station in evaluator.stations)),
            settings.log.singular_values,
        ),
        Recorder(settings.log.every, *reports),
        SampleGrids(grids.every, grids.count, home.samples, ema, logger, seed, dataset.train),
    ]
    if settings.log.parameters:
        observers.append(Trajectory(game, home.records, logger))
    if evaluator.metrics:
        statistics = statistics_of(settings)
        observers.append(Evaluation(scoring.every, scoring.raw, evaluator, ema, home.samples, *reports, statistics))
    observers.append(Diagnosis(home.records, logger, home.status, home.config))
    best = build_best(settings, observers, evaluator, ema)
    observers += [] if best is None else [best]
    observers.append(Checkpointing(settings.checkpoint.every, home, ema, dataset.fingerprint, best))
    return observers


def build_best(settings: Config, observers: Sequence[Observer], evaluator: Evaluator, ema: Ema) -> Best | None:
    """What keeps the best generator, by the score that was chosen; UserError for one that there isn't."""
    chosen, evaluation = settings.checkpoint.best, next((o for o in observers if isinstance(o, Evaluation)), None)
    if chosen is None or (chosen == "auto" and evaluation is None):
        return None
    names = evaluator.names() if evaluator.metrics else []
    names += [f"raw_{name}" for name in names if settings.evaluation.raw]
    if evaluation is None or chosen not in ("auto", *names):
        there = ", ".join(names) or "none"
        raise UserError(
            f"checkpoint.best={chosen}: no such score; the chosen metrics give {there} (null keeps no best)"
        )
    return Best(settings.run.objective if chosen == "auto" else chosen, evaluation, ema)


def describe_game(game: Game, trainer: Trainer) -> str:
    """One line on who plays, and for how long."""
    sizes = ", ".join(
        f"{name} {sum(map(count_parameters, modules)):,} parameters" for name, modules in game.sides.items()
    )
    return f"{type(game).__name__}: {sizes}; {trainer.total:,} images in {trainer.total_steps:,} steps"
