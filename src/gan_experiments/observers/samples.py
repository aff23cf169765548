"""Grids of samples at fixed latents, so that pictures of one run can be compared over time."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from gan_experiments import seeding
from gan_experiments.data.base import Split
from gan_experiments.games.traversal import sheets
from gan_experiments.logging.logger import Logger
from gan_experiments.observers.ema import Ema
from gan_experiments.pictures import grid, readable, save_png, scatter
from gan_experiments.sampling import by_class, draw
from gan_experiments.trainer import Observer, Trainer

COLUMNS = 10
"""Different latents in the sheets of a game whose latents have parts to sweep."""


class SampleGrids(Observer):
    """Every `every` images and at the end: averaged generator, `count` fixed latents, a PNG and the dashboard; classes,
    where they are asked for, one after the other."""

    def __init__(self, every: int, count: int, folder: Path, ema: Ema, logger: Logger, seed: int, reals: Split) -> None:
        self.every, self.count, self.folder, self.ema, self.logger = every, count, folder, ema, logger
        self.seed, self.reals = seed, reals

    def after_step(self, trainer: Trainer) -> None:
        """Draw and write when it is time."""
        if not (trainer.passed(self.every) or trainer.finished):
            return
        with trainer.aside(), self.ema.applied():
            generator, classes = seeding.generator(self.seed, "samples"), by_class(trainer.game, self.count)
            pixels = self.picture(draw(trainer.game, self.count, generator, trainer.runtime, classes).samples)
            codes = sheets(trainer.game, COLUMNS, seeding.generator(self.seed, "traversals"), trainer.runtime)
        save_png(self.folder / f"images-{trainer.images:09d}.png", pixels)
        self.logger.log_images("samples", pixels, trainer.images, f"{trainer.images:,} images, averaged weights")
        for name, small in codes.items():
            sheet = readable(small, trainer.game.spec.shape[-1])
            save_png(self.folder / f"{name}-{trainer.images:09d}.png", sheet)
            self.logger.log_images(f"pictures/{name}", sheet, trainer.images, f"{trainer.images:,} images")

    def picture(self, samples: Tensor) -> NDArray[np.uint8]:
        """Images as a grid; points as a map with the data beneath."""
        if samples.ndim == 4:
            return readable(grid(samples), samples.shape[-1])
        reals = self.reals.take(torch.arange(min(len(self.reals), 10 * len(samples)))).samples
        return scatter(samples, reals)
