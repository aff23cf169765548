"""Drawing samples from a game."""

from __future__ import annotations

import zlib

import torch
from torch import Tensor

from gan_experiments.game import Game, evaluating
from gan_experiments.runtime import Runtime, seed_networks


def draw(game: Game, n: int, generator: torch.Generator, runtime: Runtime) -> Tensor:
    """`n` samples (n, ...) in evaluation mode and the run's precision; latents come from `generator` alone.

    What layers draw themselves (noise injection) follows from the generator's state, so that samples can be repeated.
    """
    seed_networks(zlib.crc32(generator.get_state().numpy().tobytes()), runtime.device)
    with evaluating(game), runtime.autocast():
        return game.sample(game.latents(n, generator).to(runtime.device)).float()
