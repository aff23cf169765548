"""Drawing samples from a game."""

from __future__ import annotations

import torch
from torch import Tensor

from gan_experiments.game import Game, evaluating
from gan_experiments.runtime import Runtime


def draw(game: Game, n: int, generator: torch.Generator, runtime: Runtime) -> Tensor:
    """`n` samples (n, ...) in evaluation mode and the run's precision; latents come from `generator` alone."""
    with evaluating(game), runtime.autocast():
        return game.sample(game.latents(n, generator).to(runtime.device)).float()
