"""Says what is wrong with a training while it runs, from the records it has written."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import asdict
from itertools import groupby
from operator import itemgetter
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor
from torch.nn.utils import parametrize

from gan_experiments.analysis.advice import Plan
from gan_experiments.analysis.divergence import FAR, WRONG
from gan_experiments.analysis.history import Facts, Sure
from gan_experiments.analysis.watch import Diagnosed, Watch
from gan_experiments.game import Verdict
from gan_experiments.logging.logger import Logger
from gan_experiments.logging.records import Records, read_records
from gan_experiments.logging.status import Status
from gan_experiments.objectives.adversarial import Adversarial, Loss
from gan_experiments.observers.clipping import WeightClipping
from gan_experiments.trainer import Observer, Trainer

log = logging.getLogger(__name__)

SURE = 0.05
"""Share of D's way from chance to its best at which it counts as sure: 3.3 either way for cross-entropies."""
NEIGHBOURS = 64
"""Training samples whose mean distance says how wide the data are."""
FARTHEST, POINTS, NEAR = 20.0, 401, 5.0
"""Margins that are tried; a loss that must go beyond 5 of its boundary for it has no best value to speak of."""


class Diagnosis(Observer):
    """After each step that left training records or scores: looks for symptoms in all records so far.

    What appears or ends is a warning, a record of kind `diagnosis` and a line in the dashboard's summary; the dashboard
    also has a series diagnosis/<name> of 0 and 1, and status.json what is wrong now. Comes after those who write
    records. It has no state: a continued run feeds the old records to it again, and so says what it would have said.
    """

    def __init__(self, records: Records, logger: Logger, status: Status, config: Mapping[str, Any]) -> None:
        self.records, self.logger, self.status, self.config = records, logger, status, config
        self.watch: Watch | None = None
        self.position = 0
        self.summarized = False

    def after_step(self, trainer: Trainer) -> None:
        """Read what is new, and say what has changed by it."""
        if self.records.position == self.position:
            return
        with trainer.aside():
            self.watch = watch = self.watch or Watch(facts(trainer, self.config))
            unread = read_records(self.records.path, self.position)
            for step, records in groupby(unread, itemgetter("step")):
                former, looked = dict(watch.active), watch.feed(records)
                if looked and step == trainer.step_count:
                    self.tell(watch, former, trainer)
            self.position = self.records.position

    def tell(self, watch: Watch, former: Mapping[str, Diagnosed], trainer: Trainer) -> None:
        """Warn of what is new or over, and pass on what there is."""
        began = [name for name in watch.active if name not in former]
        ended = [name for name in former if name not in watch.active]
        images, present = trainer.images, [asdict(diagnosed) for diagnosed in watch.active.values()]
        for name in began:
            log.warning("%s images: %s: %s", f"{images:,}", name, watch.active[name].sentence)
        for name in ended:
            log.warning(
                "%s images: %s is over, after %s images", f"{images:,}", name, f"{images - former[name].since:,}"
            )
        if began or ended:
            values = {"present": present, "began": began, "ended": ended}
            self.records.write("diagnosis", images, trainer.step_count, values)
        self.logger.log({f"diagnosis/{s.name}": float(s.name in watch.active) for s in watch.symptoms}, images)
        if present != self.status.current.diagnosis:
            self.status.update(diagnosis=present)
        if began or ended or not self.summarized:
            self.logger.summary({"diagnosis": ", ".join(watch.active) or "none"})
            self.summarized = True


def facts(trainer: Trainer, config: Mapping[str, Any]) -> Facts:
    """What symptoms must know of this run."""
    terms = [term for player in trainer.players for term in player.terms]
    loss = next((term.loss for term in terms if isinstance(term, Adversarial)), None)
    levers = {player.name: player.tuned.lever for player in trainer.players}
    images = trainer.game.spec.is_image
    if loss is None:
        return Facts(None, trainer.total, Plan(config, levers, images))
    samples = trainer.data.take(torch.arange(min(len(trainer.data), NEIGHBOURS))).samples.float().flatten(1)
    span = float(torch.nn.functional.pdist(samples).mean()) if len(samples) > 1 else 1.0
    anchored, unbounded = is_anchored(loss), is_unbounded(loss)
    plan = Plan(config, levers, images, unbounded and is_free(trainer))
    largest = {} if unbounded or loss.needs else worst(loss)
    return Facts(sure(loss), trainer.total, plan, anchored, unbounded, span, largest)


def contest_of(real: Tensor, fake: Tensor) -> Any:
    """Verdicts of these logits (n,)."""
    return SimpleNamespace(real=Verdict(real), fake=Verdict(fake))


def is_unbounded(loss: Loss) -> bool:
    """Whether D gains by ever larger differences, as Wasserstein critics and bounds of some divergences do."""
    if loss.needs:
        return False
    near, far = (torch.full((2,), size, dtype=torch.float64) for size in (FAR, 2 * FAR))
    return bool(loss.discriminator(contest_of(far, -far)) < loss.discriminator(contest_of(near, -near)) - 1)


def is_anchored(loss: Loss) -> bool:
    """Whether D's loss says where logits are to lie, rather than only by how much they are to differ."""
    if loss.needs:
        return True
    if is_unbounded(loss):
        return False
    real, fake = torch.tensor([0.3, -0.2], dtype=torch.float64), torch.tensor([-0.4, 0.1], dtype=torch.float64)
    here, there = (loss.discriminator(contest_of(real + shift, fake + shift)) for shift in (0.0, 2.0))
    return not bool(torch.isclose(here, there))


def worst(loss: Loss) -> dict[str, float]:
    """The largest losses within range: G's for logits at its ends, D's for logits on the wrong side by as much as is
    still possible."""
    far, wrong = (torch.full((2,), size, dtype=torch.float64) for size in (FAR, WRONG))
    contests = [contest_of(one * far, other * far) for one in (1, -1) for other in (1, -1)]
    most = max(abs(float(loss.generator(contest))) for contest in contests)
    return {"discriminator": abs(float(loss.discriminator(contest_of(-wrong, wrong)))), "generator": most}


def is_free(trainer: Trainer) -> bool:
    """Whether nothing limits the discriminator's slope: no penalty on it, no clipping, no normalised weights."""
    player = trainer.sides.get("discriminator")
    if player is None or any(term.watches for term in player.terms):
        return False
    modules = [module for network in player.modules for module in network.modules()]
    clipped = any(isinstance(observer, WeightClipping) for observer in trainer.observers)
    return not clipped and not any(parametrize.is_parametrized(module) for module in modules)


def sure(loss: Loss) -> Sure | None:
    """The players' losses where D has gone all but a twentieth of its way from chance to certainty.

    None for losses without a boundary, or whose D has no best value, such as bounds of divergences.
    """
    if loss.boundary is None or loss.needs:
        return None
    middle, margins = loss.boundary, torch.linspace(0, FARTHEST, POINTS, dtype=torch.float64)

    def contest(margin: Tensor) -> Any:
        return contest_of(middle + margin[None], middle - margin[None])

    costs = torch.stack([loss.discriminator(contest(margin)) for margin in margins])
    chance, best = costs[0], costs.min()
    level = best + SURE * (chance - best)
    margin = margins[(costs <= level).nonzero()[0, 0]]
    if not best < chance or margin > NEAR:
        return None
    mild, high = (loss.generator(contest(place)).item() for place in (margins[0], margin))
    return Sure(level.item(), high) if high > mild else None
