"""From a configuration to its parts: the game with its tricks, terms, players and trainer; the evaluator."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, cast

from omegaconf import DictConfig, OmegaConf
from torch import nn

from gan_experiments import runtime as machine
from gan_experiments import seeding
from gan_experiments.config import build, build_named, build_number, build_settings
from gan_experiments.curves import within
from gan_experiments.data.base import Dataset, Spec
from gan_experiments.errors import UserError
from gan_experiments.game import Game, Term
from gan_experiments.metrics.evaluator import Evaluator
from gan_experiments.metrics.statistics_cache import StatisticsCache
from gan_experiments.objectives.base import Objective, Share, check_shares
from gan_experiments.objectives.classes import ClassObjective
from gan_experiments.observers.ema import Ema
from gan_experiments.players import Player, TunedOptimizer, counted, lazy_correction
from gan_experiments.runtime import Runtime
from gan_experiments.schema import Config
from gan_experiments.trainer import Observer, Trainer
from gan_experiments.trick import Trick

log = logging.getLogger(__name__)
NORM = "model.discriminator.norm"


def build_tricks(settings: Config) -> list[Trick]:
    """The conditionings and tricks that change the game; those that only set values of other groups have done so."""
    return [*named_tricks(settings.conditioning, "conditioning"), *named_tricks(settings.trick, "trick")]


def named_tricks(group: Any, where: str) -> list[Trick]:
    """The tricks of a group, each with its name; UserError for nodes that are none."""
    if group is None:
        return []
    if not isinstance(group, Mapping):
        raise UserError(f"{where}: expected named options, e.g. {where}=[...] on the command line, got {group!r}")
    values: Any = OmegaConf.to_container(group, resolve=True) if isinstance(group, DictConfig) else group
    nodes = {
        str(name): {key: value for key, value in node.items() if key != "about"}
        for name, node in values.items()
        if isinstance(node, Mapping)
    }
    tricks = []
    for name, trick in build_named({name: node for name, node in nodes.items() if node}, where).items():
        if not isinstance(trick, Trick):
            raise UserError(f"{where}.{name}: {type(trick).__name__} is not a trick")
        trick.name = name
        tricks.append(trick)
    return tricks


def build_game(settings: Config, spec: Spec) -> Game:
    """The game with its networks, initialised from the run's seed."""
    machine.seed_networks(seeding.derive(settings.run.seed, "networks"), machine.CPU)
    game = build(settings.model, "model", spec, tricks=build_tricks(settings))
    if not isinstance(game, Game):
        raise UserError(f"model: {type(game).__name__} is not a game")
    return game


def build_terms(settings: Config) -> tuple[list[Term], list[Observer]]:
    """The terms of all players, the loss's first, and those regularizers that act after a move instead."""
    loss, chosen = build(settings.loss, "loss"), settings.schedule.by_name()
    if not isinstance(loss, Objective):
        raise UserError(f"loss: {type(loss).__name__} is not a loss")
    terms: list[Term] = []
    for name in loss.players:
        where = f"{settings.schedule.place(name)}.adversarial"
        weight = build_number(chosen[name].adversarial, where)
        within(weight, where)
        terms.append(loss.share(name, weight))
    observers: list[Observer] = []
    for name, part in build_named(settings.regularizer, "regularizer").items():
        if isinstance(part, Term):
            part.name = name
            terms.append(part)
        elif isinstance(part, ClassObjective):
            terms += part.terms(name)
        elif isinstance(part, Observer):
            part.name = name
            observers.append(part)
        else:
            raise UserError(f"regularizer.{name}: {type(part).__name__} is neither a term nor an observer")
    return terms, observers


