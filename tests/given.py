"""A round whose sets, latents, weights and networks are given, and training runs of options in memory."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from omegaconf import DictConfig, OmegaConf
from torch import Tensor

from gan_experiments.assembly import build_game, build_players, build_terms
from gan_experiments.config import conf_dir, register
from gan_experiments.data.base import Batch, Spec, Split
from gan_experiments.game import Deal, Round, Term, Verdict
from gan_experiments.runtime import Runtime
from gan_experiments.schema import Config, typed
from gan_experiments.trainer import Trainer

FLOAT32 = Runtime(torch.device("cpu"), "float32", False, 1, False, True)
BATCH = 8


def no_batch() -> Batch:
    raise AssertionError("a given round fetches nothing")


class Given(Round):
    """A round of given tensors; `discriminator` makes logits (n,) or a verdict of samples."""

    def __init__(
        self,
        discriminator: Callable[[Tensor], Tensor | Verdict] = lambda x: x.flatten(1).sum(1),
        generator: Callable[[Tensor], Tensor] = lambda z: z,
        weights: Mapping[str, Tensor] | None = None,
        seed: int = 0,
        images: int = 0,
        player: str = "discriminator",
        **sets: Any,
    ) -> None:
        super().__init__(Deal(1, no_batch, seed, torch.device("cpu"), player=player, images=images))
        self.discriminator, self.generator, self.given = discriminator, generator, dict(weights or {})
        self.seen: list[str] = []
        self.__dict__.update(sets)

    def judge(self, samples: Tensor, name: str, classes: Tensor | None = None) -> Verdict:
        self.seen.append(name)
        answer = self.discriminator(samples)
        return answer if isinstance(answer, Verdict) else Verdict(answer)

    def generate(self, latents: Tensor) -> Tensor:
        return self.generator(latents)

    def draw(self, n: int, random: torch.Generator) -> Tensor:
        raise NotImplementedError

    def weights(self, player: str) -> dict[str, Tensor]:
        return self.given

    def points(self, name: str) -> tuple[Tensor, Callable[[], Tensor]]:
        return getattr(self, name), lambda: self.judge(getattr(self, name), name).logits


def logits(r: list[float], f: list[float], images: int = 0, **heads: Any) -> Given:
    """A round with these logits on real and generated samples."""
    return Given(images=images, real=Verdict(torch.tensor(r)), fake=Verdict(torch.tensor(f)))


def ignored(name: str, value: Any) -> None:
    """A report that nobody reads."""


def named(term: Term, name: str) -> Term:
    term.name = name
    return term


def game_of(spec: Spec, **tricks: Any) -> Any:
    """What `Term.check` may look at of a game without networks."""
    return SimpleNamespace(spec=spec, tricks=tricks, sides={})


POINTS = ("model=mlp", "model.generator.hidden=[8]", "model.discriminator.hidden=[8,8]", "model.generator.latent_dim=4")
IMAGES = ("model=dcgan", "model.generator.width=4", "model.discriminator.width=4", "model.discriminator.norm=none")
KINDS = {"points": (POINTS, (2,)), "images": (IMAGES, (1, 8, 8))}


@cache
def base(kind: str) -> DictConfig:
    """The composed configuration without regularizers; composing is slow, so it is done once."""
    register()
    GlobalHydra.instance().clear()
    with initialize_config_dir(config_dir=conf_dir(), version_base="1.3"):
        return compose("config", [*KINDS[kind][0], "schedule=constant", "runtime.threads=1", "run.dir=none"])


@cache
def settings_of(kind: str, options: tuple[str, ...], lines: tuple[str, ...]) -> Config:
    """The checked configuration of a run."""
    return typed(configured(kind, options, *lines))


def configured(kind: str, options: Sequence[str], *lines: str) -> DictConfig:
    """The configuration with options (`group/name`) and values (`key=value`) over it."""
    config: Any = copy.deepcopy(base(kind))
    OmegaConf.set_struct(config, False)
    return OmegaConf.merge(configured_over(config, options), OmegaConf.from_dotlist(list(lines)))  # type: ignore[return-value]


def configured_over(config: Any, options: Sequence[str]) -> Any:
    """The configuration with options over it, each after those that its file includes."""
    for option in options:
        path = Path(conf_dir()) / f"{option}.yaml"
        at_root = path.read_text().startswith("# @package _global_")
        node: Any = OmegaConf.load(path)
        included = [str(place).lstrip("/") for place in node.pop("defaults", [])]
        config = OmegaConf.merge(configured_over(config, included), node if at_root else {option.split("/")[0]: node})
    return config


def trainer_of(kind: str, options: Sequence[str], *lines: str) -> Trainer:
    """A training run on random samples, with options (`group/name`) and values (`key=value`)."""
    settings, shape = settings_of(kind, tuple(options), lines), KINDS[kind][1]
    game = build_game(settings, Spec(shape))
    terms, observers = build_terms(settings)
    players = build_players(settings, game, terms)
    random = torch.Generator().manual_seed(0)
    samples = (
        torch.randint(0, 256, (64, *shape), dtype=torch.uint8, generator=random)
        if len(shape) == 3
        else torch.randn(64, *shape, generator=random)
    )
    together = settings.schedule.simultaneous
    return Trainer(game, players, Split(samples), FLOAT32, BATCH, 10, 7, observers, simultaneous=together)


def state(trainer: Trainer) -> list[tuple[str, Any]]:
    """All leaves of a trainer's state by name, terms' state among them, as a resume gets it."""
    leaves: list[tuple[str, Any]] = []

    def walk(value: Any, name: str) -> None:
        if isinstance(value, dict):
            for key, child in value.items():
                walk(child, f"{name}/{key}")
        elif isinstance(value, list | tuple):
            for place, child in enumerate(value):
                walk(child, f"{name}/{place}")
        else:
            leaves.append((name, value))

    walk(trainer.state_dict(), "")
    return leaves


def differing(first: Trainer, second: Trainer) -> list[str]:
    """Names of leaves of state that two trainers don't share bit for bit."""
    ours, theirs = state(first), state(second)
    assert [name for name, _ in ours] == [name for name, _ in theirs]
    return [
        name for (name, a), (_, b) in zip(ours, theirs, strict=True)
        if not (torch.equal(a, b) if isinstance(a, Tensor) else a == b)
    ]  # fmt: skip
