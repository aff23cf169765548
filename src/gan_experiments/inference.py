"""A finished (or still running) run as a generator to draw from: needs nothing but the run's directory."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException
from torch import Tensor

from gan_experiments import checkpoint, seeding
from gan_experiments import runtime as machine
from gan_experiments.assembly import build_game
from gan_experiments.checkpoint import Checkpoints
from gan_experiments.config import build
from gan_experiments.data.base import Batch, Dataset, Spec
from gan_experiments.errors import UserError
from gan_experiments.game import Game
from gan_experiments.observers.ema import Ema
from gan_experiments.runtime import Runtime
from gan_experiments.sampling import draw, walk
from gan_experiments.schema import Config, typed
from gan_experiments.truncation import NONE, Truncation


@dataclass(frozen=True)
class TrainedGenerator:
    """A game with trained weights ("ema" or "raw"), its configuration, how long it had been trained, the truncation
    of what is drawn from it, and of the best generator the score by which it is."""

    game: Game
    settings: Config
    runtime: Runtime
    weights: str
    images: int
    step: int
    truncation: Truncation = NONE
    score: Mapping[str, Any] | None = None

    @property
    def origin(self) -> str:
        """Which weights these are, in a few words."""
        best = "" if self.score is None else f", best {self.score['name']} ({self.score['value']:.4g})"
        return f"{self.weights} weights after {self.images:,} images{best}"

    def draw(self, n: int, generator: torch.Generator, classes: Tensor | None = None) -> Batch:
        """`n` samples (n, ...), images in [-1, 1]; latents, and classes if none are given, come from `generator`."""
        return draw(self.game, n, generator, self.runtime, classes, self.truncation)

    def walk(self, n: int, generator: torch.Generator, epsilon: float, end: bool) -> tuple[Tensor, Tensor]:
        """`n` pairs of samples close to each other in latent space; see sampling.walk."""
        return walk(self.game, n, generator, self.runtime, epsilon, end, self.truncation)

    def sample(self, n: int, seed: int = 0, batch_size: int = 250, label: int | None = None) -> Tensor:
        """`n` samples on the CPU, all of class number `label` if given; the first ones are the same whatever `n` is."""
        return torch.cat(list(self.batches(n, seed, batch_size, label)))

    def batches(self, n: int, seed: int = 0, batch_size: int = 250, label: int | None = None) -> Iterator[Tensor]:
        """What `sample` gives, a batch at a time."""
        classes = None if label is None else torch.full((batch_size,), label)
        for place in range(-(-n // batch_size)):
            samples = self.draw(batch_size, seeding.generator(seed, "sample", place), classes).samples.cpu()
            yield samples[: n - place * batch_size]


def load_generator(
    directory: Path, raw: bool = False, state: Path | None = None, best: bool = False
) -> TrainedGenerator:
    """The averaged generator of the run in `directory`, or with `raw` its live weights, or with `best` the one that
    scored best.

    They are those of the checkpoint in the file `state`, by default of the newest one.
    Raises UserError when there is none yet, or the files can't be read.
    """
    if best and (raw or state is not None):
        raise UserError(f"{directory}: --best and --raw each name weights of a run; give one")
    if raw or state is not None:
        path = newest_checkpoint(directory) if state is None else state
        saved, weights = checkpoint.load(path, "checkpoint"), "raw" if raw else "ema"
    else:
        path = directory / ("best.pt" if best else "generator.pt")
        saved = load_file(directory, path)
        weights = saved["weights"]
    # checkpoints of earlier versions don't say what samples look like
    look = saved if {"spec", "shape"} & saved.keys() else load_file(directory, directory / "generator.pt")
    try:
        settings = typed(OmegaConf.create(json.loads(saved["config"])))
        game = build_game(settings, spec_of(look))
        put_weights(game, settings, saved, raw)
    except UserError:
        raise
    except (LookupError, TypeError, ValueError, AttributeError, RuntimeError, OmegaConfBaseException) as error:
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        raise UserError(f"{path}: doesn't fit this version of gan-train ({reason:.200})") from error
    if game.given:
        game.give(cast(Dataset, build(settings.dataset, "dataset")).held_out)
    runtime = machine.choose(settings.runtime, game.spec.is_image)
    runtime.place(game)
    game.requires_grad_(False)
    return TrainedGenerator(game, settings, runtime, weights, saved["images"], saved["step"], score=saved.get("score"))


def spec_of(saved: Mapping[str, Any]) -> Spec:
    """What samples look like, as a file says; those of earlier versions knew images and points only."""
    if "spec" in saved:
        return Spec.from_record(saved["spec"])
    return Spec(tuple(saved["shape"]), tuple(saved["classes"]), tuple(saved["frequencies"]))


def put_weights(game: Game, settings: Config, saved: Mapping[str, Any], raw: bool) -> None:
    """Load a generator's file, or a checkpoint's averaged or `raw` weights, into the game."""
    if "generator" in saved:
        for module, weights in zip(game.sides["generator"], saved["generator"], strict=True):
            module.load_state_dict(weights)
        return
    game.load_state_dict(saved["state"]["game"])
    if not raw:
        put_average(game, settings, saved["state"]["observers"])


def load_file(directory: Path, path: Path) -> dict[str, Any]:
    """The content of a run's generator.pt or best.pt; UserError where there is none."""
    if path.exists():
        return checkpoint.load(path, "generator")
    if path.name == "best.pt" and (directory / "generator.pt").exists():
        raise UserError(
            f"{directory}: no best.pt; a run keeps the best generator from its first evaluation on, by the score that "
            "checkpoint.best names"
        )
    raise UserError(f"{directory}: no {path.name}; give a run directory of gan-train that has saved a checkpoint")


def newest_checkpoint(directory: Path) -> Path:
    """A run's newest checkpoint; UserError when there is none."""
    paths = Checkpoints(directory / "checkpoints").paths()
    if not paths:
        raise UserError(f"{directory}: no checkpoint, so there are no raw weights; the averaged ones can be had")
    return paths[-1]


def put_average(game: Game, settings: Config, observers: Mapping[str, Any]) -> None:
    """Put the averaged weights among the saved states of observers into the game's generator."""
    (saved,) = (state for name, state in observers.items() if name.split()[-1] == Ema.__name__)
    ema = Ema(game, 0.0, settings.schedule.ema.buffers)
    ema.load_state_dict(saved)
    with torch.no_grad():
        for tensor, average in zip(ema.tensors, ema.average, strict=True):
            tensor.copy_(average)