def build_players(settings: Config, game: Game, terms: Sequence[Term]) -> list[Player]:
    """The players in the order in which they move."""
    for term in terms:
        if isinstance(term, Share):
            check_shares(game, term.objective)
    chosen, sides = settings.schedule.by_name(), game.sides
    order = settings.schedule.order or sorted(sides, key=lambda name: [*chosen, *sides].index(name))
    if sorted(order) != sorted(sides):
        raise UserError(f"schedule.order={order}: must name each player of the game once: {', '.join(sides)}")
    strangers = [f"{term.name} (player {term.player})" for term in terms if term.player not in sides]
    if strangers:
        raise UserError(f"no such player: {', '.join(strangers)}; the game has {', '.join(sides)}")
    players = []
    for name in order:
        if name not in chosen:
            raise UserError(f"{type(game).__name__} has a player {name}: set schedule.players.{name}.optimizer")
        tempo, where = chosen[name], f"{settings.schedule.place(name)}.optimizer"
        make, values = build_settings(tempo.optimizer, where)
        parameters = [p for module in sides[name] for p in module.parameters()]
        own, separate = [term for term in terms if term.player == name], tempo.lazy == "separate"
        correction = lazy_correction(own, settings.schedule.place(name)) if separate else 1.0
        tuned = TunedOptimizer(make, parameters, values, where, tempo.lr_factor, correction)
        players.append(Player(name, sides[name], tuned, own, tempo.moves, separate))
    return players


def build_trainer(settings: Config, game: Game, dataset: Dataset, runtime: Runtime) -> tuple[Trainer, Ema]:
    """The trainer, and the average of its generator's weights; regularizing observers are in place."""
    schedule = settings.schedule
    terms, observers = build_terms(settings)
    players = build_players(settings, game, terms)
    warn_of_coupling(game, terms, OmegaConf.select(OmegaConf.create({"model": settings.model}), NORM) is not None)
    per_step = schedule.batch_size * counted(game, players).moves
    steps = schedule.steps or math.ceil(cast(int, schedule.images) / per_step)
    ema = Ema(game, build_number(schedule.ema.half_life, "schedule.ema.half_life"), schedule.ema.buffers)
    everybody = [*observers, ema]
    seed, batch = settings.run.seed, schedule.batch_size
    if batch > len(dataset.train):
        log.warning(
            "schedule.batch_size=%s: there are only %s training samples, so that a batch holds some of them several "
            "times; set schedule.batch_size=%s or less", f"{batch:,}", f"{len(dataset.train):,}", len(dataset.train),
        )  # fmt: skip
    together = schedule.simultaneous
    return Trainer(game, players, dataset.train, runtime, batch, steps, seed, everybody, dataset.flip, together), ema


def warn_of_coupling(game: Game, terms: Sequence[Term], chosen: bool) -> None:
    """Say when a slope penalty meets batch norm: it then mixes the slopes of different samples; `chosen` says whether
    the network has a key for its norm."""
    penalties = [term.name for term in terms if term.watches]
    modules = [module for network in game.sides.get("discriminator", ()) for module in network.modules()]
    if penalties and any(isinstance(module, nn.modules.batchnorm._BatchNorm) for module in modules):
        log.warning(
            "%s with batch norm in the discriminator: slopes of different samples mix "
            "(Gulrajani et al. 2017 advise against it)%s",
            ", ".join(penalties),
            f"; {NORM}=none avoids it" if chosen else "",
        )


def assemble_evaluator(
    settings: Config, dataset: Dataset, runtime: Runtime, labelled: bool, against: Dataset | None = None
) -> Evaluator:
    """The evaluator with its metrics and feature networks; UserError when they don't suit the data.

    Networks that learn from the data learn from `dataset`, while samples are compared with `against` (None: the same).
    `labelled` says whether the samples to be scored come with their classes.
    """
    metrics, sizes = build_named(settings.metric, "metric"), settings.evaluation
    sources = build_named(settings.extractor, "extractor") if metrics else {}
    return Evaluator(
        dataset if against is None else against,
        {name: source.build(dataset) for name, source in sources.items()},
        metrics,
        sizes.samples,
        sizes.batch_size,
        settings.run.seed,
        runtime.device,
        reals=sizes.reals,
        draws=sizes.draws,
        quantise=sizes.quantise,
        labelled=labelled,
        cache=None if sizes.cache is None else StatisticsCache(Path(sizes.cache)),
    )
