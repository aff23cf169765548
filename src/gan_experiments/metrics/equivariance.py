"""How exactly generated images move and turn with the generator's input (Karras et al. 2021, EQ-T and EQ-R)."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import final

import torch
from torch import Tensor

from gan_experiments import seeding
from gan_experiments.analysis.equivariance import Draw, Errors, rotation, translation
from gan_experiments.data.base import Dataset
from gan_experiments.errors import UserError
from gan_experiments.game import Game
from gan_experiments.metrics.base import Detail, Reading, require_images
from gan_experiments.metrics.extractors import Extractor
from gan_experiments.metrics.game_metric import GameMetric
from gan_experiments.modules import evaluating
from gan_experiments.networks.stylegan3 import FourierInput
from gan_experiments.runtime import Runtime, seed_networks
from gan_experiments.sampling import full_precision

SMALLEST = 32
"""Sides of images that can be turned and compared."""

MEASURES: dict[str, Callable[[FourierInput, Draw, torch.Generator], Errors]] = {
    "": translation,
    "equivariance_subpixel": partial(translation, subpixel=True),
    "equivariance_rotation": rotation,
}


@final
class Equivariance(GameMetric):
    """Peak signal-to-noise ratio in decibels of images whose input was shifted by whole pixels, compared with shifted
    images (EQ-T); higher is better, and 306 where nothing is to be seen.

    equivariance_subpixel is EQ-T_frac, for any shifts, equivariance_rotation EQ-R, for any angles. Networks run in
    float32 whatever the run's precision.
    """

    def __init__(self, samples: int = 500, batch_size: int = 50, seed: int = 0) -> None:
        """Ratios of that many samples; UserError for impossible numbers."""
        if min(samples, batch_size) < 1:
            raise UserError(f"metric equivariance: {samples=}, {batch_size=}; expected 1 or more")
        super().__init__("equivariance")
        self.samples, self.batch_size, self.seed = samples, batch_size, seed

    def bind(self, dataset: Dataset, extractor: Extractor | None) -> None:
        """UserError for points, and images so small that they determine no pixel of turned ones."""
        require_images("equivariance", dataset)
        if min(dataset.spec.shape[1:]) < SMALLEST:
            raise UserError(
                f"metric equivariance turns images of at least {SMALLEST} pixels a side, but those of {dataset.name} "
                f"are {dataset.spec.shape}; leave it out"
            )

    def names(self) -> list[str]:
        """Of shifts by whole pixels, of any shifts, of turns."""
        return list(MEASURES)

    def require(self, game: Game) -> None:
        """UserError unless there is one generator with an input that moves."""
        if len(inputs(game)) != 1:
            raise UserError(
                "metric equivariance moves the input of a StyleGAN3 generator, which this run has not: set "
                "model=stylegan3, or leave the metric out"
            )

    def ask(self, game: Game, runtime: Runtime) -> list[Reading]:
        """The three ratios."""
        (source,) = inputs(game)
        totals = {name: Errors() for name in MEASURES}
        for start in range(0, self.samples, self.batch_size):
            random = seeding.generator(self.seed, "equivariance", start)
            n = min(self.batch_size, self.samples - start)
            latents, asked = game.latents(n, random).to(runtime.device), game.ask(n, random)
            classes = None if asked is None else asked.to(runtime.device)
            draw = partial(self.images, game, runtime, latents, classes, start)
            for name, measure in MEASURES.items():
                totals[name] = totals[name].plus(measure(source, draw, random))
        details: dict[str, Detail] = {"samples": self.samples, "seed": self.seed}
        return [Reading(name, total.decibels, details, higher_is_better=True) for name, total in totals.items()]

    def images(self, game: Game, runtime: Runtime, latents: Tensor, classes: Tensor | None, start: int) -> Tensor:
        """The game's images, the same ones in each call but for where the input is."""
        seed_networks(seeding.derive(self.seed, "equivariance", start), runtime.device)
        with evaluating(game), full_precision():
            return game.sample(latents, classes).float()


def inputs(game: Game) -> list[FourierInput]:
    """The inputs of a game's generators."""
    return [module for module in game.modules() if isinstance(module, FourierInput)]
