"""Sheets of samples in which one code is swept and all else stays: what a code means."""

from __future__ import annotations

from abc import ABC, abstractmethod

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from gan_experiments.game import Game
from gan_experiments.modules import evaluating
from gan_experiments.pictures import grid
from gan_experiments.runtime import Runtime, seed_networks


class Traversed(ABC):
    """A game whose latents have parts worth sweeping one by one."""

    @abstractmethod
    def traversals(self, columns: int, generator: torch.Generator) -> dict[str, Tensor]:
        """Latents (rows, columns, latent_dim) by the name of the part that changes from row to row; what is fixed along
        a column is drawn with `generator`."""


@torch.no_grad()
def sheets(game: Game, columns: int, generator: torch.Generator, runtime: Runtime) -> dict[str, NDArray[np.uint8]]:
    """A picture of bytes (height, width, 1 or 3) for every traversal; none for other games, and for points.

    Where classes are asked for, each column has one of its own.
    """
    if not isinstance(game, Traversed) or not game.spec.is_image:
        return {}
    pictures, traversals = {}, game.traversals(columns, generator)
    asked = game.ask(columns, generator)
    for name, latents in traversals.items():
        seed_networks(0, runtime.device)
        classes = None if asked is None else asked.repeat(len(latents)).to(runtime.device)
        with evaluating(game), runtime.autocast():
            samples = game.sample(latents.flatten(0, 1).to(runtime.device), classes).float()
        pictures[name] = grid(samples, columns)
    return pictures
