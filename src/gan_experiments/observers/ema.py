"""Exponential moving average of the generator's weights."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from gan_experiments.curves import Curve, as_curve
from gan_experiments.errors import UserError
from gan_experiments.game import Game
from gan_experiments.trainer import Observer, Trainer


class Ema(Observer):
    """Average of what the generator player moves: a <- w + (a - w) * 0.5^(images per step / half-life).

    A half-life of 0 images copies (Karras et al. 2018, appendix A, in StyleGAN's form). Batch norm's statistics
    are copied (`buffers=copy`) or averaged alike (`buffers=average`).
    """

    def __init__(self, game: Game, half_life: float | Curve, buffers: str = "copy") -> None:
        if buffers not in ("copy", "average"):
            raise UserError(f"schedule.ema.buffers={buffers}: use copy or average")
        self.half_life = as_curve(half_life)
        modules = game.sides["generator"]
        parameters = [p for module in modules for p in module.parameters()]
        statistics = [b for module in modules for b in module.buffers()]
        smooth = [b for b in statistics if b.is_floating_point() and buffers == "average"]
        chosen = {id(b) for b in smooth}
        self.live: list[Tensor] = [p.data for p in parameters] + smooth
        self.copied: list[Tensor] = [b for b in statistics if id(b) not in chosen]
        self.tensors: list[Tensor] = [*parameters, *smooth, *self.copied]
        self.average = [tensor.detach().clone() for tensor in self.tensors]

    def after_step(self, trainer: Trainer) -> None:
        """Move the average towards the weights."""
        half_life = self.half_life(trainer.images, trainer.total)
        keep = 0.5 ** (trainer.images_per_step / half_life) if half_life > 0 else 0.0
        smooth = len(self.live)
        with torch.no_grad():
            torch._foreach_lerp_(self.average[:smooth], self.live, 1.0 - keep)
            if self.copied:
                torch._foreach_copy_(self.average[smooth:], self.copied)

    @contextmanager
    def applied(self) -> Iterator[None]:
        """The game with the averaged weights in place; the live ones are put back afterwards."""
        self._swap()
        try:
            yield
        finally:
            self._swap()

    def _swap(self) -> None:
        for place, tensor in enumerate(self.tensors):
            tensor.data, self.average[place] = self.average[place], tensor.data

    def state_dict(self) -> dict[str, Any]:
        """The averaged tensors in the order of parameters, then buffers."""
        return {"average": list(self.average)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take back what `state_dict` gave."""
        for mine, saved in zip(self.average, state["average"], strict=True):
            mine.copy_(saved)
